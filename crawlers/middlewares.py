"""Downloader middlewares: what a request passes through on its way out and its answer on its way back."""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.downloadermiddlewares.httpcompression import HttpCompressionMiddleware
from scrapy.downloadermiddlewares.redirect import RedirectMiddleware
from scrapy.downloadermiddlewares.retry import get_retry_request
from scrapy.exceptions import (
    CannotResolveHostError,
    DownloadConnectionRefusedError,
    DownloadFailedError,
    DownloadTimeoutError,
    IgnoreRequest,
    ResponseDataLossError,
)
from scrapy.http import Response
from scrapy.http.request import NO_CALLBACK
from scrapy.robotstxt import ProtegoRobotParser
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost

from crawlers.addresses import AddressNotAllowed, AddressPolicy
from crawlers.failures import (
    AskedToWait,
    BodyTooLarge,
    ForbiddenByRobots,
    RobotsUnreadable,
    TooManyRedirects,
    of_exception,
    of_status,
)

logger = logging.getLogger(__name__)

IS_IMAGE = "is_image"
"""`Request.meta` key: an image is asked for, so that the site's `image_hosts` hold."""

_IS_ROBOTS = "is_robots"
_NOT_BEFORE = "not_before"


class AddressGuard:
    """Refuses requests, redirected ones too, for what the site's policy forbids, before a name is looked up."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> AddressGuard:
        return cls(crawler.settings["ADDRESS_POLICY"])

    def process_request(self, request: Request) -> None:
        self._policy.check(request.url, image=request.meta.get(IS_IMAGE, False))


class RobotsRules:
    """Obeys robots.txt as RFC 9309 says: 4xx allows everything, and one that cannot be read forbids everything.

    Scrapy's own middleware allows everything in the second case, and gives a whole user-agent line to the matching,
    where any word of ours ("image") could match a rule for somebody else.
    """

    # The RFC asks for at least 500 KiB to be read.
    _LARGEST = 1024 * 1024

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._policy: AddressPolicy = crawler.settings["ADDRESS_POLICY"]
        name = re.match(r"[A-Za-z_-]+", crawler.settings["USER_AGENT"])
        self._product = name[0] if name else "*"
        self._rules: dict[tuple[str, str], asyncio.Task[ProtegoRobotParser]] = {}

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> RobotsRules:
        return cls(crawler)

    async def process_request(self, request: Request) -> None:
        if request.meta.get(_IS_ROBOTS):
            return
        parts = urlsplit(request.url)
        origin = (parts.scheme, parts.netloc.lower())
        if origin not in self._rules:
            image = request.meta.get(IS_IMAGE, False)
            self._rules[origin] = asyncio.ensure_future(self._fetch(f"{origin[0]}://{origin[1]}/robots.txt", image))
        rules = await asyncio.shield(self._rules[origin])
        if not rules.allowed(request.url, self._product):
            raise ForbiddenByRobots

    async def _fetch(self, url: str, image: bool) -> ProtegoRobotParser:
        meta = {_IS_ROBOTS: True, IS_IMAGE: image, "download_maxsize": self._LARGEST}
        request = Request(url, meta=meta, priority=1000, callback=NO_CALLBACK, dont_filter=True)
        try:
            response = await self._crawler.engine.download_async(request)
        except TooManyRedirects:
            return ProtegoRobotParser(b"", self._crawler.spider)
        except Exception as error:  # whatever it was, the rules are not known
            raise RobotsUnreadable(of_exception(error, url, self._policy)) from error
        refusal = of_status(response)
        if refusal and not refusal.lasting:
            raise RobotsUnreadable(refusal)
        return ProtegoRobotParser(b"" if refusal else response.body, self._crawler.spider)


class PatientRetry:
    """Tries again what may pass: 429, 5xx, time-outs, broken connections; later each time, and not before the host
    says (`Retry-After`). A host that asks for more than a crawl can wait is left alone for the rest of it."""

    _STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
    _ERRORS = (
        CannotResolveHostError,
        DownloadConnectionRefusedError,
        DownloadFailedError,
        DownloadTimeoutError,
        ResponseDataLossError,
        ConnectionDone,
        ConnectError,
        ConnectionLost,
    )

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._policy: AddressPolicy = crawler.settings["ADDRESS_POLICY"]
        self._backoff = crawler.settings.getfloat("RETRY_BACKOFF_SECONDS")
        self._longest = crawler.settings.getfloat("RETRY_LONGEST_WAIT_SECONDS")
        self._times = crawler.settings.getint("RETRY_TIMES")
        self._asked: dict[str, tuple[float, int]] = {}

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> PatientRetry:
        return cls(crawler)

    async def process_request(self, request: Request) -> None:
        until, status = self._asked.get(urlsplit(request.url).netloc, (0.0, 0))
        own = request.meta.pop(_NOT_BEFORE, 0.0)
        wait = max(until, own) - monotonic()
        if wait <= 0:
            return
        if until >= own and wait > self._patience():
            raise AskedToWait(status, wait)
        await asyncio.sleep(wait)

    def process_response(self, request: Request, response: Response) -> Response | Request:
        if response.status not in self._STATUSES:
            return response
        seconds = retry_after(response, datetime.now(UTC))
        if seconds is not None:
            host = urlsplit(request.url).netloc
            self._asked[host] = (max(self._asked.get(host, (0.0, 0))[0], monotonic() + seconds), response.status)
            if seconds > self._patience():
                raise AskedToWait(response.status, seconds)
        return self._again(request, f"HTTP {response.status}", seconds) or response

    def process_exception(self, request: Request, exception: Exception) -> Request | None:
        # A name that the resolver refused looks like one that is unknown.
        if isinstance(exception, self._ERRORS) and not self._policy.refusal(request.url):
            # A time-out has waited long enough already: it is tried once more.
            times = min(1, self._times) if isinstance(exception, DownloadTimeoutError) else self._times
            return self._again(request, type(exception).__name__, None, times)
        return None

    def _again(self, request: Request, why: str, asked: float | None, times: int | None = None) -> Request | None:
        if self._crawler.spider is None:
            return None
        again = get_retry_request(
            request,
            spider=self._crawler.spider,
            reason=why,
            max_retry_times=self._times if times is None else times,
            give_up_log_level="DEBUG",
        )
        if again is None:
            return None
        wait = self._backoff * 2 ** (again.meta["retry_times"] - 1) if asked is None else asked
        if wait > self._patience():
            return None
        again.meta[_NOT_BEFORE] = monotonic() + wait
        return again

    def _patience(self) -> float:
        """Seconds that a request may wait now: less at the end of the crawl."""
        deadline: float = getattr(self._crawler.spider, "deadline", float("inf"))
        return min(self._longest, deadline - monotonic())


def retry_after(response: Response, at: datetime) -> float | None:
    """Seconds that a Retry-After header asks to wait from `at`; None: there is none that means anything."""
    text = (response.headers.get("Retry-After") or b"").decode("latin-1").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - at).total_seconds())


class BoundedRedirects(RedirectMiddleware):
    """Scrapy's redirects, with an error of its own for those that do not end."""

    def process_response(self, request: Request, response: Response, spider: Any = None) -> Request | Response:
        try:
            return super().process_response(request, response)
        except IgnoreRequest as error:
            raise TooManyRedirects(f"{self.max_redirect_times} redirects, the last to {response.url}") from error
        except ValueError as error:
            raise AddressNotAllowed(f"redirects to what is no address: {error}") from error


class BoundedDecompression(HttpCompressionMiddleware):
    """Scrapy's decompression, with an error of its own for a body that unpacks to too much."""

    def process_response(self, request: Request, response: Response, spider: Any = None) -> Request | Response:
        try:
            return super().process_response(request, response)
        except IgnoreRequest as error:
            limit = request.meta.get("download_maxsize", self._max_size)
            raise BodyTooLarge(f"{len(response.body)} bytes unpack to more than {limit}") from error
