"""Showing text that came from a crawled site or an upload: where a link may lead, one bounded line of plain signs."""

from __future__ import annotations

import unicodedata
from urllib.parse import urlsplit

_LONGEST_TEXT = 240


def web_address(address: str | None) -> str | None:
    """The address if a link may lead there: http or https, a host, nothing invisible, no user name that could pass
    for the host; else None."""
    if not address or any(sign.isspace() or not sign.isprintable() for sign in address):
        return None
    try:
        parts = urlsplit(address)
        return address if parts.scheme in {"http", "https"} and parts.hostname and "@" not in parts.netloc else None
    except ValueError:
        return None


def plain(value: object, longest: int = _LONGEST_TEXT) -> str:
    """Text from outside as one bounded line; signs that are not seen, or turn the direction, show as a box."""
    text = " ".join(str(value)[: longest * 4].split())
    seen = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(sign)[0] == "C" else sign for sign in text)
    return seen if len(seen) <= longest else seen[: longest - 1] + "…"
