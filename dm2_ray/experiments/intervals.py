"""How sure one can be of a win rate."""

from __future__ import annotations

from math import sqrt


def wilson_interval(rate: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927); with the default z it holds 95 % of the time."""
    centre = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    # The rate lies within but for rounding.
    return max(0.0, min(centre - half, rate)), min(1.0, max(centre + half, rate))
