"""`dm2 demos verify`, `inspect` and `plot`: what is in a demonstration set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dm2_ray.config.schema import WorldSettings
from dm2_ray.demonstrations import DemonstrationError, JointTrajectories
from dm2_ray.demonstrations.merging import manifest_parts
from dm2_ray.demonstrations.verifying import check_map_matches, verify_set
from dm2_ray.statistics import wilson_interval
from dm2_ray.terminal import format_table
from dm2_ray.world.configured import resolve_world

if TYPE_CHECKING:
    from dm2_ray.demonstrations import Manifest, Part, Provenance


def verify(options: argparse.Namespace) -> int:
    world = None if options.map is None else resolve_world(WorldSettings(map=options.map))
    try:
        demonstrations = verify_set(options.set)
        if world is not None:
            check_map_matches(demonstrations, world)
    except DemonstrationError as error:
        if not options.json:
            raise
        print(json.dumps({"set": options.set, "ok": False, "problem": str(error)}))
        return 2
    manifest = demonstrations.manifest
    if options.json:
        print(json.dumps({"set": options.set, "ok": True, "content_hash": manifest.content_hash}))
        return 0
    fits = "" if world is None else f", fits {world.map}"
    print(f"{options.set}: OK{fits}; {manifest.episodes} whole episodes, {manifest.env_steps:,} env steps, every value "
          f"checked")  # fmt: skip
    return 0


def inspect(options: argparse.Namespace) -> int:
    demonstrations = JointTrajectories.open(options.set)
    manifest = demonstrations.manifest
    statistics = _statistics(demonstrations)
    if options.json:
        print(json.dumps({**manifest.model_dump(mode="json"), "statistics": statistics}))
        return 0
    rows = {
        "map": f"{manifest.map} ({manifest.backend} engine, version {manifest.engine_version})",
        "joint episodes": f"{manifest.episodes:,} ({manifest.env_steps:,} env steps)",
        "win rate": _format_rate(manifest.win_rate, statistics["win_rate_interval"]),
        "returns": _spread_in_words(statistics["returns"]),
        "episode lengths": _spread_in_words(statistics["episode_lengths"]),
        "sizes": f"{manifest.num_agents} agents, observations of {manifest.obs_size}, {manifest.num_actions} actions",
        "shards": str(len(manifest.shards)),
    }
    for name, settings in (("engine settings", manifest.engine), ("SMAC options", manifest.smac)):
        if settings:
            rows[name] = ", ".join(f"{key}={value}" for key, value in settings.items())
    if manifest.missing:
        rows["missing"] = f"{', '.join(manifest.missing)}: nobody recorded them"
    parts = manifest_parts(manifest)
    if len(parts) == 1:
        rows["team"] = _team_in_words(manifest.policy)
    for number, part in enumerate(parts if len(parts) > 1 else ()):
        rows[f"part {number}"] = _part_in_words(part)
    print(f"{options.set}: intact")
    print(format_table(list(rows.items()), indent="  "))
    return 0


def plot(options: argparse.Namespace) -> int:
    # matplotlib and numba take 1 s to import; the other reports need neither.
    from dm2_ray.analysis.demonstration_plot import draw_set_picture

    episodes, lack = draw_set_picture(Path(options.set), options.out, agent=options.agent, map_name=options.map)
    print(f"{options.out}: {episodes:,} joint episodes of {options.set}{'' if lack is None else f' ({lack})'}")
    return 0


def _statistics(demonstrations: JointTrajectories) -> dict[str, Any]:
    manifest = demonstrations.manifest
    rate = manifest.win_rate
    return {
        "win_rate_interval": None if rate is None else wilson_interval(rate, manifest.episodes),
        "returns": None if "rewards" in manifest.missing else _spread(demonstrations.returns),
        "episode_lengths": _spread(demonstrations.episode_lengths),
    }


def _spread(values: npt.NDArray[np.generic]) -> dict[str, float]:
    names = ("min", "q25", "median", "q75", "max")
    quantiles = np.quantile(values.astype(np.float64), (0, 0.25, 0.5, 0.75, 1))
    return {"mean": float(values.mean()), **{name: float(value) for name, value in zip(names, quantiles, strict=True)}}


def _spread_in_words(spread: dict[str, float] | None) -> str:
    if spread is None:
        return "not known"
    return "mean {mean:.2f}; {min:.2f} to {max:.2f}, the middle half {q25:.2f} to {q75:.2f}".format(**spread)


def _format_rate(rate: float | None, interval: tuple[float, float] | None) -> str:
    return "not known" if rate is None or interval is None else f"{rate:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _team_in_words(policy: Provenance) -> str:
    words = [f"{policy.kind} {policy.source}"]
    if policy.greedy is not None:
        words.append("greedy" if policy.greedy else "sampled actions")
    if policy.epsilon is not None:
        words.append(f"random actions with probability {policy.epsilon:g}")
    if policy.seed is not None:
        words.append(f"seed {policy.seed}")
    if policy.trained_env_steps is not None:
        words.append(f"trained for {policy.trained_env_steps:,} env steps")
    if policy.target_win_rate is not None:
        words.append(f"chosen for a win rate of {policy.target_win_rate:g}")
    if str(policy.filters) != "none":
        words.append(f"kept of {policy.battles_played:,} battles if {policy.filters}")
    return ", ".join(words)


def _part_in_words(part: Part | Manifest) -> str:
    rate = "" if part.win_rate is None else f", win rate {part.win_rate:.3f}"
    return f"{part.episodes:,} episodes{rate}: {_team_in_words(part.policy)}"
