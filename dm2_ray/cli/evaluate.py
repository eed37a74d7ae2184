"""`dm2 evaluate`."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from dm2_ray.config.schema import WorldSettings
from dm2_ray.config.team_names import SCRIPTED_PREFIX
from dm2_ray.errors import UserError
from dm2_ray.recording.recorder import check_same_map
from dm2_ray.runs import evaluation
from dm2_ray.world.configured import resolve_world
from dm2_ray.zoo import open_team


def evaluate(options: argparse.Namespace) -> int:
    if options.against is None and (options.out is not None or options.agent is not None):
        raise UserError("--out and --agent are for a comparison: give --against SET, too")
    if options.checkpoint.startswith(SCRIPTED_PREFIX):
        if options.map is None:
            raise UserError("a scripted team needs --map")
        world = resolve_world(WorldSettings(map=options.map))
        name = options.checkpoint.removeprefix(SCRIPTED_PREFIX)
        team, map_name = options.checkpoint, world.map
        play, watch = (
            partial(evaluation.evaluate_script, name, world),
            partial(evaluation.evaluate_script_with_rollouts, name, world),
        )
    else:
        trained = open_team(options.checkpoint, best=options.best)
        world, greedy = trained.experiment().world, not options.stochastic
        check_same_map(trained, options.map)
        team, map_name = trained.name, trained.map
        play = partial(evaluation.evaluate_checkpoint, trained, greedy=greedy)
        watch = partial(evaluation.evaluate_checkpoint_with_rollouts, trained, greedy=greedy)
    more, text = {}, ""
    if options.against is None:
        result = play(episodes=options.episodes, seed=options.seed)
    else:
        # matplotlib takes 0.5 s to import; without --against it is not needed.
        from dm2_ray.analysis.visitation_report import load_experts, visitation_report

        experts = load_experts(Path(options.against), world, options.agent)
        result, visits = watch(episodes=options.episodes, seed=options.seed)
        report = visitation_report(team, visits, experts, world, options.seed)
        more, text = {"against": report.record()}, f"\n\n{report.text()}"
        if options.out is not None:
            text += f"\n\n{report.write(Path(options.out), options.agent)}"
    if options.json:
        print(json.dumps({"checkpoint": team, "map": map_name, **evaluation.result_record(result), **more}))
        return 0
    low, high = result.win_rate_interval
    print(
        f"{team} on {map_name}: win rate {result.win_rate:.3f} [{low:.3f}, {high:.3f}], "
        f"return {result.return_mean:.2f}, {result.episode_length_mean:.1f} steps a battle, {result.episodes} battles"
        f"{text}"
    )
    return 0
