"""The trained teams of the package are intact, current and as good as they say; damage is refused in one line."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import dm2_ray
from dm2_ray.checkpoints import CheckpointError, actor_weights, open_checkpoint
from dm2_ray.distributed.random_streams import StreamRole, derive_seed
from dm2_ray.experiments import team_packing
from dm2_ray.experiments.team_packing import LevelNotReached, level_name, pack_run, pack_team, training_command
from dm2_ray.runs.evaluation import evaluate_checkpoint
from dm2_ray.statistics import wilson_interval
from dm2_ray.world import world_map
from dm2_ray.world.engine_settings import ENGINE_VERSION
from dm2_ray.zoo import PackedTeam, PackedTeamError, TeamManifest, list_teams, open_team
from dm2_ray.zoo.manifest import MANIFEST_NAME, WEIGHTS_NAME
from dm2_ray.zoo.packed_team import MAX_BYTES
from dm2_ray.zoo.references import TEAMS_DIRECTORY

RUN = Path(__file__).parents[1] / "data" / "made_by_0.1.0" / "run"
"""Two agents on 2m_vs_1z after two iterations."""

packaged = pytest.mark.parametrize("manifest", list_teams(), ids=lambda manifest: f"{manifest.map}/{manifest.name}")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> PackedTeam:
    (team,) = pack_run(RUN, "young", tmp_path_factory.mktemp("teams"), battles=4)
    return team


@pytest.fixture
def copy(packed: PackedTeam, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed.path, tmp_path / "2m_vs_1z" / "young"))


def rewrite(directory: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Changes a manifest and makes its own hash agree again."""
    path = directory / MANIFEST_NAME
    content = json.loads(path.read_text())
    del content["manifest_sha256"]
    change(content)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**content, "manifest_sha256": digest}))


def test_the_package_has_teams() -> None:
    assert list_teams()


@packaged
def test_a_packaged_team_is_intact_small_and_current(manifest: TeamManifest) -> None:
    team = open_team(manifest.reference)
    assert isinstance(team, PackedTeam)
    assert team.name == manifest.reference and team.path == TEAMS_DIRECTORY / manifest.map / manifest.name
    weights = team.path / WEIGHTS_NAME
    assert weights.stat().st_size == manifest.weights_bytes <= MAX_BYTES
    assert {file.name for file in team.path.iterdir()} == {MANIFEST_NAME, WEIGHTS_NAME}
    assert manifest.engine_version == ENGINE_VERSION, "train the zoo again (`dm2 zoo train`)"
    assert manifest.greedy is not None and manifest.sampled is not None
    assert manifest.training.command.startswith(f"dm2 train --variant {manifest.variant} --map {manifest.map} --seed ")
    assert world_map(manifest.world.map, manifest.world.scenario).num_agents == manifest.num_agents
    algorithm, level = manifest.name.rsplit("-", 1)
    assert algorithm.split("-")[0] == manifest.variant
    assert abs(manifest.greedy.win_rate - float(level)) < 0.2


@packaged
@pytest.mark.parametrize("greedy", [True, False])
def test_a_packaged_team_wins_what_its_manifest_says(manifest: TeamManifest, greedy: bool) -> None:
    measured = manifest.greedy if greedy else manifest.sampled
    assert measured is not None
    result = evaluate_checkpoint(open_team(manifest.reference), episodes=48, seed=7, greedy=greedy)
    low, high = wilson_interval(result.win_rate, result.episodes)
    half = 2 * max(result.win_rate - low, high - result.win_rate)  # about four standard errors
    assert abs(result.win_rate - measured.win_rate) <= half


def test_a_packed_team_plays_like_its_checkpoint(packed: PackedTeam) -> None:
    checkpoint = open_checkpoint(RUN)
    assert (packed.map, packed.variant, packed.env_steps) == ("2m_vs_1z", "ippo", checkpoint.env_steps)
    for own, original in zip(actor_weights(packed), actor_weights(checkpoint), strict=True):
        assert own.keys() == original.keys() and all(name.startswith("actor.") for name in own)
        for name in own:
            np.testing.assert_array_equal(own[name], original[name].astype(np.float16).astype(np.float32))
    assert packed.manifest.training.checkpoint_hash == checkpoint.digest
    assert packed.manifest.policy == checkpoint.experiment().policy
    assert packed.manifest.greedy is not None and packed.manifest.greedy.battles == 4


