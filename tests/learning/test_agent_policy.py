"""The policy acts as it is trained, remembers whole battles, and keeps battles apart."""

from __future__ import annotations

import itertools

import gymnasium
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from dm2_ray.config.schema import PolicySettings
from dm2_ray.learning.policy import AgentPolicy, build_policy_inputs, policy_parameter_groups
from dm2_ray.learning.sequences import PackedLayout

LENGTHS = [3, 7, 1, 5]


def training_batch(trajectory, layout, states=None):
    columns = {
        Columns.OBS: trajectory.observations,
        "last_actions": trajectory.last_actions,
        "action_mask": trajectory.action_mask,
    }
    batch = {name: layout.pack(torch.from_numpy(array)) for name, array in columns.items()}
    batch["batch_sizes"] = layout.batch_sizes
    if states is not None:
        batch[Columns.STATE_IN] = states
    return batch


def act_step_by_step(module, trajectory):
    """Flat [S, A] logits, one call per step, carrying the state as a rollout does."""
    logits = []
    for first, length in zip(trajectory.first_rows, trajectory.episode_lengths, strict=True):
        state = {name: x.unsqueeze(0) for name, x in module.get_initial_state().items()}
        for row in range(first, first + length):
            batch = {
                Columns.OBS: torch.from_numpy(trajectory.observations[row : row + 1]),
                "last_actions": torch.from_numpy(trajectory.last_actions[row : row + 1]),
                "action_mask": torch.from_numpy(trajectory.action_mask[row : row + 1]),
            }
            if state:
                batch[Columns.STATE_IN] = state
            output = module.forward_exploration(batch)
            state = output.get(Columns.STATE_OUT, {})
            logits.append(output[Columns.ACTION_DIST_INPUTS])
    return torch.cat(logits)


