"""What every spider does: read pages, ask for their new images, and make a row of whatever cannot be had."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, ClassVar, Self, cast
from urllib.parse import urlsplit

from scrapy import Request, Spider, signals
from scrapy.crawler import Crawler
from scrapy.exceptions import DontCloseSpider
from scrapy.http import HtmlResponse, Response, TextResponse
from twisted.python.failure import Failure

from copywatch.crawl import CrawlJob, normal_url, url_hash
from copywatch.errors import Reason
from copywatch.sites import Site
from crawlers import failures
from crawlers.addresses import LONGEST_URL, NOT_LISTED, AddressNotAllowed, AddressPolicy
from crawlers.failures import Refusal
from crawlers.items import FetchedAddress, now, sha256_of
from crawlers.middlewares import IS_IMAGE
from crawlers.pages import Page, ShownImage
from crawlers.tally import Tally
from crawlers.texts import clean_text

PAGE_BYTES = 8 * 2**20
"""A page may have this many bytes; a tree of it needs ten times as many."""

_MOST_WAITING = 5_000
"""Images wait until the pages are read, since the page that is about one is seldom the first to show it; this many."""

_SHARE_FOR_PAGES = 0.5
"""Of the site's time; the rest is for the images of the pages read by then."""
_UNCONNECTED = frozenset({Reason.FORBIDDEN_ADDRESS, Reason.FORBIDDEN_BY_ROBOTS})

Output = Iterator[Request | FetchedAddress]


@dataclass(frozen=True)
class Showing:
    """The page that an image is to be shown on to its owner, and what that page says of it."""

    page_url: str
    page_images: int
    shown: ShownImage

    def better(self, other: Showing) -> Showing:
        """The page that is about the image, or shows little else; what it does not say is taken from the other.

        A page that shows the image as a link to another page is not about it. Among equals this one stays.
        """
        ranks = [(one.shown.leads_on, one.page_images) for one in (self, other)]
        best, rest = (other, self) if ranks[1] < ranks[0] else (self, other)
        said = {
            "address": self.shown.address,  # the spelling that is being fetched
            "uploader": best.shown.uploader or rest.shown.uploader,
            "uploaded_at": best.shown.uploaded_at or rest.shown.uploaded_at,
        }
        return replace(best, shown=replace(best.shown, **said))


