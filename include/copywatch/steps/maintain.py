"""Keeping the lake small and quick: files compacted, old versions and expired rows removed."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from copywatch.lake import landing
from copywatch.lake.identity import run_key
from copywatch.lake.schemas import SEEN, TABLES
from copywatch.lake.tables import create_tables, open_table
from copywatch.logs import log_context, table
from copywatch.settings import settings

log = logging.getLogger(__name__)

_KEEP_VERSIONS = timedelta(days=7)
_KEEP_LANDING = timedelta(days=7)


def expire_seen(run: str = "") -> int:
    """Delete sightings found different that are older than `seen_days`; returns how many."""
    config = settings()
    create_tables(config.warehouse)
    before = datetime.now(UTC) - timedelta(days=config.seen_days)
    result = open_table(config.warehouse, SEEN).delete(f"crawled_at < '{before:%Y-%m-%dT%H:%M:%SZ}'")
    deleted = int(result.get("num_deleted_rows") or 0)
    with log_context(run=run_key(run)):
        log.info("done\n%s", table([{"before": f"{before:%Y-%m-%d}", "rows deleted": deleted}], title="expired"))
    return deleted


def compact_tables(run: str = "") -> list[dict[str, object]]:
    """Join small files of every table and remove files that no version of the last 7 days needs."""
    config = settings()
    create_tables(config.warehouse)
    rows: list[dict[str, object]] = []
    for one in TABLES.values():
        delta = open_table(config.warehouse, one)
        compacted = delta.optimize.compact()
        removed = delta.vacuum(retention_hours=int(_KEEP_VERSIONS.total_seconds() // 3600), dry_run=False)
        rows.append(
            {
                "table": one.name,
                "files joined": compacted["numFilesRemoved"],
                "into": compacted["numFilesAdded"],
                "files deleted": len(removed),
            }
        )
    with log_context(run=run_key(run)):
        log.info("done\n%s", table(rows, title="compacted"))
    return rows


def clear_landing(run: str = "") -> int:
    """Delete what is left of landing folders that were released more than 7 days ago; returns how many."""
    folder = settings().landing
    old = datetime.now(UTC) - _KEEP_LANDING
    cleared = 0
    for marker in folder.glob(f"*/{landing.RELEASED_FILE}"):
        if datetime.fromtimestamp(marker.stat().st_mtime, UTC) < old:
            landing.forget(folder, marker.parent.name)
            cleared += 1
    with log_context(run=run_key(run)):
        log.info("done\n%s", table([{"runs cleared": cleared}], title="landing"))
    return cleared
