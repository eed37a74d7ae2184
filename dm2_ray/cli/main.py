"""The command line: `dm2 COMMAND --help`.

Exit codes: 0 done, 1 the run failed, 2 bad input (nothing was started), 3 the run was ended from outside and can be
resumed, 130 interrupted (state saved).
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dm2_ray.cli.commands import build_parser
from dm2_ray.errors import Interrupted, RunFailed, RunStopped, UserError
from dm2_ray.terminal import write_line

# Python reports a disk that is full, over quota, read-only or broken as plain OSError.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse takes positional arguments in one place only; settings may stand anywhere on the line.
    settings = [word for word in rest if not word.startswith("-")]
    if len(settings) < len(rest) or (settings and "settings" not in options):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if settings:
        options.settings += settings
    try:
        with _log_messages_on_stderr():
            code: int = options.command.run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of our pipe closed it (`dm2 maps list | head`): write nothing more there, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return RunFailed.exit_code
    except (UserError, RunFailed, RunStopped, Interrupted) as error:
        return _print_error(error, error.exit_code)
    except KeyboardInterrupt:
        return _print_error("interrupted", Interrupted.exit_code)
    except OSError as error:
        if error.errno in DISK_ERRORS:
            return _print_error(error, RunFailed.exit_code)
        raise


class _TerminalHandler(logging.Handler):
    """Writes records to standard error, above the status line if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            write_line(self.format(record), sys.stderr)
        except Exception:
            self.handleError(record)


@contextmanager
def _log_messages_on_stderr() -> Iterator[None]:
    """Shows the package's messages for the duration of a command; as a library, the package installs no handler."""
    handler = _TerminalHandler()
    handler.setFormatter(logging.Formatter("dm2: %(message)s"))
    logger = logging.getLogger("dm2_ray")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a library that configures the root logger must not repeat them
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


def _print_error(error: object, exit_code: int) -> int:
    print(f"dm2: {error}", file=sys.stderr)
    return exit_code
