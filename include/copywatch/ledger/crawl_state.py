"""What the crawls of a site remember, between the ledger and the file that a crawl works on.

The ledger's rows go out before a crawl and what it changed comes back when its images are in the lake, so a crawl
without a password moves nothing that is not safe.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Table, case, cast, delete, func, literal, not_, or_, select, true
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from copywatch.crawl import normal_url, url_hash
from copywatch.crawl_state import ImageState, PageState, RobotsState, StateFile
from copywatch.errors import LakeError
from copywatch.ledger.models import Base, CrawledImage, CrawledPage, CrawledRobots, CrawlNote

log = logging.getLogger(__name__)

_ROWS = 5000
_LONGEST_KEY = 1000
"""Bytes of an origin or a note's name; PostgreSQL's indexes take at most 2,704."""


def export_state(session: Session, site: str, path: Path, *, but_of: str | None = None) -> None:
    """Write all that is known of a site into a new `StateFile` at `path`, in place of one that is there.

    What the run `but_of` wrote itself is left out: its crawl, run again from the beginning, must land all of the run's
    images, since they replace all of the run's rows. The images it settled are new again. Pages that it read, or that
    show those images, are known, but not as read: they, or a later crawl's cursor, would say that there is nothing new.

    The file appears whole or not at all.

    Args:
        session: an open transaction.
        site: name of the site.
        path: where the file shall be.
        but_of: a run.

    Raises:
        LakeError: the file cannot be written.
    """
    new = path.with_name(f".{path.name}.new")
    shown_on = _shown_on(session, site, but_of)
    try:
        _remove(new)
        with StateFile(new) as state:
            state.commit(
                images=_images(session, site, but_of),
                pages=_pages(session, site, but_of, shown_on),
                robots=_rows(session, CrawledRobots, RobotsState, CrawledRobots.site == site),
                notes=_notes(session, site, but_of, shown_on),
                changed=False,
            )
        _remove(path)
        new.replace(path)
    except OSError as error:
        raise LakeError(f"{path}: the crawl's state cannot be put there: {error}") from error


def _remove(path: Path) -> None:
    # SQLite keeps what is not yet in the file itself beside it; the next file of this name must not find that.
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _rows(session: Session, model: type[Base], state: type[Any], *conditions: ColumnElement[bool]) -> Iterator[Any]:
    names = [field.name for field in fields(state)]
    query = select(*(getattr(model, name) for name in names)).where(*conditions)
    for row in session.execute(query, execution_options={"yield_per": _ROWS}):
        yield state(**row._mapping)


def _images(session: Session, site: str, but_of: str | None) -> Iterator[ImageState]:
    not_its_own = () if but_of is None else (CrawledImage.run != but_of,)
    return _rows(session, CrawledImage, ImageState, CrawledImage.site == site, *not_its_own)


def _shown_on(session: Session, site: str, run: str | None) -> set[bytes]:
    """Hashes of the pages that show what the run settled; empty: it settled nothing, or there is no such run."""
    query = select(CrawledImage.page_url).where(CrawledImage.site == site, CrawledImage.run == run).distinct()
    return {_hash(address) for address in session.scalars(query)}


def _hash(address: str) -> bytes:
    try:
        return bytes.fromhex(url_hash(normal_url(address)))
    except ValueError:
        return bytes.fromhex(url_hash(address))


def _pages(session: Session, site: str, but_of: str | None, shown_on: set[bytes]) -> Iterator[PageState]:
    of_site, show_them = CrawledPage.site == site, CrawledPage.url_hash.in_(shown_on)
    known = session.scalar(select(func.count()).select_from(CrawledPage).where(of_site, show_them))
    # Not all are known where listings or redirects led to them: then any page may be the one.
    to_read = or_(CrawledPage.run == but_of, show_them) if known == len(shown_on) else true()
    for page in _rows(session, CrawledPage, PageState, of_site, not_(to_read)):
        yield replace(page, etag=None, last_modified=None, digest=None) if shown_on else page
    for page in _rows(session, CrawledPage, PageState, of_site, to_read):
        yield replace(page, etag=None, last_modified=None, digest=None, visited_at=None)


def _notes(session: Session, site: str, but_of: str | None, shown_on: set[bytes]) -> dict[str, Any]:
    if shown_on:
        return {}
    notes = session.scalars(select(CrawlNote).where(CrawlNote.site == site))
    return {note.name: note.value for note in notes if note.run != but_of}


def merge_state(session: Session, site: str, run: str, path: Path) -> int:
    """Take over what a crawl changed in its file; returns how many image addresses it had settled or checked.

    All or nothing, and within the transaction of `session`: nothing is settled before that is committed. Calling it
    again changes nothing. Rows that a later crawl wrote meanwhile stay as they are.

    Args:
        session: an open transaction.
        site: name of the site.
        run: the run that the crawl was of.
        path: its state file; if there is none (the run was released, or is from before there were such files), nothing
            is done.

    Raises:
        LakeError: the file is damaged, or holds what no crawl writes; the transaction may go on without it.
    """
    if not path.exists():
        return 0
    try:
        with session.begin_nested(), StateFile(path) as state:
            images = _merge(session, CrawledImage, state.changed("images"), _image_update, site=site, run=run)
            _merge(session, CrawledPage, state.changed("pages"), _page_update, site=site, run=run)
            robots = (row for row in state.changed("robots") if _fits(site, row.origin))
            _merge(session, CrawledRobots, robots, _robots_update, site=site)
            for name, value in state.changed_notes().items():
                if _fits(site, name):
                    _put_note(session, site, name, value, run)
    except (DataError, IntegrityError) as error:
        raise LakeError(f"{path}: holds what no crawl writes ({error.orig}); it is left out") from error
    return images


def forget_bytes(session: Session, sha256s: Iterable[str]) -> int:
    """Forget all addresses of these bytes: whatever is seen there is fetched again. Returns how many there were."""
    wanted = sorted(set(sha256s))
    done = session.execute(delete(CrawledImage).where(CrawledImage.sha256.in_(wanted)).returning(CrawledImage.url_hash))
    return len(done.all())


def _fits(site: str, key: str) -> bool:
    fits = len(key.encode("utf-8", "replace")) <= _LONGEST_KEY
    if not fits:
        log.warning("state of %s: %.100s… is too long a name to be remembered", site, key)
    return fits


def _put_note(session: Session, site: str, name: str, value: object, run: str) -> None:
    statement = insert(CrawlNote).values(site=site, name=_storable(name), value=value, run=run)
    session.execute(statement.on_conflict_do_update(index_elements=["site", "name"], set_={"value": value, "run": run}))


def _storable(value: object) -> object:
    # PostgreSQL takes no NUL; a validator without it matches nothing, and so costs a download at most.
    return value.replace("\x00", "") if isinstance(value, str) else value


def _merge(session: Session, model: type[Base], rows: Iterator[Any], update: Any, **beside: str) -> int:
    """Upsert rows in batches, each row with the values `beside`; returns how many there were."""
    stored: Table = model.__table__  # type: ignore[assignment]
    keys = [column.name for column in stored.primary_key]
    count = 0
    while batch := list(islice(rows, _ROWS)):
        names = [field.name for field in fields(batch[0])]
        # A column is an array: sent row by row, an upsert takes more than twice as long.
        columns = [cast([_storable(getattr(row, name)) for row in batch], ARRAY(stored.c[name].type)) for name in names]
        given = func.unnest(*columns).table_valued(*names).render_derived()
        statement = insert(stored).from_select(
            [*names, *beside], select(*given.c, *(literal(value) for value in beside.values()))
        )
        newer, values = update(stored.c, statement.excluded)
        every = {name: statement.excluded[name] for name in (*names, *beside) if name not in keys}
        session.execute(statement.on_conflict_do_update(index_elements=keys, set_=every | values, where=newer))
        count += len(batch)
    return count


def _image_update(stored: Any, given: Any) -> tuple[ColumnElement[bool], Mapping[str, ColumnElement[Any]]]:
    """An image belongs to the run that landed its bytes, not to one that only found it unchanged."""
    landed = stored.sha256.is_distinct_from(given.sha256)
    return given.checked_at >= stored.checked_at, {
        "run": case((landed, given.run), else_=stored.run),
        "settled_at": case((landed, func.now()), else_=stored.settled_at),
    }


def _page_update(stored: Any, given: Any) -> tuple[ColumnElement[bool], Mapping[str, ColumnElement[Any]]]:
    """One that is to be read again is given without the time of a visit."""
    return or_(stored.visited_at.is_(None), given.visited_at.is_(None), given.visited_at >= stored.visited_at), {}


def _robots_update(stored: Any, given: Any) -> tuple[ColumnElement[bool], Mapping[str, ColumnElement[Any]]]:
    return given.fetched_at >= stored.fetched_at, {}
