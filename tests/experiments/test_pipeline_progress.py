"""What is printed about an experiment while it runs."""

import io
import json
from pathlib import Path

import pytest
from support.terminal import Terminal

from dm2_ray.experiments.matrix_file import load_matrix
from dm2_ray.experiments.pipeline_progress import PipelineProgress
from dm2_ray.experiments.step_state import StepState, last_record
from dm2_ray.experiments.steps import ExperimentPlan, build_plan

FILE = """
title: small
map: 2m_vs_1z
seeds: [0, 1]
env_steps: 1000
sets:
  some: {scripted: kite, episodes: 20}
rows:
  dm2: {variant: dm2, set: some}
"""


@pytest.fixture
def plan(tmp_path: Path) -> ExperimentPlan:
    (tmp_path / "small.yaml").write_text(FILE)
    return build_plan(*load_matrix(str(tmp_path / "small.yaml")), tmp_path / "run")


def test_lines_of_a_plain_stream(plan: ExperimentPlan) -> None:
    now = [0.0]
    stream = io.StringIO()
    progress = PipelineProgress(stream=stream, clock=lambda: now[0])
    steps = plan.steps
    done, run, other = steps["sets/some/team_0"], steps["rows/dm2/seed_0"], steps["rows/dm2/seed_1"]
    states = {name: StepState(status="new") for name in steps}
    states[done.name] = StepState(status="finished", win_rate=0.5)
    states[run.name] = StepState(status="started", env_steps=200)
    progress.start(plan, states)
    run.path.mkdir(parents=True)
    (run.path / "metrics.jsonl").write_text(json.dumps({"env_steps": 600, "win_rate": 0.25}) + '\n{"env_st')
    progress.update({run.name: run, other.name: other})  # too early for a line
    now[0] = 80.0
    progress.update({run.name: run, other.name: other})
    progress.finished(run, StepState(status="finished", env_steps=1010, greedy_win_rate=0.375))
    progress.failed(other, 2, ["one", "two"], Path("logs/other.log"))
    progress.close()
    assert stream.getvalue().splitlines() == [
        "small: 2 runs of 2,000 env steps in total and 1 set on 2m_vs_1z; 1 already finished",
        # 400 env steps in 80 s, 1,400 are left.
        "[1/3] rows/dm2/seed_0 600/1,000 win 0.25 | rows/dm2/seed_1 starting  ETA 0:04:40",
        # 800 in 80 s, 1,000 are left.
        "[2/3] rows/dm2/seed_0: 1,010 env steps, greedy win rate 0.38  ETA 0:01:40",
        "rows/dm2/seed_1 FAILED (exit code 2); the end of logs/other.log:",
        "    one",
        "    two",
    ]


def test_a_terminal_has_one_line_that_changes(plan: ExperimentPlan) -> None:
    now = [0.0]
    stream = Terminal()
    progress = PipelineProgress(stream=stream, clock=lambda: now[0])
    progress.start(plan, {name: StepState(status="new") for name in plan.steps})
    step = plan.steps["sets/some/team_0"]
    for _ in range(2):
        now[0] += 3.0
        progress.update({step.name: step})
    assert stream.screen()[1:] == ["[0/3] sets/some/team_0"]
    progress.finished(step, StepState(status="finished", win_rate=0.5))
    assert stream.screen()[1:] == ["[1/3] sets/some/team_0: 20 joint episodes, win rate 0.50", ""]


def test_labels_and_the_last_evaluation_are_shown(plan: ExperimentPlan) -> None:
    now = [0.0]
    stream = io.StringIO()
    step = plan.steps["rows/dm2/seed_0"]
    progress = PipelineProgress(labels={step.name: "DM²"}, plain_every_s=5.0, stream=stream, clock=lambda: now[0])
    progress.start(plan, {name: StepState(status="new") for name in plan.steps})
    step.path.mkdir(parents=True)
    lines = [{"env_steps": 200, "win_rate": 0.1, "evaluation": {"win_rate": 0.5}}, {"env_steps": 400, "win_rate": 0.2}]
    (step.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    now[0] = 6.0
    progress.update({step.name: step})
    assert stream.getvalue().splitlines()[1:] == ["[0/3] DM² 400/1,000 greedy 0.50  ETA 0:00:24"]


def test_a_line_fits_80_columns_and_estimates_the_time_left_when_it_can(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(FILE)
    plan = build_plan(*load_matrix(str(tmp_path / "small.yaml"), overrides=["env_steps=250000"]), tmp_path / "run")
    now = [0.0]
    stream = io.StringIO()
    runs = {name: step for name, step in plan.steps.items() if step.kind == "train"}
    labels = dict(zip(runs, ("DM²", "IPPO"), strict=True))
    progress = PipelineProgress(labels=labels, plain_every_s=5.0, stream=stream, clock=lambda: now[0])
    progress.start(plan, {name: StepState(status="new") for name in plan.steps})
    for env_steps in (2_000, 200_000):
        for step in runs.values():
            step.path.mkdir(parents=True, exist_ok=True)
            line = {"env_steps": env_steps, "win_rate": 0.1, "evaluation": {"win_rate": 0.5}}
            (step.path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        now[0] += 60.0
        progress.update(runs)
    early, late = stream.getvalue().splitlines()[1:]
    assert early == "[0/3] DM² 2,000/250k greedy 0.50 | IPPO 2,000/250k greedy 0.50"
    assert late == "[0/3] DM² 200k/250k greedy 0.50 | IPPO 200k/250k greedy 0.50  ETA 0:00:30"
    assert len(late) < 80


def test_the_last_whole_line_counts(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert last_record(file) == {}
    file.write_text('{"env_steps": 1')
    assert last_record(file) == {}
    file.write_text("".join(json.dumps({"env_steps": step, "much": "x" * 3000}) + "\n" for step in range(200)))
    assert last_record(file)["env_steps"] == 199
