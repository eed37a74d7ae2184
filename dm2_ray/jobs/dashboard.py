"""A Ray head's HTTP address: asked with a time limit, understood or refused in one line.

Ray's own clients wait for 20 to 110 seconds before they say that nobody answers or that a token is missing, and then in
many lines. So everything that can be wrong with an address is found out here, before Ray's client is let loose.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import requests
import urllib3

from dm2_ray.errors import UserError
from dm2_ray.jobs.access_token import TOKEN, TOKEN_PATH, AccessToken, find_token
from dm2_ray.timeouts import CallTimeout, call_with_timeout

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ANSWER_S = 10.0
"""Limit of a request, look-up of the name included."""
CONNECT_S = 4.0
"""Limit of the first one, which says whether anybody is there."""


class ClusterError(UserError, RuntimeError):
    """A cluster cannot be used, or not for what is asked; the message is one line."""


class DashboardUnreachable(ClusterError):
    """Nobody answered in time: later somebody may."""


class Refused(ClusterError):
    """The dashboard answered with an error."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status."""


@dataclass(frozen=True, slots=True)
class Node:
    """A living node of the cluster."""

    ip: str
    is_head: bool
    resources: dict[str, float]


def dashboard_address(given: str | None) -> str:
    """Where to ask: what was given, or what Ray's environment variables say, or this machine.

    Raises:
        ClusterError: It is no HTTP address.
    """
    source = "--address"
    if given is None:
        address = os.environ.get("RAY_API_SERVER_ADDRESS")
        source = "$RAY_API_SERVER_ADDRESS"
        if not address and os.environ.get("RAY_ADDRESS", "").startswith(("http://", "https://")):
            address, source = os.environ["RAY_ADDRESS"], "$RAY_ADDRESS"
        given = address or DEFAULT_ADDRESS
    url = given if "://" in given else f"http://{given}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.hostname == "auto":
        raise ClusterError(
            f"{source} {given} is no address of a Ray dashboard; expected http://HEAD:8265 (a job is handed in over "
            "HTTP, not over Ray's own ports)"
        )
    if parts.username or parts.password:
        raise ClusterError(f"{source} holds a user or password: leave it out, the token comes from ${TOKEN}")
    return url.rstrip("/")


