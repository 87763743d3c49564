"""What a page shows: its images with who uploaded them and when, and its links."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import urljoin, urlsplit

from lxml import etree, html  # type: ignore[import-untyped]
from parsel import Selector
from scrapy.http import TextResponse
from scrapy.linkextractors import IGNORED_EXTENSIONS
from w3lib.url import safe_url_string

from copywatch.sites import Selectors
from crawlers.items import sha256_of
from crawlers.texts import clean_text, parse_date

IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "jpe", "jfif", "png", "gif", "webp", "bmp", "tif", "tiff", "avif"})
SMALL_DATA_URI = 4096
"""Characters. An inline image up to this size is a place-holder or an icon, and is no image of anybody's."""

_NO_PAGES = frozenset(IGNORED_EXTENSIONS) | IMAGE_EXTENSIONS | {"svg", "json", "xml", "rss", "txt"}
_LAZY_SOURCES = ("data-src", "data-original", "data-lazy-src", "data-lazy")
_SOURCE_SETS = ("srcset", "data-srcset", "data-lazy-srcset")
_LONGEST_SOURCE_SET = 20_000
_CANDIDATE = re.compile(r"[\s,]*(\S*[^\s,])(?:\s+([0-9.]{1,12})([wx]))?[^,]*,?")
# libxml2 reads nothing behind the end of <html>; browsers show it all the same.
_ENDS = re.compile(r"</(?=(?:html|body)[\s/>])", re.IGNORECASE)
_WHITESPACE = re.compile(r"[\t\n\r]")


@dataclass(frozen=True)
class ShownImage:
    """An image address on a page."""

    address: str
    """Absolute, escaped, without fragment; for an inline image a name made of its kind and SHA-256."""

    uploader: str | None
    """Cleaned, as in `FetchedAddress`; the further texts too."""

    uploaded_at: datetime | None

    uploader_url: str | None = None
    uploaded_at_source: str | None = None
    caption: str | None = None
    licence: str | None = None

    source_hash: str | None = None
    """What the source says of the bytes, such as `sha1:` and 40 hexadecimal digits."""

    version: str | None = None
    """What the source says that changes with the file, such as its date of change."""

    trouble: str | None = None
    """Why the address cannot be fetched, if that shows already."""

    ignored: bool = False
    """It is a place-holder, and no image of anybody's."""

    leads_on: bool = False
    """It is a link to another page, so this page only points to the one that is about it."""


def best_of_source_set(text: str) -> tuple[float, str] | None:
    """The largest candidate of a `srcset`: (width in pixels, or density, address); None: there is none.

    >>> best_of_source_set("a.jpg 320w, b.jpg 1280w, c.jpg 640w")
    (1280.0, 'b.jpg')
    """
    best: tuple[float, str] | None = None
    for match in _CANDIDATE.finditer(text[:_LONGEST_SOURCE_SET]):
        address, number, _ = match.groups()
        try:
            size = float(number) if number else 1.0
        except ValueError:
            continue
        if best is None or size > best[0]:
            best = (size, address)
    return best


