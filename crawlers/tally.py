"""What a crawl counts, and what it comes to in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from crawlers.failures import Refusal
from crawlers.items import now

FINISHED = "finished"
TIMED_OUT = "closespider_timeout"
"""Scrapy's own reasons for the end of a spider."""


@dataclass
class Tally:
    """Counts of one crawl, and what decides its outcome."""

    pages: int = 0
    """Pages read."""

    pages_failed: int = 0
    """Pages that gave a row with a reason instead."""

    images_found: int = 0
    """Different image addresses on the pages."""

    images_known: int = 0
    """Of these, settled by an earlier crawl."""

    images_fetched: int = 0
    """Of these, landed with their bytes."""

    images_failed: int = 0
    """Of these, landed with a reason."""

    bytes_fetched: int = 0
    """Bytes of the images landed."""

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

    started_at: datetime = field(default_factory=now)
    """Begin of the crawl."""

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

    def stats(self, close_reason: str) -> dict[str, object]:
        """Columns of `crawl_stats` but run and site."""
        error = self.error(close_reason)
        limited = bool(self.bounds_reached) or close_reason == TIMED_OUT
        counts = ("pages", "pages_failed", "images_found", "images_known", "images_fetched", "images_failed")
        return {
            "outcome": "failed" if error else "limited" if limited else "finished",
            "error": error,
            **{name: getattr(self, name) for name in counts},
            "bytes_fetched": self.bytes_fetched,
            "started_at": self.started_at,
            "finished_at": now(),
        }
