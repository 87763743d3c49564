"""Finds out which kind of source a site is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from time import monotonic
from typing import Any
from urllib.parse import urljoin, urlsplit

from scrapy import Request, Spider
from scrapy.http import Response
from twisted.python.failure import Failure

from copywatch.crawl import CrawlJob
from copywatch.crawl_state import StateFile
from copywatch.sites import Site
from crawlers import detection, failures
from crawlers.addresses import AddressPolicy
from crawlers.detection import Candidate, Detected
from crawlers.listings.sitemap import LARGEST

_MOST_REQUESTS = 7
"""Of one start address; most need two."""

_MOST_STARTS = 5


class DetectSpider(Spider):
    """Asks each start address what it is, one question after the other, and believes an interface only when it has
    answered. Lands nothing; what it finds is in `detected`."""

    name = "detect"
    custom_settings = {"ITEM_PIPELINES": {}}  # noqa: RUF012

    def __init__(
        self, *, job: CrawlJob, site: Site, policy: AddressPolicy, state: StateFile | None = None, **more: object
    ) -> None:
        super().__init__()
        self.site = site
        self.policy = policy
        self.deadline = monotonic() + job.site_seconds
        self.detected: Detected | None = None
        self._found: dict[str, Detected] = {}
        self._left: dict[str, int] = {}
        self._doubts: dict[str, list[str]] = {}

    async def start(self) -> AsyncIterator[Any]:
        """The first question about each start address."""
        for address in self.site.start[:_MOST_STARTS]:
            self._left[address] = _MOST_REQUESTS
            self._doubts[address] = []
            candidates = detection.by_address(address)
            if urlsplit(address).path == "/robots.txt":
                steps = self._conclude(address, "sitemap", address, "the address is a robots.txt, which names sitemaps")
            elif candidates:
                steps = self._ask(address, candidates[0].address, self._proven, candidates=candidates)
            else:
                steps = self._ask(address, address, self._home_read)
            for request in steps:
                yield request

    def _ask(self, about: str, address: str, callback: Any, **more: Any) -> Iterator[Request]:
        """The next question about a start address, if it may still be asked one; else the answer is what is known."""
        if self._left[about] <= 0:
            self._doubts[about].append("too many questions")
            yield from self._conclude_gallery(about)
            return
        self._left[about] -= 1
        try:
            yield Request(
                address,
                callback=callback,
                errback=self._unanswered,
                cb_kwargs={"about": about, **more},
                dont_filter=True,
                meta={"download_maxsize": LARGEST, "then": callback},
            )
        except ValueError:
            yield from self._conclude_gallery(about)

    def _unanswered(self, failure: Failure) -> Iterator[Request]:
        """No answer is one as well: to the first question, that nothing is known; to the others, no."""
        request: Request = failure.request  # type: ignore[attr-defined]
        then, about = request.meta["then"], request.cb_kwargs
        if then == self._home_read:
            return
        if then == self._proven:
            error = failure.value or RuntimeError("a failure without an exception")
            why = failures.of_exception(error, request.url, self.policy).sentence
            yield from self._disproved(f"{about['candidates'][0].hint}, but {request.url} gives: {why}", **about)
        else:
            yield from then(Response(request.url, status=404, request=request), **about)

    def _home_read(self, response: Response, *, about: str) -> Iterator[Request]:
        if response.status == 200 and (seen := detection.by_content(response)):
            yield from self._conclude(about, seen.kind, about, seen.why)
            return
        if response.status >= 500:
            return  # ask again another time
        yield from self._try(about, list(detection.by_page(response)))

    def _try(self, about: str, candidates: list[Candidate]) -> Iterator[Request]:
        if candidates:
            yield from self._ask(about, candidates[0].address, self._proven, candidates=candidates)
        else:
            yield from self._ask(about, detection.instance_address(about), self._instance_read)

    def _proven(self, response: Response, *, about: str, candidates: list[Candidate]) -> Iterator[Request]:
        answer = detection.proof(candidates[0], response)
        if isinstance(answer, Detected):
            yield from self._conclude(about, answer.kind, answer.start[0], answer.why)
        else:
            yield from self._disproved(answer, about=about, candidates=candidates)

    def _disproved(self, why: str, *, about: str, candidates: list[Candidate]) -> Iterator[Request]:
        first, *rest = candidates
        self._doubts[about].append(why)
        if rest or first.kind != "mastodon":
            yield from self._try(about, rest)
        else:
            yield from self._ask(about, urljoin(about, "/robots.txt"), self._robots_read)

    def _instance_read(self, response: Response, *, about: str) -> Iterator[Request]:
        name = detection.is_instance(response.body) if response.status == 200 else None
        if name:
            candidate = detection.mastodon_at(about, f"the host calls itself the instance {name[:100]}")
            yield from self._ask(about, candidate.address, self._proven, candidates=[candidate])
        else:
            yield from self._ask(about, urljoin(about, "/robots.txt"), self._robots_read)

    def _robots_read(self, response: Response, *, about: str) -> Iterator[Request]:
        sitemaps = [one for one in detection.sitemaps_to_try(response) if self._is_own(one)]
        if sitemaps:
            yield from self._ask(about, sitemaps[0], self._sitemap_read, deeper=True)
        else:
            yield from self._conclude_gallery(about)

    def _sitemap_read(self, response: Response, *, about: str, deeper: bool) -> Iterator[Request]:
        names_images, sitemaps = detection.of_sitemap(response)
        own = [one for one in sitemaps if self._is_own(one)]
        if names_images:
            robots = urljoin(about, "/robots.txt")
            yield from self._conclude(about, "sitemap", robots, "robots.txt names a sitemap that lists images")
        elif deeper and own:
            yield from self._ask(about, own[0], self._sitemap_read, deeper=False)
        else:
            yield from self._conclude_gallery(about)

    def _is_own(self, address: str) -> bool:
        host = (urlsplit(address).hostname or "").removeprefix("www.")
        return host in {own.removeprefix("www.") for own in self.site.hosts}

    def _conclude_gallery(self, about: str) -> Iterator[Request]:
        doubts = "; ".join(self._doubts[about])
        why = "no interface that lists images was found, so that its pages are read"
        yield from self._conclude(about, "gallery", about, f"{why} ({doubts})" if doubts else why)

    def _conclude(self, about: str, kind: Any, start: str, why: str) -> Iterator[Request]:
        """What one start address is; what the site is, as far as that is known by now."""
        self._found[about] = Detected(kind, [start], why)
        kinds = {one.kind for one in self._found.values()}
        starts = list(dict.fromkeys(one.start[0] for one in self._found.values()))
        if len(kinds) > 1:
            kind, starts = "gallery", list(self.site.start)
            why = f"its start addresses are different kinds of source: {', '.join(sorted(kinds))}"
        elif kind in {"gallery", "feed", "sitemap"}:
            starts += self.site.start[_MOST_STARTS:]
        self.detected = Detected(kind, starts, why)
        return
        yield
