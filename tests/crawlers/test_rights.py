"""Rights in the bytes of a file: written by Pillow, read back."""

from __future__ import annotations

import struct
from io import BytesIO
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, TiffImagePlugin

from crawlers.rights import stated_rights

COPYRIGHT = 0x8298
NAMESPACES = (
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/" xmlns:cc="http://creativecommons.org/ns#" '
    'xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"'
)
BY = "https://creativecommons.org/licenses/by/4.0/"
FORMATS = ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"]


def xmp(content: str = "", attributes: str = "") -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF {NAMESPACES}><rdf:Description rdf:about="" {attributes}>{content}</rdf:Description></rdf:RDF>'
        '</x:xmpmeta>   <?xpacket end="w"?>'
    ).encode()


def written(kind: str, packet: bytes | None = None, copyright_: str | None = None, iptc: bytes | None = None) -> bytes:
    more: dict[str, object] = {}
    if kind == "PNG" and packet:
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        more["pnginfo"] = info
    elif kind == "TIFF":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        for tag, value in ((700, packet), (COPYRIGHT, copyright_), (33723, iptc)):
            if value:
                tags[tag] = value
        more["tiffinfo"] = tags
    elif packet:
        more["xmp"] = packet
    if copyright_ and kind != "TIFF":
        exif = Image.Exif()
        exif[COPYRIGHT] = copyright_
        more["exif"] = exif
    file = BytesIO()
    Image.effect_noise((64, 48), 40).convert("RGB").save(file, kind, **more)
    data = file.getvalue()
    if iptc and kind == "JPEG":
        padded = struct.pack(">I", len(iptc)) + iptc + b"\x00" * (len(iptc) % 2)
        resource = b"Photoshop 3.0\x008BIM\x04\x04\x00\x00" + padded
        data = data[:2] + b"\xff\xed" + struct.pack(">H", len(resource) + 2) + resource + data[2:]
    return data


def iim(record: int, text: bytes) -> bytes:
    return struct.pack(">BBBH", 0x1C, 2, record, len(text)) + text


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_read_back(kind: str) -> None:
    assert stated_rights(written(kind)) is None
    assert stated_rights(written(kind, xmp(f'<cc:license rdf:resource="{BY}"/>'))) == BY
    assert stated_rights(written(kind, copyright_="(c) 2026 Ann Example")) == "(c) 2026 Ann Example"
    both = written(kind, xmp("<dc:rights>XMP says</dc:rights>"), "EXIF says")
    assert stated_rights(both) == "XMP says"


def alternatives(*lines: tuple[str, str]) -> str:
    listed = "".join(f'<rdf:li xml:lang="{language}">{text}</rdf:li>' for language, text in lines)
    return f"<rdf:Alt>{listed}</rdf:Alt>"


LICENSOR = f'<rdf:Seq><rdf:li rdf:parseType="Resource"><plus:LicensorURL>{BY}x</plus:LicensorURL></rdf:li></rdf:Seq>'


@pytest.mark.parametrize(
    ("content", "attributes", "said"),
    [
        ("", f'xmpRights:WebStatement="{BY}"', BY),
        (f"<xmpRights:WebStatement>{BY}</xmpRights:WebStatement>", "", BY),
        (f"<plus:Licensor>{LICENSOR}</plus:Licensor>", "", f"{BY}x"),
        (f"<plus:Licensor><rdf:Seq><rdf:li plus:LicensorURL='{BY}y'/></rdf:Seq></plus:Licensor>", "", f"{BY}y"),
        (f"<dc:rights>{alternatives(('de', 'Alle Rechte'), ('x-default', 'All kept'))}</dc:rights>", "", "All kept"),
        (f"<xmpRights:UsageTerms>{alternatives(('x-default', 'No use'))}</xmpRights:UsageTerms>"
         "<dc:rights>c</dc:rights>", "", "No use"),
        (f"<dc:rights>c</dc:rights><cc:license rdf:resource='{BY}'/>", "", BY),
        ("<dc:rights>c</dc:rights>", 'xmpRights:WebStatement="see me"', "c"),
        ("", 'xmpRights:WebStatement="ask\u202e  the\x85 owner"', "ask the owner"),
        ("", 'photoshop:Credit="Agency"', "Agency"),
        ("<dc:creator>Ann</dc:creator>", "", None),
        ("<dc:relation><rdf:Description><dc:rights>another's</dc:rights></rdf:Description></dc:relation>", "", None),
    ],
)  # fmt: skip
def test_what_xmp_says(content: str, attributes: str, said: str | None) -> None:
    assert stated_rights(written("JPEG", xmp(content, attributes))) == said


