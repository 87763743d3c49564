"""A site whose pages link to each other."""

from __future__ import annotations

from collections.abc import Iterable

from crawlers.pages import Page
from crawlers.spiders.reading import ReadingSpider


class GallerySpider(ReadingSpider):
    """Follows the links on the site's own hosts."""

    name = "gallery"

    def further_pages(self, page: Page) -> Iterable[str]:
        """The page's links, by the site's `follow` selectors."""
        return page.links(self.site.select.follow)
