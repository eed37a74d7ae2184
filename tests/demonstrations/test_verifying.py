"""Sets whose hashes are correct and whose content is not are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_dataset import WORLD, altered, episodes, record, with_shard

from dm2_ray.config.schema import WorldSettings
from dm2_ray.demonstrations import DemonstrationError, Filters, JointTrajectories, JointTrajectoryWriter, Provenance
from dm2_ray.demonstrations.verifying import check_map_matches, verify_set
from dm2_ray.world.engine_settings import ENGINE_VERSION


@pytest.fixture
def demos(tmp_path: Path) -> Path:
    record(tmp_path / "demos", episodes())
    return tmp_path / "demos"


def refusal(path: Path) -> str:
    before = {file: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(DemonstrationError) as caught:
        verify_set(path)
    assert {file: file.read_bytes() for file in path.iterdir()} == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(demos: Path, column: str, change: Callable[[Any], Any]) -> None:
    """Replaces one column of the shard and updates all hashes."""
    table = pq.read_table(demos / "shard-00000.parquet")
    place = table.schema.get_field_index(column)
    field = table.schema.field(place)
    flat = isinstance(field.type, pa.FixedSizeListType)
    array = table[column].combine_chunks()
    values = change((array.flatten() if flat else array).to_numpy(zero_copy_only=False).copy())
    new = pa.array(values, field.type.value_type if flat else field.type)
    if flat:
        new = pa.FixedSizeListArray.from_arrays(new, field.type.list_size)
    with_shard(demos, table.set_column(place, field, new), 12)


def test_a_good_set_passes(demos: Path) -> None:
    assert verify_set(demos).num_episodes == 12


def put(place: int, value: Any) -> Callable[[Any], Any]:
    def change(values: Any) -> Any:
        values[place] = value
        return values

    return change


@pytest.mark.parametrize(
    ("column", "change", "words"),
    [
        ("observation_1", put(40, np.nan), "observations must be finite"),
        ("observation_2", put(-1, np.inf), "observations must be finite"),
        ("reward", put(3, np.nan), "episode_return is not the sum"),
        ("reward", put(3, 5.0), "episode_return is not the sum"),
        ("episode_return", lambda values: values + 1, "episode_return is not the sum"),
        ("episode_return", put(-1, 99.0), "episode_return changes within an episode"),
        ("battle_won", lambda values: ~values, "win_rate"),
        ("action_0", put(0, 9), "actions must be 0 to 8"),
        ("action_0", put(0, -1), "actions must be 0 to 8"),
        ("action_mask_0", lambda values: values & False, "every action taken must have been available"),
    ],
)
def test_values_that_cannot_be_are_refused(demos: Path, column: str, change: Any, words: str) -> None:
    changed(demos, column, change)
    JointTrajectories.open(demos)  # opening does not check values
    assert words in refusal(demos)


def test_an_outcome_that_changes_within_a_battle_is_refused(demos: Path) -> None:
    lengths = JointTrajectories.open(demos).episode_lengths
    assert lengths[0] > 1
    changed(demos, "battle_won", lambda values: np.concatenate([values[:1], ~values[1:2], values[2:]]))
    assert "battle_won changes within an episode" in refusal(demos)


@pytest.mark.parametrize("name", ["win_rate", "return_mean", "episode_length_mean"])
def test_a_manifest_that_says_something_else_is_refused(demos: Path, name: str) -> None:
    altered(demos, rehash=True, **{name: 1.0})
    assert f"its manifest says {name} 1, its episodes have" in refusal(demos)


@pytest.mark.parametrize("filters", [Filters(only_wins=True), Filters(min_return=6.0)])
def test_episodes_that_should_not_have_passed_are_refused(tmp_path: Path, filters: Filters) -> None:
    policy = Provenance(kind="scripted", source="kite", greedy=True, seed=1, filters=filters)
    for name, content in (
        ("all", episodes()),
        ("passed", [one for one in episodes() if filters.accept(one.team_return, one.battle_won)]),
    ):
        with JointTrajectoryWriter(tmp_path / name) as writer:
            for one in content:
                writer.append(one)
            writer.finish(WORLD, policy)
    verify_set(tmp_path / "passed")
    assert f"pass the filter {filters}; some do not" in refusal(tmp_path / "all")


def test_shards_that_count_their_episodes_wrongly_are_refused(tmp_path: Path) -> None:
    record(tmp_path / "demos", episodes(), shard_bytes=2000)
    shards = json.loads((tmp_path / "demos" / "manifest.json").read_text())["shards"]
    shards[0]["episodes"] += 1
    shards[1]["episodes"] -= 1
    altered(tmp_path / "demos", rehash=True, shards=shards)
    assert "shard-00000.parquet has" in refusal(tmp_path / "demos")


def test_damage_is_refused_as_on_opening(demos: Path) -> None:
    (demos / "shard-00000.parquet").write_bytes(b"nothing")
    assert "is damaged or was altered" in refusal(demos)


def of_world(path: Path, **changes: Any) -> JointTrajectories:
    with JointTrajectoryWriter(path) as writer:
        for one in episodes(3):
            writer.append(one)
        writer.finish(WORLD.model_copy(update=changes), Provenance(kind="scripted", source="kite", seed=1))
    return JointTrajectories.open(path)


def test_a_set_fits_a_run_on_the_same_engine_only(tmp_path: Path) -> None:
    here = ("3m", 3, 7, 9, None, "2")
    same = of_world(tmp_path / "same", engine_version="2")
    same.check_world(*here, backend="embedded")
    older = of_world(tmp_path / "older", engine_version="1")
    game = of_world(tmp_path / "game", backend="starcraft", engine_version="4.10.0")
    for other, words in ((older, "the embedded engine, version 1"), (game, "StarCraft II, version 4.10.0")):
        with pytest.raises(DemonstrationError) as caught:
            other.check_world(*here, backend="embedded")
        assert words in str(caught.value) and "played on the embedded engine, version 2 here" in str(caught.value)
        assert "demonstrations.other_engine=true" in str(caught.value)
        other.check_world(*here, backend="embedded", other_engine=True)
    # The version of StarCraft II is unknown before a game has started.
    game.check_world("3m", 3, 7, 9, backend="starcraft")
    with pytest.raises(DemonstrationError, match="played on StarCraft II"):
        same.check_world("3m", 3, 7, 9, backend="starcraft")


def test_a_set_is_checked_against_a_map(tmp_path: Path) -> None:
    sizes = {"num_agents": 3, "obs_size": 7, "num_actions": 9, "smac": {}}
    for name, changes, words in (
        ("sizes", {"engine_version": ENGINE_VERSION}, "obs_size 7, here obs_size is 30"),
        ("map", {"engine_version": ENGINE_VERSION, "map": "8m"}, "map 8m, here map is 3m"),
        ("switches", {"smac": {"surprise": 1}}, "its SMAC options are not valid"),
    ):
        demonstrations = of_world(tmp_path / name, **{**sizes, **changes})
        with pytest.raises(DemonstrationError, match=words):
            check_map_matches(demonstrations, WorldSettings(map="3m"))


def test_sets_of_the_first_format_are_read(demos: Path) -> None:
    path = demos / "manifest.json"
    content = json.loads(path.read_text())
    for name in ("missing", "parts"):
        del content[name]
    for name in ("source_sha256", "filters", "battles_played", "target_win_rate", "measured_win_rate"):
        del content["policy"][name]
    path.write_text(json.dumps(content))
    altered(demos, rehash=True, format_version=1)
    manifest = verify_set(demos).manifest
    assert (manifest.format_version, manifest.missing, manifest.parts) == (1, [], [])
