"""MAPPO as an algorithm: it learns, it is a function of its seed, and DM2's path knows nothing of the global state."""

from pathlib import Path
from typing import Any

import pytest

import dm2_ray
from dm2_ray.algorithms.dm2 import DM2Config
from dm2_ray.algorithms.mappo.mappo import MAPPO
from dm2_ray.config.schema import Experiment
from dm2_ray.distributed.resources import NotEnoughResources
from dm2_ray.distributed.rollout.env_runner_group import BattleEnvRunnerGroup
from dm2_ray.learning.policy import input_size

pytestmark = pytest.mark.usefixtures("local_ray")


def changed(experiment: Experiment, **sections: dict[str, Any]) -> Experiment:
    content = experiment.model_dump()
    return Experiment.model_validate(content | {name: content[name] | values for name, values in sections.items()})


def records(algorithm: MAPPO, iterations: int, *, evaluated: bool = False) -> list[dict[str, Any]]:
    """Without what depends on the clock."""
    found = []
    for _ in range(iterations):
        found.append(algorithm.learn())
        del found[-1]["timing"]
        if evaluated:
            assert algorithm.evaluate_battles(10).episodes == 10
    return found


def test_same_numbers_from_processes_and_driver_evaluated_or_not(small: Experiment) -> None:
    here = MAPPO(small)
    apart = MAPPO(changed(small, rollout={"env_runners": 1}, evaluation={"env_runners": 1}))
    assert records(here, 3) == records(apart, 3, evaluated=True)
    # Evaluations play the same battles, whichever processes play them.
    assert (here.evaluate_battles(10).returns == apart.evaluate_battles(10).returns).all()
    apart.stop()
    other = MAPPO(small.model_copy(update={"seed": 1}))
    assert records(other, 1) != records(MAPPO(small), 1)


def test_a_restored_algorithm_goes_on_bit_for_bit(small: Experiment) -> None:
    algorithm = MAPPO(small)
    records(algorithm, 2)
    state = algorithm.learning_state()
    following = records(algorithm, 2)
    restored = MAPPO(small)
    restored.restore_learning_state(state)
    assert (restored.iteration, restored.env_steps, restored.episodes) == (2, state["env_steps"], state["episodes"])
    assert records(restored, 2) == following


def test_a_run_that_cannot_start_ends_its_workers(small: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[BattleEnvRunnerGroup] = []

    def fail(group: BattleEnvRunnerGroup) -> None:
        groups.append(group)
        raise NotEnoughResources("none of them came up")

    monkeypatch.setattr(BattleEnvRunnerGroup, "wait_until_ready", fail)
    with pytest.raises(NotEnoughResources):
        MAPPO(changed(small, rollout={"env_runners": 1, "cpus_per_env_runner": 0.1}))
    (group,) = groups
    assert not group.handles


def test_learns_to_fight(small: Experiment) -> None:
    algorithm = MAPPO(
        changed(
            small,
            world={"map": "3m"},
            rollout={"battles_per_env_runner": 32, "env_steps": 1500},
            policy={"hidden_size": 32},
            ppo={"epochs": 8, "lr_actor": 2e-3, "lr_critic": 2e-3},
        )
    )
    returns = [record["return_mean"] for record in records(algorithm, 9)]
    assert returns[0] < 2.5
    assert sum(returns[-3:]) / 3 > 4.0


def test_the_critics_of_dm2_and_its_rollouts_know_no_state(small: Experiment) -> None:
    config = DM2Config().dm2(
        changed(small, learners={"processes": "driver"}).model_copy(update={"variant": "ippo", "algorithm": "dm2"})
    )
    algorithm = config.build_algo()
    algorithm.train()
    assert algorithm.env_runner_group.local_env_runner._collector.global_states is None
    _, obs_size, num_actions = config.run_spec.sizes
    own = input_size(obs_size, num_actions, 2, config.experiment.policy)
    widths = algorithm.learner_group.foreach_learner(
        lambda learner: [module.critic.input_norm.normalized_shape for module in learner.module.values()]
    )
    assert widths == [[(own,)], [(own,)]]
    algorithm.stop()
    central = MAPPO(small).learner.module.critic.input_norm.normalized_shape
    state_size = algorithm.env_runner_group.local_env_runner.env.state_size
    assert central == (state_size + 2,)


def test_nothing_depends_on_mappo_but_what_offers_and_builds_it() -> None:
    package = Path(dm2_ray.__file__).parent
    others = [path for path in package.rglob("*.py") if path.parent.name != "mappo"]
    knowing = [path for path in others if "dm2_ray.algorithms.mappo" in path.read_text()]
    assert sorted(knowing) == [package / "algorithms" / "__init__.py", package / "runs" / "trainables.py"]
