"""Merged sets have every episode, in order, and say where it is from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_dataset import WORLD, episodes

from dm2_ray.demonstrations import DemonstrationError, JointTrajectories, JointTrajectoryWriter, Manifest, Provenance
from dm2_ray.demonstrations.merging import merge_sets
from dm2_ray.demonstrations.verifying import verify_set


def make(path: Path, count: int, seed: int, world: dict[str, Any] | None = None, **policy: Any) -> Manifest:
    provenance = {"kind": "scripted", "source": "focus_fire", "greedy": True, "seed": seed, **policy}
    with JointTrajectoryWriter(path) as writer:
        for one in episodes(count, seed):
            writer.append(one)
        return writer.finish(WORLD.model_copy(update=world or {}), Provenance(**provenance))


def test_a_merged_set_has_every_episode_in_order_and_its_origin(tmp_path: Path) -> None:
    made = [make(tmp_path / name, count, seed) for name, count, seed in (("a", 3, 1), ("b", 5, 2), ("c", 2, 3))]
    manifest = merge_sets([tmp_path / name for name in "abc"], tmp_path / "all")
    found = verify_set(tmp_path / "all")
    assert found.manifest == manifest
    expected = [one for count, seed in ((3, 1), (5, 2), (2, 3)) for one in episodes(count, seed)]
    for one, other in zip(found.episodes(), expected, strict=True):
        for name in ("observations", "actions", "action_mask", "alive", "rewards", "battle_won"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (manifest.policy.kind, manifest.policy.source, manifest.policy.greedy) == ("merged", "a, b, c", True)
    for part, one in zip(manifest.parts, made, strict=True):
        assert (part.policy, part.episodes, part.win_rate, part.return_mean, part.content_hash) == (
            one.policy, one.episodes, one.win_rate, one.return_mean, one.content_hash,
        )  # fmt: skip


def test_merging_a_merged_set_keeps_the_first_origins(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        make(tmp_path / name, 2, seed, greedy=seed == 1)
    merge_sets([tmp_path / "a", tmp_path / "b"], tmp_path / "ab")
    manifest = merge_sets([tmp_path / "ab", tmp_path / "c"], tmp_path / "abc")
    assert [part.policy.seed for part in manifest.parts] == [1, 2, 3]
    assert manifest.policy.greedy is None  # one of them was greedy, two were not
    verify_set(tmp_path / "abc")


def refusal(tmp_path: Path, *names: str) -> str:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DemonstrationError) as caught:
        merge_sets([tmp_path / name for name in names], tmp_path / "out")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "out").exists() and "\n" not in str(caught.value)
    return str(caught.value)


def test_the_same_episodes_are_not_merged_twice(tmp_path: Path) -> None:
    make(tmp_path / "a", 2, 1)
    make(tmp_path / "copy", 2, 1, source="elsewhere")
    make(tmp_path / "b", 2, 2)
    merge_sets([tmp_path / "a", tmp_path / "b"], tmp_path / "ab")
    for names in (("a", "a"), ("a", "b", "copy"), ("ab", "a"), ("b", "ab")):
        assert "hold the same episodes" in refusal(tmp_path, *names)


def test_the_same_battles_of_a_team_are_not_merged_twice(tmp_path: Path) -> None:
    """A shorter recording with the same seed is the beginning of a longer one."""
    make(tmp_path / "long", 4, 1)
    make(tmp_path / "short", 2, 1)
    make(tmp_path / "other team", 3, 1, source="kite")
    assert "were played by focus_fire with seed 1; record one of them with another --seed" in refusal(
        tmp_path, "long", "short"
    )
    merge_sets([tmp_path / "long", tmp_path / "other team"], tmp_path / "fine")
    # StarCraft II has its own randomness: equal seeds give different battles.
    for name, count in (("game", 4), ("again", 2)):
        make(tmp_path / name, count, 1, {"backend": "starcraft"})
    merge_sets([tmp_path / "game", tmp_path / "again"], tmp_path / "games")


@pytest.mark.parametrize(
    ("world", "words"),
    [
        ({"map": "8m"}, "map is '3m' and '8m'"),
        ({"engine_version": "2"}, "engine_version is '1' and '2'"),
        ({"smac": {}}, "smac is"),
        ({"engine": {"spawn_jitter": 0.5}}, "engine is"),
        ({"scenario_hash": "f"}, "scenario_hash is None and 'f'"),
    ],
)
def test_sets_of_different_worlds_are_refused(tmp_path: Path, world: dict[str, Any], words: str) -> None:
    make(tmp_path / "a", 2, 1)
    make(tmp_path / "b", 2, 2, world)
    assert f"are of different worlds: {words}" in refusal(tmp_path, "a", "b")


def test_damaged_single_and_existing_sets_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "a", 2, 1)
    make(tmp_path / "b", 2, 2)
    assert "at least two sets, got 1" in refusal(tmp_path, "a")
    assert "nowhere does not exist" in refusal(tmp_path, "a", "nowhere")
    with pytest.raises(DemonstrationError, match="exists already"):
        merge_sets([tmp_path / "a", tmp_path / "b"], tmp_path / "b")
    (tmp_path / "b" / "shard-00000.parquet").write_bytes(b"nothing")
    assert "is damaged or was altered" in refusal(tmp_path, "a", "b")
    assert JointTrajectories.open(tmp_path / "a").num_episodes == 2
