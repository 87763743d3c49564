"""A feed, with its further pages and archives where it has them."""

from __future__ import annotations

from scrapy.http import Response

from crawlers.listings import Listing, feed
from crawlers.spiders.listing import ListingSpider
from crawlers.spiders.reading import page_digest


class FeedSpider(ListingSpider):
    """RSS, Atom and Media RSS. One that is a single document costs one request while it is as it was."""

    name = "feed"

    def parse_listing(self, response: Response) -> Listing:
        """See `feed.read_listing`."""
        return feed.read_listing(response.body, response.url, self.site.select)

    def is_conditional(self, address: str) -> bool:
        """If it is all there is: an older page may be another one, though the first is the same."""
        known = self.state.page(page_digest(address)) if address in self.start_addresses else None
        return known is not None and known.links == 0

    def listing_read(self, response: Response, address: str, listing: Listing, digests: list[bytes]) -> None:
        """Keep the validators of a feed that was read whole."""
        if address not in self.start_addresses or listing.cut_short:
            return
        self.note_listing(response, address, digests, links=int(listing.next is not None), found_on=address)
