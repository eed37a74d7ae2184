"""The env runner of a centralised learner: the battles of a BattleEnvRunner, with their global states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ray.rllib.utils.annotations import override

from dm2_ray.actors.collector import BattleCollector
from dm2_ray.actors.env_runner import BattleEnvRunner, RolloutTask
from dm2_ray.mappo.joint_battles import JointBattles


class JointEnvRunner(BattleEnvRunner):
    """Returns one JointBattles where its base class returns one trajectory per agent."""

    @override(BattleEnvRunner)
    def make_module(self) -> None:
        super().make_module()
        self._collector = BattleCollector(self.env, self._stacked, keep_states=True)

    @override(BattleEnvRunner)
    def rollout(self, task: RolloutTask, policy_version: int, *weights: Mapping[str, np.ndarray]) -> tuple[Any, ...]:
        """Plays a task's battles: JointBattles and a RolloutReport; call with `num_returns`."""
        *trajectories, report = super().rollout(task, policy_version, *weights)
        kept = self._collector.global_states
        assert kept is not None
        battles = JointBattles(trajectories=tuple(trajectories), states=kept.states, final_states=kept.final_states)
        return battles, report
