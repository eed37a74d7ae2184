"""Battles of scripted teams, recorded for the tests of pictures and replays."""

from __future__ import annotations

from dm2_ray.world import BattleVector, ScriptedTeam
from dm2_ray.world.viewing.battle_recording import BattleRecorder, BattleRecording


def record_battle(map_name: str, team_name: str, *, seed: int = 1, battle: int = 0, label: str = "") -> BattleRecording:
    """Plays one battle to its end; `label` is the team's name in the recording (by default `team_name`)."""
    battles = BattleVector(map_name, 1, seed=seed, first_battle=battle)
    team = ScriptedTeam(team_name, battles, seed=seed)
    recorder = BattleRecorder(battles, team=label or team_name)
    battles.reset()
    team.reset_states(battles)
    recorder.begin()
    while not recorder.has_ended:
        actions = team.act(battles)
        battles.step(actions)
        recorder.step(actions[0])
    return recorder.recording
