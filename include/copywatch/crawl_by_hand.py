"""A crawl that a person starts from the command line: nothing of it is matched, and the ledger is not changed."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import ValidationError

from copywatch.crawl import crawl, load_crawl_stats
from copywatch.errors import CrawlFailed, SitesFileError
from copywatch.lake import landing as shards
from copywatch.settings import Settings
from copywatch.sites import Site, load_sites, site_of_address

_BUSY = "_run.json"
"""Beside a state file: the run that works on it. It is still there when the run was killed."""


@dataclass(frozen=True)
class CrawledByHand:
    """What a crawl by hand brought.

    Attributes:
        site: name of the site.
        stats: counts, by the names that the command prints.
        items: rows of the landing shards, without the bytes; `outcome` says what became of each.
        error: why the crawl failed as a whole; None: it did not.
    """

    site: str
    stats: dict[str, Any]
    items: list[dict[str, Any]]
    error: str | None


def chosen_site(name: str, config: Settings, sites_file: Path | None, *, internal: bool, source: str | None) -> Site:
    """The site of a name in the sites file, or one made of an address.

    Raises:
        SitesFileError: there is no such site, or the address or the kind of source is none.
    """
    fields: dict[str, object] = {} if source is None else {"kind": source}
    if internal:
        # Nobody else's server: its owner asks for the crawl.
        fields |= {"allow_private_addresses": True, "delay_seconds": 0.0}
    if "://" in name:
        return site_of_address(name, **fields)
    site = load_sites(sites_file or config.sites_file).named([name])[0]
    if internal:
        del fields["delay_seconds"]
    try:
        return Site.model_validate({**site.model_dump(), **fields})
    except ValidationError as error:
        raise SitesFileError("; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())) from error


def crawl_by_hand(
    name: str,
    *,
    config: Settings,
    sites_file: Path | None,
    landing: Path | None,
    state: Path | None,
    scratch: Path,
    internal: bool,
    source: str | None,
    dry_run: bool,
) -> CrawledByHand:
    """Crawl one site.

    Args:
        name: a site of the sites file, or an address.
        config: settings.
        sites_file: the file; None: that of the settings.
        landing: folder that keeps the shards; each crawl is a run of its own in it. None: they are thrown away.
        state: folder that keeps what is known of the site; a crawl that was killed is gone on with. None: the ledger's
            knowledge of a named site, which stays as it is.
        scratch: an empty folder for what is not kept.
        internal: loopback and private addresses may be reached.
        source: kind of source; None: the site's, or what is detected.
        dry_run: fetch no image.

    Raises:
        SitesFileError: there is no such site.
        MachineError: the crawlers are not installed.
        LakeError: the state or the landing folder cannot be used.
    """
    site = chosen_site(name, config, sites_file, internal=internal, source=source)
    folder = landing or scratch / "landing"
    file = (state or scratch) / f"{site.name}.sqlite"
    file.parent.mkdir(parents=True, exist_ok=True)
    busy = file.with_name(f"{site.name}{_BUSY}")
    run = f"by-hand-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    if state is None and "://" not in name:
        _read_ledger(config, site, file)
    resume = _interrupted_run(busy, folder)
    if not dry_run:
        busy.write_text(json.dumps({"run": resume or run}), encoding="utf-8")
    error = None
    run = resume or run
    try:
        stats = crawl(
            site, run=run, landing=folder, state=file, settings=config, resume=resume is not None, dry_run=dry_run
        )
    except CrawlFailed as failure:
        error = failure.reason
        stats = load_crawl_stats(folder.resolve(), run, site.name)
    busy.unlink(missing_ok=True)
    items = _landed(folder, run, site.name)
    said = {
        "source": stats.source,
        "outcome": stats.outcome,
        "requests": stats.requests,
        "images_new": stats.images_fetched + stats.images_repeated,
        "images_known": stats.images_known,
        "images_repeated": stats.images_repeated,
        "rejected": stats.rejected,
        "not_modified": stats.not_modified,
        "bytes": stats.bytes_received,
        "seconds": round(stats.seconds, 3),
        "pages": stats.pages,
        "errors": stats.errors,
        "robots_refused": stats.robots_refused,
    }
    return CrawledByHand(site.name, said, items, error)


def _interrupted_run(busy: Path, landing: Path) -> str | None:
    """The run that was killed while it worked on this state, if its shards are here."""
    try:
        run = json.loads(busy.read_text(encoding="utf-8"))["run"]
        return run if isinstance(run, str) and shards.run_folder(landing, run).exists() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_ledger(config: Settings, site: Site, file: Path) -> None:
    from copywatch.ledger.crawl_state import export_state
    from copywatch.ledger.database import session

    with session() as opened:
        export_state(opened, site.name, file, but_of=None)


def _landed(folder: Path, run: str, site: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for shard in shards.shards(folder, run, site):
        file = pq.ParquetFile(shard)
        columns = [name for name in file.schema_arrow.names if name != "bytes"]
        for batch in file.iter_batches(columns=columns):
            rows += batch.to_pylist()
    for row in rows:
        detail = f" ({row['detail']})" if row["detail"] else ""
        known = "known bytes" if row["sha256"] and row["http_status"] is None else "listed"
        fetched = "fetched" if row["http_status"] is not None else known
        row["outcome"] = f"{row['reason']}{detail}" if row["reason"] else fetched
    return rows
