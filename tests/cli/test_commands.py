"""The table of commands, the types of their arguments, and how soon the command line is ready."""

import subprocess
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from dm2_ray.cli import argument_types
from dm2_ray.cli.commands import COMMANDS, build_parser

HEAVY = {"torch", "ray", "numba", "matplotlib", "pyarrow", "pydantic", "wandb"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_a_function_and_a_help_page(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    module, name = command.function.split(":")
    assert callable(getattr(import_module(f"dm2_ray.cli.{module}"), name))
    with pytest.raises(SystemExit, match="0"):
        build_parser().parse_args([*command.name.split(), "--help"])
    page = capsys.readouterr().out
    assert f"usage: dm2 {command.name} " in page
    assert f"\n\nexamples:\n  dm2 {command.name}" in page


@pytest.mark.parametrize(
    ("arguments", "not_loaded"),
    [
        (["--help"], HEAVY),
        (["maps", "list"], {"torch", "ray", "numba", "matplotlib", "pyarrow", "wandb"}),
        (["train", "--map", "3n", "--iterations", "1"], {"torch", "ray", "numba", "matplotlib", "wandb"}),
        (["experiment", "nowhere.yaml", "--dry-run"], {"torch", "ray", "numba", "wandb"}),
    ],
    ids=["help", "a list", "a refused run", "a refused experiment"],
)
def test_a_quick_answer_loads_nothing_heavy(arguments: list[str], not_loaded: set[str]) -> None:
    program = (
        "import sys\nfrom dm2_ray.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"sys.exit(' '.join({not_loaded} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("argument_type", "good", "bad"),
    [
        (argument_types.nonnegative_int, {"0": 0, "1_000": 1000, "10,000": 10000}, ["-1", "1.5", "one"]),
        (argument_types.positive_int, {"1": 1}, ["0", "-1"]),
        (argument_types.finite_float, {"-1.5": -1.5}, ["inf", "nan", "x"]),
        (argument_types.positive_float, {"0.5": 0.5}, ["0", "-1", "inf"]),
        (argument_types.fraction, {"0": 0.0, "1": 1.0}, ["1.1", "-0.1", "nan"]),
        (argument_types.positive_ints, {"1,2": [1, 2]}, ["1,0", ""]),
        (argument_types.seed_list, {"0,4": [0, 4]}, ["0,-4"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_argument_types(argument_type: Callable[[str], object], good: dict[str, object], bad: list[str]) -> None:
    assert {text: argument_type(text) for text in good} == good
    for text in bad:
        with pytest.raises(ArgumentTypeError):
            argument_type(text)
