"""What the crawls of one site remember, as a file that a crawl works on.

The crawl's process reads hostile pages and holds no passwords, so it never sees the ledger: it gets its site's part of
it as an SQLite file (`copywatch.ledger.crawl_state` makes it and takes it back), or keeps one of its own
(`copywatch crawl --state DIR`). The file moves forward only when the landing shard that holds the images is in place,
in one transaction a shard; a crawl that is killed at any moment goes on from there.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from copywatch.errors import LakeError

STATE_FILE = "_state.sqlite"
"""Its name in a part of the landing folder."""

LISTS_MUCH = 8
"""Images and links of a page that is there to list them: what is new appears on such pages first."""

_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ImageState:
    """An image address that is settled: it is fetched again only if it may have changed."""

    url_hash: bytes
    """SHA-256 of the normalised address (`copywatch.crawl.url_hash`)."""

    url: str
    """The address, as it was fetched."""

    page_url: str
    """Page that shows it."""

    sha256: str | None
    """SHA-256 of the bytes, hexadecimal; null: there are none, and a new try would give none either."""

    source_hash: str | None = None
    """What the source says of the bytes, such as `sha1:` and 40 digits: equal ones are equal bytes."""

    version: str | None = None
    """What the source says that changes with the file, such as its date of change: another one means look again."""

    etag: str | None = None
    last_modified: str | None = None
    """The server's validators (RFC 9110, section 8.8), as it sent them."""

    size: int | None = None
    """Bytes; where a server sends no validators, another size tells of another file."""

    checked_at: datetime
    """When it was last fetched, or found unchanged: aware, UTC."""


@dataclass(frozen=True, kw_only=True)
class PageState:
    """A page of the site that is known."""

    url_hash: bytes
    """Like an image's."""

    url: str
    found_on: str
    """Page that links to it."""

    depth: int
    """Links between a start page and it."""

    etag: str | None = None
    last_modified: str | None = None
    digest: bytes | None = None
    """SHA-256 of what it lists (addresses of images and links): decoration that changes with every visit is not in."""

    images: int = 0
    """Images that it shows."""

    links: int = 0
    """Links to pages of the site that it has."""

    visited_at: datetime | None = None
    """When it was last read, aware, UTC; null: it was found, and not read yet."""

    changed_at: datetime | None = None
    """When it was last read and listed something else than before."""


@dataclass(frozen=True, kw_only=True)
class RobotsState:
    """A robots.txt as it was last read: it may be kept for a day (RFC 9309, section 2.4)."""

    origin: str
    """Scheme, host and port."""

    fetched_at: datetime
    status: int
    body: bytes


_TABLES: dict[str, type[Any]] = {"images": ImageState, "pages": PageState, "robots": RobotsState}
_KEYS = {"images": "url_hash", "pages": "url_hash", "robots": "origin"}
_TIMES = {"checked_at", "visited_at", "changed_at", "fetched_at"}


def _columns(table: str) -> list[str]:
    return [field.name for field in fields(_TABLES[table])]


