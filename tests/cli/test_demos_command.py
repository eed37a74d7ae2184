"""`dm2 demos …` as a user meets it: recordings that go on, refusals of one line, objects for scripts."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
import torch
from support.tiny_runs import TINY, dm2, record_script

from dm2_ray.config.schema import WorldSettings
from dm2_ray.demonstrations import JointTrajectories
from dm2_ray.recording.chunk import CHUNK_BATTLES
from dm2_ray.recording.chunk_player import RecordingOrder
from dm2_ray.recording.player_pool import RecordingPool
from dm2_ray.recording.resumable_parts import parts_directory
from dm2_ray.world import load_map
from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.scripted.scripted_team import ScriptedTeam

SHORT = [*TINY, "evaluation.episodes=2", "checkpoint.every_iterations=1", "checkpoint.keep=0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with three checkpoints."""
    path = tmp_path_factory.mktemp("runs") / "ippo"
    command = ["train", "--variant", "ippo", "--map", "2m_vs_1z", "--iterations", 3, "--run-dir", path]
    assert dm2(*command, *SHORT) == 0
    return path


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sets") / "scripted"
    return record_script(out, script="focus_fire", map_name="3m", episodes=20)


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What is said of bad input: one line on standard error, exit code 2."""
    capsys.readouterr()
    assert dm2(*arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err


def said_object(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    capsys.readouterr()
    assert dm2(*arguments, "--json") == 0
    return dict(json.loads(capsys.readouterr().out))


# Recording.


def test_several_processes_record_what_one_does_whoever_stops_it(run: Path, tmp_path: Path) -> None:
    command = ["demos", "record", run, "--stochastic", "--seed", 5, "--episodes", 3 * CHUNK_BATTLES + 9]
    assert dm2(*command, "--out", tmp_path / "one") == 0
    assert dm2(*command, "--out", tmp_path / "two", "--workers", 2) == 0
    assert content(tmp_path / "two") == content(tmp_path / "one")

    # The same at a terminal, with Ctrl-C once something is there. (A shell's background job ignores that signal.) It
    # comes while very many more are wanted, however slow this machine is; chunks do not depend on that.
    out, endless = tmp_path / "stopped", [*command[:-1], 1_000_000]
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); " \
           "from dm2_ray.cli import main; sys.exit(main())"  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, endless), "--out", str(out)], stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list(parts_directory(out).glob("chunk-*")):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert error.splitlines()[-1].endswith("and the same command continues from there")
    assert "Traceback" not in error and not out.exists()
    assert dm2(*command, "--out", out) == 0
    assert content(out) == content(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "stopped", "two"]


def test_a_lost_process_does_not_show_in_the_recording() -> None:
    order = RecordingOrder(world=WorldSettings(map="3m"), checkpoint=None, script="random", greedy=True, seed=3)
    outcomes = []
    for workers in (0, 1):
        with closing(RecordingPool(order, workers)) as pool:
            for chunk in range(2):
                pool.submit(chunk, CHUNK_BATTLES)
            for process in pool.processes:
                ray.kill(process, no_restart=False)
            outcomes.append(dict(pool.take() for _ in range(2)))
            assert pool.num_submitted == 0
    assert outcomes[0] == outcomes[1]


@pytest.mark.long
def test_standard_output_is_the_manifest_alone_whoever_dies(tmp_path: Path) -> None:
    """Ray tells of a worker's death on standard output."""
    command = [
        "demos", "record", "scripted:kite", "--map", "3m", "--seed", 5, "--episodes", 30 * CHUNK_BATTLES, "--json",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "dm2_ray.cli", *map(str, command), "--out", str(tmp_path / "set"), "--workers", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and not list(parts_directory(tmp_path / "set").glob("chunk-*")):
        time.sleep(0.002)
    worker = next(
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if " ".join(child.cmdline()).startswith("ray::_PlayerProcess")
    )
    worker.kill()
    out, error = process.communicate(timeout=200)
    assert process.returncode == 0, error
    assert json.loads(out)["episodes"] == 30 * CHUNK_BATTLES
    assert "died" in error
    assert dm2(*command, "--out", tmp_path / "undisturbed") == 0
    assert content(tmp_path / "set") == content(tmp_path / "undisturbed")


def test_filters_and_counts_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = ["demos", "record", "scripted:focus_fire", "--map", "3m", "--episodes", 10, "--only-wins"]
    manifest = said_object(capsys, *record, "--min-return", 5, "--out", tmp_path / "set")
    policy = manifest["policy"]
    assert (manifest["win_rate"], policy["filters"]) == (1.0, {"min_return": 5.0, "only_wins": True})
    assert 10 <= policy["battles_played"] < 100
    assert dm2("demos", "inspect", tmp_path / "set") == 0
    assert f"kept of {policy['battles_played']} battles if return >= 5 and won" in capsys.readouterr().out
    hopeless = ["demos", "record", "scripted:random", "--map", "3m", "--episodes", 10, "--only-wins"]
    error = refusal(capsys, *hopeless, "--give-up-after", CHUNK_BATTLES, "--out", tmp_path / "hopeless")
    assert f"gave up after {CHUNK_BATTLES} battles, of which 0 passed (won)" in error


def test_random_actions_are_mixed_in_with_the_wanted_probability(
    run: Path, scripted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script's choices are known: it is asked again in the same battles, with what was done in its memory."""
    record = ["demos", "record", "scripted:focus_fire", "--map", "3m", "--episodes", 20]
    manifest = said_object(capsys, *record, "--epsilon", 0.25, "--out", tmp_path / "noisy")
    assert manifest["policy"]["epsilon"] == 0.25
    assert dm2("demos", "inspect", tmp_path / "noisy") == 0
    assert "random actions with probability 0.25" in capsys.readouterr().out
    battles = BattleVector("3m", 1, seed=0)
    team, chances = ScriptedTeam("focus_fire", battles), []
    for number, episode in enumerate(JointTrajectories.open(tmp_path / "noisy").episodes()):
        battles.reset(first_battle=number)
        team.reset_states(battles)
        for actions, mask, alive in zip(episode.actions, episode.action_mask, episode.alive, strict=True):
            chances += [
                (done != wanted, 1.0 - 1.0 / available.sum())
                for done, wanted, available, lives in zip(actions, team.act(battles)[0], mask, alive, strict=True)
                if lives
            ]
            battles.step(actions[None])
    differ, at_random = np.array(chances, float).T
    assert abs(differ.mean() - 0.25 * at_random.mean()) < 4 * np.sqrt(0.25 / len(differ))

    # None is no other recording than before, and sets with other random actions are other battles.
    assert dm2(*record, "--epsilon", 0, "--out", tmp_path / "none") == 0
    assert content(tmp_path / "none") == content(scripted)
    assert dm2("demos", "merge", scripted, tmp_path / "noisy", "--out", tmp_path / "both") == 0
    # A trained team's battles are the same however many are recorded.
    command = ["demos", "record", run, "--stochastic", "--epsilon", 0.5]
    for episodes in (4, 9):
        assert dm2(*command, "--episodes", episodes, "--out", tmp_path / f"{episodes}") == 0
    few, more = (JointTrajectories.open(tmp_path / name).episodes() for name in ("4", "9"))
    for one, other in zip(few, more, strict=False):
        np.testing.assert_array_equal(one.actions, other.actions)


def test_a_wanted_win_rate_chooses_the_checkpoint(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["demos", "record", run, "--win-rate", 0.1, "--stochastic", "--episodes", 5, "--out", tmp_path / "set"]
    capsys.readouterr()
    assert dm2(*command) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("iteration_")]
    names = [f"iteration_{iteration:06d}" for iteration in (1, 2, 3)]
    assert [line.split()[0] for line in said[:-1]] == names
    measured = {}
    for name in names:
        checkpoint = run / "checkpoints" / name
        result = said_object(capsys, "evaluate", checkpoint, "--stochastic", "--episodes", 256)
        measured[name] = result["win_rate"]
    nearest = min(names, key=lambda name: abs(measured[name] - 0.1))
    assert said[-1] == f"{nearest} is closest to a win rate of 0.1 and is recorded"
    policy = JointTrajectories.open(tmp_path / "set").manifest.policy
    assert Path(policy.source).name == nearest
    assert (policy.target_win_rate, policy.measured_win_rate) == (0.1, measured[nearest])
    one = ["demos", "record", run / "checkpoints" / nearest, "--win-rate", 0.1, "--episodes", 5]
    assert "is one team" in refusal(capsys, *one, "--out", tmp_path / "other")
    script = ["demos", "record", "scripted:kite", "--map", "3m", "--win-rate", 0.1, "--episodes", 5]
    assert "a scripted team has none" in refusal(capsys, *script, "--out", tmp_path / "other")


@pytest.mark.parametrize("option", [("--win-rate", "1.5"), ("--min-return", "high"), ("--workers", "-1")])
def test_options_out_of_range_are_refused(option: tuple[str, str], tmp_path: Path) -> None:
    command = ["demos", "record", "scripted:kite", "--map", "3m", "--episodes", "5", "--out", str(tmp_path / "set")]
    with pytest.raises(SystemExit, match="2"):
        dm2(*command, *option)
    assert list(tmp_path.iterdir()) == []


# Checking, looking, merging.


def test_verify_says_ok_or_what_is_wrong(scripted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert dm2("demos", "verify", scripted, "--map", "3m") == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{scripted}: OK, fits 3m; 20 whole episodes") and said.out.count("\n") == 1
    assert said_object(capsys, "demos", "verify", scripted)["ok"] is True
    assert "map 3m, here map is 8m" in refusal(capsys, "demos", "verify", scripted, "--map", "8m")
    broken = tmp_path / "broken"
    shutil.copytree(scripted, broken)
    (broken / "shard-00000.parquet").write_bytes(b"PAR1")
    assert "is damaged or was altered" in refusal(capsys, "demos", "verify", broken)
    assert dm2("demos", "verify", broken, "--json") == 2
    said_of_it = json.loads(capsys.readouterr().out)
    assert said_of_it["ok"] is False and "is damaged or was altered" in said_of_it["problem"]


def test_merge_and_inspect_say_where_episodes_are_from(
    scripted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = ["demos", "record", "scripted:random", "--map", "3m", "--episodes", 5, "--out", tmp_path / "random"]
    assert dm2(*record) == 0
    merged = said_object(capsys, "demos", "merge", scripted, tmp_path / "random", "--out", tmp_path / "both")
    assert [part["policy"]["source"] for part in merged["parts"]] == ["focus_fire", "random"]
    found = said_object(capsys, "demos", "inspect", tmp_path / "both")
    assert {name: found[name] for name in merged} == merged
    demonstrations = JointTrajectories.open(tmp_path / "both")
    returns, lengths = found["statistics"]["returns"], found["statistics"]["episode_lengths"]
    assert (returns["min"], returns["max"]) == (demonstrations.returns.min(), demonstrations.returns.max())
    assert lengths["median"] == np.median(demonstrations.episode_lengths)
    low, high = found["statistics"]["win_rate_interval"]
    assert 0 < low < found["win_rate"] < high < 1
    assert dm2("demos", "inspect", tmp_path / "both") == 0
    text = capsys.readouterr().out
    assert "part 0" in text and "20 episodes, win rate" in text and "scripted random, greedy, seed 0" in text
    again = ["demos", "merge", tmp_path / "both", scripted, "--out", tmp_path / "again"]
    assert "hold the same episodes" in refusal(capsys, *again)


# Sets of another engine, and what was published.


def train(run_dir: Path, demonstrations: Path, *more: object, variant: str = "dm2") -> list[object]:
    return ["train", "--variant", variant, "--map", "3m", "--demos", demonstrations, "--iterations", 1,
            "--run-dir", run_dir, *SHORT, *more]  # fmt: skip


def test_a_set_of_another_engine_version_is_refused_unless_told_otherwise(
    scripted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = tmp_path / "older"
    shutil.copytree(scripted, older)
    manifest = json.loads((older / "manifest.json").read_text())
    del manifest["manifest_sha256"]
    manifest["engine_version"] = "0"
    manifest["manifest_sha256"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (older / "manifest.json").write_text(json.dumps(manifest))
    error = refusal(capsys, *train(tmp_path / "run", older))
    assert "on the embedded engine, version 0, but battles are played on the embedded engine, version" in error
    assert "demonstrations.other_engine=true" in error
    assert not (tmp_path / "run").exists()
    assert "version 0" in refusal(capsys, "demos", "verify", older, "--map", "3m")
    assert dm2(*train(tmp_path / "run", older, "demonstrations.other_engine=true")) == 0


def test_too_few_episodes_for_the_draw_are_refused(
    scripted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few"
    assert dm2("demos", "record", "scripted:kite", "--map", "3m", "--episodes", 2, "--out", few) == 0
    disjoint = "demonstrations.sampling=non_concurrent"
    assert "needs 3 episodes or more, got 2" in refusal(capsys, *train(tmp_path / "run", few, disjoint))
    assert not (tmp_path / "run").exists()


def publish(demonstrations: Path, directory: Path) -> Path:
    """A set in the authors' format."""
    directory.mkdir()
    found, rows = JointTrajectories.open(demonstrations), load_map("3m").episode_limit + 1
    agents: list[list[dict[str, torch.Tensor]]] = [[] for _ in range(found.num_agents)]
    for episode in found.episodes():
        observations = torch.zeros(1, rows, *episode.observations.shape[1:])
        actions = torch.zeros(1, rows, found.num_agents, 1, dtype=torch.int64)
        observations[0, : episode.num_steps] = torch.from_numpy(episode.observations)
        actions[0, : episode.num_steps, :, 0] = torch.from_numpy(episode.actions)
        for agent, entries in enumerate(agents):
            entries.append({"obs": observations[:, :, agent, :], "actions": actions[:, :, agent, :]})
    for agent, entries in enumerate(agents):
        np.savez_compressed(directory / f"agent_{agent}.npz", entries)  # type: ignore[arg-type]
    return directory


def test_agents_learn_from_what_was_published(
    scripted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published, imported = publish(scripted, tmp_path / "published"), tmp_path / "imported"
    capsys.readouterr()
    assert dm2("demos", "import", published, "--map", "3m", "--out", imported) == 0
    out, err = capsys.readouterr()
    assert "without action_mask, rewards, battle_won, which the files do not hold" in out
    assert "demonstrations.other_engine=true" in err
    assert dm2("demos", "verify", imported, "--map", "3m") == 0
    found = said_object(capsys, "demos", "inspect", imported)
    assert (found["episodes"], found["win_rate"], found["policy"]["kind"]) == (20, None, "imported")
    assert dm2("demos", "inspect", imported) == 0
    assert "nobody recorded them" in capsys.readouterr().out
    assert "StarCraft II, version unknown" in refusal(capsys, *train(tmp_path / "run", imported))
    assert not (tmp_path / "run").exists()
    assert dm2(*train(tmp_path / "run", imported, "demonstrations.other_engine=true")) == 0
    (record,) = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all("matching_reward_mean" in agent for agent in record["agents"].values())
    again = ["demos", "import", published, "--map", "3m", "--out", imported]
    assert "exists already" in refusal(capsys, *again)
    (published / "agent_1.npz").write_bytes(b"PK")
    again = ["demos", "import", published, "--map", "3m", "--out", tmp_path / "other"]
    assert "agent_1.npz is damaged" in refusal(capsys, *again)
    assert "3n" in refusal(capsys, *again[:3], "--map", "3n", "--out", tmp_path / "other")


def test_cloning_takes_every_action_for_available_where_nobody_recorded_it(scripted: Path, tmp_path: Path) -> None:
    imported = tmp_path / "imported"
    assert dm2("demos", "import", publish(scripted, tmp_path / "published"), "--map", "3m", "--out", imported) == 0
    options = ("demonstrations.other_engine=true", "cloning.iterations=1")
    assert dm2(*train(tmp_path / "run", imported, *options, variant="bc")) == 0
    (record,) = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(agent["cloning_loss"]) for agent in record["agents"].values())


def test_an_existing_directory_is_never_overwritten(
    scripted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(scripted)
    for command in (
        ["demos", "record", "scripted:kite", "--map", "3m", "--episodes", 5],
        ["demos", "import", publish(scripted, tmp_path / "published"), "--map", "3m"],
    ):
        assert "exists already" in refusal(capsys, *command, "--out", scripted)
    assert content(scripted) == before
    assert not [name for name in os.listdir(scripted.parent) if name != scripted.name]
