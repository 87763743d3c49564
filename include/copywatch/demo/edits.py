"""What people do to a photo before they post it, and what goes wrong with an upload.

Every edit is a function of bytes to bytes and gives the same bytes for the same bytes, so that a test can say what a
copy looks like and two processes agree on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from copywatch.errors import Reason

_JPEG_QUALITY = 88
_SEPIA = (0.393, 0.769, 0.189, 0.0, 0.349, 0.686, 0.168, 0.0, 0.272, 0.534, 0.131, 0.0)
_WARM = (1.06, 0.04, 0.0, 8.0, 0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.82, 0.0)
_WATERMARK = "lumen \N{MIDDLE DOT} shared"


@dataclass(frozen=True)
class Edit:
    """One way a photo's bytes end up on a site.

    Attributes:
        name: how reports call it.
        extension: of the file that it gives, with the dot.
        apply: bytes of the photo to bytes of the file.
        reason: why the file gives no usable image; None if it does.
    """

    name: str
    extension: str
    apply: Callable[[bytes], bytes]
    reason: Reason | None = None


def _opened(photo: bytes) -> Image.Image:
    return Image.open(BytesIO(photo)).convert("RGB")


def _saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _jpeg(image: Image.Image) -> bytes:
    return _saved(image, "JPEG", quality=_JPEG_QUALITY)


def _untouched(photo: bytes) -> bytes:
    return photo


# --- copies as people make them -------------------------------------------------------------------------------------


def _re_encoded(photo: bytes) -> bytes:
    return _saved(_opened(photo), "JPEG", quality=60)


def _resized(photo: bytes) -> bytes:
    image = _opened(photo)
    return _jpeg(image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS))


def _watermarked(photo: bytes) -> bytes:
    image = _opened(photo).convert("RGBA")
    layer = Image.new("RGBA", image.size, (255, 255, 255, 0))
    font = ImageFont.load_default(size=image.width / 11)
    ImageDraw.Draw(layer).text(
        (image.width / 2, image.height * 0.82),
        _WATERMARK,
        font=font,
        anchor="mm",
        fill=(255, 255, 255, 128),
        stroke_width=2,
        stroke_fill=(0, 0, 0, 90),
    )
    return _jpeg(Image.alpha_composite(image, layer).convert("RGB"))


def _sepia(photo: bytes) -> bytes:
    return _jpeg(_opened(photo).convert("RGB", _SEPIA))


def _warm(photo: bytes) -> bytes:
    return _jpeg(_opened(photo).convert("RGB", _WARM))


def _cropped(percent: float) -> Callable[[bytes], bytes]:
    """Take `percent` of each side, half of it at either end."""

    def crop(photo: bytes) -> bytes:
        image = _opened(photo)
        across, down = round(image.width * percent / 100), round(image.height * percent / 100)
        left, top = across // 2, down // 2
        return _jpeg(image.crop((left, top, left + image.width - across, top + image.height - down)))

    return crop


def _cut_out(photo: bytes) -> bytes:
    """A third of the picture, mirrored: what a global fingerprint cannot see."""
    image = _opened(photo)
    across, down = round(image.width * 0.58), round(image.height * 0.58)
    left, top = round(image.width * 0.3), round(image.height * 0.2)
    return _jpeg(ImageOps.mirror(image.crop((left, top, left + across, top + down))))


def _screenshot(photo: bytes) -> bytes:
    """The picture on a telephone's screen, between bars and lines of text."""
    image = _opened(photo)
    image.thumbnail((600, 600), Image.Resampling.LANCZOS)
    screen = Image.new("RGB", (640, 1138), (250, 250, 252))
    draw = ImageDraw.Draw(screen)
    draw.rectangle((0, 0, 640, 90), fill=(32, 34, 60))
    draw.text((320, 45), "lumen", font=ImageFont.load_default(size=36), anchor="mm", fill=(255, 255, 255))
    screen.paste(image, ((640 - image.width) // 2, 130))
    line = 130 + image.height + 50
    for words in (
        "Desmond and 27 others like this",
        "Where was this taken?",
        "Best light this year",
        "Can I print it?",
    ):
        draw.text((30, line), words, font=ImageFont.load_default(size=28), fill=(60, 60, 70))
        line += 64
    return _saved(screen, "PNG", optimize=True)


UNTOUCHED = Edit("untouched", ".jpg", _untouched)
HOT_LINKED = Edit("hot-linked", ".jpg", _untouched)
BYTE_IDENTICAL = Edit("byte-identical", ".jpg", _untouched)

COPIES: tuple[Edit, ...] = (
    Edit("re-encoded", ".jpg", _re_encoded),
    Edit("resized", ".jpg", _resized),
    Edit("renamed", ".jpg", _untouched),
    Edit("watermarked", ".jpg", _watermarked),
    Edit("sepia", ".jpg", _sepia),
    Edit("warm-tint", ".jpg", _warm),
    Edit("cropped-2", ".jpg", _cropped(2)),
    Edit("cropped-5", ".jpg", _cropped(5)),
    Edit("cut-out-mirrored", ".jpg", _cut_out),
    Edit("screenshot", ".png", _screenshot),
    BYTE_IDENTICAL,
    HOT_LINKED,
)
"""Edits that leave a copy of the photo."""


# --- formats that are unusual, but images ---------------------------------------------------------------------------


def _animated(photo: bytes) -> bytes:
    small = _opened(photo)
    small.thumbnail((384, 384), Image.Resampling.LANCZOS)
    frames = [ImageEnhance.Brightness(small).enhance(level).quantize(64) for level in (1.0, 1.1, 1.2)]
    return _saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=400, loop=0)


def _cmyk(photo: bytes) -> bytes:
    return _jpeg(_opened(photo).convert("CMYK"))


def _sixteen_bit(photo: bytes) -> bytes:
    # Gray, not colour: Pillow cuts 16-bit colour to 8 bits itself, but clips 16-bit gray to white on a naive convert.
    gray = np.asarray(_opened(photo).convert("L"), dtype=np.uint16) * 257
    return _saved(Image.fromarray(gray), "PNG")


def _palette(photo: bytes) -> bytes:
    return _saved(_opened(photo).quantize(64), "PNG")


def _exif_rotated(photo: bytes) -> bytes:
    sideways = _opened(photo).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be shown turned clockwise, as a phone held upright writes it
    return _saved(sideways, "JPEG", quality=_JPEG_QUALITY, exif=exif)


def _avif(photo: bytes) -> bytes:
    # One thread: the encoder splits the picture by threads, and the bytes would depend on the machine.
    return _saved(_opened(photo), "AVIF", quality=70, speed=8, max_threads=1)


ODD_FORMATS: tuple[Edit, ...] = (
    Edit("animated", ".gif", _animated),
    Edit("cmyk", ".jpg", _cmyk),
    Edit("sixteen-bit", ".png", _sixteen_bit),
    Edit("palette", ".png", _palette),
    Edit("exif-rotated", ".jpg", _exif_rotated),
    Edit("avif", ".avif", _avif),
)
"""Usable images in formats that a careless reader trips over."""


# --- what is no usable image ----------------------------------------------------------------------------------------


def _truncated(photo: bytes) -> bytes:
    return photo[: len(photo) * 2 // 5]


def _corrupt(photo: bytes) -> bytes:
    png = bytearray(_saved(_opened(photo), "PNG"))
    begin = len(png) // 3
    png[begin : begin + 64] = bytes(64)
    return bytes(png)


def _html(_: bytes) -> bytes:
    return b"<!doctype html>\n<title>Sign in</title>\n<h1>Please sign in</h1>\n<p>This album is for friends only.</p>\n"


def _empty(_: bytes) -> bytes:
    return b""


def _svg(_: bytes) -> bytes:
    return (
        b'<?xml version="1.0" encoding="UTF-8"?>\n'
        b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 240" width="640" height="480">'
        b'<rect width="320" height="240" fill="#f4ead8"/><circle cx="160" cy="120" r="70" fill="#d9822b"/>'
        b'<path d="M60 200h200" stroke="#2c2a27" stroke-width="8" stroke-linecap="round"/></svg>\n'
    )


def _hundred_megapixels(_: bytes) -> bytes:
    return _saved(Image.new("1", (10_000, 10_000), 1), "PNG", optimize=True)


def _one_pixel(_: bytes) -> bytes:
    return _saved(Image.new("P", (1, 1)), "GIF", transparency=0)


BROKEN: tuple[Edit, ...] = (
    Edit("truncated", ".jpg", _truncated, Reason.TRUNCATED),
    Edit("corrupt", ".png", _corrupt, Reason.CORRUPT),
    Edit("html", ".jpg", _html, Reason.HTML),
    Edit("empty", ".jpg", _empty, Reason.EMPTY),
    Edit("svg", ".svg", _svg, Reason.SVG),
    Edit("hundred-megapixels", ".png", _hundred_megapixels, Reason.TOO_MANY_PIXELS),
    Edit("one-pixel", ".gif", _one_pixel, Reason.TOO_SMALL),
)
"""Uploads that give no fingerprint, each with the reason that it should be refused for."""

EVERY_EDIT: dict[str, Edit] = {edit.name: edit for edit in (UNTOUCHED, *COPIES, *ODD_FORMATS, *BROKEN)}
