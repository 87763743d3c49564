"""What a page shows: its images with who uploaded them and when, and its links."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain, islice
from typing import Any
from urllib.parse import urlsplit

from lxml import etree, html  # type: ignore[import-untyped]
from parsel import Selector
from parsel.csstranslator import css2xpath
from scrapy.http import TextResponse
from scrapy.linkextractors import IGNORED_EXTENSIONS

from copywatch.sites import Selectors
from crawlers.addresses import AddressNotAllowed, AddressPolicy
from crawlers.embedded import Embedded, Stated, embedded_data
from crawlers.image_sources import addresses_of_image, best_of_source_set, other_images
from crawlers.items import sha256_of
from crawlers.texts import (
    CAPTION_LENGTH,
    IMAGE_EXTENSIONS,
    TEXT_LENGTH,
    absolute_address,
    clean_text,
    extension,
    parse_date,
    web_address,
)

__all__ = ["IMAGE_EXTENSIONS", "MOST_IMAGES", "SMALL_DATA_URI", "Page", "ShownImage", "best_of_source_set"]

SMALL_DATA_URI = 4096
"""Characters. An inline image up to this size is a place-holder or an icon, and is no image of anybody's."""

MOST_IMAGES = 20_000
"""Addresses that are read from one page."""

_NO_PAGES = frozenset(IGNORED_EXTENSIONS) | IMAGE_EXTENSIONS | {"svg", "json", "xml", "rss", "txt"}
_LICENCE = ("[rel~=license][href]",)
_CAPTION = ("figcaption",)
_MOST_TRIED = 8
_MOST_CLIMBED = 8
_MOST_TEXTS = 20
# libxml2 reads nothing behind the end of <html>; browsers show it all the same.
_ENDS = re.compile(r"</(?=(?:html|body)[\s/>])", re.IGNORECASE)


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