def test_a_packed_team_acts_from_python(packed: PackedTeam) -> None:
    team = dm2_ray.load_team(packed.path, greedy=False, seed=derive_seed(4, StreamRole.EVALUATION_ACTIONS, 0))
    expected = evaluate_checkpoint(packed, episodes=1, seed=4, greedy=False)
    battles = team.build_battles(1, 4)
    battles.reset(seed=derive_seed(4, StreamRole.EVALUATION_BATTLES, 0), first_battle=0)
    total, steps = 0.0, 0
    while not (steps and (battles.terminated[0] or battles.truncated[0])):
        battles.step(team.act(battles.observations, battles.action_mask))
        total, steps = total + battles.rewards[0], steps + 1
    assert (total, steps) == pytest.approx((expected.return_mean, expected.episode_length_mean))


def test_an_actor_that_all_agents_share_is_stored_once(tmp_path: Path) -> None:
    run = Path(shutil.copytree(RUN, tmp_path / "run"))
    (checkpoint,) = (run / "checkpoints").iterdir()
    state = torch.load(checkpoint / "agent_0.pt", weights_only=True)
    state["modules"]["agent_1"] = state["modules"].pop("agent_0")
    torch.save(state, checkpoint / "agent_1.pt")
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["sha256"]["agent_1.pt"] = hashlib.sha256((checkpoint / "agent_1.pt").read_bytes()).hexdigest()
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    team = pack_team(open_checkpoint(run), "shared", tmp_path / "teams", battles=2)
    assert {len(stacked) for stacked in team.parameters.values()} == {1}
    first, second = actor_weights(team)
    np.testing.assert_array_equal(first["actor.head.weight"], second["actor.head.weight"])


def test_the_command_in_a_manifest_names_what_differs_from_the_defaults() -> None:
    command = training_command(open_checkpoint(RUN)).split()
    assert command[:8] == ["dm2", "train", "--variant", "ippo", "--map", "2m_vs_1z", "--seed", "0"]
    assert "policy.hidden_size=8" in command
    assert not [word for word in command if word.startswith(("tracking.", "stop.", "ppo.gamma"))]


def test_packing_again_keeps_the_same_team_and_refuses_another(copy: Path, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in copy.iterdir()}
    pack_run(RUN, "young", tmp_path, battles=4)
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == before
    other = Path(shutil.copytree(RUN, tmp_path / "run"))
    (checkpoint,) = (other / "checkpoints").iterdir()
    state = torch.load(checkpoint / "agent_0.pt", weights_only=True)
    state["modules"]["agent_0"]["actor.head.bias"] += 1
    torch.save(state, checkpoint / "agent_0.pt")
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["sha256"]["agent_0.pt"] = hashlib.sha256((checkpoint / "agent_0.pt").read_bytes()).hexdigest()
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PackedTeamError, match=r"2m_vs_1z/young exists already: remove it, or choose another --name"):
        pack_run(other, "young", tmp_path, battles=4)
    assert sorted(path.name for path in copy.parent.iterdir()) == ["young"]


def test_levels_choose_checkpoints_and_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(team_packing, "measure_checkpoints", lambda *args, note, **kw: _measured_as(0.34, note))
    with pytest.raises(LevelNotReached, match=r"no checkpoint wins about 0.9 \(closest: iteration_000002 with 0.34\)"):
        pack_run(RUN, "ippo", tmp_path, levels=[0.3, 0.9], battles=2, note=lines.append)
    assert [team.name for team in list_teams(tmp_path)] == ["ippo-0.3"] and len(lines) == 1
    assert [level_name("ippo", level) for level in (0.3, 1.0, 0.25)] == ["ippo-0.3", "ippo-1.0", "ippo-0.25"]


