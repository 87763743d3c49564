"""A site that lists its pages."""

from __future__ import annotations

from lxml.etree import LxmlError  # type: ignore[import-untyped]
from scrapy.http import Response
from scrapy.utils.gz import gunzip, gzip_magic_number
from scrapy.utils.sitemap import Sitemap, sitemap_urls_from_robots

from copywatch.errors import Reason
from crawlers import failures
from crawlers.failures import Refusal
from crawlers.spiders.base import Output, SiteSpider


class SitemapSpider(SiteSpider):
    """Reads the pages that a sitemap lists, or an index of sitemaps, or the sitemaps that a robots.txt names."""

    name = "sitemap"
    # The protocol's own bound for one file.
    start_bytes = 50 * 2**20
    _deepest_index = 3

    def read_start(self, response: Response, *, found_on: str, depth: int, start: bool, level: int = 0) -> Output:
        """The pages, or further sitemaps, that a sitemap lists. `level`: indexes above this one."""
        refusal = failures.of_status(response)
        maps: list[str] = []
        pages: list[str] = []
        if refusal is None:
            try:
                maps, pages = self._listed(response)
            except (LxmlError, StopIteration, OSError, EOFError, ValueError) as error:
                refusal = Refusal(Reason.CORRUPT, f"no sitemap: {error!r}", False, response.status)
        if refusal is not None:
            yield self._page_row(response.url, found_on, start, refusal, response)
            return
        self.tally.start_read += start
        if level < self._deepest_index:
            for url in filter(self._is_own_address, maps):
                yield from self.ask(url, self.read_start, found_on=response.url, depth=0, level=level + 1)
        elif maps:
            self.tally.bounds_reached.add("max_depth")
        for url in filter(self._is_own_address, pages):
            yield from self.ask(url, self.read_page, found_on=response.url, depth=0)

    def _is_own_address(self, url: str) -> bool:
        try:
            return self.is_own(url)
        except ValueError:
            return False

    def _listed(self, response: Response) -> tuple[list[str], list[str]]:
        """Addresses of sitemaps and of pages.

        Raises:
            LxmlError, StopIteration, OSError, EOFError, ValueError: it is no sitemap.
        """
        if response.url.endswith("/robots.txt"):
            return list(sitemap_urls_from_robots(response.body, response.url)), []
        body = gunzip(response.body, max_size=self.start_bytes) if gzip_magic_number(response) else response.body
        sitemap = Sitemap(body)
        if sitemap.type not in {"urlset", "sitemapindex"}:
            raise ValueError(f"its root is {sitemap.type[:40]}")
        addresses = [entry["loc"] for entry in sitemap if entry.get("loc")]
        return (addresses, []) if sitemap.type == "sitemapindex" else ([], addresses)
