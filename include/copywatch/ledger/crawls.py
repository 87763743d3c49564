"""Which sites are due, how far their crawls have come, and how often they are worth a visit.

Interval
    A site is crawled every `every` at first. With `every_at_most` set, each crawl adapts the interval: one that found
    new images halves it, one that found none lengthens it by half, between the two bounds. It is the rule of Apache
    Nutch's `AdaptiveFetchSchedule` (a step on each outcome, between a least and a greatest interval) with a faster way
    back, since a copy that is found late costs more than a crawl that finds nothing. Why it suits: changes of web pages
    come about as a Poisson process (Cho and Garcia-Molina, "Estimating frequency of change", ACM TOIT 3(3), 2003,
    section 2), and its rate is not known beforehand and drifts, so that a rule without memory does. The interval
    settles where steps up and down weigh the same: new images are found by a share p of the crawls with
    p ln 2 = (1 - p) ln 1.5, so p = 0.369. With new images at a rate of r, a crawl after I finds some with
    1 - exp(-r I) = p, so I = 0.46 / r: about two crawls in the time between two uploads.

Circuit breaker
    A site that fails as a whole `FAILURES_TO_BLOCK` times in a row is left alone, for its interval times 2, 4, 8 and so
    on, at most `LONGEST_BLOCK`; then it is tried once. It is well again with the first crawl that does not fail (the
    pattern of Nygard, "Release It!", chapter 5). A person who names the site crawls it at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from copywatch.ledger.models import CrawlCursor
from copywatch.sites import Site

LONGER = 1.5
"""A crawl that found nothing new lengthens the interval by this."""
SHORTER = 0.5
"""A crawl that found something shortens it by this."""
FAILURES_TO_BLOCK = 3
"""Failures in a row after which a site is left alone."""
LONGEST_BLOCK = timedelta(days=7)
"""For so long at most."""

_SLACK = 0.05
"""A run that starts a little early still takes the sites that are due with it: share of the site's `every`."""
_TELLING = 0.5
"""A crawl adapts the interval if this share of it is over since the last one that did: neither a task that runs twice,
nor somebody who starts a crawl by hand, says how often new images come."""


class Standing(StrEnum):
    """Where a site stands."""

    OFF = "off"
    """`enabled: false`."""
    DUE = "due"
    """The next run crawls it."""
    WAITING = "waiting"
    """Its interval is not over."""
    BLOCKED = "blocked"
    """It failed too often, and is left alone."""
    ON_TRIAL = "on trial"
    """It was left alone; the next crawl decides."""


@dataclass(frozen=True)
class SiteState:
    """What the ledger says of a site; times are aware.

    Attributes:
        name: as in the sites file.
        kind: likewise.
        source: kind of source that the last crawl read; None: it did not say.
        standing: whether it is crawled next, and why not.
        last_started_at: begin of the last crawl; None: there was none.
        last_finished_at: end of the last one that did not fail.
        last_error: why the last one failed; None: it did not.
        new_images_last: images that were new to the last one that did not fail.
        every: the least interval, of the sites file.
        interval: the adapted one.
        next_due_at: from then on it is due; None: at once, or never, if it is switched off.
        failures: in a row.
        blocked_until: when it is tried again; None: it is not blocked.
        blocked_why: the reason, in a sentence.
    """

    name: str
    kind: str
    source: str | None
    standing: Standing
    last_started_at: datetime | None
    last_finished_at: datetime | None
    last_error: str | None
    new_images_last: int | None
    every: timedelta
    interval: timedelta
    next_due_at: datetime | None
    failures: int
    blocked_until: datetime | None
    blocked_why: str | None


def site_states(session: Session, sites: Sequence[Site], now: datetime | None = None) -> list[SiteState]:
    """Where each site stands, in the order given."""
    cursors = {cursor.site: cursor for cursor in session.scalars(select(CrawlCursor))}
    return [_state(site, cursors.get(site.name) or _never_crawled(site), now or datetime.now(UTC)) for site in sites]


def due_sites(session: Session, sites: Sequence[Site], now: datetime) -> list[Site]:
    """Sites whose interval is over since their last crawl began, and that are not left alone for their failures."""
    going = (Standing.DUE, Standing.ON_TRIAL)
    return [site for site, at in zip(sites, site_states(session, sites, now), strict=True) if at.standing in going]


def _never_crawled(site: Site) -> CrawlCursor:
    return CrawlCursor(site=site.name, failures=0)


