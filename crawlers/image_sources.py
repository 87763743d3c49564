"""Where an element of a page has its picture: source sets, late loading, links to larger files, style sheets.

Sources: HTML Living Standard 4.8.4.2 (srcset), 4.8.8 (poster); SVG 2 (`image`); CSS Values 4, 4.5 (`url()`). What has
no standard, `data-src` and the like, has the names that late loaders and galleries in use give it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from lxml import etree  # type: ignore[import-untyped]

from crawlers.texts import IMAGE_EXTENSIONS, extension

LONGEST_STYLE = 2**20
"""Characters; of a page's style sheets this much is read."""

_FULL_SOURCES = (
    "data-orig-file", "data-full", "data-full-src", "data-full-url", "data-hi-res-src", "data-hires",
    "data-large_image", "data-large-file", "data-zoom-image",
)  # fmt: skip
_LAZY_SOURCES = ("data-src", "data-original", "data-lazy-src", "data-lazy")
_SOURCE_SETS = ("srcset", "data-srcset", "data-lazy-srcset")
_BACKGROUNDS = ("data-bg", "data-bg-src", "data-background", "data-background-image", "data-bgset")
_OWN_SOURCES = {
    "video": ("poster", "data-poster"),
    "input": ("src", "data-src"),
    "image": ("href", "xlink:href", "src"),
    "object": ("data",),
    "embed": ("src",),
    "link": ("href",),
}
_LONGEST_SOURCE_SET = 20_000
_MOST_SOURCES = 50
_CANDIDATE = re.compile(r"([^\s,](?:\S*[^\s,])?)(?:\s+([0-9.]{1,12})([wx]))?[^,]*,?")
# Each branch stops at the next quote or bracket, so that no text is read twice.
_CSS_ADDRESS = re.compile(r"(@import\s+)?\burl\(\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'()]*))\s*\)", re.IGNORECASE)
_NO_PICTURES = frozenset({"woff", "woff2", "ttf", "otf", "eot", "svg", "css", "js", "htc", "cur", "ani"})
_OTHERS = etree.XPath(
    "//video[@poster or @data-poster] | //input[@src or @data-src] | //image | //object[@data] | //embed[@src]"
    " | //link[@href and contains(@rel, 'image_src')] | //*[contains(@style, '(')] | "
    + " | ".join(f"//*[@{name}]" for name in _BACKGROUNDS)
)


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


def addresses_of_image(image: Any) -> list[str]:
    """Addresses of the picture that an image element shows, as they stand there, the largest first.

    Where an image is loaded late, its `src` is a place-holder, and stands last.
    """
    full = [image.get(name) for name in _FULL_SOURCES if _is_address(image.get(name))]
    best = max(filter(None, map(best_of_source_set, _source_sets(image))), key=lambda one: one[0], default=None)
    plain = [value for name in (*_LAZY_SOURCES, "src", "href") if (value := image.get(name))]
    if best and (best[0] > 1 or not plain):
        plain.insert(0, best[1])
    return full + plain


def _source_sets(image: Any) -> Iterator[str]:
    places = [image]
    # libxml2 does not know that <source> has no end, and puts the image inside it.
    picture = next(image.iterancestors("picture"), image if image.tag == "picture" else None)
    if picture is not None:
        places += islice(picture.iter("source"), _MOST_SOURCES)
    for place in places:
        yield from (value for name in _SOURCE_SETS if (value := place.get(name)))


def other_images(root: Any) -> Iterator[tuple[Any, str]]:
    """Elements that show a picture and are no image elements, each with an address as it stands there.

    Posters of videos, image buttons, SVG images, objects, `link rel=image_src`; backgrounds in `style`, in style sheets
    inside the page, and of late loaders.
    """
    for element in _OTHERS(root):
        tag = element.tag
        sources = [value for name in _OWN_SOURCES.get(tag, ()) if (value := element.get(name))]
        if sources and _shows(element, tag, sources[0]):
            yield element, sources[0]
        for name in _BACKGROUNDS:
            value = element.get(name)
            if value and "url(" in value.lower():
                yield from ((element, address) for address in _css_addresses(value))
            elif name == "data-bgset" and value and (best := best_of_source_set(value)):
                yield element, best[1]
            elif _is_address(value):
                yield element, value
        yield from ((element, address) for address in _css_addresses(element.get("style") or ""))
    left = LONGEST_STYLE
    for style in root.iter("style"):
        text = (style.text or "")[:left]
        left -= len(text)
        yield from ((style, address) for address in _css_addresses(text))


def _shows(element: Any, tag: str, source: str) -> bool:
    if tag == "input":
        return str(element.get("type", "")).strip().lower() == "image"
    if tag in {"object", "embed"}:
        is_image = str(element.get("type", "")).strip().lower().startswith("image/")
        return extension(source) in IMAGE_EXTENSIONS or (is_image and extension(source) not in _NO_PICTURES)
    return True


def _css_addresses(text: str) -> Iterator[str]:
    for match in _CSS_ADDRESS.finditer(text[:LONGEST_STYLE]):
        imported, *quoted = match.groups()
        address = next((one for one in quoted if one), "")
        if address and not imported and extension(address) not in _NO_PICTURES:
            yield address


def _is_address(value: str | None) -> bool:
    """Whether an attribute that might hold anything (true, #fff, {json}) holds an address."""
    if not value or value.lstrip()[:1] in {"#", "{", "[", "<"}:
        return False
    return "/" in value or extension(value) in IMAGE_EXTENSIONS
