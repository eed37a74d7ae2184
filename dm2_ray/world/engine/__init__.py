"""The embedded battle engine: movement, weapons, abilities and the scripted opponent, as numba kernels."""
