"""Window: a battle on the screen while it is fought (`render_mode="human"`), with pygame."""

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
"""Cells: no unit walks as far in one env step, so a battle in which one did is another battle."""


class NoDisplayError(UserError, RuntimeError):
    """There is no screen to open a window on."""


class Window:
    """Shows one battle after another; units glide from env step to env step at the pace of the game.

    When the user closes it, by its button or with Escape, the program goes on and `show` does nothing any more. pygame
    has one window per process: a second Window takes the place of the first.

    Args:
        map_spec: the battles' map.
        size: pixels of the longer side, at least 64.
        speed: 1 is the game's speed "Faster", 0.357 s for an env step of 8 game loops; 0 does not wait at all.
        step_loops: game loops of an env step.

    Raises:
        MissingPackageError: pygame is not installed.
        NoDisplayError: there is no screen.
        ValueError: a size that is too small, a negative speed.
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
        """False once the window has been closed by the user or by `close`."""
        return self._screen is not None

    def show(self, units: UnitsView, column: int = 0) -> None:
        """Show the units as they are now; returns when they have got there from where they were shown last.

        Args:
            units: of battles side by side.
            column: which of them.
        """
        if not self.is_open:
            return
        now, last = FrameState.from_units(units, column), self._last
        if last is None or _is_another_battle(last, now):
            last = now
        fallen = (now.health <= 0) & (last.health <= 0)
        # Moments made from one step's units do not know since when a unit has been dead.
        now.dead_loops[...] = np.where(fallen, last.dead_loops + self._step_loops, 0.0)
        self._last = now
        duration_s = 0.0 if last is now else self._step_s
        pictures = max(1, round(duration_s * PICTURES_PER_SECOND))
        start = time.monotonic()
        for k in range(1, pictures + 1):
            if not self._paint(between(last, now, k / pictures, self._step_loops, self._scene.weapon_period)):
                return
            time.sleep(max(0.0, start + duration_s * k / pictures - time.monotonic()))

    def close(self) -> None:
        """Close the window; again is no error."""
        if self.is_open:
            self._screen = None
            self._pygame.display.quit()

    def _open(self) -> Any:
        display = self._pygame.display
        try:
            display.init()
            # Without a screen SDL takes to drawing into memory, which is for those who ask for it.
            if display.get_driver() in _UNSEEN_DRIVERS and "SDL_VIDEODRIVER" not in os.environ:
                raise self._pygame.error("there is no screen")
            return display.set_mode((self._painter.width, self._painter.height))
        except self._pygame.error as error:
            display.quit()
            raise NoDisplayError(
                f"no window can be opened ({error}); use render_mode='rgb_array', or `dm2 replay` for a file to look at"
            ) from error

    def _paint(self, frame: FrameState) -> bool:
        """False when the user has closed the window."""
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
    # It greets on stdout otherwise, where programs may be printing results.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ImportError as error:
        raise MissingPackageError(
            "a window needs the package pygame: pip install 'dm2-ray[view]' (or use render_mode='rgb_array')"
        ) from error
    return pygame
