"""The authors' published files, written as their code writes them, become a set that lists what is missing."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dm2_ray.demonstrations import DemonstrationError, JointTrajectories
from dm2_ray.demonstrations.importers import import_published
from dm2_ray.demonstrations.merging import merge_sets
from dm2_ray.demonstrations.verifying import verify_set
from dm2_ray.world import BattleVector, ScriptedTeam, load_map

MAP = "3m"


@dataclass(frozen=True)
class Battle:
    """One battle as the authors' runner records it: padded rows, with the observations after the last step.

    Attributes:
        observations: [limit + 1, N, O].
        actions: [limit + 1, N].
        alive: [L, N], which they do not record.
    """

    observations: npt.NDArray[np.float32]
    actions: npt.NDArray[np.int64]
    alive: npt.NDArray[np.bool_]
    won: bool
    timed_out: bool

    @property
    def length(self) -> int:
        return len(self.alive)


@cache
def play(map_name: str, team_name: str, count: int) -> list[Battle]:
    battles = BattleVector(map_name, 1, seed=3)
    team = ScriptedTeam(team_name, battles, seed=3)
    battles.reset()
    team.reset_states(battles)
    rows, played = battles.episode_limit + 1, []
    while len(played) < count:
        observations = np.zeros((rows, battles.num_agents, battles.obs_size), np.float32)
        actions = np.zeros((rows, battles.num_agents), np.int64)
        alive: list[npt.NDArray[np.bool_]] = []
        while not alive or not battles.terminated[0]:
            observations[len(alive)] = battles.observations[0]
            actions[len(alive)] = team.act(battles)[0]
            alive.append(battles.alive[0].copy())
            battles.step(actions[len(alive) - 1][None])
        team.reset_finished(battles.terminated)
        # Their runner chooses actions once more, for the agents that are alive.
        observations[len(alive)] = battles.final_observations[0]
        actions[len(alive)] = battles.final_action_mask[0].argmax(-1)
        played.append(
            Battle(observations, actions, np.array(alive), bool(battles.battle_won[0]), bool(battles.timed_out[0]))
        )
    return played


Entries = list[dict[str, Any]]


def entries_of(battles: list[Battle]) -> list[Entries]:
    """Returns, per agent, what the authors' code passes to numpy: views of the whole team's tensors."""
    agents: list[Entries] = [[] for _ in range(battles[0].actions.shape[1])]
    for battle in battles:
        observations = torch.from_numpy(battle.observations)[None]
        actions = torch.from_numpy(battle.actions)[None, :, :, None]
        for agent, entries in enumerate(agents):
            entries.append({"obs": observations[:, :, agent, :], "actions": actions[:, :, agent, :]})
    return agents


def publish(directory: Path, agents: list[Entries]) -> Path:
    directory.mkdir()
    for agent, entries in enumerate(agents):
        np.savez_compressed(f"{directory}/agent_{agent}.npz", entries)  # type: ignore[arg-type]
    return directory


@pytest.fixture
def battles() -> list[Battle]:
    return [*play(MAP, "focus_fire", 3), *play(MAP, "random", 3)]


@pytest.fixture
def published(tmp_path: Path, battles: list[Battle]) -> Path:
    return publish(tmp_path / "published", entries_of(battles))


def assert_same(found: JointTrajectories, battles: list[Battle]) -> None:
    assert found.episode_lengths.tolist() == [battle.length for battle in battles]
    for agent in range(found.num_agents):
        own = found.agent_slice(agent, np.arange(len(battles)))
        rows = [(battle, slice(battle.length)) for battle in battles]
        np.testing.assert_array_equal(own.observations, np.concatenate([b.observations[r, agent] for b, r in rows]))
        np.testing.assert_array_equal(own.actions, np.concatenate([b.actions[r, agent] for b, r in rows]))
        np.testing.assert_array_equal(own.alive, np.concatenate([b.alive[:, agent] for b in battles]))
        assert own.action_mask.all()


def test_published_files_are_imported(published: Path, battles: list[Battle], tmp_path: Path) -> None:
    manifest = import_published(published, load_map(MAP), tmp_path / "set")
    found = verify_set(tmp_path / "set")
    assert found.manifest == manifest
    assert_same(found, battles)
    assert (manifest.map, manifest.num_agents, manifest.obs_size, manifest.num_actions) == (MAP, 3, 30, 9)
    assert (manifest.policy.kind, manifest.policy.source) == ("imported", str(published))


def test_what_was_not_published_is_listed_as_missing(published: Path, tmp_path: Path) -> None:
    manifest = import_published(published, load_map(MAP), tmp_path / "set")
    assert manifest.missing == ["action_mask", "rewards", "battle_won"]
    assert (manifest.win_rate, manifest.return_mean, manifest.policy.greedy, manifest.policy.seed) == (None,) * 4
    found = JointTrajectories.open(tmp_path / "set")
    for name in ("battle_won", "returns"):
        with pytest.raises(DemonstrationError, match="does not say wh"):
            getattr(found, name)
    assert all(episode.missing == manifest.missing for episode in found.episodes())


def test_files_with_pickles_of_protocol_2_are_imported(published: Path, battles: list[Battle], tmp_path: Path) -> None:
    """numpy before 1.17 wrote protocol 2, in which bytes are encoded as text."""
    for path in published.iterdir():
        entries = np.load(path, allow_pickle=True)["arr_0"]
        header = (str({"descr": "|O", "fortran_order": False, "shape": entries.shape})).encode() + b"\n"
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + pickle.dumps(entries, protocol=2)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("arr_0.npy", content)
    import_published(published, load_map(MAP), tmp_path / "set")
    assert_same(JointTrajectories.open(tmp_path / "set"), battles)


def change_all(agents: list[Entries], change: Callable[[dict[str, Any]], dict[str, Any]]) -> list[Entries]:
    return [[change(entry) for entry in entries] for entries in agents]


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: {**entry, "actions": torch.nn.functional.one_hot(entry["actions"][..., 0], 9).float()},
        lambda entry: {name: value[0] for name, value in entry.items()},
        lambda entry: {**entry, "actions": entry["actions"][0, :, 0]},
        lambda entry: {name: value.numpy() for name, value in entry.items()},
        lambda entry: {**entry, "obs": entry["obs"].double(), "actions": entry["actions"].float()},
    ],
    ids=["one-hot", "without a batch axis", "flat", "numpy", "other types"],
)
def test_variants_are_imported(battles: list[Battle], change: Any, tmp_path: Path) -> None:
    published = publish(tmp_path / "published", change_all(entries_of(battles), change))
    import_published(published, load_map(MAP), tmp_path / "set")
    assert_same(JointTrajectories.open(tmp_path / "set"), battles)


def test_npy_files_and_the_first_battles_are_imported(battles: list[Battle], tmp_path: Path) -> None:
    (tmp_path / "published").mkdir()
    for agent, entries in enumerate(entries_of(battles)):
        np.save(tmp_path / "published" / f"agent_{agent}.npy", entries, allow_pickle=True)  # type: ignore[arg-type]
    import_published(tmp_path / "published", load_map(MAP), tmp_path / "set", episodes=4)
    assert_same(JointTrajectories.open(tmp_path / "set"), battles[:4])


@pytest.mark.parametrize("map_name", ["3m", "2m_vs_1z", "3s_vs_3z", "2s3z"])
def test_lengths_are_found_however_a_battle_ends(map_name: str, tmp_path: Path) -> None:
    battles = [battle for team in ("random", "focus_fire", "kite") for battle in play(map_name, team, 3)]
    ends = {(battle.won, bool(battle.observations[battle.length].any())) for battle in battles}
    assert {
        (False, False),
        (True, True),
    } <= ends  # nothing is observed after a defeat, something after a victory
    published = publish(tmp_path / "published", entries_of(battles))
    import_published(published, load_map(map_name), tmp_path / "set")
    found = JointTrajectories.open(tmp_path / "set")
    assert found.episode_lengths.tolist() == [battle.length for battle in battles]


def test_a_battle_that_ran_out_of_time_is_as_long_as_the_limit(tmp_path: Path) -> None:
    limit = load_map(MAP).episode_limit
    battle = play(MAP, "focus_fire", 1)[0]
    observations, actions = np.ones_like(battle.observations), np.ones_like(battle.actions)
    endless = Battle(observations, actions, np.ones((limit, 3), bool), won=False, timed_out=True)
    import_published(publish(tmp_path / "published", entries_of([endless])), load_map(MAP), tmp_path / "set")
    assert_same(JointTrajectories.open(tmp_path / "set"), [endless])


def refusal(published: Path, map_name: str = MAP, **arguments: Any) -> str:
    out = published.parent / "set"
    before = {path: path.read_bytes() for path in published.parent.rglob("*") if path.is_file()}
    with pytest.raises(DemonstrationError) as caught:
        import_published(published, load_map(map_name), out, **arguments)
    assert {path: path.read_bytes() for path in published.parent.rglob("*") if path.is_file()} == before
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    return str(caught.value)


class Evil:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


def test_a_file_that_would_execute_something_is_refused(battles: list[Battle], tmp_path: Path) -> None:
    agents = entries_of(battles)
    agents[2][4] = {**agents[2][4], "note": Evil(tmp_path / "trace")}
    message = refusal(publish(tmp_path / "published", agents))
    assert "agent_2.npz is refused: it names posix.system" in message
    assert not (tmp_path / "trace").exists()


def test_damaged_files_are_refused(published: Path, tmp_path: Path) -> None:
    path = published / "agent_1.npz"
    whole = path.read_bytes()
    for content in (b"", b"PK", whole[:-30], whole[: len(whole) // 2], whole[:200] + b"\0" * 50 + whole[250:]):
        path.write_bytes(content)
        assert "agent_1.npz is damaged or is not one of the authors' files" in refusal(published)
    path.unlink()
    assert "has no agent_1.npz" in refusal(published)
    assert "is not a directory" in refusal(tmp_path / "nowhere")


def with_array(path: Path, content: bytes, name: str = "arr_0.npy") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)


def test_arrays_whose_header_is_wrong_are_refused(published: Path) -> None:
    path = published / "agent_0.npz"
    good = zipfile.ZipFile(path).read("arr_0.npy")
    for content, words in (
        (good.replace(b"'shape': (6,)", b"'shape': (7,)"), "its content does not match its header"),
        (good.replace(b"'shape': (6,)", b"'shape': (9**9"), ""),
        (good.replace(b"'|O'", b"'<f8'"), ""),
        (good[:-40], ""),
        (good + b"more", "there is more data after"),
        (good[:10], ""),
        (b"", ""),
    ):
        with_array(path, content)
        assert f"agent_0.npz is damaged or is not one of the authors' files ({words}" in refusal(published)
    with_array(path, good, "other.npy")
    assert "it holds other.npy, expected arr_0.npy" in refusal(published)


def test_a_file_that_unpacks_to_far_too_much_data_is_refused(published: Path) -> None:
    path = published / "agent_0.npz"
    good = zipfile.ZipFile(path).read("arr_0.npy")
    with_array(path, good + bytes(50_000_000))
    assert path.stat().st_size < 300_000
    assert "for 6 battles, which take at most" in refusal(published)


def test_files_of_another_map_are_refused(published: Path) -> None:
    assert "has no agent_3.npz: 5m_vs_6m has 5 agents" in refusal(published, "5m_vs_6m")
    assert "has files for more than the 2 agents of 2m_vs_1z" in refusal(published, "2m_vs_1z")
    assert "observations have size 30; on 3s_vs_3z with SMAC's defaults they have size 36" in refusal(
        published, "3s_vs_3z"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda entry: None, "battle 0 is NoneType; expected a dict"),
        (lambda entry: {"obs": entry["obs"]}, "battle 0 is ['obs']; expected a dict with obs and actions"),
        (lambda entry: {**entry, "obs": "none"}, "obs must be floats [1, T, O], found str"),
        (lambda entry: {**entry, "obs": entry["obs"][0, 0]}, "obs must be floats [1, T, O], found float32 [30]"),
        (lambda entry: {**entry, "obs": entry["obs"] * float("nan")}, "observations contain NaN or infinity"),
        (lambda entry: {**entry, "obs": entry["obs"] * 0}, "battle 0: no agent observes anything"),
        (lambda entry: {**entry, "actions": entry["actions"] + 9}, "actions are 9 to"),
        (lambda entry: {**entry, "actions": entry["actions"] - 1}, "actions are -1 to"),
        (lambda entry: {**entry, "actions": entry["actions"] + 0.5}, "actions must be integers"),
        (lambda entry: {**entry, "actions": entry["actions"][:, 1:]}, "with as many rows as obs"),
        (lambda entry: {**entry, "actions": torch.ones(1, 61, 9)}, "one-hot [1, T, 9]"),
        (lambda entry: {name: torch.cat([value, value], 1) for name, value in entry.items()}, "has 122 rows"),
    ],
)
def test_entries_of_another_kind_are_refused(battles: list[Battle], change: Any, words: str, tmp_path: Path) -> None:
    assert words in refusal(publish(tmp_path / "published", change_all(entries_of(battles), change)))


def test_files_of_agents_that_disagree_are_refused(battles: list[Battle], tmp_path: Path) -> None:
    agents = entries_of(battles)
    fewer = publish(tmp_path / "fewer", [*agents[:2], agents[2][:-1]])
    assert "hold [5, 6] battles" in refusal(fewer)
    agents[1][2] = {name: value[:, :-1] for name, value in agents[1][2].items()}
    assert "battle 2 does not have the same length" in refusal(publish(tmp_path / "shorter", agents))
    assert "holds 6 battles, but 7 were asked for" in refusal(
        publish(tmp_path / "few", entries_of(battles)), episodes=7
    )


def test_imported_sets_can_be_merged(battles: list[Battle], tmp_path: Path) -> None:
    for name, own in (("a", battles[:3]), ("b", battles[3:])):
        import_published(publish(tmp_path / f"of_{name}", entries_of(own)), load_map(MAP), tmp_path / name)
    manifest = merge_sets([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    assert_same(verify_set(tmp_path / "both"), battles)
    assert [part.policy.source for part in manifest.parts] == [str(tmp_path / "of_a"), str(tmp_path / "of_b")]


@pytest.mark.cli
def test_importing_needs_no_torch() -> None:
    code = "import sys, dm2_ray.demonstrations.importers; assert not {'torch', 'ray'} & set(sys.modules), 'imported'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
