"""Demonstration sets are written, read back and sliced, and refused if they are damaged."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dm2_ray.demonstrations import (
    DemonstrationError,
    JointEpisode,
    JointTrajectories,
    JointTrajectoryWriter,
    Manifest,
    Provenance,
    RecordedWorld,
)

AGENTS, OBS, ACTIONS = 3, 7, 9
WORLD = RecordedWorld(
    map="3m",
    backend="embedded",
    engine_version="1",
    engine={},
    smac={"reward_win": 100},
    num_agents=AGENTS,
    obs_size=OBS,
    num_actions=ACTIONS,
)
POLICY = Provenance(kind="scripted", source="focus_fire", greedy=True, seed=3)


def episode(rng: np.random.Generator, length: int, num_agents: int = AGENTS) -> JointEpisode:
    actions = rng.integers(0, ACTIONS, (length, num_agents))
    action_mask = rng.random((length, num_agents, ACTIONS)) < 0.5
    np.put_along_axis(action_mask, actions[..., None], True, axis=-1)
    return JointEpisode(
        observations=rng.normal(size=(length, num_agents, OBS)).astype(np.float32),
        actions=actions,
        action_mask=action_mask,
        alive=rng.random((length, num_agents)) < 0.8,
        rewards=rng.random(length),
        battle_won=bool(rng.random() < 0.5),
    )


def episodes(count: int = 12, seed: int = 0) -> list[JointEpisode]:
    rng = np.random.default_rng(seed)
    return [episode(rng, int(length)) for length in rng.integers(1, 15, count)]


def record(path: Path, content: list[JointEpisode], shard_bytes: int = 2**20) -> Manifest:
    with JointTrajectoryWriter(path, shard_bytes=shard_bytes) as writer:
        for entry in content:
            writer.append(entry)
        return writer.finish(WORLD, POLICY)


@pytest.fixture
def demos(tmp_path: Path) -> Path:
    record(tmp_path / "demos", episodes(), shard_bytes=2000)
    return tmp_path / "demos"


def refusal(path: Path) -> str:
    before = snapshot(path.parent)
    with pytest.raises(DemonstrationError) as caught:
        JointTrajectories.open(path)
    assert snapshot(path.parent) == before
    assert "\n" not in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args  # it is sent between processes
    return str(caught.value)


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("shard_bytes", [1, 2000, 2**20])
def test_slices_are_what_was_recorded(tmp_path: Path, shard_bytes: int) -> None:
    content = episodes()
    record(tmp_path / "demos", content, shard_bytes)
    demos = JointTrajectories.open(tmp_path / "demos")
    assert demos.num_episodes == len(content)
    assert demos.episode_lengths.tolist() == [entry.num_steps for entry in content]
    assert demos.battle_won.tolist() == [entry.battle_won for entry in content]
    np.testing.assert_array_equal(demos.returns, [entry.rewards.sum() for entry in content])
    ids = np.array([5, 0, 5, 11])  # any order, repeatedly
    for agent in range(AGENTS):
        found = demos.agent_slice(agent, ids)
        assert found.agent_index == agent
        assert found.episode_ids.tolist() == ids.tolist()
        assert found.episode_lengths.tolist() == [content[k].num_steps for k in ids]
        for name, column in (
            ("observations", "observations"),
            ("actions", "actions"),
            ("action_mask", "action_mask"),
            ("alive", "alive"),
        ):
            expected = np.concatenate([getattr(content[k], column)[:, agent] for k in ids])
            np.testing.assert_array_equal(getattr(found, name), expected)
            assert getattr(found, name).dtype == expected.dtype


def test_slices_are_the_callers_own(demos: Path) -> None:
    opened = JointTrajectories.open(demos)
    first = opened.agent_slice(0, np.array([1]))
    first.observations[:] = 7
    assert not (opened.agent_slice(0, np.array([1])).observations == 7).any()


def test_manifest_tells_world_policy_and_outcome(tmp_path: Path) -> None:
    content = episodes()
    written = record(tmp_path / "demos", content)
    manifest = JointTrajectories.open(tmp_path / "demos").manifest
    assert manifest == written
    assert manifest.policy == POLICY
    assert {name: getattr(manifest, name) for name in RecordedWorld.model_fields} == WORLD.model_dump()
    assert manifest.episodes == len(content)
    assert manifest.env_steps == sum(entry.num_steps for entry in content)
    assert manifest.win_rate == pytest.approx(np.mean([entry.battle_won for entry in content]))
    assert manifest.return_mean == pytest.approx(np.mean([entry.rewards.sum() for entry in content]))
    assert manifest.episode_length_mean == pytest.approx(np.mean([entry.num_steps for entry in content]))


def test_shards_are_plain_parquet(tmp_path: Path) -> None:
    content = episodes()
    record(tmp_path / "demos", content)
    table = pq.read_table(tmp_path / "demos" / "shard-00000.parquet").to_pydict()
    lengths = [entry.num_steps for entry in content]
    assert table["episode"] == np.repeat(np.arange(len(content)), lengths).tolist()
    assert table["step"] == [step for length in lengths for step in range(length)]
    np.testing.assert_array_equal(table["reward"], np.concatenate([entry.rewards for entry in content]))
    np.testing.assert_array_equal(table["observation_2"], np.concatenate([e.observations[:, 2] for e in content]))


def test_equal_episodes_make_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        record(tmp_path / name, episodes(), shard_bytes=2000)
    for left in (tmp_path / "a").iterdir():
        assert left.read_bytes() == (tmp_path / "b" / left.name).read_bytes()


def test_a_set_is_never_overwritten(demos: Path) -> None:
    before = snapshot(demos)
    with pytest.raises(DemonstrationError, match="exists already"):
        JointTrajectoryWriter(demos)
    assert snapshot(demos) == before


def test_an_empty_or_abandoned_recording_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DemonstrationError, match="at least one episode"):
        record(tmp_path / "demos", [])
    with pytest.raises(KeyError), JointTrajectoryWriter(tmp_path / "demos", shard_bytes=1) as writer:
        writer.append(episodes()[0])
        raise KeyError("interrupted")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.cli
def test_a_killed_recording_leaves_no_set(tmp_path: Path) -> None:
    def doomed() -> None:
        with JointTrajectoryWriter(tmp_path / "demos", shard_bytes=1) as writer:
            writer.append(episodes()[0])
            os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=doomed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert "does not exist" in refusal(tmp_path / "demos")
    record(tmp_path / "demos", episodes())  # and what it left behind does not matter
    assert JointTrajectories.open(tmp_path / "demos").num_episodes == 12


def test_episodes_of_other_sizes_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with JointTrajectoryWriter(tmp_path / "demos", shard_bytes=1) as writer:
        writer.append(episode(rng, 3))
        with pytest.raises(ValueError, match="this episode has"):
            writer.append(episode(rng, 3, num_agents=2))
        with pytest.raises(DemonstrationError, match="the world"):
            writer.finish(WORLD.model_copy(update={"obs_size": OBS + 1}), POLICY)


def test_an_episode_checks_its_own_arrays() -> None:
    good = episodes(1)[0]
    fields = {name: getattr(good, name) for name in good.__dataclass_fields__}
    for name, bad in (
        ("observations", good.observations.astype(np.float64)),
        ("observations", np.full_like(good.observations, np.nan)),
        ("rewards", good.rewards[:-1]),
        ("action_mask", np.zeros_like(good.action_mask)),
    ):
        with pytest.raises(ValueError):
            JointEpisode(**{**fields, name: bad})


def test_slices_of_unknown_agents_or_episodes_are_refused(demos: Path) -> None:
    opened = JointTrajectories.open(demos)
    for agent, ids in ((AGENTS, [0]), (-1, [0]), (0, [12]), (0, [-1]), (0, [])):
        with pytest.raises(IndexError):
            opened.agent_slice(agent, np.array(ids, dtype=np.int64))


def test_another_world_is_refused(demos: Path) -> None:
    opened = JointTrajectories.open(demos)
    opened.check_world("3m", AGENTS, OBS, ACTIONS)
    for asked, word in (
        (("8m", AGENTS, OBS, ACTIONS), "map 3m"),
        (("3m", 5, OBS, ACTIONS), "num_agents 3"),
        (("3m", AGENTS, 9, ACTIONS), "obs_size 7"),
    ):
        with pytest.raises(DemonstrationError, match=word):
            opened.check_world(*asked)


def test_places_without_a_set_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "no manifest.json" in refusal(tmp_path / "empty")
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"x": [1]}), foreign)
    assert "is a file" in refusal(foreign)


@pytest.mark.parametrize("position", [0.0, 0.3, 0.99])
def test_a_flipped_byte_in_a_shard_is_refused(demos: Path, position: float) -> None:
    shard = demos / "shard-00001.parquet"
    content = bytearray(shard.read_bytes())
    content[int(position * len(content))] ^= 1
    shard.write_bytes(content)
    assert "shard-00001.parquet is damaged" in refusal(demos)


def test_truncated_missing_and_swapped_shards_are_refused(demos: Path) -> None:
    first, second = demos / "shard-00000.parquet", demos / "shard-00001.parquet"
    original = first.read_bytes()
    first.write_bytes(original[: len(original) // 2])
    assert "shard-00000.parquet is damaged" in refusal(demos)
    first.write_bytes(second.read_bytes())
    assert "shard-00000.parquet is damaged" in refusal(demos)
    first.unlink()
    assert "shard-00000.parquet cannot be read: No such file" in refusal(demos)


def test_damage_after_opening_is_refused_too(demos: Path) -> None:
    opened = JointTrajectories.open(demos)
    (demos / "shard-00000.parquet").write_bytes(b"nothing")
    with pytest.raises(DemonstrationError, match="cannot be read"):
        opened.agent_slice(0, np.array([0]))


def altered(demos: Path, rehash: bool, **changes: Any) -> None:
    path = demos / "manifest.json"
    content = {**json.loads(path.read_text()), **changes}
    if rehash:
        content.pop("manifest_sha256")
        content["manifest_sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(content))


def test_an_altered_manifest_is_refused(demos: Path) -> None:
    altered(demos, rehash=False, win_rate=1.0)
    assert "was altered after recording" in refusal(demos)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "something else"}, "not a demonstration set of dm2-ray"),
        ({"format_version": 3}, "format_version is 3"),
        ({"win_rate": 1.5}, "win_rate"),
        ({"episodes": 0}, "episodes"),
        ({"episodes": 13}, "episodes is 13, but its shards have 12"),
        ({"obs_size": OBS + 1}, "does not have the columns"),
        ({"shards": []}, "shards"),
        ({"shards": [{"file": "../x.parquet", "sha256": "", "episodes": 12, "env_steps": 1}]}, "plain name"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(demos: Path, changes: dict[str, Any], words: str) -> None:
    altered(demos, rehash=True, **changes)
    assert words in refusal(demos)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "\x00"])
def test_a_manifest_that_is_no_manifest_is_refused(demos: Path, text: str) -> None:
    (demos / "manifest.json").write_text(text)
    assert "manifest.json" in refusal(demos)


def with_shard(demos: Path, table: pa.Table, num_episodes: int) -> None:
    """Replaces the set's content with one shard and updates the hashes: only the shard's content is wrong."""
    for shard in demos.glob("*.parquet"):
        shard.unlink()
    pq.write_table(table, demos / "shard-00000.parquet")
    sha256 = hashlib.sha256((demos / "shard-00000.parquet").read_bytes()).hexdigest()
    shards = [{"file": "shard-00000.parquet", "sha256": sha256, "episodes": num_episodes, "env_steps": len(table)}]
    altered(demos, rehash=True, shards=shards, episodes=num_episodes, env_steps=len(table))


def test_a_foreign_parquet_file_is_refused(demos: Path) -> None:
    with_shard(demos, pa.table({"x": [1, 2]}), 1)
    assert "does not have the columns of this demonstration set" in refusal(demos)


def test_a_file_that_is_not_parquet_is_refused(demos: Path) -> None:
    with_shard(demos, pa.table({"x": [1]}), 1)
    (demos / "shard-00000.parquet").write_bytes(b"PAR1 no more")
    sha256 = hashlib.sha256(b"PAR1 no more").hexdigest()
    shards = [{"file": "shard-00000.parquet", "sha256": sha256, "episodes": 1, "env_steps": 1}]
    altered(demos, rehash=True, shards=shards)
    assert "is not a Parquet file" in refusal(demos)


def test_rows_that_are_not_whole_episodes_are_refused(tmp_path: Path) -> None:
    record(tmp_path / "demos", episodes())
    table = pq.read_table(tmp_path / "demos" / "shard-00000.parquet")
    with_shard(tmp_path / "demos", table.slice(1), 12)
    assert "whole episodes" in refusal(tmp_path / "demos")
