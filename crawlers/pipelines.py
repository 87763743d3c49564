"""Where the items go: the landing shards, and behind them the crawl's state."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from scrapy import signals
from scrapy.crawler import Crawler

from copywatch.crawl_state import ImageState
from copywatch.errors import LakeError, Reason
from copywatch.lake.landing import ShardWriter
from crawlers.items import FetchedAddress, Unchanged
from crawlers.spiders.base import SiteSpider
from crawlers.tally import FINISHED

logger = logging.getLogger(__name__)

_SHARD_ROWS = 500
_SHARD_SECONDS = 60.0
"""A shard is closed after so many rows, or so long, as well: what is in an open one is fetched again after a death."""

_TALLY = "tally"
"""Note of the counts up to the last shard."""

_BY_RULE = frozenset({Reason.FORBIDDEN_ADDRESS, Reason.FORBIDDEN_BY_ROBOTS})


class LandingPipeline:
    """Writes each item as a row, counts it, and marks the part as complete at the end.

    The crawl's state moves forward when a shard is in place, and never before. What cannot be written ends the crawl as
    failed, since a row that vanished would be an image that nobody looks for again.
    """

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._written: list[ImageState] = []
        self._closing: asyncio.Future[None] | None = None
        crawler.signals.connect(self.spider_closed, signal=signals.spider_closed)
        crawler.signals.connect(self.spider_error, signal=signals.spider_error)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> LandingPipeline:
        return cls(crawler)

    @property
    def _spider(self) -> SiteSpider:
        return cast(SiteSpider, self._crawler.spider)

    def open_spider(self) -> None:
        job = self._spider.job
        self._names: dict[str, object] = {"run": job.run, "site": self._spider.site.name}
        earlier = self._spider.state.note(_TALLY)
        if job.resume and isinstance(earlier, dict) and earlier.get("run") == job.run:
            self._spider.tally.add_earlier(earlier)
        self._writer = ShardWriter(
            job.landing,
            job.run,
            self._spider.site.name,
            shard_bytes=job.shard_bytes,
            rows=_SHARD_ROWS,
            seconds=_SHARD_SECONDS,
            resume=job.resume,
            committed=self._commit,
        )
        try:
            self._writer.__enter__()
        except OSError as error:
            self._spider.tally.broken = f"the crawl could not be written: {error}"
            raise

    def process_item(self, item: FetchedAddress | Unchanged) -> FetchedAddress | Unchanged:
        spider = self._spider
        if isinstance(item, Unchanged):
            self._written.append(item.image)
            spider.settled(item.image.url_hash)
            return item
        known = len(self._written)
        if item.url_hash is not None and item.settled_hash:
            self._written.append(_state_of(item, item.url_hash))
        self._count(item)
        if item.url_hash is not None and (item.settled_hash or item.reason in _BY_RULE):
            spider.settled(item.url_hash, refused=item.settled_hash is None)
        try:
            self._writer.write({**self._names, **item.row})
        except (LakeError, OSError) as error:
            # A shard that is in place was committed with all that was written; this row was not.
            del self._written[known:]
            self._give_up(f"the crawl could not be written: {error}")
        return item

    def _count(self, item: FetchedAddress) -> None:
        tally = self._spider.tally
        if item.reason is not None:
            tally.rejected[item.reason.value] += 1
        if item.is_page:
            tally.pages_failed += 1
        elif item.reason is not None:
            tally.images_failed += 1
        elif item.bytes is not None:
            tally.images_fetched += 1
            tally.bytes_fetched += len(item.bytes)

    def _commit(self) -> None:
        """All rows written so far are safe: so may be what they settle."""
        spider = self._spider
        if spider.job.dry_run:
            return
        tally = {"run": spider.job.run, **spider.tally.kept()}
        spider.state.commit(images=self._written, pages=spider.take_complete_pages(), notes={_TALLY: tally})
        self._written.clear()

    def spider_error(self, failure: object) -> None:
        """A mistake of ours in a spider: what it was about would be lost."""
        self._give_up(f"a mistake in the crawler: {getattr(failure, 'value', failure)!r}")

    def _give_up(self, why: str) -> None:
        self._spider.tally.broken = self._spider.tally.broken or why[:500]
        if self._closing is None:
            logger.error("%s", why)
            self._closing = asyncio.ensure_future(self._crawler.engine.close_spider_async(reason="broken"))

    def spider_closed(self, spider: SiteSpider, reason: str) -> None:
        if self._crawler.stats is not None:
            spider.tally.take(self._crawler.stats.get_stats())
        stats = spider.tally.stats(reason)
        self._writer.flush()
        if not spider.tally.broken:
            self._commit()
            if not spider.job.dry_run:
                notes = spider.notes_to_keep(finished=reason == FINISHED)
                spider.state.commit(pages=spider.take_open_pages(), notes=notes)
        self._writer.finish(stats)
        self._writer.__exit__(None, None, None)
        bounds = ", ".join(sorted(spider.tally.bounds_reached)) or reason
        logger.info("%s (%s): %s", stats["outcome"], bounds, {name: stats[name] for name in list(stats)[2:-3]})


def _state_of(item: FetchedAddress, digest: bytes) -> ImageState:
    return ImageState(
        url_hash=digest,
        url=item.image_url,
        page_url=item.page_url,
        sha256=item.sha256 if item.reason is None else None,
        source_hash=item.source_hash if item.reason is None else None,
        version=item.version,
        etag=item.etag,
        last_modified=item.last_modified,
        size=item.size,
        checked_at=item.crawled_at,
    )
