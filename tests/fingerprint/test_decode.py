"""The canonical decoding: what each kind of file becomes."""

from __future__ import annotations

import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from copywatch.decode import WORKING_HEIGHT, WORKING_WIDTH, DecodedImage, decode
from tests.fingerprint.pictures import encoded, gradient, pixels, scene

UPRIGHT = gradient(120, 90)


def decoded(data: bytes) -> DecodedImage:
    return decode(data, max_pixels=64_000_000, max_bytes=2**25)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = b"".join([chunk(b"IHDR", head), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])
    return b"\x89PNG\r\n\x1a\n" + body


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_give_the_pixels(image_format: str) -> None:
    image = decoded(encoded(UPRIGHT, image_format))
    assert (image.width, image.height, image.format) == (120, 90, image_format)
    assert image.rgb.mode == "RGB"
    assert np.array_equal(image.pixels(), np.asarray(UPRIGHT))


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "AVIF", "GIF"])
def test_lossy_formats_come_close(image_format: str) -> None:
    image = decoded(encoded(UPRIGHT, image_format))
    assert (image.width, image.height, image.format) == (120, 90, image_format)
    assert np.abs(pixels(image.rgb) - pixels(UPRIGHT)).mean() < 12


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_several(image_format: str) -> None:
    other = Image.new("RGB", UPRIGHT.size, (255, 0, 255))
    options = {"lossless": True} if image_format == "WEBP" else {}
    moving = decoded(encoded(UPRIGHT, image_format, save_all=True, append_images=[other], **options))
    still = decoded(encoded(UPRIGHT, image_format, **options))
    assert np.array_equal(moving.pixels(), still.pixels())


def test_first_picture_of_a_multi_picture_jpeg() -> None:
    data = encoded(UPRIGHT, "MPO", save_all=True, append_images=[Image.new("RGB", (60, 60))])
    image = decoded(data)
    assert image.format == "JPEG"
    assert np.abs(pixels(image.rgb) - pixels(UPRIGHT)).mean() < 12


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP", "AVIF", "JPEG"])
def test_exif_rotated_equals_upright(image_format: str, value: int) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = UPRIGHT.transpose(Image.Transpose(undo[value])) if value in undo else UPRIGHT
    options = (
        {"lossless": True} if image_format == "WEBP" else {"quality": 95} if image_format in ("AVIF", "JPEG") else {}
    )
    image = decoded(encoded(stored, image_format, exif=orientation(value), **options))
    assert (image.width, image.height) == (120, 90)
    difference = np.abs(pixels(image.rgb) - pixels(UPRIGHT))
    assert difference.mean() < 8 if image_format in ("AVIF", "JPEG") else difference.max() == 0


def test_exif_that_cannot_be_read_counts_as_none() -> None:
    data = bytearray(encoded(UPRIGHT, "JPEG", exif=orientation(6)))
    start = data.index(b"Exif") + 6
    data[start : start + 8] = b"\xff" * 8
    image = decoded(bytes(data))
    assert (image.width, image.height) == (120, 90)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((500, 400), (500, 400)),
        ((1055, 900), (1055, 900)),
        ((1056, 864), (528, 432)),
        ((2200, 1800), (550, 450)),
        ((4300, 3500), (538, 438)),
        ((6000, 440), (6000, 440)),
    ],
)
def test_large_jpegs_are_scaled_while_decoded(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    image = decoded(encoded(scene(*size), "JPEG"))
    assert image.rgb.size == wanted
    assert (image.width, image.height) == size


def test_sideways_jpeg_keeps_the_working_size_as_shown() -> None:
    # Upright 864 x 1056 would be too narrow to halve; shown on its side it is wide enough.
    image = decoded(encoded(scene(864, 1056), "JPEG", exif=orientation(6)))
    assert image.rgb.size == (WORKING_WIDTH, WORKING_HEIGHT)
    assert (image.width, image.height) == (1056, 864)


def test_transparency_lies_over_white() -> None:
    half = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    half.paste((0, 0, 255, 255), (0, 0, 20, 40))
    for image_format in ("PNG", "WEBP", "GIF", "TIFF", "AVIF"):
        options = {"lossless": True} if image_format == "WEBP" else {}
        shown = pixels(decoded(encoded(half, image_format, **options)).rgb)
        assert np.abs(shown[5:35, 5:15] - (0, 0, 255)).max() < 12, image_format
        assert np.abs(shown[5:35, 25:35] - (255, 255, 255)).max() < 12, image_format


def test_half_transparency_is_mixed() -> None:
    shown = decoded(encoded(Image.new("RGBA", (40, 40), (0, 0, 0, 128)), "PNG")).pixels()
    assert (shown == 127).all()


def test_transparency_of_tall_pictures_has_no_seams() -> None:
    rgba = gradient(40, 1300).convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize(rgba.size))
    wanted = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    assert np.abs(pixels(decoded(encoded(rgba, "PNG")).rgb) - pixels(wanted)).max() <= 1
    keyed = gradient(40, 1300).quantize(16)
    shown = decoded(encoded(keyed, "PNG", transparency=3)).pixels()
    assert np.array_equal((shown == 255).all(axis=2), np.asarray(keyed) == 3)


