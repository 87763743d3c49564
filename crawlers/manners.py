"""How a crawl behaves towards the hosts that it asks: what robots.txt says, how often, how much, and when to stop."""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import timedelta
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from scrapy import Request, Spider, signals
from scrapy.core.downloader import Slot
from scrapy.crawler import Crawler
from scrapy.exceptions import DownloadCancelledError, IgnoreRequest, StopDownload
from scrapy.extensions.throttle import AutoThrottle
from scrapy.http import Response
from scrapy.http.request import NO_CALLBACK
from scrapy.robotstxt import ProtegoRobotParser
from scrapy.utils.asyncio import CallLaterResult, call_later
from twisted.python.failure import Failure

from copywatch.crawl_state import RobotsState, StateFile
from crawlers.addresses import AddressPolicy
from crawlers.failures import (
    PASSING_STATUSES,
    ForbiddenByRobots,
    HostLeftAlone,
    OutOfTime,
    RobotsUnreadable,
    TooManyRedirects,
    of_exception,
    of_status,
)
from crawlers.items import now
from crawlers.middlewares import IS_IMAGE, seconds_left

logger = logging.getLogger(__name__)

_IS_ROBOTS = "is_robots"
_ROBOTS_BYTES = "robots_bytes"
_RESERVED = "reserved_bytes"
_RECEIVED = "received_bytes"

_KEPT = timedelta(hours=24)
"""RFC 9309, section 2.4: a robots.txt may be kept for so long."""

_PARSED_BYTES = 512 * 1024
"""RFC 9309, section 2.5: at least 500 KiB must be read; what comes behind is not."""

_LARGEST_ROBOTS = 16 * 2**20
"""One that announces more, or unpacks to more, is not read at all."""

LONGEST_CRAWL_DELAY = 60.0
"""Seconds. With a longer one a crawl would see a handful of pages; it waits so long, and says so in the log."""


def max_age(response: Response) -> timedelta:
    """How long an answer may be kept: as its Cache-Control says (RFC 9111, section 5.2.2), and a day at most."""
    said = (response.headers.get("Cache-Control") or b"").decode("latin-1").lower()
    if re.search(r"\bno-(store|cache)\b", said):
        return timedelta(0)
    seconds = re.search(r"\bmax-age\s*=\s*\"?([0-9]{1,9})", said)
    return min(_KEPT, timedelta(seconds=int(seconds[1]))) if seconds else _KEPT


class RobotsRules:
    """Obeys robots.txt as RFC 9309 says: 4xx allows everything, and one that cannot be read forbids everything, unless
    it was read within a day. It is kept in the crawl's state between crawls.

    Scrapy's own middleware allows everything where it cannot be read, and gives a whole user-agent line to the
    matching, where any word of ours ("image") could match a rule for somebody else.
    """

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._policy: AddressPolicy = crawler.settings["ADDRESS_POLICY"]
        name = re.match(r"[A-Za-z_-]+", crawler.settings["USER_AGENT"])
        self._product = name[0] if name else "*"
        self._rules: dict[str, tuple[asyncio.Task[ProtegoRobotParser], float]] = {}
        crawler.signals.connect(self.read_no_further, signal=signals.bytes_received)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> RobotsRules:
        return cls(crawler)

    async def process_request(self, request: Request) -> None:
        if request.meta.get(_IS_ROBOTS):
            return
        parts = urlsplit(request.url)
        origin = f"{parts.scheme}://{parts.netloc.lower()}"
        task, asked_at = self._rules.get(origin, (None, 0.0))
        if task is None or monotonic() - asked_at > _KEPT.total_seconds():
            task = asyncio.ensure_future(self._rules_of(origin, request.meta.get(IS_IMAGE, False)))
            self._rules[origin] = task, monotonic()
        try:
            rules = await asyncio.shield(task)
        except RobotsUnreadable:
            self._count()
            raise
        if not rules.allowed(request.url, self._product):
            self._count()
            raise ForbiddenByRobots
        self._keep_the_delay(rules, parts.hostname or "")

    def _count(self) -> None:
        tally = getattr(self._crawler.spider, "tally", None)
        if tally is not None:
            tally.robots_refused += 1

    def _keep_the_delay(self, rules: ProtegoRobotParser, host: str) -> None:
        throttle = self._crawler.get_extension(PoliteThrottle)
        delay = rules.crawl_delay(self._product)
        if throttle is not None and delay:
            throttle.keep_apart(host, delay)

    async def _rules_of(self, origin: str, image: bool) -> ProtegoRobotParser:
        state: StateFile | None = getattr(self._crawler.spider, "state", None)
        kept = state.robots(origin) if state else None
        age = now() - kept.fetched_at if kept else _KEPT
        if state and kept and timedelta(0) <= age < min(_KEPT, _noted_max_age(state, origin)):
            return self._parsed(kept.body)
        url = f"{origin}/robots.txt"
        meta = {_IS_ROBOTS: True, IS_IMAGE: image, "download_maxsize": _LARGEST_ROBOTS}
        request = Request(url, meta=meta, priority=1000, callback=NO_CALLBACK, dont_filter=True)
        try:
            response = await self._crawler.engine.download_async(request)
        except TooManyRedirects:
            # Section 2.3.1.2: as if there were none.
            return self._parsed(b"")
        except Exception as error:  # whatever it was, the rules are not known
            trouble = of_exception(error, url, self._policy)
        else:
            refusal = of_status(response)
            if refusal is None or refusal.lasting:
                return self._keep(state, origin, response, b"" if refusal else response.body)
            trouble = refusal
        if kept and age < _KEPT:
            read_at = kept.fetched_at.isoformat("T", "minutes")
            logger.warning("%s: %s; the one of %s holds", url, trouble.sentence, read_at)
            return self._parsed(kept.body)
        raise RobotsUnreadable(trouble)

    def _keep(self, state: StateFile | None, origin: str, response: Response, body: bytes) -> ProtegoRobotParser:
        if len(body) > _PARSED_BYTES:
            body = body[:_PARSED_BYTES].rpartition(b"\n")[0]
        if state:
            row = RobotsState(origin=origin, fetched_at=now(), status=response.status, body=body)
            allowed = max_age(response)
            if allowed != _noted_max_age(state, origin):
                state.commit(robots=[row], notes={_note(origin): allowed.total_seconds()})
            else:
                state.commit(robots=[row])
        return self._parsed(body)

    def _parsed(self, body: bytes) -> ProtegoRobotParser:
        return ProtegoRobotParser(body, self._crawler.spider)

    def read_no_further(self, data: bytes, request: Request, spider: Spider) -> None:
        """End the download of a robots.txt where no more of it is read.

        Raises:
            StopDownload: enough is there; what is there is the answer.
        """
        if not request.meta.get(_IS_ROBOTS):
            return
        request.meta[_ROBOTS_BYTES] = request.meta.get(_ROBOTS_BYTES, 0) + len(data)
        if request.meta[_ROBOTS_BYTES] > _PARSED_BYTES:
            raise StopDownload(fail=False)


