"""Wrong scenarios are refused in one line that says where and why."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.scenarios import built, duel, scenarios, written

from dm2_ray.world import (
    ScenarioError,
    load_map,
    load_scenario,
)


def refusal(path: Path) -> str:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(path))
    return message


AGENTS = "agents:\n- {kind: marine, count: 3, x: 8, y: 8}\n"
ENEMIES = "enemies:\n- {kind: zealot, at: [[20, 16]]}\n"
GOOD = "episode_limit: 9\n" + AGENTS + ENEMIES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "epsode_limit: 3\n", [", line 6", "unknown key epsode_limit", "did you mean episode_limit?"]),
        (GOOD.replace("episode_limit: 9\n", ""), ["episode_limit is missing"]),
        (GOOD.replace("9", "0"), [", line 1", "episode_limit must be at least 1, got 0"]),
        (GOOD.replace("9", "9.5"), ["episode_limit must be a whole number, got 9.5"]),
        (GOOD.replace("marine", "marin"), [", line 3: agents.0.kind", "'marin'", "did you mean marine?"]),
        (GOOD.replace("kind: marine", "knd: marine"), [", line 3", "agents.0"]),
        (GOOD.replace("count: 3", "cuont: 3"), [", line 3", "agents.0.cuont", "did you mean agents.0.count?"]),
        (GOOD.replace("count: 3", "count: 300"), ["agents.0.count must be at most 256, got 300"]),
        (GOOD.replace(", y: 8", ""), ["agents.0: y is missing"]),
        (GOOD.replace("x: 8, y: 8", "x: .nan, y: 8"), ["agents.0.x must be a finite number"]),
        (GOOD.replace("x: 8", "x: 40"), ["agents.0: (40, 8) is not on the map of 32 x 32 cells"]),
        (GOOD.replace("x: 8", "x: -1"), ["agents.0.x must be at least 0"]),
        (GOOD.replace("count: 3", "at: [[1, 1]]"), ["agents.0: needs either x and y", "or positions"]),
        (GOOD.replace("count: 3, x: 8, y: 8", "at: [[1, 1], [1]]"), ["agents.0.at.1 must be a point [x, y], got [1]"]),
        (GOOD.replace("count: 3, x: 8, y: 8", "at: [[1, 1], [1.5, 1]]"), ["agents.0.at.1", "0.50 apart", "0.75"]),
        (GOOD.replace("[[20, 16]]", "[[8.25, 8]]"), ["enemies: start too close", "0.25 apart"]),
        (GOOD.replace("[[20, 16]]", "[]"), ["enemies.0.at must be a list of at least 1"]),
        (GOOD.replace(AGENTS, "agents: []\n"), [", line 2", "agents must be a list of at least 1"]),
        (GOOD.replace(AGENTS, "agents: marine\n"), ["agents must be a list, got 'marine'"]),
        (GOOD + "enemy_order: attack\n", [", line 6", "enemy_order must be attack_agents, none", "'attack'"]),
        (GOOD + "enemy_order: {attack_move: [1, 2, 3]}\n", ["enemy_order must be", "[1, 2, 3]"]),
        (GOOD + "enemy_order: {attack_move: [1, 33]}\n", ["enemy_order: attack_move [1.0, 33.0] is not on the map"]),
        (GOOD + "terrain: {size: [200, 64]}\n", ["terrain.size.0 must be at most 128, got 200"]),
        (GOOD + "terrain: {size: [64]}\n", ["terrain.size"]),
        (GOOD + "terrain: {}\n", ["terrain: needs exactly one of size, rows and like"]),
        (GOOD + "terrain: {size: [32, 32], like: 3m}\n", ["terrain: needs exactly one", "size and like"]),
        (GOOD + "terrain: {like: coridor}\n", ["terrain.like", "'coridor'", "did you mean corridor?"]),
        (GOOD + "terrain: {rows: [....., ...]}\n", ["terrain.rows: row 2 has 3 cells, row 1 has 5"]),
        (GOOD + "terrain: {rows: [....., ..x..]}\n", ["terrain.rows: row 2 has 'x'; expected only . #"]),
        (GOOD + "terrain: {rows: [....., .....]}\n", ["terrain.rows: are 2 cells high; a map has 4 to 128"]),
        (GOOD + "terrain: {rows: [1, 2]}\n", ["terrain.rows must be lines of text"]),
        (GOOD + "terrain: {size: [32, 32], heights: ['00']}\n", ["terrain.heights: are 2 cells wide"]),
        (GOOD + "terrain: {size: [32, 32], heights: ['0000', '0000', '0000', '0005']}\n", ["row 4 has '5'"]),
        (GOOD + "terrain: {like: 3m}\n", []),
        (GOOD.replace("x: 8, y: 8", "x: 8, y: 2") + "terrain: {like: 3m}\n", ["(8, 2) is in a cell that is not"]),
        (GOOD + "name: a/b\n", [", line 6", "name: must be letters, digits", "'a/b'"]),
        (GOOD + "name: 42\n", ["name must be a text, got 42"]),
        (GOOD + "name: 3m\n", ["3m is one of SMAC's maps"]),
        (GOOD.replace("zealot", "medivac"), ["enemies: has only medivacs"]),
        (GOOD + AGENTS, [", line 6", "agents is given twice, first in line 2"]),
        (GOOD.replace("kind: zealot,", "kind: zealot, kind: zealot,"), ["enemies.0.kind is given twice"]),
        ("- a\n", [", line 1", "the top level must be a mapping"]),
        ("", ["episode_limit is missing"]),
        ("a: [\n", ["not valid YAML"]),
        ("a: 2001-02-31\n", ["not valid YAML: day is out of range"]),
        ("a: &a [*a]\n", [", line 1", "a.0 contains itself"]),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_in_one_line_that_says_where(text: str, words: list[str], tmp_path: Path) -> None:
    path = written(tmp_path, text)
    if not words:
        load_scenario(path)
        return
    message = refusal(path)
    for word in words:
        assert word in message


def test_too_many_for_their_place_are_refused(tmp_path: Path) -> None:
    small = duel(terrain={"size": [6, 6]}, enemies=[{"kind": "zealot", "at": [[5, 5]]}],
                 agents=[{"kind": "marine", "count": 200, "x": 2, "y": 2}])  # fmt: skip
    assert "no room for 200 marine units at (2.0, 2.0)" in refusal(written(tmp_path, small))
    crowd = [{"kind": "marine", "count": 250, "x": 8, "y": 8}, {"kind": "marine", "count": 7, "x": 8, "y": 28}]
    message = refusal(written(tmp_path, duel(agents=crowd)))
    assert "agents: has 257 units; a side has at most 256" in message
    taken = [{"kind": "marine", "count": 3, "x": 8, "y": 8}, {"kind": "zealot", "at": [[8, 8]]}]
    assert "agents.1.at.0: is taken by a group" in refusal(written(tmp_path, duel(agents=taken)))
    assert built(duel(agents=taken[::-1])).num_agents == 4


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.yaml")
    with pytest.raises(ScenarioError, match="Is a directory"):
        load_map(str(tmp_path))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refusal(tmp_path / "binary.yaml")


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Key paths of everything in a nested structure."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [found for key, item in inner for found in paths_in(item, (*path, key))]


JUNK = st.sampled_from(
    [None, True, -1, 0, 3.5, 10**400, "", "none", "marine", "#", [], [[]], [1, 2], [[1, 2]], {}, {"kind": "marine"},
     {"attack_move": [[1, 1], [2]]}, float("nan"), float("inf"), "\x00", "0" * 500]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=scenarios(), data=st.data())
def test_whatever_is_changed_is_a_map_or_one_line(content: dict[str, Any], data: st.DataObject) -> None:
    broken = copy.deepcopy(content)
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from(paths_in(broken)))
        place = broken
        for key in parents:
            place = place[key]
        change = data.draw(st.sampled_from(["replace", "remove", "rename"]))
        if change == "replace":
            place[last] = data.draw(JUNK)
        elif change == "remove":
            del place[last]
        elif isinstance(place, dict):
            place[f"{last}s"] = place.pop(last)
        if not paths_in(broken):
            break
    try:
        spec = built(broken)
    except ScenarioError as error:
        assert "\n" not in str(error) and str(error).startswith("here: ") and len(str(error)) < 400
    else:
        assert spec.num_agents >= 1 and spec.num_enemies >= 1


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_is_typed_is_a_map_or_one_line(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = GOOD + "terrain:\n  rows: |\n" + "    " + "." * 32 + "\n" + ("    " + "." * 32 + "\n") * 31
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.integers(0, 5))
        text = text[:start] + data.draw(st.text("[]{}:,-#.&*!|>'\"\n\t 09ex~%@`\x07é", max_size=4)) + text[end:]
    path = tmp_path_factory.getbasetemp() / "typed.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        load_scenario(path)
    except ScenarioError as error:
        assert "\n" not in str(error) and str(error).startswith(str(path))