class SiteSpider(Spider):
    """Reads the start pages and lands the new images of every page. What else to read, a kind of source says in
    `further_pages`, or by taking the start answers itself in `read_start`."""

    start_bytes: ClassVar[int] = PAGE_BYTES
    """The answer of a start address may have this many bytes."""

    def __init__(self, *, job: CrawlJob, site: Site, policy: AddressPolicy, known: set[bytes]) -> None:
        super().__init__()
        self.job = job
        self.site = site
        self.policy = policy
        self.tally = Tally()
        self.deadline = monotonic() + job.site_seconds
        self._known = known
        self._pages_seen: set[str] = set()
        self._pages_asked = 0
        self._images_seen: set[bytes] = set()
        self._showings: dict[bytes, Showing] = {}
        self._waiting: list[Request] = []
        self._pages_until = monotonic() + job.site_seconds * _SHARE_FOR_PAGES

    @classmethod
    def from_crawler(cls, crawler: Crawler, *args: Any, **kwargs: Any) -> Self:
        """Made by Scrapy."""
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.ask_for_waiting_images, signal=signals.spider_idle)
        return spider

    def further_pages(self, page: Page) -> Iterable[str]:
        """Addresses of the pages to read after this one."""
        return ()

    def read_start(self, response: Response, *, found_on: str, depth: int, start: bool) -> Output:
        """Read the answer of a start address."""
        yield from self.read_page(response, found_on=found_on, depth=depth, start=start)

    async def start(self) -> AsyncIterator[Request | FetchedAddress]:
        """Requests of the start addresses."""
        for address in self.site.start:
            for request in self.ask(address, self.read_start, found_on=address, depth=0, start=True):
                yield request

    def is_own(self, url: str) -> bool:
        """Whether a page belongs to the site: its host is that of a start address, with or without `www.`"""
        host = (urlsplit(url).hostname or "").removeprefix("www.")
        return host in {own.removeprefix("www.") for own in self.site.hosts}

    def ask(
        self, url: str, callback: Any, *, found_on: str, depth: int, start: bool = False, **more: object
    ) -> Iterator[Request]:
        """A request for a page, unless it was asked for before or a bound of the site is reached.

        `more` is given to the callback beside the other three.
        """
        try:
            normal = normal_url(url)
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
        if normal in self._pages_seen:
            return
        if not start and depth > self.site.max_depth:
            self.tally.bounds_reached.add("max_depth")
        elif not start and self._pages_asked >= self.site.max_pages:
            self.tally.bounds_reached.add("max_pages")
        elif not start and monotonic() > self._pages_until:
            self.tally.bounds_reached.add("site_seconds")
        else:
            self._pages_asked += 1
            self._pages_seen.add(normal)
            yield request

    def read_page(self, response: Response, *, found_on: str, depth: int, start: bool) -> Output:
        """The images of a page, and its further pages."""
        if not start and response.status == 200 and _content_type(response).startswith("image/"):
            yield from self._linked_image(response, found_on)
            return
        if refusal := self._page_refusal(response):
            yield self._page_row(response.url, found_on, start, refusal, response)
            return
        if response.request and response.request.meta.get("redirect_urls"):
            normal = normal_url(response.url)
            # Where a redirect leads, another link may lead as well: it is read once, and only on the site's hosts.
            # A start page is read wherever it leads.
            if not start and (normal in self._pages_seen or not self.is_own(response.url)):
                return
            self._pages_seen.add(normal)
        self.tally.start_read += start
        try:
            yield from self._read_content(cast(TextResponse, response), depth)
        except Exception as error:  # a page can break a parser in ways that nobody listed
            self.logger.warning("page %s cannot be read: %r", response.url, error)
            broken = Refusal(Reason.CORRUPT, f"page cannot be read: {error!r}", False, response.status)
            yield self._page_row(response.url, found_on, False, broken, response)

    def _read_content(self, response: TextResponse, depth: int) -> Output:
        page = Page(response, self.site.select)
        images = [shown for shown in page.images() if not shown.ignored]
        for shown in images:
            yield from self._ask_for_image(Showing(response.url, len(images), shown))
        for url in self.further_pages(page):
            if self.is_own(url):
                yield from self.ask(url, self.read_page, found_on=response.url, depth=depth + 1)
        self.tally.pages += 1
        if page.cut_short:
            raise ValueError("its elements are nested too deep; what follows them is not read")

    @staticmethod
    def _page_refusal(response: Response) -> Refusal | None:
        refusal = failures.of_status(response)
        if refusal is None and not response.body:
            refusal = Refusal(Reason.EMPTY, f"HTTP {response.status}", False, response.status)
        if refusal is None and not isinstance(response, HtmlResponse) and not _looks_like_markup(response):
            detail = f"no page either: {_content_type(response) or 'no type'}"
            refusal = Refusal(Reason.NOT_AN_IMAGE, detail, False, response.status)
        return refusal

    def page_failed(self, failure: Failure) -> Iterator[FetchedAddress]:
        """A row for a page that gave no answer."""
        request, refusal = self._failed(failure)
        first = (request.meta.get("redirect_urls") or [request.url])[0]
        yield self._page_row(first, request.cb_kwargs["found_on"], request.cb_kwargs["start"], refusal, None)

    def _failed(self, failure: Failure) -> tuple[Request, Refusal]:
        request: Request = failure.request  # type: ignore[attr-defined]
        error = failure.value or RuntimeError("a failure without an exception")
        return request, failures.of_exception(error, request.url, self.policy)

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

    def _linked_image(self, response: Response, found_on: str) -> Iterator[FetchedAddress]:
        """A link that looked like one to a page and led to an image."""
        request = cast(Request, response.request)
        address = (request.meta.get("redirect_urls") or [request.url])[0]
        digest = url_hash(normal_url(address))
        if bytes.fromhex(digest) in self._images_seen:
            return
        self._images_seen.add(bytes.fromhex(digest))
        self.tally.images_found += 1
        if bytes.fromhex(digest) in self._known:
            self.tally.images_known += 1
        else:
            showing = Showing(found_on, 1, ShownImage(address, uploader=None, uploaded_at=None))
            yield from self.read_image(response, showing=showing, digest=digest)

    def _ask_for_image(self, showing: Showing) -> Output:
        """A request for an image that is new to this and all earlier crawls, or a row why there is none."""
        shown = showing.shown
        try:
            digest = url_hash(shown.address if shown.trouble else normal_url(shown.address))
        except ValueError:
            digest = url_hash(shown.address)
        binary = bytes.fromhex(digest)
        if binary in self._images_seen:
            if earlier := self._showings.get(binary):
                self._showings[binary] = earlier.better(showing)
            return
        since = self.job.uploaded_since
        if since and shown.uploaded_at and shown.uploaded_at.date() < since:
            return  # the administrator did not ask for it
        known = binary in self._known
        refusal = None if known else self._refusal_of(shown)
        if refusal and refusal.detail == NOT_LISTED:
            return  # the administrator did not ask for it
        bound = self.site.max_images
        if not known and (self.tally.images_asked >= bound or self.tally.refused >= bound):
            self.tally.bounds_reached.add("max_images")
            return
        self._images_seen.add(binary)
        self.tally.images_found += 1
        about: dict[str, Any] = {"showing": showing, "digest": digest}
        if known:
            self.tally.images_known += 1
        elif refusal:
            self.tally.refused += 1
            yield self._image_row(refusal, None, **about)
        else:
            self.tally.images_asked += 1
            self._showings[binary] = showing
            request = self._image_request(shown.address, about)
            if len(self._waiting) < _MOST_WAITING:
                self._waiting.append(request)
            else:
                yield request

    def _image_request(self, address: str, about: dict[str, Any]) -> Request:
        return Request(
            address,
            callback=self.read_image,
            errback=self.image_failed,
            cb_kwargs=about,
            dont_filter=True,
            headers={"Accept": "image/avif,image/webp,image/*,*/*;q=0.8"},
            meta={IS_IMAGE: True, "download_maxsize": self.job.max_image_bytes},
        )

    def ask_for_waiting_images(self) -> None:
        """When all pages are read, go on with the images that waited for it.

        Raises:
            DontCloseSpider: there were some.
        """
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            self.crawler.engine.crawl(request)
        raise DontCloseSpider

    def _refusal_of(self, shown: ShownImage) -> Refusal | None:
        if shown.trouble:
            return Refusal(Reason.FORBIDDEN_ADDRESS, shown.trouble, lasting=True)
        try:
            self.policy.check(shown.address, image=True)
        except AddressNotAllowed as error:
            return Refusal(Reason.FORBIDDEN_ADDRESS, str(error), lasting=False)
        return None

    def read_image(self, response: Response, *, showing: Showing, digest: str) -> Iterator[FetchedAddress]:
        """The row of an image that was answered."""
        refusal = failures.of_status(response) or failures.of_image_body(response)
        yield self._image_row(refusal, response, showing=showing, digest=digest)

    def image_failed(self, failure: Failure) -> Iterator[FetchedAddress]:
        """The row of an image that was not."""
        request, refusal = self._failed(failure)
        if refusal.reason in _UNCONNECTED:
            self.tally.images_asked -= 1
            self.tally.refused += 1
        yield self._image_row(refusal, None, **request.cb_kwargs)

    def _image_row(
        self, refusal: Refusal | None, response: Response | None, *, showing: Showing, digest: str
    ) -> FetchedAddress:
        showing = self._showings.pop(bytes.fromhex(digest), showing)
        shown = showing.shown
        body = response.body if response is not None else None
        return FetchedAddress(
            page_url=showing.page_url,
            image_url=shown.address[:LONGEST_URL],
            uploader=shown.uploader,
            uploaded_at=shown.uploaded_at,
            crawled_at=now(),
            content_type=None if response is None else _content_type(response) or None,
            http_status=response.status if response is not None else refusal.status if refusal else None,
            reason=refusal.reason if refusal else None,
            detail=clean_text(refusal.detail) if refusal else None,
            sha256=sha256_of(body) if body else None,
            size=len(body) if body is not None else None,
            bytes=body if refusal is None else None,
            settled_hash=digest if refusal is None or refusal.lasting else None,
        )


def _content_type(response: Response) -> str:
    return clean_text((response.headers.get("Content-Type") or b"").decode("latin-1")) or ""


def _looks_like_markup(response: Response) -> bool:
    # Some servers say text/plain, or nothing, of a page.
    return isinstance(response, TextResponse) and response.text.lstrip()[:1] == "<"
