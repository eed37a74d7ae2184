"""A discriminator input of your own, without editing the package.

What it shows: `discriminator.input` takes a function as `package.module:function`. It is handed the steps of one agent,
or of its expert, and returns the row that the discriminator sees for each. Here the row is the agent's observation and
how it changed since the step before, so that two agents that pass the same place at different speeds differ.

How to run it:

    dm2 demos record scripted:focus_fire --map 3m --episodes 256 --out experts
    python -m dm2_ray.examples.new_discriminator_input experts --iterations 20

With `dm2 train`, too, a function in a module of yours is enough (installed, or its directory on PYTHONPATH):

    dm2 train --variant dm2 --map 3m --demos experts discriminator.input=my_module:my_function
"""

from __future__ import annotations

import torch
from torch import Tensor

from dm2_ray.examples.train_from_python import main
from dm2_ray.learning.visitation import Steps

SETTINGS = {"discriminator": {"input": "dm2_ray.examples.new_discriminator_input:state_and_change"}}


def state_and_change(steps: Steps) -> Tensor:
    """The observation, and its difference from the one before; 0 at a battle's first step.

    Args:
        steps: S steps of whole battles, end to end: `observations` [S, O], `actions` [S], `episode_lengths` [E],
            `times` [S] steps since the battle began.

    Returns:
        [S, 2 O], one row per step. The width may depend on O and the number of actions only: it is found out with
        two steps of zeros when the discriminator is built.
    """
    observations = steps.observations
    change = observations - observations.roll(1, dims=0)
    change[steps.times == 0] = 0.0
    return torch.cat([observations, change], dim=1)


if __name__ == "__main__":
    main("DM2 whose discriminators see how observations change", SETTINGS)