def test_palette_with_and_without_transparency() -> None:
    palette = Image.new("P", (40, 40), 1)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.paste(0, (0, 0, 20, 40))
    plain = decoded(encoded(palette, "PNG")).pixels()
    assert plain[5, 5].tolist() == [10, 20, 30]
    assert plain[5, 30].tolist() == [200, 100, 50]
    keyed = decoded(encoded(palette, "PNG", transparency=0)).pixels()
    assert keyed[5, 5].tolist() == [255, 255, 255]
    assert keyed[5, 30].tolist() == [200, 100, 50]
    graded = decoded(encoded(palette, "PNG", transparency=bytes([255, 128]))).pixels()
    assert graded[5, 30].tolist() == [227, 177, 152]


def test_bilevel_grey_and_grey_with_alpha() -> None:
    grey = UPRIGHT.convert("L")
    assert np.array_equal(decoded(encoded(grey, "PNG")).pixels()[:, :, 0], np.asarray(grey))
    assert set(np.unique(decoded(encoded(UPRIGHT.convert("1"), "PNG")).pixels())) == {0, 255}
    assert np.array_equal(decoded(encoded(UPRIGHT.convert("LA"), "PNG")).pixels()[:, :, 0], np.asarray(grey))


def test_cmyk_jpeg() -> None:
    image = decoded(encoded(UPRIGHT.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(pixels(image.rgb) - pixels(UPRIGHT)).mean() < 8


DEEP = (np.mgrid[:60, :60][1] * 1100).astype(">u2")


def deep_png(colour: int, channels: int, *extra: bytes) -> bytes:
    rows = b"".join(b"\x00" + np.repeat(row, channels).tobytes() for row in DEEP)
    return png(60, 60, 16, colour, rows, *extra)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    wanted = (DEEP >> 8).astype(np.uint8)
    assert wanted.max() > 250
    for colour, channels in ((0, 1), (2, 3)):
        shown = decoded(deep_png(colour, channels)).pixels()
        for channel in range(3):
            assert np.array_equal(shown[:, :, channel], wanted)


def test_sixteen_bits_equal_their_eight() -> None:
    eight = np.asarray(UPRIGHT.convert("L"))
    sixteen = Image.fromarray(eight.astype(np.uint16) * 257)
    for image_format in ("PNG", "TIFF"):
        assert np.array_equal(decoded(encoded(sixteen, image_format)).pixels()[:, :, 0], eight)


def test_sixteen_bit_colour_key_is_transparent() -> None:
    key = int(DEEP[0, 8])
    for colour, channels in ((0, 1), (2, 3)):
        shown = decoded(deep_png(colour, channels, chunk(b"tRNS", struct.pack(">H", key) * channels))).pixels()
        assert (shown[:, 8] == 255).all()
        assert (shown[:, 9] == int(DEEP[0, 9]) >> 8).all()


def test_float_and_long_greys_use_their_own_range() -> None:
    ramp = np.mgrid[:40, :51][1]
    for levels in ((ramp / 1e6).astype(np.float32), (ramp * 1_000_000 - 7).astype(np.int32)):
        shown = decoded(encoded(Image.fromarray(levels), "TIFF")).pixels()
        assert np.abs(shown[0, :, 0] - np.arange(51) * 5.1).max() < 0.501


def test_blank_pictures_are_usable() -> None:
    for image in (Image.new("RGB", (64, 64), "white"), Image.new("RGBA", (64, 64)), Image.new("L", (16, 16))):
        assert len(np.unique(decoded(encoded(image, "PNG")).pixels())) == 1
    constant = decoded(encoded(Image.fromarray(np.full((30, 30), np.nan, dtype=np.float32)), "TIFF"))
    assert (constant.pixels() == 255).all()


def test_decoding_is_repeatable_and_the_result_travels() -> None:
    data = encoded(scene(1300, 900), "JPEG", quality=70)
    first, second = decoded(data), pickle.loads(pickle.dumps(decoded(data)))
    assert np.array_equal(first.pixels(), second.pixels())
