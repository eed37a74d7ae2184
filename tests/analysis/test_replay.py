"""`dm2 replay`, and the annotations of a battle by a checkpoint's networks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dm2_ray.algorithms.dm2 import DM2Config
from dm2_ray.analysis.replay import record_battle
from dm2_ray.checkpoints import Checkpoint, save_checkpoint
from dm2_ray.cli import main
from dm2_ray.config.schema import Experiment
from dm2_ray.distributed.rollout.stacked_policies import load_policies
from dm2_ray.learning.discriminator import Discriminator
from dm2_ray.world import BattleVector
from dm2_ray.world.viewing.battle_recording import BattleRecording

MAP = "2m_vs_1z"


def dm2(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def recording_in(path: Path) -> BattleRecording:
    match = re.search(r'<script id="battle" type="application/json">(.*?)</script>', path.read_text(), re.DOTALL)
    assert match is not None
    return BattleRecording.from_json(json.dumps(json.loads(match[1])["recording"]))


def untrained(root: Path, *, matching: float, form: str = "airl", kind: str = "state") -> Checkpoint:
    """A checkpoint of newly initialized networks, as a run would save it."""
    experiment = Experiment.model_validate(
        {
            "variant": "dm2" if matching else "ippo",
            "seed": 3,
            "world": {"map": MAP},
            "policy": {"hidden_size": 16, "actor_gain": 1.0},
            "discriminator": {"hidden_size": 16, "input": kind},
            "matching": {"coefficient": matching, "padding": "absorbing", "form": form},
            "demonstrations": {"path": "demos/needed-to-train-only"},
        }
    )
    config = DM2Config().dm2(experiment)
    modules = {name: spec.build() for name, spec in config.get_default_rl_module_spec().rl_module_specs.items()}
    states = {name: {key: value.numpy() for key, value in m.state_dict().items()} for name, m in modules.items()}
    agents = {
        agent: {
            "agent": agent,
            "version": 4,
            "modules": {name: state for name, state in states.items() if name.startswith(agent)},
            "optimizers": {},
        }
        for agent in config.run_spec.agent_ids
    }
    learning_state = {"env_steps": 1234, "episodes": 20, "agents": agents}
    return save_checkpoint(root, experiment, learning_state, sizes=config.run_spec.sizes, win_rate=None)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return untrained(tmp_path_factory.mktemp("run"), matching=0.3)


@pytest.mark.cli
def test_a_scripted_battle_is_written_in_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "deep" / f"battle.{suffix}" for suffix in ("html", "gif", "mp4")]
    outs = [word for file in files for word in ("--out", file)]
    assert dm2("replay", "scripted:kite", "--map", "2s3z", "--seed", 4, "--battle", 2, "--size", 320, *outs) == 0
    recording = recording_in(files[0])
    line = capsys.readouterr().out.strip()
    assert "\n" not in line and all(str(file) in line for file in files)
    assert f"{recording.outcome} after {recording.num_steps} steps" in line
    assert f"return {recording.rewards.sum():.2f}" in line
    assert (recording.provenance.seed, recording.provenance.battle) == (4, 2)
    assert recording.provenance.team == "scripted team kite"
    assert recording.to_json() == record_battle("scripted:kite", map_name="2s3z", seed=4, battle=2).to_json()
    with Image.open(files[1]) as image:
        assert image.n_frames > recording.num_steps
    assert files[2].read_bytes()[4:8] == b"ftyp"
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["battle.gif", "battle.html", "battle.mp4"]


def test_films_can_be_made_larger_and_faster(tmp_path: Path) -> None:
    frames = []
    for speed in (4, 8):
        film = tmp_path / f"{speed}.gif"
        assert dm2("replay", "scripted:kite", "--map", "3m", "--size", 200, "--speed", speed, "--out", film) == 0
        with Image.open(film) as image:
            assert image.width == 200
            frames.append(image.n_frames)
    assert frames[0] > 1.5 * frames[1]


def test_until_finds_a_battle_with_the_outcome() -> None:
    for until, outcome in (("win", "won"), ("loss", "lost")):
        recording = record_battle("scripted:nearest", map_name="3m", until=until)  # type: ignore[arg-type]
        assert recording.outcome == outcome
        again = record_battle("scripted:nearest", map_name="3m", battle=recording.provenance.battle)
        assert again.to_json() == recording.to_json()
        for battle in range(recording.provenance.battle):
            earlier = record_battle("scripted:nearest", map_name="3m", battle=battle).outcome
            assert (earlier == "won") != (until == "win")


def test_no_battle_with_the_outcome_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "never.html"
    assert dm2("replay", "scripted:random", "--map", "3s_vs_3z", "--until", "win", "--out", page) == 1
    assert "none of 100 battles was won" in capsys.readouterr().err
    assert not page.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scripted:kite"], "needs --map"),
        (["scripted:kit", "--map", "3m"], "unknown scripted team 'kit'"),
        (["scripted:kite", "--map", "4m"], "unknown map '4m'"),
        (["scripted:kite", "--map", "3m", "--out", "battle.avi"], "expected one of .html, .gif, .mp4"),
        (["scripted:kite", "--map", "3m", "--out", "/proc/battle.html"], "cannot be written"),
        (["scripted:kite", "--map", "3m", "--out", "battle.gif", "--size", "7"], "size is 7"),
        (["no/such/run"], "no such checkpoint"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    arguments: list[str], message: str, refusal_of: Callable[[list[str]], str]
) -> None:
    assert message in refusal_of(["replay", *arguments])


def test_a_checkpoints_networks_annotate_its_battle(checkpoint: Checkpoint, tmp_path: Path) -> None:
    page = tmp_path / "replay.html"
    assert dm2("replay", checkpoint.path, "--battle", 1, "--out", page) == 0
    recording = recording_in(page)
    assert set(recording.series) == {"matching_reward", "action_probability", "value"}
    assert recording.provenance.team == "dm2, 1,234 env steps, greedy" and recording.provenance.map == MAP

    # The same battle again, step by step, with the networks as they act.
    battles = BattleVector(MAP, 1)
    battles.reset(first_battle=1)
    policies = load_policies(checkpoint, greedy=True)
    policies.reset_states(battles)
    observations, probabilities = [], []
    for actions in recording.actions:
        observations.append(battles.observations[0].copy())
        chosen, logp = policies.act_with_logp(battles.observations, battles.action_mask)
        np.testing.assert_array_equal(chosen[:, 0], actions)
        probabilities.append(logp[:, 0].exp().numpy())
        battles.step(actions[None])
    np.testing.assert_allclose(recording.series["action_probability"], probabilities, atol=6e-4)

    # The matching reward is the logit of the agent's own discriminator.
    specs = DM2Config().dm2(checkpoint.experiment()).get_default_rl_module_spec().rl_module_specs
    for agent in range(2):
        discriminator = specs[f"agent_{agent}_discriminator"].build()
        assert isinstance(discriminator, Discriminator)
        discriminator.load_state_dict(checkpoint.agent_state(agent)["modules"][f"agent_{agent}_discriminator"])
        rows = torch.from_numpy(np.array(observations)[:, agent])
        rows = torch.cat([rows, torch.zeros(len(rows), 1)], 1)  # `absorbing`: a real row has the indicator 0
        with torch.no_grad():
            logits = discriminator.forward_inference({"obs": rows})["logits"].numpy()
        np.testing.assert_allclose(recording.series["matching_reward"][:, agent], logits, atol=6e-4)
    assert not np.allclose(recording.series["matching_reward"][:, 0], recording.series["matching_reward"][:, 1])


def test_sampled_actions_are_a_function_of_seed_and_battle(checkpoint: Checkpoint) -> None:
    def text(battle: int, seed: int = 0) -> str:
        return record_battle(str(checkpoint.path), greedy=False, seed=seed, battle=battle).to_json()

    assert text(1) == text(1) != text(1, seed=1)
    lost = record_battle(str(checkpoint.path), greedy=False, battle=0, until="loss")
    assert lost.to_json() == text(lost.provenance.battle)


@pytest.mark.parametrize("kind", ["state_action", "state_next_state"])
def test_the_matching_reward_is_that_of_the_runs_own_form_and_input(tmp_path: Path, kind: str) -> None:
    """Two checkpoints with the same weights in all networks."""
    logits, bounded = (
        record_battle(str(untrained(tmp_path / form, matching=0.3, form=form, kind=kind).path)).series[
            "matching_reward"
        ]
        for form in ("airl", "bounded")
    )
    np.testing.assert_allclose(bounded, np.tanh(np.array(logits) / 2), atol=1e-3)
    assert np.ptp(np.array(logits), axis=0).min() > 0.01


def test_without_discriminators_there_is_no_matching_reward(tmp_path: Path) -> None:
    recording = record_battle(str(untrained(tmp_path, matching=0.0).path))
    assert set(recording.series) == {"action_probability", "value"}
    assert recording.provenance.team.startswith("ippo")


def test_a_checkpoint_plays_on_its_own_map_only(checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    assert dm2("replay", checkpoint.path, "--map", "3m") == 2
    assert f"was trained on {MAP}, not on 3m" in capsys.readouterr().err
