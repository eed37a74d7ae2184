"""What the shared actor and the central critic see, and that one agent whose state is its observation is IPPO."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import gymnasium
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from dm2_ray.algorithms.mappo.central_learner import CENTRAL, CentralLearner
from dm2_ray.algorithms.mappo.central_policy import CentralPolicy
from dm2_ray.algorithms.mappo.joint_battles import JointBattles
from dm2_ray.algorithms.mappo.joint_preparation import prepare_joint_batch
from dm2_ray.config.schema import Experiment, PolicySettings, PPOSettings
from dm2_ray.distributed.run_spec import RunSpec
from dm2_ray.learning.episodes import AgentTrajectory
from dm2_ray.learning.gradients import LearningDiverged
from dm2_ray.learning.policy import AgentPolicy
from dm2_ray.learning.ppo import PPOBatch, ppo_losses
from dm2_ray.learning.ppo_batch import prepare_policy_batch

OBS_SIZE, NUM_ACTIONS, STATE_SIZE = 6, 4, 9
LENGTHS = [5, 9, 3, 7]


@pytest.fixture
def joint_battles() -> Callable[..., JointBattles]:
    """Random battles; of the agents' views only what the team has in common is equal."""

    def build(lengths: Sequence[int], *, num_agents: int = 2, seed: int = 0) -> JointBattles:
        rng = np.random.default_rng(seed)
        steps, episodes = sum(lengths), len(lengths)
        rewards = rng.normal(size=steps).astype(np.float32)
        terminated = rng.random(episodes) < 0.5
        views = []
        for _ in range(num_agents):
            action_mask = rng.random((steps, NUM_ACTIONS)) < 0.6
            actions = rng.integers(NUM_ACTIONS, size=steps)
            action_mask[np.arange(steps), actions] = True
            views.append(
                AgentTrajectory(
                    observations=rng.uniform(-1, 1, (steps, OBS_SIZE)).astype(np.float32),
                    action_mask=action_mask,
                    actions=actions,
                    behavior_logp=np.log(rng.uniform(0.1, 0.9, steps)).astype(np.float32),
                    rewards=rewards,
                    alive=rng.random(steps) < 0.8,
                    episode_lengths=np.asarray(lengths, np.int64),
                    terminated=terminated,
                    final_observations=rng.uniform(-1, 1, (episodes, OBS_SIZE)).astype(np.float32),
                    policy_version=0,
                )
            )
        return JointBattles(
            agents=tuple(views),
            states=rng.uniform(-1, 1, (steps, STATE_SIZE)).astype(np.float32),
            final_states=rng.uniform(-1, 1, (episodes, STATE_SIZE)).astype(np.float32),
        )

    return build


def central(num_agents: int = 2, state_size: int = STATE_SIZE, **settings) -> CentralPolicy:
    settings = PolicySettings(**{"hidden_size": 8, "actor_gain": 1.0, **settings})
    return CentralPolicy(num_agents, OBS_SIZE, NUM_ACTIONS, state_size, settings, seed=3)


def learner(num_agents: int = 2, **sections) -> CentralLearner:
    policy = {"hidden_size": 8, **sections.pop("policy", {})}
    experiment = Experiment.model_validate({"algorithm": "mappo", "policy": policy, **sections})
    spec = dataclasses.replace(
        RunSpec.from_experiment(experiment),
        agent_ids=tuple(f"agent_{index}" for index in range(num_agents)),
        obs_size=OBS_SIZE,
        num_actions=NUM_ACTIONS,
        state_size=STATE_SIZE,
    )
    return CentralLearner(spec)


