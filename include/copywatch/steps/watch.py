"""Which sites are due -> crawl each -> (Spark fingerprints and matches) -> alerts and reviews.

SRPITP, section 3, steps (4), (5), (9) and (10).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime

import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy.orm import Session

from copywatch import crawl as crawling
from copywatch.alerts.delivery import send_pending
from copywatch.errors import CrawlFailed, LakeError, Reason
from copywatch.hostile_text import plain
from copywatch.images import image_store
from copywatch.lake import landing
from copywatch.lake.identity import run_key
from copywatch.lake.schemas import DETECTED, MATCHES, REJECTED, SEEN
from copywatch.lake.tables import create_tables, read_table
from copywatch.ledger import crawls
from copywatch.ledger.crawl_state import export_state, forget_bytes, merge_state
from copywatch.ledger.database import session
from copywatch.ledger.evidence import record_matches
from copywatch.logs import log_context, table
from copywatch.settings import settings
from copywatch.sites import load_sites
from copywatch.verification.verdict import Judgement

log = logging.getLogger(__name__)


def pick_sites(chosen: Sequence[str] = (), *, run: str = "") -> list[str]:
    """Names of the sites to crawl: those chosen by a person, blocked or not, else those whose interval is over.

    Raises:
        SitesFileError: the file is wrong, or a chosen site is not in it.
    """
    sites = load_sites(settings().sites_file)
    now = datetime.now(UTC)
    with session() as opened:
        states = crawls.site_states(opened, sites.sites, now)
        picked = sites.named(chosen) if chosen else crawls.due_sites(opened, sites.enabled, now)
    names = [site.name for site in picked]
    rows = [_row_of_site(state) | {"crawl": state.name in names} for state in states]
    with log_context(run=run_key(run)):
        log.info("done\n%s", table(rows, title="sites due" if not chosen else "sites chosen"))
    return names


def _row_of_site(state: crawls.SiteState) -> dict[str, object]:
    return {
        "site": state.name,
        "every": str(state.every),
        "interval": str(state.interval),
        "last crawl": _minute(state.last_started_at),
        "new images": state.new_images_last,
        "next due": _minute(state.next_due_at),
        "state": plain(f"{state.standing}: {state.blocked_why}" if state.blocked_why else state.standing),
    }


def _minute(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def site_address(name: str) -> str:
    """The first start address of a site."""
    return load_sites(settings().sites_file).named([name])[0].start[0]


def crawl_site(name: str, run: str, *, uploaded_since: str | None = None) -> dict[str, object]:
    """Crawl one site for images that no earlier crawl settled; returns the crawl's statistics.

    Args:
        name: the site, as in the sites file.
        run: the run's name.
        uploaded_since: a day such as 2026-11-21; images that pages say are older are left out.

    Raises:
        CrawlFailed: the site could not be crawled.
    """
    config = settings()
    key = run_key(run)
    site = load_sites(config.sites_file).named([name])[0]
    with log_context(run=key, site=name):
        file = landing.state_file(config.landing, key, name)
        resume = landing.is_interrupted(config.landing, key, name)
        with session() as opened:
            crawls.crawl_started(opened, name, key, datetime.now(UTC))
            if not resume:
                export_state(opened, name, file, but_of=key)
        try:
            stats = crawling.crawl(
                site,
                run=key,
                landing=config.landing,
                state=file,
                settings=config,
                resume=resume,
                uploaded_since=date.fromisoformat(uploaded_since) if uploaded_since else None,
            )
        except Exception as failure:
            of_site = isinstance(failure, CrawlFailed)
            error = failure.reason if isinstance(failure, CrawlFailed) else f"{type(failure).__name__}: {failure}"
            with session() as opened:
                crawls.crawl_failed(opened, site, key, datetime.now(UTC), error, of_site=of_site)
            if of_site:
                stats = crawling.load_crawl_stats(config.landing, key, name)
                log.info("failed\n%s", _table_of_crawl(stats))
            raise
        with session() as opened:
            crawls.crawl_finished(
                opened,
                site,
                key,
                datetime.now(UTC),
                new_images=stats.images_fetched + stats.images_repeated,
                saw_all=stats.outcome == "finished" and uploaded_since is None,
                source=stats.source,
            )
        log.info("done\n%s", _table_of_crawl(stats))
    return stats.model_dump(mode="json", exclude={"landing"})


def _table_of_crawl(stats: crawling.CrawlStats) -> str:
    """One line for each figure: side by side they are wider than any screen."""
    rejected = sorted(stats.rejected.items(), key=lambda one: -one[1])
    shown = {
        "outcome": stats.outcome,
        "error": stats.error,
        "source": stats.source,
        "requests": stats.requests,
        "answers 304": stats.not_modified,
        "bytes received": stats.bytes_received,
        "pages": stats.pages,
        "images new": stats.images_fetched,
        "images new at another place": stats.images_repeated,
        "images known": stats.images_known,
        "rejected": sum(stats.rejected.values()),
        **{f"  {plain(reason, 80)}": count for reason, count in rejected},
        "robots refusals": stats.robots_refused,
        "errors": stats.errors,
        "seconds": f"{stats.seconds:.1f}",
    }
    rows = [{"what": what, "figure": value} for what, value in shown.items() if value is not None]
    return table(rows, title=f"crawl of {stats.site}")


def record_findings(run: str) -> dict[str, int]:
    """Put the run's matches before people, note what is settled, and let go of the landing bytes.

    The order makes a death at any line harmless: evidence is kept before the bytes go, and an address is settled only
    when its image is in the lake.
    """
    config = settings()
    key = run_key(run)
    create_tables(config.warehouse)
    found = read_table(config.warehouse, MATCHES, run=key).to_pylist()
    with log_context(run=key):
        data = _landed_bytes(key, {match["sha256"] for match in found})
        with session() as opened:
            recorded = record_matches(opened, found, data, image_store())
            for site in landing.complete_parts(config.landing, key):
                _settle(opened, site, key)
            # Bytes that a source told of by their hash, and that the lake knows no more.
            forget_bytes(opened, read_gone(config.warehouse, key))
        landing.release(config.landing, key)
        counts = {
            "sightings": sum(
                read_table(config.warehouse, one, run=key, columns=["run"]).num_rows for one in (DETECTED, SEEN)
            ),
            "rejected": read_table(config.warehouse, REJECTED, run=key, columns=["run"]).num_rows,
            "matches": len(found),
            **{one.value: sum(match["verification"] == one for match in found) for one in Judgement},
            "new alerts": recorded.alerts,
            "new reviews": recorded.reviews,
        }
        log.info("done\n%s", table([counts], title="what the run found"))
    return counts


def read_gone(warehouse: str, run: str) -> list[str]:
    """SHA-256 of bytes that the run took for known, and that nothing is kept of."""
    rows = read_table(warehouse, REJECTED, run=run, columns=["sha256", "reason"])
    return [row["sha256"] for row in rows.to_pylist() if row["reason"] == Reason.GONE and row["sha256"]]


def _settle(opened: Session, site: str, run: str) -> None:
    """Take over what a crawl that ended, well or not, has learned: what it landed is in the lake now."""
    try:
        merge_state(opened, site, run, landing.state_file(settings().landing, run, site))
    except LakeError as error:
        # The images are in the lake all the same. The next crawl fetches them once more.
        log.error("%s: what its crawl has learned is lost: %s", site, error)


def _landed_bytes(run: str, wanted: set[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for shard in landing.shards(settings().landing, run) if wanted else ():
        fetched = pc.field("sha256").isin(sorted(wanted)) & pc.field("bytes").is_valid()
        rows = pq.read_table(shard, columns=["sha256", "bytes"], filters=fetched)
        found.update(zip(rows.column("sha256").to_pylist(), rows.column("bytes").to_pylist(), strict=True))
    return found


def send_alerts(run: str = "") -> int:
    """Send what is in the outbox; returns how many went out.

    Raises:
        AlertNotSent: some did not; a retry sends what is left.
    """
    with log_context(run=run_key(run)):
        sent = send_pending(session, image_store(), settings())
        rows = [
            {
                "to": one.to,
                "site": one.site,
                "T": one.verdict,
                "distance": f"{one.distance:.4f}",
                "image": one.image_url,
            }
            for one in sent
        ]
        log.info("done\n%s", table(rows, title="alerts sent"))
    return len(sent)
