"""Copies of checkpoints on another file system, for which a directory serves here."""

from pathlib import Path

import pytest
from test_checkpoint import learning_state, saved

from dm2_ray.checkpoints import Checkpoint, CheckpointError, open_checkpoint, save_checkpoint
from dm2_ray.checkpoints.remote_copy import RemoteCopy, RemoteCopyError, check_location, uri_join, uri_parent
from dm2_ray.config.schema import Experiment


def allowed() -> None:
    pass


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return saved(tmp_path / "run" / "checkpoints", 7)


@pytest.fixture
def remote(tmp_path: Path) -> RemoteCopy:
    return RemoteCopy(f"file://{tmp_path}/elsewhere/run")


def test_what_is_fetched_is_what_was_copied(tmp_path: Path, checkpoint: Checkpoint, remote: RemoteCopy) -> None:
    remote.copy_checkpoint(checkpoint, allowed)
    assert [entry.iteration for entry in remote.checkpoints()] == [7]
    fetched = remote.fetch_checkpoint("iteration_000007", tmp_path / "here")
    assert fetched.sha256 == checkpoint.sha256
    assert open_checkpoint(tmp_path / "here") == fetched


def disconnect() -> None:
    raise OSError("the line is dead")


def test_an_interrupted_copy_is_not_used(tmp_path: Path, checkpoint: Checkpoint, remote: RemoteCopy) -> None:
    with pytest.raises(OSError, match="the line is dead"):
        remote.copy_checkpoint(checkpoint, disconnect)
    there = tmp_path / "elsewhere" / "run" / "checkpoints" / "iteration_000007"
    assert {path.name for path in there.iterdir()} == set(checkpoint.sha256)  # all but the manifest
    assert remote.checkpoints() == []
    with pytest.raises(CheckpointError, match="iteration_000007 has no manifest"):
        remote.fetch_checkpoint("iteration_000007", tmp_path / "here")
    remote.copy_checkpoint(checkpoint, allowed)
    assert len(remote.checkpoints()) == 1


def test_a_replaced_copy_is_never_a_mixture(tmp_path: Path, checkpoint: Checkpoint, remote: RemoteCopy) -> None:
    """With other files of the same iteration, there is no manifest until all of them are copied."""
    remote.copy_checkpoint(checkpoint, allowed)
    state = learning_state(8)
    for agent in state["agents"].values():
        agent["version"] = 7
    other = save_checkpoint(tmp_path / "other", Experiment(), state, sizes=(2, 3, 4), win_rate=None)
    assert other.path.name == checkpoint.path.name and other.sha256 != checkpoint.sha256

    with pytest.raises(OSError, match="the line is dead"):
        remote.copy_checkpoint(other, disconnect)
    assert remote.checkpoints() == []


def test_damage_during_the_transfer_is_reported(tmp_path: Path, checkpoint: Checkpoint, remote: RemoteCopy) -> None:
    remote.copy_checkpoint(checkpoint, allowed)
    there = tmp_path / "elsewhere" / "run" / "checkpoints" / "iteration_000007"
    (there / "agent_0.pt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="agent_0.pt of iteration_000007 was altered"):
        remote.fetch_checkpoint("iteration_000007", tmp_path / "here")
    assert not (tmp_path / "here").exists()
    (there / "agent_0.pt").unlink()
    with pytest.raises(CheckpointError, match="agent_0.pt of iteration_000007 is missing"):
        remote.fetch_checkpoint("iteration_000007", tmp_path / "here")
    (checkpoint.path / "agent_1.pt").write_bytes(b"x")
    remote.remove_checkpoint("iteration_000007")
    with pytest.raises(CheckpointError, match=r"agent_1.pt was altered or truncated; not copied"):
        remote.copy_checkpoint(checkpoint, allowed)
    assert remote.checkpoints() == []


def test_a_copy_cannot_write_outside_of_its_directory(
    tmp_path: Path, checkpoint: Checkpoint, remote: RemoteCopy
) -> None:
    remote.copy_checkpoint(checkpoint, allowed)
    manifest = tmp_path / "elsewhere" / "run" / "checkpoints" / "iteration_000007" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"agent_0.pt"', '"../../agent_0.pt"'))
    with pytest.raises(CheckpointError, match="names a file outside of its directory"):
        remote.fetch_checkpoint("iteration_000007", tmp_path / "a" / "b")
    assert not list(tmp_path.glob("a/**/*.pt"))


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("strange://bucket/runs", "Unrecognized filesystem type in URI"),
        ("runs/elsewhere", "runs/elsewhere cannot be used"),
        ("file:///proc/elsewhere", "file:///proc/elsewhere cannot be used: .*Cannot create directory"),
        ("s3://key:secret@bucket/runs", "contains a user, password or key"),
        ("s3://bucket/runs?secret_key=secret", "contains a user, password or key"),
    ],
)
def test_an_unusable_location_is_refused_in_one_line(uri: str, message: str) -> None:
    with pytest.raises(RemoteCopyError, match=message) as raised:
        check_location(uri)
    assert "\n" not in str(raised.value)
    assert "secret@" not in str(raised.value) and "=secret" not in str(raised.value)


def test_uris_of_runs_in_a_location() -> None:
    for location, run in (
        ("file:///shared/runs", "file:///shared/runs/a"),
        ("s3://bucket", "s3://bucket/a"),
        ("s3://bucket/runs/?region=x&scheme=http", "s3://bucket/runs/a?region=x&scheme=http"),
    ):
        assert uri_join(location, "a") == run
        parent, name = uri_parent(run)
        assert (uri_join(parent, name), name) == (run, "a")
