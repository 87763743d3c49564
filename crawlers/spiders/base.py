"""What every spider does: ask for the images that are new or changed, and make a row of whatever cannot be had."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, ClassVar, Self

from scrapy import Request, Spider, signals
from scrapy.crawler import Crawler
from scrapy.exceptions import DontCloseSpider
from scrapy.http import Response
from twisted.python.failure import Failure

from copywatch.crawl import CrawlJob, normal_url, url_hash
from copywatch.crawl_state import ImageState, PageState, StateFile
from copywatch.errors import Reason
from copywatch.sites import Site
from crawlers import failures
from crawlers.addresses import LONGEST_URL, NOT_LISTED, AddressNotAllowed, AddressPolicy
from crawlers.failures import Refusal
from crawlers.items import FetchedAddress, Unchanged, now, sha256_of
from crawlers.middlewares import IS_IMAGE
from crawlers.pages import ShownImage
from crawlers.rights import stated_rights
from crawlers.tally import Tally
from crawlers.texts import clean_text
from crawlers.validators import conditions, is_same_file, validators_of

PAGE_BYTES = 8 * 2**20
"""A page may have this many bytes; a tree of it needs ten times as many."""

_MOST_WAITING = 1_000
"""Images wait until the pages are read, since the page that is about one is seldom the first to show it; this many."""

_SHARE_OF_KNOWN = 0.018
_LEAST_BUDGET = 150
_UNCONNECTED = frozenset({Reason.FORBIDDEN_ADDRESS, Reason.FORBIDDEN_BY_ROBOTS})
_GONE = frozenset({404, 410})

Item = FetchedAddress | Unchanged
Output = Iterator[Request | Item]


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
        one, two = best.shown, rest.shown
        said: dict[str, Any] = {
            name: getattr(one, name) or getattr(two, name) for name in ("caption", "licence", "source_hash", "version")
        }
        # A name and its link, a date and what said so: from one page, or they would not belong together.
        named, dated = one if one.uploader else two, one if one.uploaded_at else two
        said |= {"uploader": named.uploader, "uploader_url": named.uploader_url}
        said |= {"uploaded_at": dated.uploaded_at, "uploaded_at_source": dated.uploaded_at_source}
        # The spelling that is being fetched.
        return replace(best, shown=replace(one, address=self.shown.address, **said))


class SiteSpider(Spider):
    """Asks for images. Where they are named, a kind of source says, in the spiders above this one."""

    start_bytes: ClassVar[int] = PAGE_BYTES
    """The answer of a start address may have this many bytes."""

    def __init__(
        self,
        *,
        job: CrawlJob,
        site: Site,
        policy: AddressPolicy,
        state: StateFile,
        start: Sequence[str] = (),
        earlier: Mapping[str, Any] | None = None,
    ) -> None:
        """`start`: addresses to begin at, if they are not the site's own. `earlier`: what Scrapy counted in the crawl
        that found them out."""
        super().__init__()
        self.job = job
        self.site = site
        self.policy = policy
        self.state = state
        self.start_addresses = list(start or site.start)
        self.tally = Tally(source=self.name)
        self.tally.take(earlier or {})
        self.notes: dict[str, object] = {}
        """What the source wants to remember; kept when the crawl has ended and all that it found is in place."""
        self.deadline = monotonic() + job.site_seconds
        known_images, known_pages = state.counts()
        self.budget = max(_LEAST_BUDGET, int(_SHARE_OF_KNOWN * (known_images + known_pages)))
        """Requests that may be made for what is known already; what they bring to light is not counted."""
        self._images_seen: set[bytes] = set()
        self._showings: dict[bytes, Showing] = {}
        self._waiting: list[Request] = []
        self._checked = False
        self._to_check: dict[bytes, tuple[Showing, ImageState]] = {}
        self._unsettled: set[bytes] = set()
        self._refused: set[bytes] = set()
        self._open_pages: dict[bytes, tuple[PageState, set[bytes]]] = {}
        self._pages_of_image: dict[bytes, list[bytes]] = {}
        self._complete_pages: list[PageState] = []

    @classmethod
    def from_crawler(cls, crawler: Crawler, *args: Any, **kwargs: Any) -> Self:
        """Made by Scrapy."""
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.ask_for_waiting_images, signal=signals.spider_idle)
        return spider

    async def start(self) -> AsyncIterator[Any]:
        """Requests of the start addresses.

        Raises:
            NotImplementedError: the kind of source does not say what to begin with.
        """
        raise NotImplementedError
        yield

    # --- pages, or listings, and the images that they wait for ---

    def note_page(self, page: PageState, images: Iterable[bytes]) -> None:
        """A page or listing was read. It is remembered when all of its images are settled, so that what it shows is
        not lost if this crawl ends before. `images`: their digests (`ask_for_image` was called for each)."""
        digests = set(images)
        waiting = digests & self._unsettled
        if digests & self._refused:
            # Robots and address rules may be lifted: then the page must be read again, though it is the same.
            page = replace(page, etag=None, last_modified=None, digest=None)
        if waiting:
            self._open_pages[page.url_hash] = (page, waiting)
            for digest in waiting:
                self._pages_of_image.setdefault(digest, []).append(page.url_hash)
        else:
            self._complete_pages.append(page)

    def settled(self, digest: bytes, *, refused: bool = False) -> None:
        """An image's row is written. `refused`: by a rule of ours or of robots.txt."""
        self._unsettled.discard(digest)
        if refused:
            self._refused.add(digest)
        for page_hash in self._pages_of_image.pop(digest, ()):
            page, waiting = self._open_pages[page_hash]
            waiting.discard(digest)
            if refused:
                page = replace(page, etag=None, last_modified=None, digest=None)
                self._open_pages[page_hash] = (page, waiting)
            if not waiting:
                del self._open_pages[page_hash]
                self._complete_pages.append(page)

    @property
    def has_unsettled(self) -> bool:
        """Whether there are images that a later crawl must ask for again."""
        return bool(self._unsettled - self._refused)

    def notes_to_keep(self, *, finished: bool) -> Mapping[str, object]:
        """At the end: what the source wants to remember. A cursor may not pass by what could not be had."""
        return self.notes if finished and not self.has_unsettled else {}

    def take_complete_pages(self) -> list[PageState]:
        """Pages that may be remembered now; each is given once."""
        pages, self._complete_pages = self._complete_pages, []
        return pages

    def take_open_pages(self) -> list[PageState]:
        """At the end: pages whose images could not all be had. The next crawl reads them again."""
        pages = [replace(page, visited_at=None, etag=None, digest=None) for page, _ in self._open_pages.values()]
        self._open_pages.clear()
        return [replace(page, last_modified=None) for page in pages]

    # --- images ---

    @staticmethod
    def digest_of(shown: ShownImage) -> bytes:
        """How an image's address is known."""
        try:
            return bytes.fromhex(url_hash(shown.address if shown.trouble else normal_url(shown.address)))
        except ValueError:
            return bytes.fromhex(url_hash(shown.address))

    def ask_for_image(self, showing: Showing, *, suspect: bool = False) -> Output:
        """A request for an image that is new or changed, or a row why there is none.

        `suspect`: what shows it has changed, so that the file may have changed as well.
        """
        shown = showing.shown
        digest = self.digest_of(shown)
        if digest in self._images_seen:
            if earlier := self._showings.get(digest):
                self._showings[digest] = earlier.better(showing)
            return
        since = self.job.uploaded_since
        if since and shown.uploaded_at and shown.uploaded_at.date() < since:
            self._unsettled.add(digest)
            return  # the administrator did not ask for it
        known = self.state.image(digest)
        refusal = None if known else self._refusal_of(shown)
        if refusal and refusal.detail == NOT_LISTED:
            return  # the administrator did not ask for it
        bound = self.site.max_images
        if not known and (self.tally.images_asked >= bound or self.tally.refused >= bound):
            self.tally.bounds_reached.add("max_images")
            self._unsettled.add(digest)
            return
        self._images_seen.add(digest)
        self.tally.images_found += 1
        if known:
            self.tally.images_known += 1
            if self._is_another_file(shown, known) or suspect:
                self._to_check[digest] = (showing, known)
        elif refusal:
            self.tally.refused += 1
            self._unsettled.add(digest)
            yield self._image_row(refusal, None, showing=showing, digest=digest)
        elif shown.source_hash and (same := self.state.image_of_source_hash(shown.source_hash)):
            self._unsettled.add(digest)
            self.tally.images_repeated += 1
            yield self._image_row(None, None, showing=showing, digest=digest, sha256=same.sha256, size=same.size)
        elif self.job.dry_run:
            yield self._image_row(None, None, showing=showing, digest=digest)
        else:
            self._unsettled.add(digest)
            self._showings[digest] = showing
            request = self._image_request(shown.address, digest, showing)
            if len(self._waiting) < _MOST_WAITING:
                self._waiting.append(request)
            else:
                yield request

    @staticmethod
    def _is_another_file(shown: ShownImage, known: ImageState) -> bool:
        said = ((shown.version, known.version), (shown.source_hash, known.source_hash))
        return any(one is not None and other is not None and one != other for one, other in said)

    def _image_request(self, address: str, digest: bytes, showing: Showing) -> Request:
        self.tally.images_asked += 1
        return Request(
            address,
            callback=self.read_image,
            errback=self.image_failed,
            cb_kwargs={"showing": showing, "digest": digest},
            dont_filter=True,
            headers={"Accept": "image/avif,image/webp,image/*,*/*;q=0.8"},
            meta={IS_IMAGE: True, "download_maxsize": self.job.max_image_bytes},
        )

    def ask_for_waiting_images(self) -> None:
        """When all pages are read, go on with the images that waited for it; then look whether known ones changed.

        Raises:
            DontCloseSpider: there were some.
        """
        requests, self._waiting = self._waiting, []
        if not requests and not self._checked:
            self._checked = True
            requests = list(self._checks())
        if not requests or self.crawler.engine is None:
            return
        for request in requests:
            self.crawler.engine.crawl(request)
        raise DontCloseSpider

    def _checks(self) -> Iterator[Request]:
        """HEAD requests of known images: first those of which something tells that they changed, then in turn."""
        if self.job.dry_run:
            return
        left = max(self.budget, 0)
        suspects = list(self._to_check.values())
        told = [(showing, known) for showing, known in suspects if self._is_another_file(showing.shown, known)]
        # That a page changed says little of each of its images: in a gallery one new image moves all others.
        moved = [(showing, known) for showing, known in suspects if not self._is_another_file(showing.shown, known)]
        checks = told + sorted(moved, key=lambda one: one[1].checked_at)[: max(left - len(told), 0)]
        taken = {known.url_hash for _, known in checks}
        for known in self.state.images_to_check(left) if len(checks) < left else ():
            fresh = known.checked_at >= self.tally.started_at
            if len(checks) < left and not fresh and known.url and known.url_hash not in taken:
                shown = ShownImage(known.url, uploader=None, uploaded_at=None)
                checks.append((self._showings.get(known.url_hash) or Showing(known.page_url, 1, shown), known))
        for showing, known in checks:
            if monotonic() > self.deadline or self._refusal_of(showing.shown):
                continue
            said = showing.shown.source_hash
            if said and known.source_hash and said != known.source_hash:
                # No validator tells more: the bytes are others.
                self._unsettled.add(known.url_hash)
                yield self._image_request(showing.shown.address, known.url_hash, showing)
                continue
            yield Request(
                showing.shown.address,
                method="HEAD",
                callback=self.image_checked,
                errback=self.check_failed,
                cb_kwargs={"showing": showing, "known": known},
                dont_filter=True,
                headers={"Accept": "image/avif,image/webp,image/*,*/*;q=0.8", **conditions(known)},
                meta={IS_IMAGE: True, "download_maxsize": self.job.max_image_bytes},
            )

    def image_checked(self, response: Response, *, showing: Showing, known: ImageState) -> Output:
        """A known image is as it was, or is asked for again."""
        if response.status in failures.PASSING_STATUSES or response.status >= 500:
            return
        shown = showing.shown
        if response.status in _GONE or not 200 <= response.status < 300 or is_same_file(response, known):
            told = {"version": shown.version or known.version, "source_hash": shown.source_hash or known.source_hash}
            yield Unchanged(replace(known, checked_at=now(), **told))
            return
        self._unsettled.add(known.url_hash)
        yield self._image_request(shown.address, known.url_hash, showing)

    def check_failed(self, failure: Failure) -> None:
        """It is looked at again another time."""

    def _refusal_of(self, shown: ShownImage) -> Refusal | None:
        if shown.trouble:
            return Refusal(Reason.FORBIDDEN_ADDRESS, shown.trouble, lasting=True)
        try:
            self.policy.check(shown.address, image=True)
        except AddressNotAllowed as error:
            return Refusal(Reason.FORBIDDEN_ADDRESS, str(error), lasting=False)
        return None

    def read_image(self, response: Response, *, showing: Showing, digest: bytes) -> Iterator[Item]:
        """The row of an image that was answered; of one that is known and has not changed, none."""
        refusal = failures.of_status(response) or failures.of_image_body(response)
        known = self.state.image(digest)
        if known and known.sha256 and (refusal or sha256_of(response.body) == known.sha256):
            # A known file that gives an error now is no news.
            fresh = {} if refusal else validators_of(response)
            yield Unchanged(replace(known, checked_at=now(), version=showing.shown.version or known.version, **fresh))
            return
        yield self._image_row(refusal, response, showing=showing, digest=digest)

    def image_failed(self, failure: Failure) -> Iterator[FetchedAddress]:
        """The row of an image that was not."""
        request, refusal = self._failed(failure)
        if refusal.reason in _UNCONNECTED:
            self.tally.images_asked -= 1
            self.tally.refused += 1
        yield self._image_row(refusal, None, **request.cb_kwargs)

    def _failed(self, failure: Failure) -> tuple[Request, Refusal]:
        request: Request = failure.request  # type: ignore[attr-defined]
        error = failure.value or RuntimeError("a failure without an exception")
        return request, failures.of_exception(error, request.url, self.policy)

    def _image_row(
        self,
        refusal: Refusal | None,
        response: Response | None,
        *,
        showing: Showing,
        digest: bytes,
        sha256: str | None = None,
        size: int | None = None,
    ) -> FetchedAddress:
        """`sha256`, `size`: of bytes that are known already."""
        showing = self._showings.pop(digest, showing)
        shown = showing.shown
        body = response.body if response is not None else None
        kept = body if refusal is None else None
        lasting = (refusal is None or refusal.lasting) and not self.job.dry_run
        return FetchedAddress(
            page_url=showing.page_url[:LONGEST_URL],
            image_url=shown.address[:LONGEST_URL],
            final_url=None if response is None else response.url[:LONGEST_URL],
            uploader=shown.uploader,
            uploader_url=shown.uploader_url,
            uploaded_at=shown.uploaded_at,
            uploaded_at_source=shown.uploaded_at_source if shown.uploaded_at else None,
            caption=shown.caption,
            licence=shown.licence or (stated_rights(kept) if kept else None),
            crawled_at=now(),
            content_type=None if response is None else content_type(response) or None,
            **({} if response is None else {name: validators_of(response)[name] for name in ("etag", "last_modified")}),
            source_hash=shown.source_hash,
            version=shown.version,
            http_status=response.status if response is not None else refusal.status if refusal else None,
            reason=refusal.reason if refusal else None,
            detail=clean_text(refusal.detail) if refusal else None,
            sha256=sha256_of(body) if body else sha256,
            size=len(body) if body is not None else size,
            bytes=kept,
            settled_hash=digest.hex() if lasting else None,
            url_hash=digest,
        )


def content_type(response: Response) -> str:
    """What the server says that it is; often wrong."""
    return clean_text((response.headers.get("Content-Type") or b"").decode("latin-1")) or ""
