"""Sitemaps (www.sitemaps.org/protocol.html) and Google's image extension."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lxml import etree  # type: ignore[import-untyped]
from scrapy.utils.gz import gunzip
from scrapy.utils.sitemap import sitemap_urls_from_robots

from crawlers.failures import BodyTooLarge
from crawlers.listings import Listing, NotAListing, address_of, plain
from crawlers.listings.xml import children, name_of, text_of
from crawlers.pages import ShownImage
from crawlers.spiders.base import Showing
from crawlers.texts import clean_text, parse_date

LARGEST = 50 * 2**20
"""Bytes of one file, unpacked; this and the next are the protocol's bounds."""

_MOST_ENTRIES = 50_000
_MOST_IMAGES = 1_000
_IMAGES = frozenset(
    {"http://www.google.com/schemas/sitemap-image/1.1", "https://www.google.com/schemas/sitemap-image/1.1"}
)


@dataclass(frozen=True)
class Listed:
    """A page, or a further sitemap, that a sitemap lists."""

    address: str
    changed_at: datetime | None
    """Its lastmod; midnight where that is a day."""

    is_sitemap: bool = False
    has_images: bool = False
    """The sitemap names the page's images, so that the page need not be read."""


def unpacked(body: bytes) -> bytes:
    """A sitemap's XML, of a file that may be packed by gzip.

    Raises:
        NotAListing: it is damaged.
        BodyTooLarge: it unpacks to more than a sitemap may have.
    """
    if body[:2] != b"\x1f\x8b":
        return body
    try:
        return gunzip(body, max_size=LARGEST)
    except (OSError, EOFError) as error:
        raise NotAListing(f"damaged gzip: {clean_text(str(error))}") from error
    except ValueError as error:
        raise BodyTooLarge(f"{len(body)} bytes unpack to more than {LARGEST}") from error


def sitemaps_of_robots(body: bytes, address: str) -> list[Listed]:
    """The sitemaps that a robots.txt names."""
    addresses = (address_of(address, found) for found in sitemap_urls_from_robots(body, address))
    return [Listed(found, None, is_sitemap=True) for found in dict.fromkeys(addresses) if found][:_MOST_ENTRIES]


def read_listing(body: bytes, address: str) -> Listing:
    """What a sitemap, or an index of sitemaps, or a robots.txt lists: images as showings, the rest as `Listed` pages.

    Raises:
        NotAListing: it is none of them.
        BodyTooLarge: as `unpacked`.
    """
    if address.partition("?")[0].endswith("/robots.txt"):
        return Listing([], pages=sitemaps_of_robots(body, address))
    body = unpacked(body)
    if b"<" not in body[:200] and re.match(rb"(?:\xef\xbb\xbf)?\s*https?://", body):
        lines = body.decode("utf-8-sig", "replace").split()[:_MOST_ENTRIES]
        return Listing([], pages=[Listed(found, None) for line in lines if (found := address_of(address, line))])
    showings: list[Showing] = []
    pages: list[Listed] = []
    unusable = 0
    cut_short = None
    try:
        for entry, is_sitemap in _entries(body):
            if len(pages) + unusable >= _MOST_ENTRIES:
                cut_short = f"it has more than {_MOST_ENTRIES} entries"
                break
            page = address_of(address, text_of(entry, "loc"))
            if page is None:
                unusable += 1
                continue
            lastmod = clean_text(text_of(entry, "lastmod"), 60)
            images = [] if is_sitemap else list(_images(entry, page, lastmod))
            showings += images
            pages.append(Listed(page, parse_date(lastmod), is_sitemap, bool(images)))
    except etree.LxmlError as error:
        cut_short = f"damaged XML: {clean_text(str(error), 100)}"
        if not pages:
            raise NotAListing(cut_short) from error
    return Listing(showings, unusable=unusable, cut_short=cut_short, pages=pages)


def _entries(body: bytes) -> Iterator[tuple[Any, bool]]:
    """The elements `url` and `sitemap`, one at a time: fifty megabytes of XML as one tree would be half a gigabyte.

    Raises:
        NotAListing: its root is another one.
        LxmlError: damaged; what came before it is given.
    """
    source = io.BytesIO(body.strip())
    reader = etree.iterparse(
        source, events=("start", "end"), resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    root = None
    for event, element in reader:
        name = name_of(element)[1]
        if root is None:
            if name not in {"urlset", "sitemapindex"}:
                raise NotAListing(f"no sitemap: its root is {clean_text(name, 40)!r}")
            root = element
        elif event == "end" and element.getparent() is root:
            if name in {"url", "sitemap"}:
                yield element, name == "sitemap"
            # What was read is let go.
            element.clear()
            while element.getprevious() is not None:
                del root[0]


def _images(entry: Any, page: str, lastmod: str | None) -> Iterator[Showing]:
    found = [image for image in children(entry, "image") if name_of(image)[0] in _IMAGES][:_MOST_IMAGES]
    for image in found:
        address = address_of(page, text_of(image, "loc"))
        if address is None:
            continue
        licence = text_of(image, "license")
        shown = ShownImage(
            address,
            uploader=None,
            uploaded_at=None,
            caption=plain(text_of(image, "caption")) or plain(text_of(image, "title")),
            licence=address_of(page, licence) or clean_text(licence),
            version=lastmod,
        )
        yield Showing(page, len(found), shown)


def has_images(body: bytes) -> bool:
    """Whether a sitemap uses the image extension, by its beginning: enough to choose the kind of source."""
    return re.search(rb"<(?:[A-Za-z0-9_.-]{1,40}:)?image[\s>]", body) is not None


def is_one(body: bytes) -> bool:
    """Whether a document's first element is a sitemap's."""
    return (
        re.match(
            rb"(?:\xef\xbb\xbf)?(?:\s|<\?.{0,500}?\?>|<!--.{0,2000}?-->)*<(?:urlset|sitemapindex)[\s>]",
            body[:5000],
            re.DOTALL,
        )
        is not None
    )
