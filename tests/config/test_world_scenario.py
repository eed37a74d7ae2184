"""Scenarios in experiments are read once, stored in the experiment, and replaced by a map that is set later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dm2_ray.config.documents import (
    experiment_hash,
    write_yaml,
)
from dm2_ray.config.errors import ConfigError
from dm2_ray.config.schema import Experiment, WorldSettings
from dm2_ray.runs.experiment_loading import load_experiment
from dm2_ray.world import load_map, world_map
from dm2_ray.world.configured import resolve_world

CONTENT = {
    "episode_limit": 80,
    "agents": [{"kind": "marine", "count": 3, "x": 8, "y": 16}],
    "enemies": [{"kind": "zealot", "at": [[20, 16], [20, 18]]}],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(CONTENT))
    return path


def loaded(*overrides: str, **keywords: Any) -> Experiment:
    return load_experiment(variant="ippo", overrides=overrides, **keywords)


def refusal(*overrides: str, **keywords: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(*overrides, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_read_when_the_experiment_is_loaded(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "experiment.yaml"
    named.write_text("world: {map: mine.yaml}\n")
    monkeypatch.chdir(tmp_path)
    ways = [
        loaded(map_name=str(file)),
        loaded(f"world.map={file}"),
        loaded(config_file=named),
    ]
    for experiment in ways:
        assert experiment.world.map == "mine"
        assert experiment.world.scenario == {"name": "mine", **CONTENT}
        assert experiment == ways[0]


def test_a_written_experiment_needs_no_file(file: Path, tmp_path: Path) -> None:
    experiment, spec = loaded(map_name=str(file)), load_map(file)
    write_yaml(experiment, tmp_path / "config.yaml")
    file.unlink()
    again = load_experiment(tmp_path / "config.yaml")
    assert again == experiment
    assert world_map(again.world.map, again.world.scenario) is spec


def test_packaged_scenarios_go_by_name() -> None:
    experiment = loaded(map_name="100m_vs_100m")
    assert experiment.world.map == "100m_vs_100m" and experiment.world.scenario is not None
    assert world_map(experiment.world.map, experiment.world.scenario) is load_map("100m_vs_100m")
    assert loaded(map_name="3m").world.scenario is None


def test_single_keys_of_a_scenario_can_be_overridden(file: Path) -> None:
    experiment = loaded("world.scenario.episode_limit=7", "world.scenario.terrain={size: [40, 40]}", map_name=str(file))
    spec = world_map(experiment.world.map, experiment.world.scenario)
    assert (spec.name, spec.episode_limit, spec.walkable.shape) == ("mine", 7, (40, 40))
    assert loaded("world.scenario.name=yours", map_name=str(file)).world.map == "yours"


def test_a_map_set_later_replaces_the_scenario(file: Path, tmp_path: Path) -> None:
    write_yaml(loaded(map_name=str(file)), tmp_path / "config.yaml")
    experiment = loaded(config_file=tmp_path / "config.yaml", map_name="8m")
    assert experiment.world == WorldSettings(map="8m")
    other = loaded(config_file=tmp_path / "config.yaml", map_name="100m_vs_100m")
    assert other.world.map == other.world.scenario["name"] == "100m_vs_100m"
    assert loaded("world.scenario=null", map_name="3m").world == WorldSettings(map="3m")


def test_an_experiment_may_contain_a_scenario(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump({"world": {"map": "inline", "scenario": CONTENT}}))
    experiment = loaded(config_file=path)
    assert experiment.world.map == experiment.world.scenario["name"] == "inline"
    path.write_text(yaml.safe_dump({"world": {"scenario": {"name": "nameless", **CONTENT}}}))
    experiment = loaded(config_file=path)
    assert experiment.world.map == "nameless"
    assert experiment.rollout == loaded("world.map=8m").rollout  # nothing of configs/maps/3m.yaml


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["world.map=nowhere.yaml"], ["command line: world.map: nowhere.yaml", "cannot be read"]),
        (["world.map=100m_vs_10m"], ["command line: world.map", "did you mean '100m_vs_100m'"]),
        (["world.map=../no/such"], ["world.map", "unknown map '../no/such'"]),
        (["world.scenario.episode_limit=0", "world.map=100m_vs_100m"], []),
        (["world.map=100m_vs_100m", "world.scenario.episode_limit=0"], ["world.scenario: episode_limit must be"]),
        (["world.map=100m_vs_100m", "world.scenario.agent=0"], ["unknown key agent", "did you mean agents?"]),
        (["world.scenario={episode_limit: 3}"], ["world.scenario: name is missing"]),
        (["world.scenario=100m_vs_100m"], ["world.scenario must be a mapping"]),
        (["world={map: a, scenario: {name: b}}"], ["world.map is a, but world.scenario is called 'b'"]),
    ],
)  # fmt: skip
def test_wrong_scenarios_are_refused_in_one_line(overrides: list[str], words: list[str]) -> None:
    if not words:
        assert loaded(*overrides).world.scenario["episode_limit"] == 300  # set before the map, so for another scenario
        return
    message = refusal(*overrides)
    for word in words:
        assert word in message


def test_an_error_in_a_file_is_reported_with_its_line(file: Path) -> None:
    file.write_text("episode_limit: 3\nagents: []\n")
    assert f"command line: world.map: {file}, line 2: agents must be" in refusal(map_name=str(file))


def test_a_world_given_in_python_is_resolved_too(file: Path) -> None:
    world = resolve_world(WorldSettings(map=str(file), smac={"reward_win": 1}))
    assert (world.map, world.smac) == ("mine", {"reward_win": 1})
    assert resolve_world(world) == world
    assert resolve_world(WorldSettings(map="3m")) == WorldSettings(map="3m")


def test_the_hash_depends_on_the_scenarios_content(file: Path) -> None:
    first = experiment_hash(loaded(map_name=str(file)))
    assert experiment_hash(loaded(map_name=str(file))) == first
    file.write_text(yaml.safe_dump({**CONTENT, "episode_limit": 81}))
    assert experiment_hash(loaded(map_name=str(file))) != first