def _measured_as(win_rate: float, note: Callable[[str], None]) -> list[object]:
    from dm2_ray.recording.checkpoint_choice import MeasuredCheckpoint
    from dm2_ray.runs.evaluation import TeamResult

    result = TeamResult(
        episodes=256, win_rate=win_rate, win_rate_interval=(0.0, 1.0), return_mean=1.0, episode_length_mean=9.0
    )
    note("measured")
    return [MeasuredCheckpoint(checkpoint=open_checkpoint(RUN), result=result)]


def test_names_and_paths_that_cannot_be_packed(tmp_path: Path) -> None:
    with pytest.raises(PackedTeamError, match="a team's name becomes a directory"):
        pack_run(RUN, "../up", tmp_path, battles=2)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        pack_run(tmp_path / "nothing", "young", tmp_path, battles=2)
    with pytest.raises(ValueError, match="--levels chooses among the checkpoints of a run directory"):
        pack_run(next((RUN / "checkpoints").iterdir()), "young", tmp_path, levels=[0.5], battles=2)


@pytest.mark.parametrize("file", [MANIFEST_NAME, WEIGHTS_NAME])
def test_a_changed_byte_is_refused(copy: Path, file: str) -> None:
    intact = (copy / file).read_bytes()
    for position in range(3, len(intact), len(intact) // 9):
        (copy / file).write_bytes(intact[:position] + bytes([intact[position] ^ 1]) + intact[position + 1 :])
        with pytest.raises(PackedTeamError) as refusal:
            PackedTeam.open(copy)
        assert str(copy / file) in str(refusal.value) and "\n" not in str(refusal.value)
    (copy / file).write_bytes(intact)
    PackedTeam.open(copy)


@pytest.mark.parametrize(("file", "problem"), [(MANIFEST_NAME, "cannot be read"), (WEIGHTS_NAME, "cannot be read")])
def test_a_missing_file_is_refused(copy: Path, file: str, problem: str) -> None:
    (copy / file).unlink()
    with pytest.raises(PackedTeamError, match=f"{file} {problem}: No such file"):
        open_team(copy)


def test_pickled_objects_are_not_loaded(copy: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return pytest.fail, ("a pickle was loaded",)

    buffer = io.BytesIO()
    np.savez(buffer, **{"actor.head.bias": np.array([Trap()], dtype=object)})
    (copy / WEIGHTS_NAME).write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    rewrite(copy, lambda content: content.update(weights_sha256=digest))
    with pytest.raises(PackedTeamError, match="does not contain weights of a team"):
        PackedTeam.open(copy)


def test_weights_that_do_not_fit_their_manifest_are_refused(copy: Path) -> None:
    rewrite(copy, lambda content: content.update(obs_size=1))
    with pytest.raises(CheckpointError, match="does not fit its own configuration"):
        dm2_ray.load_team(copy)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("format_version", 2, "format_version is 2, this version of dm2-ray reads 1"),
        ("num_agents", 0, "num_agents must be at least 1, got 0"),
        ("surprise", 1, "unknown key surprise"),
    ],
)
def test_a_manifest_of_another_form_is_refused(copy: Path, key: str, value: object, problem: str) -> None:
    rewrite(copy, lambda content: content.update({key: value}))
    with pytest.raises(PackedTeamError, match=problem):
        open_team(copy)


def test_a_team_of_another_engine_plays_with_a_warning(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    rewrite(copy, lambda content: content.update(engine_version="0"))
    evaluate_checkpoint(open_team(copy), episodes=1, seed=0)
    (warning,) = caplog.messages
    assert warning.startswith(
        f"{copy} was packed for version 0 of the embedded engine, this is version {ENGINE_VERSION}"
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("zoo:3m/ipo-1.0", "did you mean 'zoo:3m/ippo-1.0'"),
        ("zoo:3m", "zoo:3m/ippo-1.0"),
        ("zoo:../3m/ippo-1.0", "no team zoo:../3m/ippo-1.0 in the zoo"),
        ("zoo:nowhere/at-all", "known teams: zoo:"),
    ],
)
def test_an_unknown_team_is_refused_with_names_that_exist(name: str, hint: str) -> None:
    with pytest.raises(PackedTeamError) as refusal:
        open_team(name)
    assert hint in str(refusal.value) and "\n" not in str(refusal.value)
