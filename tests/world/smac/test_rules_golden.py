"""The rules against recordings of the real SMAC class: every array equal, bit for bit.

`data/smac_golden.npz` holds what oxwhirl/smac's StarCraft2Env (d6aab33) returned for given unit states: 23 maps, three
sets of constructor arguments, two battles one after the other on one object.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from dm2_ray.world import RulesReplay, map_names


@cache
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parents[1] / "data" / "smac_golden.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.mark.parametrize("option", range(3))
@pytest.mark.parametrize("map_name", map_names())
def test_equals_smac(map_name: str, option: int) -> None:
    data, arguments = golden(), json.loads(str(golden()["options_json"]))[option]
    heights = data[f"{map_name}|{option}|terrain_height"]
    replay = RulesReplay(map_name, terrain_height=heights, **arguments)
    for episode in range(2):
        recorded = {
            key.rpartition("|")[2]: value
            for key, value in data.items()
            if key.startswith(f"{map_name}|{option}|{episode}|")
        }

        def check(found: tuple[np.ndarray, ...], snapshot: int, recorded: dict[str, np.ndarray] = recorded) -> None:
            for array, name in zip(found, ("obs", "state", "avail"), strict=True):
                assert array.dtype == recorded[name].dtype
                np.testing.assert_array_equal(array, recorded[name][snapshot], err_msg=name)

        check(replay.reset(recorded["allies"][0], recorded["enemies"][0]), 0)
        for s, actions in enumerate(recorded["actions"]):
            *perceived, reward, terminated, info = replay.step(
                actions, recorded["allies"][s + 1], recorded["enemies"][s + 1]
            )
            check(tuple(perceived), s + 1)
            assert reward == recorded["reward"][s]
            assert terminated == recorded["terminated"][s]
            assert info["battle_won"] == recorded["battle_won"][s]
            assert info["dead_allies"] == recorded["dead_allies"][s]
            assert info["dead_enemies"] == recorded["dead_enemies"][s]
            assert info.get("episode_limit", False) == recorded["episode_limit_info"][s]
