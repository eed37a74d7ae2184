"""A matching reward of your own, without editing the package.

What it shows: `matching.form` takes a function as `package.module:function`. It is handed the discriminator's logits
l = log D - log(1 - D) of all steps, D the probability of "expert", and returns the matching reward of each. Here the
logit is clipped: an early discriminator is nearly always right, and its large logits drown the team's reward.

How to run it:

    dm2 demos record scripted:focus_fire --map 3m --episodes 256 --out experts
    python -m dm2_ray.examples.new_matching_reward experts --iterations 20

With `dm2 train`, too, a function in a module of yours is enough (installed, or its directory on PYTHONPATH):

    dm2 train --variant dm2 --map 3m --demos experts matching.form=my_module:my_function
"""

from __future__ import annotations

from torch import Tensor

from dm2_ray.examples.train_from_python import main

LIMIT = 2.0

SETTINGS = {"matching": {"form": "dm2_ray.examples.new_matching_reward:clipped_logit"}}


def clipped_logit(logits: Tensor) -> Tensor:
    """The logit, limited to +-LIMIT.

    Args:
        logits: [R], one for each row that the discriminator judged, the row of the padding state included; high where
            it takes the row for the expert's.

    Returns:
        [R] the matching reward, before normalization and coefficient.
    """
    return logits.clamp(-LIMIT, LIMIT)


if __name__ == "__main__":
    main("DM2 with a clipped matching reward", SETTINGS)
