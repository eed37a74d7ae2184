"""Counter-based random streams.

Every random number of a run depends on (seed, role, counters) alone: not on the process that draws it, nor on what that
process drew before. A rollout, an update or an evaluation can therefore be repeated, in another process or after a
crash, with the same result.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class StreamRole(IntEnum):
    """What the random numbers are for. The values are part of a run's identity: never reuse or reorder them."""

    TRAINING_BATTLES = 1
    TRAINING_ACTIONS = 2
    EVALUATION_BATTLES = 3
    EVALUATION_ACTIONS = 4
    AGENT_INITIALISATION = 5
    AGENT_UPDATE = 6
    EXPERT_BATTLES = 7
    EXPERT_ACTIONS = 8
    DISCRIMINATOR_UPDATE = 9
    DIAGNOSTICS = 10
    RECORDING_BATTLES = 11
    RECORDING_ACTIONS = 12


def derive_seed(seed: int, role: StreamRole, *counters: int) -> int:
    """A 63-bit seed for one stream, well mixed from its key (numpy's SeedSequence).

    Args:
        seed: The experiment's seed, >= 0.
        role: What the random numbers are for.
        counters: Tell draws of a role apart, e.g. iteration and rollout index, each >= 0.
    """
    words = np.random.SeedSequence((seed, int(role), *counters)).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))
