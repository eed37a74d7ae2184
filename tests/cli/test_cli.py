"""The command line as a user meets it: runs, resumes, refusals, exit codes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import tiny_runs
from support.tiny_runs import dm2, record_script, records

EVALUATED = ["evaluation.every_env_steps=400", "checkpoint.every_iterations=1"]


def train(run_dir: Path, *arguments: object, variant: str = "ippo") -> int:
    return tiny_runs.train(run_dir, *EVALUATED, *arguments, variant=variant)


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_script(tmp_path_factory.mktemp("demonstrations") / "set", episodes=20)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, demonstrations: Path) -> Path:
    """A DM2 run of six iterations."""
    path = tmp_path_factory.mktemp("runs") / "dm2"
    assert train(path, "--demos", demonstrations, "--iterations", 6, variant="dm2") == 0
    return path


def test_a_run_directory_holds_what_it_promises(finished: Path) -> None:
    lines = records(finished)
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(line["env_steps"] >= 256 * line["iteration"] for line in lines)
    assert set(lines[0]["agents"]) == {"agent_0", "agent_1"}
    for name in ("policy_loss", "approx_kl", "discriminator_expert_accuracy", "matching_reward_mean"):
        assert name in lines[0]["agents"]["agent_1"]
    assert [line["evaluation"]["episodes"] for line in lines if "evaluation" in line].count(6) >= 3
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["final_evaluation"]["episodes"] == 6
    assert (summary["status"], summary["iterations"], summary["stopped_by"]) == ("completed", 6, "iterations")
    assert (finished / "config.yaml").is_file()
    kept = sorted(path.name for path in (finished / "checkpoints").iterdir())
    # checkpoint.keep newest ones, and the best: of equally good ones, the first that was evaluated.
    assert kept == [f"iteration_{iteration:06d}" for iteration in (lines[0]["iteration"], 4, 5, 6)]


def test_three_iterations_and_three_more_are_six(finished: Path, demonstrations: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(run, "--demos", demonstrations, "--iterations", 3, variant="dm2") == 0
    assert dm2("resume", run, "--iterations", 6) == 0
    assert records(run) == records(finished)


def test_same_seed_same_metrics_other_seed_others(finished: Path, demonstrations: Path, tmp_path: Path) -> None:
    assert train(tmp_path / "a", "--demos", demonstrations, "--iterations", 6, variant="dm2") == 0
    assert records(tmp_path / "a") == records(finished)
    assert train(tmp_path / "b", "--demos", demonstrations, "--iterations", 1, "--seed", 5, variant="dm2") == 0
    assert records(tmp_path / "b")[0]["agents"] != records(finished)[0]["agents"]


def test_annealed_matching_ends_and_resumes_where_it_was(demonstrations: Path, tmp_path: Path) -> None:
    annealed = ("--demos", demonstrations, "matching.coefficient=0.4", "matching.anneal_iterations=2")
    assert train(tmp_path / "whole", *annealed, "--iterations", 4, variant="dm2") == 0
    coefficients = [line["agents"]["agent_0"].get("matching_coefficient") for line in records(tmp_path / "whole")]
    assert coefficients == [0.4, 0.2, None, None]
    assert train(tmp_path / "parts", *annealed, "--iterations", 1, variant="dm2") == 0
    for iterations in (3, 4):
        assert dm2("resume", tmp_path / "parts", "--iterations", iterations) == 0
    assert records(tmp_path / "parts") == records(tmp_path / "whole")


def test_killed_between_checkpoints_and_resumed(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    # As if the process had died after the records of iterations 5 and 6, with their checkpoints half written.
    newest = sorted((run / "checkpoints").iterdir())
    shutil.rmtree(newest[-1])
    (newest[-2] / "agent_0.pt").write_bytes(b"half")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 7, "env_st')
    assert dm2("resume", run) == 0
    assert records(run) == records(finished)


def test_evaluate_prints_one_json_object(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert dm2("evaluate", finished, "--episodes", 7, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert first["episodes"] == 7
    assert 0.0 <= first["win_rate_low"] <= first["win_rate"] <= first["win_rate_high"] <= 1.0
    assert dm2("evaluate", first["checkpoint"], "--episodes", 7, "--json") == 0
    assert json.loads(capsys.readouterr().out) == first


def test_demonstrations_of_a_checkpoint_name_their_origin(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dm2("demos", "record", finished, "--episodes", 5, "--stochastic", "--out", tmp_path / "set") == 0
    capsys.readouterr()
    assert dm2("demos", "inspect", tmp_path / "set", "--json") == 0
    manifest = json.loads(capsys.readouterr().out)
    assert (manifest["episodes"], manifest["map"], manifest["policy"]["kind"]) == (5, "2m_vs_1z", "checkpoint")
    assert manifest["policy"]["checkpoint_hash"] and not manifest["policy"]["greedy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--map", "8m", "--variant", "ippo"], "--iterations K or --env-steps T"),
        (["train", "--map", "3n", "--iterations", "1"], "3m"),
        (["train", "--map", "3m", "--variant", "ipo", "--iterations", "1"], "ippo"),
        (["train", "--map", "3m", "--variant", "ippo", "--iterations", "1", "ppo.clipp=0.1"], "clip"),
        (["train", "--map", "3m", "--variant", "ippo", "--iterations", "1", "ppo.clip=high"], "ppo.clip"),
        (["train", "--map", "3m", "--variant", "dm2", "--iterations", "1"], "demonstrations.path"),
        (["train", "--map", "3m", "--variant", "ippo", "--iterations", "1", "world.backend=starcraft"], "StarCraft II"),
        (["train", "nowhere.yaml", "--iterations", "1"], "nowhere.yaml"),
        (["train", "--map", "3m", "--variant", "dm2", "--demos", "nowhere", "--iterations", "1"], "nowhere"),
        (
            ["train", "--map", "3m", "--variant", "dm2", "--iterations", "1", "demonstrations.paths_per_agent=[a, b]"],
            "names 2 teams, this run has 3 agents",
        ),
        (
            [
                "train",
                "--map",
                "3m",
                "--variant",
                "dm2",
                "--demos",
                "nowhere",
                "--iterations",
                "1",
                "demonstrations.source=live",
            ],
            "nowhere: no such checkpoint",
        ),
        (["resume", "nowhere"], "nowhere is not a run directory"),
        (["evaluate", "nowhere"], "nowhere: no such checkpoint"),
        (["demos", "record", "scripted:clever", "--map", "3m", "--episodes", "1", "--out", "x"], "focus_fire"),
        (["demos", "inspect", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(
    arguments: list[str], message: str, refusal_of: Callable[[list[str]], str]
) -> None:
    assert message in refusal_of(arguments)


def test_demonstrations_of_another_map_are_refused(
    demonstrations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = dm2(
        "train",
        "--variant",
        "dm2",
        "--map",
        "3m",
        "--demos",
        demonstrations,
        "--iterations",
        1,
        "--run-dir",
        tmp_path / "r",
    )
    assert code == 2
    assert "2m_vs_1z" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_run_directory_in_use_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = records(finished)
    assert train(finished, "--iterations", 1) == 2
    assert "dm2 resume" in capsys.readouterr().err
    assert records(finished) == before


def test_a_cluster_that_does_not_answer_is_refused(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "dm2_ray.cli", "train", "--map", "2m_vs_1z", "--variant", "ippo", "--iterations", "1",
         "--address", "127.0.0.1:1", "--run-dir", tmp_path / "r"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert process.returncode == 2
    assert "no Ray cluster answers at '127.0.0.1:1'" in process.stderr


def test_interrupted_run_saves_and_resumes_with_processes(tmp_path: Path) -> None:
    """The real thing: own processes, SIGTERM in the middle, exit code 130, resume to the end; quiet all the way."""
    run = tmp_path / "run"
    settings = [*tiny_runs.TINY_WITH_PROCESSES, "evaluation.every_env_steps=400"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dm2_ray.cli", "train", "--variant", "ippo", "--map", "2m_vs_1z", "--run-dir", run,
         "--iterations", "100000", *settings],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() or len(records(run)) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"continue with: dm2 resume {run}" in err
    assert tiny_runs.problems(err) == []
    for noise in ("Deprecat", "new API stack", "core_worker", "WARNING"):
        assert noise not in out + err
    done = len(records(run))
    assert json.loads((run / "summary.json").read_text())["status"] == "interrupted"
    assert dm2("resume", run, "--iterations", done + 1) == 0
    assert [line["iteration"] for line in records(run)] == list(range(1, done + 2))
