"""Base classes of the exceptions whose one-line message explains the problem to the user.

`dm2` prints the message of such an exception without a traceback and ends with its exit code. Any other exception is a
bug and keeps its traceback. A class of the package inherits one of these first and then a built-in exception, for
callers that catch the built-in one: `class ConfigError(UserError, ValueError)`.
"""

from __future__ import annotations

from typing import ClassVar


class UserError(Exception):
    """The input is wrong or does not fit this machine or cluster; nothing was started."""

    exit_code: ClassVar[int] = 2


class RunFailed(Exception):
    """The work was started and failed; running it again needs a change."""

    exit_code: ClassVar[int] = 1


class RunStopped(Exception):
    """The run was ended from outside and can be resumed."""

    exit_code: ClassVar[int] = 3


class Interrupted(KeyboardInterrupt):
    """The user or the system interrupted the work; its state is saved."""

    exit_code: ClassVar[int] = 130
