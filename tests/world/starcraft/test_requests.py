"""What a game is asked, and how it is started: the order and the contents that SMAC has (see test_against_smac)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.cli

STOP, NORTH, SOUTH, EAST, WEST = range(1, 6)


def names(messages: list[Any]) -> list[str]:
    return [message.WhichOneof("request") for message in messages]


def test_a_battle_in_requests(installation, open_vector) -> None:
    vector = open_vector("MMM", 1)
    vector.reset()
    vector.reset()  # a fresh battle is kept
    (pid,) = vector.game_pids
    launch = ["ping", "create_game", "join_game", "game_info", "observation"]
    messages = installation.messages(pid)
    assert names(messages) == launch
    assert [message.id for message in messages] == [1, 2, 3, 4, 5]

    create, join, observe = messages[1].create_game, messages[2].join_game, messages[4].observation
    assert create.local_map.map_path == "SMAC_Maps/MMM.SC2Map" and create.local_map.map_data == b"map MMM"
    participant, computer = create.player_setup
    assert participant.type == 1 and not participant.HasField("race") and not participant.HasField("difficulty")
    assert (computer.type, computer.race, computer.difficulty) == (2, 1, 7)  # Terran, very hard
    assert not create.realtime and create.HasField("random_seed")
    assert (join.race, join.options.raw, join.options.score) == (1, True, False)
    assert observe.HasField("disable_fog") and observe.HasField("game_loop")  # sent, though they say nothing

    # Marauders are agents 0 and 1, the medivac is agent 9 and heals agent 2, a marine.
    mask, place = vector.action_mask[0], vector.units()
    actions = np.array([STOP, NORTH, SOUTH, EAST, WEST, STOP, STOP, STOP, STOP, 6 + 2])
    assert mask[np.arange(10), actions].all()
    x, y = place.x[0].copy(), place.y[0].copy()
    vector.step(actions[np.newaxis])
    action, step, observation = installation.messages(pid)[len(launch) :]
    commands = [one.action_raw.unit_command for one in action.action.actions]
    tags = [command.unit_tags[0] for command in commands]
    assert [command.ability_id for command in commands] == [4, 16, 16, 16, 16, 4, 4, 4, 4, 386]
    for agent, (east, north) in {1: (0, 2), 2: (0, -2), 3: (2, 0), 4: (-2, 0)}.items():
        point = commands[agent].target_world_space_pos
        assert (point.x, point.y) == (np.float32(x[agent] + east), np.float32(y[agent] + north))
    assert commands[9].target_unit_tag == tags[2]
    assert all(command.HasField("queue_command") and not command.queue_command for command in commands)
    assert step.step.count == 8 and observation.HasField("observation")

    # To begin anew all units are killed, agents first, and the map's script is given two loops.
    before = len(installation.messages(pid))
    vector.reset()
    kill, respawn, *_ = later = installation.messages(pid)[before:]
    assert names(later) == ["debug", "step", "observation"]
    assert list(kill.debug.debug[0].kill_unit.tag[:10]) == tags and len(kill.debug.debug[0].kill_unit.tag) == 20
    assert respawn.step.count == 2


def test_how_games_are_started_and_asked_side_by_side(installation, open_vector) -> None:
    vector = open_vector("3m", 2, game_version="4.10", replay_prefix="mine")
    vector.reset()
    games = vector.game_pids
    ports = set()
    for pid in games:
        launch = installation.launch(pid)
        options = dict(zip(launch["arguments"][::2], launch["arguments"][1::2], strict=True))
        assert list(options) == ["-listen", "-port", "-dataDir", "-tempDir", "-dataVersion"]
        assert options["-listen"] == "127.0.0.1" and 20_000 <= int(options["-port"]) < 32_000
        assert options["-dataDir"] == f"{installation.root}/" and options["-tempDir"].endswith("/")
        assert options["-dataVersion"] == "B89B5D6FA7CBF6452E721311BFBC6CB2"
        assert launch["env"]["LD_LIBRARY_PATH"].endswith(f"{installation.root}/Libs/")
        ports.add(options["-port"])
    assert len(ports) == 2
    assert vector.engine_version == "4.10.0.75689"

    # A column that does not run is not asked; an unavailable action is refused before anybody is.
    before = [len(installation.requests(pid)) for pid in games]
    observations = vector.observations.copy()
    vector.step(np.array([[STOP] * 3, [99] * 3]), running=[True, False])
    after = [len(installation.requests(pid)) for pid in games]
    assert (after[0] - before[0], after[1] - before[1]) == (3, 0)
    assert np.array_equal(observations[1], vector.observations[1]) and vector.battle_step.tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"column 1 \(battle 1\), agent 0: action 99 is not available"):
        vector.step(np.array([[STOP] * 3, [99] * 3]))
    assert [len(installation.requests(pid)) for pid in games] == after

    replay = vector.save_replay(1)
    assert replay.parent == installation.root / "Replays" and replay.name.startswith("mine_")
    assert replay.read_bytes() == b"replay of 0 loops"
