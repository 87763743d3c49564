"""Pages that need JavaScript: Scrapy's download handler for sites with `render: true`.

The document comes by the same way as every other one, so that its status, redirects, size and time are judged the same.
Only an HTML page with status 200 is then opened in the browser, and only what its scripts made of it replaces the body.

A browser would be a second way to a connection, past `GuardedResolver`. It has none: it is started without a network
(`crawlers.browser`), and scripts, style sheets and data that a page asks for are fetched here. scrapy-playwright's own
way, to let the browser continue a request that a callback approves, does not close it: Playwright shows the callback
neither where a request is redirected to nor WebSockets.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, ClassVar, Self, cast
from urllib.parse import urljoin

import psutil
from playwright.async_api import Error as BrowserError
from playwright.async_api import Page, Route
from scrapy import Request, Spider
from scrapy.core.downloader.handlers.http11 import HTTP11DownloadHandler
from scrapy.crawler import Crawler
from scrapy.exceptions import DownloadTimeoutError, IgnoreRequest
from scrapy.http import Headers, HtmlResponse, Response
from scrapy.utils.defer import ensure_awaitable
from scrapy_playwright.handler import ScrapyPlaywrightDownloadHandler  # type: ignore[import-untyped]

from crawlers.addresses import AddressNotAllowed, AddressPolicy
from crawlers.browser import CONTEXT
from crawlers.failures import BodyTooLarge, TooManyRedirects
from crawlers.manners import Bandwidth, RobotsRules
from crawlers.memory import ResidentMemory
from crawlers.middlewares import BoundedDecompression

logger = logging.getLogger(__name__)

_FETCHED = frozenset({"script", "stylesheet", "xhr", "fetch"})
_KEPT = frozenset({"script", "stylesheet"})
_KEPT_BYTES = 32 * 2**20
"""Scripts and style sheets are asked for once in a crawl; so many bytes of them are kept."""

_RESOURCE_BYTES = 8 * 2**20
_RESOURCES = 200
"""Requests that one page may make."""

_CONDITIONS = ("If-None-Match", "If-Modified-Since")
_VALIDATORS = ("ETag", "Last-Modified")
_PASSED_ON = frozenset({"accept", "accept-language", "origin", "referer", "x-requested-with"})
_PASSED_BACK = frozenset({"content-type", "access-control-allow-origin", "access-control-allow-credentials"})

_PIXEL = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
"""A GIF of 1 x 1: scripts that wait for an image see it loaded, and nothing was fetched."""

_OPENING_SECONDS = 30.0
"""An empty page is open by then, or the browser hangs; not counted as the page's time."""

_QUIET_SECONDS = 0.5
"""A page that asked for nothing for so long has done what it does by itself."""

_LONGEST_QUIET_SECONDS = 5.0
_SCROLLS = 8
_SHARE_TO_SETTLE = 0.7
"""Of a page's time; then what is there is taken."""

_SEEN = "[document.images.length, document.links.length, document.documentElement.scrollHeight]"
_SCROLL = """(async () => {
  const root = document.scrollingElement || document.documentElement;
  const step = Math.max(innerHeight, 400);
  for (let n = 0, y = scrollY; n < 40 && y + innerHeight < root.scrollHeight; n++) {
    scrollTo({top: y += step, behavior: "instant"});
    await new Promise(done => setTimeout(done, 30));
  }
})()"""
_CONTENT = """(() => {
  const html = document.documentElement ? document.documentElement.outerHTML : "";
  return html.length > %d ? html.length : "<!DOCTYPE html>" + html;
})()"""


class BrowserBroken(IgnoreRequest):
    """The browser, or its page, ended in the middle."""


class RenderingMemory(ResidentMemory):
    """Scrapy's memory limit, on what the crawl and its browser hold."""

    def get_virtual_size(self) -> int:
        """Resident memory of this process, and what its children hold alone, in bytes."""
        size = super().get_virtual_size()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                size += process.memory_full_info().uss
        return size


@dataclass
class _Kept:
    """Scripts and style sheets of the crawl so far, by address."""

    responses: dict[str, Response] = field(default_factory=dict)
    size: int = 0

    def add(self, url: str, response: Response) -> None:
        if self.size + len(response.body) <= _KEPT_BYTES:
            self.responses[url] = response
            self.size += len(response.body)