def _note(origin: str) -> str:
    return f"robots.txt max-age {origin}"


def _noted_max_age(state: StateFile, origin: str) -> timedelta:
    seconds = state.note(_note(origin))
    return timedelta(seconds=seconds) if isinstance(seconds, int | float) else _KEPT


LEAST_DELAY = 0.001
"""Seconds. Without any delay Scrapy 2.19 starts all requests that wait for a host at once, whatever its bound is: it
counts a request as under way one turn of the event loop too late."""


class PoliteThrottle(AutoThrottle):
    """Scrapy's AutoThrottle, which also keeps each host's Crawl-delay, and lets go of what waits when time is over.

    Scrapy ends a crawl only after all requests that wait for their turn: with a long delay that would be much later.
    """

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        self._least: dict[str, float] = {}
        self._end: CallLaterResult | None = None
        crawler.signals.connect(self.spider_closed, signal=signals.spider_closed)

    def _spider_opened(self, spider: Spider) -> None:
        super()._spider_opened(spider)
        left = seconds_left(self.crawler)
        if left < float("inf"):
            self._end = call_later(max(0.0, left), self.let_go, OutOfTime())

    def spider_closed(self) -> None:
        if self._end is not None:
            self._end.cancel()

    def keep_apart(self, host: str, seconds: float) -> None:
        """From now on let at least so long pass between two requests to a host; of two such times the longer holds."""
        wanted = min(seconds, LONGEST_CRAWL_DELAY)
        if wanted <= max(self._least.get(host, 0.0), self.mindelay):
            return
        if seconds > LONGEST_CRAWL_DELAY:
            logger.warning("%s asks for a Crawl-delay of %.0f s; we wait %.0f s", host, seconds, LONGEST_CRAWL_DELAY)
        self._least[host] = wanted
        downloader = self.crawler.engine.downloader
        # For slots that Scrapy has still to make: it forgets them when they are idle.
        downloader.per_slot_settings[host] = {"delay": wanted}
        if host in downloader.slots:
            downloader.slots[host].delay = max(downloader.slots[host].delay, wanted)

    def _adjust_delay(self, slot: Slot, latency: float, response: Response) -> None:
        # Scrapy lets nothing but a 200 shorten the delay, since errors are quick to send. A 304 is none.
        super()._adjust_delay(slot, latency, response.replace(status=200) if response.status == 304 else response)

    def _response_downloaded(self, response: Response, request: Request, spider: Spider) -> None:
        if self.mindelay <= LEAST_DELAY and not self._least:
            return  # the administrator asked for no delay
        super()._response_downloaded(response, request, spider)
        key, slot = self._get_slot(request, spider)
        if key is not None and slot is not None:
            slot.delay = max(slot.delay, self._least.get(key, 0.0))

    def let_go(self, error: IgnoreRequest, host: str | None = None) -> None:
        """End requests that wait for their turn, to one host or to all, by an error."""
        slots: dict[str, Slot] = self.crawler.engine.downloader.slots
        for key, slot in slots.items():
            waiting = list(slot.queue) if host is None or key == host else []
            for entry in waiting:
                slot.queue.remove(entry)
                entry[1].errback(Failure(error))  # type: ignore[no-untyped-call]


