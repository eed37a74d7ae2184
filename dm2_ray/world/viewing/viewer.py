"""Window: shows a battle on the screen while it is played (`render_mode="human"`), with pygame."""

from __future__ import annotations

import os
import time
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from dm2_ray.errors import UserError
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.viewing.animation import LOOPS_PER_SECOND, MissingPackageError
from dm2_ray.world.viewing.frame import FrameState, between
from dm2_ray.world.viewing.painter import Painter
from dm2_ray.world.viewing.scene import Scene

if TYPE_CHECKING:
    from dm2_ray.world.battles.units_view import UnitsView

PICTURES_PER_SECOND = 30.0

_UNSEEN_DRIVERS = ("offscreen", "dummy")
_LONGEST_STEP = 4.0
"""Cells. No unit walks this far in one env step; if one did, another battle has begun."""


class NoDisplayError(UserError, RuntimeError):
    """There is no screen to open a window on."""


class Window:
    """Shows one battle after another; units move smoothly from env step to env step at the speed of the game.

    When the user closes the window, by its button or with Escape, the program continues and `show` does nothing. pygame
    has one window per process: a second Window replaces the first.

    Args:
        map_spec: The battles' map.
        size: Pixels of the longer side, at least 64.
        speed: 1 is the game's speed "Faster", 0.357 s for an env step of 8 game loops; 0 does not wait at all.
        step_loops: Game loops of an env step.

    Raises:
        MissingPackageError: pygame is not installed.
        NoDisplayError: There is no screen.
        ValueError: The size is too small, or the speed is negative.
    """

    def __init__(self, map_spec: MapSpec, *, size: int = 960, speed: float = 1.0, step_loops: int = 8) -> None:
        if speed < 0:
            raise ValueError(f"speed is {speed}; it must not be negative")
        self._scene = Scene.from_map(map_spec)
        self._painter = Painter(self._scene, size)
        self._step_loops = step_loops
        self._step_s = step_loops / LOOPS_PER_SECOND / speed if speed > 0 else 0.0
        self._last: FrameState | None = None
        self._pygame = _pygame()
        self._screen: Any = self._open()
        self._pygame.display.set_caption(f"DM2-Ray: {map_spec.name}")

    @property
    def is_open(self) -> bool:
        """Whether neither the user nor `close` has closed the window."""
        return self._screen is not None

    def show(self, units: UnitsView, column: int = 0) -> None:
        """Show how the units move from their last positions to the present ones, and return when they have arrived.

        Args:
            units: Units of B battles.
            column: Index of the battle to show.
        """
        if not self.is_open:
            return
        now, last = FrameState.from_units(units, column), self._last
        if last is None or _is_another_battle(last, now):
            last = now
        still_dead = (now.health <= 0) & (last.health <= 0)
        # A frame of one step's units does not contain how long a unit has been dead.
        now.dead_loops[...] = np.where(still_dead, last.dead_loops + self._step_loops, 0.0)
        self._last = now
        duration_s = 0.0 if last is now else self._step_s
        pictures = max(1, round(duration_s * PICTURES_PER_SECOND))
        start = time.monotonic()
        for k in range(1, pictures + 1):
            if not self._paint(between(last, now, k / pictures, self._step_loops, self._scene.weapon_period)):
                return
            time.sleep(max(0.0, start + duration_s * k / pictures - time.monotonic()))

    def close(self) -> None:
        """Close the window; may be called again."""
        if self.is_open:
            self._screen = None
            self._pygame.display.quit()

    def _open(self) -> Any:
        display = self._pygame.display
        try:
            display.init()
            # Without a screen SDL draws into memory; that is right only if the user has chosen such a driver.
            if display.get_driver() in _UNSEEN_DRIVERS and "SDL_VIDEODRIVER" not in os.environ:
                raise self._pygame.error("there is no screen")
            return display.set_mode((self._painter.width, self._painter.height))
        except self._pygame.error as error:
            display.quit()
            raise NoDisplayError(
                f"no window can be opened ({error}); use render_mode='rgb_array', or `dm2 replay` to write a file"
            ) from error

    def _paint(self, frame: FrameState) -> bool:
        """Paint one frame; returns False if the user has closed the window."""
        picture = self._painter.paint(frame)
        surface = self._pygame.image.frombuffer(picture.tobytes(), picture.size, "RGB")
        self._screen.blit(surface, (0, 0))
        self._pygame.display.flip()
        for event in self._pygame.event.get():
            pressed_escape = event.type == self._pygame.KEYDOWN and event.key == self._pygame.K_ESCAPE
            if event.type == self._pygame.QUIT or pressed_escape:
                self.close()
                return False
        return True


def _is_another_battle(last: FrameState, now: FrameState) -> bool:
    rose = (last.health <= 0) & (now.health > 0)
    jumped = np.hypot(now.x - last.x, now.y - last.y) > _LONGEST_STEP
    return bool(rose.any() or jumped.any())


def _pygame() -> ModuleType:
    # Otherwise pygame prints a greeting to stdout, where programs print their results.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ImportError as error:
        raise MissingPackageError(
            "a window needs the package pygame: pip install 'dm2-ray[view]' (or use render_mode='rgb_array')"
        ) from error
    return pygame
