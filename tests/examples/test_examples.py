"""Every example runs and does what its docstring says."""

from __future__ import annotations

import dataclasses
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dm2_ray import examples
from dm2_ray.checkpoints import open_checkpoint
from dm2_ray.cli import main
from dm2_ray.examples import new_discriminator_input, new_matching_reward, play_a_team, what_matching_pays
from dm2_ray.examples.train_from_python import train
from dm2_ray.examples.tune_coefficient import tune_coefficient
from dm2_ray.runs.evaluation import evaluate_checkpoint
from dm2_ray.world.smac.rules import FIRST_TARGET

pytestmark = pytest.mark.usefixtures("local_ray")

FOLDER = Path(examples.__file__).parent
PROGRAMS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_says_how_to_run_it_and_is_listed(name: str) -> None:
    head = (FOLDER / f"{name}.py").read_text().split('"""')[1]
    assert "What it shows:" in head and f"python -m dm2_ray.examples.{name} " in head
    assert f"[`{name}.py`]({name}.py)" in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_starts(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.delitem(sys.modules, f"dm2_ray.examples.{name}", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"dm2_ray.examples.{name}", run_name="__main__", alter_sys=True)
    assert ended.value.code == 0
    assert "usage: " in capsys.readouterr().out


def test_a_new_matching_reward_is_paid(demonstrations: Path, tiny: dict[str, dict[str, Any]]) -> None:
    masked = {"matching": {"padding": "masked"}}
    changed = [agents for _, agents in train(str(demonstrations), 3, tiny, masked, new_matching_reward.SETTINGS)]
    plain = [agents for _, agents in train(str(demonstrations), 3, tiny, masked)]
    assert all(abs(agent["matching_reward_mean"]) <= new_matching_reward.LIMIT for agent in changed[-1].values())
    assert changed[0]["agent_0"]["discriminator_logit_gap"] == plain[0]["agent_0"]["discriminator_logit_gap"]


def test_the_effect_of_a_shot_is_measured(demonstrations: Path) -> None:
    effects = what_matching_pays.effects_of_shots(str(demonstrations), battles=30, updates=5)
    values = np.array([[getattr(effect, field.name) for field in dataclasses.fields(effect)] for effect in effects])
    assert np.isfinite(values).all() and (values[:, [1, 3]] > 0).all()
    assert (values[:, 2] > 0).all()  # shots earn team reward


def test_the_effect_of_a_shot_is_that_of_the_shot_alone() -> None:
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(6000, 3)).astype(np.float32)
    mask = rng.random((6000, 9)) < 0.5
    mask[:, 1] = True
    actions = np.argmax(np.where(mask, rng.random(mask.shape), -1.0), axis=1)
    returns = 5.0 * observations[:, 0] + mask[:, FIRST_TARGET:].sum(1) + 2.0 * (actions >= FIRST_TARGET)
    battle = np.arange(6000) // 50
    mean, error = what_matching_pays.difference_of_returns(returns, observations, actions, mask, battle)
    assert abs(mean - 2.0) < 4 * error < 0.5


def test_a_clipped_logit_is_the_logit_where_it_is_small(
    demonstrations: Path, tiny: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = list(train(str(demonstrations), 2, tiny))
    monkeypatch.setattr(new_matching_reward, "LIMIT", 1e9)
    assert list(train(str(demonstrations), 2, tiny, new_matching_reward.SETTINGS)) == plain
    monkeypatch.setattr(new_matching_reward, "LIMIT", 1e-3)
    assert list(train(str(demonstrations), 2, tiny, new_matching_reward.SETTINGS)) != plain


def test_a_new_discriminator_input_is_seen(demonstrations: Path, tiny: dict[str, dict[str, Any]]) -> None:
    (_, agents), (_, later) = train(str(demonstrations), 2, tiny, new_discriminator_input.SETTINGS)
    ((_, plain),) = train(str(demonstrations), 1, tiny)
    assert agents["agent_0"]["return_mean"] != plain["agent_0"]["return_mean"]
    assert np.isfinite(list(later["agent_1"].values())).all()


def test_a_team_plays(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    alone = ["rollout.env_runners=0", "learners.processes=driver", "tracking.tensorboard=false"]
    small = ["policy.hidden_size=16", "rollout.env_steps=256", "rollout.battles_per_env_runner=8"]
    arguments = ["train", "--variant", "ippo", "--map", "2m_vs_1z", "--run-dir", str(run), "--iterations", "1"]
    assert main([*arguments, *alone, *small, "evaluation.episodes=4"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["play_a_team", str(run)])
    play_a_team.main()
    assert re.fullmatch(r"one battle: return -?\d+\.\d\d\n64 battles: win rate [01]\.\d\d\n", capsys.readouterr().out)
    assert evaluate_checkpoint(open_checkpoint(run), episodes=4, seed=0).episodes == 4


def test_two_coefficients_are_tried(demonstrations: Path, tiny: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    results = tune_coefficient(str(demonstrations), 2, (0.1, 1.0), tmp_path, tiny)
    assert not results.errors
    shares = {result.config["coefficient"]: result.metrics["matching_reward_share"] for result in results}
    assert shares.keys() == {0.1, 1.0} and shares[0.1] < shares[1.0]
    assert all(result.metrics["training_iteration"] == 2 for result in results)
