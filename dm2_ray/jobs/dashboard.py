"""A Ray head's HTTP address: asked with a time limit, understood or refused in one line.

Ray's own clients wait for 20 to 110 seconds before they say that nobody answers or that a token is missing, and then in
many lines. So everything that can be wrong with an address is found out here, before Ray's client is let loose.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from typing import IO, Any
from urllib.parse import quote, urlsplit

from dm2_ray.errors import UserError
from dm2_ray.jobs.access_token import TOKEN, TOKEN_PATH, AccessToken, find_token

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
        request = urllib.request.Request(self.address + path, headers=self._headers, method=method)
        answers: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

        def ask() -> None:
            try:
                with _OPENER.open(request, timeout=limit_s) as answer:
                    answers.put(answer.read())
            except Exception as error:  # handed over to the caller, which knows them all
                answers.put(error)

        # In a thread of its own, because no timeout covers the look-up of a name.
        threading.Thread(target=ask, daemon=True).start()
        try:
            answer = answers.get(timeout=limit_s + 0.5)
        except queue.Empty:
            raise DashboardUnreachable(f"{self.address} does not answer within {limit_s:g} s; {_WHERE}") from None
        if isinstance(answer, Exception):
            raise self._explained(answer, limit_s) from answer
        try:
            return json.loads(answer)
        except ValueError:
            raise self._somebody_else() from None

    def _explained(self, error: Exception, limit_s: float) -> Exception:
        """The same in one line for whoever typed the address."""
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(error, urllib.error.HTTPError):
            return self._refusal(error)
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
        if isinstance(reason, TimeoutError):
            return DashboardUnreachable(f"{self.address} does not answer within {limit_s:g} s; {_WHERE}")
        if isinstance(reason, (OSError, http.client.HTTPException)):
            said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            return DashboardUnreachable(f"{self.address} does not answer ({said}); {_WHERE}")
        return error

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        where = self.token.source if self.token else "nowhere"
        if error.code in (401, 403):
            return ClusterError(
                f"{self.address} refuses the token found in {where}: it is not this cluster's; set ${TOKEN} or "
                f"${TOKEN_PATH}"
                if self.token
                else f"{self.address} asks for credentials that are not Ray's (HTTP {error.code}): is a proxy in front?"
            )
        if error.code in range(300, 400):
            target = error.headers.get("Location", "elsewhere")
            return ClusterError(f"{self.address} redirects to {target}: give --address that one, if you trust it")
        if error.code == 400 and b"HTTPS" in (text := error.read(500)):
            return ClusterError(f"{self.address} speaks TLS: say https:// ({_line(text)})")
        if error.code == 400:
            return Refused(f"{self.address} answers: {_line(text)}", error.code)
        return Refused(f"{self.address} answers with HTTP {error.code}: {_line(error.read())}", error.code)

    def _somebody_else(self) -> ClusterError:
        return ClusterError(
            f"something answers at {self.address}, but it is no Ray dashboard; expected http://HEAD:8265, and a head "
            "that was started with the dashboard (pip install 'ray[default]')"
        )


_WHERE = (
    "is the head up, and its dashboard reachable from here (ssh -L 8265:127.0.0.1:8265 HEAD, --address or "
    "$RAY_API_SERVER_ADDRESS)?"
)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Would carry the token to whoever the redirect names."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def _line(text: bytes) -> str:
    """The last line that says something: of a traceback, the error."""
    lines = [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip(" .")]
    return lines[-1][:300] if lines else "(nothing)"
