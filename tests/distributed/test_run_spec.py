"""What every process of a run is told, computed from the experiment."""

import pickle
from typing import Any

import pytest

from dm2_ray.algorithms import DM2Config
from dm2_ray.config.schema import Experiment
from dm2_ray.distributed.fault_log import FaultKind
from dm2_ray.distributed.run_spec import BattleQuota, RunSpec


def spec_of(**sections: Any) -> RunSpec:
    return RunSpec.from_experiment(Experiment.model_validate({"world": {"map": "3m"}, **sections}))


def test_the_team_and_its_sizes_are_those_of_the_map() -> None:
    spec = spec_of()
    assert spec.agent_ids == ("agent_0", "agent_1", "agent_2")
    assert (spec.sizes, spec.state_size, spec.episode_limit) == ((3, 30, 9), 48, 60)
    observations, actions = spec.spaces()
    assert (observations.shape, actions.n) == ((30,), 9)


def test_env_steps_are_split_into_equal_tasks_rounded_up() -> None:
    spec = spec_of(rollout={"env_steps": 1000, "env_runners": 3})
    assert spec.rollout_quotas == (BattleQuota(env_steps=334),) * 3


def test_episodes_are_split_exactly_and_tasks_without_episodes_are_left_out() -> None:
    spec = spec_of(rollout={"unit": "episodes", "episodes": 5, "tasks": 3})
    assert [quota.episodes for quota in spec.rollout_quotas] == [2, 2, 1]
    spec = spec_of(rollout={"unit": "episodes", "episodes": 2, "tasks": 3})
    assert [quota.episodes for quota in spec.rollout_quotas] == [1, 1]


def test_tasks_do_not_depend_on_the_number_of_workers_where_they_are_given() -> None:
    one, many = (spec_of(rollout={"tasks": 4, "env_runners": workers}) for workers in (1, 8))
    assert one.rollout_quotas == many.rollout_quotas
    assert one.evaluation_tasks == many.evaluation_tasks == 4


def test_without_matching_there_are_no_discriminators_and_no_servers() -> None:
    ippo = spec_of(matching={"coefficient": 0.0})
    assert set(ippo.module_specs()) == set(ippo.agent_ids)
    assert not ippo.uses_demonstrations and ippo.resources.group(FaultKind.EXPERT).count == 0
    dm2 = spec_of()
    assert set(dm2.module_specs()) == {*dm2.agent_ids, *map(dm2.discriminator_id, dm2.agent_ids)}
    assert dm2.resources.group(FaultKind.EXPERT).count == 1


def test_cloning_alone_uses_demonstrations() -> None:
    spec = spec_of(matching={"coefficient": 0.0}, cloning={"iterations": 2})
    assert spec.uses_demonstrations and not spec.matches


def test_resources_in_words_in_sum_and_in_the_order_of_tunes_bundles() -> None:
    spec = spec_of(
        rollout={"env_runners": 2, "max_env_runners": 5},
        evaluation={"env_runners": 1},
        learners={"cpus_per_learner": 0.2, "gpus_per_learner": 0.25},
    )
    assert spec.resources.arithmetic() == (
        "2 rollout workers x 1 CPU (up to 5), 1 evaluation workers x 1 CPU, 3 learners x 0.2 CPU + 0.25 GPU, "
        "1 expert actors x 0.1 CPU"
    )
    assert spec.resources.total == pytest.approx({"CPU": 3.7, "GPU": 0.75})
    bundles = [{}, *spec.resources.bundles()]  # the driver's comes first
    assert bundles[spec.resources.first_bundle(FaultKind.EVALUATION_WORKER)] == {"CPU": 1.0}
    assert bundles[spec.resources.first_bundle(FaultKind.LEARNER)] == {"CPU": 0.2, "GPU": 0.25}
    assert bundles[spec.resources.first_bundle(FaultKind.EXPERT)] == {"CPU": 0.1}
    assert spec.resources.first_bundle(FaultKind.ROLLOUT_WORKER) == 1


def test_mappo_starts_env_runners_only() -> None:
    resources = spec_of(algorithm="mappo", rollout={"env_runners": 2}).resources
    assert resources.arithmetic() == "2 rollout workers x 1 CPU, one learner in the driver"
    assert resources.total == {"CPU": 2.0}


def test_a_spec_survives_being_sent() -> None:
    spec = spec_of()
    sent = pickle.loads(pickle.dumps(spec))
    assert (sent.experiment, sent.sizes, sent.rollout_quotas) == (spec.experiment, spec.sizes, spec.rollout_quotas)
    assert (sent.map_spec.name, sent.resources) == (spec.map_spec.name, spec.resources)


def test_a_configuration_and_its_copy_follow_their_own_experiment() -> None:
    config = DM2Config().dm2(world={"map": "3m"})
    changed = config.copy(copy_frozen=False).dm2(world={"map": "2m_vs_1z"}, seed=5)
    assert (config.run_spec.num_agents, changed.run_spec.num_agents) == (3, 2)
    assert (changed.experiment.seed, changed.seed, config.seed) == (5, 5, 0)


def test_every_section_is_explained_where_it_is_set() -> None:
    text = DM2Config.dm2.__doc__ or ""
    missing = [name for name in Experiment.model_fields if f"{name}:" not in text and f"{name}," not in text]
    assert not missing
