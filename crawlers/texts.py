"""Texts, dates and addresses of a crawled page, made fit to be stored and shown."""

from __future__ import annotations

import re
import unicodedata
import warnings
from datetime import UTC, datetime, timedelta
from urllib.parse import urljoin, urlsplit

from dateutil import parser as dates  # type: ignore[import-untyped]
from w3lib.url import safe_url_string

from crawlers.addresses import LONGEST_URL

IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "jpe", "jfif", "png", "gif", "webp", "bmp", "tif", "tiff", "avif"})
TEXT_LENGTH = 200
CAPTION_LENGTH = 500
"""Characters, as in `FetchedAddress.caption`."""
_DATE_LENGTH = 60
_FIRST_YEAR = 1990
_SCANNED = 4000

# Joiners are part of words and emoji; all other invisible characters (bidirectional overrides among them) can only
# make a text look like something that it is not.
_JOINERS = "\u200c\u200d"
_SPACES = re.compile(r"\s+")
_LINE_ENDS = re.compile(r"[\t\n\r]")


def clean_text(text: str | None, length: int = TEXT_LENGTH) -> str | None:
    """One line of at most `length` characters without control or other invisible ones; nothing left: None."""
    if not text:
        return None
    spaced = _SPACES.sub(" ", text[:_SCANNED])
    kept = "".join(c for c in spaced if c in _JOINERS or unicodedata.category(c)[0] != "C")
    return kept.strip()[:length].strip() or None


def absolute_address(base: str, address: str) -> str | None:
    """An address of a page, absolute and pure ASCII, without fragment; None: it is none at all."""
    try:
        joined = urljoin(base, _LINE_ENDS.sub("", address.strip()))
        return safe_url_string(joined).partition("#")[0]
    except (ValueError, UnicodeError):
        return None


def extension(address: str) -> str:
    """What follows the last dot of an address's file name, in lower case; "" for a wiki's page about a file."""
    name = address.strip().partition("#")[0].partition("?")[0].rpartition("/")[2]
    if ":" in name or "%3a" in name.lower():
        return ""  # File:Cat.jpg, Datei:Katze.jpg
    return name.rpartition(".")[2].lower() if "." in name else ""


def web_address(base: str, address: str | None, length: int = LONGEST_URL) -> str | None:
    """An http or https address, as `absolute_address` gives it, of at most `length` characters; else None."""
    if not address or len(address) > length:
        return None
    joined = absolute_address(base, address)
    if joined is None or len(joined) > length:
        return None
    parts = urlsplit(joined)
    return joined if parts.scheme in {"http", "https"} and parts.netloc else None


def parse_date(text: str | None) -> datetime | None:
    """A date that a page gives, aware and in UTC; None for one that is incomplete, ambiguous or impossible.

    A wrong date would stand in an owner's evidence, none would not: 3/4/2021 is March to some and April to others.
    """
    cleaned = clean_text(text, _DATE_LENGTH)
    if cleaned is None:
        return None
    try:
        return _plausible(datetime.fromisoformat(cleaned))
    except (ValueError, OverflowError):
        pass
    # dateutil fills what is missing from a default: only a text that two defaults do not change is a whole date.
    readings = set()
    for default in (datetime(2000, 1, 1), datetime(2003, 2, 2)):
        for day_first in (False, True):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    readings.add(_plausible(dates.parse(cleaned, default=default, dayfirst=day_first)))
            except (ValueError, OverflowError, TypeError, AttributeError, ArithmeticError, IndexError):
                return None
    return readings.pop() if len(readings) == 1 else None


def _plausible(moment: datetime) -> datetime | None:
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    latest = datetime.now(UTC) + timedelta(days=1)
    return aware if aware.year >= _FIRST_YEAR and aware <= latest else None
