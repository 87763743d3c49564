"""One crawl, as a process: `python -m crawlers.run job.json`. `copywatch.crawl` starts it and reads what it leaves."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from scrapy.crawler import AsyncCrawlerProcess
from scrapy.settings import Settings
from scrapy.utils.misc import load_object

from copywatch.crawl import CrawlJob, note_death
from copywatch.crawl_state import StateFile
from copywatch.errors import MachineError
from copywatch.lake.landing import part_folder
from copywatch.sites import Site
from crawlers import settings as project
from crawlers.addresses import AddressPolicy
from crawlers.browser import browser_settings
from crawlers.items import now
from crawlers.manners import LEAST_DELAY

_SPIDERS = {
    "gallery": "crawlers.spiders.gallery.GallerySpider",
    "page": "crawlers.spiders.page.PageSpider",
    "sitemap": "crawlers.spiders.sitemap.SitemapSpider",
    "feed": "crawlers.spiders.feed.FeedSpider",
    "wordpress": "crawlers.spiders.wordpress.WordPressSpider",
    "mediawiki": "crawlers.spiders.mediawiki.MediaWikiSpider",
    "mastodon": "crawlers.spiders.mastodon.MastodonSpider",
}
_AGAIN = "crawlers.spiders.again.AgainSpider"
_DETECT = "crawlers.spiders.detect.DetectSpider"

_SOURCE = "source"
"""Note of what detection found."""

_SOURCE_DAYS = 30


class JsonLines(logging.Formatter):
    """One JSON object a line, so that a line break in crawled text cannot begin a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """`level`, `name` and `message`, at most 4,000 characters of it, the traceback's end included."""
        message = super().format(record)
        if len(message) > 4000:
            message = f"{message[:2000]} ... {message[-1900:]}"
        return json.dumps({"level": record.levelname, "name": record.name, "message": message})


def log_as_json() -> None:
    """Send all log lines to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines("%(name)s: %(message)s"))
    # Its versions and settings, before anybody can set its level.
    handler.addFilter(lambda record: record.name != "scrapy.utils.log" or record.levelno > logging.INFO)
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)


def die_with(parent: int) -> None:
    """End this process when the one that waits for it ends, however that ends."""
    if sys.platform == "linux":
        import ctypes

        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        return

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def site_settings(job: CrawlJob, site: Site, policy: AddressPolicy) -> Settings:
    """Scrapy's settings for one site: the project's, and what `sites.yaml` and the settings say.

    Raises:
        MachineError: its pages need a browser, and there is none.
    """
    return Settings(
        {
            **project.as_dict(),
            "ADDRESS_POLICY": policy,
            "USER_AGENT": job.user_agent,
            "DOWNLOAD_TIMEOUT": job.download_seconds,
            "DOWNLOAD_MAXSIZE": job.max_image_bytes,
            "DOWNLOAD_DELAY": max(site.delay_seconds, LEAST_DELAY),
            "CONCURRENT_REQUESTS_PER_DOMAIN": site.concurrency,
            "AUTOTHROTTLE_TARGET_CONCURRENCY": site.concurrency,
            "AUTOTHROTTLE_START_DELAY": site.delay_seconds,
            "CLOSESPIDER_TIMEOUT": job.site_seconds,
            **browser_settings(job, site),
        }
    )


def noted_source(state: StateFile, site: Site) -> tuple[str, list[str]] | None:
    """What an earlier crawl detected, if that is not too old, and of the same start addresses."""
    note = state.note(_SOURCE)
    try:
        age = now() - datetime.fromisoformat(note["at"])
        if age < timedelta(days=_SOURCE_DAYS) and note["of"] == site.start and note["kind"] in _SPIDERS:
            return note["kind"], list(note["start"])
    except (TypeError, KeyError, ValueError):
        pass
    return None


async def crawl_site(process: AsyncCrawlerProcess, job: CrawlJob, site: Site, state: StateFile) -> None:
    """Detect what the site is, where nobody says so, and crawl it."""
    given: dict[str, Any] = {"job": job, "site": site, "policy": process.settings["ADDRESS_POLICY"], "state": state}
    if job.only_images is not None:
        await process.crawl(load_object(_AGAIN), **given)
        return
    source = (site.kind, site.start) if site.kind != "auto" else noted_source(state, site)
    earlier: dict[str, Any] = {}
    if source is None:
        crawler = process.create_crawler(load_object(_DETECT))
        await process.crawl(crawler, **given)
        earlier = crawler.stats.get_stats() if crawler.stats else {}
        found = getattr(crawler.spider, "detected", None)
        source = (found.kind, list(found.start)) if found else ("gallery", site.start)
        if found:
            logging.getLogger("copywatch.crawl").info("the site is read as %s: %s", found.kind, found.why)
            note = {"kind": found.kind, "start": list(found.start), "why": found.why, "of": site.start}
            state.commit(notes={_SOURCE: {**note, "at": now().isoformat()}})
    await process.crawl(load_object(_SPIDERS[source[0]]), start=source[1], earlier=earlier, **given)


def main(arguments: list[str]) -> int:
    """Run the crawl that the job file describes; the exit status is 0 when it wrote its statistics."""
    log_as_json()
    job = CrawlJob.model_validate_json(Path(arguments[0]).read_text(encoding="utf-8"))
    die_with(job.parent)
    site = Site.model_validate(job.site)
    try:
        process = AsyncCrawlerProcess(site_settings(job, site, AddressPolicy.of(site)))
    except MachineError as error:
        note_death(part_folder(job.landing, job.run, site.name), str(error), now())
        return 1
    # Scrapy's reports of each step are not for the task's log; each page or image that fails is a row.
    logging.getLogger("scrapy").setLevel(logging.WARNING)
    logging.getLogger("scrapy.core.downloader.handlers.http11").setLevel(logging.ERROR)
    logging.getLogger("scrapy.downloadermiddlewares.httpcompression").setLevel(logging.ERROR)
    logging.getLogger("scrapy.extensions.logstats").setLevel(logging.INFO)
    with StateFile(job.state) as state:
        task = asyncio.get_event_loop().create_task(_to_the_end(crawl_site(process, job, site, state)))
        process.start(stop_after_crawl=False)
        failed = process.bootstrap_failed or not task.done() or task.exception() is not None
    return 1 if failed else 0


async def _to_the_end(crawls: Coroutine[Any, Any, None]) -> None:
    """Run the crawls, one after the other, and end the process's event loop."""
    from twisted.internet import reactor

    # The loop must be running before it can be stopped.
    await asyncio.sleep(0)
    try:
        await crawls
    except Exception:
        logging.getLogger("copywatch.crawl").exception("the crawl ended by a mistake of ours")
        raise
    finally:
        reactor.callLater(0, reactor.stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
