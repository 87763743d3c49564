"""The one way from bytes to pixels: every fingerprint, tag and comparison starts here.

Two programs that decode one file differently get different fingerprints, so what this module does is part of every
algorithm's version: a change that moves pixels is a new version of all of them. The choices, in order:

- formats: JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF; of an animation or a multi-page file the first frame;
- a JPEG of more than twice the working size is decoded scaled in the DCT domain (by 2, 4 or 8), to not less than
  528 x 432 pixels, four times the 132 x 108 of SRPITP's Algorithm 1 in each axis;
- 16 bits a channel: the high byte; 32-bit and float greys, which have no agreed range: their own range to 0-255;
- colour to RGB by Pillow's integer conversions; ICC profiles are ignored, since applying them depends on a library's
  floating point and moves greys by less than a JPEG does;
- transparency over white, the ground of most pages;
- EXIF orientation applied; an unreadable EXIF block counts as none, as it does in browsers.
"""

from __future__ import annotations

import re
import struct
import warnings
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.ExifTags import Base as ExifTag

from copywatch.errors import Reason, UnusableImage

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
"""What Pillow may try. Its other decoders are rare on the web and less hardened."""

WORKING_WIDTH = 4 * 132
WORKING_HEIGHT = 4 * 108
"""A JPEG is not decoded to fewer pixels than these, in the orientation in which it is shown."""

MIN_SIDE = 16
"""Pixels; a smaller picture (icon, spacer, tracking pixel) cannot be told from others."""

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = (5, 6, 7, 8)
_STRIP_ROWS = 512

_MARKUP_HEAD = 4096
_MARKUP_SKIPPED = re.compile(r"<!--.*?(?:-->|\Z)|<\?.*?(?:\?>|\Z)", re.DOTALL)
_SVG_START = re.compile(r"<(?:!doctype\s+)?(?:\w+:)?svg\b", re.IGNORECASE)
_HTML_START = re.compile(
    r"<(?:!doctype\s+html|html|head|body|title|meta|link|script|style|base|div|span|p|a|h[1-6]|br|hr|table|center|form|iframe)\b",
    re.IGNORECASE,
)

# Pillow warns above its own size limit, where the caller's is what counts, and of each odd tag of a crawled file. The
# result, or the reason of the refusal, says all that anybody can act on.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True)
class DecodedImage:
    """An image as the library sees it.

    Attributes:
        rgb: the pixels, mode RGB, upright. A JPEG's may be fewer than `width` x `height` (see the module).
        width: pixels of the original, upright.
        height: pixels of the original, upright.
        format: "JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF" or "AVIF".
    """

    rgb: Image.Image
    width: int
    height: int
    format: str

    def pixels(self) -> NDArray[np.uint8]:
        """The pixels as a new array, uint8, (rows, columns, 3), RGB."""
        return np.array(self.rgb, dtype=np.uint8)


def decode(data: bytes, *, max_pixels: int, max_bytes: int) -> DecodedImage:
    """Decode an image canonically (the module's docstring says how).

    Args:
        data: the file's bytes, from anywhere: nothing about them is trusted.
        max_pixels: width x height above which nothing is decoded. Pillow's own ceiling, 179 million, stays above it.
        max_bytes: length of `data` above which nothing is read.

    Raises:
        UnusableImage: the only exception, whatever the bytes are; its `reason` is EMPTY, TOO_LARGE, HTML, SVG,
            NOT_AN_IMAGE, TOO_MANY_PIXELS, TOO_SMALL, TRUNCATED or CORRUPT.
    """
    if not data:
        raise UnusableImage(Reason.EMPTY)
    if len(data) > max_bytes:
        raise UnusableImage(Reason.TOO_LARGE, f"{len(data)} bytes, at most {max_bytes}")
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            decoded = _decode_opened(image, max_pixels)
        if decoded.format == "PNG":
            _check_png_sums(data)
        return decoded
    except UnusableImage:
        raise
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnusableImage(Reason.TOO_MANY_PIXELS, f"{_pixels_named_by(error)} pixels, at most {max_pixels}") from None
    except Exception as error:
        # Decoders answer hostile bytes with anything from struct.error to MemoryError; none of it may end a run.
        raise (_broken(data, error) if _claimed_format(data) else _unidentified(data)) from error


def _decode_opened(image: ImageFile.ImageFile, max_pixels: int) -> DecodedImage:
    width, height = image.size
    if width * height > max_pixels:
        raise UnusableImage(Reason.TOO_MANY_PIXELS, f"{width} x {height}, at most {max_pixels} pixels")
    if min(width, height) < MIN_SIDE:
        raise UnusableImage(Reason.TOO_SMALL, f"{width} x {height}, at least {MIN_SIDE} a side")
    # A JPEG with further pictures behind the first is an MPO to Pillow.
    image_format = "JPEG" if image.format == "MPO" else str(image.format)
    if image_format == "JPEG":
        sideways = _orientation(image) in _SWAPS_SIDES
        image.draft(None, (WORKING_HEIGHT, WORKING_WIDTH) if sideways else (WORKING_WIDTH, WORKING_HEIGHT))
    image.load()
    # Read again after loading: Pillow turns TIFFs upright by itself then, and clears the tag.
    orientation = _orientation(image)
    rgb = _to_rgb(image)
    if orientation in _TRANSPOSITIONS:
        rgb = rgb.transpose(_TRANSPOSITIONS[orientation])
    if orientation in _SWAPS_SIDES:
        width, height = height, width
    return DecodedImage(rgb=rgb, width=width, height=height, format=image_format)


