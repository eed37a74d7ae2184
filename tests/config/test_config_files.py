"""Layers, their precedence, and errors in experiment files, through `load_experiment`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dm2_ray.config.documents import (
    experiment_hash,
    variant_names,
    write_yaml,
)
from dm2_ray.config.errors import ConfigError, dotted_keys
from dm2_ray.config.packaged_files import configs_dir
from dm2_ray.config.schema import Experiment
from dm2_ray.config.yaml_reader import read_yaml_mapping
from dm2_ray.runs.experiment_loading import load_experiment

PAPER_MAPS = {  # map: matching coefficient, PPO epochs, clip, episodes per update (Wang et al. 2023)
    "5m_vs_6m": (0.3, 10, 0.05, 256),
    "3s_vs_4z": (0.05, 15, 0.2, 1024),
    "3s_vs_3z": (0.3, 15, 0.2, 1024),
    "3s_vs_5z": (0.1, 15, 0.05, 1024),
    "8m_vs_9m": (0.4, 15, 0.05, 1024),
}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def refusal(*arguments: Any, **keywords: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_experiment(*arguments, **keywords)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_file_equals_the_models_defaults() -> None:
    document = read_yaml_mapping((configs_dir() / "defaults.yaml").read_text())
    assert Experiment.model_validate(document.values) == Experiment()
    listed = {".".join(path) for path in document.lines}
    assert set(dotted_keys(Experiment)) <= listed


def test_every_key_of_the_defaults_file_has_a_comment_above_it() -> None:
    text = (configs_dir() / "defaults.yaml").read_text().splitlines()
    lines = read_yaml_mapping("\n".join(text)).lines
    line_above = {key: text[lines[tuple(key.split("."))] - 2].lstrip() for key in dotted_keys(Experiment)}
    assert not [key for key, line in line_above.items() if not line.startswith("#")]


@pytest.mark.parametrize("map_name", PAPER_MAPS)
def test_maps_carry_the_published_values(map_name: str) -> None:
    experiment = load_experiment(map_name=map_name, variant="dm2", overrides=["demonstrations.path=set"])
    found = (
        experiment.matching.coefficient,
        experiment.ppo.epochs,
        experiment.ppo.clip,
        experiment.rollout.episodes,
    )
    assert found == PAPER_MAPS[map_name]
    assert experiment.rollout.unit == "episodes"


def test_every_packaged_map_and_variant_loads_and_has_its_files_name() -> None:
    for path in (configs_dir() / "maps").glob("*.yaml"):
        assert load_experiment(map_name=path.stem, variant="ippo").world.map == path.stem
    needs = {"dm2_self_imitation": []} | {
        name: ["demonstrations.paths_per_agent=[a, b, c]"]
        for name in ("dm2_independent", "dm2_independent_non_concurrent")
    }
    for name in variant_names():
        experiment = load_experiment(variant=name, overrides=needs.get(name, ["demonstrations.path=set"]))
        assert experiment.variant == name


def test_later_layers_win(tmp_path: Path) -> None:
    file = written(tmp_path, "world: {map: 5m_vs_6m}\nvariant: ippo\nppo: {clip: 0.11, epochs: 3}\n")
    experiment = load_experiment(file, overrides=["ppo.epochs=4", "ppo.epochs=5", "seed=7"])
    assert experiment.ppo.clip == 0.11  # the file over the map's 0.05
    assert experiment.ppo.epochs == 5  # the last override over the file
    assert experiment.rollout.episodes == 256  # the map that the file chose over the defaults
    assert experiment.matching.coefficient == 0  # the variant over the map
    assert experiment.seed == 7
    assert load_experiment(file, map_name="3m").world.map == "3m"  # the command line over the file


def test_sections_may_be_empty_and_files_too(tmp_path: Path) -> None:
    assert load_experiment(written(tmp_path, "ppo:\n#  clip: 3\n"), variant="ippo") == load_experiment(variant="ippo")
    assert load_experiment(written(tmp_path, ""), variant="ippo") == load_experiment(variant="ippo")


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("ppo.lr_actor=1e-3", 0.001),
        ("ppo.lr_actor=1.5E-4", 0.00015),
        ("ppo.max_grad_norm=1e1", 10.0),
        ("rollout.env_steps=2e6", 2_000_000),
        ("rollout.env_steps=1.5e3", 1500),
        ("rollout.env_steps=50_000", 50_000),
        ("stop.env_steps=null", None),
        ("tracking.tensorboard=false", False),
        ("tracking.tags=[a, b]", ("a", "b")),
        ("tracking.name=42", "42"),
        ("tracking.name=2023-01-01", "2023-01-01"),
        ("tracking.name=a: b #c", "a: b #c"),
        ("tracking.name='quoted'", "quoted"),
        ("tracking.group=", None),
    ],
)
def test_override_values_have_the_keys_type(override: str, value: object) -> None:
    experiment = load_experiment(variant="ippo", overrides=[override])
    section, _, key = override.partition("=")[0].partition(".")
    found = getattr(getattr(experiment, section), key)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("ppo.clpi=0.1", ["ppo.clpi", "0.1", "did you mean ppo.clip?"]),
        ("clip=0.1", ["unknown key clip", "did you mean ppo.clip?"]),
        ("ppo.clip.deeper=1", ["ppo.clip must be a number"]),
        ("pop.clip=0.1", ["unknown key pop", "did you mean ppo?"]),
        ("ppo={epoch: 3}", ["unknown key ppo.epoch ", "did you mean ppo.epochs?"]),
        ("ppo.epochs=ten", ["ppo.epochs must be a whole number", "'ten'"]),
        ("ppo.epochs=1.5", ["ppo.epochs must be a whole number", "1.5"]),
        ("seed=true", ["seed must be a whole number", "true"]),
        ("ppo.gamma=1.2", ["ppo.gamma must be at most 1", "1.2"]),
        ("ppo.clip=0", ["ppo.clip must be greater than 0", "got 0"]),
        ("ppo.clip=.nan", ["ppo.clip must be", "nan"]),
        ("matching.padding=maskd", ["one of absorbing, masked, paper", "'maskd'", "did you mean masked?"]),
        ("world.map=5m_vs_7m", ["5m_vs_7m", "5m_vs_6m"]),
        ("variant=dm3", ["dm3", "did you mean dm2?"]),
        ("world.smac.reward_wn=1", ["world.smac", "reward_wn", "did you mean 'reward_win'?"]),
        ("world.engine.chase_range=1", ["world.engine", "chase_range", "did you mean 'chase_ranged'?"]),
        ("world.engine={spawn_pitch: 0.5}", ["world.engine", "spawn_pitch", "0.5", "at least 1"]),
        ("world.engine={retaliation: 1}", ["world.engine", "retaliation", "bool"]),
        ("world.smac={reward_win: much}", ["world.smac", "reward_win", "'much'"]),
        ("ppo.clip", ["'ppo.clip' is not KEY=VALUE"]),
        ("ppo..clip=1", ["is not KEY=VALUE"]),
        ("=1", ["is not KEY=VALUE"]),
        ("ppo.clip=[1", ["ppo.clip", "not valid YAML"]),
        ("matching.coefficient=0.2", ["matching.coefficient", "0.2", "ippo"]),
        ("matching.reward=matching", ["matching.reward", "pays nothing", "both"]),
    ],
)
def test_a_bad_override_is_refused_in_one_line_that_names_it(override: str, words: list[str]) -> None:
    keywords = {} if override.startswith("variant") else {"variant": "ippo"}
    message = refusal(overrides=[override], **keywords)
    assert message.startswith("command line: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: 1\nppo:\n  epochs: 3\n  clpi: 0.1\n", [", line 4", "ppo.clpi", "0.1", "did you mean ppo.clip?"]),
        ("seed: 1\n\nppo:\n  epochs: many\n", [", line 4", "ppo.epochs", "'many'"]),
        ("seed: 1\nseed: 2\n", [", line 2", "seed is given twice", "line 1"]),
        ("ppo: {clip: 0.1\nseed: 3\n", [", line 2", "not valid YAML"]),
        ("\n- seed\n", [", line 2", "mapping of keys"]),
        ("1: 2\n", [", line 1", "'1' must be a plain name"]),
        ("ppo: 3\n", [", line 1", "ppo must be a mapping of keys", "got 3"]),
        ("world:\n  map: 4m\n", [", line 2", "4m", "3m"]),
        (
            "world:\n  smac:\n    obs_all_health: true\n    obs_heights: true\n",
            [", line 4", "world.smac", "'obs_heights'"],
        ),
        ("\nvariant: dm\n", [", line 2", "dm2, dm2_absorbing", "'dm'", "did you mean dm2?"]),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_line(tmp_path: Path, text: str, words: list[str]) -> None:
    file = written(tmp_path, text)
    message = refusal(file)
    assert message.startswith(str(file))
    for word in words:
        assert word in message


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refusal(binary)


def test_smac_arguments_that_only_together_are_wrong_are_refused() -> None:
    halves = ["world.smac.move_amount=1.5", "world.smac.obs_pathing_grid=true"]
    assert "move_amount" in refusal(variant="ippo", overrides=halves)
    assert load_experiment(variant="ippo", overrides=halves[:1]).world.smac == {"move_amount": 1.5}


def test_matching_without_demonstrations_is_refused() -> None:
    message = refusal(variant="dm2", map_name="5m_vs_6m")
    assert message.startswith("configs/maps/5m_vs_6m.yaml, line ")
    assert "--demos" in message
    assert load_experiment(variant="dm2", overrides=["matching.coefficient=0"]).matching.coefficient == 0


def test_a_relative_demonstration_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = load_experiment(overrides=["demonstrations.path=sets/mine"])
    assert experiment.demonstrations.path == str(tmp_path / "sets" / "mine")


def test_written_experiment_is_read_back_equal(tmp_path: Path) -> None:
    experiment = load_experiment(
        map_name="3s_vs_4z",
        overrides=["demonstrations.path=/a: b #c", "ppo.adam_eps=3e-8", "tracking.tags=[x]", "world.smac.reward_win=1"],
    )
    path = tmp_path / "run" / "config.yaml"
    write_yaml(experiment, path)
    assert load_experiment(path) == experiment
    assert [entry.name for entry in path.parent.iterdir()] == ["config.yaml"]
    assert yaml.safe_load(path.read_text())["ppo"]["adam_eps"] == 3e-8  # any YAML reader sees the number


@settings(deadline=None)
@given(st.floats(min_value=1e-300, max_value=1e300, allow_subnormal=False), st.integers(0, 2**63 - 1))
def test_numbers_survive_the_round_trip(tmp_path_factory: pytest.TempPathFactory, number: float, seed: int) -> None:
    experiment = Experiment.model_validate(
        {"seed": seed, "variant": "ippo", "matching": {"coefficient": 0.0}, "ppo": {"huber_delta": number}}
    )
    path = tmp_path_factory.getbasetemp() / "numbers.yaml"
    write_yaml(experiment, path)
    assert load_experiment(path) == experiment


def test_the_hash_depends_on_what_influences_the_result() -> None:
    base = load_experiment(variant="ippo")
    assert experiment_hash(base) == experiment_hash(load_experiment(variant="ippo", map_name="3m"))
    for same in ("stop.iterations=3", "tracking.name=other", "checkpoint.keep=1"):
        assert experiment_hash(load_experiment(variant="ippo", overrides=[same])) == experiment_hash(base)
    for other in ("seed=1", "ppo.clip=0.1", "rollout.env_runners=2", "world.smac={reward_win: 100}"):
        assert experiment_hash(load_experiment(variant="ippo", overrides=[other])) != experiment_hash(base)
