"""What spiders do that read pages: the start pages, further ones, and those that are known, when it is their turn."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any, cast
from urllib.parse import urlsplit

from scrapy import Request
from scrapy.http import HtmlResponse, Response, TextResponse
from twisted.python.failure import Failure

from copywatch.crawl import normal_url, url_hash
from copywatch.crawl_state import PageState
from copywatch.errors import Reason
from crawlers import failures
from crawlers.addresses import LONGEST_URL
from crawlers.failures import Refusal
from crawlers.items import FetchedAddress, now
from crawlers.pages import Page, ShownImage
from crawlers.spiders.base import PAGE_BYTES, Output, Showing, SiteSpider, content_type
from crawlers.texts import clean_text
from crawlers.validators import conditions, validators_of

_SHARE_FOR_PAGES = 0.5
"""Of the site's time; the rest is for the images of the pages read by then."""

_SHARE_FOR_KNOWN_PAGES = 0.8
"""Of the budget for what is known; the rest is for known images."""

_RENDER = "playwright"
"""`Request.meta` key of scrapy-playwright."""


class ReadingSpider(SiteSpider):
    """Reads the start pages and asks for the new images of every page. What else to read, a kind of source says in
    `further_pages`, or by taking the start answers itself in `read_start`."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._pages_seen: set[bytes] = set()
        self._pages_asked = 0
        self._visits_left = int(self.budget * _SHARE_FOR_KNOWN_PAGES)
        self._pages_until = monotonic() + self.job.site_seconds * _SHARE_FOR_PAGES
        self._found_pages: list[PageState] = []

    def further_pages(self, page: Page) -> Iterable[str]:
        """Addresses of the pages to read after this one."""
        return ()

    def read_start(self, response: Response, *, found_on: str, depth: int, start: bool) -> Output:
        """Read the answer of a start address."""
        yield from self.read_page(response, found_on=found_on, depth=depth, start=start)

    async def start(self) -> AsyncIterator[Any]:
        """Requests of the start addresses, of the pages that an earlier crawl found and did not come to, and of known
        ones: first those that list much, where new things appear, then the ones not read for longest."""
        for address in self.start_addresses:
            for request in self.ask(address, self.read_start, found_on=address, depth=0, start=True):
                yield request
        for known in self.known_pages():
            # A page that was read is no deeper than it was: bounds of depth hold for what it links to.
            for request in self.ask(
                known.url, self.read_page, found_on=known.found_on, depth=known.depth, planned=True
            ):
                yield request

    def known_pages(self) -> Iterator[PageState]:
        """The pages of earlier crawls that this one reads, in this order."""
        yield from self.state.pages_not_read(self.site.max_pages)
        yield from self.state.pages_to_visit(self._visits_left)

    def take_complete_pages(self) -> list[PageState]:
        """Pages that may be remembered now: those read, and those found and not read yet."""
        found, self._found_pages = self._found_pages, []
        return found + super().take_complete_pages()

    def is_own(self, url: str) -> bool:
        """Whether a page belongs to the site: its host is that of a start address, with or without `www.`"""
        host = (urlsplit(url).hostname or "").removeprefix("www.")
        return host in {own.removeprefix("www.") for own in self.site.hosts}

    def ask(
        self,
        url: str,
        callback: Any,
        *,
        found_on: str,
        depth: int,
        start: bool = False,
        planned: bool = False,
        **more: object,
    ) -> Iterator[Request]:
        """A request for a page, unless it was asked for before or a bound of the site is reached; of a known page only
        if it is `planned` to be read again.

        `more` is given to the callback beside the other three.
        """
        try:
            digest = page_digest(url)
            request = Request(
                url,
                callback=callback,
                errback=self.page_failed,
                cb_kwargs={"found_on": found_on, "depth": depth, "start": start, **more},
                dont_filter=True,
                meta={"download_maxsize": PAGE_BYTES if callback == self.read_page else self.start_bytes},
            )
        except ValueError:
            return
        if digest in self._pages_seen:
            return
        known = self.state.page(digest)
        visited = known is not None and known.visited_at is not None
        if visited and not start and not planned:
            return
        if not start and depth > self.site.max_depth:
            self.tally.bounds_reached.add("max_depth")
            return
        late = monotonic() > self._pages_until
        if not start and (late or self._pages_asked >= self.site.max_pages):
            self.tally.bounds_reached.add("site_seconds" if late else "max_pages")
            if known is None:
                # Found, and left to the next crawl.
                self._pages_seen.add(digest)
                self._found_pages.append(PageState(url_hash=digest, url=url, found_on=found_on, depth=depth))
            return
        self._pages_seen.add(digest)
        if known is not None and visited:
            self._visits_left -= 1
            self.budget -= 1
            if callback == self.read_page or start:
                request.headers.update(conditions(known))
        else:
            self._pages_asked += 1
            if known is None and not self.job.dry_run:
                self._found_pages.append(PageState(url_hash=digest, url=url, found_on=found_on, depth=depth))
        if self.site.render:
            request.meta[_RENDER] = True
        yield request

    def read_page(self, response: Response, *, found_on: str, depth: int, start: bool) -> Output:
        """The images of a page, and its further pages."""
        if response.status == 304:
            yield from self._page_unchanged(response, start)
            return
        if not start and response.status == 200 and content_type(response).startswith("image/"):
            yield from self._linked_image(response, found_on)
            return
        if refusal := self._page_refusal(response):
            yield self._page_row(response.url, found_on, start, refusal, response)
            if refusal.lasting:
                self._note_gone(response, found_on, depth)
            return
        if response.request and response.request.meta.get("redirect_urls"):
            digest = page_digest(response.url)
            # Where a redirect leads, another link may lead as well: it is read once, and only on the site's hosts.
            # A start page is read wherever it leads.
            if not start and (digest in self._pages_seen or not self.is_own(response.url)):
                self._note_gone(response, found_on, depth)
                return
            self._pages_seen.add(digest)
        self.tally.start_read += start
        try:
            yield from self._read_content(cast(TextResponse, response), found_on, depth)
        except Exception as error:  # a page can break a parser in ways that nobody listed
            self.logger.warning("page %s cannot be read: %r", response.url, error)
            broken = Refusal(Reason.CORRUPT, f"page cannot be read: {error!r}", False, response.status)
            yield self._page_row(response.url, found_on, False, broken, response)

    def _read_content(self, response: TextResponse, found_on: str, depth: int) -> Output:
        page = Page(response, self.site.select, self.policy)
        images = [shown for shown in page.images() if not shown.ignored]
        links = list(dict.fromkeys(url for url in self.further_pages(page) if self.is_own(url)))
        digest = _listed_digest([shown.address for shown in images], links)
        known = self.state.page(_asked_digest(response))
        changed = known is not None and known.digest is not None and known.digest != digest
        for shown in images:
            yield from self.ask_for_image(Showing(response.url, len(images), shown), suspect=changed)
        for url in links:
            yield from self.ask(url, self.read_page, found_on=response.url, depth=depth + 1)
        self.tally.pages += 1
        if page.cut_short:
            raise ValueError(page.cut_short)
        at = now()
        self.note_page(
            PageState(
                url_hash=_asked_digest(response),
                url=asked_address(response),
                found_on=found_on[:LONGEST_URL],
                depth=depth,
                **validators_of(response),
                digest=digest,
                images=len(images),
                links=len(links),
                visited_at=at,
                changed_at=known.changed_at if known and known.digest == digest else at,
            ),
            map(self.digest_of, images),
        )

    def _page_unchanged(self, response: Response, start: bool) -> Output:
        self.tally.start_read += start
        self.tally.pages += 1
        known = self.state.page(_asked_digest(response))
        if known is not None:
            # It is not read, but what it shows is there still.
            shown = self.state.images_on(known.url)
            self.tally.images_found += shown
            self.tally.images_known += shown
            self.note_page(replace(known, visited_at=now()), ())
        return
        yield

    def note_listing(
        self, response: Response, address: str, digests: Sequence[bytes], *, links: int, found_on: str
    ) -> None:
        """A listing was read whole: it is remembered with its validators when its images are settled."""
        at = now()
        page = PageState(
            url_hash=page_digest(address),
            url=address,
            found_on=found_on[:LONGEST_URL],
            depth=0,
            **validators_of(response),
            images=len(digests),
            links=links,
            visited_at=at,
            changed_at=at,
        )
        self.note_page(page, digests)

    def _note_gone(self, response: Response, found_on: str, depth: int) -> None:
        """A page that gives nothing, now and the next time: it is looked at again when it is its turn."""
        self.note_page(
            PageState(
                url_hash=_asked_digest(response),
                url=asked_address(response),
                found_on=found_on[:LONGEST_URL],
                depth=depth,
                visited_at=now(),
            ),
            (),
        )

    @staticmethod
    def _page_refusal(response: Response) -> Refusal | None:
        refusal = failures.of_status(response)
        if refusal is None and not response.body:
            refusal = Refusal(Reason.EMPTY, f"HTTP {response.status}", False, response.status)
        if refusal is None and not isinstance(response, HtmlResponse) and not _looks_like_markup(response):
            detail = f"no page either: {content_type(response) or 'no type'}"
            refusal = Refusal(Reason.NOT_AN_IMAGE, detail, True, response.status)
        return refusal

    def page_failed(self, failure: Failure) -> Iterator[FetchedAddress]:
        """A row for a page that gave no answer."""
        request, refusal = self._failed(failure)
        first = (request.meta.get("redirect_urls") or [request.url])[0]
        yield self._page_row(first, request.cb_kwargs["found_on"], request.cb_kwargs["start"], refusal, None)

    def _page_row(
        self, url: str, found_on: str, start: bool, refusal: Refusal, response: Response | None
    ) -> FetchedAddress:
        if start:
            self.tally.start_refusals.append(refusal)
        return FetchedAddress(
            page_url=found_on,
            image_url=url[:LONGEST_URL],
            crawled_at=now(),
            http_status=refusal.status if response is None else response.status,
            reason=refusal.reason,
            detail=clean_text(refusal.detail),
            size=None if response is None else len(response.body),
            is_page=True,
        )

    def _linked_image(self, response: Response, found_on: str) -> Output:
        """A link that looked like one to a page and led to an image."""
        shown = ShownImage(asked_address(response), uploader=None, uploaded_at=None)
        digest = self.digest_of(shown)
        self._note_gone(response, found_on, 0)
        if digest in self._images_seen:
            return
        self._images_seen.add(digest)
        self.tally.images_found += 1
        if self.state.image(digest):
            self.tally.images_known += 1
        else:
            self._unsettled.add(digest)
            yield from self.read_image(response, showing=Showing(found_on, 1, shown), digest=digest)


def page_digest(address: str) -> bytes:
    """How a page, or a page of a listing, is known: like an image.

    Raises:
        ValueError: it is no address.
    """
    return bytes.fromhex(url_hash(normal_url(address)))


def asked_address(response: Response) -> str:
    """Where the first of a chain of redirects was asked for."""
    request = response.request
    first: str = (request.meta.get("redirect_urls") or [request.url])[0] if request else response.url
    return first


def _asked_digest(response: Response) -> bytes:
    return page_digest(asked_address(response))


def _listed_digest(images: Iterable[str], links: Iterable[str]) -> bytes:
    """Of what a page lists, in whatever order."""
    listed = hashlib.sha256()
    for addresses in (images, links):
        listed.update("\n".join(sorted(set(addresses))).encode("utf-8", "surrogatepass") + b"\0")
    return listed.digest()


def _looks_like_markup(response: Response) -> bool:
    # Some servers say text/plain, or nothing, of a page.
    return isinstance(response, TextResponse) and response.text.lstrip()[:1] == "<"
