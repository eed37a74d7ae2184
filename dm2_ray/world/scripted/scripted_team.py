"""Scripted teams: experts without training, and baselines, that play the agents' side.

Shapes: B battles, N agents, M enemies, U = N + M units (agents first), A actions.

* ``random``: uniform among the available actions; the lower bound of every comparison.
* ``nearest``: SMAC's built-in heuristic, each agent attacks the nearest enemy until it dies.
* ``focus_fire``: agents hold their position and shoot the weakest enemy in range.
* ``kite``: like focus_fire, but ranged agents step back from melee enemies while their weapons cool down.
* ``hit_and_run``: like kite, but ranged agents step back from melee enemies that are near whether their weapons are
  ready or not: unlike cooldowns, distances are in SMAC's observations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.battles.backend import BattleBackend
from dm2_ray.world.scripted import check_scripted_team
from dm2_ray.world.scripted.kiting import KiteRules, choose_kite
from dm2_ray.world.scripted.scripted_kernels import (
    NO_ENEMY,
    Situation,
    UnitKnowledge,
    choose_focus_fire,
    choose_nearest,
    choose_random,
)
from dm2_ray.world.unit_kinds import UnitKind, unit_kind
from dm2_ray.world.units.tables import MELEE_RANGE

# Found by random search over the maps with melee enemies: they win nearly every battle, on 2m_vs_1z one in seven.
KITE_RULES = KiteRules(
    shoot_margin=4.8, ready_margin=2.1, bystander_margin=2.4, ready_loops=6.3,
    wall_weight=0.29, inertia=0.0, flock_weight=0.22,
)  # fmt: skip
# Found by random search on 3s_vs_3z. With equal margins the weapon's cooldown plays no role.
HIT_AND_RUN_RULES = KiteRules(
    shoot_margin=1.4, ready_margin=1.4, bystander_margin=1.9, ready_loops=0.0,
    wall_weight=0.5, inertia=0.0, flock_weight=0.4,
)  # fmt: skip
_SEED_RANGE = 2**64


class ScriptedTeam:
    """Plays all agents of B battles by a fixed rule; chooses available actions only.

    Unlike a learned policy it sees the engine's complete unit state, weapon cooldowns included.

    Args:
        name: One of SCRIPTED_TEAMS.
        battles: The battles to play, or others on the same map with the same number of columns.
        seed: Used by the ``random`` team, whose actions depend only on (seed, battle number, step, agent).

    Raises:
        ConfigError: No such team.
    """

    def __init__(self, name: str, battles: BattleBackend, seed: int = 0) -> None:
        check_scripted_team(name)
        self.name = name
        self.map_name = battles.map_name
        self.kite_rules = HIT_AND_RUN_RULES if name == "hit_and_run" else KITE_RULES
        self._seed_word = np.uint64(seed % _SEED_RANGE)
        self._knowledge = _build_knowledge(battles)
        self._targets = np.full((battles.num_battles, battles.num_agents), NO_ENEMY, np.int64)

    def reset_states(self, battles: BattleBackend) -> None:
        """Forget all targets: all battles start again.

        Raises:
            ValueError: The battles are on another map, or their number differs from that of the constructor's.
        """
        shape = (battles.num_battles, battles.num_agents)
        if battles.map_name != self.map_name or shape != self._targets.shape:
            raise ValueError(
                f"this team plays {self._targets.shape[0]} battles on {self.map_name!r}, "
                f"not {battles.num_battles} on {battles.map_name!r}"
            )
        self._targets[:] = NO_ENEMY

    def reset_finished(self, finished: NDArray[np.bool_]) -> None:
        """Forget the targets in the columns where `finished` [B] is True: new battles have started there."""
        self._targets[finished] = NO_ENEMY

    def act(self, battles: BattleBackend) -> NDArray[np.int64]:
        """Joint actions [B, N] for all battles as they are now."""
        actions = np.zeros((battles.num_battles, battles.num_agents), np.int64)
        units = battles.units()
        columns = units.x, units.y, units.health, units.shield, units.cooldown
        now = Situation(battles.action_mask, *columns, battles.last_actions, battles.battle_number, battles.battle_step)
        if self.name == "random":
            choose_random(now, self._seed_word, actions)
        elif self.name == "nearest":
            choose_nearest(self._knowledge, now, self._targets, actions)
        elif self.name == "focus_fire":
            choose_focus_fire(self._knowledge, now, actions)
        else:
            choose_kite(self._knowledge, self.kite_rules, now, actions)
        return actions


def _build_knowledge(battles: BattleBackend) -> UnitKnowledge:
    spec = battles.map_spec
    kinds = [unit_kind(name, battles.engine_settings.balance) for name in (*spec.ally_kinds, *spec.enemy_kinds)]
    ranges = np.array([kind.weapon.range if kind.weapon is not None else 0.0 for kind in kinds])
    radii = np.array([kind.radius for kind in kinds])
    return UnitKnowledge(
        num_agents=spec.num_agents,
        reach=(ranges + radii)[:, None] + radii[None, :],
        stride=np.array([kind.speed_per_loop for kind in kinds]) * battles.options.step_mul,
        is_melee=np.array([kind.weapon is not None and kind.weapon.range < MELEE_RANGE for kind in kinds]),
        can_hit=np.array([[_can_hit(kind, other) for other in kinds] for kind in kinds]),
        is_healer=np.array([kind.healing is not None for kind in kinds]),
        health_max=np.array([kind.health for kind in kinds]),
        walkable=np.array(spec.walkable),
    )


def _can_hit(kind: UnitKind, other: UnitKind) -> bool:
    return kind.weapon is not None and (kind.weapon.hits_air or not other.flies)
