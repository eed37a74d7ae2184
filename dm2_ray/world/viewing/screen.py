"""Screen: shows the environments' battles, as an array or in a window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.battles.units_view import UnitsView
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.viewing.render import draw
from dm2_ray.world.viewing.viewer import Window

RENDER_MODES = ("human", "rgb_array")
GAME_LOOPS_PER_SECOND = 22.4
"""The game's speed "Faster", at which windows show battles."""


class Screen:
    """Shows battles on one map. The window opens at the first `show`.

    Args:
        map_spec: The battles' map.
        mode: "human" for a window, "rgb_array" for pictures.
        size: Pixels of the longer side.
        step_loops: Game loops of an env step.

    Raises:
        ValueError: Another mode.
    """

    def __init__(self, map_spec: MapSpec, mode: str, *, size: int = 640, step_loops: int = 8) -> None:
        if mode not in RENDER_MODES:
            raise ValueError(f"render mode {mode!r} is not supported; expected one of {', '.join(RENDER_MODES)}")
        self.mode = mode
        self._map_spec = map_spec
        self._size = size
        self._step_loops = step_loops
        self._window: Window | None = None

    def show(self, units: UnitsView) -> NDArray[np.uint8] | None:
        """The picture [H, W, 3] of the first battle's units, or None after showing it in a window."""
        if self.mode == "rgb_array":
            return draw(self._map_spec, units, size=self._size)
        if self._window is None:
            self._window = Window(self._map_spec, size=self._size, step_loops=self._step_loops)
        self._window.show(units)
        return None

    def close(self) -> None:
        """Close the window, if there is one; the next `show` opens another."""
        if self._window is not None:
            self._window.close()
            self._window = None


def render_metadata(step_loops: int = 8) -> dict[str, Any]:
    """The entries about rendering in an environment's metadata, with the names of gymnasium and PettingZoo."""
    return {"render_modes": list(RENDER_MODES), "render_fps": GAME_LOOPS_PER_SECOND / step_loops}