class Bandwidth:
    """Holds requests back while the crawl has received more bytes than it may (`bytes_per_second` of the site).

    A bucket of tokens, one a byte: a request takes as many as an answer has had lately, and what it received really is
    counted when it is over. One second's worth may be spent at once. A download under way is not slowed.
    """

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._usual = 16_384.0
        self._free_at = 0.0
        self._turn = asyncio.Lock()
        crawler.signals.connect(self.received, signal=signals.bytes_received)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Bandwidth:
        return cls(crawler)

    @property
    def _rate(self) -> int | None:
        site = getattr(self._crawler.spider, "site", None)
        return None if site is None else site.bytes_per_second

    async def process_request(self, request: Request) -> None:
        rate = self._rate
        if rate is None:
            return
        async with self._turn:
            while (wait := self._free_at - monotonic()) > 0:
                left = seconds_left(self._crawler)
                if left <= 0:
                    raise OutOfTime
                await asyncio.sleep(min(wait, left))
            request.meta[_RESERVED] = self._usual
            self._spend(self._usual)

    def received(self, data: bytes, request: Request, spider: Spider) -> None:
        """Bytes came in."""
        if _RESERVED in request.meta:
            request.meta[_RECEIVED] = request.meta.get(_RECEIVED, 0) + len(data)

    def process_response(self, request: Request, response: Response) -> Response:
        self._settle(request)
        return response

    def process_exception(self, request: Request, exception: Exception) -> None:
        self._settle(request)

    def _settle(self, request: Request) -> None:
        reserved = request.meta.pop(_RESERVED, None)
        if reserved is not None:
            received = request.meta.pop(_RECEIVED, 0)
            self._spend(received - reserved)
            self._usual += (received - self._usual) / 8

    def _spend(self, size: float) -> None:
        if rate := self._rate:
            self._free_at = max(self._free_at, monotonic() - 1.0) + size / rate


class Breaker:
    """Stops asking a host that gave no usable answer to many requests in a row: the connection failed, time ran out, or
    it answered 5xx or 429. The site itself: the crawl ends as failed, what it landed is kept. Another host, which has
    images: it alone is left alone for the rest of the crawl.

    Only the first try of a request counts: further ones come late (Scrapy puts them behind all others), when the few
    addresses of a sound site that are broken would make a row. An answer to any try ends the row.
    """

    _NO_MORE_TRIES = 5
    """After so many in a row each request is tried only once."""

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._policy: AddressPolicy = crawler.settings["ADDRESS_POLICY"]
        self._most = crawler.settings.getint("BREAKER_REQUESTS")
        self._in_a_row: dict[str, int] = {}
        self._left_alone: dict[str, str] = {}
        self._closing: asyncio.Future[None] | None = None

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Breaker:
        return cls(crawler)

    def process_request(self, request: Request) -> None:
        if seconds_left(self._crawler) <= 0:
            raise OutOfTime
        if why := self._left_alone.get(self._host(request)):
            raise HostLeftAlone(why)

    def process_response(self, request: Request, response: Response) -> Response:
        refusal = of_status(response)
        if refusal and (response.status >= 500 or response.status in PASSING_STATUSES):
            self._failed(request, refusal.detail)
        else:
            self._in_a_row.pop(self._host(request), None)
        return response

    def process_exception(self, request: Request, exception: Exception) -> None:
        if isinstance(exception, DownloadCancelledError):
            self._in_a_row.pop(self._host(request), None)
        elif not isinstance(exception, IgnoreRequest) and not self._policy.refusal(request.url):
            self._failed(request, of_exception(exception, request.url, self._policy).sentence)

    def _host(self, request: Request) -> str:
        """Host and port; the site's own hosts are one."""
        parts = urlsplit(request.url)
        site = getattr(self._crawler.spider, "site", None)
        return "" if site is not None and parts.hostname in site.hosts else parts.netloc.lower()

    def _failed(self, request: Request, seen: str) -> None:
        if request.meta.get("retry_times"):
            return
        host = self._host(request)
        self._in_a_row[host] = self._in_a_row.get(host, 0) + 1
        if self._in_a_row[host] >= self._NO_MORE_TRIES:
            request.meta["max_retry_times"] = 0
        if self._in_a_row[host] < self._most or host in self._left_alone:
            return
        who = f"{host} " if host else "the site "
        why = f"{who}did not answer {self._most} requests in a row, the last: {seen}"
        self._left_alone[host] = why
        logger.warning("%s", why)
        throttle = self._crawler.get_extension(PoliteThrottle)
        if throttle is not None:
            throttle.let_go(HostLeftAlone(why), urlsplit(request.url).hostname)
        if not host and self._crawler.spider is not None and self._crawler.engine is not None:
            tally: Any = getattr(self._crawler.spider, "tally", None)
            if tally is not None:
                tally.broken = tally.broken or why
            self._closing = asyncio.ensure_future(self._crawler.engine.close_spider_async(reason="no answer"))
