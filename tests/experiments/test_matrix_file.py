"""Experiment files: the packaged ones have the paper's conditions; wrong ones are refused with the place of the key."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from dm2_ray.cli import main
from dm2_ray.config.errors import ConfigError
from dm2_ray.experiments.matrix_file import experiment_names, load_matrix, write_matrix
from dm2_ray.experiments.steps import ExperimentPlan, build_plan
from dm2_ray.world.maps.registry import load_map

PAPERS_MAPS = {
    "core": {"5m_vs_6m", "3s_vs_4z", "3s_vs_3z", "3s_vs_5z", "8m_vs_9m"},
    "matching_only": {"5m_vs_6m", "3s_vs_4z"},
    "cloning": {"5m_vs_6m"},
    "quality": {"5m_vs_6m", "3s_vs_4z"},
    "demonstrations_2x2": {"5m_vs_6m"},
    "state_action": {"5m_vs_6m", "3s_vs_4z"},
    "padding": {"5m_vs_6m", "3s_vs_4z"},
    "reward_forms": {"5m_vs_6m", "3s_vs_4z"},
    "floors": {"5m_vs_6m", "3s_vs_4z", "3s_vs_3z", "3s_vs_5z", "8m_vs_9m", "6h_vs_8z"},
}
SMALL_BATCHES = {"quickstart", "scripted_demonstrations", "small_2x2", "small_3s_vs_3z"}
SMALL = """
title: small
map: 2m_vs_1z
seeds: [0, 1]
env_steps: 1000
experts:
  ippo: {env_steps: 500, seed: 7}
sets:
  some: {expert: ippo, episodes: 20}
rows:
  dm2:
    variant: dm2
    set: some
    settings:
      ppo: {clip: 0.1}
  ippo: {variant: ippo}
