"""A MediaWiki, by its list of all images."""

from __future__ import annotations

from datetime import datetime

from scrapy.http import Response

from crawlers.listings import Listing, mediawiki
from crawlers.spiders.listing import ListingSpider, Walk


class MediaWikiSpider(ListingSpider):
    """Files by the time of their last version. Imported and restored ones have earlier times: the sweep finds them."""

    name = "mediawiki"

    def endpoints(self, address: str) -> list[str]:
        """Where `api.php` may be."""
        return mediawiki.endpoints(address)

    def newest(self, endpoint: str, since: datetime) -> list[Walk]:
        """Versions since that time."""
        return [Walk(mediawiki.listing_address(endpoint, since), since=since)]

    def sweep_address(self, endpoint: str) -> str:
        """The oldest first."""
        return mediawiki.listing_address(endpoint)

    def parse_listing(self, response: Response) -> Listing:
        """See `mediawiki.read_listing`."""
        return mediawiki.read_listing(response.body, response.url)
