"""DM² from beginning to end in one file: numpy and torch, no Ray, no RLlib.

What it shows: the whole algorithm, to be read from top to bottom. N agents learn independently. Each has a recurrent
policy, a critic and a discriminator of its own, and sees nothing but its own observations. What makes them coordinate
is that their N experts come from one team: agent i imitates agent i of the demonstrations, in the same battles as the
other agents do (Wang et al. 2023, "DM²: Decentralized Multi-Agent Reinforcement Learning via Distribution Matching",
arXiv 2206.00233).

    battles ──► each agent's observations ─┬─► discriminator: mine or my expert's? ─► logit l
    demonstrations ──► its expert's ───────┘                                           │
                                   reward r = r_team + c * l  ◄────────────────────────┘
                                          └─► advantages ─► PPO on the agent's own policy and critic

How to run it:

    dm2 demos record scripted:focus_fire --map 3m --episodes 256 --out experts
    python -m dm2_ray.examples.single_file_dm2 experts --iterations 50

It computes the same numbers as `dm2 train --variant dm2 --map 3m --demos experts rollout.env_runners=0`, up to
rounding, because it draws from the same random streams; a test compares the two, iteration by iteration. What the
package adds are the settings that this file leaves out, speed, and processes that may be lost.

Shapes: B battles side by side, N agents, O observation size, A actions, H hidden size, I network input size;
E whole battles of one iteration, S their steps end to end, T steps of the longest, F = O + 1 discriminator input size.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence

from dm2_ray.demonstrations import JointTrajectories, draw_episodes
from dm2_ray.world import BattleVector


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The defaults of configs/defaults.yaml, which explains them."""

    seed: int = 0
    battles: int = 64
    env_steps: int = 4096
    episodes_per_draw: int = 256
    hidden_size: int = 64
    gamma: float = 0.99
    gae_lambda: float = 0.95
    learning_rate: float = 5e-4
    adam_eps: float = 1e-5
    epochs: int = 10
    clip: float = 0.2
    entropy_coef: float = 0.01
    value_coef: float = 0.5
    huber_delta: float = 10.0
    max_grad_norm: float = 10.0
    discriminator_lr: float = 1e-3
    discriminator_updates: int = 120
    minibatch_episodes: int = 64
    gradient_penalty: float = 10.0
    penalty_rows: int = 128
    coefficient: float = 0.3


# Random streams. Every draw is keyed by what it is for, so that no part of the run depends on another's draws.
TRAINING_BATTLES, TRAINING_ACTIONS, INITIALIZATION, DISCRIMINATOR_UPDATE = 1, 2, 5, 9


def stream(seed: int, role: int, *counters: int) -> int:
    return int(np.random.SeedSequence((seed, role, *counters)).generate_state(1, np.uint64)[0] >> np.uint64(1))


# 1. Networks ---------------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """LayerNorm -> 2 x [Linear, ReLU, LayerNorm] -> GRU -> LayerNorm -> Linear; actor and critic are one each."""

    def __init__(self, inputs: int, outputs: int, hidden: int, head_gain: float, generator: torch.Generator) -> None:
        super().__init__()
        self.input_norm = nn.LayerNorm(inputs)
        linears = [nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)]
        self.linears = nn.ModuleList(linears)
        self.norms = nn.ModuleList([nn.LayerNorm(hidden), nn.LayerNorm(hidden)])
        self.gru = nn.GRU(hidden, hidden)
        self.output_norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, outputs)
        gains = [math.sqrt(2.0), math.sqrt(2.0), 1.0, 1.0, head_gain]
        of_gru = list(self.gru.parameters())  # two matrices, then two biases
        matrices = [*(x.weight for x in linears), *of_gru[:2], self.head.weight]
        for matrix, gain in zip(matrices, gains, strict=True):
            nn.init.orthogonal_(matrix, gain, generator=generator)
        for bias in (*(x.bias for x in linears), *of_gru[2:], self.head.bias):
            nn.init.zeros_(bias)

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[T, E, I] and the state [1, E, H] before the first step to outputs [T, E, .] and the state after the last."""
        x = self.input_norm(inputs)
        for linear, norm in zip(self.linears, self.norms, strict=True):
            x = norm(torch.relu(linear(x)))
        features, state = self.gru(x, state)
        return self.head(self.output_norm(features)), state


class Discriminator(nn.Module):
    """Two tanh layers and a logit: log D - log(1 - D), where D is the probability that a row is the expert's."""

    def __init__(self, inputs: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        layers = [nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 1)]
        self.layers = nn.ModuleList(layers)
        for layer in layers:
            bound = 1.0 / math.sqrt(layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)

    def forward(self, rows: Tensor) -> Tensor:
        """[R, F] to logits [R]."""
        first, second, head = self.layers
        return head(torch.tanh(second(torch.tanh(first(rows))))).squeeze(-1)