def _state(site: Site, cursor: CrawlCursor, now: datetime) -> SiteState:
    interval = _interval(site, cursor)
    times = [cursor.last_started_at + interval] if cursor.last_started_at else []
    next_due = max([*times, cursor.blocked_until] if cursor.blocked_until else times, default=None)
    due = next_due is None or now >= next_due - site.every * _SLACK
    if not site.enabled:
        standing = Standing.OFF
    elif cursor.blocked_until is not None:
        standing = Standing.ON_TRIAL if due else Standing.BLOCKED
    else:
        standing = Standing.DUE if due else Standing.WAITING
    return SiteState(
        name=site.name,
        kind=site.kind,
        source=cursor.source,
        standing=standing,
        last_started_at=cursor.last_started_at,
        last_finished_at=cursor.last_finished_at,
        last_error=cursor.last_error,
        new_images_last=cursor.new_images_last,
        every=site.every,
        interval=interval,
        next_due_at=next_due if site.enabled else None,
        failures=cursor.failures,
        blocked_until=cursor.blocked_until,
        blocked_why=cursor.blocked_why,
    )


def _interval(site: Site, cursor: CrawlCursor) -> timedelta:
    """The adapted interval, within the bounds that the sites file has now."""
    adapted = site.every if cursor.interval_seconds is None else timedelta(seconds=cursor.interval_seconds)
    return min(max(adapted, site.every), site.every_at_most or site.every)


def crawl_started(session: Session, site: str, run: str, at: datetime) -> None:
    """Note that a crawl began: from now on the site is not due until its interval is over."""
    values = {"last_started_at": at, "last_run": run}
    session.execute(
        insert(CrawlCursor).values(site=site, **values).on_conflict_do_update(index_elements=["site"], set_=values)
    )


def crawl_finished(
    session: Session, site: Site, run: str, at: datetime, *, new_images: int, saw_all: bool, source: str | None = None
) -> None:
    """Note that a crawl ended well: its site is not blocked, and its interval is adapted.

    Args:
        session: an open transaction.
        site: the site.
        run: the run.
        at: the end of the crawl.
        new_images: images that were new to it.
        saw_all: it would have found all that is new. One that ended at a bound and found nothing does not say that
            there was nothing.
        source: kind of source that it read.
    """
    cursor = _cursor(session, site, run)
    cursor.last_error, cursor.last_finished_at = None, at
    cursor.failures, cursor.blocked_until, cursor.blocked_why = 0, None, None
    cursor.new_images_last, cursor.source = new_images, source
    if saw_all or new_images:
        _adapt(site, cursor, bool(new_images), cursor.last_started_at or at)


def _adapt(site: Site, cursor: CrawlCursor, found: bool, started: datetime) -> None:
    interval = _interval(site, cursor)
    if cursor.adapted_at is not None and started - cursor.adapted_at < interval * _TELLING:
        return
    # A site's first crawl finds all that was ever put there, which says nothing of how often something is.
    step = 1.0 if cursor.adapted_at is None else SHORTER if found else LONGER
    cursor.adapted_at = started
    cursor.interval_seconds = interval.total_seconds() * step
    cursor.interval_seconds = _interval(site, cursor).total_seconds()


def crawl_failed(session: Session, site: Site, run: str, at: datetime, error: str, *, of_site: bool) -> None:
    """Note that a crawl failed.

    Args:
        session: an open transaction.
        site: the site.
        run: the run.
        at: when.
        error: why, in a sentence.
        of_site: the site as a whole could not be crawled: too often in a row, and it is left alone. False: the trouble
            is this machine's.
    """
    cursor = _cursor(session, site, run)
    cursor.last_error = error
    if not of_site:
        return
    cursor.failures += 1
    if cursor.failures >= FAILURES_TO_BLOCK:
        # Bounded before it is a timedelta, which has an end.
        seconds = _interval(site, cursor).total_seconds() * 2.0 ** min(cursor.failures - FAILURES_TO_BLOCK + 1, 64)
        cursor.blocked_until = at + timedelta(seconds=min(seconds, LONGEST_BLOCK.total_seconds()))
        cursor.blocked_why = f"failed {cursor.failures} times in a row, the last time with: {error}"


def _cursor(session: Session, site: Site, run: str) -> CrawlCursor:
    """The site's cursor, held against other writers until the transaction ends."""
    values = {"last_run": run}
    return session.scalars(
        insert(CrawlCursor)
        .values(site=site.name, **values)
        .on_conflict_do_update(index_elements=["site"], set_=values)
        .returning(CrawlCursor),
        execution_options={"populate_existing": True},
    ).one()
