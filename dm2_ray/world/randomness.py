"""Counter-based random numbers: a draw is a pure function of its purpose, so there is no generator state.

The mixing function is the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014). A battle's key depends on (seed, battle number); a draw on (key, counter, unit, purpose).
"""

from __future__ import annotations

import numpy as np

from dm2_ray.world.compile_cache import kernel

DRAW_WEAPON_DELAY = 1
DRAW_SPAWN_X = 2
DRAW_SPAWN_Y = 3
DRAW_ATTACK_POINT = 4
DRAW_SIDESTEP = 5
DRAW_ACTION = 6
DRAW_ENEMY_ORDER = 7
DRAW_EPSILON = 8

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_UNIT_STRIDE = np.uint64(0xC2B2AE3D27D4EB4F)
_PURPOSE_STRIDE = np.uint64(0x165667B19E3779F9)
_MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)
_SHIFT_30 = np.uint64(30)
_SHIFT_27 = np.uint64(27)
_SHIFT_31 = np.uint64(31)
_SHIFT_11 = np.uint64(11)
_UNIFORM_STEP = 1.0 / 9007199254740992.0  # 2^-53: the 53 leading bits fill a double's mantissa


@kernel(allocates=False)
def mix_bits(word: np.uint64) -> np.uint64:
    """SplitMix64 finalizer: uint64 -> uint64, a bijection in which every input bit flips half of the output bits."""
    word = (word ^ (word >> _SHIFT_30)) * _MULTIPLIER_1
    word = (word ^ (word >> _SHIFT_27)) * _MULTIPLIER_2
    return word ^ (word >> _SHIFT_31)


@kernel(allocates=False)
def battle_key(seed: np.uint64, battle_number: int) -> np.uint64:
    """Key (uint64) of one battle; equal arguments give equal keys on every machine."""
    return mix_bits(mix_bits(np.uint64(seed) + _GOLDEN) + np.uint64(battle_number) * _GOLDEN)


@kernel(allocates=False)
def uniform_draw(key: np.uint64, counter: int, unit: int, purpose: int) -> float:
    """Uniform number in [0, 1) for (battle key, counter such as the game loop, unit index, purpose constant)."""
    address = np.uint64(counter) * _GOLDEN + np.uint64(unit) * _UNIT_STRIDE + np.uint64(purpose) * _PURPOSE_STRIDE
    return np.float64(mix_bits(key ^ mix_bits(address + _GOLDEN)) >> _SHIFT_11) * _UNIFORM_STEP