"""


def planned(name: str, directory: Path, *overrides: str, map_name: str | None = None) -> ExperimentPlan:
    matrix, source = load_matrix(name, map_name=map_name, overrides=overrides)
    return build_plan(matrix, source, directory)


def commands(plan: ExperimentPlan) -> list[list[str]]:
    return [shlex.split(step.command()) for step in plan.steps.values()]


# The packaged experiments.


def test_every_experiment_of_the_paper_is_there() -> None:
    assert set(experiment_names()) == set(PAPERS_MAPS) | SMALL_BATCHES


@pytest.mark.parametrize(
    ("name", "map_name"), [(name, map_name) for name, maps in PAPERS_MAPS.items() for map_name in sorted(maps)]
)
def test_a_packaged_experiment_plans_on_every_map_of_the_paper(name: str, map_name: str, tmp_path: Path) -> None:
    assert len(load_matrix(name)[0].seeds) == 5
    matrix, source = load_matrix(name, map_name=map_name, num_seeds=2)
    plan = build_plan(matrix, source, tmp_path)
    names = list(plan.steps)
    for position, step in enumerate(plan.steps.values()):
        assert all(need in names[:position] for need in step.needs)
        if step.experiment is not None:
            assert step.experiment.world.map == map_name
            assert step.experiment.stop.env_steps == 10_000_000
    for row in plan.matrix.rows:
        assert [step.seed for step in plan.steps_of(row)] == list(plan.matrix.seeds)
    learners = {step.seed for step in plan.steps.values() if step.condition is not None}
    experts = {step.experiment.seed for step in plan.steps.values()
               if step.condition is None and step.experiment is not None}  # fmt: skip
    assert not learners & experts
    assert plan.matrix.paper is not None
    assert plan.matrix.paper.startswith(("experiment ", "not an experiment of the paper"))


@pytest.mark.parametrize("name", sorted(SMALL_BATCHES))
def test_an_experiment_with_small_batches_plans_with_its_own_budget(name: str, tmp_path: Path) -> None:
    plan = planned(name, tmp_path)
    assert plan.matrix.seeds == (0, 1, 2)
    runs = [step for step in plan.steps.values() if step.condition is not None]
    assert {step.experiment.stop.env_steps for step in runs if step.experiment} == {plan.matrix.env_steps}
    assert all(step.experiment.rollout.episodes <= 64 for step in runs if step.experiment)


def test_demonstrators_have_the_win_rates_of_the_papers() -> None:
    def win_rates(name: str, map_name: str) -> list[float | None]:
        return [each.win_rate for each in load_matrix(name, map_name=map_name)[0].sets.values()]

    assert win_rates("core", "5m_vs_6m") == [0.31, 0.48]
    assert win_rates("core", "3s_vs_4z") == [0.36, 0.56]
    assert win_rates("core", "3s_vs_3z") == [1.0]
    assert max(filter(None, win_rates("quality", "3s_vs_4z"))) == 0.9


def test_two_by_two_is_two_by_two(tmp_path: Path) -> None:
    plan = planned("demonstrations_2x2", tmp_path, map_name="3s_vs_3z")
    num_agents = load_map("3s_vs_3z").num_agents
    runs = {row: plan.steps_of(row) for row in plan.matrix.rows}
    for kind in ("joint", "independent"):
        for sampling in ("concurrent", "non_concurrent"):
            for position, step in enumerate(runs[f"{kind}_{sampling}"]):
                assert step.experiment is not None
                experts = step.experiment.demonstrations
                assert experts.sampling == sampling
                teams = [experts.path] if kind == "joint" else list(experts.paths_per_agent)
                numbers = [position % num_agents] if kind == "joint" else list(range(num_agents))
                assert teams == [str(tmp_path / "sets" / "mediocre" / f"team_{team}") for team in numbers]
                assert set(step.needs) == {f"sets/mediocre/team_{team}" for team in numbers}
    trained = {name: step for name, step in plan.steps.items() if name.startswith("experts/")}
    assert len({step.experiment.seed for step in trained.values() if step.experiment}) == num_agents
    assert all("checkpoint.keep=0" in step.arguments for step in trained.values())


def test_a_dry_run_prints_commands_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["experiment", "quality", "--seeds", "1", "--dry-run", "env_steps=1e6", "ppo.clip=0.1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "dm2 train --variant ippo --map 5m_vs_6m --seed 1000 --run-dir runs/quality-5m_vs_6m/experts/ippo/team_0 "
        "checkpoint.keep=0 ppo.clip=0.1"
    )
    assert lines[1] == (
        "dm2 demos record runs/quality-5m_vs_6m/experts/ippo/team_0 --map 5m_vs_6m --episodes 1000 --seed 2000 "
        "--out runs/quality-5m_vs_6m/sets/level_1/team_0 --stochastic --win-rate 0.05"
    )
    assert sum(line.startswith("dm2 demos record") for line in lines) == 5
    assert sum(line.startswith("dm2 train --variant dm2") for line in lines) == 5
    assert all("--env-steps 1000000" in line for line in lines if "/rows/" in line)
    assert list(tmp_path.iterdir()) == []


# A user's file.


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def test_settings_apply_to_the_runs_they_are_meant_for(small: Path, tmp_path: Path) -> None:
    plan = planned(str(small), tmp_path, "ppo.clip=0.3", "ppo.epochs=2", "world.smac={reward_win: 50}")
    steps = {name: step.experiment for name, step in plan.steps.items() if step.experiment is not None}
    expert, dm2, ippo = (steps[name] for name in ("experts/ippo/team_0", "rows/dm2/seed_1", "rows/ippo/seed_1"))
    assert (expert.ppo.clip, dm2.ppo.clip, ippo.ppo.clip) == (0.3, 0.1, 0.3)
    assert {experiment.ppo.epochs for experiment in steps.values()} == {2}
    assert all(experiment.world.smac == {"reward_win": 50} for experiment in steps.values())
    assert (expert.seed, expert.stop.env_steps, dm2.stop.env_steps) == (7, 500, 1000)
    # The printed command gives exactly the same run.
    from dm2_ray.runs.experiment_loading import load_experiment

    arguments = next(line for line in commands(plan) if "rows/dm2/seed_1" in " ".join(line))
    typed = [word for word in arguments if re.match(r"[a-z_]+\.[a-z_.]+=", word)]
    own = ["seed=1", "stop.env_steps=1000", f"demonstrations.path={tmp_path}/sets/some/team_0"]
    assert load_experiment(variant="dm2", map_name="2m_vs_1z", overrides=[*typed, *own]) == dm2


def test_seeds_are_the_outer_loop_over_rows(small: Path, tmp_path: Path) -> None:
    assert list(planned(str(small), tmp_path).steps) == [
        "experts/ippo/team_0", "sets/some/team_0", "rows/dm2/seed_0", "rows/ippo/seed_0", "rows/dm2/seed_1",
        "rows/ippo/seed_1",
    ]  # fmt: skip


def test_an_experiment_is_written_as_it_was_started(small: Path, tmp_path: Path) -> None:
    matrix, _ = load_matrix(str(small), num_seeds=1, overrides=["ppo.clip=0.3", "sets.some.episodes=30"])
    write_matrix(matrix, tmp_path / "written.yaml")
    again, _ = load_matrix(str(tmp_path / "written.yaml"))
    assert again == matrix
    assert (again.seeds, again.sets["some"].episodes, again.settings.ppo.clip) == ((0,), 30, 0.3)


def test_a_map_may_have_keys_of_its_own(small: Path, tmp_path: Path) -> None:
    small.write_text(SMALL + "maps:\n  3m:\n    sets: {some: {episodes: 50}}\n    rows: {dm2: null}\n")
    assert load_matrix(str(small))[0].sets["some"].episodes == 20
    other = load_matrix(str(small), map_name="3m")[0]
    assert (other.sets["some"].episodes, list(other.rows)) == (50, ["ippo"])


def test_sets_that_no_condition_uses_are_not_recorded(small: Path, tmp_path: Path) -> None:
    assert list(planned(str(small), tmp_path, "rows.dm2=null", "seeds=[3]").steps) == ["rows/ippo/seed_3"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("env_steps: 1000", "env_step: 1000"), "line 5: unknown key env_step (value 1000); did you mean env_steps?"),
        (("clip: 0.1", "clipp: 0.1"), "line 15: unknown key rows.dm2.settings.ppo.clipp (value 0.1); did you mean "
                                      "rows.dm2.settings.ppo.clip?"),
        (("clip: 0.1", "clip: -1"), "line 15: rows.dm2.settings.ppo.clip must be greater than 0.0, got -1"),
        (("{expert: ippo, ep", "{expertt: ippo, ep"), "line 9: unknown key sets.some.expertt (value 'ippo'); did you "
                                                      "mean sets.some.expert?"),
        (("expert: ippo,", "expert: ipo,"), "line 9: there is no 'ipo' among the experts (ippo); did you mean ippo?"),
        (("set: some", "set: sone"), "line 13: there is no 'sone' among the sets (some); did you mean some?"),
        (("variant: dm2", "variant: dm3"), "line 12: rows.dm2.variant must be one of "),
        (("map: 2m_vs_1z", "map: 2m_vs_1zz"), "line 3: map: "),
        (("seeds: [0, 1]", "seeds: [0, 0]"), "line 4: seeds must differ"),
        (("seeds: [0, 1]", "seeds: []"), "line 4: seeds must be a list of at least 1"),
        (("seed: 7", "seed: 1"), "line 7: experts.ippo trains with the learners' seeds [1]"),
        (("ppo: {clip: 0.1}", "seed: 3"), "line 15: rows.dm2.settings.seed is not set here"),
        (("ppo: {clip: 0.1}", "world: {map: 3m}"), "line 15: rows.dm2.settings.world.map is not set here"),
        (("expert: ippo,", "expert: ippo, scripted: kite,"), "line 9: sets.some needs one of expert, checkpoint, "
                                                             "scripted and paths, got expert and scripted"),
        (("expert: ippo,", "checkpoint: 'zoo:3m/ipo-1.0',"), "line 9: sets.some.checkpoint: no team zoo:3m/ipo-1.0"),
        (("expert: ippo,", "checkpoint: 'zoo:3m/ippo-1.0',"), "line 9: sets.some.checkpoint: zoo:3m/ippo-1.0 plays on "
                                                              "3m, this experiment is on 2m_vs_1z"),
        (("expert: ippo,", "scripted: kit,"), "line 9: sets.some.scripted must be one of random, nearest, focus_fire, "
                                              "kite, hit_and_run, got 'kit'; did you mean kite?"),
        (("expert: ippo,", "scripted: kite, win_rate: 0.5,"), "line 9: sets.some.win_rate chooses a checkpoint"),
        (("set: some", "set: some\n    experts: independent"), "independent experts need a set of 2 teams"),
        (("set: some", "set: some\n    experts: alone"), "rows.dm2.experts must be one of joint, independent"),
        (("set: some", "set: some\n    team: 1"), "rows.dm2.team must be by_seed or below 1, got 1"),
        (("set: some", "set: some\n    team: [1]"), "line 14: rows.dm2.team"),
        (("    set: some\n", ""), "line 11: rows.dm2: "),
        (("ippo: {variant: ippo}", "ippo: {}"), "line 16: rows.ippo needs either a variant that learns or a scripted"),
        (("ippo: {variant: ippo}", "ippo: {scripted: kite, set: some}"), "rows.ippo: a scripted team takes a label and "
                                                                         "nothing else, got set"),
        (("ippo: {variant: ippo}", "no/go: {variant: ippo}"), "line 16: rows.no/go: a name becomes a directory"),
        (("env_steps: 1000\n", ""), "when should its runs end?"),
        (("{expert: ippo, episodes: 20}", "{expert: ippo, episodes: 1}"), None),
        (("{expert: ippo, episodes: 20}\n", "{expert: ippo, episodes: 1}\nsettings: {demonstrations: {sampling: "
                                           "non_concurrent}}\n"), "line 9: sets.some.episodes is 1: 2 agents that"),
        (("variant: dm2", "variant: dm2_live"), "rows learn from recorded sets"),
        (("episodes: 20", "episodes: 0"), "line 9: sets.some.episodes must be at least 1, got 0"),
        (("rows:\n", "maps:\n  3m: {rows: {dm3: null}}\nrows:\n"), "line 11: rows.dm3 is null, which removes an entry"),
        (("rows:\n", "maps:\n  3n: {}\nrows:\n"), "line 11: map: "),
        (("title: small\n", ""), "title is missing"),
        (("title: small", "title: small\ntitle: big"), "line 3: title is given twice"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_the_place(
    change: tuple[str, str], message: str | None, small: Path, tmp_path: Path
) -> None:
    assert change[0] in SMALL
    small.write_text(SMALL.replace(*change))
    if message is None:
        planned(str(small), tmp_path)
        return
    with pytest.raises(ConfigError) as refusal:
        planned(str(small), tmp_path)
    assert message in str(refusal.value)
    assert str(refusal.value).startswith(str(small))
    assert "\n" not in str(refusal.value)


def test_a_set_is_recorded_of_an_existing_team(small: Path, tmp_path: Path) -> None:
    changed = SMALL.replace("map: 2m_vs_1z", "map: 3m").replace("{expert: ippo,", "{checkpoint: 'zoo:3m/ippo-0.5',")
    small.write_text(changed)
    step = planned(str(small), tmp_path).steps["sets/some/team_0"]
    assert step.arguments[:3] == ("demos", "record", "zoo:3m/ippo-0.5") and "--stochastic" in step.arguments
    assert step.recorded is not None and step.recorded.source == "zoo:3m/ippo-0.5" and not step.recorded.greedy
    small.write_text(changed.replace("zoo:3m/ippo-0.5", "runs/mine"))
    step = planned(str(small), tmp_path).steps["sets/some/team_0"]
    assert step.arguments[2] == str(Path("runs/mine").absolute())
    assert step.recorded is not None and step.recorded.source is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["experiment", "quallity"], "unknown experiment 'quallity'; there are cloning, core, "),
        (["experiment", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["experiment", "core", "--map", "3n"], "3n"),
        (["experiment", "core", "--seeds", "9"], "--seed-list"),
        (["experiment", "core", "--seed-list", "1000"], "learners' seeds [1000]"),
        (["experiment", "core", "ppo.clipp=1"], "command line: unknown key settings.ppo.clipp"),
        (["experiment", "core", "stop.env_steps=1000"], "command line: the shared settings cannot contain stop"),
        (["experiment", "core", "sets.better.episode=10"], "did you mean sets.better.episodes?"),
        (["experiment", "core", "sets.better.expert=null", "sets.better.win_rate=null", "sets.better.paths=[gone]"],
         "command line: rows.dm2_better: demonstration set"),
        (["experiment", "core", "--report-only"], "runs/core-5m_vs_6m holds no experiment"),
        (["report", "nowhere"], "nowhere is not a run directory"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_one_line_and_starts_nothing(
    arguments: list[str], message: str, refusal_of: Callable[[list[str]], str]
) -> None:
    assert message in refusal_of(arguments)
