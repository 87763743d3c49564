"""What a page says of its images in markup meant for machines: JSON-LD, microdata and Open Graph.

extruct parses; this module says what of it is about which image. Sources: schema.org (ImageObject, CreativeWork);
Google's "image license metadata"; the Open Graph protocol (ogp.me). Pages are hostile: what is nested deeper, longer or
more than the bounds here is not read, and says nothing.
"""

from __future__ import annotations

import html
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any

from lxml import etree  # type: ignore[import-untyped]

from crawlers.texts import CAPTION_LENGTH, IMAGE_EXTENSIONS, TEXT_LENGTH, clean_text, extension, parse_date, web_address

_LONGEST_SCRIPT = 2**20
_LONGEST_SCRIPTS = 2**21
_MOST_VALUES = 50_000
_MOST_IMAGES = 5_000
_MOST_PROPERTIES = 10_000
_DEEPEST_ITEM = 16
_MOST_REFERRED = 50_000
_LONGEST_PREFIX = 2_000

_IMAGE_TYPES = frozenset({"ImageObject", "ImageObjectSnapshot", "Photograph", "Painting", "Barcode"})
_WORK_TYPES = frozenset({"CreativeWork", "VisualArtwork", "Recipe", "ItemPage", "WebPage", "Product"})
_REFERENCE = {"@id", "@type"}
_IMAGE_KEYS = ("image", "images", "photo", "photos", "associatedMedia", "primaryImageOfPage")
_AUTHOR_KEYS = ("author", "creator")
_DATE_KEYS = ("uploadDate", "datePublished")
_IMAGE_CAPTIONS = ("caption", "description", "name", "headline")
_WORK_CAPTIONS = ("headline", "name")
_LICENCES = ("license", "copyrightNotice", "acquireLicensePage", "creditText")

_LD = etree.XPath('//script[@type="application/ld+json"]')
_HAS_ITEMS = etree.XPath("boolean(//*[@itemscope])")
_HAS_GRAPH = etree.XPath("boolean(//head/meta[@property])")


@dataclass(frozen=True)
class Stated:
    """What is said of an image. Texts are cleaned as in `FetchedAddress`."""

    uploader: str | None = None
    uploader_url: str | None = None
    uploaded_at: datetime | None = None
    uploaded_at_source: str | None = None
    caption: str | None = None
    licence: str | None = None

    def filled(self, other: Stated) -> Stated:
        """This, with what it does not say taken from `other`; a name and its link, or a date and its source, stay
        together."""
        by = other if self.uploader is None and self.uploader_url is None else self
        at = other if self.uploaded_at is None else self
        return Stated(
            uploader=by.uploader,
            uploader_url=by.uploader_url or (other.uploader_url if by.uploader == other.uploader else None),
            uploaded_at=at.uploaded_at,
            uploaded_at_source=at.uploaded_at_source,
            caption=self.caption or other.caption,
            licence=self.licence or other.licence,
        )


NOTHING = Stated()


@dataclass
class Embedded:
    """What a page's embedded data says."""

    images: dict[str, Stated] = field(default_factory=dict)
    """By the address of the image, absolute and escaped: the largest file that the data names."""

    full_of: dict[str, str] = field(default_factory=dict)
    """Of a thumbnail that the data names: the address of its image."""

    page: Stated = NOTHING
    """What is said of the page's one work, such as the article that it is."""

    def of(self, address: str) -> Stated:
        """What is said of this very image."""
        return self.images.get(address) or self.images.get(self.full_of.get(address, ""), NOTHING)

    def add(self, address: str | None, stated: Stated) -> None:
        """Note an image; what was said of it before stays."""
        if address and (address in self.images or len(self.images) < _MOST_IMAGES):
            self.images[address] = self.images.get(address, NOTHING).filled(stated)


