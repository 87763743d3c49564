"""Validators of HTTP answers: what tells that a file is the one that was fetched before (RFC 9110, section 8.8)."""

from __future__ import annotations

import re
from typing import TypedDict

from scrapy.http import Response

from copywatch.crawl_state import ImageState, PageState

_LONGEST = 200
_SENDABLE = re.compile(r"[\x20-\x7e]+")


class Validators(TypedDict):
    """As they are kept."""

    etag: str | None
    last_modified: str | None


def validators_of(response: Response) -> Validators:
    """What an answer can be asked for by, the next time. What could not be sent back as a header is left out."""
    return {"etag": _header(response, "ETag"), "last_modified": _header(response, "Last-Modified")}


def conditions(known: ImageState | PageState) -> dict[str, str]:
    """Headers by which a server says 304 (not modified) of what is known."""
    asked = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified}
    return {name: value for name, value in asked.items() if value}


def is_same_file(response: Response, known: ImageState) -> bool:
    """Whether an answer to HEAD is about the file that is known.

    The strongest validator that both have decides; without any, the size; without a size, nothing tells of a change.
    """
    if response.status == 304:
        return True
    said = validators_of(response)
    if said["etag"] and known.etag:
        return said["etag"].removeprefix("W/") == known.etag.removeprefix("W/")
    if said["last_modified"] and known.last_modified:
        return said["last_modified"] == known.last_modified
    size = (_header(response, "Content-Length") or "").strip()
    # A compressed answer has another length than the file.
    if "Content-Encoding" in response.headers or not size.isdecimal() or known.size is None:
        return True
    return int(size) == known.size


def _header(response: Response, name: str) -> str | None:
    value = (response.headers.get(name) or b"").decode("latin-1").strip()
    return value if len(value) <= _LONGEST and _SENDABLE.fullmatch(value) else None
