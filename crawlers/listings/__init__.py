"""What the interfaces of a site list: one module for each kind, bytes in, `Listing` out.

An answer of an interface is as hostile as a page. Whatever is in it may be missing, of another type, or endless;
`found` reads it without an error, and what comes out is cleaned before it goes on.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from w3lib.html import replace_entities
from w3lib.url import safe_url_string

from crawlers.addresses import LONGEST_URL
from crawlers.spiders.base import Showing
from crawlers.texts import CAPTION_LENGTH, clean_text, parse_date

_INLINE_TAGS = re.compile(
    r"</?(?:a|abbr|b|bdi|bdo|cite|code|del|em|font|i|ins|kbd|mark|q|s|small|span|strong|sub|sup|time|u|var)"
    r"(?:\s[^<>]{0,2000})?>",
    re.IGNORECASE,
)
_TAGS = re.compile(r"<[^<>]{0,2000}>")
_WHITESPACE = re.compile(r"[\t\n\r]")
_DEEPEST = 64
_LONGEST_HTML = 20_000


class NotAListing(ValueError):
    """The answer is not what this interface gives; the message says what it is instead."""


@dataclass(frozen=True)
class Listing:
    """One page of a listing."""

    showings: list[Showing]
    """Its images, in its order."""

    next: str | None = None
    """Address of the page after it; None: it is the last."""

    total: int | None = None
    """Images of the whole listing, as the source says; None: it does not."""

    unusable: int = 0
    """Entries that could not be understood."""

    oldest_change: datetime | None = None
    """The earliest date of change, or else of upload, of all entries: tells whether a filter by time was heard."""

    cut_short: str | None = None
    """Why what is here may not be all of it; None: it is."""

    instead: dict[str, str] = field(default_factory=dict)
    """By the address of an image: another file of it, for where the source does not serve the first."""

    pages: list[Any] = field(default_factory=list)
    """Of a sitemap: pages or further sitemaps, `sitemap.Listed`."""


def found(value: object, *path: str | int) -> Any:
    """What is at a path of keys and indexes in a JSON value; None: nothing, whatever the value is.

    >>> found({"a": [{"b": 1}]}, "a", 0, "b")
    1
    >>> found({"a": "text"}, "a", 0, "b") is None
    True
    """
    for key in path:
        if (isinstance(key, str) and isinstance(value, dict)) or (isinstance(key, int) and isinstance(value, list)):
            try:
                value = value[key]  # type: ignore[index]
            except (KeyError, IndexError):
                return None
        else:
            return None
    return value


def text_at(value: object, *path: str | int) -> str | None:
    """A text at a path, as it is; None: nothing, or no text."""
    text = found(value, *path)
    return text if isinstance(text, str) and text else None


def number_at(value: object, *path: str | int) -> int | None:
    """A whole number at a path that is not negative, also one that is written as a text."""
    number = found(value, *path)
    if isinstance(number, str) and re.fullmatch(r"[0-9]{1,18}", number):
        return int(number)
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 10**18 else None


def plain(html: str | None, length: int = CAPTION_LENGTH) -> str | None:
    """What a short piece of HTML says, as one line."""
    if not html:
        return None
    # Words on both sides of a block are two; those on both sides of an inline tag may be one.
    text = _TAGS.sub(" ", _INLINE_TAGS.sub("", html[:_LONGEST_HTML]))
    return clean_text(replace_entities(text), length)


def address_of(base: str, text: object) -> str | None:
    """An http or https address, absolute, escaped, without fragment; None: it is none, or too long a one."""
    if not isinstance(text, str) or not 0 < len(text) <= LONGEST_URL:
        return None
    try:
        joined = safe_url_string(urljoin(base, _WHITESPACE.sub("", text.strip()))).partition("#")[0]
        parts = urlsplit(joined)
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and len(joined) <= LONGEST_URL
    except (ValueError, UnicodeError):
        return None
    return joined if fits else None


def dated(source: str, *texts: str | None) -> tuple[datetime | None, str | None]:
    """The first of `texts` that is a date, and `source`, which says where it is from."""
    moment = next((date for text in texts if (date := parse_date(text)) is not None), None)
    return moment, source if moment else None


def read_json(body: bytes) -> Any:
    """A JSON value.

    Raises:
        NotAListing: it is none, or one that is nested too deep.
    """
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_constant=lambda name: None)
    except (ValueError, RecursionError) as error:
        shown = clean_text(body[:60].decode("utf-8", "replace")) or "nothing"
        raise NotAListing(f"no JSON, but {shown!r}") from error
    return value


def next_link(header: str | None, base: str) -> str | None:
    """The address of `rel="next"` in a Link header (RFC 8288)."""
    for address, rest in re.findall(r"<([^<>]{1,2083})>((?:\s*;[^,<>]{0,200}){0,8})", (header or "")[:10_000]):
        if re.search(r";\s*rel\s*=\s*\"?(?:[^\";]*\s)?next(?:[\s\";]|$)", rest, re.IGNORECASE):
            return address_of(base, address)
    return None
