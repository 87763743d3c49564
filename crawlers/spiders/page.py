"""A site of which only the start pages matter."""

from __future__ import annotations

from crawlers.spiders.base import SiteSpider


class PageSpider(SiteSpider):
    """Reads the start pages and follows nothing."""

    name = "page"
