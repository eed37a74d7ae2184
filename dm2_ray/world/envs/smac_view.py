"""The current battle through SMAC's methods: observations, available actions, the state, the units.

Shapes: N agents, M enemies, A actions, O observation size, S state size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.battles.unit_records import Sides, parse_sides
from dm2_ray.world.envs.single_battle import SingleBattle
from dm2_ray.world.envs.smac_interface import SmacInterface
from dm2_ray.world.envs.smac_units import SmacUnit
from dm2_ray.world.smac.rules import visibility


class SmacView(SmacInterface):
    """Reads the one battle of a vector; after the battle's end its last state, until the next battle begins.

    Args:
        battles: A vector of one battle.
    """

    def __init__(self, battles: BattleVector) -> None:
        super().__init__(battles.map_spec, battles.options, battles.engine_settings.balance)
        self._battle = SingleBattle(battles)
        self._episode_steps = 0
        self.last_action = np.zeros((self.n_agents, self.n_actions))
        """[N, A] one-hot, zeros before a battle's first step."""

    # Observations, state and available actions.

    def get_obs(self) -> list[NDArray[np.floating]]:
        """N observations [O]: float32, or float64 with obs_timestep_number."""
        return [self._with_time(obs) for obs in self._battle.view("observations")]

    def get_obs_agent(self, agent_id: int) -> NDArray[np.floating]:
        """[O]"""
        return self._with_time(self._battle.view("observations")[agent_id])

    def _with_time(self, obs: NDArray[np.float32]) -> NDArray[np.floating]:
        """A copy of an agent's observation [O], with the exact time if there is one."""
        if not self.obs_timestep_number:
            return obs.copy()
        # Quirk: SMAC appends the time as a Python float.
        exact = obs.astype(np.float64)
        exact[-1] = self._episode_steps / self.episode_limit
        return exact

    def get_state(self) -> NDArray[np.float32]:
        """[S]"""
        return self._battle.view("state").copy()

    def get_state_dict(self) -> dict[str, Any]:
        """The parts of the state in 64 bits: allies [N, columns], enemies [M, columns], last_action [N, A], timestep;
        the last two only if the options put them into the state."""
        units = self.units()
        allies = self._unit_index.side(units.allies, 0).values()
        enemies = self._unit_index.side(units.enemies, self.n_agents).values()
        parts: dict[str, Any] = {
            "allies": np.array([self._state_row(unit, ally=True) for unit in allies]),
            "enemies": np.array([self._state_row(unit, ally=False) for unit in enemies]),
        }
        if self.state_last_action:
            parts["last_action"] = self.last_action
        if self.state_timestep_number:
            parts["timestep"] = self._episode_steps / self.episode_limit
        return parts

    def get_avail_actions(self) -> list[list[int]]:
        """N lists of A zeros and ones."""
        rows: list[list[int]] = self._battle.view("action_mask").astype(np.int64).tolist()
        return rows

    def get_avail_agent_actions(self, agent_id: int) -> list[int]:
        """A zeros and ones."""
        row: list[int] = self._battle.view("action_mask")[agent_id].astype(np.int64).tolist()
        return row

    def get_visibility_matrix(self) -> NDArray[np.bool_]:
        """[N, N + M]: which living units, agents first, each living agent sees."""
        units = self._battle.units()
        visible = np.zeros((self.n_agents, self.n_agents + self.n_enemies), dtype=np.bool_)
        x, y, health = (np.array(column[0]) for column in (units.x, units.y, units.health))
        visibility(self._tables, x, y, health, visible)
        return visible

    # Units.

    def units(self) -> Sides:
        """All units: `allies` and `enemies`, lists of records in SMAC's order."""
        return parse_sides(self._battle.battles.map_spec, self._battle.units(), 0)

    @property
    def agents(self) -> dict[int, SmacUnit]:
        """The agents' units by number; empty before the first reset()."""
        return self._unit_index.side(self.units().allies, 0) if self._battle.has_begun else {}

    @property
    def enemies(self) -> dict[int, SmacUnit]:
        """The enemies by number; empty before the first reset()."""
        return self._unit_index.side(self.units().enemies, self.n_agents) if self._battle.has_begun else {}

    def get_unit_by_id(self, a_id: int) -> SmacUnit:
        """The unit of one agent."""
        return self._unit_index.unit(self.units().allies[a_id], a_id)

    @property
    def death_tracker_ally(self) -> NDArray[np.float64]:
        """[N] 1 for dead agents."""
        return self._deaths(self.agents, self.n_agents)

    @property
    def death_tracker_enemy(self) -> NDArray[np.float64]:
        """[M] 1 for dead enemies."""
        return self._deaths(self.enemies, self.n_enemies)

    @staticmethod
    def _deaths(units: dict[int, SmacUnit], count: int) -> NDArray[np.float64]:
        return np.array([float(unit.health == 0) for unit in units.values()]) if units else np.zeros(count)

    def only_medivac_left(self, ally: bool) -> bool:
        """Whether a side has lost by the rule of MMM maps: only medivacs are left (of the enemy, exactly one)."""
        if self.map_type != "MMM":
            return False
        records = self.units().allies if ally else self.units().enemies
        kinds = [record.kind for record in records if record.health > 0]
        return all(kind == "medivac" for kind in kinds) if ally else kinds == ["medivac"]
