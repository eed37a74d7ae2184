"""Scenarios for tests: a small one, random ones, and functions that turn them into maps and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from dm2_ray.world import MapSpec, scenario_from_mapping
from dm2_ray.world.unit_kinds import kind_names

OPEN = {"size": [32, 32]}


def duel(**changes: Any) -> dict[str, Any]:
    """Content of a small scenario, with `changes` to its top-level keys."""
    content = {
        "name": "duel",
        "episode_limit": 80,
        "agents": [{"kind": "marine", "count": 3, "x": 8, "y": 16}],
        "enemies": [{"kind": "zealot", "at": [[20, 16], [20, 18]]}],
        "terrain": OPEN,
    }
    return {**content, **changes}


def built(content: dict[str, Any]) -> MapSpec:
    return scenario_from_mapping(content, origin="here")


def written(directory: Path, content: dict[str, Any] | str, name: str = "mine.yaml") -> Path:
    path = directory / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


KINDS = st.sampled_from(kind_names())
FIGHTERS = st.sampled_from([kind for kind in kind_names() if kind != "medivac"])


@st.composite
def side(draw: st.DrawFn, west: int, width: int, height: int) -> list[dict[str, Any]]:
    """One side's groups within `width` cells from `west`: exact places two cells apart, then at most one cluster."""
    places = [[west + 1 + 2 * column, 1.5 + 2 * row] for column in range(width // 4) for row in range(height // 2 - 1)]
    chosen = draw(st.lists(st.sampled_from(places), min_size=1, max_size=8, unique_by=tuple))
    cut = draw(st.integers(1, len(chosen)))
    groups = [{"kind": draw(FIGHTERS), "at": chosen[:cut]}]
    if chosen[cut:]:
        groups.append({"kind": draw(KINDS), "at": chosen[cut:]})
    if draw(st.booleans()):
        x, y = west + 0.75 * width, height / 2
        groups.append({"kind": draw(KINDS), "count": draw(st.integers(1, 6)), "x": x, "y": y})
    return groups


@st.composite
def scenarios(draw: st.DrawFn) -> dict[str, Any]:
    """Content of valid scenarios: agents in the western part, enemies in the eastern, a wall of rubble between."""
    width, height = draw(st.integers(12, 20)), draw(st.integers(12, 40))
    content: dict[str, Any] = {
        "name": draw(st.from_regex(r"my[A-Za-z0-9_.-]{0,12}", fullmatch=True)),
        "episode_limit": draw(st.integers(1, 500)),
        "agents": draw(side(0, width, height)),
        "enemies": draw(side(width + 4, width, height)),
    }
    total = 2 * width + 4
    rubble = draw(st.lists(st.text(".#", min_size=4, max_size=4), min_size=height, max_size=height))
    drawn = ["." * width + row + "." * width for row in rubble]
    ground = draw(st.sampled_from(["size", "rows", "block"]))
    if ground == "size":
        content["terrain"] = {"size": [total, height]}
    else:
        content["terrain"] = {"rows": drawn if ground == "rows" else "\n".join(drawn) + "\n"}
    if draw(st.booleans()):
        content["terrain"]["heights"] = [draw(st.text("01234", min_size=total, max_size=total))] * height
    point = [draw(st.floats(0, total)), draw(st.integers(0, height))]
    orders = ["attack_agents", "none", {"attack_move": point}, {"attack_move": [point, [1, 2.5]]}]
    if draw(st.booleans()):
        content["enemy_order"] = draw(st.sampled_from(orders))
    return content
