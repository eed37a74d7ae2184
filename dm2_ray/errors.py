"""Base classes of exceptions whose one-line message explains the problem to the user.

`dm2` prints the message of such an exception without a traceback and ends with its exit code. Any other exception is a
bug and keeps its traceback. Exception classes of the package inherit first from one of these and then from a built-in
exception, for callers that catch the built-in one: `class ConfigError(UserError, ValueError)`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class UserError(Exception):
    """The input is wrong or does not fit this machine or cluster; nothing was started."""

    exit_code: ClassVar[int] = 2


class RunFailed(Exception):
    """The work started and failed; it would fail again without a change."""

    exit_code: ClassVar[int] = 1


class RunStopped(Exception):
    """The run was ended by an outside cause and can be resumed."""

    exit_code: ClassVar[int] = 3


class Interrupted(KeyboardInterrupt):
    """The user or the system interrupted the work; its state was saved."""

    exit_code: ClassVar[int] = 130


def suggest_name(name: object, known: Iterable[str], what: str, most: int = 1) -> str:
    """The end of a message about an unknown name: the closest known names (at most `most`), or else all of them.

    Args:
        name: The unknown name.
        known: All names that would have been right.
        what: What they name, in the plural.
        most: How many names may be suggested.
    """
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=most)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"known {what}: {', '.join(names)}"
