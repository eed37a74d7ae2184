"""Plays one battle of a team and writes it as an HTML page, a GIF or an MP4 film.

Shapes: T env steps, N agents, O observation size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dm2_ray.config.errors import ConfigError
from dm2_ray.config.team_names import SCRIPTED_PREFIX
from dm2_ray.distributed.random_streams import StreamRole, derive_seed
from dm2_ray.errors import RunFailed
from dm2_ray.world import BattleVector, ScriptedTeam, load_map
from dm2_ray.world.backends import build_battles
from dm2_ray.world.battles.backend import BattleBackend
from dm2_ray.world.battles.play_battles import TeamPolicy, play_battles
from dm2_ray.world.scripted import check_scripted_team
from dm2_ray.world.viewing.animation import Animation, MissingPackageError
from dm2_ray.world.viewing.battle_recording import BattleRecorder, BattleRecording
from dm2_ray.world.viewing.html_replay import write_html
from dm2_ray.world.viewing.render import write_gif, write_mp4

SUFFIXES = (".html", ".gif", ".mp4")
MAX_BATTLES = 100
"""How many battles are tried for a wanted outcome."""

Wanted = Literal["win", "loss"]


class NoSuchBattle(RunFailed, RuntimeError):
    """None of the battles tried had the wanted outcome."""


def check_files(paths: Sequence[Path]) -> None:
    """Checks the files to write before anything is played.

    Raises:
        ConfigError: A file name has none of the known suffixes.
        MissingPackageError: A package that a film needs is not installed.
    """
    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            raise ConfigError(f"--out {path}: its suffix names the format; expected one of {', '.join(SUFFIXES)}")
        if path.suffix.lower() == ".mp4" and find_spec("imageio_ffmpeg") is None:
            raise MissingPackageError(f"{path} needs the package imageio-ffmpeg: pip install 'dm2-ray[view]'")


def write_replay(
    recording: BattleRecording, path: Path, *, speed: float = 1.0, size: int | None = None, close_up: bool = False
) -> None:
    """Writes a recording in the format that the file's suffix names; the file appears whole or not at all.

    Args:
        recording: The battle.
        path: The file.
        speed: Of a film; 1 is the game's speed "Faster".
        size: Pixels of a film's longer side; None takes 480 for a GIF and 960 for an MP4.
        close_up: A film shows only the part of the battlefield that units reach.

    Raises:
        ConfigError, MissingPackageError: As `check_files`; the file cannot be written; the size is too small.
    """
    check_files([path])
    try:
        if path.suffix.lower() == ".html":
            write_html(recording, path)
        elif path.suffix.lower() == ".gif":
            write_gif(Animation(recording, speed=speed, size=size or 480, close_up=close_up), path)
        else:
            write_mp4(Animation(recording, fps=30, speed=speed, size=size or 960, close_up=close_up), path)
    except ValueError as error:
        raise ConfigError(f"--out {path}: {error}") from error
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot be written ({error})") from error


def record_battle(
    team_name: str,
    *,
    map_name: str | None = None,
    seed: int = 0,
    battle: int = 0,
    greedy: bool = True,
    until: Wanted | None = None,
) -> BattleRecording:
    """Plays one battle.

    Args:
        team_name: `scripted:NAME`, `zoo:MAP/NAME`, or the path of a checkpoint or run directory.
        map_name: SMAC map or scenario file; None takes a trained team's.
        seed: Of battles and actions.
        battle: Number of the battle, or of the first one tried.
        greedy: Take the most probable actions instead of sampled ones (trained teams only).
        until: Go on to the next battle, up to MAX_BATTLES of them, until one is won ("win") or not won ("loss").

    Returns:
        The recording; a trained team's has the series of `replay_annotations.annotate_agents`.

    Raises:
        ConfigError: The scripted team is unknown, or the map is not the trained team's.
        CheckpointError, PackedTeamError, UnknownMapError, UnsupportedMapError: The team or the map cannot be used.
        NoSuchBattle: None of the battles tried had the wanted outcome.
    """
    if team_name.startswith(SCRIPTED_PREFIX):
        return _replay_script(team_name.removeprefix(SCRIPTED_PREFIX), map_name, seed, battle, until)
    # torch and Ray take 3 s to import, and a scripted team needs neither.
    from dm2_ray.analysis.replay_annotations import annotate_agents
    from dm2_ray.distributed.rollout.stacked_policies import load_policies
    from dm2_ray.recording.recorder import check_same_map
    from dm2_ray.zoo import open_team

    trained = open_team(team_name)
    check_same_map(trained, map_name)
    battles = build_battles(trained.experiment().world, 1, seed)
    policies = load_policies(trained, greedy=greedy)
    how = "greedy" if greedy else "sampled actions"
    recorder = BattleRecorder(battles, team=f"{trained.variant}, {trained.env_steps:,} env steps, {how}")

    def play(number: int) -> NDArray[np.float32]:
        battles.reset(first_battle=number)
        # Seeded by the battle's number: a battle does not depend on those played before it.
        policies.reset_states(battles, seed=derive_seed(seed, StreamRole.EVALUATION_ACTIONS, number))
        return _play(battles, recorder, policies)

    observations = _search(play, recorder, battle, until)
    recording = recorder.recording
    return recording.with_series(**annotate_agents(trained, recording, observations))


def _replay_script(name: str, map_name: str | None, seed: int, battle: int, until: Wanted | None) -> BattleRecording:
    check_scripted_team(name)
    if map_name is None:
        raise ConfigError("a scripted team needs --map")
    battles = BattleVector(load_map(map_name), 1, seed=seed)
    team = ScriptedTeam(name, battles, seed=seed)
    recorder = BattleRecorder(battles, team=f"scripted team {name}")

    def play(number: int) -> NDArray[np.float32]:
        battles.reset(first_battle=number)
        team.reset_states(battles)
        return _play(battles, recorder, team)

    _search(play, recorder, battle, until)
    return recorder.recording


def _search(
    play: Callable[[int], NDArray[np.float32]], recorder: BattleRecorder, first: int, until: Wanted | None
) -> NDArray[np.float32]:
    """Plays battles until one has the wanted outcome; the recorder then holds it. Returns its observations."""
    if until is None:
        return play(first)
    for number in range(first, first + MAX_BATTLES):
        observations = play(number)
        if (recorder.recording.outcome == "won") == (until == "win"):
            return observations
    raise NoSuchBattle(
        f"none of {MAX_BATTLES} battles was {'won' if until == 'win' else 'lost'}: "
        "try others with --seed or --battle, or leave out --until"
    )


def _play(battles: BattleBackend, recorder: BattleRecorder, policy: TeamPolicy) -> NDArray[np.float32]:
    """Plays the battle that was just started to its end; returns what the agents saw before each step [T, N, O]."""
    recorder.begin()
    observations: list[NDArray[np.float32]] = []
    for step in play_battles(
        battles,
        policy,
        running=lambda: np.array([not recorder.has_ended]),
        before_step=lambda _: observations.append(battles.observations[0].copy()),
    ):
        recorder.step(step.actions[0])
        if step.dropped[0]:
            observations.clear()
    return np.array(observations)
