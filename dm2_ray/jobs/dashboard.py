"""Client of a Ray head's HTTP API, with time limits and errors of one line.

Ray's own clients need 20 to 110 seconds, and many lines, to report that nobody answers or that a token is missing. So
everything that can be wrong with an address is checked here, before Ray's client is used.
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
"""Time limit of a request, including the lookup of the host name."""
CONNECT_S = 4.0
"""Time limit of the first requests, which tell whether there is a dashboard."""


class ClusterError(UserError, RuntimeError):
    """A cluster cannot be used, or not for this run or job; the message is one line."""


class DashboardUnreachable(ClusterError):
    """Nothing answered in time; a later attempt may succeed."""


class HttpError(ClusterError):
    """The dashboard answered with an error; `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Node:
    """A living node of the cluster."""

    ip: str
    is_head: bool
    resources: dict[str, float]


def dashboard_address(given: str | None) -> str:
    """The given address, or that of Ray's environment variables, or this machine's.

    Raises:
        ClusterError: It is not an HTTP address.
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
            f"{source} {given} is not the address of a Ray dashboard; expected http://HEAD:8265 (jobs are submitted "
            "over HTTP, not over Ray's own ports)"
        )
    if parts.username or parts.password:
        raise ClusterError(f"{source} contains a user or password: leave it out, the token comes from ${TOKEN}")
    return url.rstrip("/")


class Dashboard:
    """The dashboard at an address, after a check that it answers and accepts our token.

    Args:
        address: Result of `dashboard_address`.

    Raises:
        ClusterError: Nothing answers, or something that is not a Ray dashboard; the protocol is wrong; the token is
            missing or wrong.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.token: AccessToken | None = None
        self._headers: dict[str, str] = {}
        try:
            # This request needs no token, and none is sent before the cluster has asked for one.
            self.authentication = self._json("/api/authentication_mode", CONNECT_S)["authentication_mode"]
        except HttpError as error:
            if error.status != 404:
                raise
            self.authentication = "unknown"
        except (KeyError, TypeError):
            raise self._not_a_dashboard() from None
        if self.authentication == "token":
            self.token = find_token()
            if self.token is None:
                raise ClusterError(
                    f"{address} asks for a token, and there is none here: set ${TOKEN_PATH} or ${TOKEN} to the "
                    "token of the cluster"
                )
            self._headers = self.token.header
        try:
            self.ray_version = str(self._json("/api/version", CONNECT_S)["ray_version"])
        except (KeyError, TypeError):
            raise self._not_a_dashboard() from None
        except HttpError as error:
            raise (self._not_a_dashboard() if error.status == 404 else error) from None

    @property
    def headers(self) -> dict[str, str]:
        """Headers that Ray's client must send; they contain the token."""
        return dict(self._headers)

    def python_version(self) -> str:
        """Version of Python on the head."""
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
        """What the agent of each node reports about its machine, in Ray's format."""
        found = self._json("/nodes?view=summary")["data"]["summary"]
        return [entry for entry in found if entry.get("raylet", {}).get("state") == "ALIVE"]

    def jobs(self) -> list[dict[str, Any]]:
        """Ray's details of all submitted jobs that the cluster remembers."""
        return [job for job in self._json("/api/jobs/") if job.get("type") == "SUBMISSION"]

    def job(self, job_id: str) -> dict[str, Any] | None:
        """Ray's details of a job; None if there is no job with this id."""
        try:
            found: dict[str, Any] = self._json(_job_path(job_id))
        except HttpError as error:
            if error.status == 404:
                return None
            raise
        return found

    def job_logs(self, job_id: str) -> str:
        """The job's output so far."""
        return str(self._json(f"{_job_path(job_id)}/logs")["logs"])

    def stop_job(self, job_id: str) -> None:
        """Asks the cluster to stop the job; does not wait until it has ended."""
        self._json(f"{_job_path(job_id)}/stop", method="POST")

    @contextlib.contextmanager
    def ray_address_environment(self) -> Iterator[None]:
        """Sets $RAY_API_SERVER_ADDRESS, which like $RAY_ADDRESS overrides the address that Ray's client is given."""
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
        def send() -> requests.Response:
            # Redirects are not followed: they would send the token to any server that they name.
            # An `auth` that changes nothing: otherwise an entry of ~/.netrc would replace the token.
            return requests.request(
                method,
                self.address + path,
                headers=self._headers,
                auth=lambda request: request,
                timeout=limit_s,
                allow_redirects=False,
            )

        try:
            response = call_with_timeout(send, limit_s + 0.5)
        except (CallTimeout, requests.RequestException) as error:
            raise self._explain_failure(error, limit_s) from error
        if response.status_code >= 300:
            raise self._explain_status(response)
        try:
            return response.json()
        except ValueError:
            raise self._not_a_dashboard() from None

    def _explain_failure(self, error: Exception, limit_s: float) -> Exception:
        """The error of a request that got no answer, explained in one line."""
        reason = _root_cause(error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            return ClusterError(
                f"{self.address}: its certificate is not trusted here ({reason.verify_message}); set $SSL_CERT_FILE, "
                "and $REQUESTS_CA_BUNDLE for Ray's client, to the certificate of the authority that signed it"
            )
        if isinstance(reason, ssl.SSLError):
            return ClusterError(
                f"{self.address} does not speak TLS: try http://{urlsplit(self.address).netloc}, through an SSH tunnel "
                "if others use the network (Ray's dashboard does not support TLS)"
            )
        if isinstance(reason, http.client.BadStatusLine) and not isinstance(reason, ConnectionResetError):
            return ClusterError(f"{self.address} does not speak HTTP: is this the dashboard's port (8265), or https?")
        if isinstance(reason, ConnectionResetError):
            # This includes RemoteDisconnected. Servers with TLS do this to clients without.
            return DashboardUnreachable(
                f"{self.address} closes the connection; {_WHERE} If it speaks TLS: https://"
                if self.address.startswith("http:")
                else f"{self.address} closes the connection; {_WHERE}"
            )
        if isinstance(reason, TimeoutError) or isinstance(error, requests.Timeout):
            return DashboardUnreachable(f"{self.address} does not answer within {limit_s:g} s; {_WHERE}")
        if isinstance(reason, (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError)):
            message = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            return DashboardUnreachable(f"{self.address} does not answer ({message}); {_WHERE}")
        return error

    def _explain_status(self, response: requests.Response) -> Exception:
        """The error of a request that was answered with an HTTP error or a redirect."""
        status = response.status_code
        where = self.token.source if self.token else "nowhere"
        if status in (401, 403):
            return ClusterError(
                f"{self.address} refuses the token found in {where}: it is another cluster's; set ${TOKEN} or "
                f"${TOKEN_PATH}"
                if self.token
                else f"{self.address} asks for credentials that are not Ray's (HTTP {status}): is a proxy in front?"
            )
        if status in range(300, 400):
            target = response.headers.get("Location", "elsewhere")
            return ClusterError(f"{self.address} redirects to {target}: pass that one to --address if you trust it")
        if status == 400 and b"HTTPS" in response.content[:500]:
            return ClusterError(f"{self.address} speaks TLS: use https:// ({_line(response.content)})")
        if status == 400:
            return HttpError(f"{self.address} answers: {_line(response.content)}", status)
        return HttpError(f"{self.address} answers with HTTP {status}: {_line(response.content)}", status)

    def _not_a_dashboard(self) -> ClusterError:
        return ClusterError(
            f"something answers at {self.address}, but it is no Ray dashboard; expected http://HEAD:8265, and a head "
            "that was started with a dashboard (pip install 'ray[default]')"
        )


def _job_path(job_id: str) -> str:
    return f"/api/jobs/{quote(job_id, safe='')}"


_WHERE = (
    "is the head running, and its dashboard reachable from here (ssh -L 8265:127.0.0.1:8265 HEAD, --address or "
    "$RAY_API_SERVER_ADDRESS)?"
)


def _root_cause(error: BaseException) -> BaseException:
    """The innermost error inside those of requests and urllib3."""
    while True:
        inner = getattr(error, "reason", None) or next((arg for arg in error.args if isinstance(arg, Exception)), None)
        inner = inner or error.__cause__
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _line(text: bytes) -> str:
    """The last line that is not empty; the last line of a traceback is the error."""
    lines = [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip(" .")]
    return lines[-1][:300] if lines else "(nothing)"
