"""Games crash, hang, will not start, grow: what becomes of the battles, and of the games."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_equal_to_embedded import NOW, OUTCOME, assert_equal, choose, embedded_twins

from dm2_ray.world.starcraft.protocol import StarCraftError

pytestmark = pytest.mark.cli


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def await_end(pids: list[int], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still there: {[pid for pid in pids if is_running(pid)]}"
        time.sleep(0.02)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def random_seed(installation, pid: int) -> int:
    (create,) = [m.create_game for m in installation.messages(pid) if m.HasField("create_game")]
    seed: int = create.random_seed
    return seed


def test_a_killed_game_costs_its_battle_and_nothing_else(installation, open_vector) -> None:
    vector = open_vector("3m", 2)
    vector.reset(first_battle=10)
    twins = embedded_twins(vector, installation)
    pids = vector.game_pids
    assert len({random_seed(installation, pid) for pid in pids}) == 2
    rng = np.random.default_rng(0)
    for _ in range(5):
        actions = choose(vector.action_mask, rng)
        vector.step(actions)
        for b, twin in enumerate(twins):
            twin.step(actions[b : b + 1])
    os.kill(pids[1], signal.SIGKILL)
    actions = choose(vector.action_mask, rng)
    vector.step(actions)
    assert vector.dropped.tolist() == [False, True]
    assert not (vector.terminated[1] or vector.truncated[1] or vector.battle_won[1]) and vector.rewards[1] == 0.0
    assert vector.battle_number.tolist() == [10, 11]  # the battle in its place bears its number
    assert vector.battle_step.tolist() == [6, 0] and (vector.last_actions[1] == -1).all()
    assert (vector.crash_restarts, vector.scheduled_restarts) == (1, 0)

    # The other column went on as if nothing had happened, the fresh battle is one of the new game's.
    twins[0].step(actions[:1])
    assert vector.game_pids[0] == pids[0] and vector.game_pids[1] not in pids
    assert random_seed(installation, vector.game_pids[1]) != random_seed(installation, pids[1])
    twins[1] = embedded_twins(vector, installation)[1]
    assert_equal(vector, twins, (*NOW, *OUTCOME))
    for _ in range(30):
        actions = choose(vector.action_mask, rng)
        vector.step(actions)
        for b, twin in enumerate(twins):
            twin.step(actions[b : b + 1])
        assert_equal(vector, twins, (*NOW, *OUTCOME))
        assert not vector.dropped.any()


def test_a_hanging_game_is_a_lost_one(open_vector) -> None:
    vector = open_vector("3m", 1, settings={"request_timeout_s": 1.5})
    vector.reset()
    (hanging,) = vector.game_pids
    os.kill(hanging, signal.SIGSTOP)
    vector.step(choose(vector.action_mask, np.random.default_rng(0)))
    assert vector.dropped.all()
    assert not is_running(hanging)

    # A game lost between battles drops none; with its guard it is lost, too.
    vector.step(choose(vector.action_mask, np.random.default_rng(0)))
    (game,) = vector.game_pids
    os.kill(parent_of(game), signal.SIGKILL)
    await_end([game], 2.0)
    vector.reset()
    assert not vector.dropped.any() and vector.battle_step.tolist() == [0]
    assert vector.crash_restarts == 2
    (game,) = vector.game_pids
    vector.close()
    await_end([game], 0.0)
    assert vector.game_pids == [None]


def test_launches_are_tried_three_times(installation, open_vector) -> None:
    installation.command("crash_at_launch", 1)
    installation.command("crash_at_create_game", 1)
    vector = open_vector("3m", 1)
    vector.reset()
    assert vector.crash_restarts == 2
    vector.close()

    installation.command("crash_at_launch", 3)
    with pytest.raises(StarCraftError) as caught:
        vector.reset()
    message = str(caught.value)
    assert "could not be started 3 times in a row: the game ended with exit code 3 while starting" in message
    assert "cannot find its data (pretended)" in message and "\n" not in message
    with pytest.raises(RuntimeError, match="call reset"):
        vector.step(np.ones((1, 3), int))
    vector.reset()  # the trouble is over
    assert vector.action_mask.any()


def test_what_the_game_refuses_is_named(installation, open_vector) -> None:
    installation.command("refuse_map", 1)
    vector = open_vector("3m", 1)
    with pytest.raises(StarCraftError, match=r"create_game was rejected: InvalidMapData a damaged map \(pretended\)"):
        vector.reset()


def test_a_game_that_loses_every_battle_is_given_up(installation, open_vector) -> None:
    installation.command("crash_after_steps", 2)
    vector = open_vector("3m", 1)
    vector.reset()
    with pytest.raises(StarCraftError, match="3 battles in a row were lost"):
        for _ in range(20):
            vector.step(np.ones((1, 3), int))


def test_games_are_replaced_when_they_are_old_or_big(installation, open_vector) -> None:
    vector = open_vector("3m", 1, settings={"restart_after_episodes": 3, "memory_limit_gib": 0.7})
    vector.reset()
    rng = np.random.default_rng(0)
    for leak, expected in ((0, 3), (700, 2)):
        # What leaks does so when a battle is followed by another in the same game.
        installation.command("leak_mib_per_battle", leak)
        game, battles = vector.game_pids[0], 0
        while vector.game_pids[0] == game:
            vector.step(choose(vector.action_mask, rng))
            battles += int(vector.terminated[0])
        assert battles == expected
        assert vector.terminated[0] and not vector.dropped[0]
        await_end([game], 0.0)
    assert (vector.crash_restarts, vector.scheduled_restarts) == (0, 2)


WORKER = """
import sys, time
from dm2_ray.config.schema import StarCraftSettings
from dm2_ray.world.starcraft.starcraft_vector import StarCraftVector

vector = StarCraftVector("3m", int(sys.argv[2]), settings=StarCraftSettings(path=sys.argv[1]))
vector.reset()
print(*vector.game_pids, flush=True)
time.sleep(float(sys.argv[3]))
"""


def test_no_game_outlives_its_worker(installation, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-c", WORKER, str(installation.root)]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen([*command, "2", "60"], stdout=subprocess.PIPE, env=environment, text=True) as worker:
        assert worker.stdout is not None
        games = [int(word) for word in worker.stdout.readline().split()]
        guards = [parent_of(pid) for pid in games]
        assert all(is_running(pid) for pid in (*games, *guards)) and len(list(temporary.iterdir())) == 2
        os.kill(games[1], signal.SIGSTOP)  # one hangs, too
        worker.send_signal(signal.SIGKILL)
    await_end([games[0], guards[0]], 2.0)
    await_end([*games, *guards], 6.0)
    assert not list(temporary.iterdir())

    # Nor does it where the worker just ends without a word.
    finished = subprocess.run([*command, "1", "0"], stdout=subprocess.PIPE, env=environment, text=True, check=True)
    await_end([int(word) for word in finished.stdout.split()], 0.0)
    assert not list(temporary.iterdir())
