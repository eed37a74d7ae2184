"""SMAC's own class on the same games: same observations, state, masks, rewards, ends, and the same requests, byte for
byte. Needs oxwhirl/smac and pysc2, which few have; skipped without.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.maps import EVERY_MAP
from test_equal_to_embedded import choose

from dm2_ray.world.starcraft.protocol import load_protocol

if find_spec("smac") is None or find_spec("pysc2") is None:
    pytest.skip("oxwhirl/smac and pysc2 are not installed", allow_module_level=True)


def _install_messages() -> None:
    """pysc2 imports s2clientprotocol's own modules, which protobuf >= 4 refuses: the same messages in their place."""
    from google.protobuf import message_factory
    from google.protobuf.internal import enum_type_wrapper

    pool = load_protocol().pool
    for name in ("common", "data", "debug", "error", "query", "raw", "sc2api", "score", "spatial", "ui"):
        file = pool.FindFileByName(f"s2clientprotocol/{name}.proto")
        module = ModuleType(f"s2clientprotocol.{name}_pb2")
        module.__dict__["DESCRIPTOR"] = file
        for message_name, descriptor in file.message_types_by_name.items():
            module.__dict__[message_name] = message_factory.GetMessageClass(descriptor)
        for enum_name, descriptor in file.enum_types_by_name.items():
            module.__dict__[enum_name] = enum_type_wrapper.EnumTypeWrapper(descriptor)
            module.__dict__.update({value.name: value.number for value in descriptor.values})
        sys.modules[module.__name__] = module


_install_messages()
starcraft2 = pytest.importorskip("smac.env.starcraft2.starcraft2")
flags = pytest.importorskip("absl.flags")
if not flags.FLAGS.is_parsed():
    flags.FLAGS(["test"])

SWITCHES: list[dict[str, Any]] = [
    {},
    {
        "obs_last_action": True,
        "obs_pathing_grid": True,
        "obs_terrain_height": True,
        "state_timestep_number": True,
        "continuing_episode": True,
    },
    {"obs_all_health": False, "obs_own_health": False, "obs_instead_of_state": True, "reward_only_positive": False},
    {"obs_timestep_number": True, "reward_sparse": True, "state_last_action": False, "step_mul": 4, "move_amount": 1},
    {"heuristic_ai": True},
    {"heuristic_ai": True, "heuristic_rest": True, "obs_last_action": True},
]
NAMES = ["defaults", "all_shown", "little_shown", "sparse", "heuristic", "heuristic_rest"]


@pytest.fixture
def smac(installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Opens SMAC's class on the fake installation."""
    monkeypatch.setenv("SC2PATH", str(installation.root))
    opened = []

    def open_one(**arguments: Any) -> Any:
        opened.append(starcraft2.StarCraft2Env(**arguments))
        return opened[-1]

    yield open_one
    for env in opened:
        env.close()


@pytest.mark.parametrize("options", SWITCHES, ids=NAMES)
@pytest.mark.parametrize("map_name", EVERY_MAP)
def test_equal_to_smac(
    installation, open_vector, smac, map_name: str, options: dict[str, Any], record_property
) -> None:
    installation.command("reverse_enemies", len(options) % 2)
    vector = open_vector(map_name, 1, seed=11, **options)
    vector.reset()
    (ours,) = vector.game_pids
    (create,) = [m.create_game for m in installation.messages(ours) if m.HasField("create_game")]

    env = smac(map_name=map_name, seed=create.random_seed, **options)
    obs, state = env.reset()
    (theirs,) = set(installation.launches()) - {ours}
    # Later battles may be created late. (In the first one SMAC would add what it sees to max_reward at every look: a
    # quirk that is not reproduced.)
    installation.command("late_loops", 2 if options else 0)
    rng = np.random.default_rng(5)
    compared = battles = steps = 0
    while battles < 3 and steps < 400:
        mask = np.array(env.get_avail_actions())
        assert np.array_equal(vector.observations[0], np.array(obs, np.float32))
        assert np.array_equal(vector.state[0], np.asarray(state, np.float32))
        assert np.array_equal(vector.action_mask[0], mask)
        compared += 3
        actions = choose(vector.action_mask, rng)
        reward, terminated, info = env.step(list(actions[0]))
        obs, state = env.get_obs(), env.get_state()
        vector.step(actions)
        steps += 1
        assert vector.rewards[0] == reward
        assert bool(vector.terminated[0] or vector.truncated[0]) == terminated
        assert bool(vector.battle_won[0]) == info["battle_won"]
        assert (vector.dead_allies[0], vector.dead_enemies[0]) == (info["dead_allies"], info["dead_enemies"])
        assert bool(vector.truncated[0]) == info.get("episode_limit", False)
        compared += 6
        if terminated:
            assert np.array_equal(vector.final_observations[0], np.array(obs, np.float32))
            assert np.array_equal(vector.final_state[0], np.asarray(state, np.float32))
            assert np.array_equal(vector.final_action_mask[0], np.array(env.get_avail_actions()))
            compared += 3
            battles += 1
            obs, state = env.reset()
    # Everything that was asked of the two games, in the same order, byte for byte.
    found, expected = installation.requests(ours), installation.requests(theirs)
    if "heuristic_ai" in options:
        # SMAC's heuristic orders the dead about as well.
        kinds = [[m.WhichOneof("request") for m in installation.messages(pid)] for pid in (ours, theirs)]
        assert kinds[0] == kinds[1]
    else:
        assert found == expected
    record_property("compared", compared)
    record_property("requests", len(found))
    print(f"{map_name}: {steps} steps, {battles} battles, {compared} values and arrays, {len(found)} requests equal")
