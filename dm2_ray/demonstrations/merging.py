"""Several demonstration sets as one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from dm2_ray.demonstrations.dataset import JointTrajectories
from dm2_ray.demonstrations.manifest import DemonstrationError, Manifest, Part, Provenance, RecordedWorld
from dm2_ray.demonstrations.writer import JointTrajectoryWriter


def merge_sets(paths: Sequence[str | Path], out: str | Path) -> Manifest:
    """Writes a new set of all episodes, in the order of the sets and within them in their own.

    The manifest keeps the provenance of every part; a set that was merged itself comes apart into its own.

    Args:
        paths: two sets or more, recorded in the same world.
        out: directory of the new set.

    Raises:
        DemonstrationError: a set is damaged, two are of different worlds or hold the same battles, or `out` cannot be
            written.
    """
    if len(paths) < 2:
        raise DemonstrationError(f"merging takes two sets or more, got {len(paths)}")
    sets = [JointTrajectories.open(path) for path in paths]
    for other in sets[1:]:
        _check_same_world(sets[0], other)
    owners = [(part, one) for one in sets for part in manifest_parts(one.manifest)]
    for (part, one), (other_part, other) in combinations(owners, 2):
        if part.content_hash == other_part.content_hash:
            raise DemonstrationError(f"{one.path} and {other.path} hold the same episodes: nothing is merged twice")
        battles = _battles_of(part, one.manifest)
        if battles is not None and battles == _battles_of(other_part, other.manifest):
            raise DemonstrationError(
                f"{one.path} and {other.path} hold the same battles: both are of {part.policy.source} with seed "
                f"{part.policy.seed}; record one of them with another --seed"
            )
    with JointTrajectoryWriter(out) as writer:
        for one in sets:
            for episode in one.episodes():
                writer.append(episode)
        world = RecordedWorld.model_validate({name: getattr(sets[0].manifest, name) for name in _WORLD})
        policy = Provenance(
            kind="merged",
            source=", ".join(one.path.name for one in sets),
            greedy=_common([part.policy.greedy for part, _ in owners]),
        )
        return writer.finish(world, policy, [part for part, _ in owners])


def manifest_parts(manifest: Manifest) -> list[Part]:
    """The parts of a merged set; any other is its own only part."""
    return manifest.parts or [
        Part(
            policy=manifest.policy,
            episodes=manifest.episodes,
            env_steps=manifest.env_steps,
            win_rate=manifest.win_rate,
            return_mean=manifest.return_mean,
            content_hash=manifest.content_hash,
        )
    ]


_WORLD = tuple(RecordedWorld.model_fields)


def _check_same_world(one: JointTrajectories, other: JointTrajectories) -> None:
    for name in (*_WORLD, "missing"):
        mine, theirs = getattr(one.manifest, name), getattr(other.manifest, name)
        if mine != theirs:
            raise DemonstrationError(
                f"{one.path} and {other.path} are of different worlds: {name} is {mine!r} and {theirs!r}"
            )


def _battles_of(part: Part, manifest: Manifest) -> tuple[Any, ...] | None:
    """Equal where the battles are; None where nobody can tell. (StarCraft II plays others every time.)"""
    policy = part.policy
    if manifest.backend != "embedded" or policy.seed is None:
        return None
    return policy.kind, policy.checkpoint_hash or policy.source, policy.greedy, policy.seed


def _common(values: Sequence[bool | None]) -> bool | None:
    return values[0] if len(set(values)) == 1 else None
