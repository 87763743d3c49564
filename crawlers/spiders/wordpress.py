"""A WordPress site, by its REST interface."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from scrapy.http import Response

from crawlers.listings import Listing, wordpress
from crawlers.spiders.base import Showing
from crawlers.spiders.listing import ListingSpider, Walk

_NOT_SERVED = frozenset({401, 403, 404, 410})


class WordPressSpider(ListingSpider):
    """The media library: what was uploaded last, by number, so that an earlier date does not hide it; what was changed
    since the last crawl; then all of it."""

    name = "wordpress"

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._scaled: dict[str, str] = {}

    def endpoints(self, address: str) -> list[str]:
        """By the pretty address, and by the one that every WordPress has."""
        return wordpress.endpoints(address)

    def newest(self, endpoint: str, since: datetime) -> list[Walk]:
        """Uploads by number, the last first, and changes by their date."""
        moment = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return [
            Walk(wordpress.listing_address(endpoint, orderby="id", order="desc")),
            # Heard since 5.7; what comes tells whether it was.
            Walk(wordpress.listing_address(endpoint, modified_after=moment), since=since),
        ]

    def sweep_address(self, endpoint: str) -> str:
        """By number, the first first: what is new does not move the pages behind."""
        return wordpress.listing_address(endpoint, orderby="id", order="asc")

    def parse_listing(self, response: Response) -> Listing:
        """See `wordpress.read_listing`."""
        total, pages = (response.headers.get(name) for name in ("X-WP-Total", "X-WP-TotalPages"))
        listing = wordpress.read_listing(
            response.body,
            response.url,
            total=None if total is None else total.decode("latin-1"),
            pages=None if pages is None else pages.decode("latin-1"),
        )
        return replace(listing, showings=[self._served(showing, listing.instead) for showing in listing.showings])

    def _served(self, showing: Showing, instead: dict[str, str]) -> Showing:
        """The original, or the scaled file if an earlier crawl could not have the original."""
        address = showing.shown.address
        if scaled := instead.get(address):
            known = self.state.image(self.digest_of(showing.shown))
            if known is None:
                self._scaled[address] = scaled
            elif known.sha256 is None:
                return _of_file(showing, scaled)
        return showing

    def is_end(self, response: Response) -> bool:
        """There is no such page."""
        return response.status == 400 and wordpress.is_end(response.body)

    def page_behind(self, address: str) -> str | None:
        """The next number."""
        return wordpress.page_after(address)

    def read_image(self, response: Response, *, showing: Showing, digest: bytes) -> Iterator[Any]:
        """The image's row. Where an original is not served, the file that WordPress made of it is asked for as well."""
        yield from super().read_image(response, showing=showing, digest=digest)
        scaled = self._scaled.pop(showing.shown.address, None)
        if scaled and response.status in _NOT_SERVED:
            yield from self.ask_for_image(_of_file(showing, scaled))


def _of_file(showing: Showing, address: str) -> Showing:
    return replace(showing, shown=replace(showing.shown, address=address))
