"""`dm2 report`: compares the runs and experiments on disk and writes result.md, result.json and result.png."""

from __future__ import annotations

import contextlib
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dm2_ray.config.documents import experiment_hash
from dm2_ray.config.overrides import flattened
from dm2_ray.config.schema import Experiment
from dm2_ray.demonstrations import DemonstrationError
from dm2_ray.demonstrations.manifest import Manifest
from dm2_ray.experiments.comparison import Comparison, ConditionResults, Demonstrators
from dm2_ray.experiments.comparison_markdown import markdown, overall_markdown
from dm2_ray.experiments.comparison_plot import draw_comparison
from dm2_ray.experiments.learning_curve import LearningCurve, NotEvaluated
from dm2_ray.experiments.matrix import Matrix
from dm2_ray.experiments.matrix_file import load_matrix, write_matrix
from dm2_ray.experiments.steps import ExperimentPlan, set_paths
from dm2_ray.files import write_atomically
from dm2_ray.runs.run_directory import RunDirectory

EXPERIMENT_FILE = "experiment.yaml"
COMMANDS_FILE = "commands.txt"
THRESHOLDS = (0.3, 0.5, 0.8)


def write_plan(plan: ExperimentPlan) -> None:
    """Writes what reports read of an experiment that is started: its file and its commands."""
    write_matrix(plan.matrix, plan.directory / EXPERIMENT_FILE)
    write_atomically(plan.directory / COMMANDS_FILE, "".join(f"{line}\n" for line in plan.commands()).encode())


def is_experiment(directory: Path) -> bool:
    """Whether the directory was created by `dm2 experiment`."""
    return (directory / EXPERIMENT_FILE).is_file()


def experiment_comparison(directory: Path) -> Comparison:
    """Compares the existing runs of an experiment, finished or not.

    Raises:
        ConfigError: Its experiment.yaml is damaged.
    """
    matrix, _ = load_matrix(str(directory / EXPERIMENT_FILE))
    commands = directory / COMMANDS_FILE
    return Comparison(
        title=matrix.title,
        paper=matrix.paper,
        map=Path(matrix.map).stem,
        thresholds=matrix.thresholds,
        rows=tuple(_experiment_row(matrix, directory, name) for name in matrix.rows),
        commands=tuple(commands.read_text().splitlines()) if commands.is_file() else (),
    )


def runs_comparisons(paths: Sequence[Path]) -> list[Comparison]:
    """Compares any runs, one comparison per map; runs that differ only in their seeds form one condition.

    Raises:
        RunDirectoryError: A path is not a run directory.
    """
    runs = [RunDirectory.open(path) for path in dict.fromkeys(paths)]
    rows: dict[str, dict[str, list[tuple[RunDirectory, Experiment]]]] = {}
    for run in runs:
        experiment = run.experiment()
        same = experiment_hash(experiment.model_copy(update={"seed": 0}))
        rows.setdefault(experiment.world.map, {}).setdefault(same, []).append((run, experiment))
    comparisons = []
    for map_name, groups in rows.items():
        labels = _labels([members[0][1] for members in groups.values()])
        comparisons.append(
            Comparison(
                title="Runs compared",
                map=map_name,
                thresholds=THRESHOLDS,
                rows=tuple(
                    ConditionResults(
                        name=label,
                        label=label,
                        curves=_curves([run for run, _ in members]),
                        planned=len(members),
                        demonstrators=_own_demonstrators(members[0][1]),
                        uses=_uses(members[0][1]),
                    )
                    for label, members in zip(labels, groups.values(), strict=True)
                ),
            )
        )
    return comparisons


def write_report(comparisons: Sequence[Comparison], directory: Path) -> str:
    """Writes result.md, result.json and result.png (one picture per map if there are several); returns the Markdown."""
    text = "\n".join(markdown(comparison) for comparison in comparisons)
    if len(comparisons) > 1:
        text += "\n" + overall_markdown(comparisons)
    records = [comparison.record() for comparison in comparisons]
    content: Any = records[0] if len(records) == 1 else {"maps": records}
    write_atomically(directory / "result.md", text.encode())
    write_atomically(directory / "result.json", json.dumps(content, indent=2, allow_nan=False).encode() + b"\n")
    for comparison in comparisons:
        if comparison.evaluated:
            name = "result.png" if len(comparisons) == 1 else f"result-{comparison.map}.png"
            draw_comparison(comparison, directory / name)
    return text


