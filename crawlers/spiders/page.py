"""A site of which only the start pages matter."""

from __future__ import annotations

from collections.abc import Iterator

from copywatch.crawl_state import PageState
from crawlers.spiders.reading import ReadingSpider


class PageSpider(ReadingSpider):
    """Reads the start pages and follows nothing."""

    name = "page"

    def known_pages(self) -> Iterator[PageState]:
        """None: the start pages are all."""
        return iter(())
