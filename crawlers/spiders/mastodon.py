"""A server that speaks like Mastodon, or one account of it, by its timeline."""

from __future__ import annotations

from scrapy import Request
from scrapy.http import Response
from twisted.python.failure import Failure

from copywatch.errors import Reason
from crawlers import failures
from crawlers.failures import Refusal
from crawlers.listings import Listing, NotAListing, mastodon
from crawlers.spiders.base import Output
from crawlers.spiders.listing import ListingSpider, Source


class MastodonSpider(ListingSpider):
    """Posts by number, the newest first; there is no filter by time that finds what came late."""

    name = "mastodon"

    def endpoints(self, address: str) -> list[str]:
        """The server's public timeline, or the account's."""
        return mastodon.endpoints(address)

    def sweep_address(self, endpoint: str) -> str:
        """The newest first."""
        return mastodon.listing_address(endpoint)

    def enter(self, source: Source) -> Output:
        """Of an account its number must be known first."""
        if mastodon.account_name(source.start) is None:
            yield from super().enter(source)
            return
        yield Request(
            source.candidates[0],
            callback=self.read_account,
            errback=self.account_failed,
            cb_kwargs={"source": source},
            dont_filter=True,
            meta={"download_maxsize": self.start_bytes},
        )

    def read_account(self, response: Response, *, source: Source) -> Output:
        """The account's timeline."""
        refusal = failures.of_status(response)
        if refusal is None:
            try:
                source.endpoint = mastodon.account_timeline(response.body, response.url)
            except NotAListing as error:
                refusal = Refusal(Reason.CORRUPT, f"no account: {error}", False, response.status)
        source.candidates.clear()
        if refusal is None:
            yield from self.begin(source)
        else:
            yield self._page_row(response.url, source.start, True, refusal, response)

    def account_failed(self, failure: Failure) -> Output:
        """There was no answer."""
        request, refusal = self._failed(failure)
        yield self._page_row(request.url, request.cb_kwargs["source"].start, True, refusal, None)

    def parse_listing(self, response: Response) -> Listing:
        """See `mastodon.read_listing`."""
        link = b", ".join(response.headers.getlist("Link")).decode("latin-1")
        return mastodon.read_listing(response.body, response.url, link=link)