@pytest.mark.parametrize(("network", "open_loop"), [("gru", False), ("mlp", False), ("gru", True)])
@pytest.mark.parametrize("bptt_steps", [0, 1, 3])
@pytest.mark.parametrize("extras", [True, False])
def test_acting_and_training_give_the_same_logits(policy, policy_spec, battles, network, open_loop, bptt_steps, extras):
    settings = {
        "network": network,
        "open_loop": open_loop,
        "observe_last_action": extras,
        "observe_agent_id": extras,
    }
    module, trajectory = policy(**settings), battles(LENGTHS)
    actor = policy_spec(inference_only=True, seed=None, **settings).build()
    actor.set_state(module.get_state(inference_only=True))
    acted = act_step_by_step(actor, trajectory)

    layout = PackedLayout.from_lengths(trajectory.episode_lengths)
    with torch.no_grad():
        whole = module.forward_train(training_batch(trajectory, layout))
    torch.testing.assert_close(layout.unpack(whole[Columns.ACTION_DIST_INPUTS]), acted, rtol=1e-5, atol=1e-5)
    if bptt_steps and network == "gru":
        chunks = PackedLayout.from_lengths(trajectory.episode_lengths, bptt_steps)
        states = {part: chunks.start_states(layout.unpack(whole[f"{part}_features"])) for part in ("actor", "critic")}
        chunked = module.forward_train(training_batch(trajectory, chunks, states))
        torch.testing.assert_close(chunks.unpack(chunked[Columns.ACTION_DIST_INPUTS]), acted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(chunks.unpack(chunked["values"]), layout.unpack(whole["values"]))


def test_the_last_action_matters_and_so_does_there_being_none(policy, battles):
    module, trajectory = policy(), battles([4])
    layout = PackedLayout.from_lengths(trajectory.episode_lengths)
    batch = training_batch(trajectory, layout)
    plain = module.forward_train(batch)["values"]
    first_changed = module.forward_train({**batch, "last_actions": batch["last_actions"].clamp(min=0)})["values"]
    assert (plain != first_changed).all()


def test_inputs_by_hand():
    observations = torch.tensor([[0.5, -1.0], [2.0, 3.0]])
    inputs = build_policy_inputs(observations, torch.tensor([-1, 2]), 3, 1, 2, PolicySettings())
    assert inputs.tolist() == [[0.5, -1.0, 0, 0, 0, 0, 1], [2.0, 3.0, 0, 0, 1, 0, 1]]
    bare = PolicySettings(observe_last_action=False, observe_agent_id=False)
    assert build_policy_inputs(observations, torch.tensor([-1, 2]), 3, 1, 2, bare).tolist() == observations.tolist()


@pytest.mark.parametrize("bptt_steps", [0, 4])
def test_gradient_reaches_the_first_step_of_a_sequence_and_stops_there(policy, battles, bptt_steps):
    module, trajectory = policy(hidden_size=32), battles([3, 7])
    whole = PackedLayout.from_lengths(trajectory.episode_lengths)
    full = module.forward_train(training_batch(trajectory, whole))
    layout = PackedLayout.from_lengths(trajectory.episode_lengths, bptt_steps)
    states = {part: layout.start_states(whole.unpack(full[f"{part}_features"])) for part in ("actor", "critic")}
    batch = training_batch(trajectory, layout, states if bptt_steps else None)
    observations = torch.from_numpy(trajectory.observations).requires_grad_()
    batch[Columns.OBS] = layout.pack(observations)
    output = module.forward_train(batch)

    last_row = 9
    chunk_start = 3 if bptt_steps == 0 else 3 + 4
    for quantity in (
        layout.unpack(output["values"])[last_row],
        layout.unpack(output[Columns.ACTION_DIST_INPUTS])[last_row][torch.from_numpy(trajectory.action_mask[last_row])],
    ):
        (gradient,) = torch.autograd.grad(quantity.sum(), observations, retain_graph=True)
        assert gradient[chunk_start].abs().max() > 1e-6
        assert (gradient[:chunk_start] == 0).all()


def test_an_mlp_sees_its_own_step_only(policy, battles):
    module, trajectory = policy(network="mlp"), battles([5])
    layout = PackedLayout.from_lengths(trajectory.episode_lengths)
    observations = torch.from_numpy(trajectory.observations).requires_grad_()
    output = module.forward_train({**training_batch(trajectory, layout), Columns.OBS: layout.pack(observations)})
    (gradient,) = torch.autograd.grad(layout.unpack(output["values"])[3], observations)
    assert gradient.abs().sum(-1).nonzero().flatten().tolist() == [3]
    assert output["actor_features"] is None and module.get_initial_state() == {}


def test_the_order_of_battles_does_not_matter(policy, battles):
    module = policy()
    trajectory = battles(LENGTHS)
    starts = trajectory.first_rows
    for permutation in itertools.islice(itertools.permutations(range(len(LENGTHS))), 0, 24, 7):
        rows = np.concatenate([np.arange(starts[e], starts[e] + LENGTHS[e]) for e in permutation])
        layouts = [PackedLayout.from_lengths(np.array(x)) for x in (LENGTHS, [LENGTHS[e] for e in permutation])]
        batch = training_batch(trajectory, layouts[0])
        reordered = {
            name: layouts[1].pack(layouts[0].unpack(column)[rows])
            for name, column in batch.items()
            if name != "batch_sizes"
        }
        reordered["batch_sizes"] = layouts[1].batch_sizes
        expected = layouts[0].unpack(module.forward_train(batch)["values"])[rows]
        torch.testing.assert_close(layouts[1].unpack(module.forward_train(reordered)["values"]), expected)


def test_unavailable_actions_have_no_probability_and_no_gradient(policy, battles):
    module, trajectory = policy(), battles([6])
    layout = PackedLayout.from_lengths(trajectory.episode_lengths)
    batch = training_batch(trajectory, layout)
    logits = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS]
    assert logits.isfinite().all()
    assert (torch.softmax(logits, -1)[~batch["action_mask"]] == 0).all()
    logits[~batch["action_mask"]].sum().backward()
    assert all((p.grad == 0).all() for p in module.actor.parameters() if p.grad is not None)


def test_every_parameter_is_in_exactly_one_group(policy):
    for network in ("gru", "mlp"):
        module = policy(network=network)
        groups = policy_parameter_groups(module)
        grouped = [id(p) for group in groups.values() for p in group]
        assert set(groups) == {"actor", "critic"}
        assert sorted(grouped) == sorted(id(p) for p in module.parameters())
        assert list(module.value_normaliser.parameters()) == []