def _experiment_row(matrix: Matrix, directory: Path, name: str) -> ConditionResults:
    row, root = matrix.rows[name], directory / "rows" / name
    paths = [root / f"seed_{seed}" for seed in matrix.seeds]
    if row.scripted is not None:
        found = [(seed, _outcomes([path])) for seed, path in zip(matrix.seeds, paths, strict=True)]
        curves = tuple(
            LearningCurve(
                variant=f"scripted:{row.scripted}", seed=seed, env_steps=(0,), win_rates=(win_rate,), returns=(mean,)
            )
            for seed, played in found
            for win_rate, mean in played
        )
        return ConditionResults(name=name, label=matrix.label(name), curves=curves, planned=len(paths), learns=False)
    runs = [RunDirectory(path) for path in paths if (path / "config.yaml").is_file()]
    demonstrators = None
    if row.set is not None:
        sets = set_paths(matrix, directory, row.set)
        who = row.set
        if row.experts == "joint" and row.team != "by_seed" and len(sets) > 1:
            sets, who = [sets[row.team]], f"{row.set} (team {row.team})"
        demonstrators = _demonstrators(who, sets)
    demonstrated = None if demonstrators is None else statistics.mean(demonstrators.win_rates)
    return ConditionResults(
        name=name,
        label=matrix.label(name, demonstrated),
        curves=_curves(runs),
        planned=len(paths),
        demonstrators=demonstrators,
        uses=_uses(runs[0].experiment()) if runs else {},
    )


def _curves(runs: Sequence[RunDirectory]) -> tuple[LearningCurve, ...]:
    curves = []
    for run in runs:
        with contextlib.suppress(NotEvaluated):
            curves.append(LearningCurve.of(run))
    return tuple(sorted(curves, key=lambda curve: curve.seed))


def _uses(experiment: Experiment) -> dict[str, Any]:
    """Settings that a reader of the numbers must know."""
    matching, experts = experiment.matching, experiment.demonstrations
    clones = experiment.cloning.iterations > 0
    uses: dict[str, Any] = {"variant": experiment.variant}
    if matching.coefficient > 0:
        uses |= {
            "c": matching.coefficient,
            "annealed over": matching.anneal_iterations or None,
            "reward": matching.reward,
            "form": matching.form,
            "normalised": matching.normalise,
            "padding": matching.padding,
            "discriminator sees": experiment.discriminator.input,
        }
    if clones:
        uses["cloning iterations"] = experiment.cloning.iterations
    if matching.coefficient > 0 or clones:
        uses |= {"experts": experts.source, "sampling": experts.sampling}
    uses["engine"] = experiment.world.backend
    return uses


def _own_demonstrators(experiment: Experiment) -> Demonstrators | None:
    experts = experiment.demonstrations
    teams = [experts.path] if experts.path is not None else list(experts.paths_per_agent)
    if experts.source != "set" or not (experiment.matching.coefficient > 0 or experiment.cloning.iterations > 0):
        return None
    return _demonstrators(Path(teams[0]).name, [Path(team) for team in teams])


def _demonstrators(name: str, sets: Sequence[Path]) -> Demonstrators | None:
    outcomes = _outcomes(sets)
    if not outcomes:
        return None
    return Demonstrators(
        name=name,
        win_rates=tuple(win_rate for win_rate, _ in outcomes),
        returns=tuple(mean for _, mean in outcomes),
    )


def _outcomes(sets: Sequence[Path]) -> list[tuple[float, float]]:
    """Win rate and mean return of the sets that exist and contain them (an imported set may not)."""
    outcomes = []
    for path in sets:
        # The set may not have been recorded yet, or it was removed after the runs.
        with contextlib.suppress(DemonstrationError):
            manifest = Manifest.read(path)
            if manifest.win_rate is not None and manifest.return_mean is not None:
                outcomes.append((manifest.win_rate, manifest.return_mean))
    return outcomes


def _labels(experiments: Sequence[Experiment]) -> list[str]:
    """The variant, and the settings in which conditions of the same variant differ."""
    keys = [flattened(experiment.model_dump(mode="json", exclude={"seed", "stop", "checkpoint", "tracking"}))
            for experiment in experiments]  # fmt: skip
    labels = []
    for experiment, own in zip(experiments, keys, strict=True):
        alike = [other for other in keys if other["variant"] == experiment.variant]
        differing = [key for key in own if any(other.get(key) != own[key] for other in alike)]
        labels.append(" ".join([experiment.variant, *(f"{key}={_short(own[key])}" for key in differing)]))
    return labels


def _short(value: Any) -> str:
    return Path(value).name if isinstance(value, str) else str(value)
