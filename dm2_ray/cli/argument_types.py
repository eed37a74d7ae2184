"""Types of command-line arguments; what does not fit is refused in one line by argparse."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError


def nonnegative_int(text: str) -> int:
    """0, 1, …; digits may be grouped with _ or commas."""
    try:
        value = int(text.replace("_", "").replace(",", ""))
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < 0:
        raise ArgumentTypeError("must not be negative")
    return value


def positive_int(text: str) -> int:
    """1, 2, …; digits may be grouped with _ or commas."""
    value = nonnegative_int(text)
    if value == 0:
        raise ArgumentTypeError("must be at least 1")
    return value


def finite_float(text: str) -> float:
    """Neither infinite nor NaN."""
    try:
        value = float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a number") from None
    if not math.isfinite(value):
        raise ArgumentTypeError("must be finite")
    return value


def positive_float(text: str) -> float:
    """Finite and above 0."""
    value = finite_float(text)
    if value <= 0:
        raise ArgumentTypeError("must be above 0")
    return value


def fraction(text: str) -> float:
    """0 to 1."""
    value = finite_float(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError("must be 0 to 1")
    return value


def fractions(text: str) -> list[float]:
    """Several of them, separated by commas."""
    return [fraction(word) for word in text.split(",")]


def positive_ints(text: str) -> list[int]:
    """Several of them, separated by commas."""
    return [positive_int(word) for word in text.split(",")]


def seed_list(text: str) -> list[int]:
    """Several seeds, separated by commas."""
    return [nonnegative_int(word) for word in text.split(",")]
