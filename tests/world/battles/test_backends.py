"""From a configured world to its battles."""

from __future__ import annotations

import numpy as np

from dm2_ray.config.schema import WorldSettings
from dm2_ray.world import BattleVector
from dm2_ray.world.backends import build_battles
from dm2_ray.world.engine_settings import EngineSettings


def test_engine_settings_of_the_configuration_reach_the_battles() -> None:
    engine = {"balance": "lotv", "spawn_jitter": 1}
    battles = build_battles(WorldSettings(map="2s3z", engine=engine, smac={"obs_last_action": True}), 3, seed=5)
    same = BattleVector("2s3z", 3, 5, engine=EngineSettings(balance="lotv", spawn_jitter=1.0), obs_last_action=True)
    battles.reset()
    same.reset()
    assert np.array_equal(battles.observations, same.observations)
    usual = BattleVector("2s3z", 3, 5, obs_last_action=True)
    usual.reset()
    assert not np.array_equal(battles.observations, usual.observations)
