"""A recording has exactly the requested battles, and the same ones if it was killed and resumed on the way."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dm2_ray.config.errors import ConfigError
from dm2_ray.demonstrations import DemonstrationError, EpisodeRecord, Filters, JointTrajectories, Manifest
from dm2_ray.demonstrations.verifying import verify_set
from dm2_ray.recording.chunk import CHUNK_BATTLES
from dm2_ray.recording.progress import RecordingProgress, RecordingState
from dm2_ray.recording.recorder import RecordingInterrupted, record
from dm2_ray.recording.resumable_parts import ResumableParts, parts_directory

EPISODES = 3 * CHUNK_BATTLES + 30


def record_random(out: Path, **changes: Any) -> Manifest:
    arguments = {"map_name": "3m", "episodes": EPISODES, "greedy": True, "seed": 7, **changes}
    return record(arguments.pop("team", "scripted:random"), out=out, **arguments)


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("undisturbed") / "set"
    record_random(path)
    return path


def kill_when(out: Path, condition: Callable[[], bool]) -> int:
    """Records in a separate process and kills it as soon as the condition holds; returns the exit code."""
    process = multiprocessing.get_context("fork").Process(target=_record_and_exit, args=(out,))
    process.start()
    while process.is_alive() and not condition():
        time.sleep(0.0005)
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _record_and_exit(out: Path) -> None:
    record_random(out)
    os._exit(0)


def chunks(out: Path) -> list[Path]:
    try:
        return sorted(parts_directory(out).glob("chunk-*"))
    except FileNotFoundError:  # the recording has ended, and removed the directory, in between
        return []


@pytest.mark.cli
@pytest.mark.parametrize("seed", [0, 1])
def test_a_recording_that_was_killed_at_any_time_and_resumed_is_the_same(
    undisturbed: Path, tmp_path: Path, seed: int
) -> None:
    moments, out, killed = random.Random(seed), tmp_path / "set", 0

    def more_chunks_or_late(chunks_then: int, more: int, deadline: float) -> bool:
        return len(chunks(out)) >= chunks_then + more or time.monotonic() > deadline

    for more in (1, 1, 2, 9):
        if not out.exists():
            deadline = time.monotonic() + moments.uniform(0.1, 0.6)
            killed += kill_when(out, partial(more_chunks_or_late, len(chunks(out)), more, deadline)) == -signal.SIGKILL
    if not out.exists():
        killed += kill_when(out, (parts_directory(out) / "set").exists) == -signal.SIGKILL
    assert killed > 0
    if not out.exists() or parts_directory(out).exists():
        record_random(out)
    assert content(out) == content(undisturbed)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def interrupted(out: Path, after_updates: int, **changes: Any) -> None:
    """Presses Ctrl-C while the recording shows its progress."""

    class Impatient(RecordingProgress):
        updates = 0

        def update(self, state: RecordingState) -> None:
            self.updates += 1
            if self.updates > after_updates:
                raise KeyboardInterrupt

    with pytest.raises(RecordingInterrupted, match="the same command continues"):
        record_random(out, progress=Impatient("set", stream=io.StringIO()), **changes)


def test_ctrl_c_keeps_finished_chunks(undisturbed: Path, tmp_path: Path) -> None:
    interrupted(tmp_path / "set", 2)
    assert len(chunks(tmp_path / "set")) == 2 and not (tmp_path / "set").exists()
    stream = io.StringIO()
    record_random(tmp_path / "set", progress=RecordingProgress("set", stream=stream))
    assert f"continuing from {2 * CHUNK_BATTLES} of {EPISODES} episodes" in stream.getvalue()
    assert content(tmp_path / "set") == content(undisturbed)
    interrupted(tmp_path / "other", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]  # nothing was recorded, so nothing is kept


def test_damaged_chunks_are_played_again(undisturbed: Path, tmp_path: Path) -> None:
    interrupted(tmp_path / "set", 3)
    first, second, third = chunks(tmp_path / "set")
    first.write_bytes(first.read_bytes()[:-1])
    second.write_bytes(b"")
    third.write_bytes(third.read_bytes()[:50] + b"?" + third.read_bytes()[51:])
    record_random(tmp_path / "set")
    assert content(tmp_path / "set") == content(undisturbed)


def test_a_recording_killed_before_its_cleanup_is_cleaned_up(undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    interrupted(out, 3)
    shutil.copytree(undisturbed, out)
    assert record_random(out) == JointTrajectories.open(undisturbed).manifest
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_another_recording_under_the_same_name_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "set"
    interrupted(out, 1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for changes, words in (
        ({"seed": 8}, "(seed 7, now 8)"),
        ({"team": "scripted:kite"}, "(team 'scripted:random', now 'scripted:kite')"),
        ({"filters": Filters(only_wins=True)}, "(filters.only_wins False, now True)"),
        ({"map_name": "8m"}, "(world.map '3m', now '8m')"),
    ):
        with pytest.raises(DemonstrationError) as caught:
            record_random(out, **changes)
        assert f"holds the beginning of another recording {words}" in str(caught.value)
        assert "\n" not in str(caught.value)
    (parts_directory(out) / "identity.json").write_text("{")
    with pytest.raises(DemonstrationError, match="identity.json 'unreadable'"):
        record_random(out)
    (parts_directory(out) / "identity.json").write_bytes(before[parts_directory(out) / "identity.json"])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.cli
@pytest.mark.parametrize("stopped", ["a chunk", "the set"])
def test_a_full_disk_is_reported_and_nothing_is_lost(undisturbed: Path, tmp_path: Path, stopped: str) -> None:
    out, whole = tmp_path / "set", max(len(one) for one in content(undisturbed).values())
    most_bytes = 5_000 if stopped == "a chunk" else whole - 1
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        try:
            record_random(out)
        except DemonstrationError as error:
            sender.send(str(error))
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=limited)
    process.start()
    assert receiver.poll(120)
    message = receiver.recv()
    process.join()
    assert "cannot be written: " in message and message.endswith("File too large") and "\n" not in message
    assert not out.exists() and not list(tmp_path.glob(".set.parts/*.tmp"))
    assert len(chunks(out)) == (0 if stopped == "a chunk" else -(-EPISODES // CHUNK_BATTLES))
    record_random(out)
    assert content(out) == content(undisturbed)


def test_two_processes_do_not_record_the_same_set_at_once(tmp_path: Path) -> None:
    out = tmp_path / "set"
    interrupted(out, 1)
    identity = json.loads((parts_directory(out) / "identity.json").read_text())
    with closing(ResumableParts(out, identity)):
        with pytest.raises(DemonstrationError, match="is being recorded by another process"):
            record_random(out)
    assert record_random(out).episodes == EPISODES


def test_an_existing_set_is_refused_before_anything_is_played(undisturbed: Path) -> None:
    before = content(undisturbed)
    for changes in ({}, {"seed": 8}):
        with pytest.raises(DemonstrationError, match="exists already"):
            record_random(undisturbed, **changes)
    assert content(undisturbed) == before and not parts_directory(undisturbed).exists()


def same_episodes(found: list[EpisodeRecord], expected: list[EpisodeRecord]) -> bool:
    return len(found) == len(expected) and all(
        np.array_equal(one.observations, other.observations) and np.array_equal(one.actions, other.actions)
        for one, other in zip(found, expected, strict=True)
    )


def test_fewer_episodes_are_the_first_of_more(undisturbed: Path, tmp_path: Path) -> None:
    whole = list(JointTrajectories.open(undisturbed).episodes())
    for count in (1, 50, CHUNK_BATTLES, CHUNK_BATTLES + 1):
        manifest = record_random(tmp_path / str(count), episodes=count)
        assert (manifest.episodes, manifest.policy.battles_played) == (count, count)
        assert same_episodes(list(JointTrajectories.open(tmp_path / str(count)).episodes()), whole[:count])
    # Chunks of a shorter recording are used for a longer one.
    interrupted(tmp_path / "more", 1, episodes=50)
    record_random(tmp_path / "more")
    assert content(tmp_path / "more") == content(undisturbed)


def test_filters_keep_exactly_the_battles_that_pass(undisturbed: Path, tmp_path: Path) -> None:
    """Compared with the same battles filtered here."""
    unfiltered = JointTrajectories.open(undisturbed)
    whole, returns = list(unfiltered.episodes()), unfiltered.returns
    threshold = float(np.quantile(returns, 0.9))
    passing = np.flatnonzero(returns >= threshold)
    manifest = record_random(tmp_path / "set", episodes=len(passing) - 3, filters=Filters(min_return=threshold))
    found = verify_set(tmp_path / "set")
    assert same_episodes(list(found.episodes()), [whole[number] for number in passing[:-3]])
    assert (manifest.episodes, manifest.policy.battles_played) == (len(passing) - 3, passing[-4] + 1)
    assert manifest.policy.filters == Filters(min_return=threshold)
    assert found.returns.min() >= threshold


def test_only_wins_keeps_only_victories(tmp_path: Path) -> None:
    manifest = record_random(tmp_path / "set", team="scripted:focus_fire", episodes=40, filters=Filters(only_wins=True))
    assert manifest.win_rate == 1.0 and verify_set(tmp_path / "set").battle_won.all()


def test_a_recording_gives_up_if_too_few_battles_pass_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DemonstrationError) as caught:
        record_random(tmp_path / "set", filters=Filters(min_return=19.9), give_up_after=2 * CHUNK_BATTLES)
    message = str(caught.value)
    assert message.startswith(f"gave up after {2 * CHUNK_BATTLES} battles, of which 0 passed (return >= 19.9)")
    assert "\n" not in message and "its best return was" in message
    assert list(tmp_path.iterdir()) == []


def test_rare_battles_are_waited_for(undisturbed: Path, tmp_path: Path) -> None:
    """The recording continues as long as one in `give_up_after` battles passes."""
    returns = JointTrajectories.open(undisturbed).returns
    best = float(returns.max())
    filters = Filters(min_return=best)
    manifest = record_random(tmp_path / "set", episodes=1, filters=filters, give_up_after=EPISODES)
    assert manifest.policy.battles_played == int(returns.argmax()) + 1


def test_invalid_arguments_are_refused(tmp_path: Path) -> None:
    for changes, words in (
        ({"team": "scripted:clever"}, "unknown scripted team 'clever'"),
        ({"map_name": None}, "needs --map"),
        ({"win_rate": 0.5}, "a scripted team has none"),
    ):
        with pytest.raises(ConfigError, match=words):
            record_random(tmp_path / "set", **changes)
    assert list(tmp_path.iterdir()) == []


def test_the_identity_contains_everything_a_chunk_depends_on(tmp_path: Path) -> None:
    interrupted(tmp_path / "set", 1)
    identity = json.loads((parts_directory(tmp_path / "set") / "identity.json").read_text())
    assert identity["team"] == "scripted:random" and identity["world.engine_version"]
    assert {"seed", "greedy", "filters.min_return", "world.map", "world.smac", "world.engine"} <= identity.keys()
    assert not {"episodes", "workers", "out"} & identity.keys()


def state(played: int, episodes: int, wanted: int = 100) -> RecordingState:
    return RecordingState(episodes=episodes, wanted=wanted, played=played, won=played // 2, env_steps=30 * played)


def test_progress_shows_rate_win_rate_and_time_left() -> None:
    now = [0.0]
    stream = io.StringIO()
    shown = RecordingProgress("set", stream=stream, clock=lambda: now[0])
    for now[0], played, episodes in ((0.0, 0, 0), (30.0, 40, 20), (31.0, 50, 25), (60.0, 120, 60)):
        shown.update(state(played, episodes))
    assert stream.getvalue().splitlines() == [
        "set  [####................] 20/100 episodes  40 env steps/s  win 0.50  kept 0.500 of 40 battles  ETA 0:02:00",
        "set  [############........] 60/100 episodes  60 env steps/s  win 0.50  kept 0.500 of 120 battles  ETA 0:00:40",
    ]
