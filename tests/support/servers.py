"""Real servers on local sockets, such as a wrong address may lead to."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = tuple[int, Any]


@dataclass
class Visited:
    """The requests that a server received."""

    address: str
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Authorization header."""


@contextmanager
def http_server(
    answer: Callable[[str], Answer], *, certificate: Path | None = None, location: str = ""
) -> Iterator[Visited]:
    """Answers every GET with the status and the JSON value that `answer` gives for its path."""
    visited = Visited("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            visited.requests.append((self.path, self.headers.get("Authorization")))
            status, value = answer(self.path)
            body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda request, client: None  # type: ignore[method-assign]  # refused TLS is intended
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    visited.address = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield visited
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def plain_server(greeting: bytes | None) -> Iterator[str]:
    """Accepts connections and sends `greeting`, or nothing if it is None. Yields the address."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                kept.append(connection)
                if greeting is not None:
                    connection.recv(4096)
                    connection.sendall(greeting)
                    connection.close()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in kept:
            connection.close()
