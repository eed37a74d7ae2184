"""Every kind of address works or is refused in one line within seconds; the token is sent to no other server."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from support.servers import Answer, http_server, plain_server

from dm2_ray.jobs import dashboard as module
from dm2_ray.jobs.access_token import find_token
from dm2_ray.jobs.dashboard import ClusterError, Dashboard, DashboardUnreachable, dashboard_address

TOKEN = "not-a-real-token"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def ray(path: str, mode: str = "disabled") -> Answer:
    """The answers of a dashboard."""
    if path == "/api/authentication_mode":
        return 200, {"authentication_mode": mode}
    return 200, {"ray_version": "2.60.0"}


def refusal(address: str) -> str:
    began = time.monotonic()
    with pytest.raises(ClusterError) as error:
        Dashboard(address)
    assert time.monotonic() - began < module.CONNECT_S + 1
    assert "\n" not in str(error.value)
    assert address in str(error.value)
    return str(error.value)


# Addresses.


def test_the_address_comes_from_the_option_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dashboard_address(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert dashboard_address(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "http://10.0.0.1:8265/")
    assert dashboard_address(None) == "http://10.0.0.1:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://10.0.0.2:8265")
    assert dashboard_address(None) == "http://10.0.0.2:8265"
    assert dashboard_address("head:8265") == "http://head:8265"


@pytest.mark.parametrize("address", ["auto", "ray://head:10001", "http://user:word@head:8265"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ClusterError, match="--address"):
        dashboard_address(address)


# Servers.


def test_nothing_listens() -> None:
    with socket.socket() as bound:  # without listening
        bound.bind(("127.0.0.1", 0))
        assert "Connection refused" in refusal(f"http://127.0.0.1:{bound.getsockname()[1]}")


def test_a_server_that_does_not_answer() -> None:
    with plain_server(None) as address:
        assert "does not answer within 4 s" in refusal(address)


def test_a_server_that_does_not_speak_http() -> None:
    with plain_server(b"\x00\x00\x12\x04garbage") as address:
        assert "does not speak HTTP" in refusal(address)


@pytest.mark.parametrize(("status", "body"), [(404, "no"), (200, "<html>"), (200, []), (200, {"status": "fine"})])
def test_another_web_server(status: int, body: object) -> None:
    with http_server(lambda path: (status, body)) as server:
        assert "no Ray dashboard" in refusal(server.address)


def test_tls_with_a_server_without() -> None:
    with http_server(ray) as server:
        assert "does not speak TLS: try http://" in refusal(server.address.replace("http:", "https:"))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and is not installed")
    path = tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(
        [*command, "-subj", "/CN=head", "-days", "1", "-keyout", path, "-out", tmp_path / "public.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + (tmp_path / "public.pem").read_text())
    return path


@pytest.mark.cli
def test_no_tls_with_a_server_that_requires_it(certificate: Path) -> None:
    with http_server(ray, certificate=certificate) as server:
        assert "If it speaks TLS: https://" in refusal(server.address.replace("https:", "http:"))


@pytest.mark.cli
def test_a_certificate_that_is_not_trusted(certificate: Path) -> None:
    with http_server(ray, certificate=certificate) as server:
        assert "certificate is not trusted here" in refusal(server.address)


# The token.


def test_a_cluster_without_authentication_is_sent_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with http_server(ray) as server:
        dashboard = Dashboard(server.address)
    assert (dashboard.ray_version, dashboard.headers) == ("2.60.0", {})
    assert [header for _, header in server.requests] == [None, None]


def test_a_cluster_with_authentication_is_sent_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with http_server(lambda path: ray(path, "token")) as server:
        dashboard = Dashboard(server.address)
    assert [header for _, header in server.requests] == [None, f"Bearer {TOKEN}"]
    assert TOKEN not in repr(dashboard.token)


def test_a_token_that_is_missing_or_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(path: str) -> Answer:
        return ray(path, "token") if path == "/api/authentication_mode" else (403, "Forbidden")

    with http_server(refuses) as server:
        assert "asks for a token, and there is none here" in refusal(server.address)
        monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
        message = refusal(server.address)
    assert "refuses the token found in $RAY_AUTH_TOKEN" in message
    assert TOKEN not in message


def test_the_token_does_not_follow_a_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)

    def redirects(path: str) -> Answer:
        return ray(path, "token") if path == "/api/authentication_mode" else (302, "")

    with http_server(ray) as other, http_server(redirects, location=other.address) as server:
        assert f"redirects to {other.address}" in refusal(server.address)
    assert other.requests == []


def test_the_token_is_found_where_ray_finds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find_token() is None
    home = tmp_path / ".ray" / "auth_token"
    home.parent.mkdir()
    home.write_text("from-home\n")
    home.chmod(0o644)
    token = find_token()
    assert token is not None
    assert (token.value, token.source, token.open_to_others) == ("from-home", str(home), True)
    home.chmod(0o600)
    assert not token.open_to_others
    named = tmp_path / "named"
    named.write_text("named")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(named))
    assert (found := find_token()) is not None and found.value == "named"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "said")
    assert (found := find_token()) is not None and (found.value, found.open_to_others) == ("said", False)


def test_a_server_that_stops_answering_is_unreachable() -> None:
    with http_server(ray) as server:
        dashboard = Dashboard(server.address)
    with pytest.raises(DashboardUnreachable):
        dashboard.jobs()
