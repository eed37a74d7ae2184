"""The Markdown pages lead somewhere: their links, the files that they name, and the commands that they show exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from dm2_ray.cli.commands import build_parser

ROOT = Path(__file__).parents[1]
FOLDERS = (".github", "cluster", "configs", "dm2_ray", "tests")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
FILES = {file.relative_to(ROOT).as_posix() for folder in FOLDERS for file in (ROOT / folder).rglob("*")}
NO_FILES = {"utils.py"}
"""File names that pages mention as examples."""

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def anchors(text: str) -> set[str]:
    """As GitHub makes them of the headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?:|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link} does not exist"
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), f"{link}: no such heading"


@pages
def test_programs_that_are_named_exist(page: Path) -> None:
    for name in re.findall(r"`(?:\.\./)*([\w./-]+\.(?:py|sh))`", page.read_text(encoding="utf-8")):
        found = name in FILES or any(file.endswith(f"/{name}") for file in FILES)
        assert found or name in NO_FILES, f"no file is called {name}"


def test_the_architecture_page_names_what_there_is() -> None:
    package = ROOT / "dm2_ray"
    text = (package / "README.md").read_text(encoding="utf-8")
    listed: set[str] = set()
    for names, first in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| [^|]* \| ?(.*) \|$", text, re.MULTILINE):
        folders = re.findall(r"\w+", names)
        listed.update(folders)
        for file in re.findall(r"`([\w./]+)`", first):
            assert (package / folders[0] / file).exists(), f"{folders[0]} has no {file}"
    modules = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    assert listed == modules - {"__init__"}


@pages
def test_commands_are_understood(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    for line in lines:
        if re.match(r" {0,4}dm2 [a-z]", line) and "…" not in line:
            words = shlex.split(line, comments=True)[1:]
            try:
                build_parser().parse_args(words)
            except SystemExit as refused:
                assert refused.code == 0, f"not understood: {line}"
