"""The configuration reference, generated from the comments in configs/defaults.yaml.

python -m dm2_ray.config.reference > configs/README.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from dm2_ray.config.packaged_files import configs_dir
from dm2_ray.config.yaml_reader import read_yaml_value

_HEAD = """# Configuration reference

Every key of a run, with its default. Set a key on the command line as `KEY=VALUE` (`dm2 train … ppo.clip=0.05`) or in a
YAML file (`dm2 train FILE`, or `--config FILE`), which needs only the keys that it changes.

Settings come from these layers; later ones win:

| layer | content |
|---|---|
| `configs/defaults.yaml` | every key |
| `configs/maps/MAP.yaml` | the paper's values for that map |
| `configs/variants/VARIANT.yaml` | what distinguishes a variant: `ippo`, `dm2`, `bc`, `mappo`, … |
| your file | the keys that you change |
| `KEY=VALUE` | the command line, from left to right |

Each layer is checked separately: an unknown key or a bad value is reported in one line that names the file, the line,
the key and the most similar valid name. The run directory contains the merged result as `config.yaml`.

*This page is generated from the comments in `defaults.yaml` by `python -m dm2_ray.config.reference`.*
"""


class Entry(NamedTuple):
    """One key of defaults.yaml.

    Attributes:
        key: With dots, as on the command line.
        default: As written in the file; None for a section.
        meaning: The comment above the key, as one paragraph.
    """

    key: str
    default: str | None
    meaning: str


def entries(text: str) -> Iterator[Entry]:
    """All keys of a file like defaults.yaml, in its order.

    Args:
        text: YAML with each comment above its key and sections indented by two spaces.
    """
    comment: list[str] = []
    parents: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.removeprefix("#").strip())
            continue
        if match := re.match(r"( *)([a-z_0-9]+):(?: +(.*))?$", line):
            indent, name, value = match.groups()
            parents = [*parents[: len(indent) // 2], name]
            yield Entry(".".join(parents), value, " ".join(comment))
        comment = []


def reference() -> str:
    """The page in Markdown."""
    parts = [_HEAD]
    is_table_open = False
    for key, default, meaning in entries((configs_dir() / "defaults.yaml").read_text(encoding="utf-8")):
        if default is None:
            parts.append(f"\n## `{key}`\n")
            if meaning:
                parts.append(f"\n{meaning}\n")
            is_table_open = False
            continue
        if not is_table_open:
            parts.append("\n| key | default | meaning |\n|---|---|---|\n")
            is_table_open = True
        parts.append(f"| `{key}` | {_format_default(default)} | {_cell(meaning)} |\n")
    return "".join(parts)


def _format_default(default: str) -> str:
    value = read_yaml_value(default)
    return "none" if value is None else f"`{_cell(default)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
