"""The server of the page: 127.0.0.1 alone, GET and HEAD alone, fixed paths, and only for a browser of this machine."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from segdecay.errors import ConfigError, SegdecayError
from segdecay.watch.state import RunReader

ADDRESS = "127.0.0.1"
PORT = 8020
HERE = ("127.0.0.1", "localhost", "[::1]")  # any port: an SSH tunnel may have another one at its other end
FRESH_S = 1.0  # a state is read at most this often, for any number of open pages
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
FILES = Path(__file__).parent / "page"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".json": "application/json"}
STATIC = {"/": "watch.html", "/watch.css": "watch.css", "/watch.js": "watch.js"}


class Watch(ThreadingHTTPServer):
    """Serves the page of one run until it is closed."""

    daemon_threads = True

    def __init__(self, run: Path, port: int = PORT) -> None:
        """Listen.

        Args:
            run: the folder of a run.
            port: of 127.0.0.1; 0 takes a free one.

        Raises:
            RunError: the folder is not a run.
            ConfigError: the port cannot be had.
        """
        self._reader, self._lock = RunReader(run), threading.Lock()
        self._state: tuple[float, bytes] | None = None
        self.run = run
        if not 0 <= port <= 65535:
            raise ConfigError(f"--port takes 0 to 65535; saw {port}.")
        try:
            super().__init__((ADDRESS, port), Handler)
        except OSError as error:
            raise ConfigError(
                f"--port {port} cannot be had ({error.strerror}); another `segdecay watch` may have it. Choose "
                "another, or 0 for a free one."
            ) from error

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self.server_address[1]}/"

    def state(self) -> bytes:
        """The state as JSON."""
        with self._lock:
            now = time.monotonic()
            if self._state is None or now - self._state[0] > FRESH_S:
                try:
                    found: dict[str, Any] = self._reader.state()
                except (SegdecayError, OSError) as error:
                    found = {"error": str(error)}
                self._state = (time.monotonic(), json.dumps(found, allow_nan=False).encode())
            return self._state[1]


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Watch
    server_version, sys_version = "segdecay", ""

    def do_GET(self) -> None:
        """Send one of the fixed files, or the state."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Send the headers of the same."""
        self._answer(with_body=False)

    def __getattr__(self, name: str) -> Callable[[], None]:
        """The base class looks for do_METHOD: every other method is refused."""
        if name.startswith("do_"):
            return self._refuse
        raise AttributeError(name)

    def _refuse(self) -> None:
        text = b"This page only reads: GET and HEAD.\n"
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", text, {"Allow": "GET, HEAD"})

    def _answer(self, *, with_body: bool) -> None:
        host = self.headers.get("Host", "")
        if host.rpartition(":")[0] not in HERE and host not in HERE:
            # another name that leads here is a page of somebody else that was made to point at this machine
            self._send(HTTPStatus.MISDIRECTED_REQUEST, "text/plain", b"Open http://127.0.0.1 in place of this name.\n")
            return
        path = self.path.partition("?")[0]
        if path == "/state.json":
            self._send(HTTPStatus.OK, KINDS[".json"], self.server.state(), with_body=with_body)
        elif path in STATIC:
            file = FILES / STATIC[path]
            self._send(HTTPStatus.OK, KINDS[file.suffix], file.read_bytes(), with_body=with_body)
        elif path == "/report.html" and (self.server.run / "report.html").is_file():
            page = (self.server.run / "report.html").read_bytes()
            self._send(HTTPStatus.OK, KINDS[".html"], page, {"Content-Security-Policy": ""}, with_body=with_body)
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"Not here.\n", with_body=with_body)

    def _send(
        self,
        status: HTTPStatus,
        kind: str,
        content: bytes,
        more: dict[str, str] | None = None,
        *,
        with_body: bool = True,
    ) -> None:
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(content)),
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
            **(more or {}),
        }
        self.send_response(status)
        for name, value in headers.items():
            if value:  # the report has a policy of its own
                self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Say nothing: a request a second is no news."""


def watch(run: Path, port: int = PORT, say: Callable[[str], None] = lambda _line: None) -> None:
    """Serve the page of a run until Ctrl-C.

    Raises:
        RunError, ConfigError: as `Watch`.
    """
    with Watch(run, port) as server:
        say(f"{run} is shown at {server.url} (on this machine only; Ctrl-C ends the page, not the search)")
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            return
