"""BattleBackend: the interface of battles for the rest of the system, whichever program simulates them.

`BattleVector` (the embedded engine) and `StarCraftVector` (the real game) implement it.

Shapes: B battles, N agents, M enemies, U = N + M units (agents first), A actions, O observation size, S state size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dm2_ray.world.battles.units_view import UnitsView
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.maps.registry import load_map
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import build_tables
from dm2_ray.world.units.state import NONE, TARGET

_Array = TypeVar("_Array", bound=NDArray[Any])


class BattleBackend(ABC):
    """B battles on one map, stepped together; when a battle ends, the next one of its column begins at once.

    All arrays are read-only views that the next call overwrites.

    Args:
        map_name: Name of a packaged map, or a MapSpec.
        num_battles: B, at least 1.
        engine_settings: Free parameters of the embedded engine; scripted teams always use its balance of units.
        smac_arguments: SMAC's constructor arguments.
        seed: Any integer.
        first_battle: Number of column 0's first battle, at least 0.

    Attributes:
        observations: [B, N, O]; zeros for the dead.
        action_mask: [B, N, A] available actions; the dead have only action 0.
        state: [B, S].
        alive: [B, N].
        battle_number: [B] number of the battle that is running in each column.
        battle_step: [B] env steps since it began.
        last_actions: [B, N] joint action given in the last step, -1 before a battle's first.
        played_actions: [B, N] actions played in the last step by the running battles: with heuristic_ai the
            heuristic's actions (0 for the dead and for medivacs with nothing to heal), otherwise the given ones.
        rewards: [B] team reward of the last step. This and the following arrays are 0 or False where the battle was
            not running.
        terminated: [B] decided, or cut by the time limit without continuing_episode.
        truncated: [B] cut by the time limit with continuing_episode.
        timed_out: [B] cut by the time limit, either way.
        battle_won: [B].
        dropped: [B] the battle was lost with its game in the last step: it has no reward and no end, and its earlier
            steps do not count. Another battle has begun in its place, under the same number. Never True in the embedded
            engine.
        dead_allies: [B] agents dead after the last step, before the auto-reset.
        dead_enemies: [B].
        final_observations: [B, N, O] last observations of battles that ended in the last step. This and the following
            arrays are valid only for those battles.
        final_action_mask: [B, N, A].
        final_state: [B, S].

    Raises:
        UnknownMapError: No such map.
        TypeError, ValueError: An unknown SMAC argument, a value out of range.
    """

    def __init__(
        self,
        map_name: str | MapSpec,
        num_battles: int,
        engine_settings: EngineSettings,
        smac_arguments: Mapping[str, Any],
        *,
        seed: int,
        first_battle: int,
    ) -> None:
        # Loads the compiler: 0.4 s that modules which only name the type do without.
        from dm2_ray.world.engine.battle_step import allocate_battles

        if num_battles < 1:
            raise ValueError(f"num_battles is {num_battles}; it must be at least 1")
        self.first_battle = _checked_number(first_battle)
        self.map_spec = map_name if isinstance(map_name, MapSpec) else load_map(map_name)
        self.map_name = self.map_spec.name
        self.options = SmacOptions.from_arguments(smac_arguments)
        self.engine_settings = engine_settings
        self.seed = seed
        self.num_battles = num_battles
        self._rules = rules = build_tables(self.map_spec, self.options, balance=engine_settings.balance)
        self.num_agents = rules.num_agents
        self.num_enemies = rules.num_enemies
        self.num_actions = rules.num_actions
        self.obs_size = rules.obs_size
        self.state_size = rules.state_size
        self.episode_limit = rules.episode_limit
        self._battles = battles = allocate_battles(num_battles, rules)
        self._played = np.zeros((num_battles, self.num_agents), np.int64)
        self._dropped = np.zeros(num_battles, np.bool_)
        self._started = False

        self.observations = _read_only(battles.observations)
        self.action_mask = _read_only(battles.action_mask)
        self.state = _read_only(battles.state)
        self.alive = _read_only(battles.alive)
        self.battle_number = _read_only(battles.battle_number)
        self.battle_step = _read_only(battles.steps)
        self.last_actions = _read_only(battles.last_actions)
        self.played_actions = _read_only(self._played)
        self.rewards = _read_only(battles.rewards)
        self.terminated = _read_only(battles.terminated)
        self.truncated = _read_only(battles.truncated)
        self.timed_out = _read_only(battles.timed_out)
        self.battle_won = _read_only(battles.battle_won)
        self.dropped = _read_only(self._dropped)
        self.dead_allies = _read_only(battles.dead_allies)
        self.dead_enemies = _read_only(battles.dead_enemies)
        self.final_observations = _read_only(battles.final_observations)
        self.final_action_mask = _read_only(battles.final_action_mask)
        self.final_state = _read_only(battles.final_state)

    @property
    @abstractmethod
    def backend(self) -> Literal["embedded", "starcraft"]:
        """The program that simulates the battles."""

    @property
    @abstractmethod
    def engine_version(self) -> str:
        """Version of the simulator, as exactly as it is known so far."""

    @abstractmethod
    def reset(self, *, seed: int | None = None, first_battle: int | None = None) -> None:
        """Start battles number first_battle + b."""

    @abstractmethod
    def step(self, actions: ArrayLike, running: ArrayLike | None = None) -> None:
        """Play one env step with joint actions [B, N] in the battles where `running` [B] is True."""

    @abstractmethod
    def close(self) -> None:
        """Release what the battles hold; nothing more will be played."""

    def units(self) -> UnitsView:
        """The units now."""
        return UnitsView.from_arrays(self.num_agents, self._battles.units, self._battles.flags[:, TARGET])

    def final_units(self) -> UnitsView:
        """The units at the end of battles that ended in the last step; valid only there."""
        no_targets = np.full((self.num_battles, self.num_agents + self.num_enemies), NONE, np.int64)
        return UnitsView.from_arrays(self.num_agents, self._battles.final_units, no_targets)

    def _first_number(self, first_battle: int | None) -> int:
        """The number that `reset` begins with, by default the constructor's."""
        return self.first_battle if first_battle is None else _checked_number(first_battle)


def _checked_number(first_battle: int) -> int:
    if first_battle < 0:
        raise ValueError(f"first_battle is {first_battle}; it must be at least 0")
    return int(first_battle)  # a NumPy integer would have the kernels compiled once more


def _read_only(array: _Array) -> _Array:
    view = array.view()
    view.flags.writeable = False
    return view
