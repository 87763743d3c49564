"""One crawl, as a process: `python -m crawlers.run job.json`. `copywatch.crawl` starts it and reads what it leaves."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from scrapy.crawler import AsyncCrawlerProcess
from scrapy.settings import Settings
from scrapy.utils.misc import load_object

from copywatch.crawl import CrawlJob
from copywatch.sites import Site
from crawlers import settings as project
from crawlers.addresses import AddressPolicy

_SPIDERS = {
    "gallery": "crawlers.spiders.gallery.GallerySpider",
    "page": "crawlers.spiders.page.PageSpider",
    "sitemap": "crawlers.spiders.sitemap.SitemapSpider",
}
_AGAIN = "crawlers.spiders.again.AgainSpider"


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
    """Scrapy's settings for one site: the project's, and what `sites.yaml` and the settings say."""
    return Settings(
        {
            **project.as_dict(),
            "ADDRESS_POLICY": policy,
            "USER_AGENT": job.user_agent,
            "DOWNLOAD_TIMEOUT": job.download_seconds,
            "DOWNLOAD_MAXSIZE": job.max_image_bytes,
            "DOWNLOAD_DELAY": site.delay_seconds,
            "AUTOTHROTTLE_START_DELAY": site.delay_seconds,
            "CLOSESPIDER_TIMEOUT": job.site_seconds,
        }
    )


def main(arguments: list[str]) -> int:
    """Run the crawl that the job file describes; the exit status is 0 when it wrote its statistics."""
    log_as_json()
    job = CrawlJob.model_validate_json(Path(arguments[0]).read_text(encoding="utf-8"))
    die_with(job.parent)
    site = Site.model_validate(job.site)
    policy = AddressPolicy.of(site)
    with job.known.open(encoding="ascii") as lines:
        known = {bytes.fromhex(line.strip()) for line in lines if line.strip()}
    process = AsyncCrawlerProcess(site_settings(job, site, policy))
    # Scrapy's reports of each step are not for the task's log; each page or image that fails is a row.
    logging.getLogger("scrapy").setLevel(logging.WARNING)
    logging.getLogger("scrapy.core.downloader.handlers.http11").setLevel(logging.ERROR)
    logging.getLogger("scrapy.downloadermiddlewares.httpcompression").setLevel(logging.ERROR)
    logging.getLogger("scrapy.extensions.logstats").setLevel(logging.INFO)
    spider = _AGAIN if job.only_images is not None else _SPIDERS[site.kind]
    process.crawl(load_object(spider), job=job, site=site, policy=policy, known=known)
    process.start()
    return 1 if process.bootstrap_failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
