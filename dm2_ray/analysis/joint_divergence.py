"""Joint divergence: does a team in which every agent matches its expert still miss the experts' joint distribution?

Each agent of DM2 matches its own marginal; under conditions, the theory promises that the team then matches the joint
distribution. Only an observer that sees all agents at once can check this. This is evaluation: no learner ever receives
what is measured here.

A joint row is x = (o_1 ... o_N), all agents' observations at one step of one battle. Three quantities from held-out
battles, all estimates from below of Jensen-Shannon divergences between team and experts (`js` in held_out_test.py):

    marginal_i   of o_i alone: a classifier f_i(o_i)
    marginals    of the best sum of one function per agent, f_1(o_1) + ... + f_N(o_N)
    joint        of that sum plus any function of x

    excess = joint - marginals

`marginals` is all that N separate discriminators could detect together by adding their logits. Its
optimum is 0 if and only if every marginal is matched (at f = 0 the derivative of the score in direction of f_i is
(E_expert f_i - E_team f_i) / 2, and the score is concave). The excess is 0 if the density ratio of experts and team is
a product of one factor per agent, as it is where agents are independent of each other on both sides, however much
their marginals differ; with matched marginals the excess is the whole joint divergence. So

    marginals = 0, excess = 0   the team does what the experts do
    marginals > 0, excess = 0   only single agents differ from their experts
    marginals = 0, excess > 0   every marginal is matched, but not the joint distribution: what DM2 cannot see
    marginals > 0, excess > 0   both

The excess is a difference of two estimates from below: what the sum of agents' functions fails to learn may be counted
as excess. The sum is therefore fitted twice, the second time on top of the first; the joint classifier starts from it
and is kept only as far as battles of its own, the validation part, agree; and what is below TOLERANCE counts as 0.

`dependence` of one side is the divergence between its joint rows and rows combined from N different battles at the same
step, which keep every agent's own distribution at that step but not the dependence between agents (a bounded relative
of total correlation). It says how much joint structure there is to miss.

Shapes: S steps of all episodes laid end to end, N agents, O observation size, K resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dm2_ray.learning.classifier_two_sample import fit_classifier
from dm2_ray.learning.held_out_test import (
    EpisodeFeatures,
    Fold,
    HeldOutScores,
    ResampledEpisodes,
    Split,
    score,
    split_episodes,
)
from dm2_ray.learning.visitation import VisitedRows, discriminator_inputs
from dm2_ray.runs.joint_rollouts import JointRollouts
from dm2_ray.statistics import Estimate

STEPS = 400
"""Gradient steps of each classifier: twice those of a measurement during training."""
RESAMPLES = 1000
TOLERANCE = 0.01
"""Nats: repeated fits of the same functions differ by up to this much; too little to call a difference."""
MAX_VALUES = 2**26
"""Largest number of observed values used per side."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Divergence:
    """How well two visitations can be told apart on held-out battles.

    The 95 % intervals are percentile bootstraps over held-out battles: they show how much depends on which battles were
    held out, not on which the classifier was fitted to.

    Attributes:
        accuracy: Balanced accuracy; 0.5 is chance.
        js: Jensen-Shannon divergence in nats, at most log 2; negative estimates become 0.
    """

    accuracy: Estimate
    js: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class JointComparison:
    """A team compared with its experts, agent by agent and jointly; see the top of this module.

    Attributes:
        agents: Divergence of each agent.
        marginals: Divergence of the sum of one function per agent.
        joint: Divergence of that sum and any function of all agents' observations.
        excess: joint - marginals, in nats; may be negative.
        team_dependence: Dependence of the team; None with too few battles to combine rows from.
        expert_dependence: The same for the experts.
    """

    agents: tuple[Divergence, ...]
    marginals: Divergence
    joint: Divergence
    excess: Estimate
    team_dependence: Divergence | None
    expert_dependence: Divergence | None

    @property
    def misses_marginals(self) -> bool:
        """Whether the interval of `marginals` lies above TOLERANCE."""
        return self.marginals.js.low > TOLERANCE

    @property
    def joint_only_divergence(self) -> bool:
        """Whether the interval of the excess lies above TOLERANCE."""
        return self.excess.low > TOLERANCE


