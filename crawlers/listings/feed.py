"""RSS 0.9 to 2.0, Atom (RFC 4287), Media RSS (www.rssboard.org/media-rss), paged feeds and archives (RFC 5005).

Not by feedparser: it gives the contents of a `media:group` and their credits as one flat list, so that one picture in
five sizes cannot be told from five pictures, nor whose each is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lxml import etree  # type: ignore[import-untyped]
from scrapy.http import HtmlResponse

from copywatch.sites import Selectors
from crawlers.listings import Listing, NotAListing, address_of, dated, number_at, plain
from crawlers.listings.xml import ATOM, CONTENT, DUBLIN, MEDIA, all_text, children, name_of, text_of, tree_of
from crawlers.pages import IMAGE_EXTENSIONS, Page, ShownImage
from crawlers.spiders.base import Showing
from crawlers.texts import clean_text

ROOTS = frozenset({"rss", "feed", "RDF"})
_RSS = ("", "http://purl.org/rss/1.0/", "http://backend.userland.com/rss2", "http://my.netscape.com/rdf/simple/0.9/")
_DATES = (("pubDate", _RSS), ("published", (ATOM,)), ("issued", (ATOM,)), ("date", (DUBLIN,)), ("updated", (ATOM,)))
_MAKERS = frozenset({"author", "photographer", "artist", "creator", "illustrator", ""})
_MAIL_AND_NAME = re.compile(r"\S+@\S+\s+\((.{1,200})\)")
_MOST_ENTRIES = 20_000
_MOST_IMAGES = 500
_LONGEST_HTML = 500_000


def read_listing(body: bytes, address: str, select: Selectors) -> Listing:
    """One document of a feed.

    Raises:
        NotAListing: it is no feed.
    """
    root, cut_short = tree_of(body, address)
    if name_of(root)[1] not in ROOTS:
        raise NotAListing(f"no feed: its root is {clean_text(name_of(root)[1], 40)!r}")
    channel = next(children(root, "channel"), root)
    inherited = _told_by(channel, _base(channel, address), ShownImage("", None, None))
    showings: list[Showing] = []
    entries = [
        entry
        for place in dict.fromkeys((channel, root))
        for name in ("item", "entry")
        for entry in children(place, name)
    ]
    for entry in entries[:_MOST_ENTRIES]:
        showings += _of_entry(entry, address, inherited, select)
    if len(entries) > _MOST_ENTRIES:
        cut_short = f"it has {len(entries)} entries; {_MOST_ENTRIES} are read"
    return Listing(showings, _next(channel, address), cut_short=cut_short)


def _base(element: Any, address: str) -> str:
    """By `xml:base`, which holds for all below it."""
    try:
        return address_of(address, element.base) or address
    except (ValueError, UnicodeError):
        return address


def _next(channel: Any, address: str) -> str | None:
    links = {link.get("rel"): link.get("href") for link in children(channel, "link", ATOM)}
    return address_of(_base(channel, address), links.get("next") or links.get("prev-archive"))


def _of_entry(entry: Any, address: str, inherited: ShownImage, select: Selectors) -> list[Showing]:
    base = _base(entry, address)
    page = _page(entry, base) or address
    told = _told_by(entry, base, inherited)
    moment, source = next(
        (
            (moment, source)
            for name, spaces in _DATES
            for moment, source in [dated(f"feed {name}", text_of(entry, name, *spaces))]
            if moment
        ),
        (None, None),
    )
    about = replace(
        told,
        uploaded_at=moment,
        uploaded_at_source=source,
        caption=told.caption or plain(text_of(entry, "title", *_RSS, ATOM)),
        version=clean_text(text_of(entry, "updated", ATOM), 60),
    )
    images: dict[str, ShownImage] = {}
    for shown in (*_media(entry, base, about), *_enclosures(entry, base, about), *_in_text(entry, base, about, select)):
        # What media:content says of an image is said of it alone.
        if len(images) < _MOST_IMAGES:
            images.setdefault(shown.address, shown)
    if not images:
        images = {shown.address: shown for shown in _thumbnails(entry, base, about)}
    return [Showing(page, len(images), shown) for shown in images.values()]


def _page(entry: Any, base: str) -> str | None:
    for link in children(entry, "link"):
        if link.get("rel", "alternate") == "alternate" and (target := link.get("href") or all_text(link)):
            return address_of(base, target)
    for identity in children(entry, "guid"):
        if identity.get("isPermaLink", "true") == "true":
            return address_of(base, all_text(identity))
    return None


def _told_by(element: Any, base: str, inherited: ShownImage) -> ShownImage:
    """What an element says of the images below it; what it does not say is taken from what is above it."""
    uploader, link = _maker(element, base)
    caption = plain(text_of(element, "description", MEDIA)) or plain(text_of(element, "title", MEDIA))
    return replace(
        inherited,
        uploader=uploader or inherited.uploader,
        uploader_url=link if uploader else inherited.uploader_url,
        caption=caption or inherited.caption,
        licence=_licence(element, base) or inherited.licence,
    )


def _maker(element: Any, base: str) -> tuple[str | None, str | None]:
    for credit in children(element, "credit", MEDIA):
        if (credit.get("role") or "").strip().lower() in _MAKERS and (name := clean_text(all_text(credit))):
            return name, None
    for author in children(element, "author", ATOM):
        if name := clean_text(text_of(author, "name")):
            return name, address_of(base, text_of(author, "uri"))
    said = clean_text(text_of(element, "creator", DUBLIN) or text_of(element, "author", *_RSS))
    match = _MAIL_AND_NAME.fullmatch(said or "")
    return (match[1] if match else said), None


def _licence(element: Any, base: str) -> str | None:
    for link in children(element, "link", ATOM):
        if link.get("rel") == "license" and (address := address_of(base, link.get("href"))):
            return address
    for name, spaces in (("license", ()), ("copyright", (MEDIA, *_RSS)), ("rights", (ATOM, DUBLIN))):
        for stated in children(element, name, *spaces):
            resource = next((value for key, value in stated.attrib.items() if key.endswith("resource")), None)
            said = address_of(base, stated.get("href") or resource) or clean_text(all_text(stated))
            if said:
                return said
    return None


def _is_image(element: Any, address: str) -> bool:
    said = (element.get("type") or "").lower()
    if said or element.get("medium"):
        return said.startswith("image/") or (not said and element.get("medium") == "image")
    extension = address.partition("?")[0].rpartition("/")[2].rpartition(".")[2].lower()
    return extension in IMAGE_EXTENSIONS


def _media(entry: Any, base: str, about: ShownImage) -> Iterator[ShownImage]:
    """The images of `media:content`; of a group, which is one picture in several sizes, the largest."""
    for content in children(entry, "content", MEDIA):
        if address := _image_address(content, base):
            yield replace(_told_by(content, base, about), address=address)
    for group in children(entry, "group", MEDIA):
        sizes = [content for content in children(group, "content", MEDIA) if _image_address(content, base)]
        if sizes:
            largest = max(sizes, key=_size)
            told = _told_by(largest, base, _told_by(group, base, about))
            yield replace(told, address=_image_address(largest, base) or "")


def _image_address(content: Any, base: str) -> str | None:
    address = address_of(_base(content, base), content.get("url") or content.get("href"))
    return address if address and _is_image(content, address) else None


def _size(content: Any) -> tuple[int, int]:
    width, height, size = (number_at([content.get(name)], 0) or 0 for name in ("width", "height", "fileSize"))
    return width * height, size


def _enclosures(entry: Any, base: str, about: ShownImage) -> Iterator[ShownImage]:
    places = [*children(entry, "enclosure")]
    places += [link for link in children(entry, "link", ATOM) if link.get("rel") == "enclosure"]
    for place in places:
        if address := _image_address(place, base):
            yield replace(about, address=address)


def _thumbnails(entry: Any, base: str, about: ShownImage) -> Iterator[ShownImage]:
    """Where there is nothing else, the largest thumbnail."""
    places = [entry, *children(entry, "group", MEDIA), *children(entry, "content", MEDIA)]
    thumbnails = [thumbnail for place in places for thumbnail in children(place, "thumbnail", MEDIA)]
    addresses = [(_size(one), address) for one in thumbnails if (address := address_of(base, one.get("url")))]
    if addresses:
        yield replace(about, address=max(addresses)[1])


def _in_text(entry: Any, base: str, about: ShownImage, select: Selectors) -> Iterator[ShownImage]:
    """The images that the entry's text shows."""
    for html in filter(None, _texts(entry)):
        response = HtmlResponse(base, body=html[:_LONGEST_HTML].encode("utf-8", "replace"), encoding="utf-8")
        for shown in Page(response, select).images():
            if shown.ignored or shown.trouble:
                continue
            yield replace(
                about,
                address=shown.address,
                caption=shown.caption or about.caption,
                licence=shown.licence or about.licence,
            )


def _texts(entry: Any) -> Iterator[str | None]:
    yield text_of(entry, "encoded", CONTENT)
    yield text_of(entry, "description", *_RSS)
    for name in ("content", "summary"):
        for place in children(entry, name, ATOM):
            if place.get("type") == "xhtml":
                # Elements of the feed itself.
                yield etree.tostring(place, encoding="unicode", with_tail=False)
            else:
                yield all_text(place)
