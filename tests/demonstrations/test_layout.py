"""Episodes with any content and any missing fields are read back from disk unchanged."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dm2_ray.demonstrations import (
    DemonstrationError,
    EpisodeRecord,
    JointEpisode,
    JointTrajectoryWriter,
    Provenance,
    RecordedWorld,
)
from dm2_ray.demonstrations.verifying import verify_set
from dm2_ray.recording.chunk import RecordedChunk

POLICY = Provenance(kind="imported", source="somewhere")
COLUMNS = ("observations", "actions", "alive", "action_mask", "rewards", "battle_won")


@st.composite
def recordings(draw: Any, may_miss: bool = True) -> tuple[RecordedWorld, list[EpisodeRecord]]:
    agents, obs_size, num_actions = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=6))
    missing = draw(st.sets(st.sampled_from(COLUMNS[3:]))) if may_miss else set()
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    content: list[EpisodeRecord] = []
    for length in lengths:
        actions = rng.integers(0, num_actions, (length, agents))
        mask = rng.random((length, agents, num_actions)) < 0.5
        np.put_along_axis(mask, actions[..., None], True, axis=-1)
        fields: dict[str, Any] = {
            "observations": rng.normal(size=(length, agents, obs_size)).astype(np.float32),
            "actions": actions,
            "alive": rng.random((length, agents)) < 0.8,
            "action_mask": mask,
            "rewards": rng.normal(size=length),
            "battle_won": bool(rng.random() < 0.5),
        }
        if missing:
            content.append(EpisodeRecord(**{**fields, **dict.fromkeys(missing)}))
        else:
            content.append(JointEpisode(**fields))
    world = RecordedWorld(
        map="3m", backend="embedded", engine_version="1", engine={}, smac={},
        num_agents=agents, obs_size=obs_size, num_actions=num_actions,
    )  # fmt: skip
    return world, content


def assert_equal(found: list[EpisodeRecord], expected: list[EpisodeRecord]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert type(one) is type(other)
        for name in COLUMNS:
            left, right = getattr(one, name), getattr(other, name)
            assert (left is None) == (right is None)
            if left is not None:
                np.testing.assert_array_equal(left, right)
                assert np.asarray(left).dtype == np.asarray(right).dtype


@settings(max_examples=25, deadline=None)
@given(recordings(), st.sampled_from([1, 100, 2**20]))
def test_a_set_is_read_as_it_was_written(recording: Any, shard_bytes: int) -> None:
    world, content = recording
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "set"
        with JointTrajectoryWriter(path, shard_bytes=shard_bytes) as writer:
            for episode in content:
                writer.append(episode)
            written = writer.finish(world, POLICY)
        found = verify_set(path)
        assert found.manifest == written
        assert written.missing == content[0].missing
        assert_equal(list(found.episodes()), content)
        for agent in range(world.num_agents):
            whole = found.read_agent(agent)
            np.testing.assert_array_equal(whole.actions, np.concatenate([one.actions[:, agent] for one in content]))
            if "action_mask" in written.missing:
                assert whole.action_mask.shape == (written.env_steps, world.num_actions) and whole.action_mask.all()
        for missing, name in (("battle_won", "battle_won"), ("rewards", "returns")):
            if missing in written.missing:
                with pytest.raises(DemonstrationError, match="does not say"):
                    getattr(found, name)
            else:
                assert len(getattr(found, name)) == len(content)


def chunk_of(world: RecordedWorld, content: list[EpisodeRecord], battles: int) -> RecordedChunk:
    return RecordedChunk(
        battles=battles, won=1, env_steps=77, best_return=-2.5, kept=list(range(len(content))), world=world,
        episodes=[episode for episode in content if isinstance(episode, JointEpisode)],
    )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(recordings(may_miss=False), st.booleans())
def test_a_chunk_is_read_as_it_was_written(recording: Any, is_empty: bool) -> None:
    world, content = recording
    chunk = chunk_of(world, [] if is_empty else content, 10)
    found = RecordedChunk.from_bytes(chunk.to_bytes())
    for name in ("battles", "won", "env_steps", "best_return", "kept", "world"):
        assert getattr(found, name) == getattr(chunk, name)
    assert_equal(list(found.episodes), list(chunk.episodes))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 255), st.booleans())
def test_a_chunk_that_was_cut_short_or_altered_is_noticed(place: int, change: int, is_cut: bool) -> None:
    stored = CHUNK
    place %= len(stored)
    damaged = (
        stored[:place] if is_cut else stored[:place] + bytes([stored[place] ^ (change or 1)]) + stored[place + 1 :]
    )
    with pytest.raises(ValueError, match="cut short or altered"):
        RecordedChunk.from_bytes(damaged)


def _one_chunk() -> bytes:
    world = RecordedWorld(
        map="3m", backend="embedded", engine_version="1", engine={}, smac={}, num_agents=1, obs_size=1, num_actions=1
    )
    return chunk_of(world, [], 3).to_bytes()


CHUNK = _one_chunk()


def test_episodes_with_different_missing_fields_do_not_mix(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "observations": np.zeros((2, 1, 1), np.float32),
        "actions": np.zeros((2, 1), np.int64),
        "alive": np.ones((2, 1), np.bool_),
        "action_mask": None,
    }
    with JointTrajectoryWriter(tmp_path / "set") as writer:
        writer.append(EpisodeRecord(**fields, rewards=None, battle_won=None))
        with pytest.raises(ValueError, match="missing was"):
            writer.append(EpisodeRecord(**fields, rewards=np.zeros(2), battle_won=None))
