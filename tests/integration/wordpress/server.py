"""A real WordPress on loopback: Debian's `wordpress`, its own MariaDB on a socket, PHP's built-in server.

All it writes is in a temporary folder; nothing of the machine's own services, `/etc` or `/usr` is touched. To play with
one: `python -m tests.integration.wordpress.server`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from copywatch.demo.airflow_api import wait_until
from copywatch.demo.services import free_ports
from copywatch.errors import MachineError

PACKAGES = (
    "wordpress",
    "wordpress-theme-twentytwentythree",
    "mariadb-server-core",
    "php-cli",
    "php-mysql",
    "php-gd",
)
"""Debian's packages that it is made of. None of those named here starts a service."""

_HERE = Path(__file__).parent
_SOURCE = Path("/usr/share/wordpress")
_THEME = _SOURCE / "wp-content/themes/twentytwentythree"
_PROGRAMS = ("mariadbd", "mariadb-install-db", "php", "setpriv")
_EXTENSIONS = ("mysqli", "gd", "exif")
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
_SMALL_DATABASE = ("--skip-networking", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M")
_PHP_SETTINGS = ("memory_limit=512M", "upload_max_filesize=64M", "post_max_size=64M", "sendmail_path=/bin/true")
_PHP = ["php", *(f"-d{setting}" for setting in (*_PHP_SETTINGS, "display_errors=stderr"))]
_PATIENCE_SECONDS = 60
_END_SECONDS = 10


class PackagesMissing(MachineError):
    """The machine has no WordPress, MariaDB or PHP; the message says what to install."""

    def __init__(self, missing: Iterable[str]) -> None:
        super().__init__(
            f"no {', '.join(missing)}: install what WordPress needs"
            f" (Debian: apt-get install --no-install-recommends {' '.join(PACKAGES)})"
        )


@dataclass(frozen=True)
class Person:
    """Somebody with an account."""

    login: str
    name: str
    """The name that pages and the REST API show."""
    role: str = "author"


EDITOR = Person("editor", "The editor", "administrator")
AUTHORS = (
    Person("zoe", "Zoë Łukasiewicz"),
    Person("mira", "Mira O'Brien"),
    Person("jun", "jun & ola"),
)


class WordPress:
    """A WordPress with an editor and three authors, while the block lasts. Permalinks are pretty, its clock is not UTC.

    Raises:
        PackagesMissing: on entering, a program or a package is not there.
        MachineError: on entering, MariaDB or PHP ended by itself; the message has the end of its log.
    """

    address: str
    """Address of the home page, without a slash at its end; known once the block is entered."""
    passwords: dict[str, str]
    """Each login's application password, for the REST API by basic authentication."""

    def __enter__(self) -> WordPress:
        missing = _missing()
        if missing:
            raise PackagesMissing(missing)
        with contextlib.ExitStack() as opened:
            # Not below pytest's own folder: the path of a Unix socket has at most 107 characters.
            self._folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="copywatch-wordpress-")))
            self._start(opened)
            self._client = opened.enter_context(httpx.Client(timeout=_PATIENCE_SECONDS))
            self._opened = opened.pop_all()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._opened.close()

    @property
    def requests(self) -> list[str]:
        """Every request so far, in the order that they came: `GET /wp-json/?per_page=100`."""
        return self._log.read_text(encoding="utf-8").splitlines()

    def upload(
        self,
        name: str,
        data: bytes,
        author: str,
        *,
        date: datetime | None = None,
        caption: str | None = None,
        post: int | None = None,
    ) -> dict[str, Any]:
        """Upload a file; the attachment, as its author sees it by the REST API.

        Args:
            name: file name; WordPress makes it unique.
            data: the file's bytes.
            author: login.
            date: aware; what WordPress is to take for the time of the upload, and takes for that of the last change
                too. Without it: now.
            caption: HTML.
            post: id of the author's post that it is attached to; it is listed publicly only while that post is.
        """
        fields = {"caption": caption, "post": post, "date_gmt": date and f"{date.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"}
        given = {field: str(value) for field, value in fields.items() if value is not None}
        return self._call(author, "POST", "media", data=given, files={"file": (name, data)})

    def replace(self, attachment: int, data: bytes) -> dict[str, Any]:
        """Put other bytes at the same address, and the time of the change into `modified`, which counts seconds."""
        self._script("replace.php", str(attachment), given=data)
        return self._call(EDITOR.login, "GET", f"media/{attachment}")

    def delete(self, attachment: int) -> None:
        """Delete an attachment and its files for good."""
        self._call(EDITOR.login, "DELETE", f"media/{attachment}", params={"force": "true"})

    def write_post(
        self, title: str, author: str, *, published: bool = True, images: Iterable[dict[str, Any]] = ()
    ) -> dict[str, Any]:
        """Write a post that shows these attachments; that does not attach them to it."""
        figures = "\n".join(
            f'<!-- wp:image {{"id":{image["id"]}}} --><figure class="wp-block-image">'
            f'<img src="{image["source_url"]}" alt="" class="wp-image-{image["id"]}"/></figure><!-- /wp:image -->'
            for image in images
        )
        body = {"title": title, "content": figures or title, "status": "publish" if published else "draft"}
        return self._call(author, "POST", "posts", json=body)

    def publish(self, post: int) -> None:
        """Show a post, and with it what is attached to it."""
        self._call(EDITOR.login, "POST", f"posts/{post}", json={"status": "publish"})

    def hide(self, post: int) -> None:
        """Make a post a draft again."""
        self._call(EDITOR.login, "POST", f"posts/{post}", json={"status": "draft"})

    def media(self, **parameters: str) -> list[dict[str, Any]]:
        """The attachments that the REST API lists to anybody, all its pages, by id."""
        # By date, its default, uploads of one second change places between two pages: one is on both, one on none.
        given = {"per_page": "100", "orderby": "id", **parameters}
        found: list[dict[str, Any]] = []
        page, pages = 0, 1
        while page < pages:
            page += 1
            answer = self._client.get(self._api("media"), params={**given, "page": str(page)})
            answer.raise_for_status()
            pages = int(answer.headers["X-WP-TotalPages"])
            found += answer.json()
        return found

    def _api(self, path: str) -> str:
        return f"{self.address}/wp-json/wp/v2/{path}"

    def _call(self, login: str, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        auth = (login, self.passwords[login])
        answer = self._client.request(method, self._api(path), auth=auth, **arguments)
        if not answer.is_success:
            raise MachineError(f"{self.address}: {method} {path} by {login}: {answer.status_code} {answer.text[:500]}")
        return dict(answer.json())

    def _start(self, opened: contextlib.ExitStack) -> None:
        (port,) = free_ports(1)
        self.address = f"http://127.0.0.1:{port}"
        self._site, self._log, database = self._folder / "site", self._folder / "requests.log", self._folder / "socket"
        self._log.touch()
        self._environment = {
            "PATH": _PATH,
            "TMPDIR": str(self._folder),
            "WORDPRESS_ADDRESS": self.address,
            "WORDPRESS_DATABASE_SOCKET": str(database),
            "WORDPRESS_LOG": str(self._log),
        }
        user = ["--user=root"] if os.geteuid() == 0 else []
        place = ["--no-defaults", f"--datadir={self._folder / 'database'}", f"--tmpdir={self._folder}", *user]
        # No password: the socket lies in a folder that nobody else can enter.
        self._program("mariadb-install-db", *place, "--skip-test-db", "--auth-root-authentication-method=normal")
        command = ["mariadbd", *place, f"--socket={database}", *_SMALL_DATABASE]
        self._serve(opened, command, socket.AF_UNIX, str(database))
        # A copy, since WordPress looks for its configuration where its files are. Links to /etc lead nowhere.
        shutil.copytree(_SOURCE, self._site, ignore_dangling_symlinks=True)
        shutil.copy(_HERE / "wp-config.php", self._site)
        people = json.dumps([vars(person) for person in (EDITOR, *AUTHORS)])
        self.passwords = json.loads(self._script("install.php", given=people.encode()))
        command = [*_PHP, "-S", f"127.0.0.1:{port}", "-t", str(self._site), str(_HERE / "router.php")]
        # One process: workers of PHP's server would outlive it.
        self._serve(opened, command, socket.AF_INET, ("127.0.0.1", port))

    def _serve(
        self,
        opened: contextlib.ExitStack,
        command: list[str],
        family: socket.AddressFamily,
        address: str | tuple[str, int],
    ) -> None:
        """Start a server, and wait until it takes connections. It ends with `opened`, or with this process."""
        log = self._folder / f"{command[0]}.log"
        with log.open("wb") as file:
            server = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        opened.callback(_end, server)

        def answers() -> bool:
            if server.poll() is not None:
                tail = log.read_text(errors="replace")[-2000:]
                raise MachineError(f"{command[0]} ended by itself (status {server.returncode}):\n{tail}")
            with socket.socket(family) as probe:
                return probe.connect_ex(address) == 0

        wait_until(answers, f"{command[0]} answers", _PATIENCE_SECONDS)

    def _script(self, name: str, *arguments: str, given: bytes) -> bytes:
        return self._program(*_PHP, str(_HERE / name), str(self._site), *arguments, given=given)

    def _program(self, *command: str, given: bytes = b"") -> bytes:
        done = subprocess.run(command, env=self._environment, input=given, capture_output=True, check=False)
        if done.returncode:
            said = (done.stdout + done.stderr).decode(errors="replace")[-2000:]
            raise MachineError(f"{' '.join(command)} failed (status {done.returncode}):\n{said}")
        return done.stdout


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _missing() -> list[str]:
    """What is not there, in words for people."""
    missing = [program for program in _PROGRAMS if shutil.which(program, path=_PATH) is None]
    missing += [str(path) for path in (_SOURCE / "wp-load.php", _THEME) if not path.exists()]
    if "php" not in missing:
        listed = subprocess.run([*_PHP, "-m"], env={"PATH": _PATH}, capture_output=True, text=True, check=True).stdout
        missing += [f"PHP extension {name}" for name in _EXTENSIONS if name not in listed.split()]
    return missing


def main() -> None:
    """Run one with a photo of each author until Ctrl+C."""
    from copywatch.demo.planting import PHOTOS_DIR

    with WordPress() as site, contextlib.suppress(KeyboardInterrupt):
        for author, photo in zip(AUTHORS, sorted(PHOTOS_DIR.glob("*.jpg")), strict=False):
            shown = site.upload(photo.name, photo.read_bytes(), author.login, caption=f"By {author.name}")
            site.write_post(f"A photo by {author.name}", author.login, images=[shown])
        print(f"{site.address}/  the REST API takes {EDITOR.login}:{site.passwords[EDITOR.login]}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
