"""Rights that an image file states of itself: XMP, then IPTC, then EXIF.

Sources: XMP Specification Part 1 (ISO 16684-1), Part 2 "XMP Rights Management"; Creative Commons' `cc:license`; IPTC
Photo Metadata Standard 2023.1 (IIM 2:116 Copyright Notice, 2:110 Credit; PLUS Licensor); EXIF 2.32, tag 0x8298
Copyright. No pixel is decoded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

from lxml import etree  # type: ignore[import-untyped]
from PIL import Image, ImageFile, IptcImagePlugin
from PIL.ExifTags import Base as ExifTag

from crawlers.texts import TEXT_LENGTH, clean_text, web_address

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
_HEAD = 2**19
"""Bytes. JPEG and PNG have their metadata before the pixels; of a file of nothing but metadata this much is read."""
_HEADED = (b"\xff\xd8", b"\x89PNG")

_LARGEST_XMP = 2**19
_LARGEST_EXIF = 2**17
_LARGEST_IPTC = 2**16
_IPTC_IN_TIFF = 33723

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_RIGHTS = "{http://ns.adobe.com/xap/1.0/rights/}"
_CC = "{http://creativecommons.org/ns#}"
_PLUS = "{http://ns.useplus.org/ldf/xmp/1.0/}"
_PHOTOSHOP = "{http://ns.adobe.com/photoshop/1.0/}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
# What names a licence before what only claims a right.
_ADDRESSES = (f"{_CC}license", f"{_RIGHTS}WebStatement", f"{_PLUS}LicensorURL")
_STATEMENTS = (f"{_RIGHTS}UsageTerms", f"{_DC}rights", f"{_PLUS}CopyrightOwnerName")


def stated_rights(data: bytes) -> str | None:
    """Licence or rights that the file itself states: an address, else one line; None: none that can be read.

    The first there is of: a licence's address (cc:license, xmpRights:WebStatement, plus:LicensorURL), its terms
    (xmpRights:UsageTerms), a notice (dc:rights, plus:CopyrightOwnerName, IPTC 2:116, EXIF Copyright), a credit
    (IPTC 2:110, photoshop:Credit).

    Args:
        data: the file's bytes, from anywhere. Nothing is raised, whatever they are.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            head = data[:_HEAD] if data.startswith(_HEADED) else data
            with Image.open(BytesIO(head), formats=_FORMATS) as image:
                return _rights_of(image)
    except Exception:  # Pillow answers hostile bytes with anything; what cannot be read states nothing
        return None


def _rights_of(image: ImageFile.ImageFile) -> str | None:
    packet = _quietly(_xmp, image)
    readers: tuple[Callable[[], str | None], ...] = (
        lambda: None if packet is None else _in_xmp(packet, _ADDRESSES, _STATEMENTS),
        lambda: _quietly(_iptc, image, (2, 116)),
        lambda: _quietly(_exif, image),
        lambda: _quietly(_iptc, image, (2, 110)),
        lambda: None if packet is None else _in_xmp(packet, (), (f"{_PHOTOSHOP}Credit",)),
    )
    return next((said for read in readers if (said := read())), None)


def _quietly(read: Callable[..., Any], *arguments: object) -> Any:
    """One kind of metadata may be broken where another is not."""
    try:
        return read(*arguments)
    except Exception:
        return None


def _xmp(image: ImageFile.ImageFile) -> Any:
    packet = image.info.get("xmp") or b""
    packet = packet.encode() if isinstance(packet, str) else packet
    # No XMP has a document type, and only with one are there entities.
    if not packet or len(packet) > _LARGEST_XMP or b"<!DOCTYPE" in packet:
        return None
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, recover=True)
    return etree.fromstring(packet.strip(b"\x00 \t\r\n"), parser)


def _in_xmp(packet: Any, addresses: tuple[str, ...], statements: tuple[str, ...]) -> str | None:
    # Descriptions deeper down are of the pictures that this one was made of.
    graph = packet if packet.tag == f"{_RDF}RDF" else packet.find(f"{_RDF}RDF")
    descriptions = [] if graph is None else graph.findall(f"{_RDF}Description")
    for name in addresses:
        for text in (text for described in descriptions for text in _values(described, name)):
            if address := web_address("", text, TEXT_LENGTH):
                return address
    for name in (*statements, *addresses):
        for text in (text for described in descriptions for text in _values(described, name)):
            if said := clean_text(text):
                return said
    return None


def _values(described: Any, name: str) -> Iterator[str]:
    """What a description says under a name: as an attribute, a resource, a text, or alternatives, the default first."""
    if text := described.get(name):
        yield text
    nested = described.iterfind(f".//{name}") if name.startswith(_PLUS) else described.iterfind(name)
    for element in nested:
        if text := element.get(f"{_RDF}resource"):
            yield text
        lines = list(element.iter(f"{_RDF}li"))[:50]
        for line in sorted(lines, key=lambda line: line.get(_LANGUAGE) != "x-default"):
            yield line.text or ""
        yield element.text or ""
    if name.startswith(_PLUS):
        yield from (text for line in described.iter(f"{_RDF}li") if (text := line.get(name)))


def _iptc(image: ImageFile.ImageFile, record: tuple[int, int]) -> str | None:
    if image.format == "TIFF":
        size = len(image.tag_v2.get(_IPTC_IN_TIFF) or b"")  # type: ignore[attr-defined]
    else:
        resources = image.info.get("photoshop") or {}
        size = len(resources.get(0x0404) or b"")
    if not 0 < size <= _LARGEST_IPTC:
        return None
    said = (IptcImagePlugin.getiptcinfo(image) or {}).get(record)
    return clean_text(_decoded(said[0] if isinstance(said, list) else said))


def _exif(image: ImageFile.ImageFile) -> str | None:
    if image.format == "TIFF":
        said = image.tag_v2.get(ExifTag.Copyright)  # type: ignore[attr-defined]
    else:
        # A PNG without this entry would be decoded in search of it by getexif().
        block = image.info.get("exif") or b""
        if not 0 < len(block) <= _LARGEST_EXIF:
            return None
        exif = Image.Exif()
        exif.load(block)
        said = exif.get(ExifTag.Copyright)
    # The photographer's and the editor's, with a NUL between.
    text = _decoded(said.encode("latin-1", "replace") if isinstance(said, str) else said) or ""
    return clean_text(", ".join(part for each in text.split("\x00") if (part := each.strip())))


def _decoded(said: object) -> str | None:
    """Text of bytes that do not say how it is written: UTF-8 if it can be, else Latin-1."""
    if not isinstance(said, bytes):
        return None
    try:
        return said.decode("utf-8")
    except UnicodeDecodeError:
        return said.decode("latin-1")