def test_iptc_and_exif() -> None:
    assert stated_rights(written("JPEG", iptc=iim(116, "© Änn".encode()))) == "© Änn"
    assert stated_rights(written("JPEG", iptc=iim(116, "© Änn".encode("latin-1")))) == "© Änn"
    assert stated_rights(written("TIFF", iptc=iim(116, b"in a TIFF"))) == "in a TIFF"
    credit = iim(110, b"Agency")
    assert stated_rights(written("JPEG", iptc=credit)) == "Agency"
    assert stated_rights(written("JPEG", iptc=credit, copyright_="(c) Ann")) == "(c) Ann"
    assert stated_rights(written("JPEG", iptc=credit + iim(116, b"notice"), copyright_="(c) Ann")) == "notice"
    # The photographer's and the editor's copyright, as EXIF 2.32 has them; a space stands for none.
    assert stated_rights(written("JPEG", copyright_="Ann\x00Bob")) == "Ann, Bob"
    assert stated_rights(written("JPEG", copyright_=" \x00Bob")) == "Bob"
    utf8 = written("JPEG", copyright_="(c) Anna").replace(b"(c) Anna", "© Änn".encode() + b"\x00")
    assert stated_rights(utf8) == "© Änn"


def test_metadata_that_is_broken_does_not_hide_the_rest() -> None:
    assert stated_rights(written("JPEG", b"<no xml", "(c) Ann")) == "(c) Ann"
    bad_exif = written("JPEG", xmp("<dc:rights>XMP</dc:rights>"), "x").replace(b"Exif\x00\x00", b"Exif\x00\x00\xff")
    assert stated_rights(bad_exif) == "XMP"


def test_no_entity_is_expanded_and_nothing_outside_is_read(tmp_path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for declared in (f'<!ENTITY e SYSTEM "file://{secret}">', '<!ENTITY e "inner">'):
        head = f"<!DOCTYPE x [{declared}]>".encode()
        packet = head + xmp("<dc:rights>a&amp;e;&e;</dc:rights>").partition(b"?>")[2]
        assert stated_rights(written("JPEG", packet)) is None
    assert stated_rights(written("JPEG", xmp("<dc:rights>a &amp; b</dc:rights>"))) == "a & b"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8" + b"\xff\xe1\x00\x02" * 2_000_000,
        b"II*\x00\x08\x00\x00\x00" + b"\xff" * 100_000,
        written("JPEG", xmp("<dc:rights>" * 4000)),
        written("PNG", xmp("<dc:rights>x</dc:rights>" * 100_000)),
        written("PNG", b"<" * 2_000_000),
        written("TIFF", iptc=iim(5, b"") * 500_000),
        written("WEBP")[:-40],
    ],
    ids=["empty", "start", "segments", "tiff tags", "deep", "many", "brackets", "iptc", "cut"],
)  # fmt: skip
def test_hostile_bytes_cost_little(data: bytes) -> None:
    start = process_time()
    assert stated_rights(data) in {None, "x"}
    assert process_time() - start < 5, "half a minute without the bounds"


def test_no_pixel_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [written(kind, copyright_="c") for kind in FORMATS] + [written(kind) for kind in FORMATS]

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", forbidden)
    assert [stated_rights(data) for data in files] == ["c"] * 5 + [None] * 5


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_damage_is_borne(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(FORMATS))
    file = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    said = stated_rights(bytes(file[: data.draw(st.integers(0, len(file)))]))
    assert said is None or (said == said.strip() and said.isprintable() and 0 < len(said) <= 200)


WHOLE = {kind: written(kind, xmp("<dc:rights>XMP</dc:rights>"), "EXIF", iim(116, b"IPTC")) for kind in FORMATS}
