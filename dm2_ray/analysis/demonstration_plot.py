"""Draws what a demonstration set contains as one picture. Needs neither torch nor Ray."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dm2_ray.analysis.visitation_figure import SUFFIXES
from dm2_ray.analysis.visitation_plots import KnownWorld, draw_team
from dm2_ray.config.errors import ConfigError
from dm2_ray.demonstrations import JointTrajectories, Manifest
from dm2_ray.runs.joint_rollouts import JointRollouts
from dm2_ray.terminal import shorten_path
from dm2_ray.world.maps.map_spec import UnknownMapError
from dm2_ray.world.maps.registry import load_map
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import build_tables

MAX_VALUES = 2**27
"""Largest number of observed values that are read; of a larger set, every second (third, ...) episode is drawn."""

_KINDS = {
    "checkpoint": "checkpoint",
    "scripted": "scripted team",
    "imported": "imported from",
    "merged": "merged from",
}


def draw_set_picture(
    path: Path, out: Path, *, agent: int | None = None, map_name: str | None = None
) -> tuple[int, str | None]:
    """Draws the set in `path` into the file `out`.

    Args:
        path: Directory of the set.
        out: File to write: .png, .svg or .pdf.
        agent: Draw only this agent.
        map_name: SMAC map or scenario; None takes the manifest's.

    Returns:
        Number of episodes drawn, and one line about what could not be drawn, or None.

    Raises:
        DemonstrationError: The set cannot be opened.
        UnknownMapError: There is no map `map_name`.
        ScenarioError: The scenario `map_name` is not valid.
        ConfigError: No such agent, a map that is not the set's, an unknown file format, or a file that cannot be
            written.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out {out}: its suffix names the format; expected one of {', '.join(SUFFIXES)}")
    demonstrations = JointTrajectories.open(path)
    manifest = demonstrations.manifest
    if agent is not None and agent >= manifest.num_agents:
        raise ConfigError(f"--agent {agent}: the set has agents 0 to {manifest.num_agents - 1}")
    world, lack = _world_of(manifest, path, map_name)
    every = -(-manifest.env_steps * manifest.num_agents * manifest.obs_size // MAX_VALUES)
    visits = JointRollouts.from_demonstrations(demonstrations, np.arange(0, manifest.episodes, every))
    agents = None if agent is None else [agent]
    try:
        draw_team(visits, out, title=_title(manifest, visits.num_episodes), world=world, agents=agents)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error})") from None
    return visits.num_episodes, lack


def _world_of(manifest: Manifest, path: Path, map_name: str | None) -> tuple[KnownWorld, str | None]:
    """What is known about the set's world, and one line about what is not known."""
    unknown = KnownWorld(spec=None, tables=None)
    not_drawn = "positions are not drawn"
    try:
        spec = load_map(map_name or manifest.map)
    except UnknownMapError:
        if map_name is not None:
            raise
        return unknown, f"no map {manifest.map} here: {not_drawn}; name its scenario with --map FILE"
    if (spec.name, spec.scenario_hash) != (manifest.map, manifest.scenario_hash):
        if map_name is not None:
            raise ConfigError(
                f"{path} was recorded on {manifest.map}, not on {map_name}, or its scenario had another content"
            )
        return unknown, f"another scenario is called {manifest.map} here: {not_drawn}; name the set's with --map FILE"
    tables = build_tables(spec, SmacOptions.from_arguments(manifest.smac))
    if (tables.num_agents, tables.num_actions) != (manifest.num_agents, manifest.num_actions):
        return unknown, f"{spec.name} has other agents or actions than the set: {not_drawn}"
    if tables.obs_size != manifest.obs_size:
        lack = f"observations of {manifest.obs_size} numbers, {tables.obs_size} on {spec.name}: {not_drawn}"
        return KnownWorld(spec=spec, tables=None), lack
    return KnownWorld(spec=spec, tables=tables), None


def _title(manifest: Manifest, drawn: int) -> str:
    policy = manifest.policy
    how = {True: ", greedy", False: ", sampled actions", None: ""}[policy.greedy]
    some = "" if drawn == manifest.episodes else f", {drawn:,} of them drawn"
    parts = [f"{manifest.episode_length_mean:.1f} env steps a battle"]
    if manifest.return_mean is not None:
        parts.insert(0, f"return {manifest.return_mean:.2f}")
    parts.insert(0, "win rate not recorded" if manifest.win_rate is None else f"win rate {manifest.win_rate:.2f}")
    return (
        f"{manifest.map}: {manifest.episodes:,} joint episodes{some}\n"
        f"{_KINDS[policy.kind]} {shorten_path(policy.source)}{how}\n{', '.join(parts)}"
    )
