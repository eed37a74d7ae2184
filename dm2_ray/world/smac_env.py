"""One battle under SMAC's own method names, for code written against oxwhirl/smac's StarCraft2Env (PyMARL and kin).

Shapes: N agents, M enemies, A actions, O observation size, S state size.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.battles import BattleVector
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.maps import MapSpec
from dm2_ray.world.rules import build_tables, visibility


class SMACEnv:
    """One battle at a time on a packaged map, played by the embedded engine.

    Returns have SMAC's shapes and types; SMAC's quirks are kept, among them: with obs_timestep_number observations are
    float64 and one longer than `get_obs_size()` says. Differences: an unavailable action raises ValueError instead of
    failing an assertion, `step` refuses to go on after the end of a battle, and the win rate of no battle at all is 0.

    Args:
        map_name: name of a packaged map, or a MapSpec.
        seed: equal seeds give equal sequences of battles; None draws one from the operating system.
        engine: free parameters of the engine.
        **smac_arguments: SMAC's constructor arguments.

    Raises:
        UnknownMapError, TypeError, ValueError: an unknown map, an unknown argument, a value out of range.
    """

    def __init__(
        self,
        map_name: str | MapSpec,
        seed: int | None = 0,
        *,
        engine: EngineSettings | None = None,
        **smac_arguments: Any,
    ) -> None:
        self._seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self._battles = BattleVector(map_name, 1, self._seed, engine=engine, **smac_arguments)
        self.map_name = self._battles.map_name
        self.n_agents: int = self._battles.num_agents
        self.n_enemies: int = self._battles.num_enemies
        self.n_actions: int = self._battles.num_actions
        self.episode_limit: int = self._battles.episode_limit
        self._tables = build_tables(
            self._battles.map_spec, self._battles.switches, balance=self._battles.engine_settings.balance
        )
        self._is_under_way = False
        self._has_begun = False
        self._t = 0
        self._battles_game = self._battles_won = self._timeouts = 0

    def reset(self) -> tuple[list[NDArray[np.floating]], NDArray[np.float32]]:
        """Begin the next battle; returns `get_obs()` and `get_state()`."""
        if not self._has_begun:
            self._battles.reset()
        elif self._is_under_way:
            self._battles.reset(first_battle=int(self._battles.battle_number[0]) + 1)
        # Otherwise the battle's end has begun the next one already.
        self._has_begun = self._is_under_way = True
        self._t = 0
        return self.get_obs(), self.get_state()

    def step(self, actions: Iterable[SupportsIndex]) -> tuple[float, bool, dict[str, Any]]:
        """Play one joint action [N].

        Returns:
            team reward; terminated (also at the time limit); info with battle_won, dead_allies, dead_enemies and, at
            the time limit with continuing_episode, episode_limit.

        Raises:
            RuntimeError: no battle is under way.
            TypeError, ValueError: actions are not integers, of the wrong number, or not available.
        """
        if not self._is_under_way:
            raise RuntimeError("no battle is under way: call reset() first")
        battles = self._battles
        battles.step([[index(action) for action in actions]])
        self._t += 1
        terminated = bool(battles.terminated[0] or battles.truncated[0])
        info: dict[str, Any] = {
            "battle_won": bool(battles.battle_won[0]),
            "dead_allies": int(battles.dead_allies[0]),
            "dead_enemies": int(battles.dead_enemies[0]),
        }
        if battles.truncated[0]:
            info["episode_limit"] = True
        if terminated:
            self._is_under_way = False
            self._battles_game += 1
            self._battles_won += info["battle_won"]
            self._timeouts += bool(battles.timed_out[0])
        return float(battles.rewards[0]), terminated, info

    def _require_battle(self) -> None:
        if not self._has_begun:
            raise RuntimeError("no battle has begun: call reset() first")

    def get_obs(self) -> list[NDArray[np.floating]]:
        """N observations [O]: float32, or float64 with obs_timestep_number."""
        self._require_battle()
        battles = self._battles
        obs: NDArray[np.floating] = (battles.observations if self._is_under_way else battles.final_observations)[0]
        if self._tables.obs_timestep_number:
            obs = obs.astype(np.float64)
            obs[:, -1] = self._t / self.episode_limit
        return [row.copy() for row in obs]

    def get_obs_agent(self, agent_id: int) -> NDArray[np.floating]:
        """[O]"""
        return self.get_obs()[agent_id]

    def get_obs_size(self) -> int:
        """O as SMAC states it (see the class)."""
        return self._tables.obs_size - self._tables.obs_timestep_number

    def get_state(self) -> NDArray[np.float32]:
        """[S]"""
        self._require_battle()
        return (self._battles.state if self._is_under_way else self._battles.final_state)[0].copy()

    def get_state_size(self) -> int:
        """S as SMAC states it."""
        if self._tables.obs_instead_of_state:
            return self.n_agents * self.get_obs_size()
        return self._tables.state_size

    def get_avail_actions(self) -> list[list[int]]:
        """N lists of A zeros and ones."""
        self._require_battle()
        mask = self._battles.action_mask if self._is_under_way else self._battles.final_action_mask
        rows: list[list[int]] = mask[0].astype(np.int64).tolist()
        return rows

    def get_avail_agent_actions(self, agent_id: int) -> list[int]:
        """A zeros and ones."""
        return self.get_avail_actions()[agent_id]

    def get_total_actions(self) -> int:
        """A"""
        return self.n_actions

    def get_visibility_matrix(self) -> NDArray[np.bool_]:
        """[N, N + M]: which living units, agents first, each living agent sees."""
        self._require_battle()
        units = self._battles.units() if self._is_under_way else self._battles.final_units()
        visible = np.zeros((self.n_agents, self.n_agents + self.n_enemies), dtype=np.bool_)
        x, y, health = (np.array(column[0]) for column in (units.x, units.y, units.health))
        visibility(self._tables, x, y, health, visible)
        return visible

    def get_obs_move_feats_size(self) -> int:
        """Length of an observation's move block."""
        return self._tables.enemies_at

    def get_obs_enemy_feats_size(self) -> tuple[int, int]:
        """Rows and row length of an observation's enemy block."""
        return self.n_enemies, self._tables.enemy_width

    def get_obs_ally_feats_size(self) -> tuple[int, int]:
        """Rows and row length of an observation's ally block."""
        return self.n_agents - 1, self._tables.ally_width

    def get_obs_own_feats_size(self) -> int:
        """Length of an observation's own block."""
        return self.get_obs_size() - self._tables.own_at

    def get_env_info(self) -> dict[str, Any]:
        """Sizes, and the names of the columns in the state's rows of agents and of enemies."""
        shields = ("shield",)
        types = tuple(f"type_{k}" for k in range(self._tables.unit_type_bits))
        place = ("rel_x", "rel_y")
        ally = ("health", "energy/cooldown", *place, *(shields if self._tables.ally_shields else ()), *types)
        enemy = ("health", *place, *(shields if self._tables.enemy_shields else ()), *types)
        return {
            "state_shape": self.get_state_size(),
            "obs_shape": self.get_obs_size(),
            "n_actions": self.n_actions,
            "n_agents": self.n_agents,
            "episode_limit": self.episode_limit,
            "agent_features": list(ally),
            "enemy_features": list(enemy),
        }

    def get_stats(self) -> dict[str, float]:
        """Counts over all battles that have ended; SMAC calls time limits draws, and so does this."""
        return {
            "battles_won": self._battles_won,
            "battles_game": self._battles_game,
            "battles_draw": self._timeouts,
            "win_rate": self._battles_won / self._battles_game if self._battles_game else 0.0,
            "timeouts": self._timeouts,
            "restarts": 0,
        }

    def seed(self) -> int:
        """The seed of this object's battles."""
        return self._seed

    def close(self) -> None:
        """Nothing is held open."""
