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
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost

from crawlers.addresses import AddressNotAllowed, AddressPolicy
from crawlers.failures import AskedToWait, BodyTooLarge, TooManyRedirects

logger = logging.getLogger(__name__)

IS_IMAGE = "is_image"
"""`Request.meta` key: an image is asked for, so that the site's `image_hosts` hold."""

_NOT_BEFORE = "not_before"


def seconds_left(crawler: Crawler) -> float:
    """Until the crawl's time is over; infinite for a spider without a `deadline`."""
    deadline: float = getattr(crawler.spider, "deadline", float("inf"))
    return deadline - monotonic()


class AddressGuard:
    """Refuses requests, redirected ones too, for what the site's policy forbids, before a name is looked up."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> AddressGuard:
        return cls(crawler.settings["ADDRESS_POLICY"])

    def process_request(self, request: Request) -> None:
        self._policy.check(request.url, image=request.meta.get(IS_IMAGE, False))


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
            max_retry_times=min(self._times if times is None else times, request.meta.get("max_retry_times", 9)),
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
        return min(self._longest, seconds_left(self._crawler))


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
