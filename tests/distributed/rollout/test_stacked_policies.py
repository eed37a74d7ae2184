"""The stacked forward pass must be the N policies, one after the other, and nothing else."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from dm2_ray.config.schema import PolicySettings
from dm2_ray.distributed.rollout.stacked_policies import StackedPolicies
from dm2_ray.learning.policy import AgentPolicy

NUM_AGENTS, NUM_BATTLES, OBS_SIZE, NUM_ACTIONS = 3, 7, 11, 5
N, B, A = NUM_AGENTS, NUM_BATTLES, NUM_ACTIONS


class Battles:
    num_battles = B


def policies(settings: PolicySettings) -> list[AgentPolicy]:
    torch.manual_seed(0)
    modules = []
    for agent in range(N):
        module = AgentPolicy(
            observation_space=gym.spaces.Box(-1, 1, (OBS_SIZE,)),
            action_space=gym.spaces.Discrete(A),
            model_config={"num_agents": N, "agent_index": agent, "policy": settings.model_dump()},
        )
        for parameter in module.parameters():  # also what starts as ones and zeros
            torch.nn.init.normal_(parameter, std=0.4)
        modules.append(module)
    return modules


@pytest.mark.parametrize(("network", "open_loop"), [("gru", False), ("mlp", False), ("gru", True)])
@pytest.mark.parametrize("extras", [True, False])
def test_equals_the_separate_policies_over_a_battle(network: str, open_loop: bool, extras: bool) -> None:
    settings = PolicySettings(
        network=network, open_loop=open_loop, hidden_size=16, observe_last_action=extras, observe_agent_id=extras
    )
    modules = policies(settings)
    stacked = StackedPolicies(N, OBS_SIZE, A, settings, seed=3)
    stacked.load([module.state_dict() for module in modules])
    stacked.reset_states(Battles())
    rng = np.random.default_rng(0)
    states: list[dict] = [{} for _ in range(N)]
    last_actions = np.full((N, B), -1)
    for step in range(6):
        observations = rng.standard_normal((B, N, OBS_SIZE)).astype(np.float32)
        mask = rng.random((B, N, A)) < 0.6
        mask[..., 0] = True
        actions, logp = stacked.act_with_logp(observations, mask)
        for agent, module in enumerate(modules):
            batch = {
                Columns.OBS: torch.from_numpy(observations[:, agent]),
                "last_actions": torch.from_numpy(last_actions[agent]),
                "action_mask": torch.from_numpy(mask[:, agent]),
            }
            if states[agent]:
                batch[Columns.STATE_IN] = states[agent]
            with torch.no_grad():
                out = module.forward_inference(batch)
            expected = torch.log_softmax(out[Columns.ACTION_DIST_INPUTS], -1)
            assert torch.allclose(logp[agent], expected[torch.arange(B), actions[agent]], atol=2e-5)
            states[agent] = out.get(Columns.STATE_OUT, {})
        assert mask[np.arange(B)[:, None], np.arange(N), actions.T.numpy()].all()
        last_actions = actions.numpy().copy()
        if step == 1:  # something else was done, as in recordings with random actions
            last_actions = rng.integers(0, A, (N, B))
            stacked.remember_actions(last_actions.T)
        if step == 2:  # some battles end: their memory starts afresh, the others' goes on
            ended = np.arange(B) % 2 == 0
            stacked.reset_finished(ended)
            last_actions[:, ended] = -1
            for state in states:
                for value in state.values():
                    value[torch.from_numpy(ended)] = 0.0


def test_sampling_follows_the_policy() -> None:
    settings = PolicySettings(network="mlp", hidden_size=8)
    modules = policies(settings)
    stacked = StackedPolicies(N, OBS_SIZE, A, settings, seed=1)
    stacked.load([module.state_dict() for module in modules])
    observations = np.random.default_rng(1).standard_normal((1, N, OBS_SIZE)).astype(np.float32).repeat(4000, 0)
    mask = np.ones((4000, N, A), bool)
    mask[..., 2] = False

    class Many:
        num_battles = 4000

    stacked.reset_states(Many())
    actions, logp = stacked.act_with_logp(observations, mask)
    for agent in range(N):
        for action in range(A):
            chosen = actions[agent] == action
            if chosen.any():
                assert abs(chosen.float().mean() - logp[agent][chosen][0].exp()) < 0.04
        assert not (actions[agent] == 2).any()


def test_same_seed_same_actions() -> None:
    settings = PolicySettings(hidden_size=8)
    modules = policies(settings)
    observations = np.zeros((B, N, OBS_SIZE), np.float32)
    mask = np.ones((B, N, A), bool)
    drawn = []
    for _ in range(2):
        stacked = StackedPolicies(N, OBS_SIZE, A, settings)
        stacked.load([module.state_dict() for module in modules])
        stacked.reset_states(Battles(), seed=17)
        drawn.append([stacked.act_with_logp(observations, mask)[0].clone() for _ in range(5)])
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))


def test_refuses_weights_of_another_world() -> None:
    settings = PolicySettings(hidden_size=8)
    weights = [module.state_dict() for module in policies(settings)]
    with pytest.raises(ValueError, match="inputs of size"):
        StackedPolicies(N, OBS_SIZE + 1, A, settings).load(weights)
    with pytest.raises(ValueError, match="2 agents given, the team has 3"):
        StackedPolicies(N, OBS_SIZE, A, settings).load(weights[:2])