class Page:
    """One page as the site's selectors see it. CSS selectors must be valid; `copywatch.sites` checks them.

    What is said of an image is taken from the first that says it: the items around it, the nearest first; selectors
    that the site sets itself, in the rest of the page; embedded data about this very address; embedded data about the
    page, if it shows one image only; the usual selectors, in the rest of the page.

    Args:
        response: the page.
        select: the site's selectors. Where it sets `image`, only what that finds, and image files that items link to,
            are images.
        policy: of several addresses of one picture the best is taken that this allows; None: all are allowed.
    """

    def __init__(self, response: TextResponse, select: Selectors, policy: AddressPolicy | None = None) -> None:
        self._response = response
        self._select = select
        self._policy = policy
        self._root, too_deep = _parsed(response.text)
        self.cut_short: str | None = None
        """Why a part of the page is not read, as far as it shows by now; None: all of it is."""
        if too_deep:
            self._cut("its elements are nested too deep")
        self._holders: dict[Any, Any] = {}
        self._links: dict[Any, Any] = {}
        self._joined: dict[str, str | None] = {}
        self._invalid: set[str] = set()
        self._said_by: dict[Any, Stated] = {}
        self._finds: dict[tuple[str, ...], dict[Any, list[tuple[str, Any]]]] = {}

    @cached_property
    def _base(self) -> str:
        for base in self._root.xpath("(//base/@href)[1]").getall():
            if joined := web_address(self._response.url, base):
                return joined
        return self._response.url

    def _absolute(self, address: str) -> str | None:
        if address not in self._joined:
            self._joined[address] = absolute_address(self._base, address)
        return self._joined[address]

    @cached_property
    def _embedded(self) -> Embedded:
        return embedded_data(self._root.root, self._base)

    @cached_property
    def _items(self) -> set[Any]:
        return set(self._elements(self._select.item))

    def _elements(self, selector: str) -> list[Any]:
        found = list(self._root.root.xpath(f"({css2xpath(selector)})[position() <= {MOST_IMAGES}]"))
        if len(found) == MOST_IMAGES:
            self._cut(f"it has {MOST_IMAGES} elements or more for {selector!r}")
        return found

    def _cut(self, why: str) -> None:
        self.cut_short = self.cut_short or f"{why}; what follows them is not read"

    def _item_of(self, element: Any) -> Any:
        """The nearest item that holds an element, or is it; None: there is none."""
        return _nearest(element, self._items.__contains__, self._holders)

    def _link_around(self, element: Any) -> Any:
        """The link that an element is, or stands in; None: it stands in none."""
        return _nearest(element, _is_link, self._links)

    def _first(self, selectors: Sequence[str]) -> list[Any]:
        for selector in selectors:
            if found := self._elements(selector):
                return found
        return []

    def images(self) -> Iterator[ShownImage]:
        """The page's images in its order, image files that it links to, and those that only embedded data names.

        At most `MOST_IMAGES`; doubles of an address are left in where what is said of them differs.
        """
        placed = list(islice(self._placed(), MOST_IMAGES))
        if len(placed) == MOST_IMAGES:
            self._cut(f"it shows {MOST_IMAGES} images or more")
        own = {address for element, address in placed if not self._leads_on(element) and not _is_small(address)}
        only = own if len(own) == 1 else set()
        told: dict[ShownImage, None] = {}
        for element, address in placed:
            stated = self._embedded.of(address)
            if address in only:
                stated = stated.filled(self._embedded.page)
            told[self._shown(element, address, stated)] = None
        yield from told
        if "image" not in self._select.model_fields_set:
            shown = {address for _, address in placed} | self._embedded.full_of.keys()
            for address, stated in islice(self._embedded.images.items(), MOST_IMAGES - len(told)):
                if address not in shown:
                    yield self._shown(None, address, stated)

    def _placed(self) -> Iterator[tuple[Any, str]]:
        """Elements that show or link to an image, with the address that is best taken."""
        wrapping = set()
        for image in self._first(self._select.image):
            addresses = [address for address in addresses_of_image(image) if _is_elsewhere(address)]
            link = self._link_around(image)
            if link is not None and addresses and _is_image_file(link):
                wrapping.add(link)
                addresses.insert(0, link.get("href"))
            if addresses:
                yield image, self._best(addresses)
        by_rule = "image" in self._select.model_fields_set
        for link in self._root.root.iter("a"):
            if link not in wrapping and _is_image_file(link) and (not by_rule or self._item_of(link) is not None):
                yield link, self._best([link.get("href")])
        if not by_rule:
            for element, address in other_images(self._root.root):
                if _is_elsewhere(address):
                    yield element, self._best([address])

    def _best(self, addresses: list[str]) -> str:
        """The first that may be fetched, absolute; inline images and what is no address come last, and as they are."""
        addresses = [address.strip() for address in addresses]
        joined = [self._absolute(address) for address in addresses if not _is_inline(address)]
        real = [address for address in joined if address]
        real = [full for address in real if (full := self._embedded.full_of.get(address))] + real
        if not real and not _is_inline(addresses[0]):
            self._invalid.add(addresses[0])
        return next(filter(self._allowed, real), (real or addresses)[0])

    def _allowed(self, address: str) -> bool:
        try:
            if self._policy is not None:
                self._policy.check(address, image=True)
        except AddressNotAllowed:
            return False
        return True

    def _leads_on(self, element: Any) -> bool:
        link = None if element is None else self._link_around(element)
        target = None if link is None else self._absolute(link.get("href"))
        return target is not None and target != self._response.url and extension(target) not in IMAGE_EXTENSIONS

    def _shown(self, element: Any, address: str, embedded: Stated) -> ShownImage:
        item = None if element is None else self._item_of(element)
        stated = Stated(caption=self._caption(element, item))
        for _ in range(_MOST_CLIMBED):
            if item is None:
                break
            stated = stated.filled(self._said_in(item))
            item = self._item_of(item.getparent())
        stated = stated.filled(self._set_for_page).filled(embedded).filled(self._said_in(None))
        said: dict[str, Any] = {**vars(stated), "leads_on": self._leads_on(element)}
        if _is_inline(address):
            kind = clean_text(address[5:60].partition(",")[0].partition(";")[0]) or ""
            # An inline image has no address of its own that an owner could be shown or a person could look up again.
            said["trouble"] = f"inline image of {len(address)} characters: it has no address to cite"
            name = f"data:{kind};sha256={sha256_of(address.encode('utf-8', 'surrogatepass'))}"
            return ShownImage(name, **said, ignored=_is_small(address))
        if address in self._invalid:
            return ShownImage(clean_text(address) or "", **said, trouble="no valid address")
        return ShownImage(address, **said)

    def _caption(self, element: Any, item: Any) -> str | None:
        """The text below an image, else the one that is shown in its place."""
        for caption in self._found(_CAPTION).get(item, []) if item is not None else []:
            if text := clean_text(_text(caption[1]), CAPTION_LENGTH):
                return text
        if element is None:
            return None
        inner = next((one for one in islice(element.iter(), _MOST_TEXTS) if one.tag == "img"), None)
        said = (place.get(name) for place in (element, inner) if place is not None for name in ("alt", "title"))
        return next((text for one in said if (text := clean_text(one, CAPTION_LENGTH))), None)

    @cached_property
    def _set_for_page(self) -> Stated:
        """What selectors of the site's own find outside all items."""
        said = self._said_in(None)
        names = self._select.model_fields_set
        stated = Stated()
        if "uploader" in names:
            stated = stated.filled(Stated(uploader=said.uploader, uploader_url=said.uploader_url))
        if "uploaded_at" in names:
            stated = stated.filled(Stated(uploaded_at=said.uploaded_at, uploaded_at_source=said.uploaded_at_source))
        return stated

    def _said_in(self, item: Any) -> Stated:
        """What an item says that no item inside it says; None: what is said outside all items.

        What another item says is said of another image.
        """
        if item not in self._said_by:
            uploader = self._value(item, self._select.uploader, _name)
            date = self._value(item, self._select.uploaded_at, _date)
            licence = self._value(
                item, _LICENCE, lambda element: web_address(self._base, element.get("href"), TEXT_LENGTH)
            )
            self._said_by[item] = Stated(
                uploader=uploader and uploader[1],
                uploader_url=uploader and web_address(self._base, _link_of(uploader[2], item)),
                uploaded_at=date and date[1],
                uploaded_at_source=date and clean_text(date[0]),
                licence=licence and licence[1],
            )
        return self._said_by[item]

    def _value(self, item: Any, selectors: Sequence[str], read: Any) -> Any:
        """(selector, value, element) of the first element that `read` makes a value of; None: there is none."""
        for selector, element in self._found(tuple(selectors)).get(item, []):
            if (value := read(element)) is not None:
                return selector, value, element
        return None

    def _found(self, selectors: tuple[str, ...]) -> dict[Any, list[tuple[str, Any]]]:
        """By item, what selectors find in it and in no item inside it: (selector, element), in the selectors' order.

        Each selector is run once for all items: they may stand inside each other a thousand deep.
        """
        if selectors not in self._finds:
            finds: dict[Any, list[tuple[str, Any]]] = {}
            for selector in selectors:
                tried: Counter[Any] = Counter()
                for element in self._elements(selector):
                    item = self._item_of(element)
                    tried[item] += 1
                    if tried[item] <= _MOST_TRIED:
                        finds.setdefault(item, []).append((selector, element))
            self._finds[selectors] = finds
        return self._finds[selectors]

    def links(self, selectors: Sequence[str]) -> Iterator[str]:
        """Addresses of further pages, absolute; files that are no pages are left out, doubles are not."""
        for element in self._first(selectors):
            links: Iterable[Any] = [element] if "href" in element.attrib else element.iter("a")
            for link in links:
                joined = self._absolute(link.get("href", ""))
                if joined and urlsplit(joined).scheme in {"http", "https"} and extension(joined) not in _NO_PAGES:
                    yield joined


