"""What a crawl counts, and what it comes to in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from crawlers.failures import Refusal
from crawlers.items import now

FINISHED = "finished"
TIMED_OUT = "closespider_timeout"
"""Scrapy's own reasons for the end of a spider."""

COUNTS = (
    "pages",
    "pages_failed",
    "images_found",
    "images_known",
    "images_fetched",
    "images_failed",
    "images_repeated",
    "bytes_fetched",
    "robots_refused",
)

_OF_SCRAPY = {
    "requests": "downloader/request_count",
    "bytes_received": "downloader/response_bytes",
    "not_modified": "downloader/response_status_count/304",
    "errors": "downloader/exception_count",
}
"""Columns of `crawl_stats` by the counters that Scrapy keeps."""


@dataclass
class Tally:
    """Counts of one crawl, and what decides its outcome."""

    source: str | None = None
    """Kind of source that is read."""

    pages: int = 0
    """Pages, or listings, read; those that are as they were (304) too."""

    pages_failed: int = 0
    """Pages that gave a row with a reason instead."""

    images_found: int = 0
    """Different image addresses on the pages."""

    images_known: int = 0
    """Of these, settled by an earlier crawl."""

    images_fetched: int = 0
    """New or changed ones, landed with their bytes."""

    images_failed: int = 0
    """Landed with a reason."""

    images_repeated: int = 0
    """New places of bytes that an earlier crawl fetched; landed without them."""

    bytes_fetched: int = 0
    """Bytes of the images landed."""

    robots_refused: int = 0
    """Addresses that robots.txt forbids."""

    rejected: Counter[str] = field(default_factory=Counter)
    """Rows without bytes, by their reason."""

    images_asked: int = 0
    """Image requests made; a request that was refused without a connection is taken off again."""

    refused: int = 0
    """Rows made without a connection."""

    bounds_reached: set[str] = field(default_factory=set)
    """Fields of the site that stopped the crawl from going on."""

    start_read: int = 0
    """Start pages read."""

    start_refusals: list[Refusal] = field(default_factory=list)
    """Why the other start pages were not."""

    broken: str | None = None
    """Why the crawl cannot be trusted, though the site answered: our own trouble."""

    of_scrapy: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_OF_SCRAPY, 0))
    """What Scrapy counted; of the crawls before this one in the same process, and of earlier tries, too."""

    started_at: datetime = field(default_factory=now)
    """Begin of the crawl."""

    def take(self, scrapy: Mapping[str, Any]) -> None:
        """Add what Scrapy counted in one crawl."""
        for name, counter in _OF_SCRAPY.items():
            self.of_scrapy[name] += int(scrapy.get(counter, 0))

    def error(self, close_reason: str) -> str | None:
        """Why the crawl failed as a whole; None: it did not."""
        if self.broken:
            return self.broken
        if close_reason not in {FINISHED, TIMED_OUT}:
            return f"the crawl was stopped: {close_reason}"
        if self.start_read:
            return None
        return "; ".join(dict.fromkeys(refusal.sentence for refusal in self.start_refusals)) or (
            "no start page answered in the time that the site may take"
        )

    def kept(self) -> dict[str, Any]:
        """The counts, for a crawl that goes on from here after a death."""
        return {**{name: getattr(self, name) for name in COUNTS}, "rejected": dict(self.rejected)}

    def add_earlier(self, kept: Mapping[str, Any]) -> None:
        """Add what `kept` gave before a death."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + int(kept.get(name, 0)))
        self.rejected.update(kept.get("rejected", {}))

    def stats(self, close_reason: str) -> dict[str, object]:
        """Columns of `crawl_stats` but run and site."""
        error = self.error(close_reason)
        limited = bool(self.bounds_reached) or close_reason == TIMED_OUT
        at = now()
        return {
            "outcome": "failed" if error else "limited" if limited else "finished",
            "error": error,
            "source": self.source,
            **{name: getattr(self, name) for name in COUNTS},
            **self.of_scrapy,
            "rejected": dict(self.rejected),
            "started_at": self.started_at,
            "finished_at": at,
            "seconds": (at - self.started_at).total_seconds(),
        }