def test_actor_and_critic_share_nothing(policy, battles):
    module, trajectory = policy(), battles(LENGTHS)
    layout = PackedLayout.from_lengths(trajectory.episode_lengths)
    module.forward_train(training_batch(trajectory, layout))["values"].sum().backward()
    assert all(p.grad is None for p in module.actor.parameters())
    assert all(p.grad is not None for p in module.critic.parameters())


def test_weights_are_a_function_of_the_seed_and_start_indifferent(policy, battles):
    def weights(**arguments):
        return torch.nn.utils.parameters_to_vector(policy(**arguments).parameters())

    torch.testing.assert_close(weights(seed=3), weights(seed=3), rtol=0, atol=0)
    assert not torch.equal(weights(seed=3), weights(seed=4))
    assert not torch.equal(weights(seed=None), weights(seed=None))
    module, trajectory = policy(actor_gain=0.01), battles([6])
    layout = PackedLayout.from_lengths(trajectory.episode_lengths)
    batch = training_batch(trajectory, layout)
    probabilities = torch.softmax(module.forward_train(batch)[Columns.ACTION_DIST_INPUTS], -1)
    uniform = batch["action_mask"] / batch["action_mask"].sum(-1, keepdim=True)
    torch.testing.assert_close(probabilities, uniform, rtol=0.05, atol=0.0)


def test_rllib_builds_it_whole_and_for_inference_only(policy_spec):
    learner = MultiRLModuleSpec(rl_module_specs={f"agent_{i}": policy_spec(agent_index=i, seed=i) for i in range(3)})
    runner = MultiRLModuleSpec(
        rl_module_specs={f"agent_{i}": policy_spec(agent_index=i, inference_only=True) for i in range(3)}
    )
    learner, runner = learner.build(), runner.build()
    runner.set_state(learner.get_state(inference_only=True))
    for i in range(3):
        whole, part = learner[f"agent_{i}"], runner[f"agent_{i}"]
        assert isinstance(part, AgentPolicy)
        assert not hasattr(part, "critic") and not hasattr(part, "value_normaliser")
        assert list(part.state_dict()) == [name for name in whole.state_dict() if name.startswith("actor.")]
        for name, value in part.state_dict().items():
            torch.testing.assert_close(value, whole.state_dict()[name], rtol=0, atol=0)


def test_state_round_trip_keeps_the_normalizer_bit_for_bit(policy):
    module, other = policy(), policy(seed=5)
    module.value_normaliser.update(torch.randn(100) * 3 + 7)
    other.set_state(module.get_state())
    for name, value in module.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=0)


def test_values_come_in_reward_units(policy, battles):
    module, trajectory = policy(), battles(LENGTHS)
    batch = training_batch(trajectory, PackedLayout.from_lengths(trajectory.episode_lengths))
    raw = module.forward_train(batch)["values"]
    torch.testing.assert_close(module.compute_values(batch), raw)
    module.value_normaliser.update(torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(module.compute_values(batch), raw * 1.0 + 2.0)
    with pytest.raises(ValueError, match="no embeddings"):
        module.compute_values(batch, embeddings=torch.zeros(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observation_space": gymnasium.spaces.Box(0, 1, (2, 3))}, "Box of one dimension"),
        ({"action_space": gymnasium.spaces.Box(0, 1, (2,))}, "must be Discrete"),
        (
            {"model_config": {"num_agents": 3, "agent_index": 3, "policy": PolicySettings().model_dump()}},
            "agent_index must lie in 0 ... 2, found 3",
        ),
    ],
)
def test_impossible_specifications_are_refused(change, message):
    arguments = {
        "module_class": AgentPolicy,
        "observation_space": gymnasium.spaces.Box(0, 1, (2,)),
        "action_space": gymnasium.spaces.Discrete(2),
        "model_config": {"num_agents": 1, "agent_index": 0, "policy": PolicySettings().model_dump()},
    }
    with pytest.raises(ValueError, match=message):
        RLModuleSpec(**{**arguments, **change}).build()
