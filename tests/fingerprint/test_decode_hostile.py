"""Bytes from strangers: each gets a reason, and none gets an exception of another kind."""

from __future__ import annotations

import struct
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from copywatch.decode import decode
from copywatch.errors import Reason, UnusableImage
from tests.fingerprint.pictures import encoded, scene
from tests.fingerprint.test_decode import chunk, png

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
FILES = {name: encoded(scene(120, 90), name) for name in FORMATS}
BLACK_ROWS = b"".join(b"\x00" + bytes(60) for _ in range(20))


def refusal(data: bytes, *, max_pixels: int = 64_000_000, max_bytes: int = 2**25) -> UnusableImage:
    with pytest.raises(UnusableImage) as caught:
        decode(data, max_pixels=max_pixels, max_bytes=max_bytes)
    return caught.value


def test_zero_bytes() -> None:
    assert refusal(b"").reason is Reason.EMPTY


def test_too_many_bytes_are_not_read() -> None:
    error = refusal(FILES["PNG"], max_bytes=99)
    assert error.reason is Reason.TOO_LARGE
    assert "at most 99" in error.detail


@pytest.mark.parametrize("name", FORMATS)
def test_too_many_pixels_are_not_decoded(name: str) -> None:
    error = refusal(FILES[name], max_pixels=120 * 90 - 1)
    assert error.reason is Reason.TOO_MANY_PIXELS
    assert error.detail == "120 x 90, at most 10799 pixels"
    assert decode(FILES[name], max_pixels=120 * 90, max_bytes=2**25).width == 120


@pytest.mark.parametrize(("side", "named"), [(10_000, "10000 x 10000"), (65_000, "4225000000 pixels")])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_header_of_many_megapixels_costs_nothing(side: int, named: str) -> None:
    began = time.monotonic()
    error = refusal(png(side, side, 8, 2, b""))
    assert error.reason is Reason.TOO_MANY_PIXELS
    assert named in error.detail
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("size", [(15, 400), (400, 15), (1, 1)])
def test_too_small(size: tuple[int, int]) -> None:
    assert refusal(encoded(Image.new("RGB", size), "PNG")).reason is Reason.TOO_SMALL


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("name", FORMATS)
def test_truncated(name: str, share: float) -> None:
    assert refusal(FILES[name][: int(len(FILES[name]) * share)]).reason is Reason.TRUNCATED


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF"])
def test_truncated_within_the_header(name: str) -> None:
    assert refusal(FILES[name][:30]).reason is Reason.TRUNCATED


def test_large_jpeg_truncated() -> None:
    data = encoded(scene(1300, 1000), "JPEG")
    assert refusal(data[: len(data) // 2]).reason is Reason.TRUNCATED


def test_png_with_only_its_end_missing_is_shown() -> None:
    assert decode(FILES["PNG"][:-12], max_pixels=10**6, max_bytes=10**6).width == 120


def test_png_data_that_does_not_fit_its_checksum_is_corrupt() -> None:
    data = bytearray(FILES["PNG"])
    middle = len(data) // 2
    data[middle : middle + 20] = bytes(20)
    assert refusal(bytes(data)).reason is Reason.CORRUPT


@pytest.mark.parametrize("name", ["PNG", "WEBP"])
def test_corrupt_headers(name: str) -> None:
    data = bytearray(FILES[name])
    data[13:40] = b"\xff" * 27
    assert refusal(bytes(data)).reason in (Reason.CORRUPT, Reason.TRUNCATED)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_decompression_bombs_beside_the_pixels(kind: bytes) -> None:
    bomb = zlib.compress(bytes(64 * 2**20), 9)
    assert refusal(png(20, 20, 8, 2, BLACK_ROWS, chunk(kind, b"x\x00\x00" + bomb))).reason is Reason.CORRUPT


def test_many_text_chunks() -> None:
    texts = [chunk(b"zTXt", b"x\x00\x00" + zlib.compress(bytes(2**20 - 1))) for _ in range(70)]
    assert refusal(png(20, 20, 8, 2, BLACK_ROWS, *texts)).reason is Reason.CORRUPT


def test_pixels_beyond_the_announced_size_are_not_inflated() -> None:
    began = time.monotonic()
    assert decode(png(20, 20, 8, 2, BLACK_ROWS + bytes(64 * 2**20)), max_pixels=10**6, max_bytes=2**25).width == 20
    assert time.monotonic() - began < 2


def test_no_size_at_all() -> None:
    assert refusal(png(0, 10, 8, 2, b"")).reason is Reason.CORRUPT


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE html><html><body>",
        b"\xef\xbb\xbf\r\n  <!-- cached --> <HTML>",
        b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN">',
        b"<html><svg></svg></html>",
        b"<div>Not found</div>",
        "<html>".encode("utf-16"),
    ],
)
def test_html(data: bytes) -> None:
    assert refusal(data).reason is Reason.HTML


@pytest.mark.parametrize(
    "data",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b'<?xml version="1.0"?><!-- made by hand -->\n<svg viewBox="0 0 1 1">',
        b'<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "svg11.dtd"><svg>',
        b"<svg:svg>",
    ],
)
def test_svg(data: bytes) -> None:
    assert refusal(data).reason is Reason.SVG


@pytest.mark.parametrize(
    "data",
    [
        b"not an image",
        b'{"error": 404}',
        b"\x00" * 500,
        b'<?xml version="1.0"?><rss>',
        b"<!-- never closed",
        b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n",
        b"8BPS\x00\x01" + bytes(40),
        b"BM is how this text begins, and a bitmap too",
        b"P6 100 100 255\n" + bytes(30_000),
    ],
)
def test_other_things(data: bytes) -> None:
    error = refusal(data)
    assert error.reason is Reason.NOT_AN_IMAGE
    assert error.detail.startswith("begins with")


def test_a_tiff_that_names_itself_as_its_next_page() -> None:
    entry = struct.pack("<HHII", 256, 3, 1, 50) + struct.pack("<HHII", 257, 3, 1, 50)
    data = b"II*\x00" + struct.pack("<I", 8) + struct.pack("<H", 2) + entry + struct.pack("<I", 8)
    assert refusal(data).reason in (Reason.CORRUPT, Reason.TRUNCATED)


def usable_or_refused(data: bytes) -> None:
    try:
        image = decode(data, max_pixels=1_000_000, max_bytes=2**22)
    except UnusableImage as error:
        seen = error.reason, error.detail
    else:
        assert image.rgb.mode == "RGB"
        assert min(image.width, image.height) >= 16
        return
    assert isinstance(seen[0], Reason)
    assert len(seen[1]) <= 200


@given(name=st.sampled_from(FORMATS), damage=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=12))
@settings(max_examples=250, deadline=None)
def test_damaged_files_never_raise_anything_else(name: str, damage: list[tuple[float, int]]) -> None:
    data = bytearray(FILES[name])
    for place, value in damage:
        # Half of the damage in the first tenth, where the structures are.
        reach = len(data) if place < 0.5 else len(data) // 10
        data[int(place * reach)] = value
    usable_or_refused(bytes(data))


@given(name=st.sampled_from(FORMATS), kept=st.floats(0, 1), tail=st.binary(max_size=64))
@settings(max_examples=150, deadline=None)
def test_cut_and_continued_files_never_raise_anything_else(name: str, kept: float, tail: bytes) -> None:
    usable_or_refused(FILES[name][: int(len(FILES[name]) * kept)] + tail)


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_bytes_never_raise_anything_else(data: bytes) -> None:
    usable_or_refused(data)
