"""Sources that list their images by an interface: what to read of a listing, and where the next crawl goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, ClassVar
from urllib.parse import urlsplit

from scrapy import Request
from scrapy.http import Response
from twisted.python.failure import Failure

from copywatch.errors import Reason
from crawlers import failures
from crawlers.failures import BodyTooLarge, Refusal
from crawlers.listings import Listing, NotAListing
from crawlers.spiders.base import Output
from crawlers.spiders.reading import ReadingSpider, page_digest
from crawlers.validators import conditions

OVERLAP = timedelta(days=1)
"""What is newer than the last crawl is asked for from so long before it: clocks differ, and posts come late."""

_KNOWN_PAGES = 2
"""So many pages without anything new end a walk through a listing that cannot be filtered by time."""

_MOST_AGAIN = 200
_SHARE_FOR_AGAIN = 4
"""One in so many of the visits may be to pages that are read once more."""

_MOST_TRIES = 5


@dataclass
class Walk:
    """A way through a listing, page by page."""

    address: str
    """The first page."""

    sweep: bool = False
    """It goes through all of it, whatever is known."""

    since: datetime | None = None
    """Only what is newer was asked for; None: everything, or the source did not listen."""

    single: bool = False
    """It is one page alone."""

    resumed: bool = False
    """It begins where an earlier crawl's sweep ended."""

    asked: set[str] = field(default_factory=set)
    known_in_a_row: int = 0


@dataclass
class Source:
    """One start address: its interface, and how far this crawl has come in its listing."""

    start: str
    candidates: list[str]
    """Where the interface may be, and was not tried yet."""

    endpoint: str = ""
    entered: bool = False
    """The interface answered."""

    first: bool = False
    """No earlier crawl has read its listing to an end or a bound."""

    walks: deque[Walk] = field(default_factory=deque)
    read: list[tuple[Walk, str, list[bytes]]] = field(default_factory=list)
    """Pages read: the walk, the address, digests of the images."""

    newest_whole: bool = True
    """No walk to what is new was stopped or failed."""

    sweep_at: str | None = None
    """Where the next crawl's sweep begins; None: at the beginning."""

    again: dict[str, int] = field(default_factory=dict)
    """Pages that a later crawl reads once more, and how often that was tried."""