class Page:
    """One page as the site's selectors see it. CSS selectors must be valid; `copywatch.sites` checks them."""

    def __init__(self, response: TextResponse, select: Selectors) -> None:
        self._response = response
        self._select = select
        self._root, self.cut_short = _parsed(response.text)

    @cached_property
    def _base(self) -> str:
        for base in self._root.xpath("(//base/@href)[1]").getall():
            joined = self._join(self._response.url, base)
            if joined and urlsplit(joined).scheme in {"http", "https"}:
                return joined
        return self._response.url

    @staticmethod
    def _join(base: str, address: str) -> str | None:
        """Absolute and pure ASCII, without fragment; None: no address at all."""
        try:
            joined = urljoin(base, _WHITESPACE.sub("", address.strip()))
            return safe_url_string(joined).partition("#")[0]
        except (ValueError, UnicodeError):
            return None

    @cached_property
    def _items(self) -> dict[Any, Selector]:
        return {item.root: item for item in self._root.css(self._select.item)}

    def _item_of(self, element: Any) -> Selector | None:
        """The nearest item that holds an element, or is it."""
        while element is not None:
            if element in self._items:
                return self._items[element]
            element = element.getparent()
        return None

    def _first(self, selectors: Sequence[str]) -> list[Selector]:
        for selector in selectors:
            if found := self._root.css(selector):
                return list(found)
        return []

    def images(self) -> Iterator[ShownImage]:
        """The page's images in its order, and the image files that its items link to; doubles are left in."""
        told: dict[Any, tuple[str | None, datetime | None]] = {}
        for element, address in self._addresses():
            item = self._item_of(element.root)
            key = None if item is None else item.root
            if key not in told:
                told[key] = self._told_by(item)
            yield replace(self._shown(address, *told[key]), leads_on=self._leads_on(element))

    def _addresses(self) -> Iterator[tuple[Selector, str]]:
        for image in self._first(self._select.image):
            address = (self._source(image) or "").strip()
            # Both would be the page itself.
            if address and not address.startswith("#"):
                yield image, address
        for item in self._items.values():
            links = [item, *item.css("a[href]")] if item.root.tag == "a" else item.css("a[href]")
            for link in links:
                address = link.attrib.get("href", "")
                # An item inside an item has its own turn.
                if _extension(address) in IMAGE_EXTENSIONS and self._item_of(link.root) is item:
                    yield link, address

    def _leads_on(self, element: Selector) -> bool:
        link = element.xpath("ancestor-or-self::a[@href][1]/@href").get()
        target = None if link is None else self._join(self._base, link)
        return target is not None and target != self._response.url and _extension(target) not in IMAGE_EXTENSIONS

    def _source(self, image: Selector) -> str | None:
        """The address of the largest version of an image element that the page offers."""
        attributes = image.attrib
        sets = [attributes[name] for name in _SOURCE_SETS if attributes.get(name)]
        # libxml2 does not know that <source> has no end, and puts the image inside it.
        sources = image.xpath("ancestor-or-self::picture[1]//source")
        sets += [source.attrib[name] for source in sources for name in _SOURCE_SETS if source.attrib.get(name)]
        best = max(filter(None, map(best_of_source_set, sets)), key=lambda candidate: candidate[0], default=None)
        lazy = next((attributes[name] for name in _LAZY_SOURCES if attributes.get(name)), None)
        # Where an image is loaded late, its src is a place-holder.
        plain = lazy or attributes.get("src") or attributes.get("href")
        if best and (best[0] > 1 or not plain):
            return best[1]
        return plain

    def _shown(self, address: str, uploader: str | None, uploaded_at: datetime | None) -> ShownImage:
        if address.lstrip()[:5].lower() == "data:":
            kind = clean_text(address.lstrip()[5:60].partition(",")[0].partition(";")[0]) or ""
            size = len(address)
            # An inline image has no address of its own that an owner could be shown or a person could look up again.
            trouble = f"inline image of {size} characters: it has no address to cite"
            name = f"data:{kind};sha256={sha256_of(address.encode('utf-8', 'surrogatepass'))}"
            return ShownImage(name, uploader, uploaded_at, trouble=trouble, ignored=size <= SMALL_DATA_URI)
        joined = self._join(self._base, address)
        if joined is None:
            return ShownImage(clean_text(address) or "", uploader, uploaded_at, trouble="no valid address")
        return ShownImage(joined, uploader, uploaded_at)

    def _told_by(self, item: Selector | None) -> tuple[str | None, datetime | None]:
        """Uploader and upload date: by the item, else by the page."""
        return (
            self._looked_up(item, self._select.uploader, _name),
            self._looked_up(item, self._select.uploaded_at, _date),
        )

    def _looked_up(self, item: Selector | None, selectors: Sequence[str], read: Any) -> Any:
        for place in [self._root] if item is None else [item, self._root]:
            for selector in selectors:
                for element in place.css(selector):
                    # What another item says is said of another image.
                    if place is self._root and self._item_of(element.root) is not None:
                        continue
                    if (value := read(element)) is not None:
                        return value
        return None

    def links(self, selectors: Sequence[str]) -> Iterator[str]:
        """Addresses of further pages, absolute; files that are no pages are left out, doubles are not."""
        for element in self._first(selectors):
            links: Iterable[Selector] = [element] if "href" in element.attrib else element.css("a[href]")
            for link in links:
                joined = self._join(self._base, link.attrib.get("href", ""))
                if joined and urlsplit(joined).scheme in {"http", "https"} and _extension(joined) not in _NO_PAGES:
                    yield joined


def _parsed(text: str) -> tuple[Selector, bool]:
    """The tree of a page, and whether the parser gave up on the rest of it: libxml2 does at 2,048 nested elements."""
    parser = html.HTMLParser(recover=True, huge_tree=True, encoding="utf-8")
    body = _ENDS.sub("</no-", text).replace("\x00", "").encode("utf-8", "replace").strip()
    root = etree.fromstring(body or b"<html/>", parser=parser)
    cut_short = any("depth" in error.message for error in parser.error_log)
    return Selector(root=etree.fromstring(b"<html/>", parser=parser) if root is None else root, type="html"), cut_short


def _extension(address: str) -> str:
    path = address.strip().partition("#")[0].partition("?")[0]
    return path.rpartition("/")[2].rpartition(".")[2].lower() if "." in path.rpartition("/")[2] else ""


def _name(element: Selector) -> str | None:
    content = element.attrib.get("content")
    return clean_text(content) or clean_text(" ".join(element.xpath(".//text()").getall()[:20]))


def _date(element: Selector) -> datetime | None:
    attributes = element.attrib
    said = (attributes.get("datetime"), attributes.get("content"), " ".join(element.xpath(".//text()").getall()[:20]))
    return next((date for text in said if (date := parse_date(text)) is not None), None)
