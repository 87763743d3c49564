"""A site that lists its pages, and sometimes their images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from scrapy import Request
from scrapy.http import Response

from copywatch.crawl_state import PageState
from copywatch.errors import Reason
from crawlers import failures
from crawlers.failures import BodyTooLarge, Refusal
from crawlers.items import now
from crawlers.listings import Listing, NotAListing, sitemap
from crawlers.listings.sitemap import Listed
from crawlers.spiders.base import Output, Showing
from crawlers.spiders.listing import OVERLAP
from crawlers.spiders.reading import ReadingSpider, asked_address, page_digest
from crawlers.texts import parse_date
from crawlers.validators import conditions

_INDEXES = "sitemaps"
"""Note: the sitemaps of each index, with their dates; an index that answers 304 does not say them again."""

_MOST_NOTED = 5_000
_DATE_BELIEVED = timedelta(days=7)
"""A sitemap whose date says that it is as it was is not read for so long; some dates never change."""


class SitemapSpider(ReadingSpider):
    """Reads a sitemap, an index of sitemaps, or those that a robots.txt names. Images that it names are asked for at
    once; a page of which it names none is read."""

    name = "sitemap"
    start_bytes = sitemap.LARGEST
    _deepest_index = 3

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        noted = self.state.note(_INDEXES)
        self._indexes: dict[str, list[list[str | None]]] = noted if isinstance(noted, dict) else {}

    def known_pages(self) -> Iterator[PageState]:
        """Half of what may be visited again is left to the pages that a sitemap says have changed."""
        sitemaps = {*self.start_addresses, *(str(entry[0]) for listed in self._indexes.values() for entry in listed)}
        yield from (page for page in self.state.pages_not_read(self.site.max_pages) if page.url not in sitemaps)
        known = self.state.pages_to_visit(self._visits_left // 2)
        yield from (page for page in known if page.url not in sitemaps)

    def ask(self, url: str, callback: Any, **about: Any) -> Iterator[Request]:
        """As of any page; a sitemap is read again in full where 304 would not tell what it holds."""
        for request in super().ask(url, callback, **about):
            if callback == self.read_start:
                for name in ("If-None-Match", "If-Modified-Since"):
                    request.headers.pop(name, None)
                known = self.state.page(page_digest(url))
                if known is not None and (known.links == 0 or url in self._indexes):
                    request.headers.update(conditions(known))
            yield request

    def read_page(self, response: Response, *, found_on: str, depth: int, start: bool) -> Output:
        """As of any page; some lists of pages name sitemaps among them."""
        if response.status == 200 and sitemap.is_one(response.body):
            yield from self.read_start(response, found_on=found_on, depth=depth, start=start)
        else:
            yield from super().read_page(response, found_on=found_on, depth=depth, start=start)

    def read_start(self, response: Response, *, found_on: str, depth: int, start: bool, level: int = 0) -> Output:
        """What a sitemap lists. `level`: indexes above this one."""
        address = asked_address(response)
        if response.status == 304:
            yield from self._page_unchanged(response, start)
            earlier = [
                Listed(str(url), parse_date(date), is_sitemap=True) for url, date in self._indexes.get(address, ())
            ]
            yield from self._ask_for_sitemaps(earlier, found_on=response.url, level=level)
            return
        refusal = failures.of_status(response)
        listing = Listing([])
        if refusal is None:
            try:
                listing = sitemap.read_listing(response.body, response.url)
            except NotAListing as error:
                refusal = Refusal(Reason.CORRUPT, str(error), False, response.status)
            except BodyTooLarge as error:
                refusal = Refusal(Reason.TOO_LARGE, str(error), False, response.status)
        if refusal is not None:
            yield self._page_row(response.url, found_on, start, refusal, response)
            return
        self.tally.start_read += start
        self.tally.pages += 1
        yield from self._read_listing(listing, response, address, found_on, level)

    def _read_listing(self, listing: Listing, response: Response, address: str, found_on: str, level: int) -> Output:
        digests = [self.digest_of(showing.shown) for showing in listing.showings]
        for showing, digest in zip(listing.showings, digests, strict=True):
            yield from self.ask_for_image(self._checked_in_turn(showing, digest))
        sitemaps = [listed for listed in listing.pages if listed.is_sitemap]
        if level >= self._deepest_index and sitemaps:
            self.tally.bounds_reached.add("max_depth")
            sitemaps = []
        yield from self._ask_for_sitemaps(sitemaps, found_on=response.url, level=level)
        for listed in listing.pages:
            if not listed.is_sitemap and not listed.has_images and self._is_own_address(listed.address):
                planned = self._visits_left > 0 and self._is_newer(listed)
                yield from self.ask(listed.address, self.read_page, found_on=response.url, depth=0, planned=planned)
        if listing.cut_short:
            damaged = Refusal(Reason.CORRUPT, listing.cut_short, False, response.status)
            yield self._page_row(response.url, found_on, False, damaged, response)
            return
        if sitemaps and len(sitemaps) <= _MOST_NOTED:
            dates = ((one.address, one.changed_at.isoformat() if one.changed_at else None) for one in sitemaps)
            self._indexes[address] = [list(pair) for pair in dates]
        self.note_listing(response, address, digests, links=len(sitemaps), found_on=found_on)

    def _ask_for_sitemaps(self, sitemaps: Iterable[Listed], *, found_on: str, level: int) -> Output:
        """Those not read for longest first."""
        known = {listed: self.state.page(page_digest(listed.address)) for listed in sitemaps}
        never = datetime.min.replace(tzinfo=UTC)

        def last_read(listed: Listed) -> datetime:
            page = known[listed]
            return page.visited_at if page is not None and page.visited_at else never

        for listed in sorted(known, key=last_read):
            read_at = last_read(listed)
            if read_at != never and (self._visits_left <= 0 or not self._is_due(listed, read_at)):
                continue
            if self._is_own_address(listed.address):
                yield from self.ask(
                    listed.address, self.read_start, found_on=found_on, depth=0, planned=True, level=level + 1
                )

    @staticmethod
    def _is_due(listed: Listed, read_at: datetime) -> bool:
        changed = listed.changed_at is None or listed.changed_at + OVERLAP >= read_at
        return changed or now() - read_at > _DATE_BELIEVED

    def _is_newer(self, listed: Listed) -> bool:
        known = self.state.page(page_digest(listed.address))
        visited = known.visited_at if known is not None else None
        return visited is not None and listed.changed_at is not None and listed.changed_at + OVERLAP >= visited

    def _checked_in_turn(self, showing: Showing, digest: bytes) -> Showing:
        """A page's date tells that its images may have changed. Where all dates are always new, they are looked at in
        turns, within the budget; the others keep the date that is known."""
        known = self.state.image(digest)
        if known is None or known.version is None or known.version == showing.shown.version:
            return showing
        if self._visits_left > 0:
            self._visits_left -= 1
            return showing
        return replace(showing, shown=replace(showing.shown, version=known.version))

    def _is_own_address(self, url: str) -> bool:
        try:
            return self.is_own(url)
        except ValueError:
            return False

    def notes_to_keep(self, *, finished: bool) -> Mapping[str, object]:
        """The indexes are as they were read, whatever became of their pages."""
        return {_INDEXES: self._indexes}
