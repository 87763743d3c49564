"""Which sites are due, what of them is known, and how far their crawls have come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from copywatch.ledger.models import CrawlCursor, CrawledImage
from copywatch.sites import Site

_INSERT_ROWS = 5000
_SLACK = 0.05
"""A run that starts a little early still takes the sites that are due with it: share of the interval."""


def due_sites(session: Session, sites: Sequence[Site], now: datetime) -> list[Site]:
    """Sites whose interval is over since their last crawl began; a site that failed is due again at its interval."""
    started = {cursor.site: cursor.last_started_at for cursor in session.scalars(select(CrawlCursor))}
    return [
        site
        for site in sites
        if site.enabled and ((last := started.get(site.name)) is None or now - last >= site.every * (1 - _SLACK))
    ]


def known_hashes(session: Session, site: str, *, but_of: str | None = None) -> set[str]:
    """SHA-256, hexadecimal, of the normalised image addresses that earlier crawls of `site` settled.

    Those that the run `but_of` settled itself are left out: its crawl, run again, must land all of the run's images,
    since they replace all of the run's rows.
    """
    query = select(CrawledImage.url_hash).where(CrawledImage.site == site)
    if but_of is not None:
        query = query.where(CrawledImage.run != but_of)
    return {row.hex() for row in session.scalars(query)}


def crawl_started(session: Session, site: str, run: str, at: datetime) -> None:
    """Note that a crawl began: from now on the site is not due until its interval is over."""
    values = {"last_started_at": at, "last_run": run}
    session.execute(
        insert(CrawlCursor).values(site=site, **values).on_conflict_do_update(index_elements=["site"], set_=values)
    )


def crawl_finished(session: Session, site: str, run: str, at: datetime, error: str | None) -> None:
    """Note how a crawl ended."""
    values: dict[str, object] = {"last_run": run, "last_error": error}
    if error is None:
        values["last_finished_at"] = at
    session.execute(
        insert(CrawlCursor).values(site=site, **values).on_conflict_do_update(index_elements=["site"], set_=values)
    )


def settle_images(session: Session, site: str, run: str, hashes: Iterable[str]) -> int:
    """Note image addresses as settled; those known already are left. Returns how many were new."""
    rows = [{"site": site, "url_hash": bytes.fromhex(digest), "run": run} for digest in sorted(set(hashes))]
    added = 0
    for begin in range(0, len(rows), _INSERT_ROWS):
        statement = insert(CrawledImage).values(rows[begin : begin + _INSERT_ROWS]).on_conflict_do_nothing()
        added += len(session.scalars(statement.returning(CrawledImage.url_hash)).all())
    return added
