"""Fetching images again from where a crawl found them, for evidence.

Of a sighting that was found different no bytes are kept. When an image that is registered later turns out to be its
original, the owner should see what was found, so it is fetched once more: by the crawlers, in a process without
secrets, with the manners and bounds of a crawl. What comes is evidence only if it is the very file that was crawled.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from copywatch.crawl import crawl
from copywatch.errors import CrawlFailed
from copywatch.hostile_text import plain
from copywatch.lake import landing
from copywatch.logs import log_context, table
from copywatch.settings import Settings
from copywatch.sites import Site, load_sites

log = logging.getLogger(__name__)

_TIME_OUTS = 5
"""A site may take so many time-outs beside what its images take: for robots.txt, and for trying again."""
_LOGGED_ROWS = 200
_ADDRESS_CHARACTERS = 120

_SAME = "the same file"
_CHANGED = "another file"
_COLUMNS = ["image_url", "reason", "detail", "bytes"]


@dataclass(frozen=True)
class Wanted:
    """An image that was crawled once.

    Attributes:
        site: name of the site, as in `sites.yaml`.
        image_url: the address that it was fetched from.
        sha256: of its bytes then, hexadecimal.
    """

    site: str
    image_url: str
    sha256: str


def refetch(wanted: Sequence[Wanted], config: Settings) -> dict[str, bytes]:
    """Fetch images again, site by site, and keep those that are still the same file.

    A site that is no longer in the sites file, or is switched off there, is not asked. Whatever a site does, the others
    are asked as well, and what it did is in the log's table. All that is returned is in memory at once: at most
    `max_image_bytes` for each different file that is wanted, so ask for many in several calls.

    Args:
        wanted: the images; each address is asked for once, however often it is named.
        config: time-outs, size bounds, the sites file, and the landing folder, which the bytes pass through.

    Returns:
        The bytes of the images that came back, by SHA-256.

    Raises:
        SitesFileError: the sites file is missing or wrong.
        MachineError: the crawlers are not installed beside this package.
    """
    if not wanted:
        return {}
    sites = {site.name: site for site in load_sites(config.sites_file).enabled}
    found: dict[str, bytes] = {}
    rows: list[dict[str, object]] = []
    for name in sorted({one.site for one in wanted}):
        expected: dict[str, set[str]] = {}
        for one in wanted:
            if one.site == name:
                expected.setdefault(one.image_url, set()).add(one.sha256)
        outcomes = _fetched(sites[name], expected, config, found) if name in sites else {}
        otherwise = "no answer in the time that the site may take" if name in sites else "the site is not watched now"
        rows += [
            {
                "site": plain(name, 63),
                "image": plain(address, _ADDRESS_CHARACTERS),
                "outcome": outcomes.get(address, otherwise),
            }
            for address in expected
        ]
    left_out = f", the first {_LOGGED_ROWS}" if len(rows) > _LOGGED_ROWS else ""
    same = sum(row["outcome"] == _SAME for row in rows)
    log.info(
        "done\n%s",
        table(
            rows[:_LOGGED_ROWS], title=f"fetched again: {same} of {len(rows)} addresses have the same file{left_out}"
        ),
    )
    return found


def _fetched(site: Site, expected: Mapping[str, set[str]], config: Settings, found: dict[str, bytes]) -> dict[str, str]:
    """Ask one site; what is as expected is added to `found`. Returns what became of each address."""
    run = f"again-{uuid.uuid4().hex}"
    each = config.crawl_timeout_seconds + site.delay_seconds
    seconds = min(config.crawl_site_seconds, _TIME_OUTS * config.crawl_timeout_seconds + each * len(expected))
    outcomes: dict[str, str] = {}
    # Released before it begins: what a death leaves behind, maintain_lake clears away.
    landing.release(config.landing, run)
    try:
        trouble = _crawled(site, run, list(expected), config.model_copy(update={"crawl_site_seconds": seconds}))
        for row in _landed(config, run, site.name):
            address = str(row["image_url"])
            if row["bytes"] is None:
                outcomes[address] = plain(f"{row['reason']} ({row['detail']})" if row["detail"] else row["reason"])
                continue
            sha256 = hashlib.sha256(row["bytes"]).hexdigest()
            if sha256 in expected.get(address, ()):
                found[sha256] = row["bytes"]
                outcomes[address] = _SAME
            else:
                outcomes[address] = _CHANGED
    finally:
        landing.forget(config.landing, run)
    if trouble:
        outcomes |= {address: plain(trouble) for address in expected if address not in outcomes}
    return outcomes


def _crawled(site: Site, run: str, addresses: list[str], config: Settings) -> str | None:
    """Run the child process; returns why it failed as a whole, if it did. What it had landed by then counts."""
    try:
        with log_context(site=site.name):
            state = landing.state_file(config.landing, run, site.name)
            crawl(site, run=run, landing=config.landing, state=state, settings=config, only_images=addresses)
    except CrawlFailed as failure:
        return failure.reason
    return None


def _landed(config: Settings, run: str, site: str) -> Iterator[dict[str, Any]]:
    for shard in landing.shards(config.landing, run, site):
        for batch in pq.ParquetFile(shard).iter_batches(batch_size=16, columns=_COLUMNS):
            yield from batch.to_pylist()