class StateFile:
    """The memory of one site's crawls. Rows that this crawl wrote are marked (`changed`), so that they can be merged
    into the ledger.

    Raises:
        LakeError: from each method: the file is damaged, or another process holds it, or it is a later version's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> StateFile:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=30)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise LakeError(f"{self.path}: is of version {version}, this Copywatch knows {_VERSION}; upgrade it")
            self._db.execute("PRAGMA journal_mode = WAL")
            for table in _TABLES:
                columns = ", ".join(f"{name} PRIMARY KEY" if name == _KEYS[table] else name for name in _columns(table))
                self._db.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns}, changed INTEGER) WITHOUT ROWID")
            self._db.execute("CREATE INDEX IF NOT EXISTS images_source_hash ON images (source_hash)")
            self._db.execute("CREATE INDEX IF NOT EXISTS images_page_url ON images (page_url)")
            self._db.execute("CREATE TABLE IF NOT EXISTS notes (name PRIMARY KEY, value TEXT, changed INTEGER)")
            self._db.execute(f"PRAGMA user_version = {_VERSION}")
        except (sqlite3.Error, OSError) as error:
            raise self._damaged(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._db.close()

    def _damaged(self, error: Exception) -> LakeError:
        return LakeError(f"{self.path}: the crawl's state cannot be used ({error}); delete the file to begin anew")

    # --- reading ---

    def image(self, url_hash: bytes) -> ImageState | None:
        """What is known of an image address."""
        found: ImageState | None = self._one("images", "url_hash = ?", url_hash)
        return found

    def image_of_source_hash(self, source_hash: str) -> ImageState | None:
        """An image whose bytes are, as the source says, these; one that has bytes."""
        found: ImageState | None = self._one("images", "source_hash = ? AND sha256 IS NOT NULL", source_hash)
        return found

    def page(self, url_hash: bytes) -> PageState | None:
        """What is known of a page."""
        found: PageState | None = self._one("pages", "url_hash = ?", url_hash)
        return found

    def robots(self, origin: str) -> RobotsState | None:
        """The robots.txt of an origin."""
        found: RobotsState | None = self._one("robots", "origin = ?", origin)
        return found

    def note(self, name: str) -> Any:
        """A value that a source remembers by name, such as its cursor; None: nothing."""
        try:
            row = self._db.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
            return None if row is None else json.loads(row[0])
        except (sqlite3.Error, ValueError) as error:
            raise self._damaged(error) from error

    def counts(self) -> tuple[int, int]:
        """Images and pages that are known."""
        try:
            query = "SELECT (SELECT count(*) FROM images), (SELECT count(*) FROM pages)"
            images, pages = self._db.execute(query).fetchone()
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        return images, pages

    def images_on(self, page_url: str) -> int:
        """How many known images a page is the one that shows them."""
        try:
            row = self._db.execute("SELECT count(*) FROM images WHERE page_url = ?", (page_url,)).fetchone()
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        return int(row[0])

    def images_to_check(self, most: int) -> list[ImageState]:
        """The images that were not looked at for longest, of those that have bytes."""
        return list(self._rows("images", "sha256 IS NOT NULL ORDER BY checked_at, url_hash LIMIT ?", most))

    def pages_not_read(self, most: int) -> list[PageState]:
        """Pages that were found and not read yet, those near the start first."""
        return list(self._rows("pages", "visited_at IS NULL ORDER BY depth, url LIMIT ?", most))

    def pages_to_visit(self, most: int) -> list[PageState]:
        """Pages read before, in the order in which a visit may pay: those that list much, then the oldest.

        A page that lists is one with `LISTS_MUCH` images and links or more.
        """
        listing_first = "links > 0 AND images + links >= ? DESC, visited_at, depth, url"
        return list(self._rows("pages", f"visited_at IS NOT NULL ORDER BY {listing_first} LIMIT ?", LISTS_MUCH, most))

    def changed(self, table: str) -> Iterator[Any]:
        """Rows of `images`, `pages` or `robots` that this crawl wrote."""
        return self._rows(table, "changed = 1")

    def changed_notes(self) -> dict[str, Any]:
        """The notes that this crawl wrote."""
        try:
            rows = self._db.execute("SELECT name, value FROM notes WHERE changed = 1").fetchall()
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        return {name: json.loads(value) for name, value in rows}

    def _one(self, table: str, where: str, *values: object) -> Any:
        return next(self._rows(table, f"{where} LIMIT 1", *values), None)

    def _rows(self, table: str, where: str, *values: object) -> Iterator[Any]:
        names = _columns(table)
        try:
            for row in self._db.execute(f"SELECT {', '.join(names)} FROM {table} WHERE {where}", values):  # noqa: S608
                given = dict(zip(names, row, strict=True))
                for name in _TIMES & given.keys():
                    if given[name] is not None:
                        given[name] = datetime.fromisoformat(given[name])
                yield _TABLES[table](**given)
        except (sqlite3.Error, ValueError) as error:
            raise self._damaged(error) from error

    # --- writing ---

    def commit(
        self,
        *,
        images: Iterable[ImageState] = (),
        pages: Iterable[PageState] = (),
        robots: Iterable[RobotsState] = (),
        notes: Mapping[str, object] | None = None,
        changed: bool = True,
    ) -> None:
        """Write rows, all or none; those known already are replaced.

        `changed`: these are this crawl's own, not what an earlier one left.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for table, rows in (("images", images), ("pages", pages), ("robots", robots)):
                names = _columns(table)
                marks = ", ".join("?" * (len(names) + 1))
                statement = f"INSERT OR REPLACE INTO {table} VALUES ({marks})"  # noqa: S608
                # Not by `astuple`, which copies each value deeply.
                values = ((*(_stored(getattr(row, name)) for name in names), int(changed)) for row in rows)
                self._db.executemany(statement, values)
            for name, value in (notes or {}).items():
                note = (name, json.dumps(value), int(changed))
                self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", note)
            self._db.execute("COMMIT")
        except (sqlite3.Error, TypeError, ValueError) as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise self._damaged(error) from error


def _stored(value: object) -> object:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
