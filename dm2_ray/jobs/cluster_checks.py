"""The checks of `dm2 doctor --address`: whether a cluster provides what a run needs."""

from __future__ import annotations

import ipaddress
import platform
from collections.abc import Iterator
from importlib.metadata import version
from urllib.parse import urlsplit

from dm2_ray.config.schema import Experiment
from dm2_ray.jobs.access_token import find_token
from dm2_ray.jobs.capacity import ClusterTooSmall, check_capacity, demand_of, describe
from dm2_ray.jobs.dashboard import ClusterError, Dashboard, Node
from dm2_ray.jobs.machine_checks import SCARCE_BYTES, TOO_FEW_BYTES, CheckResult, fail, ok, warn

_GIB = 1024**3


def cluster_checks(address: str, experiment: Experiment | None) -> Iterator[CheckResult]:
    """Runs all checks; if the cluster does not answer, the check of the address is the last one.

    Args:
        address: Address of the dashboard.
        experiment: What will be run there; None if that is not known.
    """
    yield from _token_file()
    try:
        dashboard = Dashboard(address)
    except ClusterError as error:
        yield fail("address", str(error), "jobs cannot be submitted until this is right")
        return
    yield ok("address", f"{address} answers")
    nodes = dashboard.nodes()
    yield _authentication(dashboard, nodes)
    yield _ray(dashboard)
    yield _python(dashboard)
    yield _nodes(nodes, experiment)
    yield from _disks(dashboard)


def _token_file() -> Iterator[CheckResult]:
    token = find_token()
    if token is not None and token.open_to_others:
        yield warn("token file", f"{token.file} can be read by others on this machine", f"chmod 600 {token.file}")


def _authentication(dashboard: Dashboard, nodes: list[Node]) -> CheckResult:
    host = urlsplit(dashboard.address).hostname or ""
    if dashboard.authentication != "token":
        # Ray listens on the address of every node, even if the dashboard is bound to loopback.
        exposed = len(nodes) > 1 or not _is_loopback(host)
        return (fail if exposed else warn)(
            "authentication", "off: anybody who can reach a node can run commands there",
            "start every node with RAY_AUTH_MODE=token (cluster/README.md)",
        )  # fmt: skip
    assert dashboard.token is not None
    found = f"token; the one from {dashboard.token.source} is accepted"
    if dashboard.address.startswith("http://") and not _is_loopback(host):
        return warn(
            "authentication", f"{found}, but it is sent to {host} unencrypted",
            f"ssh -L 8265:127.0.0.1:8265 {host}, then --address http://127.0.0.1:8265",
        )  # fmt: skip
    return ok("authentication", found)


def _ray(dashboard: Dashboard) -> CheckResult:
    here = version("ray")
    if dashboard.ray_version != here:
        return fail("ray there", f"{dashboard.ray_version}, here {here}", "all nodes need the Ray version of dm2-ray")
    return ok("ray there", dashboard.ray_version)


def _python(dashboard: Dashboard) -> CheckResult:
    there, here = dashboard.python_version(), platform.python_version()
    if there.split(".")[:2] != here.split(".")[:2]:
        # Only the configuration is sent, as text, so that the Python versions may differ.
        return ok("python there", f"{there} (here {here}: a job only brings its configuration)")
    return ok("python there", there)


def _nodes(nodes: list[Node], experiment: Experiment | None) -> CheckResult:
    found = f"{len(nodes)} alive: {describe(nodes)}"
    if experiment is None:
        return ok("nodes", found)
    demand = demand_of(experiment)
    try:
        check_capacity(demand, nodes)
    except ClusterTooSmall as error:
        return fail("nodes", str(error), "or wait until nodes have joined")
    wanted = ", ".join(f"{amount:g} {name}" for name, amount in demand.total.items()) or "nothing but the driver"
    return ok("nodes", f"{found}; the run needs {wanted} ({demand.arithmetic()})")


def _disks(dashboard: Dashboard) -> Iterator[CheckResult]:
    """The disks with Ray's logs and the objects that do not fit into the object store."""
    for summary in dashboard.node_summaries():
        disks = summary.get("disk") or {}
        free = min((disk["free"] for disk in disks.values()), default=None)
        if free is None:
            continue
        check, found = f"disk of {summary.get('ip', '?')}", f"{free / _GIB:.1f} GiB free"
        if free < TOO_FEW_BYTES:
            yield fail(check, found, "free some space: Ray's logs and spilled objects need it")
        elif free < SCARCE_BYTES:
            yield warn(check, found, "free some space: Ray's logs and spilled objects need it")
        else:
            yield ok(check, found)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
