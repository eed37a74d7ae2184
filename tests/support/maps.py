"""The maps that tests play: a few by default, all of SMAC's with the mark `long`."""

from __future__ import annotations

import pytest

from dm2_ray.world import map_names

REPRESENTATIVE_MAPS = ("2s3z", "MMM", "bane_vs_bane", "corridor", "2c_vs_64zg", "6h_vs_8z", "2s_vs_1sc")
"""All unit kinds, healing, splash damage, cliffs, obstacles, enemies without an order, and SMAC's reversed one-hots."""

EVERY_MAP = [
    pytest.param(name, marks=() if name in REPRESENTATIVE_MAPS else pytest.mark.long, id=name) for name in map_names()
]
"""SMAC's 23 maps; all but the representative ones are marked `long`."""
