"""A gallery made for measuring crawls: small images of noise, newest first, served on loopback and counted there.

What a crawl asked for is read from the server's own access log, so that it does not hang on what the crawler says.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from copywatch.errors import MachineError

PER_PAGE = 100
SIDES = (60, 170)
"""Pixels. Noise of these sides makes files of about 3 to 30 kB, as thumbnails of a gallery have."""

_IMAGES = "images"
_START_SECONDS = 20.0

_NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  types {{ text/html html; image/jpeg jpg; }}
  log_format counted '$request_method $status $bytes_sent $uri';
  access_log {folder}/access.log counted;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  sendfile on; tcp_nopush on;
  server {{ listen 127.0.0.1:{port}; root {root}; index index.html; }}
}}
"""


def noise(number: int) -> bytes:
    """A JPEG file of its own for each number."""
    rng = np.random.default_rng(number)
    width, height = rng.integers(*SIDES, 2)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file, "JPEG", quality=80)
    return file.getvalue()


class MadeSite:
    """The site's files: listing pages of 100 images, with links to their neighbours, each tenth page and the last."""

    def __init__(self, root: Path, images: int, new: int) -> None:
        """Make `images` that are listed and `new` ones that are not yet."""
        self.root = root
        self._listed = list(range(images))
        self._spare = list(range(images, images + new))
        self.order: list[int] = []
        """Numbers of the images listed, newest first."""
        self.digests: dict[int, str] = {}
        """SHA-256 of each image's bytes."""
        self._replaced: set[int] = set()
        (root / _IMAGES).mkdir(parents=True)
        (root / "page").mkdir()
        for number in self._listed + self._spare:
            self._write_image(number, noise(number))
        self.reset()

    def path(self, number: int) -> str:
        """Path of an image in the site's addresses."""
        return f"/{_IMAGES}/{number:06d}.jpg"

    @property
    def pages(self) -> list[str]:
        """Paths of all listing pages."""
        count = -(-len(self.order) // PER_PAGE)
        return ["/", *(f"/page/{number}.html" for number in range(2, count + 1))]

    @property
    def listed(self) -> frozenset[str]:
        """SHA-256 of the images that the site shows now."""
        return frozenset(self.digests[number] for number in self.order)

    def reset(self) -> None:
        """As it was at first."""
        while self._replaced:
            number = self._replaced.pop()
            self._write_image(number, noise(number))
        self.order = list(self._listed)
        self._write_pages()

    def add(self) -> list[str]:
        """List the new images: two fifths at the front, the others in the middle and at the end; returns their paths.

        All images behind them move on, so that almost every page changes, as in any gallery whose newest come first.
        """
        share = len(self._spare) * 2 // 5
        front, rest = self._spare[:share], self._spare[share:]
        middle, back = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        half = len(self._listed) // 2
        self.order = [*front, *self._listed[:half], *middle, *self._listed[half:], *back]
        self._write_pages()
        return [self.path(number) for number in self._spare]

    def replace(self, count: int) -> list[str]:
        """Give that many listed images other bytes at the same address, evenly spread; returns their paths."""
        chosen = self._listed[:: max(1, len(self._listed) // count)][:count]
        for number in chosen:
            self._write_image(number, noise(number + 2**32))
        self._replaced.update(chosen)
        return [self.path(number) for number in chosen]

    def _write_image(self, number: int, file: bytes) -> None:
        self.digests[number] = hashlib.sha256(file).hexdigest()
        (self.root / self.path(number)[1:]).write_bytes(file)

    def _write_pages(self) -> None:
        paths = self.pages
        for place, path in enumerate(paths):
            shown = self.order[place * PER_PAGE : (place + 1) * PER_PAGE]
            figures = "\n".join(
                f'<figure><img src="{self.path(number)}" alt=""><figcaption>image {number} by '
                f'<span class="author">user {number % 97}</span></figcaption></figure>'
                for number in shown
            )
            near = dict.fromkeys([*paths[::10], *paths[max(0, place - 2) : place + 3], paths[-1]])
            links = " ".join(f'<a href="{other}">{other}</a>' for other in near)
            text = f"<!DOCTYPE html>\n<html><title>Gallery</title><body>\n{figures}\n{links}\n</body></html>\n"
            file = self.root / ("index.html" if path == "/" else path[1:])
            if not file.exists() or file.read_text(encoding="utf-8") != text:
                file.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Traffic:
    """What the server answered in a while.

    Attributes:
        answers: how many, by method and status.
        sent: bytes, with their headers.
        downloads: how often each image file was sent, by path.
    """

    answers: Counter[tuple[str, int]]
    sent: int
    downloads: Counter[str]

    @classmethod
    def of(cls, lines: Sequence[str]) -> Traffic:
        """Of lines `GET 200 12345 /path` of an access log."""
        answers: Counter[tuple[str, int]] = Counter()
        downloads: Counter[str] = Counter()
        sent = 0
        for line in lines:
            method, status, size, path = line.split(" ", 3)
            answers[method, int(status)] += 1
            sent += int(size)
            if (method, status) == ("GET", "200") and path.startswith(f"/{_IMAGES}/"):
                downloads[path] += 1
        return cls(answers, sent, downloads)

    @property
    def requests(self) -> int:
        """All of them."""
        return self.answers.total()


class Server:
    """A running server of a site, and its access log."""

    def __init__(self, port: int, log: Path, name: str) -> None:
        self.port = port
        self.name = name
        self._log = log
        self._read = 0
        self._markers = 0

    @property
    def address(self) -> str:
        """Of the first page."""
        return f"http://127.0.0.1:{self.port}/"

    def traffic(self) -> Traffic:
        """What was answered since the last call.

        Raises:
            MachineError: the log does not tell of a request that was just answered.
        """
        # The log is read up to a request of our own: what came before it is in there then.
        self._markers += 1
        marker = f"/marker-{self._markers}"
        self._ask(marker)
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            lines = self._log.read_bytes()[self._read :].decode("utf-8").splitlines()
            if lines and lines[-1].endswith(marker):
                self._read = self._log.stat().st_size
                return Traffic.of(lines[:-1])
            time.sleep(0.05)
        raise MachineError(f"the server {self.name} does not write its access log")

    def peek(self) -> Traffic:
        """What was answered since the last call of `traffic`, as far as the log has it, and without taking it."""
        text = self._log.read_bytes()[self._read :].decode("utf-8")
        return Traffic.of(text[: text.rfind("\n") + 1].splitlines())

    def _ask(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_START_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def wait(self) -> None:
        """Until it answers.

        Raises:
            MachineError: it does not.
        """
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            try:
                if self._ask("/") == 200:
                    return
            except OSError:
                time.sleep(0.05)
        raise MachineError(f"the server {self.name} does not answer at {self.address}")

    def own_limit(self, paths: Sequence[str]) -> float:
        """Images a second that a plain loop over one connection gets, which keeps nothing."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        begun = time.perf_counter()
        for path in paths:
            connection.request("GET", path)
            connection.getresponse().read()
        taken = time.perf_counter() - begun
        connection.close()
        return len(paths) / taken


@contextmanager
def serving(root: Path, folder: Path) -> Iterator[Server]:
    """Serve the files below `root` on loopback: by nginx if it is installed, else by Starlette in a process of its own.

    Both send ETag and Last-Modified and answer conditional requests; only nginx is faster than crawlers are. `folder`
    is for the server's own files.

    Raises:
        MachineError: it does not come up.
    """
    folder.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "access.log"
    log.touch()
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin") or shutil.which("nginx")
    if nginx:
        config = folder / "nginx.conf"
        config.write_text(_NGINX.format(folder=folder, port=port, root=root), encoding="utf-8")
        command = [nginx, "-c", str(config), "-e", str(folder / "error.log")]
    else:
        command = [sys.executable, __file__, str(root), str(log), str(port)]
    server = Server(port, log, "nginx" if nginx else "Starlette")
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        server.wait()
        server.traffic()
        yield server
    finally:
        process.terminate()
        process.wait()


def serve_by_starlette(root: str, log: str, port: int) -> None:
    """Serve files in this process, with a log like nginx's."""
    import uvicorn
    from starlette.staticfiles import StaticFiles
    from starlette.types import Message, Receive, Scope, Send

    files = StaticFiles(directory=root, html=True)
    with Path(log).open("a", encoding="utf-8", buffering=1) as lines:

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            status, size = 0, 0
            # As nginx does, an address is taken as it is given to a proxy.
            scope = {**scope, "path": urlsplit(scope["path"]).path}

            async def pass_on(message: Message) -> None:
                nonlocal status, size
                status = message.get("status", status)
                size += len(message.get("body", b"")) + sum(len(a + b) + 4 for a, b in message.get("headers", ()))
                await send(message)

            try:
                await files(scope, receive, pass_on)
            except Exception as error:  # Starlette's HTTPException: a router would answer it
                status = getattr(error, "status_code", 500)
                await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
                await send({"type": "http.response.body", "body": b""})
            lines.write(f"{scope['method']} {status} {size} {scope['path']}\n")

        uvicorn.run(counted, port=port, lifespan="off", access_log=False, log_level="warning")


if __name__ == "__main__":
    serve_by_starlette(sys.argv[1], sys.argv[2], int(sys.argv[3]))