class ValueNormalizer:
    """Running mean and deviation of the returns; the critic's outputs are in units of them.

    mean = sum_j w_j mean_j / sum_j w_j over iterations j, with weights w_j that fall by 0.99 per iteration.
    """

    def __init__(self) -> None:
        self.mean, self.variance, self.weight = torch.zeros(()), torch.ones(()), torch.zeros(())

    def update(self, returns: Tensor) -> None:
        self.weight = 0.99 * self.weight + 0.01
        share, difference = 0.01 / self.weight, returns.mean() - self.mean
        within = (returns - returns.mean()).square().mean()
        self.variance = (1 - share) * self.variance + share * within + share * (1 - share) * difference.square()
        self.mean = self.mean + share * difference

    @property
    def std(self) -> Tensor:
        return self.variance.sqrt().clamp(min=0.1)


# 2. Battles ----------------------------------------------------------------------------------------------------------


@dataclass
class Battles:
    """What one agent saw and did in whole battles, laid end to end."""

    lengths: list[int]
    """[E], sum S"""
    observations: Tensor
    """[S, O], zeros where the agent was dead."""
    action_mask: Tensor
    """[S, A]"""
    alive: Tensor
    """[S]"""
    actions: Tensor
    """[S]"""
    logp: Tensor
    """[S] log-probability of the action under the policy that took it."""
    team_rewards: Tensor
    """[S]"""

    def padded(self, steps: Tensor) -> Tensor:
        """[S, ...] to [T, E, ...], zeros after each battle's end."""
        return pad_sequence(steps.split(self.lengths))

    def flat(self, padded: Tensor) -> Tensor:
        """Inverse of `padded`."""
        return torch.cat([padded[:length, battle] for battle, length in enumerate(self.lengths)])


def network_inputs(observations: Tensor, last_actions: Tensor, agent: int, agents: int, actions: int) -> Tensor:
    """[..., I]: the observation, the agent's own last action, one-hot (zeros at the start: -1), and its number."""
    last = (last_actions.unsqueeze(-1) == torch.arange(actions)).float()
    number = functional.one_hot(torch.tensor(agent), agents).float().expand(*observations.shape[:-1], agents)
    return torch.cat([observations, last, number], dim=-1)