class Dashboard:
    """The dashboard at an address, checked: it answers, and it takes our token.

    Args:
        address: As `dashboard_address` returns it.

    Raises:
        ClusterError: Nobody answers, or somebody else; the protocol is wrong; the token is missing or wrong.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.token: AccessToken | None = None
        self._headers: dict[str, str] = {}
        try:
            # A name that needs no token, and none is sent before the cluster has asked for one.
            self.authentication = self._json("/api/authentication_mode", CONNECT_S)["authentication_mode"]
        except Refused as refusal:
            if refusal.status != 404:
                raise
            self.authentication = "unknown"
        except (KeyError, TypeError):
            raise self._somebody_else() from None
        if self.authentication == "token":
            self.token = find_token()
            if self.token is None:
                raise ClusterError(
                    f"{address} asks for a token, and there is none here: set ${TOKEN_PATH} or ${TOKEN} to the "
                    "cluster's"
                )
            self._headers = self.token.header
        try:
            self.ray_version = str(self._json("/api/version", CONNECT_S)["ray_version"])
        except (KeyError, TypeError):
            raise self._somebody_else() from None
        except Refused as refusal:
            raise (self._somebody_else() if refusal.status == 404 else refusal) from None

    @property
    def headers(self) -> dict[str, str]:
        """What Ray's client has to send along; it holds the token."""
        return dict(self._headers)

    def python_version(self) -> str:
        """Of the head."""
        return str(self._json("/api/v0/cluster_metadata")["data"]["pythonVersion"])

    def nodes(self) -> list[Node]:
        """All living nodes, the head first."""
        found = self._json("/api/v0/nodes?detail=1&limit=10000")["data"]["result"]["result"]
        nodes = [
            Node(entry["node_ip"], bool(entry["is_head_node"]), dict(entry["resources_total"] or {}))
            for entry in found
            if entry["state"] == "ALIVE"
        ]
        return sorted(nodes, key=lambda node: (not node.is_head, node.ip))

    def node_summaries(self) -> list[dict[str, Any]]:
        """What each node's agent reports of its machine, as Ray words it."""
        found = self._json("/nodes?view=summary")["data"]["summary"]
        return [entry for entry in found if entry.get("raylet", {}).get("state") == "ALIVE"]

    def jobs(self) -> list[dict[str, Any]]:
        """All submitted jobs that the cluster remembers."""
        return [job for job in self._json("/api/jobs/") if job.get("type") == "SUBMISSION"]

    def job(self, job_id: str) -> dict[str, Any] | None:
        """One of them; None if there is none of this id."""
        try:
            found: dict[str, Any] = self._json(f"/api/jobs/{quote(job_id, safe='')}")
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise
        return found

    def job_logs(self, job_id: str) -> str:
        """All that the job has written so far."""
        return str(self._json(f"/api/jobs/{quote(job_id, safe='')}/logs")["logs"])

    def stop_job(self, job_id: str) -> None:
        """Asks for the job's end and does not wait for it."""
        self._json(f"/api/jobs/{quote(job_id, safe='')}/stop", method="POST")

    @contextlib.contextmanager
    def ray_address_environment(self) -> Iterator[None]:
        """Ray's client lets $RAY_API_SERVER_ADDRESS and $RAY_ADDRESS overrule the address that it is given."""
        name = "RAY_API_SERVER_ADDRESS"
        before = os.environ.get(name)
        os.environ[name] = self.address
        try:
            yield
        finally:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before

    def _json(self, path: str, limit_s: float = ANSWER_S, method: str = "GET") -> Any:
        def ask() -> requests.Response:
            # Redirects are not followed: they would carry the token to whatever server they name.
            # An `auth` that changes nothing: otherwise an entry in ~/.netrc would take the place of the token.
            return requests.request(
                method,
                self.address + path,
                headers=self._headers,
                auth=lambda request: request,
                timeout=limit_s,
                allow_redirects=False,
            )

        try:
            response = call_with_timeout(ask, limit_s + 0.5)
        except (CallTimeout, requests.RequestException) as error:
            raise self._explained(error, limit_s) from error
        if response.status_code >= 300:
            raise self._refusal(response)
        try:
            return response.json()
        except ValueError:
            raise self._somebody_else() from None

    def _explained(self, error: Exception, limit_s: float) -> Exception:
        """The same in one line for whoever typed the address."""
        reason = _root_cause(error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            return ClusterError(
                f"{self.address}: its certificate is not trusted here ({reason.verify_message}); name the authority "
                "that signed it with $SSL_CERT_FILE, and $REQUESTS_CA_BUNDLE for Ray's client"
            )
        if isinstance(reason, ssl.SSLError):
            return ClusterError(
                f"{self.address} does not speak TLS: try http://{urlsplit(self.address).netloc}, through an SSH tunnel "
                "if the network is not your own (Ray's dashboard has no TLS of its own)"
            )
        if isinstance(reason, http.client.BadStatusLine) and not isinstance(reason, ConnectionResetError):
            return ClusterError(f"{self.address} does not speak HTTP: is this the dashboard's port (8265), or https?")
        if isinstance(reason, ConnectionResetError):
            # RemoteDisconnected, too. Servers with TLS do so to whoever comes without.
            return DashboardUnreachable(
                f"{self.address} breaks the connection off; {_WHERE} If it speaks TLS: https://"
                if self.address.startswith("http:")
                else f"{self.address} breaks the connection off; {_WHERE}"
            )
        if isinstance(reason, TimeoutError) or isinstance(error, requests.Timeout):
            return DashboardUnreachable(f"{self.address} does not answer within {limit_s:g} s; {_WHERE}")
        if isinstance(reason, (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError)):
            said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            return DashboardUnreachable(f"{self.address} does not answer ({said}); {_WHERE}")
        return error

    def _refusal(self, response: requests.Response) -> Exception:
        status = response.status_code
        where = self.token.source if self.token else "nowhere"
        if status in (401, 403):
            return ClusterError(
                f"{self.address} refuses the token found in {where}: it is not this cluster's; set ${TOKEN} or "
                f"${TOKEN_PATH}"
                if self.token
                else f"{self.address} asks for credentials that are not Ray's (HTTP {status}): is a proxy in front?"
            )
        if status in range(300, 400):
            target = response.headers.get("Location", "elsewhere")
            return ClusterError(f"{self.address} redirects to {target}: give --address that one, if you trust it")
        if status == 400 and b"HTTPS" in response.content[:500]:
            return ClusterError(f"{self.address} speaks TLS: say https:// ({_line(response.content)})")
        if status == 400:
            return Refused(f"{self.address} answers: {_line(response.content)}", status)
        return Refused(f"{self.address} answers with HTTP {status}: {_line(response.content)}", status)

    def _somebody_else(self) -> ClusterError:
        return ClusterError(
            f"something answers at {self.address}, but it is no Ray dashboard; expected http://HEAD:8265, and a head "
            "that was started with the dashboard (pip install 'ray[default]')"
        )


_WHERE = (
    "is the head up, and its dashboard reachable from here (ssh -L 8265:127.0.0.1:8265 HEAD, --address or "
    "$RAY_API_SERVER_ADDRESS)?"
)


def _root_cause(error: BaseException) -> BaseException:
    """What lies under the wrappings of requests and urllib3."""
    while True:
        inner = getattr(error, "reason", None) or next((arg for arg in error.args if isinstance(arg, Exception)), None)
        inner = inner or error.__cause__
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _line(text: bytes) -> str:
    """The last line that says something: of a traceback, the error."""
    lines = [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip(" .")]
    return lines[-1][:300] if lines else "(nothing)"
