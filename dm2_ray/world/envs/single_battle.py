"""SingleBattle: the one battle that an environment plays, while it runs and after its end.

Shapes: N agents.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.battles.units_view import UnitsView
from dm2_ray.world.viewing.screen import Screen


class SingleBattle:
    """Plays a BattleVector of one column as environments do: a battle that has ended stays visible until the next
    `begin`, although the vector has already started the next one.

    Args:
        battles: A vector of one battle.
        render_mode: What `show` does: "rgb_array", "human", or None for nothing.

    Attributes:
        battles: The vector.
        has_begun: Whether `begin` has been called.
        is_running: Whether the current battle can be stepped.
    """

    def __init__(self, battles: BattleVector, render_mode: str | None = None) -> None:
        self.battles = battles
        step_loops = battles.options.step_mul
        self._screen = Screen(battles.map_spec, render_mode, step_loops=step_loops) if render_mode else None
        self.has_begun = self.is_running = False
        self._restarts = True

    def begin(self, seed: int | None = None) -> None:
        """Start the next battle; the first time, after `restart`, or with a seed, the seed's first battle."""
        if seed is not None or self._restarts:
            self.battles.reset(seed=seed)
        elif self.is_running:
            self.battles.reset(first_battle=self.number + 1)
        # Otherwise the vector started the next battle when the last one ended.
        self.has_begun = self.is_running = True
        self._restarts = False

    def restart(self) -> None:
        """End the current battle; the next `begin` starts the seed's first battle again."""
        self.is_running = False
        self._restarts = True

    @property
    def number(self) -> int:
        """Number of the battle in the vector."""
        return int(self.battles.battle_number[0])

    def check_running(self) -> None:
        """Raises RuntimeError unless a battle is running."""
        if not self.is_running:
            raise RuntimeError("no battle is running: call reset() first")

    def step(self, joint_action: NDArray[np.int64]) -> tuple[float, bool, bool]:
        """Play one joint action [N]; returns the team's reward, terminated, truncated."""
        self.battles.step(joint_action[np.newaxis])
        terminated, truncated = bool(self.battles.terminated[0]), bool(self.battles.truncated[0])
        self.is_running = not (terminated or truncated)
        return float(self.battles.rewards[0]), terminated, truncated

    @property
    def outcome(self) -> dict[str, Any]:
        """What infos say about the last step."""
        return {
            "battle_won": bool(self.battles.battle_won[0]),
            "dead_allies": int(self.battles.dead_allies[0]),
            "dead_enemies": int(self.battles.dead_enemies[0]),
        }

    def view(self, name: str) -> NDArray[Any]:
        """The battle's row of the vector's `observations`, `action_mask` or `state`; after its end, of the final ones.

        Raises:
            RuntimeError: No battle has begun.
        """
        self._check_begun()
        array: NDArray[Any] = getattr(self.battles, name if self.is_running else f"final_{name}")[0]
        return array

    def units(self) -> UnitsView:
        """The battle's units in column 0, now or at its end.

        Raises:
            RuntimeError: No battle has begun.
        """
        self._check_begun()
        return self.battles.units() if self.is_running else self.battles.final_units()

    def show(self) -> NDArray[np.uint8] | None:
        """The battle as a picture [H, W, 3], or None after showing it in a window.

        Raises:
            RuntimeError: No battle has begun, or there is no screen.
        """
        return None if self._screen is None else self._screen.show(self.units())

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._screen is not None:
            self._screen.close()

    def _check_begun(self) -> None:
        if not self.has_begun:
            raise RuntimeError("no battle has begun: call reset() first")
