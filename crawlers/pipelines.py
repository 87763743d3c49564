"""Where the items go: the landing shards."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from scrapy import signals
from scrapy.crawler import Crawler

from copywatch.errors import LakeError
from copywatch.lake.landing import ShardWriter
from crawlers.items import FetchedAddress
from crawlers.spiders.base import SiteSpider

logger = logging.getLogger(__name__)


class LandingPipeline:
    """Writes each item as a row, counts it, and marks the part as complete at the end.

    An item is counted and its address settled only when its row is with the writer; what cannot be written ends the
    crawl as failed, since a row that vanished would be an image that nobody looks for again.
    """

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._settled: set[str] = set()
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
        self._writer = ShardWriter(job.landing, job.run, self._spider.site.name, shard_bytes=job.shard_bytes)
        try:
            self._writer.__enter__()
        except OSError as error:
            self._spider.tally.broken = f"the crawl could not be written: {error}"
            raise

    def process_item(self, item: FetchedAddress) -> FetchedAddress:
        try:
            self._writer.write({**self._names, **item.row})
        except (LakeError, OSError) as error:
            self._give_up(f"the crawl could not be written: {error}")
            return item
        if item.settled_hash:
            self._settled.add(item.settled_hash)
        tally = self._spider.tally
        if item.is_page:
            tally.pages_failed += 1
        elif item.bytes is None:
            tally.images_failed += 1
        else:
            tally.images_fetched += 1
            tally.bytes_fetched += len(item.bytes)
        return item

    def spider_error(self, failure: object) -> None:
        """A mistake of ours in a spider: what it was about would be lost."""
        self._give_up(f"a mistake in the crawler: {getattr(failure, 'value', failure)!r}")

    def _give_up(self, why: str) -> None:
        self._spider.tally.broken = self._spider.tally.broken or why[:500]
        if self._closing is None:
            logger.error("%s", why)
            self._closing = asyncio.ensure_future(self._crawler.engine.close_spider_async(reason="broken"))

    def spider_closed(self, spider: SiteSpider, reason: str) -> None:
        stats = spider.tally.stats(reason)
        self._writer.finish(stats, settled=sorted(self._settled))
        self._writer.__exit__(None, None, None)
        bounds = ", ".join(sorted(spider.tally.bounds_reached)) or reason
        logger.info("%s (%s): %s", stats["outcome"], bounds, {name: stats[name] for name in list(stats)[2:-2]})
