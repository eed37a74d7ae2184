"""BattleBackend: what the rest of the system uses of battles, whoever simulates them.

`BattleVector` (the embedded engine) and `StarCraftVector` (the real game) are its two forms.

Shapes: B battles, N agents, M enemies, U = N + M units (agents first), A actions, O observation size, S state size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dm2_ray.world.battles.units_view import UnitsView
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import RulesTables
from dm2_ray.world.units.state import NONE, TARGET

if TYPE_CHECKING:  # It loads the compiler, which those who only name the type do without.
    from dm2_ray.world.engine.battle_step import BattleArrays


class BattleBackend(ABC):
    """B battles on one map, stepped together; a battle that ends is followed at once by the next of its column.

    All arrays are read-only views that the next call overwrites.

    Args:
        map_spec: The map.
        options: SMAC's constructor arguments.
        engine_settings: Free parameters of the embedded engine; its balance of units also guides scripted teams.
        rules: Tables of the map.
        battles: The battles' arrays.
        seed: Any integer.
        first_battle: Number of column 0's first battle, at least 0.
    """

    def __init__(
        self,
        map_spec: MapSpec,
        options: SmacOptions,
        engine_settings: EngineSettings,
        rules: RulesTables,
        battles: BattleArrays,
        *,
        seed: int,
        first_battle: int,
    ) -> None:
        self.map_spec = map_spec
        self.map_name = map_spec.name
        self.options = options
        self.engine_settings = engine_settings
        self.seed = seed
        self.first_battle = first_battle
        self.num_battles = len(battles.rewards)
        self.num_agents = rules.num_agents
        self.num_enemies = rules.num_enemies
        self.num_actions = rules.num_actions
        self.obs_size = rules.obs_size
        self.state_size = rules.state_size
        self.episode_limit = rules.episode_limit
        self._rules = rules
        self._battles = battles
        self._played = np.zeros((self.num_battles, self.num_agents), np.int64)
        self._dropped = np.zeros(self.num_battles, np.bool_)
        self._started = False

        self.observations: NDArray[np.float32] = _read_only(battles.observations)
        """[B, N, O]; zeros for the dead."""
        self.action_mask: NDArray[np.bool_] = _read_only(battles.action_mask)
        """[B, N, A] available actions; the dead have only action 0."""
        self.state: NDArray[np.float32] = _read_only(battles.state)
        """[B, S]"""
        self.alive: NDArray[np.bool_] = _read_only(battles.alive)
        """[B, N]"""
        self.battle_number: NDArray[np.int64] = _read_only(battles.battle_number)
        """[B] number of the battle being fought in each column."""
        self.battle_step: NDArray[np.int64] = _read_only(battles.steps)
        """[B] env steps since it began."""
        self.last_actions: NDArray[np.int64] = _read_only(battles.last_actions)
        """[B, N] joint action given in the last step, -1 before a battle's first."""
        self.played_actions: NDArray[np.int64] = _read_only(self._played)
        """[B, N] actions played in the last step by the running battles: with heuristic_ai the heuristic's actions (0
        for the dead and for medivacs that had nobody to heal), otherwise the given ones."""
        self.rewards: NDArray[np.float64] = _read_only(battles.rewards)
        """[B] team reward of the last step; like all below 0 or False where the battle was not running."""
        self.terminated: NDArray[np.bool_] = _read_only(battles.terminated)
        """[B] decided, or cut by the time limit without continuing_episode."""
        self.truncated: NDArray[np.bool_] = _read_only(battles.truncated)
        """[B] cut by the time limit with continuing_episode."""
        self.timed_out: NDArray[np.bool_] = _read_only(battles.timed_out)
        """[B] cut by the time limit, either way."""
        self.battle_won: NDArray[np.bool_] = _read_only(battles.battle_won)
        """[B]"""
        self.dropped: NDArray[np.bool_] = _read_only(self._dropped)
        """[B] the battle was lost with its game in the last step: it has no reward and no end, and what was seen of it
        does not count. Another has begun in its place, under the same number. Never True in the embedded engine."""
        self.dead_allies: NDArray[np.int64] = _read_only(battles.dead_allies)
        """[B] agents dead after the last step, before the auto-reset."""
        self.dead_enemies: NDArray[np.int64] = _read_only(battles.dead_enemies)
        """[B]"""
        self.final_observations: NDArray[np.float32] = _read_only(battles.final_observations)
        """[B, N, O] last observations of battles that ended in the last step; like all below, valid only there."""
        self.final_action_mask: NDArray[np.bool_] = _read_only(battles.final_action_mask)
        """[B, N, A]"""
        self.final_state: NDArray[np.float32] = _read_only(battles.final_state)
        """[B, S]"""

    @property
    @abstractmethod
    def backend(self) -> Literal["embedded", "starcraft"]:
        """Who simulates the battles."""

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
        number = self.first_battle if first_battle is None else first_battle
        check_first_battle(number)
        return number


def check_num_battles(num_battles: int) -> None:
    """Raises ValueError unless there is at least one battle."""
    if num_battles < 1:
        raise ValueError(f"num_battles is {num_battles}; it must be at least 1")


def check_first_battle(first_battle: int) -> None:
    """Raises ValueError for a negative battle number."""
    if first_battle < 0:
        raise ValueError(f"first_battle is {first_battle}; it must be at least 0")


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
