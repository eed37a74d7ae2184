"""Functions of the user in a configuration are accepted by their form and imported before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dm2_ray.config.documents import read_experiment, write_yaml
from dm2_ray.config.dotted_path import check_functions, import_function
from dm2_ray.config.errors import ConfigError
from dm2_ray.config.schema import DISCRIMINATOR_INPUT_NAMES, REWARD_FORM_NAMES, Experiment
from dm2_ray.learning.rewards import REWARD_FORMS, matching_reward
from dm2_ray.learning.visitation import DISCRIMINATOR_INPUTS
from dm2_ray.runs.experiment_loading import load_experiment

MODULE = """
import torch

LIMIT = 3.0

def clipped(logits):
    return logits.clamp(-LIMIT, LIMIT)

def one_number(logits):
    return logits.sum()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a new importable module."""
    name = f"users_rewards_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_the_configuration_accepts_exactly_the_existing_names() -> None:
    assert tuple(REWARD_FORMS) == REWARD_FORM_NAMES
    assert tuple(DISCRIMINATOR_INPUTS) == DISCRIMINATOR_INPUT_NAMES


def test_a_function_of_the_user_computes_the_reward(module: str) -> None:
    experiment = load_experiment(variant="ippo", map_name="3m", overrides=[f"matching.form={module}:clipped"])
    rewards = matching_reward(torch.tensor([-9.0, 1.0, 9.0]), experiment.matching.form)
    assert rewards.tolist() == [-3.0, 1.0, 3.0]
    with pytest.raises(ValueError, match=r"one_number must return a tensor \[3\], one reward per logit; found \[\]"):
        matching_reward(torch.zeros(3), f"{module}:one_number")


@pytest.mark.parametrize("key", ["matching.form", "discriminator.input"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_package:f", "there is no module no_such_package; install it, or put its directory on PYTHONPATH"),
        ("MODULE:cliped", "cliped does not exist in module MODULE; did you mean clipped?"),
        ("MODULE:LIMIT", "LIMIT is not a function in module MODULE"),
    ],
)
def test_a_failed_import_is_reported_in_one_line_with_its_origin(
    module: str, key: str, value: str, message: str
) -> None:
    value, message = value.replace("MODULE", module), message.replace("MODULE", module)
    with pytest.raises(ConfigError) as refusal:
        load_experiment(variant="ippo", map_name="3m", overrides=[f"{key}={value}"])
    assert str(refusal.value) == f"command line: {key}: {value}: {message}"
    section, name = key.split(".")
    with pytest.raises(ConfigError, match=f"^{key}: {value}: "):
        check_functions(Experiment.model_validate({section: {name: value}}))


def test_a_failing_module_is_reported_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "users_broken.py").write_text("import users_missing\n")
    (tmp_path / "users_wrong.py").write_text("raise TypeError('two\\nlines')\n")
    with pytest.raises(ConfigError, match="importing users_broken failed: no module named users_missing"):
        import_function("users_broken:f")
    with pytest.raises(ConfigError, match="importing users_wrong failed: TypeError: two lines"):
        import_function("users_wrong:f")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "matching.form=arl",
            "matching.form must be one of airl, gail, log_d, fairl, bounded, or a function as package.module:function, "
            "got 'arl'; did you mean airl?",
        ),
        (
            "discriminator.input=state_acton",
            "discriminator.input must be one of state, state_action, state_next_state, or a function as "
            "package.module:function, got 'state_acton'; did you mean state_action?",
        ),
        (
            "matching.form=a b:c",
            "matching.form must be one of airl, gail, log_d, fairl, bounded, or a function as package.module:function, "
            "got 'a b:c'",
        ),
        ("matching.form=null", "matching.form must be a text, got null"),
    ],
)
def test_other_names_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_experiment(variant="ippo", map_name="3m", overrides=[override])
    assert str(refusal.value) == f"command line: {message}"


def test_a_stored_configuration_is_read_without_importing_anything(tmp_path: Path) -> None:
    form = {"matching": {"form": "no_such_package:f"}, "discriminator": {"input": "no_such_package:g"}}
    experiment = Experiment.model_validate(form)
    write_yaml(experiment, tmp_path / "config.yaml")
    assert read_experiment(tmp_path / "config.yaml") == experiment