class ListingSpider(ReadingSpider):
    """Reads what is new, then goes through the whole listing from where the last crawl ended.

    To stop at the first image that is known would be wrong: what was posted late, under an earlier date, or hidden and
    then shown lies behind it. So a walk to what is new has an overlap, and the sweep finds everything else; of what is
    known it reads as much as the budget allows, so that a listing of any length is read in turns.
    """

    start_bytes: ClassVar[int] = 32 * 2**20

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._sources: list[Source] = []

    # --- what a kind of source says -----------------------------------------------------------------------------------

    def endpoints(self, address: str) -> list[str]:
        """Where the interface of a start address may be, the likeliest first."""
        return [address]

    def newest(self, endpoint: str, since: datetime) -> list[Walk]:
        """Walks to what was added or changed since a moment."""
        return [Walk(self.sweep_address(endpoint))]

    def sweep_address(self, endpoint: str) -> str:
        """The first page of the whole listing."""
        return endpoint

    def parse_listing(self, response: Response) -> Listing:
        """Read a page of the listing.

        Raises:
            NotAListing: it is none.
            BodyTooLarge: it unpacks to too much.
        """
        raise NotImplementedError

    def is_end(self, response: Response) -> bool:
        """Whether an answer that is an error only says that the listing has ended."""
        return False

    def page_behind(self, address: str) -> str | None:
        """The page behind one that cannot be read; None: only that page itself names it."""
        return None

    def listing_read(self, response: Response, address: str, listing: Listing, digests: list[bytes]) -> None:
        """Called for each page of a listing that was read."""

    def is_conditional(self, address: str) -> bool:
        """Whether 304 in answer to this request says that there is nothing new at all."""
        return False

    # --- walks --------------------------------------------------------------------------------------------------------

    async def start(self) -> AsyncIterator[Any]:
        """Requests of the listings' first pages."""
        noted = self._noted("endpoint")
        for address in self.start_addresses:
            candidates = self.endpoints(address)
            known = noted.get(address)
            if known in candidates:
                candidates = [known, *(one for one in candidates if one != known)]
            source = Source(address, candidates)
            self._sources.append(source)
            for request in self.enter(source):
                yield request

    def _noted(self, name: str) -> dict[str, Any]:
        note = self.state.note(name)
        return note if isinstance(note, dict) else {}

    def enter(self, source: Source) -> Output:
        """Try the source's next endpoint."""
        source.endpoint = source.candidates.pop(0)
        yield from self.begin(source)

    def begin(self, source: Source) -> Output:
        """Plan the walks through an endpoint's listing, and begin the first."""
        first = self.sweep_address(source.endpoint)
        position = self._noted("sweep").get(source.start)
        source.sweep_at = position if isinstance(position, str) else None
        tried = self._noted("again").get(source.start)
        source.again = dict(tried) if isinstance(tried, dict) else {}
        walks = []
        cursor = self._noted("cursor").get(source.start)
        source.first = cursor is None
        if cursor:
            walks = self.newest(source.endpoint, datetime.fromisoformat(cursor) - OVERLAP)
            if source.sweep_at is None:
                # The sweep begins with it.
                walks = [walk for walk in walks if walk.address != first]
            most = self._visits_left // _SHARE_FOR_AGAIN
            walks += [Walk(address, single=True) for address in list(source.again)[:most]]
        walks.append(Walk(source.sweep_at or first, sweep=True, resumed=source.sweep_at is not None))
        source.walks = deque(walks)
        yield from self._next_walk(source)

    def _next_walk(self, source: Source) -> Output:
        if source.walks:
            walk = source.walks.popleft()
            yield self._listing_request(source, walk, walk.address)

    def _listing_request(self, source: Source, walk: Walk, address: str) -> Request:
        walk.asked.add(address)
        request = Request(
            address,
            callback=self.read_listing,
            errback=self.listing_failed,
            cb_kwargs={"source": source, "walk": walk, "address": address},
            dont_filter=True,
            meta={"download_maxsize": self.start_bytes},
        )
        if self.is_conditional(address) and (known := self.state.page(page_digest(address))):
            request.headers.update(conditions(known))
        return request

    def read_listing(self, response: Response, *, source: Source, walk: Walk, address: str) -> Output:
        """The images of a page of a listing, and what to read after it."""
        if response.status == 304:
            listing = Listing([])
            yield from self._page_unchanged(response, not source.entered)
        elif (refusal := failures.of_status(response)) and not (source.entered and self.is_end(response)):
            yield from self._listing_refused(refusal, response, source=source, walk=walk, address=address)
            return
        else:
            listing = Listing([])
            if refusal is None:
                try:
                    listing = self.parse_listing(response)
                except Exception as error:  # a listing can break a parser in ways that nobody listed
                    said = str(error) if isinstance(error, NotAListing | BodyTooLarge) else repr(error)
                    broken = Refusal(Reason.CORRUPT, f"no listing: {said}", False, response.status)
                    yield from self._listing_refused(broken, response, source=source, walk=walk, address=address)
                    return
            self.tally.pages += 1
            self.tally.start_read += not source.entered
        source.entered = True
        fresh = yield from self._images_of(listing, response, walk, source, address)
        yield from self._go_on(listing, response, source=source, walk=walk, fresh=fresh)

    def _images_of(self, listing: Listing, response: Response, walk: Walk, source: Source, address: str) -> Any:
        """Ask for the images; returns whether any was new, or while the listing is read for the first time, whether any
        was not shown before: an earlier try of that may have been killed."""
        fresh = False
        digests = []
        for showing in listing.showings:
            digest = self.digest_of(showing.shown)
            fresh |= digest not in self._images_seen and (source.first or self.state.image(digest) is None)
            digests.append(digest)
            yield from self.ask_for_image(showing)
        if listing.unusable:
            self.logger.warning("%s: %d entries cannot be used", response.url, listing.unusable)
        if listing.cut_short:
            damaged = Refusal(Reason.CORRUPT, listing.cut_short, False, response.status)
            yield self._page_row(response.url, source.start, False, damaged, response)
        if response.status != 304:
            source.read.append((walk, address, digests))
            self.listing_read(response, address, listing, digests)
        return fresh

    def _go_on(self, listing: Listing, response: Response, *, source: Source, walk: Walk, fresh: bool) -> Output:
        following = listing.next
        walk.known_in_a_row = 0 if fresh else walk.known_in_a_row + 1
        if not fresh:
            self.budget -= 1
            self._visits_left -= 1
        if walk.since and listing.oldest_change and listing.oldest_change < walk.since - timedelta(seconds=1):
            walk.since = None
        # A listing that leads to another host, or round in a circle, has ended.
        if following and (following in walk.asked or urlsplit(following).netloc != urlsplit(response.url).netloc):
            following = None
        if walk.sweep:
            source.sweep_at = following
        if following is None and walk.resumed:
            # Round to the beginning, up to where it began.
            walk.resumed = False
            first = self.sweep_address(source.endpoint)
            following = None if first in walk.asked else first
        done = walk.single or (not walk.sweep and not walk.since and walk.known_in_a_row >= _KNOWN_PAGES)
        if following is None or done:
            yield from self._next_walk(source)
        elif self._may_go_on(fresh):
            self._pages_asked += 1
            yield self._listing_request(source, walk, following)
        else:
            source.newest_whole &= walk.sweep
            yield from self._next_walk(source)

    def _may_go_on(self, fresh: bool) -> bool:
        if "max_images" in self.tally.bounds_reached:
            return False
        if self._pages_asked >= self.site.max_pages:
            self.tally.bounds_reached.add("max_pages")
            return False
        if monotonic() > self._pages_until:
            self.tally.bounds_reached.add("site_seconds")
            return False
        return fresh or self._visits_left > 0

    def listing_failed(self, failure: Failure) -> Output:
        """A listing that gave no answer."""
        request, refusal = self._failed(failure)
        yield from self._listing_refused(refusal, None, **request.cb_kwargs)

    def _listing_refused(
        self, refusal: Refusal, response: Response | None, *, source: Source, walk: Walk, address: str
    ) -> Output:
        """A row for the listing's page; then what can be read without it."""
        if not source.entered and source.candidates:
            yield from self.enter(source)
            return
        behind = self.page_behind(address) if source.entered and not walk.single else None
        hopeless = not source.entered and not source.walks
        yield self._page_row(address, source.start, hopeless, refusal, response)
        source.again[address] = source.again.get(address, 0) + 1
        source.newest_whole &= walk.sweep or walk.single
        if walk.sweep:
            # Where an earlier crawl ended there may be nothing any more: the next one begins at the beginning.
            source.sweep_at = behind or (None if address == walk.address else address)
        if behind and behind not in walk.asked and self._visits_left > 0 and self._may_go_on(False):
            self._visits_left -= 1
            self.budget -= 1
            self._pages_asked += 1
            yield self._listing_request(source, walk, behind)
        else:
            yield from self._next_walk(source)

    # --- what the next crawl needs to know ----------------------------------------------------------------------------

    def notes_to_keep(self, *, finished: bool) -> Mapping[str, object]:
        """Cursors and where the sweeps go on: none has passed by an image that was not asked for, and the pages of
        those that could not be had are read once more."""
        if self.job.uploaded_since or self.job.dry_run:
            return {}
        names = ("endpoint", "cursor", "sweep", "again")
        notes: dict[str, dict[str, Any]] = {name: self._noted(name) for name in names}
        for source in self._sources:
            if not source.entered:
                continue
            for walk, address, digests in source.read:
                if any(map(self._is_left, digests)):
                    source.newest_whole &= walk.sweep or walk.single
                    if walk.sweep:
                        source.sweep_at = address
                        break
                    if walk.single:
                        source.again.setdefault(address, 0)
                elif any(digest in self._unsettled and digest not in self._refused for digest in digests):
                    source.again[address] = source.again.get(address, 0) + 1
                else:
                    source.again.pop(address, None)
            notes["endpoint"][source.start] = source.endpoint
            notes["sweep"][source.start] = source.sweep_at
            tries = [(address, count) for address, count in source.again.items() if count < _MOST_TRIES]
            notes["again"][source.start] = dict(tries[-_MOST_AGAIN:])
            if source.newest_whole and not source.walks:
                # Our own clock's: a date that a source gives may lie in the future.
                notes["cursor"][source.start] = self.tally.started_at.isoformat()
        return notes

    def _is_left(self, digest: bytes) -> bool:
        """Whether an image was not asked for at all, since a bound was reached before, or the time was over."""
        return digest in self._showings or (digest in self._unsettled and digest not in self._images_seen)