class BrowserHandler(ScrapyPlaywrightDownloadHandler):  # type: ignore[misc]
    """Downloads as Scrapy does, and lets a browser run the scripts of pages whose request has `playwright` in its
    meta. scrapy-playwright starts and ends the browser; how a page is loaded is ours."""

    _latest: ClassVar[BrowserHandler | None] = None

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        logging.getLogger("scrapy-playwright").setLevel(logging.WARNING)
        self._policy: AddressPolicy = crawler.settings["ADDRESS_POLICY"]
        self._user_agent: str = crawler.settings["USER_AGENT"]
        self._seconds = crawler.settings.getfloat("DOWNLOAD_TIMEOUT")
        self._unpacking = BoundedDecompression.from_crawler(crawler)
        self._kept = _Kept()
        self._at_once = asyncio.Semaphore(crawler.settings.getint("CONCURRENT_REQUESTS_PER_DOMAIN"))
        self._trouble: str | None = None
        self._closed = False

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """One for http and https, or there would be two browsers."""
        if cls._latest is None or cls._latest._crawler is not crawler:
            cls._latest = cls(crawler)
        return cast(Self, cls._latest)

    async def _launch(self) -> None:
        try:
            await super()._launch()
        except Exception as error:  # whatever it was, no page can be read
            said = next((line for line in str(error).splitlines() if "ERROR:" in line), str(error)[:200])
            self._trouble = f"the browser could not be started: {said.strip()[:300]}"
            tally: Any = getattr(self._crawler.spider, "tally", None)
            if tally is not None:
                tally.broken = self._trouble
            self._stopping = asyncio.ensure_future(self._crawler.engine.close_spider_async(reason="broken"))

    async def close(self) -> None:
        """End the browser. One that does not listen ends when this process does."""
        if self._closed:
            return
        self._closed = True
        with suppress(TimeoutError, BrowserError):
            async with asyncio.timeout(10):
                await super().close()

    async def _download_request(self, request: Request, spider: Spider | None = None) -> Response:
        if self._trouble:
            raise BrowserBroken(self._trouble)
        # That the document is as it was says nothing of what its scripts list.
        for name in _CONDITIONS:
            request.headers.pop(name, None)
        document = await self._unpacked(request)
        own = self._is_own(request.url)
        if document.status != 200 or not document.body or not isinstance(document, HtmlResponse) or not own:
            return document
        most = request.meta.get("download_maxsize") or _RESOURCE_BYTES
        try:
            async with self._page(request) as page, asyncio.timeout(self._seconds):
                until = monotonic() + self._seconds * _SHARE_TO_SETTLE
                body = await _Rendering(self, page, document, until).body(most)
        except TimeoutError as error:
            request.meta["max_retry_times"] = 0
            raise DownloadTimeoutError(f"the browser was not done with the page in {self._seconds:g} s") from error
        except BrowserError as error:
            raise BrowserBroken(f"the browser could not read the page: {error.message[:200]}") from error
        headers = Headers(document.headers)
        for name in _VALIDATORS:
            headers.pop(name, None)
        headers["Content-Type"] = "text/html; charset=utf-8"
        return document.replace(body=body, headers=headers, encoding="utf-8")

    @asynccontextmanager
    async def _page(self, request: Request) -> AsyncIterator[Page]:
        # Also for a browser that had to be started again.
        options = self._crawler.settings["PLAYWRIGHT_CONTEXTS"][CONTEXT]
        request.meta.update({"playwright_context": CONTEXT, "playwright_context_kwargs": options})
        async with asyncio.timeout(_OPENING_SECONDS):
            page = await self._create_page(request=request, spider=self._crawler.spider)
        try:
            yield page
        finally:
            with suppress(BrowserError, TimeoutError):
                await asyncio.wait_for(page.close(), 5)

    def _is_own(self, url: str) -> bool:
        is_own: Any = getattr(self._crawler.spider, "is_own", None)
        return is_own is not None and bool(is_own(url))

    async def _unpacked(self, request: Request) -> Response:
        response = await HTTP11DownloadHandler.download_request(self, request)
        return cast(Response, self._unpacking.process_response(request, response))

    async def resource(self, url: str, kind: str, said: dict[str, str]) -> Response:
        """What a page asks for, by the rules of the crawl: where to, robots.txt, how much.

        Raises:
            IgnoreRequest: it may not be fetched.
            Exception: what a download may end in.
        """
        if kept := self._kept.responses.get(url):
            return kept
        headers = {name: value for name, value in said.items() if name in _PASSED_ON}
        headers |= {"User-Agent": self._user_agent, "Accept-Encoding": "gzip, deflate"}
        meta = {"download_maxsize": _RESOURCE_BYTES, "download_timeout": self._seconds / 3}
        address = url
        for _ in range(self._crawler.settings.getint("REDIRECT_MAX_TIMES") + 1):
            response = await self._fetched(Request(address, headers=headers, meta=dict(meta), dont_filter=True))
            location = response.headers.get("Location")
            if not 300 <= response.status < 400 or not location:
                if kind in _KEPT and response.status == 200:
                    self._kept.add(url, response)
                return response
            address = urljoin(address, location.decode("latin-1"))
        raise TooManyRedirects(url)

    async def _fetched(self, request: Request) -> Response:
        """Past the guards that other requests meet as middlewares. It waits in no slot: the page's request holds that
        until the page is read, and the site's delay is the one between pages."""
        own = self._is_own(request.url)
        self._policy.check(request.url, image=not own)
        if not own and self._policy.image_hosts is None:
            raise AddressNotAllowed("the host is not the site's, and not among its image_hosts")
        robots = self._crawler.get_downloader_middleware(RobotsRules)
        bandwidth = self._crawler.get_downloader_middleware(Bandwidth)
        async with self._at_once:
            for guard in (robots, bandwidth):
                await ensure_awaitable(guard.process_request(request))
            self.stats.inc_value("downloader/request_count")
            try:
                response = await self._unpacked(request)
            except Exception as error:
                self.stats.inc_value("downloader/exception_count")
                bandwidth.process_exception(request, error)
                raise
            self.stats.inc_value("downloader/response_bytes", len(response.body))
            return cast(Response, bandwidth.process_response(request, response))


