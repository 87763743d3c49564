"""Which sites are due -> crawl each -> (Spark fingerprints and matches) -> alerts and reviews.

SRPITP, section 3, steps (4), (5), (9) and (10).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime

import pyarrow.compute as pc
import pyarrow.parquet as pq

from copywatch import crawl as crawling
from copywatch.alerts.delivery import send_pending
from copywatch.errors import CrawlFailed
from copywatch.images import image_store
from copywatch.lake import landing
from copywatch.lake.identity import run_key
from copywatch.lake.schemas import DETECTED, MATCHES, REJECTED, SEEN
from copywatch.lake.tables import create_tables, read_table
from copywatch.ledger import crawls
from copywatch.ledger.database import session
from copywatch.ledger.evidence import record_matches
from copywatch.logs import log_context, table
from copywatch.settings import settings
from copywatch.sites import load_sites
from copywatch.verification.verdict import Judgement

log = logging.getLogger(__name__)


def pick_sites(chosen: Sequence[str] = (), *, run: str = "") -> list[str]:
    """Names of the sites to crawl: those chosen by a person, else those whose interval is over.

    Raises:
        SitesFileError: the file is wrong, or a chosen site is not in it.
    """
    sites = load_sites(settings().sites_file)
    with session() as opened:
        due = crawls.due_sites(opened, sites.enabled, datetime.now(UTC))
    picked = sites.named(chosen) if chosen else due
    names = [site.name for site in picked]
    rows = [{"site": site.name, "every": str(site.every), "crawl": site.name in names} for site in sites.sites]
    with log_context(run=run_key(run)):
        log.info("done\n%s", table(rows, title="sites due" if not chosen else "sites chosen"))
    return names


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
        with session() as opened:
            crawls.crawl_started(opened, name, key, datetime.now(UTC))
            known = crawls.known_hashes(opened, name, but_of=key)
        try:
            stats = crawling.crawl(
                site,
                run=key,
                landing=config.landing,
                known_hashes=known,
                settings=config,
                uploaded_since=date.fromisoformat(uploaded_since) if uploaded_since else None,
            )
        except Exception as failure:
            error = failure.reason if isinstance(failure, CrawlFailed) else f"{type(failure).__name__}: {failure}"
            with session() as opened:
                crawls.crawl_finished(opened, name, key, datetime.now(UTC), error)
            if isinstance(failure, CrawlFailed):
                stats = crawling.load_crawl_stats(config.landing, key, name)
                log.info("failed\n%s", _table_of_crawl(stats))
            raise
        with session() as opened:
            crawls.crawl_finished(opened, name, key, datetime.now(UTC), None)
        log.info("done\n%s", _table_of_crawl(stats))
    return stats.model_dump(mode="json", exclude={"landing"})


def _table_of_crawl(stats: crawling.CrawlStats) -> str:
    shown = stats.model_dump(mode="json", exclude={"landing", "run", "started_at", "finished_at"}, exclude_none=True)
    return table([shown], title=f"crawl of {stats.site}")


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
                crawls.settle_images(opened, site, key, landing.settled_hashes(config.landing, key, site))
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


def _landed_bytes(run: str, wanted: set[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for shard in landing.shards(settings().landing, run) if wanted else ():
        rows = pq.read_table(shard, columns=["sha256", "bytes"], filters=pc.field("sha256").isin(sorted(wanted)))
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