def outputs(module: CentralPolicy, battles: JointBattles) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and values in flat order: all steps of agent 0, then all of agent 1."""
    prepared = prepare_joint_batch(module, battles, PPOSettings())
    with torch.no_grad():
        return tuple(prepared.layout.unpack(x) for x in module(prepared.columns))


def test_the_critic_sees_the_state_and_the_actor_does_not(joint_battles: Callable) -> None:
    module, battles = central(), joint_battles(LENGTHS)
    states = battles.states.copy()
    states[10] += 1.0  # the sixth step of the second battle
    base, other = outputs(module, battles), outputs(module, dataclasses.replace(battles, states=states))
    assert torch.equal(base[0], other[0])
    changed = torch.zeros(48, dtype=torch.bool)
    changed[[*range(10, 14), *range(34, 38)]] = True  # from that step to the battle's end, for both agents
    assert ((base[1] != other[1]) == changed).all()


def test_the_actor_sees_its_own_observation_and_the_critic_does_not(joint_battles: Callable) -> None:
    module, battles = central(), joint_battles(LENGTHS)
    first, second = battles.agents
    observations = second.observations.copy()
    observations[10] += 1.0
    altered = (first, dataclasses.replace(second, observations=observations))
    base, other = outputs(module, battles), outputs(module, dataclasses.replace(battles, agents=altered))
    assert torch.equal(base[1], other[1])
    changed = (base[0] != other[0]).any(-1)
    assert not changed[:34].any() and changed[34] and not changed[38:].any()


def test_parameters_are_shared_and_the_id_tells_agents_apart(joint_battles: Callable) -> None:
    battles = joint_battles(LENGTHS)
    twins = dataclasses.replace(battles, agents=(battles.agents[0],) * 2)
    for observe, same in ((False, True), (True, False)):
        logits, values = outputs(central(observe_agent_id=observe), twins)
        assert torch.allclose(logits[:24], logits[24:], atol=1e-6) == same
        assert torch.allclose(values[:24], values[24:], atol=1e-6) == same


@pytest.mark.parametrize("settings", [{}, {"bptt_steps": 4}, {"network": "mlp"}])
def test_one_agent_whose_state_is_its_observation_is_independent_ppo(joint_battles: Callable, settings: dict) -> None:
    battles = joint_battles(LENGTHS, num_agents=1)
    (view,) = battles.agents
    battles = dataclasses.replace(battles, states=view.observations, final_states=view.final_observations)
    # The independent critic sees its own last action too, which is no part of a state.
    settings = {"hidden_size": 8, "observe_last_action": False, **settings}
    shared = central(num_agents=1, state_size=OBS_SIZE, **settings)
    independent = RLModuleSpec(
        AgentPolicy,
        gymnasium.spaces.Box(-1, 1, (OBS_SIZE,)),
        gymnasium.spaces.Discrete(NUM_ACTIONS),
        model_config={"num_agents": 1, "agent_index": 0, "policy": PolicySettings(**settings).model_dump()},
    ).build()
    independent.load_state_dict(shared.state_dict())
    ppo = PPOSettings()
    for _ in range(2):  # a second time, with a normalizer that has seen returns
        joint = prepare_joint_batch(shared, battles, ppo)
        alone = prepare_policy_batch(independent, view, view.rewards, ppo)
        assert joint.statistics == alone.statistics
        for name in ("advantages", "old_values", "value_targets", "alive", "actions", "action_mask"):
            assert torch.equal(joint.columns[name], alone.columns[name])
    forward = independent.forward_train(alone.columns)
    expected = ppo_losses(
        forward[Columns.ACTION_DIST_INPUTS], forward["values"], PPOBatch.from_columns(alone.columns), ppo
    )
    losses = ppo_losses(*shared(joint.columns), PPOBatch.from_columns(joint.columns), ppo)
    assert all(torch.equal(losses[name], expected[name]) for name in expected)


def test_a_restored_learner_goes_on_bit_for_bit(joint_battles: Callable) -> None:
    settings = {"policy": {"bptt_steps": 4}, "ppo": {"epochs": 2, "minibatches": 2}}
    one, other = learner(**settings), learner(**settings)
    one.train(joint_battles(LENGTHS, seed=0))
    other.train(joint_battles(LENGTHS, seed=5))
    other.train(joint_battles(LENGTHS, seed=6))
    kept = one.states()
    following = [one.train(joint_battles(LENGTHS, seed=k)) for k in (1, 2)]
    other.restore(kept)
    assert other.version == 1
    assert [other.train(joint_battles(LENGTHS, seed=k)) for k in (1, 2)] == following
    for name, value in one.module.state_dict().items():
        assert torch.equal(value, other.module.state_dict()[name])
    # What was handed out is a copy: the updates since have not changed it.
    again = learner(**settings)
    again.restore(kept)
    assert again.train(joint_battles(LENGTHS, seed=1)) == following[0]


def test_every_agent_is_given_the_same_actor(joint_battles: Callable) -> None:
    one = learner(num_agents=3)
    one.train(joint_battles(LENGTHS, num_agents=3))
    states = one.states()
    weights = [states[f"agent_{index}"]["modules"][f"agent_{index}"] for index in range(3)]
    for name, value in one.actor_weights().items():
        assert all(np.array_equal(agent[name], value) for agent in weights)
    assert CENTRAL in states["agent_0"]["modules"] and CENTRAL not in states["agent_1"]["modules"]


def test_states_of_others_are_refused(joint_battles: Callable) -> None:
    states = learner(num_agents=3).states()
    with pytest.raises(ValueError, match="3 states are not those of a central learner of 2 agents"):
        learner(num_agents=2).restore(states)
    del states["agent_0"]["modules"][CENTRAL]
    with pytest.raises(ValueError, match="not those of a central learner"):
        learner(num_agents=3).restore(states)


def test_a_gradient_that_is_not_finite_is_one_line(joint_battles: Callable) -> None:
    with pytest.raises(LearningDiverged, match="mappo, actor, iteration 0: the gradient is not finite") as raised:
        learner(ppo={"lr_actor": 1e30, "epochs": 5}).train(joint_battles(LENGTHS))
    assert "\n" not in str(raised.value)


def test_views_of_different_battles_are_refused(joint_battles: Callable) -> None:
    one, other = joint_battles([4, 5]), joint_battles([5, 4])
    with pytest.raises(ValueError, match="agents 0 and 1 have not seen the same battles"):
        dataclasses.replace(one, agents=(one.agents[0], other.agents[1]))
    with pytest.raises(ValueError, match="must have"):
        dataclasses.replace(one, states=one.states[1:])