class _Rendering:
    """One page in the browser."""

    def __init__(self, handler: BrowserHandler, page: Page, document: Response, until: float) -> None:
        """`until`: monotonic time at which the page is taken as it is."""
        self._handler = handler
        self._page = page
        self._document = document
        self._until = until
        self._opened = False
        self._asked = 0
        self._under_way = 0
        self._last = monotonic()

    async def body(self, most: int) -> bytes:
        """What the page's scripts made of the document, UTF-8, at most `most` bytes.

        Raises:
            BodyTooLarge: it is more.
            playwright.async_api.Error: the browser or its page ended.
        """
        await self._page.route("**/*", self._answer)
        await self._page.goto(self._document.url, wait_until="commit")
        self._session = await self._page.context.new_cdp_session(self._page)
        # Scripts of the page cannot change what is asked for in a world of our own.
        tree = await self._session.send("Page.getFrameTree")
        frame = {"frameId": tree["frameTree"]["frame"]["id"], "worldName": "copywatch"}
        self._world = (await self._session.send("Page.createIsolatedWorld", frame))["executionContextId"]
        await self._quiet()
        seen = None
        for _ in range(_SCROLLS):
            now_seen = await self._run(_SEEN)
            if now_seen == seen or monotonic() > self._until:
                break
            seen = now_seen
            await self._run(_SCROLL)
            await self._quiet()
        html = await self._run(_CONTENT % most)
        size = html if isinstance(html, int) else len(body := str(html).encode("utf-8", "replace"))
        if size > most:
            raise BodyTooLarge(f"the page's scripts made {size} bytes of it, at most {most}")
        return body

    async def _run(self, script: str) -> Any:
        asked = {"contextId": self._world, "expression": script, "awaitPromise": True, "returnByValue": True}
        answer = await self._session.send("Runtime.evaluate", asked)
        if "exceptionDetails" in answer:
            raise BrowserBroken(f"the page cannot be read: {answer['exceptionDetails'].get('text', '')[:100]}")
        return answer["result"].get("value")

    async def _quiet(self) -> None:
        """Wait until nothing was asked for lately, for a while at most."""
        began = self._last = monotonic()
        end = min(began + _LONGEST_QUIET_SECONDS, self._until)
        while (at := monotonic()) < end and (self._under_way or at - self._last < _QUIET_SECONDS):
            await asyncio.sleep(0.05)

    async def _answer(self, route: Route) -> None:
        """Answer a request of the page; nothing is passed on to the browser's own network."""
        self._under_way += 1
        try:
            await self._answer_one(route)
        except BrowserError:
            pass  # the page is gone
        finally:
            self._under_way -= 1
            self._last = monotonic()

    async def _answer_one(self, route: Route) -> None:
        request = route.request
        if not self._opened and request.is_navigation_request() and request.frame == self._page.main_frame:
            self._opened = True
            await route.fulfill(status=200, headers=_headers_of(self._document), body=self._document.body)
        elif request.resource_type == "image":
            await route.fulfill(status=200, content_type="image/gif", body=_PIXEL)
        elif request.resource_type in _FETCHED and request.method == "GET" and self._asked < _RESOURCES:
            self._asked += 1
            try:
                response = await self._handler.resource(request.url, request.resource_type, request.headers)
            except Exception as error:
                # A page does without it, or shows less: as with a visitor whose connection is bad.
                logger.debug("%s asked for %s: %r", self._document.url, request.url, error)
                await route.abort()
            else:
                await route.fulfill(status=response.status, headers=_headers_of(response), body=response.body)
        else:
            # "aborted" leaves the page as it is, where it wants to go somewhere else.
            await route.abort("aborted")


def _headers_of(response: Response) -> dict[str, str]:
    named = ((name.decode("latin-1").lower(), values[-1]) for name, values in response.headers.items() if values)
    return {name: value.decode("latin-1") for name, value in named if name in _PASSED_BACK}
