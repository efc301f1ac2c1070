"""A server for one reader on this machine: it answers GET and HEAD, from 127.0.0.1, to whoever knows the token."""

from __future__ import annotations

import hmac
import os
import secrets
import socketserver
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from erasure.errors import ConfigError, Diagnostic, ErasureError

__all__ = ["PAGE_POLICY", "PageSource", "Reply", "UiServer"]

_HOST = "127.0.0.1"
_FIRST_PORT = 8750
_PORTS = 20
"""Ports that are tried in turn where none is asked for."""
_IDLE_S = 30
_MAX_PARAMETERS = 20

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""What a page may load: its own script and style and its own data, nothing else and from nowhere else."""

_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class Reply:
    """What is sent back.

    Args:
        body: The bytes.
        kind: Their media type.
        status: Status of HTTP.
        policy: The content security policy.
        headers: Further headers.
    """

    body: bytes
    kind: str = "text/html; charset=utf-8"
    status: int = 200
    policy: str = PAGE_POLICY
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def text(cls, status: int, text: str, **headers: str) -> Reply:
        """A sentence."""
        return cls(f"{text}\n".encode(), "text/plain; charset=utf-8", status, headers=headers)


class PageSource(Protocol):
    """Who answers what is behind the token."""

    def answer(self, route: str, query: Mapping[str, str]) -> Reply:
        """The answer to a request.

        Args:
            route: What follows the token, as it was sent.
            query: Parameters, each once.
        """
        ...


class UiServer(ThreadingHTTPServer):
    """The server; ``serve_forever`` runs it.

    Args:
        site: Who answers.
        port: The port; None takes the first free one from 8750, 0 any free one.

    Attributes:
        token: What an address must begin with.

    Raises:
        ConfigError: If the port cannot be used.
    """

    daemon_threads = True
    # Elsewhere than on POSIX it would let two servers listen on one port.
    allow_reuse_address: bool = os.name == "posix"

    def __init__(self, site: PageSource, port: int | None = None) -> None:
        self.site = site
        self.token: str = secrets.token_urlsafe(24)
        ports = range(_FIRST_PORT, _FIRST_PORT + _PORTS) if port is None else (port,)
        problem: OSError | None = None
        for number in ports:
            try:
                super().__init__((_HOST, number), _Handler)
                break
            except OSError as error:
                problem = error
        else:
            reason = problem.strerror if problem is not None else ""
            if port is None:
                raise _unusable(
                    f"the ports {ports[0]} to {ports[-1]} of {_HOST} cannot be used ({reason})", "choose one, or 0 for any"
                )
            raise _unusable(f"port {port} of {_HOST} cannot be used ({reason})", "choose another, or 0 for any free one")

    def server_bind(self) -> None:
        """Bind without asking the network for the machine's name, as the standard library's server would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name: str = _HOST
        self.server_port: int = int(self.server_address[1])

    @property
    def address(self) -> str:
        """Where the first page is, token included."""
        return f"http://{_HOST}:{self.server_port}/{self.token}/"

    @property
    def hosts(self) -> frozenset[str]:
        """Names that a request may call this server: a page elsewhere that renames itself to 127.0.0.1 has another."""
        names = {_HOST, "localhost"}
        return frozenset({f"{name}:{self.server_port}" for name in names} | (names if self.server_port == 80 else set()))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Readers who close their window in the middle are not an error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _unusable(message: str, hint: str) -> ConfigError:
    return ConfigError([Diagnostic(message, path="--port", hint=hint, kind="data")])


class _Handler(BaseHTTPRequestHandler):
    """One request: method, host and token are checked, in this order, before anything is looked at."""

    server: UiServer
    server_version, sys_version = "erasure", ""
    timeout = _IDLE_S

    def do_GET(self) -> None:
        self._send(self._answer())

    def do_HEAD(self) -> None:
        self._send(self._answer())

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no request that is served; nothing of the request is repeated."""
        if code == 501:
            self._send(Reply.text(405, "Only GET and HEAD: nothing can be changed here.", Allow="GET, HEAD"))
        else:
            self._send(Reply.text(int(code), "This is not a request that can be answered."))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Nothing is logged: addresses hold the token."""

    def _answer(self) -> Reply:
        if self.headers.get("Host", "").lower() not in self.server.hosts or len(self.headers.get_all("Host", [])) != 1:
            return Reply.text(403, "This server answers to 127.0.0.1 and localhost alone.")
        try:
            parts = urlsplit(self.path)
            found = parse_qs(parts.query, max_num_fields=_MAX_PARAMETERS, errors="surrogateescape")
            query = {name: values[0] for name, values in found.items()}
        except ValueError:
            return Reply.text(400, "This address cannot be read.")
        token, slash, route = parts.path.removeprefix("/").partition("/")
        if parts.scheme or parts.netloc or not hmac.compare_digest(token.encode(), self.server.token.encode()):
            return Reply.text(403, "The address lacks the token that erasure ui printed; open the address as it was printed.")
        if not slash:
            return Reply(b"", status=301, headers={"Location": f"/{self.server.token}/"})
        return self._found(route, query)

    def _found(self, route: str, query: Mapping[str, str]) -> Reply:
        try:
            return self.server.site.answer(route, query)
        except ErasureError as error:
            return Reply.text(404, str(error))
        except Exception as error:  # one page that cannot be made must not end the server
            if os.environ.get("ERASURE_TRACEBACK"):
                raise
            return Reply.text(500, f"This is a bug in ERASURE: {type(error).__name__}: {error}")

    def _send(self, answer: Reply) -> None:
        self.close_connection = True
        self.send_response(answer.status)
        headers = {"Content-Type": answer.kind, "Content-Length": str(len(answer.body)), "Content-Security-Policy": answer.policy}
        for name, value in {**_HEADERS, **headers, **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
