"""Starts and ends Ray for one run, without its notices and with authentication."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ray
from ray.util import log_once

from dm2_ray.errors import UserError
from dm2_ray.terminal import first_line

CONNECT_TIMEOUT_S = 5.0


class ClusterUnreachable(UserError, RuntimeError):
    """No Ray cluster answered at the address."""


@contextlib.contextmanager
def ray_session(address: str | None = None, *, needed_cpus: float = 0.0) -> Iterator[None]:
    """Connects to a cluster, or runs a private local Ray for the duration of the block.

    Inside another session it does nothing: several runs share one Ray.

    Args:
        address: Of a running cluster (`auto`, `host:port`); None starts a local one.
        needed_cpus: Logical CPUs that a local Ray must offer, even if the machine has fewer: the user of a machine may
            oversubscribe it.

    Raises:
        ClusterUnreachable: No cluster answers at the address.
    """
    quiet_ray_logging()
    if ray.is_initialized():
        yield
        return
    if address is None:
        _start_local(needed_cpus)
    else:
        _check_address_reachable(address)
        try:
            with _silenced_stderr():
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError, OSError, ray.exceptions.RayError) as error:
            reason = first_line(error)
            raise ClusterUnreachable(
                f"no Ray cluster answers at {address!r} ({reason}); check the address, and RAY_AUTH_MODE and "
                "RAY_AUTH_TOKEN if the cluster asks for a token"
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_address_reachable(address: str) -> None:
    """Fails within seconds; Ray itself retries for minutes and prints internal messages on stderr."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not port.isdigit():
        return  # a name such as "auto": Ray looks it up
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ClusterUnreachable(f"no Ray cluster answers at {address!r} ({error}); is the address right?") from error


def quiet_ray_logging() -> None:
    """Silences notices of RLlib and Ray that do not concern a user of this package."""
    log_once("DM2_on_new_api_stack")
    logging.getLogger("ray._common.deprecation").setLevel(logging.ERROR)
    for name in ("ray.rllib", "ray._private.authentication"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Ray runs workers at niceness 15: beside any other load on the machine a learner would starve.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")


def _start_local(needed_cpus: float) -> None:
    # A local Ray requires a token by default. With this one, for this run only, it does not write a world-readable one
    # into the home directory.
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # A separate directory, so that the stale address of a crashed cluster is not picked up.
    directory = Path(tempfile.gettempdir()) / f"dm2-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    directory.mkdir(mode=0o700, exist_ok=True)
    with _silenced_stderr():
        ray.init(
            address="local",
            num_cpus=max(os.cpu_count() or 1, math.ceil(needed_cpus)),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=str(directory),
        )


@contextlib.contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Hides what Ray's native code prints on stderr while it starts; errors are raised as exceptions anyway."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