def embedded_data(root: Any, base: str) -> Embedded:
    """What a page's embedded data says of its images.

    Args:
        root: the page's tree, as lxml.html's parser makes it.
        base: what its relative addresses are relative to.
    """
    found = Embedded()
    works: list[Stated] = []
    for syntax, items in (("json-ld", _json_ld(root)), ("microdata", _microdata(root, base))):
        if items:
            read = _Reader(syntax, base, found).read(items)
            works = works or read  # the same works, as a rule
    # Of several works on a page, none is what the page is about.
    if len(set(works)) == 1:
        found.page = works[0]
    if _HAS_GRAPH(root):
        _read_graph(root, base, found)
    return found


@cache
def _extractors() -> tuple[Any, Any, Any]:
    """extruct's, for JSON-LD, microdata and Open Graph. Importing it takes most of a second (rdflib)."""
    from extruct.jsonld import JsonLdExtractor  # type: ignore[import-untyped]
    from extruct.opengraph import OpenGraphExtractor  # type: ignore[import-untyped]
    from extruct.w3cmicrodata import MicrodataExtractor  # type: ignore[import-untyped]

    class ShortTexts(MicrodataExtractor):  # type: ignore[misc]
        """Copying and cleaning the tree below each property takes a minute on 20 KB of nested ones."""

        def _extract_textContent(self, node: Any) -> str:  # noqa: N802
            return " ".join(islice(node.itertext(), 50))

    return JsonLdExtractor(), ShortTexts(), OpenGraphExtractor()


def _json_ld(root: Any) -> list[Any]:
    items: list[Any] = []
    left = _LONGEST_SCRIPTS
    for script in _LD(root)[:100]:
        length = len(script.text or "")
        left -= length
        if 0 < length <= _LONGEST_SCRIPT and left >= 0:
            # Broken in one script, it may be whole in the next; nested too deep is a RecursionError.
            with suppress(ValueError, RecursionError, AttributeError, TypeError):
                items += _extractors()[0].extract_items(script)
    return items


def _microdata(root: Any, base: str) -> list[Any]:
    if not _HAS_ITEMS(root) or not _bearable(root):
        return []
    with suppress(ValueError, RecursionError, AttributeError, TypeError):
        return list(_extractors()[1].extract_items(root, base))
    return []


def _bearable(root: Any) -> bool:
    """Whether extruct will be through in time: it looks at each item's whole subtree, for each item around it again."""
    depths: dict[Any, int] = {}
    properties = references = 0
    for element in root.iter(etree.Element):
        depth = depths.get(element.getparent(), 0)
        if "itemscope" in element.attrib or "itemprop" in element.attrib:
            depth += "itemscope" in element.attrib
            properties += 1
            references += element.get("itemref", "").count(" ") + ("itemref" in element.attrib)
            if depth > _DEEPEST_ITEM or properties > _MOST_PROPERTIES:
                return False
        if depth:
            depths[element] = depth
    return references * properties <= _MOST_REFERRED


def _read_graph(root: Any, base: str, found: Embedded) -> None:
    prefixes = sum(len(element.get("prefix", "")) for element in root.iter("html", "head"))
    if prefixes > _LONGEST_PREFIX:
        return  # extruct's expression for them takes time that grows with the square of the length
    said: list[tuple[str, str]] = []
    for graph in _extractors()[2].extract_items(root):
        said += islice(graph["properties"], _MOST_IMAGES)
    first: dict[str, str] = {}
    images: list[list[str | None]] = []
    for name, text in said:
        first.setdefault(name, text)
        if name == "og:image":
            images.append([text, None])
        elif name in {"og:image:url", "og:image:secure_url"}:
            # It says of the image before it where else it is.
            if images:
                images[-1][0] = text
            else:
                images.append([text, None])
        elif name == "og:image:alt" and images:
            images[-1][1] = clean_text(text, CAPTION_LENGTH)
    author = first.get("article:author", "")
    link = web_address("", author)
    date = parse_date(first.get("article:published_time"))
    graph = Stated(
        uploader=None if link else clean_text(author),
        uploader_url=link,
        uploaded_at=date,
        uploaded_at_source="open graph article:published_time" if date else None,
        caption=clean_text(first.get("og:title"), CAPTION_LENGTH),
    )
    found.page = found.page.filled(graph)
    for address, caption in images:
        found.add(web_address(base, address), replace(found.page, caption=caption or found.page.caption))


