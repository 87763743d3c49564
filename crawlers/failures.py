"""What became of an address that gave no usable answer: the reason, in words, and whether to try it again."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from gzip import BadGzipFile
from http import HTTPStatus
from urllib.parse import urlsplit

from scrapy.exceptions import (
    CannotResolveHostError,
    DownloadCancelledError,
    DownloadConnectionRefusedError,
    DownloadFailedError,
    DownloadTimeoutError,
    IgnoreRequest,
    ResponseDataLossError,
)
from scrapy.http import Response

from copywatch.errors import Reason
from crawlers.addresses import AddressNotAllowed, AddressPolicy
from crawlers.texts import clean_text

PASSING_STATUSES = frozenset({408, 425, 429})
"""Beside 5xx: answers that say nothing of the address itself."""

_NUMBERS = re.compile(r"(\d+) bytes")
_HTML_START = re.compile(
    rb"(?:<!--.*?-->|\s|<\?xml.*?\?>)*<(?:!doctype\s+html|html|head|body|title|meta|script|div|p|h1|center)\b",
    re.IGNORECASE | re.DOTALL,
)
_MARKUP_HEAD = 2048


class TooManyRedirects(IgnoreRequest):
    """Redirects lead on and on."""


class BodyTooLarge(IgnoreRequest):
    """A compressed body unpacks to more than may be downloaded."""


class ForbiddenByRobots(IgnoreRequest):
    """The host's robots.txt forbids the address."""


class RobotsUnreadable(IgnoreRequest):
    """The host's robots.txt could not be read, so that nothing may be fetched there (RFC 9309, 2.3.1.4)."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class AskedToWait(IgnoreRequest):
    """The host asked for a longer wait than a crawl waits."""

    def __init__(self, status: int, seconds: float) -> None:
        super().__init__(f"HTTP {status}, and the host asks to wait {seconds:.0f} s")
        self.status = status


class HostLeftAlone(IgnoreRequest):
    """The host did not answer many requests in a row, and is not asked any more by this crawl; the message says so."""


class OutOfTime(IgnoreRequest):
    """The crawl's time was over before it was this request's turn."""


@dataclass(frozen=True)
class Refusal:
    """Why there are no bytes."""

    reason: Reason
    """The kind, as the tables have it."""

    detail: str
    """What was seen, for the person who reads the row."""

    lasting: bool
    """The next crawl would see the same: the address is settled. Otherwise the next crawl tries again."""

    status: int | None = None
    """What the server answered."""

    @property
    def sentence(self) -> str:
        """For the error of a whole crawl."""
        return f"{self.reason.value} ({self.detail})" if self.detail else self.reason.value


def of_exception(error: BaseException, url: str, policy: AddressPolicy) -> Refusal:
    """What an exception of the download means. Robots and address rules cost no request and may be lifted any day,
    so that what they forbid is not settled."""
    text = clean_text(str(error)) or type(error).__name__
    match error:
        case RobotsUnreadable():
            return error.refusal
        case ForbiddenByRobots():
            return Refusal(Reason.FORBIDDEN_BY_ROBOTS, urlsplit(url).path[:100], lasting=False)
        case AddressNotAllowed():
            return Refusal(Reason.FORBIDDEN_ADDRESS, text, lasting=False)
        case AskedToWait():
            return Refusal(Reason.HTTP_STATUS, text, lasting=False, status=error.status)
        case HostLeftAlone():
            return Refusal(Reason.UNREACHABLE, f"not asked: {text}", lasting=False)
        case OutOfTime():
            return Refusal(Reason.TIMEOUT, "the time that the site may take was over", lasting=False)
        case TooManyRedirects():
            return Refusal(Reason.REDIRECT_LOOP, text, lasting=True)
        case BodyTooLarge():
            return Refusal(Reason.TOO_LARGE, text, lasting=True)
        case DownloadCancelledError():
            size = _NUMBERS.search(text)
            return Refusal(Reason.TOO_LARGE, f"{size[1]} bytes or more" if size else text, lasting=True)
        case DownloadTimeoutError():
            return Refusal(Reason.TIMEOUT, text, lasting=False)
        case CannotResolveHostError():
            if trouble := policy.refusal(url):
                return Refusal(Reason.FORBIDDEN_ADDRESS, trouble, lasting=False)
            return Refusal(Reason.UNREACHABLE, f"no address for host {urlsplit(url).hostname}", lasting=False)
        case DownloadConnectionRefusedError():
            return Refusal(Reason.UNREACHABLE, f"connection refused by {urlsplit(url).netloc}", lasting=False)
        case ResponseDataLossError():
            return Refusal(Reason.TRUNCATED, "the connection ended before the body did", lasting=False)
        case DownloadFailedError():
            inner = next((failure.value for failure in getattr(error.__cause__, "reasons", [])), error)
            said = clean_text(f"no HTTP answer: {type(inner).__name__}: {inner}") or ""
            return Refusal(Reason.UNREACHABLE, said, lasting=False)
        case EOFError() | BadGzipFile() | zlib.error():
            return Refusal(Reason.CORRUPT, f"the body is not compressed as its header says: {text}", lasting=True)
        case _:
            return Refusal(Reason.UNREACHABLE, f"{type(error).__name__}: {text}"[:200], lasting=False)


def of_status(response: Response) -> Refusal | None:
    """What a status means; None for one that comes with a body (2xx)."""
    status = response.status
    if 200 <= status < 300:
        return None
    words = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    location = clean_text((response.headers.get("Location") or b"").decode("latin-1"), 100)
    if 300 <= status < 400 and location:
        return Refusal(Reason.FORBIDDEN_ADDRESS, f"redirects to {location}", lasting=False, status=status)
    lasting = status < 500 and status not in PASSING_STATUSES
    return Refusal(Reason.HTTP_STATUS, f"HTTP {status} {words}".strip(), lasting=lasting, status=status)


def of_image_body(response: Response) -> Refusal | None:
    """Why a 2xx answer's body is no image to land; None: it is landed, and the Spark job looks into it."""
    if not response.body:
        return Refusal(Reason.EMPTY, f"HTTP {response.status}", lasting=True, status=response.status)
    content_type = (response.headers.get("Content-Type") or b"").decode("latin-1").lower()
    head = response.body[:_MARKUP_HEAD].removeprefix(b"\xef\xbb\xbf").lstrip()
    said = "html" in content_type and (head[:1] == b"<" or _is_text(head)) and b"<svg" not in head.lower()
    if said or _HTML_START.match(head):
        return Refusal(Reason.HTML, clean_text(content_type, 80) or "", lasting=True, status=response.status)
    return None


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in head) and head[:3] != b"\xff\xd8\xff"
