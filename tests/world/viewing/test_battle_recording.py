"""Battles written down: what is in a recording, its text, and the moments between its steps."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.maps import EVERY_MAP
from support.recorded_battles import record_battle

from dm2_ray.world import BattleVector, ScriptedTeam, load_map, map_names
from dm2_ray.world.viewing.battle_recording import BattleRecorder, BattleRecording
from dm2_ray.world.viewing.scene import Scene

COLUMNS = ("x", "y", "health", "shield", "energy", "cooldown")


def play(map_name: str, team_name: str = "nearest", *, seed: int = 0, battle: int = 0) -> BattleRecording:
    return record_battle(map_name, team_name, seed=seed, battle=battle)


@pytest.fixture(scope="module")
def recording() -> BattleRecording:
    return play("2s3z", "kite", seed=3, battle=2)


def test_a_recording_holds_what_happened() -> None:
    battles = BattleVector("2s3z", 3, seed=5)
    team = ScriptedTeam("kite", battles)
    recorder = BattleRecorder(battles, 1, team="kite")
    battles.reset()
    team.reset_states(battles)
    recorder.begin()
    seen: dict[str, list[np.ndarray]] = {name: [np.array(getattr(battles.units(), name)[1])] for name in COLUMNS}
    masks, actions, rewards = [], [], []
    while not recorder.has_ended:
        masks.append(battles.action_mask[1].copy())
        joint = team.act(battles)
        battles.step(joint)
        team.reset_finished(battles.terminated | battles.truncated)
        recorder.step(joint[1])
        units = battles.final_units() if battles.terminated[1] else battles.units()
        for name in COLUMNS:
            seen[name].append(np.array(getattr(units, name)[1]))
        actions.append(joint[1])
        rewards.append(battles.rewards[1])
    recording = recorder.recording
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(recording, name), np.array(seen[name], np.float32))
    np.testing.assert_array_equal(recording.actions, actions)
    np.testing.assert_array_equal(recording.available, masks)
    np.testing.assert_array_equal(recording.rewards, rewards)
    assert recording.outcome == ("won" if battles.battle_won[1] else "lost")
    assert (recording.provenance.map, recording.provenance.seed, recording.provenance.battle) == ("2s3z", 5, 1)
    assert recording.provenance.team == "kite" and recording.provenance.engine.startswith("embedded ")
    assert recording.step_loops == 8
    enemies = recording.health[-1, 5:]
    assert (enemies <= 0).all() == (recording.outcome == "won")


def test_the_time_limit_and_an_unfinished_battle_are_told_apart() -> None:
    battles = BattleVector("3m", 1)
    recorder = BattleRecorder(battles)
    battles.reset()
    recorder.begin()
    assert recorder.recording.num_steps == 0 and recorder.recording.outcome == "unfinished"
    assert BattleRecording.from_json(recorder.recording.to_json()).to_json() == recorder.recording.to_json()
    battles.step([[5, 5, 5]])
    recorder.step([5, 5, 5])
    assert recorder.recording.outcome == "unfinished" and recorder.recording.num_steps == 1
    spectators = BattleVector("2s_vs_1sc", 1)
    recorder = BattleRecorder(spectators)
    spectators.reset()
    recorder.begin()
    while not recorder.has_ended:  # the spine crawler stays where it is
        spectators.step([[1, 1]])
        recorder.step([1, 1])
    assert recorder.recording.outcome == "time limit"
    assert recorder.recording.num_steps == spectators.episode_limit


def test_a_recorder_says_when_it_is_used_wrongly() -> None:
    battles = BattleVector("3m", 1)
    with pytest.raises(ValueError, match="column is 1"):
        BattleRecorder(battles, 1)
    recorder = BattleRecorder(battles)
    with pytest.raises(RuntimeError, match="begin"):
        recorder.step([1, 1, 1])
    with pytest.raises(RuntimeError, match="begin"):
        _ = recorder.recording
    battles.reset()
    recorder.begin()
    battles.step([[1, 1, 1]])
    with pytest.raises(ValueError, match="num_agents"):
        recorder.step([1, 1])


def test_text_keeps_a_thousandth_and_is_stable(recording: BattleRecording) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=recording.actions.shape)
    values[0, 0] = np.nan
    recording = recording.with_series(matching_reward=values)
    text = recording.to_json()
    again = BattleRecording.from_json(text)
    assert again.to_json() == text
    assert again.provenance == recording.provenance and again.outcome == recording.outcome
    for name in COLUMNS:
        np.testing.assert_allclose(getattr(again, name), getattr(recording, name), atol=5.1e-4)
    np.testing.assert_array_equal(again.actions, recording.actions)
    np.testing.assert_array_equal(again.available, recording.available)
    np.testing.assert_array_equal(again.target, recording.target)
    np.testing.assert_allclose(again.series["matching_reward"], values, atol=5.1e-4)
    np.testing.assert_array_equal(again.scene.walkable, recording.scene.walkable)
    np.testing.assert_array_equal(again.scene.ground, recording.scene.ground)
    numbers_per_step = recording.scene.num_units * 7
    assert len(text) < 12 * numbers_per_step * recording.num_steps
    assert "NaN" not in text and "energy" not in json.loads(text)["units"]


@pytest.mark.parametrize("text", ["{}", "[]", '{"format":"dm2-ray-battle-0"}', "not json"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        BattleRecording.from_json(text)


def test_damaged_recordings_are_refused(recording: BattleRecording) -> None:
    content = json.loads(recording.to_json())
    for part in ("stage", "units", "actions", "rewards", "outcome"):
        with pytest.raises(ValueError):
            BattleRecording.from_json(json.dumps({name: value for name, value in content.items() if name != part}))
    with pytest.raises(ValueError, match="outcome"):
        BattleRecording.from_json(json.dumps({**content, "outcome": "glorious"}))
    with pytest.raises(ValueError):
        BattleRecording.from_json(json.dumps({**content, "rewards": content["rewards"][:-1]}))


@settings(max_examples=60, deadline=None)
@given(time=st.floats(0, 1))
def test_moments_lie_between_their_steps(recording: BattleRecording, time: float) -> None:
    time *= recording.num_steps
    step = min(int(time), recording.num_steps - 1)
    frame = recording.frame(time)
    for name in ("x", "y", "health", "shield"):
        ends = np.sort([getattr(recording, name)[step], getattr(recording, name)[step + 1]], axis=0)
        values = getattr(frame, name)
        assert (values >= ends[0] - 1e-4).all() and (values <= ends[1] + 1e-4).all()
    assert (frame.cooldown >= 0).all()
    assert (frame.cooldown <= recording.scene.weapon_period + 2.001).all()
    assert ((frame.target >= -1) & (frame.target < recording.scene.num_units)).all()


def test_moments_at_steps_are_the_recorded_ones(recording: BattleRecording) -> None:
    for step in range(recording.num_steps + 1):
        frame = recording.frame(step)
        for name in COLUMNS:
            np.testing.assert_array_equal(getattr(frame, name), getattr(recording, name)[step])
    fallen = np.argmax(recording.health <= 0, axis=0)
    frame = recording.frame(recording.num_steps)
    dead = frame.health <= 0
    np.testing.assert_array_equal(frame.dead_loops[dead], 8.0 * (recording.num_steps - fallen[dead]))


def test_the_same_battle_gives_the_same_recording(recording: BattleRecording) -> None:
    assert play("2s3z", "kite", seed=3, battle=2).to_json() == recording.to_json()
    assert play("2s3z", "kite", seed=4, battle=2).to_json() != recording.to_json()


def test_actions_have_smacs_names() -> None:
    scene = Scene.from_map(load_map("MMM2"))
    fighter, healer = scene.action_names(3), scene.action_names(9)
    assert fighter[:6] == ("no-op", "stop", "north", "south", "east", "west")
    assert scene.label(3) == "Marine 3" and scene.kinds[9] == "medivac"
    assert healer[6 + 2] == "heal Marine 2" and healer[6] == "heal Marauder 0"
    assert fighter[6] == f"attack {scene.label(10)}" and scene.label(10).endswith(" 0")
    assert [scene.action_target(3, a) for a in (1, 6, 7)] == [-1, 10, 11]
    assert [scene.action_target(9, a) for a in (1, 6, 7)] == [-1, 0, 1]


@pytest.mark.parametrize("map_name", EVERY_MAP)
def test_every_map_has_a_stage(map_name: str) -> None:
    spec = load_map(map_name)
    scene = Scene.from_map(spec)
    for agent in range(spec.num_agents):
        assert len(scene.action_names(agent)) == spec.num_actions
    west, south, east, north = scene.view
    xs, ys = np.nonzero(scene.ground)
    assert west < xs.min() and xs.max() + 1 < east and south < ys.min() and ys.max() + 1 < north
    # Everybody starts on the ground that is shown.
    for spawn in spec.spawns:
        assert scene.ground[int(spawn.x), int(spawn.y)]
    again = Scene.from_dict(json.loads(json.dumps(scene.to_dict())))
    assert again.to_dict() == scene.to_dict()


@pytest.mark.parametrize("map_name", [name for name in ("MMM", "bane_vs_bane", "2c_vs_64zg") if name in map_names()])
def test_recordings_of_maps_with_special_units(map_name: str) -> None:
    recording = play(map_name)
    assert recording.outcome in ("won", "lost", "draw", "time limit")
    assert BattleRecording.from_json(recording.to_json()).to_json() == recording.to_json()
    if map_name == "MMM":
        assert recording.energy.max() > 0
