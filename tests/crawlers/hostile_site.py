"""A web site on a free loopback port that answers as a test tells it to, and notes what it was asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

Answer = Callable[["Handler"], None]


def jpeg(number: int, size: int = 2000) -> bytes:
    """Bytes that begin like a JPEG and differ by number; the crawl does not decode them."""
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + number.to_bytes(4, "big") + bytes(size)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        asked = self.server.asked if self.command == "GET" else self.server.looked_at
        asked.append((self.path, time.monotonic(), dict(self.headers)))
        answer = self.server.routes.get(self.path) or self.server.routes.get(path)
        if answer is None:
            self.answer(404, b"not found", "text/plain")
        elif isinstance(answer, bytes):
            self.answer(200, answer, "image/jpeg" if answer[:2] == b"\xff\xd8" else "text/html; charset=utf-8")
        else:
            answer(self)

    def answer(self, status: int, body: bytes, content_type: str = "text/html", **headers: str) -> None:
        """A well-formed answer."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def raw(self, data: bytes) -> None:
        """Bytes as they are, and the end of the connection."""
        self.wfile.write(data)
        self.wfile.flush()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.routes: dict[str, Answer | bytes] = {}
        self.asked: list[tuple[str, float, dict[str, str]]] = []
        self.looked_at: list[tuple[str, float, dict[str, str]]] = []

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that hangs up is part of the tests


@dataclass
class HostileSite:
    """The server, running in a thread while the block lasts."""

    server: Server = field(default_factory=Server)
    start: str | None = None
    """Where a crawl should begin, if not at `/` of this site."""

    def __enter__(self) -> HostileSite:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def port(self) -> int:
        return self.server.server_address[1]

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """An absolute address on this site."""
        return f"http://{host}:{self.port}{path}"

    def on(self, path: str, answer: Answer | bytes | str) -> None:
        """Answer a path so."""
        self.server.routes[path] = answer.encode() if isinstance(answer, str) else answer

    def times(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(asked == path for asked, _, _ in self.server.asked)


def redirect(to: str, status: int = 302) -> Answer:
    """An answer that leads elsewhere."""
    return lambda handler: handler.answer(status, b"", Location=to)


def status(code: int, **headers: str) -> Answer:
    """An answer of this status."""
    return lambda handler: handler.answer(code, b"<html>no</html>", **headers)