def measure_joint_divergence(
    team: JointRollouts, experts: JointRollouts, seed: int, *, steps: int = STEPS
) -> JointComparison | None:
    """Measures the divergences; a pure function of its arguments if torch uses one thread.

    Only real steps count, no padding after a battle's end. Where a side has more than
    MAX_VALUES observed numbers, every second (third, ...) step of each battle is used.

    Returns:
        None when a side has fewer than four different battles.
    """
    generator = torch.Generator().manual_seed(seed)
    split = split_episodes(_joint_rows(team), _joint_rows(experts), generator)
    if split is None:
        return None
    counts = ResampledEpisodes.draw(split.held_out, RESAMPLES, seed)
    num_agents = team.num_agents
    agents = []
    for agent in range(num_agents):
        own = _of_agent(split, agent, num_agents)
        agents.append(score(fit_classifier(own, generator, steps=steps), own.held_out))
    by_agents = fit_classifier(split, generator, blocks=num_agents, steps=steps)
    by_agents = fit_classifier(split, generator, blocks=num_agents, base=by_agents, steps=steps)
    together = fit_classifier(split, generator, base=by_agents, steps=steps)
    marginals, joint = score(by_agents, split.held_out), score(together, split.held_out)
    excess = joint.resampled(counts)[1] - marginals.resampled(counts)[1]
    return JointComparison(
        agents=tuple(_divergence(scores, counts) for scores in agents),
        marginals=_divergence(marginals, counts),
        joint=_divergence(joint, counts),
        excess=_estimate(joint.js - marginals.js, excess),
        team_dependence=_dependence(split, "own", num_agents, generator, steps, seed),
        expert_dependence=_dependence(split, "expert", num_agents, generator, steps, seed),
    )


def _joint_rows(visits: JointRollouts) -> VisitedRows:
    values = len(visits.steps) * visits.num_agents * visits.agents[0].observations.shape[1]
    kept = visits.steps % -(-values // MAX_VALUES) == 0
    episodes = np.repeat(np.arange(visits.num_episodes), visits.episode_lengths)
    rows = np.concatenate([own.observations[kept] for own in visits.agents], axis=1)
    lengths = np.bincount(episodes[kept], minlength=visits.num_episodes)
    return discriminator_inputs(rows, lengths, "masked", horizon=0)


def _of_agent(split: Split, agent: int, num_agents: int) -> Split:
    """The same rows in the same folds, reduced to what one agent saw."""

    def side(rows: EpisodeFeatures) -> EpisodeFeatures:
        width = rows.rows.shape[1] // num_agents
        return replace(rows, rows=rows.rows[:, agent * width : (agent + 1) * width])

    return _with_parts(split, lambda part: Fold(own=side(part.own), expert=side(part.expert)))


def _dependence(
    split: Split, side: Literal["own", "expert"], num_agents: int, generator: torch.Generator, steps: int, seed: int
) -> Divergence | None:
    """Divergence of one side's joint rows (as expert) from combined rows; None if a fold has only one battle."""
    if min(getattr(part, side).num_episodes for part in (split.training, split.validation, split.held_out)) < 2:
        return None

    def part_of(part: Fold) -> Fold:
        together, real = _combine_battles(getattr(part, side), num_agents, generator)
        return Fold(own=together, expert=real)

    compared = _with_parts(split, part_of)
    scores = score(fit_classifier(compared, generator, steps=steps), compared.held_out)
    return _divergence(scores, ResampledEpisodes.draw(compared.held_out, RESAMPLES, seed))


def _combine_battles(
    side: EpisodeFeatures, num_agents: int, generator: torch.Generator
) -> tuple[EpisodeFeatures, EpisodeFeatures]:
    """Rows whose agents come from different battles, and the real rows of the same battles and steps.

    Battles stay in their fold. At steps that fewer than N battles reach, some agents share a battle; steps that only
    one battle reaches are left out.
    """
    first_rows = torch.searchsorted(side.episodes, torch.arange(side.num_episodes))
    steps = torch.arange(len(side.episodes)) - first_rows[side.episodes]
    by_agent = side.rows.view(len(side.rows), num_agents, -1)
    real: list[Tensor] = []
    together: list[Tensor] = []
    for step in range(int(steps.max()) + 1):
        places = torch.nonzero(steps == step).squeeze(-1)
        if len(places) < 2:
            continue
        places = places[torch.randperm(len(places), generator=generator)]
        real.append(places)
        together.append(
            torch.stack([by_agent[places.roll(-agent), agent] for agent in range(num_agents)], 1).flatten(1)
        )
    chosen = torch.cat(real)
    kept = replace(side, rows=side.rows[chosen], weights=side.weights[chosen], episodes=side.episodes[chosen])
    return replace(kept, rows=torch.cat(together)), kept


def _with_parts(split: Split, change: Callable[[Fold], Fold]) -> Split:
    return Split(training=change(split.training), validation=change(split.validation), held_out=change(split.held_out))


def _divergence(scores: HeldOutScores, counts: ResampledEpisodes) -> Divergence:
    accuracy, js = scores.resampled(counts)
    return Divergence(
        accuracy=_estimate(scores.accuracy, accuracy), js=_estimate(max(0.0, scores.js), np.maximum(0.0, js))
    )


def _estimate(value: float, resampled: npt.NDArray[np.float64]) -> Estimate:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Estimate(value=value, low=min(float(low), value), high=max(float(high), value))
