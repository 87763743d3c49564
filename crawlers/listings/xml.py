"""XML of a site, read without entities, without the network, and with a bound on depth and size (libxml2's own)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lxml import etree  # type: ignore[import-untyped]

from crawlers.listings import NotAListing
from crawlers.texts import clean_text

MEDIA = "http://search.yahoo.com/mrss/"
ATOM = "http://www.w3.org/2005/Atom"
CONTENT = "http://purl.org/rss/1.0/modules/content/"
DUBLIN = "http://purl.org/dc/elements/1.1/"
_SAME = {
    "http://search.yahoo.com/mrss": MEDIA,
    "https://search.yahoo.com/mrss/": MEDIA,
    "http://purl.org/atom/ns#": ATOM,
}


def tree_of(body: bytes, address: str) -> tuple[Any, str | None]:
    """The root element of a document, and why what it holds may not be all; None: it is.

    Raises:
        NotAListing: there is no XML in it.
    """
    parser = etree.XMLParser(
        resolve_entities=False, load_dtd=False, no_network=True, recover=True, huge_tree=False, remove_comments=True
    )
    try:
        root = etree.fromstring(body.strip() or b"<", parser, base_url=address)
    except (etree.LxmlError, ValueError) as error:
        raise NotAListing(f"no XML: {clean_text(str(error))}") from error
    if root is None or not isinstance(root.tag, str):
        shown = clean_text(body[:60].decode("utf-8", "replace")) or "nothing"
        raise NotAListing(f"no XML, but {shown!r}")
    fatal = next((error for error in parser.error_log if error.level >= etree.ErrorLevels.FATAL), None)
    return root, None if fatal is None else f"damaged XML, line {fatal.line}: {clean_text(fatal.message, 100)}"


def name_of(element: Any) -> tuple[str, str]:
    """Namespace and name of an element, both empty for what is no element."""
    if not isinstance(element.tag, str):
        return "", ""
    name = etree.QName(element)
    namespace = name.namespace or ""
    return _SAME.get(namespace, namespace), name.localname


def children(element: Any, name: str, *namespaces: str) -> Iterator[Any]:
    """The elements right below one that have this name, in one of these namespaces; without: in any."""
    for child in () if element is None else element:
        namespace, local = name_of(child)
        if local == name and (not namespaces or namespace in namespaces):
            yield child


def text_of(element: Any, name: str, *namespaces: str) -> str | None:
    """The text of the first such element that has one."""
    for child in children(element, name, *namespaces):
        if text := all_text(child):
            return text
    return None


def all_text(element: Any) -> str | None:
    """All text inside an element; None: there is none."""
    if element is None:
        return None
    return "".join(part for part in element.itertext(with_tail=False) if isinstance(part, str)).strip() or None