class _Reader:
    """Reads the items of one syntax. Microdata's are {type, id, properties}; JSON-LD's hold properties directly."""

    def __init__(self, syntax: str, base: str, found: Embedded) -> None:
        self._syntax = syntax
        self._base = base
        self._found = found
        self._by_id: dict[str, dict[str, Any]] = {}
        self._stated: dict[tuple[int, tuple[str, ...]], Stated] = {}
        self._left = 2 * _MOST_IMAGES

    def read(self, items: list[Any]) -> list[Stated]:
        """Note all images; returns what is said of each work of which it is said who or when."""
        nodes = list(self._nodes(items))
        for node, _, _ in nodes:
            name = node.get("@id")
            if isinstance(name, str) and node.keys() - _REFERENCE:
                self._by_id.setdefault(name, node)
        for node, key, owner in nodes:
            types = _types(node)
            if types & _IMAGE_TYPES or (key in _IMAGE_KEYS and {"contentUrl", "url"} & _properties(node).keys()):
                self._note_image(node, owner if key in _IMAGE_KEYS else None)
                continue
            values = (value for name in _IMAGE_KEYS for value in _listed(_properties(node).get(name)))
            for value in islice(values, self._left):
                self._left -= 1
                if isinstance(value, str):
                    self._found.add(self._address(value), self._said_of(node, _WORK_CAPTIONS))
                elif (image := self._referred(value)) is not value:
                    self._note_image(image, node)
        return self._one_of_each_kind([node for node, _, _ in nodes])

    def _one_of_each_kind(self, nodes: list[dict[str, Any]]) -> list[Stated]:
        """Of the articles; where there are none, of the other works."""
        articles: list[Stated] = []
        others: list[Stated] = []
        for node in nodes:
            types = _types(node)
            is_article = any(name.endswith(("Article", "Posting")) for name in types) or "Photograph" in types
            if is_article or types & _WORK_TYPES:
                stated = self._said_of(node, _WORK_CAPTIONS)
                if stated.uploader or stated.uploader_url or stated.uploaded_at:
                    (articles if is_article else others).append(stated)
        return articles or others

    @staticmethod
    def _nodes(items: list[Any]) -> Iterator[tuple[dict[str, Any], str, dict[str, Any] | None]]:
        """Every object, with the key that it stands under and the object that has it there, the outer ones first."""
        waiting: deque[tuple[Any, str, dict[str, Any] | None]] = deque((item, "", None) for item in items)
        for _ in range(_MOST_VALUES):
            if not waiting:
                return
            value, key, owner = waiting.popleft()
            if isinstance(value, list):
                waiting.extend((one, key, owner) for one in value[:_MOST_VALUES] if isinstance(one, dict | list))
            elif isinstance(value, dict):
                yield value, key, owner
                for name, one in _properties(value).items():
                    # A publisher's logo is no image of anybody's.
                    if isinstance(one, dict | list) and name != "logo":
                        waiting.append((one, name, value))

    def _note_image(self, node: dict[str, Any], work: dict[str, Any] | None) -> None:
        """An ImageObject, and the work that it illustrates."""
        said = _properties(node)
        address = self._address(_text(said.get("contentUrl")))
        link = self._address(_text(said.get("url")))
        # `url` is the file where it illustrates a work, and may be the page about it elsewhere.
        if address is None and link and (work is not None or extension(link) in IMAGE_EXTENSIONS):
            address = link
        if address is None:
            return
        stated = self._said_of(node, _IMAGE_CAPTIONS)
        self._found.add(address, stated if work is None else stated.filled(self._said_of(work, _WORK_CAPTIONS)))
        smaller = [said.get("thumbnailUrl"), said.get("thumbnail")]
        for value in (value for values in smaller for value in _listed(values)[:20]):
            inner = _properties(self._referred(value)) if isinstance(value, dict) else {}
            thumbnail = self._address(_text(value) or _text(inner.get("contentUrl")) or _text(inner.get("url")))
            if thumbnail and thumbnail != address:
                self._found.full_of.setdefault(thumbnail, address)

    def _said_of(self, node: dict[str, Any], captions: tuple[str, ...]) -> Stated:
        key = (id(node), captions)
        if key not in self._stated:
            self._stated[key] = self._read_said(node, captions)
        return self._stated[key]

    def _read_said(self, node: dict[str, Any], captions: tuple[str, ...]) -> Stated:
        said = _properties(node)
        authors = (self._author(value) for key in _AUTHOR_KEYS for value in _listed(said.get(key))[:20])
        name, link = next((author for author in authors if any(author)), (None, None))
        dates = ((key, parse_date(_text(said.get(key)))) for key in _DATE_KEYS)
        key, date = next(((key, date) for key, date in dates if date), (None, None))
        return Stated(
            uploader=name,
            uploader_url=link,
            uploaded_at=date,
            uploaded_at_source=f"{self._syntax} {key}" if date else None,
            caption=next(filter(None, (_cleaned(said.get(key), CAPTION_LENGTH) for key in captions)), None),
            licence=next(filter(None, (self._licence(said.get(key)) for key in _LICENCES)), None),
        )

    def _author(self, value: object) -> tuple[str | None, str | None]:
        if isinstance(value, str):
            link = web_address("", value)
            return (None, link) if link else (_cleaned(value), None)
        said = _properties(self._referred(value))
        link = _text(said.get("url")) or _text(said.get("sameAs"))
        return _cleaned(said.get("name")), web_address(self._base, link)

    def _licence(self, value: object) -> str | None:
        first = next(iter(_listed(value)), None)
        if isinstance(first, dict):
            first = _text(_properties(first).get("url")) or first.get("@id") or _text(_properties(first).get("name"))
        text = _text(first)
        return web_address("", text, TEXT_LENGTH) or _cleaned(text)

    def _referred(self, value: object) -> Any:
        """The object that an object of nothing but an @id names; else the value itself."""
        if isinstance(value, dict) and isinstance(name := value.get("@id"), str) and value.keys() <= _REFERENCE:
            return self._by_id.get(name, value)
        return value

    def _address(self, text: str | None) -> str | None:
        return web_address(self._base, text)


def _properties(node: object) -> dict[str, Any]:
    if not isinstance(node, dict):
        return {}
    inner = node.get("properties")
    return inner if isinstance(inner, dict) else node


def _types(node: dict[str, Any]) -> frozenset[str]:
    """Names of types without what stands before them: https://schema.org/ImageObject, schema:ImageObject."""
    names = _listed(node.get("@type") or node.get("type"))[:20]
    return frozenset(name[-100:].rpartition("/")[2].rpartition(":")[2] for name in names if isinstance(name, str))


def _listed(value: object) -> list[Any]:
    if isinstance(value, dict) and isinstance(value.get("@list"), list):
        value = value["@list"]
    return value if isinstance(value, list) else [] if value is None else [value]


def _text(value: object) -> str | None:
    """The text that a value is, or begins with."""
    first = next(iter(_listed(value)), None)
    if isinstance(first, dict):
        first = first.get("@value")
    return first if isinstance(first, str) else None


def _cleaned(value: object, length: int = TEXT_LENGTH) -> str | None:
    """One line; many sites escape for HTML what JSON needs not."""
    text = _text(value)
    return None if text is None else clean_text(html.unescape(text[:4000]), length)
