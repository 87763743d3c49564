"""The small colour picture of a protected image, kept beside its points: a candidate is verified pixel by pixel."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

LONGEST_SIDE = 256
"""Pixels; a smaller picture is not enlarged."""
QUALITY = 75
MOST_BYTES = 1 << 18
"""Of a thumbnail: more than a picture of 256 x 256 pixels takes without compression."""


def thumbnail(rgb: Image.Image) -> bytes:
    """An RGB picture as a small JPEG; the same pixels give the same bytes.

    Args:
        rgb: from `copywatch.decode`.
    """
    small = rgb.convert("RGB")
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = BytesIO()
    small.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def decoded_thumbnail(data: bytes) -> Image.Image:
    """The picture that `thumbnail` wrote, mode RGB.

    `copywatch.decode` refuses sides below 16 pixels, which a thumbnail of a narrow picture has.

    Raises:
        ValueError: the bytes are no such file; nothing is decoded before its size is checked.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data)} bytes are no thumbnail; those have at most {MOST_BYTES}")
    try:
        with Image.open(BytesIO(data), formats=("JPEG",)) as image:
            size = image.size
            pixels = image.convert("RGB") if max(size) <= LONGEST_SIDE else None
    except Exception as error:
        # Decoders answer broken bytes with many kinds of exceptions.
        raise ValueError(f"{len(data)} bytes are no thumbnail ({type(error).__name__}: {error})") from error
    if pixels is None:
        raise ValueError(
            f"a picture of {size[0]} x {size[1]} is no thumbnail; those have sides of at most {LONGEST_SIDE}"
        )
    return pixels
