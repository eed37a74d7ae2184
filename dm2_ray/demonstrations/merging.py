"""Merges several demonstration sets into one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from dm2_ray.demonstrations.dataset import JointTrajectories
from dm2_ray.demonstrations.manifest import DemonstrationError, Manifest, Part, Provenance, RecordedWorld
from dm2_ray.demonstrations.writer import JointTrajectoryWriter

_Excerpt = TypeVar("_Excerpt", RecordedWorld, Part)


def merge_sets(paths: Sequence[str | Path], out: str | Path) -> Manifest:
    """Writes a new set of all episodes, in the order of the sets and, within a set, in its order.

    The manifest keeps the provenance of every part; if a set was merged itself, its parts become parts of the new set.

    Args:
        paths: At least two sets, recorded in the same world.
        out: Directory of the new set.

    Raises:
        DemonstrationError: A set is damaged, two sets are of different worlds or hold the same battles, or `out` cannot
            be written.
    """
    if len(paths) < 2:
        raise DemonstrationError(f"merging needs at least two sets, got {len(paths)}")
    sets = [JointTrajectories.open(path) for path in paths]
    for other in sets[1:]:
        _check_same_world(sets[0], other)
    owners = [(part, one) for one in sets for part in manifest_parts(one.manifest)]
    for (part, one), (other_part, other) in combinations(owners, 2):
        if part.content_hash == other_part.content_hash:
            raise DemonstrationError(f"{one.path} and {other.path} hold the same episodes: merge only one of them")
        battles = _battles_of(part, one.manifest)
        if battles is not None and battles == _battles_of(other_part, other.manifest):
            raise DemonstrationError(
                f"{one.path} and {other.path} hold the same battles: both were played by {part.policy.source} with "
                f"seed {part.policy.seed}; record one of them with another --seed"
            )
    with JointTrajectoryWriter(out) as writer:
        for one in sets:
            for episode in one.episodes():
                writer.append(episode)
        world = _excerpt(RecordedWorld, sets[0].manifest)
        policy = Provenance(
            kind="merged",
            source=", ".join(one.path.name for one in sets),
            greedy=_common([part.policy.greedy for part, _ in owners]),
        )
        return writer.finish(world, policy, [part for part, _ in owners])


def manifest_parts(manifest: Manifest) -> list[Part]:
    """Returns the parts of a merged set; any other set is its only part."""
    return manifest.parts or [_excerpt(Part, manifest)]


def _excerpt(kind: type[_Excerpt], manifest: Manifest) -> _Excerpt:
    """Returns a part of a manifest: the values whose names are those of the fields of `kind`."""
    return kind.model_validate({name: getattr(manifest, name) for name in kind.model_fields})


def _check_same_world(one: JointTrajectories, other: JointTrajectories) -> None:
    for name in (*RecordedWorld.model_fields, "missing"):
        mine, theirs = getattr(one.manifest, name), getattr(other.manifest, name)
        if mine != theirs:
            raise DemonstrationError(
                f"{one.path} and {other.path} are of different worlds: {name} is {mine!r} and {theirs!r}"
            )


def _battles_of(part: Part, manifest: Manifest) -> tuple[Any, ...] | None:
    """Returns a value that is equal if the battles are the same; None if that is unknown.

    StarCraft II has its own randomness: equal seeds do not give equal battles.
    """
    policy = part.policy
    if manifest.backend != "embedded" or policy.seed is None:
        return None
    return policy.kind, policy.checkpoint_hash or policy.source, policy.greedy, policy.epsilon, policy.seed


def _common(values: Sequence[bool | None]) -> bool | None:
    return values[0] if len(set(values)) == 1 else None
