"""BattleBackend: what the rest of the system asks of battles, whoever simulates them.

`BattleVector` (the embedded engine) and `StarCraftVector` (the real game) both have it.

Shapes: B battles, N agents, M enemies, A actions, O observation size, S state size.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dm2_ray.world.battles.units_view import UnitsView
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.smac.options import SmacOptions


class BattleBackend(Protocol):
    """B battles on one map, stepped together; those that end are followed by others at once. All arrays are read-only
    views that the next call overwrites; what they mean is said at BattleVector."""

    map_spec: MapSpec
    map_name: str
    seed: int
    switches: SmacOptions
    engine_settings: EngineSettings
    num_battles: int
    num_agents: int
    num_enemies: int
    num_actions: int
    obs_size: int
    state_size: int
    episode_limit: int

    observations: NDArray[np.float32]
    """[B, N, O]"""
    action_mask: NDArray[np.bool_]
    """[B, N, A]"""
    state: NDArray[np.float32]
    """[B, S]"""
    alive: NDArray[np.bool_]
    """[B, N]"""
    battle_number: NDArray[np.int64]
    """[B]"""
    battle_step: NDArray[np.int64]
    """[B]"""
    last_actions: NDArray[np.int64]
    """[B, N]"""
    rewards: NDArray[np.float64]
    """[B] of the last step, as all below."""
    terminated: NDArray[np.bool_]
    """[B]"""
    truncated: NDArray[np.bool_]
    """[B]"""
    timed_out: NDArray[np.bool_]
    """[B]"""
    battle_won: NDArray[np.bool_]
    """[B]"""
    dropped: NDArray[np.bool_]
    """[B] the battle was lost and did not count; another has begun in its place, under the same number."""
    final_observations: NDArray[np.float32]
    """[B, N, O] valid where the battle ended in the last step, as all below."""
    final_action_mask: NDArray[np.bool_]
    """[B, N, A]"""
    final_state: NDArray[np.float32]
    """[B, S]"""

    @property
    def backend(self) -> Literal["embedded", "starcraft"]:
        """Who simulates."""

    @property
    def engine_version(self) -> str:
        """Of the one who simulates."""

    def reset(self, *, seed: int | None = None, first_battle: int | None = None) -> None:
        """Begin battles number first_battle + b."""

    def step(self, actions: ArrayLike, running: ArrayLike | None = None) -> None:
        """One env step with joint actions [B, N] in the battles where `running` [B] is True."""

    def units(self) -> UnitsView:
        """The units now."""

    def final_units(self) -> UnitsView:
        """The units at the end of battles that ended in the last step."""

    def close(self) -> None:
        """Nothing more will be played: release what the battles hold."""