@torch.no_grad()
def play(team: list[Agent], world: BattleVector, iteration: int, settings: Settings) -> tuple[list[Battles], float]:
    """Plays at least `env_steps` steps of whole battles; returns what each agent saw, and the win rate."""
    count, agents, actions = world.num_battles, world.num_agents, world.num_actions
    world.reset(seed=stream(settings.seed, TRAINING_BATTLES, iteration, 0), first_battle=0)
    noise = torch.Generator().manual_seed(stream(settings.seed, TRAINING_ACTIONS, iteration, 0))
    states = [torch.zeros(1, count, settings.hidden_size) for _ in team]
    last_actions = torch.full((agents, count), -1)
    steps_left = np.full(count, -(-settings.env_steps // count))
    running, wins, log = np.ones(count, bool), [], []
    battle = np.zeros(count, int)  # how many battles each column has finished
    while running.any():
        observations = torch.tensor(world.observations).transpose(0, 1)
        mask = torch.tensor(world.action_mask).transpose(0, 1)
        logits = torch.empty(agents, count, actions)
        for i, agent in enumerate(team):  # every agent acts on its own observation and its own memory
            inputs = network_inputs(observations[i], last_actions[i], i, agents, actions)
            output, states[i] = agent.actor(inputs[None], states[i])
            logits[i] = output[0].masked_fill(~mask[i], -1e9)
        all_logp = torch.log_softmax(logits, -1)
        # Gumbel-max: the maximum of log p - log(Exponential) is distributed as p.
        chosen = (all_logp - torch.empty_like(all_logp).exponential_(generator=noise).log()).argmax(-1)
        logp = all_logp.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        alive = torch.tensor(world.alive).T
        world.step(chosen.T.numpy(), running)
        rewards = torch.tensor(world.rewards, dtype=torch.float32)
        for column in np.flatnonzero(running):
            step = [x[:, column] for x in (observations, mask, alive, chosen, logp)]
            log.append(((column, battle[column]), [*step, rewards[column].expand(agents)]))
        ended = (world.terminated | world.truncated) & running
        wins += world.battle_won[ended].tolist()
        last_actions = chosen.masked_fill(torch.from_numpy(ended), -1)
        for state in states:
            state[:, torch.from_numpy(ended)] = 0.0
        battle += ended
        steps_left -= running
        running &= ~(ended & (steps_left <= 0))
    log.sort(key=lambda entry: entry[0])  # battle by battle; the steps of each stay in order
    lengths = list(Counter(key for key, _ in log).values())
    columns = [torch.stack(column, dim=1) for column in zip(*(step for _, step in log), strict=True)]  # [N, S, ...]
    return [Battles(lengths, *(column[i] for column in columns)) for i in range(agents)], float(np.mean(wins))


# 3. Matching ---------------------------------------------------------------------------------------------------------


def visited(observations: Tensor) -> Tensor:
    """[S + 1, F]: the observations with a feature 0, and last the state after a battle's end: zeros and a feature 1."""
    rows = torch.zeros(len(observations) + 1, observations.shape[1] + 1)
    rows[:-1, :-1], rows[-1, -1] = observations, 1.0
    return rows


class Visitation:
    """The rows of one side and how often each occurs. A battle counts `horizon` rows: it goes on after its end."""

    def __init__(self, rows: Tensor, lengths: list[int], horizon: int, generator: torch.Generator) -> None:
        self.total = horizon * len(lengths)
        counts = Counter(row.tobytes() for row in rows[:-1].numpy())
        counts[rows[-1].numpy().tobytes()] += self.total - sum(lengths)
        most_frequent_first = [(row, count) for row, count in counts.most_common() if count > 0]
        self.rows = torch.tensor(np.stack([np.frombuffer(row, np.float32) for row, _ in most_frequent_first]))
        self.counts = torch.tensor([count for _, count in most_frequent_first], dtype=torch.float32)
        self.generator, self.undealt = generator, torch.empty(0, dtype=torch.int64)

    def minibatch(self, size: int) -> tuple[Tensor, Tensor]:
        """Rows that stand for `size` of all, and weights with sum 1. Frequent rows are in every minibatch."""
        share = size / self.total
        if share >= 1.0:
            return self.rows, self.counts / self.counts.sum()
        always = int((self.counts * share >= 1.0).sum())
        rare = len(self.rows) - always
        dealt = max(0 if always else 1, round(share * rare))
        if len(self.undealt) < dealt:
            self.undealt = always + torch.randperm(rare, generator=self.generator)
        chosen, self.undealt = self.undealt[:dealt], self.undealt[dealt:]
        places = torch.cat([torch.arange(always), chosen])
        weights = torch.cat([self.counts[:always] * share, self.counts[chosen]])
        return self.rows[places], weights / weights.sum()

    def draw(self, size: int) -> Tensor:
        """Rows drawn with replacement."""
        marks = torch.rand(size, generator=self.generator, dtype=torch.float64) * self.total
        places = torch.searchsorted(self.counts.double().cumsum(0), marks, right=True)
        return self.rows[places.clamp(max=len(self.rows) - 1)]


def train_discriminator(
    agent: Agent, expert: Visitation, own: Visitation, horizon: int, settings: Settings, generator: torch.Generator
) -> dict[str, float]:
    """loss = -E_expert log D - E_own log(1 - D) + lambda E_mix (||d logit / dx|| - 1)^2 (Gulrajani et al. 2017)."""
    for _ in range(settings.discriminator_updates):
        size = settings.minibatch_episodes * horizon
        expert_rows, expert_weights = expert.minibatch(size)
        own_rows, own_weights = own.minibatch(size)
        pairs = expert.draw(settings.penalty_rows), own.draw(settings.penalty_rows)
        mix = torch.lerp(pairs[1], pairs[0], torch.rand(len(pairs[0]), 1, generator=generator)).requires_grad_()
        expert_logits, own_logits = agent.discriminator(expert_rows), agent.discriminator(own_rows)
        expert_loss = (expert_weights * functional.softplus(-expert_logits)).sum()  # softplus(-l) = -log D
        own_loss = (own_weights * functional.softplus(own_logits)).sum()  # softplus(l) = -log(1 - D)
        (gradient,) = torch.autograd.grad(agent.discriminator(mix).sum(), mix, create_graph=True)
        penalty = (gradient.norm(dim=1) - 1.0).square().mean()
        agent.discriminator_optimizer.zero_grad()
        (expert_loss + own_loss + settings.gradient_penalty * penalty).backward()
        agent.discriminator_optimizer.step()
    gap = (expert_weights * expert_logits).sum() - (own_weights * own_logits).sum()
    return {
        "discriminator_expert_loss": expert_loss.item(),
        "discriminator_agent_loss": own_loss.item(),
        "discriminator_gradient_penalty": penalty.item(),
        "discriminator_logit_gap": gap.item(),
    }


@torch.no_grad()
def matching_rewards(logits: Tensor, lengths: list[int], horizon: int, gamma: float) -> Tensor:
    """[S]: the logit of every step; at the last one also what the state after the end earns until the horizon:

    l_end * (gamma + gamma^2 + ... + gamma^(horizon - length)).
    """
    rewards, after_the_end = logits[:-1].clone(), logits[-1]
    left = horizon - np.array(lengths)
    weights = gamma * (1.0 - gamma**left) / (1.0 - gamma)
    rewards[np.cumsum(lengths) - 1] += after_the_end * torch.tensor(weights, dtype=torch.float32)
    return rewards


# 4. PPO --------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def advantages_of(rewards: Tensor, values: Tensor, lengths: list[int], gamma: float, gae_lambda: float) -> Tensor:
    """delta_t = r_t + gamma V_(t+1) - V_t,   A_t = delta_t + gamma lambda A_(t+1)   (Schulman et al. 2016), padded.

    All are [T, E]. V is 0 after a battle's end: in SMAC the time limit ends a battle, too.
    """
    is_step = torch.arange(len(rewards)).unsqueeze(1) < torch.tensor(lengths)
    following, advantages = torch.zeros_like(values), torch.zeros_like(values)
    following[:-1] = torch.where(is_step[1:], values[1:], 0.0)
    delta = torch.where(is_step, rewards + gamma * following - values, 0.0)
    running = torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        running = advantages[t] = delta[t] + gamma * gae_lambda * running
    return advantages


def huber(errors: Tensor, delta: float) -> Tensor:
    return functional.huber_loss(errors, torch.zeros_like(errors), reduction="none", delta=delta)


def train_policy(agent: Agent, battles: Battles, rewards: Tensor, settings: Settings) -> dict[str, float]:
    """`epochs` gradient steps on all battles at once, back through their whole length."""
    lengths, alive, clip = battles.lengths, battles.alive, settings.clip
    before = torch.cat([torch.tensor([-1]), battles.actions[:-1]])  # own last action; none at a battle's first step
    before[np.cumsum(lengths) - lengths] = -1
    mask = battles.action_mask
    inputs = network_inputs(battles.observations, before, agent.index, agent.agents, mask.shape[1])
    inputs = battles.padded(inputs)
    with torch.no_grad():
        old_values = battles.flat(agent.critic(inputs)[0].squeeze(-1))
        values = old_values * agent.normalizer.std + agent.normalizer.mean
        advantages = battles.flat(
            advantages_of(battles.padded(rewards), battles.padded(values), lengths, settings.gamma, settings.gae_lambda)
        )
        returns = advantages + values
        agent.normalizer.update(returns)
        targets = (returns - agent.normalizer.mean) / agent.normalizer.std
        # The dead choose nothing: policy loss and advantages know the living only. They earn the team's reward all the
        # same, so the critic learns from every step.
        normalized = advantages - advantages[alive].mean()
        normalized = torch.where(alive, normalized / (normalized[alive].square().mean().sqrt() + 1e-5), 0.0)
    for _ in range(settings.epochs):
        logits = battles.flat(agent.actor(inputs)[0]).masked_fill(~mask, -1e9)
        values_now = battles.flat(agent.critic(inputs)[0].squeeze(-1))
        all_logp = torch.log_softmax(logits, -1)
        logp = all_logp.gather(-1, battles.actions.unsqueeze(-1)).squeeze(-1)
        # L_policy = -E min(r A, clip(r, 1 - c, 1 + c) A),  r = pi(a | o) / pi_old(a | o)   (Schulman et al. 2017)
        log_ratio = torch.where(alive, logp - battles.logp, 0.0)
        ratio = log_ratio.exp()
        objective = torch.minimum(ratio * normalized, ratio.clamp(1 - clip, 1 + clip) * normalized)
        policy_loss = -objective[alive].mean()
        entropy = -(all_logp.exp() * all_logp).sum(-1)[alive].mean()
        # L_value = E max(h(v - y), h(v_old + clip(v - v_old, -c, c) - y)),  h: Huber   (Yu et al. 2021)
        clipped = old_values + (values_now - old_values).clamp(-clip, clip)
        errors = (huber(v - targets, settings.huber_delta) for v in (values_now, clipped))
        value_loss = torch.maximum(*errors).mean()
        agent.optimizer.zero_grad()
        (policy_loss + settings.value_coef * value_loss - settings.entropy_coef * entropy).backward()
        actor_norm = clip_grad_norm_(agent.actor.parameters(), settings.max_grad_norm)
        critic_norm = clip_grad_norm_(agent.critic.parameters(), settings.max_grad_norm)
        agent.optimizer.step()
    return {
        "return_mean": returns.mean().item(),
        "value_mean": values.mean().item(),
        "advantage_std": advantages.std(correction=0).item(),
        "policy_loss": policy_loss.item(),
        "value_loss": value_loss.item(),
        "entropy": entropy.item(),
        "approx_kl": (ratio - 1.0 - log_ratio)[alive].mean().item(),
        "grad_norm_actor": actor_norm.item(),
        "grad_norm_critic": critic_norm.item(),
    }


# 5. An agent, and a run ----------------------------------------------------------------------------------------------


@dataclass
class Agent:
    """Everything that one agent owns; agents share nothing."""

    index: int
    agents: int
    obs_size: int
    actions: int
    settings: Settings
    normalizer: ValueNormalizer = field(default_factory=ValueNormalizer)

    def __post_init__(self) -> None:
        settings, hidden = self.settings, self.settings.hidden_size
        inputs = self.obs_size + self.actions + self.agents
        generator = torch.Generator().manual_seed(stream(settings.seed, INITIALIZATION, self.index))
        self.actor = Network(inputs, self.actions, hidden, 0.01, generator)
        self.critic = Network(inputs, 1, hidden, 1.0, generator)
        generator = torch.Generator().manual_seed(stream(settings.seed, INITIALIZATION, self.index, 1))
        self.discriminator = Discriminator(self.obs_size + 1, hidden, generator)
        parameters = [*self.actor.parameters(), *self.critic.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate, eps=settings.adam_eps)
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=settings.discriminator_lr)

    def learn(
        self, iteration: int, battles: Battles, expert_rows: Tensor, expert_lengths: list[int], horizon: int
    ) -> dict[str, float]:
        """One iteration on the agent's own battles and on its own expert's observations."""
        settings = self.settings
        seed = stream(settings.seed, DISCRIMINATOR_UPDATE, self.index, iteration)
        generator = torch.Generator().manual_seed(seed)
        own_rows = visited(battles.observations)
        expert = Visitation(visited(expert_rows), expert_lengths, horizon, generator)
        own = Visitation(own_rows, battles.lengths, horizon, generator)
        metrics = train_discriminator(self, expert, own, horizon, settings, generator)
        with torch.no_grad():
            logits = self.discriminator(own_rows)
        matching = matching_rewards(logits, battles.lengths, horizon, settings.gamma)
        rewards = battles.team_rewards + settings.coefficient * matching
        metrics |= {"matching_reward_mean": matching.mean().item(), "padding_reward": logits[-1].item()}
        return metrics | train_policy(self, battles, rewards, settings)


class Run:
    """A team, its world and its experts."""

    def __init__(self, demonstrations: str, settings: Settings) -> None:
        torch.set_num_threads(1)  # sums do not depend on the machine then, and small networks are no slower
        self.experts = JointTrajectories.open(demonstrations)
        self.world = BattleVector(self.experts.manifest.map, settings.battles, seed=settings.seed)
        world, self.settings, self.iteration = self.world, settings, 0
        agents = range(world.num_agents)
        self.team = [Agent(i, len(agents), world.obs_size, world.num_actions, settings) for i in agents]

    def train(self) -> tuple[float, list[dict[str, float]]]:
        """One iteration: win rate of its battles, and every agent's metrics under the names of metrics.jsonl."""
        k, settings, horizon = self.iteration, self.settings, self.world.episode_limit
        played, win_rate = play(self.team, self.world, k, settings)
        # The same episodes for all agents: this is what makes the demonstrations joint.
        ids = draw_episodes(
            self.experts.num_episodes, len(self.team), settings.episodes_per_draw, settings.seed, k, "concurrent"
        )
        metrics = []
        for agent, battles in zip(self.team, played, strict=True):
            expert = self.experts.agent_slice(agent.index, ids[agent.index])
            rows = torch.tensor(expert.observations)
            metrics.append(agent.learn(k, battles, rows, expert.episode_lengths.tolist(), horizon))
        self.iteration += 1
        return win_rate, metrics


def main() -> None:
    parser = argparse.ArgumentParser(description="DM2 in one file")
    parser.add_argument("demonstrations", help="a set that `dm2 demos record` made")
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    run = Run(options.demonstrations, Settings(seed=options.seed))
    for iteration in range(1, options.iterations + 1):
        win_rate, metrics = run.train()
        first = metrics[0]
        print(
            f"iteration {iteration:3d}  win rate {win_rate:.2f}  agent_0: return {first['return_mean']:6.2f}  "
            f"matching reward {first['matching_reward_mean']:6.2f}  entropy {first['entropy']:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