def _parsed(text: str) -> tuple[Selector, bool]:
    """The tree of a page, and whether the parser gave up on the rest of it: libxml2 does at 2,048 nested elements."""
    parser = html.HTMLParser(recover=True, huge_tree=True, encoding="utf-8")
    body = _ENDS.sub("</no-", text).replace("\x00", "").encode("utf-8", "replace").strip()
    root = etree.fromstring(body or b"<html/>", parser=parser)
    cut_short = any("depth" in error.message for error in parser.error_log)
    return Selector(root=etree.fromstring(b"<html/>", parser=parser) if root is None else root, type="html"), cut_short


def _is_inline(address: str) -> bool:
    return address[:5].lower() == "data:"


def _is_elsewhere(address: str) -> bool:
    """Not empty and no fragment: both would be the page itself."""
    return address.strip()[:1] not in {"", "#"}


def _is_small(address: str) -> bool:
    return _is_inline(address) and len(address) <= SMALL_DATA_URI


def _is_image_file(link: Any) -> bool:
    address = link.get("href", "").strip()
    return extension(address) in IMAGE_EXTENSIONS and not _is_inline(address)


def _is_link(element: Any) -> bool:
    return element.tag == "a" and "href" in element.attrib


def _nearest(element: Any, fits: Callable[[Any], bool], known: dict[Any, Any]) -> Any:
    """The nearest of an element and what it stands in that fits; None: none does. `known` is what was found before."""
    passed = []
    while element is not None and element not in known:
        passed.append(element)
        if fits(element):
            known[element] = element
            break
        element = element.getparent()
    found = None if element is None else known[element]
    known.update(dict.fromkeys(passed, found))
    return found


def _link_of(name: Any, item: Any) -> str | None:
    """Where the link around a name leads, or the one in it. A link around a picture leads to the picture."""
    for element in islice(chain([name], name.iterancestors()), _MOST_CLIMBED):
        if element is item and element is not name:
            break
        if _is_link(element):
            pictured = any(inner.tag in {"img", "picture"} for inner in islice(element.iter(), _MOST_TEXTS))
            return None if pictured else element.get("href")
    return next((inner.get("href") for inner in islice(name.iter(), _MOST_TEXTS) if _is_link(inner)), None)


def _text(element: Any) -> str:
    return " ".join(islice(element.itertext(), _MOST_TEXTS))


def _name(element: Any) -> str | None:
    return clean_text(element.get("content")) or clean_text(_text(element))


def _date(element: Any) -> datetime | None:
    said = (element.get("datetime"), element.get("content"), _text(element))
    return next((date for text in said if (date := parse_date(text)) is not None), None)
