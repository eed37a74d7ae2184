"""A small discrete world, counted: the trained logit is the log-ratio of the expert's to the agent's visitation.

Three states seen one-hot, two actions, battles of one to four steps. Without penalty the optimum of the discriminator's
loss is log rho_E(row) - log rho_A(row) for every row that occurs, and the network is large enough to reach it.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from dm2_ray.learning.discriminator_training import train_discriminator
from dm2_ray.learning.visitation import VisitedRows, discriminator_inputs

STATES, ACTIONS, HORIZON = 3, 2, 4
END = "end"
Battle = list[tuple[int, int]]
"""State and action of each step."""


def played(count: int, seed: int, *, favorite: int, boldness: float, lasting: float) -> list[Battle]:
    """Battles of somebody who likes to be in one state, takes action 1 there, and fights for a while."""
    rng = np.random.default_rng(seed)
    weights = np.where(np.arange(STATES) == favorite, 0.5, 0.25)
    battles = []
    for _ in range(count):
        length = 1 + int(rng.binomial(HORIZON - 1, lasting))
        states = rng.choice(STATES, size=length, p=weights)
        battles.append([(int(s), int(rng.random() < (boldness if s == favorite else 0.5))) for s in states])
    return battles


EXPERT = played(160, 1, favorite=0, boldness=0.8, lasting=0.7)
AGENT = played(140, 2, favorite=2, boldness=0.5, lasting=0.4)


def visitation(battles: list[Battle], kind: str, padding: str) -> dict[tuple, float]:
    """The definition, row by row: how often each occurs among all."""
    counts: Counter = Counter()
    for battle in battles:
        for t, (state, action) in enumerate(battle):
            following = battle[t + 1][0] if t + 1 < len(battle) else END
            counts[
                {"state": (state,), "state_action": (state, action), "state_next_state": (state, following)}[kind]
            ] += 1
        if padding != "masked":
            counts[(END,) if kind == "state" else (END, END)] += HORIZON - len(battle)
    total = sum(counts.values())
    return {row: count / total for row, count in counts.items()}


def features(row: tuple, kind: str, padding: str) -> list[float]:
    """What the discriminator is shown of a row, written out."""
    one_hot = {state: [float(state == s) for s in range(STATES)] for state in (*range(STATES), END)}
    shown = one_hot[row[0]]
    if kind == "state_action":
        shown = shown + [float(row[1] == a) for a in range(ACTIONS)]
    if kind == "state_next_state":
        shown = shown + one_hot[row[1]]
    if padding == "absorbing":
        states = row if kind == "state_next_state" else row[:1]
        shown = shown + [float(state == END) for state in states]
    return shown


def rows_of(battles: list[Battle], kind: str, padding: str) -> VisitedRows:
    states, actions = zip(*(step for battle in battles for step in battle), strict=True)
    return discriminator_inputs(
        np.eye(STATES, dtype=np.float32)[list(states)],
        np.array([len(battle) for battle in battles]),
        padding,
        HORIZON,
        kind=kind,
        actions=np.array(actions),
        num_actions=ACTIONS,
    )


@pytest.mark.parametrize("padding", ["masked", "absorbing", "paper"])
@pytest.mark.parametrize("kind", ["state", "state_action", "state_next_state"])
def test_the_logit_becomes_the_log_ratio_of_the_visitations(discriminator, kind, padding):
    module = discriminator(
        observation_size=STATES,
        num_actions=ACTIONS,
        padding=padding,
        input=kind,
        hidden_size=16,
        updates=150,
        minibatch_episodes=len(EXPERT),
        gradient_penalty=0.0,
    )
    expert, agent = rows_of(EXPERT, kind, padding), rows_of(AGENT, kind, padding)
    generator = torch.Generator().manual_seed(0)
    for lr in (2e-2, 5e-3):
        train_discriminator(module, torch.optim.Adam(module.parameters(), lr=lr), expert, agent, generator, owner="me")

    rho_expert, rho_agent = visitation(EXPERT, kind, padding), visitation(AGENT, kind, padding)
    assert rho_expert.keys() == rho_agent.keys()
    rows = sorted(rho_expert, key=str)
    shown = torch.tensor([features(row, kind, padding) for row in rows])
    found = module.forward_inference({Columns.OBS: shown})["logits"]
    expected = [math.log(rho_expert[row] / rho_agent[row]) for row in rows]
    assert max(expected) - min(expected) > 0.5
    np.testing.assert_allclose(found.numpy(), expected, atol=0.03)
