"""An image's views: what is compared, so that a turned, cropped or framed copy is found by a global fingerprint.

A fingerprint sees layout, so a copy that was mirrored, turned by 90 degrees, cropped by a few per cent or put into a
frame has another one. The protected image is therefore described as such copies would look: upright, in its seven other
orientations, and slightly zoomed, widened and rotated. A sighting is described as it is and, where it has a solid
frame, without it. All views are on the protected side because there each is computed once, and because what is kept of
a sighting found different (231 bytes) is then enough to compare it with an image that is registered later.

A view is a record of `VIEW`: 180 bytes of fingerprint (SRPITP, Algorithm 1), 18 bytes of mask, 32 bytes of PDQ.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import numpy as np
import pdqhash
from numpy.typing import NDArray
from PIL import Image, ImageOps

from copywatch.fingerprint.frame import frame_box
from copywatch.fingerprint.mao import COLUMNS, ROWS, Mao, elements, informative_blocks, quantized, smoothed

VIEW = np.dtype([("kind", np.uint8), ("fingerprint", np.uint8, 180), ("mask", np.uint8, 18), ("pdq", np.uint8, 32)])
"""One view, 231 bytes."""


class Kind(IntEnum):
    """How a view was made from the image."""

    UPRIGHT = 0
    TURNED_90 = 1
    TURNED_180 = 2
    TURNED_270 = 3
    MIRRORED = 4
    MIRRORED_TURNED_90 = 5
    MIRRORED_TURNED_180 = 6
    MIRRORED_TURNED_270 = 7
    UNFRAMED = 8
    ALIGNED = 16
    """Slightly zoomed, widened or rotated."""
    TONED = 17
    """Its histogram equalised, or much brighter."""

    @property
    def words(self) -> str:
        """What was done to the copy, for people; empty: nothing that shows."""
        return _WORDS.get(self, "")


_WORDS = {
    Kind.TURNED_90: "turned by 90 degrees",
    Kind.TURNED_180: "turned by 180 degrees",
    Kind.TURNED_270: "turned by 270 degrees",
    Kind.MIRRORED: "mirrored",
    Kind.MIRRORED_TURNED_90: "mirrored and turned by 90 degrees",
    Kind.MIRRORED_TURNED_180: "mirrored upside down",
    Kind.MIRRORED_TURNED_270: "mirrored and turned by 270 degrees",
    Kind.UNFRAMED: "frame added or removed",
    Kind.ALIGNED: "slightly cropped, framed or rotated",
    Kind.TONED: "tones changed",
}

TURNS: tuple[tuple[Kind, Image.Transpose], ...] = (
    (Kind.TURNED_90, Image.Transpose.ROTATE_90),
    (Kind.TURNED_180, Image.Transpose.ROTATE_180),
    (Kind.TURNED_270, Image.Transpose.ROTATE_270),
    (Kind.MIRRORED, Image.Transpose.FLIP_LEFT_RIGHT),
    (Kind.MIRRORED_TURNED_90, Image.Transpose.TRANSPOSE),
    (Kind.MIRRORED_TURNED_180, Image.Transpose.FLIP_TOP_BOTTOM),
    (Kind.MIRRORED_TURNED_270, Image.Transpose.TRANSVERSE),
)
"""The orientations beside upright, and what makes them."""

ZOOMS: tuple[tuple[float, float, float], ...] = (
    *((0.95, across, down) for down in (0.0, 0.5, 1.0) for across in (0.0, 0.5, 1.0)),
    *((0.975, across, down) for down in (0.0, 1.0) for across in (0.0, 1.0)),
)
"""Share of each side that is kept, and where it lies: 0 left or top, 1 right or bottom."""

WIDENING = 0.05
"""Share of each side that the edges are continued by in all, for a copy in a thin frame."""

ROTATIONS = (-5.0, -3.5, -2.0, 2.0, 3.5, 5.0)
"""Degrees."""

BRIGHTENING = 1.5
"""Factor of the bright view, whose light parts are lost as in an overexposed copy."""

_SMALL_SIDE = 512
_PDQ_SIDE = 128
_BRIGHTER = [min(255, round(level * BRIGHTENING)) for level in range(256)]
_INNER_SHARE = Mao().inner_share
_encode = Mao().encode


def sighting_views(rgb: Image.Image) -> NDArray[np.void]:
    """A sighting's views, `VIEW` (1,) or (2,): as it is and, where it has a solid frame, without it.

    Args:
        rgb: an RGB image from `copywatch.decode`.
    """
    return np.concatenate([_view(Kind.UPRIGHT, rgb.convert("L")), *_unframed(rgb)])


def protected_views(rgb: Image.Image) -> NDArray[np.void]:
    """A protected image's views, `VIEW` (30,) or (31,): upright, turned, aligned, toned; unframed if it has a frame.

    Args:
        rgb: an RGB image from `copywatch.decode`.
    """
    grey = rgb.convert("L")
    small = _small(grey)
    return np.concatenate(
        [
            _view(Kind.UPRIGHT, grey),
            *(_view(kind, small.transpose(turn)) for kind, turn in TURNS),
            *(_view(Kind.ALIGNED, aligned) for aligned in _alignments(small)),
            *(_view(Kind.TONED, toned) for toned in (ImageOps.equalize(small), small.point(_BRIGHTER))),
            *_unframed(rgb),
        ]
    )


def views_of(packed: bytes) -> NDArray[np.void]:
    """The views that a row's `views` column holds, `VIEW` (V,).

    Raises:
        ValueError: the length is no multiple of 231, or zero.
    """
    if not packed or len(packed) % VIEW.itemsize:
        raise ValueError(f"views are records of {VIEW.itemsize} bytes; {len(packed)} bytes are not whole records")
    return np.frombuffer(packed, dtype=VIEW)


def _view(kind: Kind, grey: Image.Image) -> NDArray[np.void]:
    averages, differences = elements(smoothed(grey))
    symbols = np.concatenate([quantized(averages, _INNER_SHARE), quantized(differences, _INNER_SHARE)])
    view = np.empty(1, dtype=VIEW)
    view["kind"] = kind
    view["fingerprint"] = np.frombuffer(_encode(symbols), dtype=np.uint8)
    view["mask"] = np.packbits(informative_blocks(differences))
    view["pdq"] = _pdq(grey)
    return view


def _pdq(grey: Image.Image) -> NDArray[np.uint8]:
    # PDQ reduces to 64 x 64 itself; from one small size on both sides it is quicker, and the two sides agree better.
    reduced = np.asarray(grey.resize((_PDQ_SIDE, _PDQ_SIDE), Image.Resampling.BILINEAR))
    bits, _quality = pdqhash.compute(np.repeat(reduced[:, :, np.newaxis], 3, axis=2))
    return np.packbits(np.asarray(bits, dtype=np.uint8))


def _small(grey: Image.Image) -> Image.Image:
    scale = _SMALL_SIDE / max(grey.size)
    if scale >= 1:
        return grey
    width, height = (max(1, round(side * scale)) for side in grey.size)
    return grey.resize((width, height), Image.Resampling.BILINEAR)


def _alignments(small: Image.Image) -> Iterator[Image.Image]:
    width, height = small.size
    for share, across, down in ZOOMS:
        left, upper = width * (1 - share) * across, height * (1 - share) * down
        box = (left, upper, left + width * share, upper + height * share)
        # Both the fingerprint and PDQ reduce further; twice their size is enough for either.
        yield small.resize((2 * COLUMNS, 2 * ROWS), Image.Resampling.BILINEAR, box=box)
    yield _continued(small, round(width * WIDENING / 2), round(height * WIDENING / 2))
    margin = max(small.size) // 10 + 2
    wide = _continued(small, margin, margin)
    for degrees in ROTATIONS:
        turned = wide.rotate(degrees, Image.Resampling.BILINEAR)
        yield turned.crop((margin, margin, margin + width, margin + height))


def _continued(grey: Image.Image, across: int, down: int) -> Image.Image:
    """The image with its outermost pixels repeated outwards."""
    return Image.fromarray(np.pad(np.asarray(grey), ((down, down), (across, across)), mode="edge"))


def _unframed(rgb: Image.Image) -> list[NDArray[np.void]]:
    box = frame_box(rgb)
    return [] if box is None else [_view(Kind.UNFRAMED, rgb.crop(box).convert("L"))]