def _check_png_sums(data: bytes) -> None:
    """Pillow leaves what it cannot inflate black and says nothing; the checksums of the chunks tell.

    Raises:
        SyntaxError: a checksum is wrong.
    """
    with suppress(OSError, EOFError, struct.error), Image.open(BytesIO(data), formats=("PNG",)) as image:
        # Without its end chunk a file is still shown whole by browsers: that alone is no reason to refuse it.
        image.verify()


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTag.Orientation, 1))
    except Exception:
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """The loaded frame as a plain RGB image, without palette, alpha or metadata."""
    if image.mode.startswith("I;16"):
        return _deep_grey_to_rgb(image)
    if image.mode in ("I", "F"):
        return _ranged_grey_to_rgb(image)
    transparency = image.info.get("transparency")
    if isinstance(transparency, tuple) and max(transparency) > 255:
        # A 16-bit colour key: the pixels have lost their low bytes already, so the key must lose them too.
        image.info["transparency"] = tuple(part >> 8 for part in transparency)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        return _over_white(image)
    rgb = image.convert("RGB")
    rgb.info = {}
    return rgb


def _over_white(image: Image.Image) -> Image.Image:
    rgb = Image.new("RGB", image.size, (255, 255, 255))
    # In strips: the copies that a conversion makes would otherwise take a gigabyte at 64 megapixels.
    for top in range(0, image.height, _STRIP_ROWS):
        strip = image.crop((0, top, image.width, min(top + _STRIP_ROWS, image.height))).convert("RGBA")
        rgb.paste(strip.convert("RGB"), (0, top), strip.getchannel("A"))
    return rgb


def _deep_grey_to_rgb(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips at 255; the high byte is what it takes of 16-bit colour.
    levels = np.asarray(image)
    grey = (levels >> 8).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[levels == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _ranged_grey_to_rgb(image: Image.Image) -> Image.Image:
    levels = np.nan_to_num(np.asarray(image).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(levels.min()), float(levels.max())
    span = high - low
    if not 0 < span < np.inf:
        return Image.new("RGB", image.size, (255, 255, 255))
    return Image.fromarray(np.rint((levels - low) / span * 255).astype(np.uint8)).convert("RGB")


def _unidentified(data: bytes) -> UnusableImage:
    """What bytes are that no decoder recognised."""
    markup = _markup(data)
    if markup:
        if _SVG_START.match(markup):
            return UnusableImage(Reason.SVG)
        if _HTML_START.match(markup):
            return UnusableImage(Reason.HTML)
    if _claimed_format(data):
        return _broken(data, None)
    return UnusableImage(Reason.NOT_AN_IMAGE, f"begins with {data[:12].hex(' ')}")


def _markup(data: bytes) -> str:
    """The first element of a text that begins like markup, else ""."""
    head = data[:_MARKUP_HEAD]
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = head.decode(encoding, errors="ignore").lstrip("\x00 \t\r\n\f")
    return _MARKUP_SKIPPED.sub("", text).lstrip() if text.startswith("<") else ""


def _claimed_format(data: bytes) -> str:
    """The format that the first bytes name, or ""."""
    for magic, name in (
        (b"\xff\xd8\xff", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"GIF8", "GIF"),
        (b"II*\x00", "TIFF"),
        (b"MM\x00*", "TIFF"),
        (b"II+\x00", "TIFF"),
        (b"MM\x00+", "TIFF"),
    ):
        if data.startswith(magic):
            return name
    if data[:2] == b"BM" and data[6:10] == bytes(4):
        return "BMP"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    return ""


def _broken(data: bytes, error: Exception | None) -> UnusableImage:
    """TRUNCATED when the file's own end is missing or the decoder says so, else CORRUPT."""
    message = " ".join(str(error or "").split())
    detail = f"{type(error).__name__}: {message}"[:200] if error else f"unreadable {_claimed_format(data)} header"
    truncated = "truncated" in message.lower() or isinstance(error, EOFError) or _lacks_its_end(data)
    return UnusableImage(Reason.TRUNCATED if truncated else Reason.CORRUPT, detail)


def _lacks_its_end(data: bytes) -> bool:
    match _claimed_format(data):
        case "JPEG":
            return b"\xff\xd9" not in data[-4096:]
        case "PNG":
            return b"IEND" not in data[-4096:]
        case "GIF":
            return not data.rstrip(b"\x00").endswith(b";")
        case "WEBP":
            return int.from_bytes(data[4:8], "little") + 8 > len(data)
        case "BMP":
            return int.from_bytes(data[2:6], "little") > len(data)
        case "AVIF":
            return _boxes_end(data) > len(data)
    return False


def _boxes_end(data: bytes) -> int:
    """Where the top-level boxes of an ISO file (ISO/IEC 14496-12, section 4.2) say that it ends, in bytes."""
    position = 0
    while 0 <= position < len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        if size < 8:
            # 0 means "to the end of the file"; 2 to 7 is nonsense.
            break
        position += size
    return position


def _pixels_named_by(error: Exception) -> str:
    named = re.search(r"\((\d+) pixels\)", str(error))
    return named.group(1) if named else "too many"
