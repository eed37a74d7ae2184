"""With --json, stdout is one JSON object and nothing else, whatever a command says on the way."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.tiny_runs import dm2

RECORD = ("demos", "record", "scripted:kite", "--map", "2m_vs_1z", "--episodes", 4)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two sets, a and b."""
    directory = tmp_path_factory.mktemp("sets")
    for seed, name in enumerate("ab"):
        assert dm2(*RECORD, "--seed", seed, "--out", directory / name) == 0
    return directory


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        (["maps", "list"], {"maps", "scenarios"}),
        (["maps", "show", "MMM2"], {"name", "units", "drawing"}),
        (["maps", "difficulty", "2m_vs_1z", "--battles", 4], {"seed", "maps"}),
        ([*RECORD, "--out", "SETS/new"], {"episodes", "map", "shards"}),
        (["demos", "merge", "SETS/a", "SETS/b", "--out", "SETS/both"], {"episodes", "map", "shards"}),
        (["demos", "inspect", "SETS/a"], {"episodes", "map", "statistics"}),
        (["demos", "verify", "SETS/a", "--map", "2m_vs_1z"], {"set", "ok", "content_hash"}),
        (["evaluate", "scripted:nearest", "--map", "2m_vs_1z", "--episodes", 4], {"checkpoint", "win_rate"}),
        (["doctor", "--variant", "ippo", "tracking.wandb=disabled"], {"ok", "findings"}),
    ],
    ids=lambda value: " ".join(map(str, value[:2])) if isinstance(value, list) else "",
)
def test_stdout_is_one_json_object(
    command: list[Any], keys: set[str], sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    code = dm2(*(str(word).replace("SETS", str(sets)) for word in command), "--json")
    out = capsys.readouterr().out
    assert code == 0 or command[0] == "doctor"  # what this machine lacks is no matter of this test
    assert out.count("\n") == 1
    assert keys <= json.loads(out).keys()


def test_a_set_that_fails_its_check_is_an_object_too(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert dm2("demos", "verify", sets / "a", "--map", "3m", "--json") == 2
    assert json.loads(capsys.readouterr().out)["ok"] is False
