"""The picture that shows people why a pair was taken for a copy: the matched area in both, and what differs there."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

PANEL = (484, 470)
"""Pixels; the most that one of the three pictures takes."""
MARGIN = 12
LABEL_HEIGHT = 26
SIZE_LIMIT = (3 * PANEL[0] + 4 * MARGIN, PANEL[1] + LABEL_HEIGHT + 2 * MARGIN)
"""Pixels, 1,500 x 520; no explanation is larger."""

MOST_ENLARGED = 2.0
MOST_SCALE = 100.0
"""Between shares of the two sides; what lies beyond is no alignment that anybody could see."""
LEAST_OVERLAP = 1e-4
"""Share of the protected picture's area."""

_QUALITY = 85
_GROUND = (250, 250, 248)
_INK = (40, 40, 38)
_OUTLINE = (255, 140, 0)
_TINT = np.array([214, 0, 70], dtype=np.float32)
_DIMMED = 0.45

# Levels of 255 up to which a difference is JPEG's or the scaling's own, and from which on it is tinted fully.
_NO_DIFFERENCE, _FULL_DIFFERENCE = 22.0, 70.0
_MOST_TINT = 0.8
_ENVELOPE = np.ones((5, 5), dtype=np.uint8)
"""Neighbours that a pixel is compared with: an alignment is right to a pixel or two."""
_FITTING_ROUNDS = 4
_FITTED_PERCENT = 70
_FITTED_PIXELS = 20_000
_GREY_SPREAD = 12.0
"""Levels between a grey picture's channels at most, on average."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class _Overlap:
    """What the two pictures share, as polygons in shares of each one's sides: float64 (N, 2)."""

    matrix: NDArray[np.float64]
    in_original: NDArray[np.float64]
    in_found: NDArray[np.float64]


def explained(original: Image.Image, found: Image.Image, alignment: Sequence[float]) -> Image.Image | None:
    """Both pictures with the matched area outlined, and the found one laid over the protected one, side by side.

    In the third picture the overlap is pale and what differs is red; brightness and contrast are brought together
    first, and colours are left out where one of the two is grey. What the found picture does not show is dim.

    Args:
        original: the protected picture, any mode and size.
        found: the found picture, likewise.
        alignment: (a, b, c, d, e, f) as in `copywatch.verification.verdict.Verification`; a negative determinant is a
            mirror image.

    Returns:
        Mode RGB, at most `SIZE_LIMIT`; None: nothing can be drawn, since the alignment is no transform (not finite,
        flat, far too large) or the pictures do not meet by it.
    """
    overlap = _overlap(alignment)
    if overlap is None:
        return None
    one, other = _panel(original), _panel(found)
    panels = [
        (_outlined(one, overlap.in_original), "Protected"),
        (_outlined(other, overlap.in_found), "Found"),
        (_difference(one, found.convert("RGB"), overlap), "Difference: what is red differs, what is dim is not shown"),
    ]
    height = max(pixels.shape[0] for pixels, _ in panels)
    width = sum(pixels.shape[1] for pixels, _ in panels)
    sheet = Image.new("RGB", (width + 4 * MARGIN, height + LABEL_HEIGHT + 2 * MARGIN), _GROUND)
    pen = ImageDraw.Draw(sheet)
    left = MARGIN
    for pixels, label in panels:
        font = _font_for(label, pixels.shape[1])
        pen.text((left, MARGIN), label, fill=_INK, font=font)
        sheet.paste(Image.fromarray(pixels), (left, MARGIN + LABEL_HEIGHT))
        left += pixels.shape[1] + MARGIN
    return sheet


def as_jpeg(picture: Image.Image) -> bytes:
    """The file of an explanation; the same pixels give the same bytes."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


def _overlap(alignment: Sequence[float]) -> _Overlap | None:
    if len(alignment) != 6:
        return None
    matrix = np.array(alignment, dtype=np.float64).reshape(2, 3)
    if not np.isfinite(matrix).all() or np.abs(matrix).max() > MOST_SCALE:
        return None
    largest, least = np.linalg.svd(matrix[:, :2], compute_uv=False)
    if largest > MOST_SCALE or least < 1 / MOST_SCALE:
        return None
    sides = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)
    corners = sides @ matrix[:, :2].T + matrix[:, 2]
    area, shared = cv2.intersectConvexConvex(sides.astype(np.float32), corners.astype(np.float32))
    if shared is None or area < LEAST_OVERLAP:
        return None
    in_original = shared.reshape(-1, 2).astype(np.float64)
    in_found = (in_original - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    return _Overlap(matrix, in_original, np.clip(in_found, 0, 1))


def _panel(picture: Image.Image) -> Pixels:
    """At the size that it is shown in, uint8 (rows, columns, 3)."""
    scale = min(PANEL[0] / picture.width, PANEL[1] / picture.height, MOST_ENLARGED)
    size = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
    return np.array(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0), dtype=np.uint8)


def _corners(polygon: NDArray[np.float64], pixels: Pixels) -> NDArray[np.int32]:
    """The polygon in whole pixels, within the picture by the outline's half width."""
    rows, columns = pixels.shape[:2]
    places = np.rint(polygon * (columns, rows))
    within: NDArray[np.int32] = np.clip(places, 1, np.maximum((columns - 2, rows - 2), 1)).astype(np.int32)
    return within


def _mask(polygon: NDArray[np.float64], pixels: Pixels) -> NDArray[np.bool_]:
    mask = np.zeros(pixels.shape[:2], dtype=np.uint8)
    cv2.fillPoly(mask, [np.rint(polygon * (pixels.shape[1], pixels.shape[0])).astype(np.int32)], 1)
    return mask.astype(np.bool_)


def _outlined(pixels: Pixels, polygon: NDArray[np.float64]) -> Pixels:
    drawn = pixels.copy()
    outside = ~_mask(polygon, pixels)
    drawn[outside] = np.rint(drawn[outside] * (1 - _DIMMED / 2)).astype(np.uint8)
    cv2.polylines(drawn, [_corners(polygon, pixels)], True, _OUTLINE, 3, cv2.LINE_AA)
    return drawn


def _difference(original: Pixels, found: Image.Image, overlap: _Overlap) -> Pixels:
    rows, columns = original.shape[:2]
    warped = _laid_over(found, overlap.matrix, (columns, rows))
    inside = _mask(overlap.in_original, original)
    amount = _amount_of_difference(original, warped, inside)
    pale = 255 - (255 - _grey(warped)) * 0.6
    drawn = pale[..., None] * (1 - amount[..., None]) + _TINT * amount[..., None]
    drawn = np.where(inside[..., None], drawn, _grey(original)[..., None] * _DIMMED)
    result = np.clip(np.rint(drawn), 0, 255).astype(np.uint8)
    cv2.polylines(result, [_corners(overlap.in_original, original)], True, _OUTLINE, 1, cv2.LINE_AA)
    return result


def _laid_over(found: Image.Image, matrix: NDArray[np.float64], size: tuple[int, int]) -> Pixels:
    """The found picture in the frame of the protected one, `size` (width, height) in pixels; black beyond it."""
    in_pixels = np.diag([size[0], size[1]]) @ matrix[:, :2] @ np.diag([1 / found.width, 1 / found.height])
    # Warping takes single pixels, so what would lie smaller is made smaller first.
    shrunk = min(1.0, float(np.linalg.svd(in_pixels, compute_uv=False)[0]))
    source_size = max(round(found.width * shrunk), 1), max(round(found.height * shrunk), 1)
    source = np.array(found.resize(source_size, Image.Resampling.BOX, reducing_gap=3.0), dtype=np.uint8)
    linear = np.diag([size[0], size[1]]) @ matrix[:, :2] @ np.diag([1 / source_size[0], 1 / source_size[1]])
    # Shares are of the pixels' outer edges, OpenCV's places are of their centres.
    shift = matrix[:, 2] * size + linear @ (0.5, 0.5) - 0.5
    return cv2.warpAffine(source, np.column_stack([linear, shift]), size, flags=cv2.INTER_LINEAR).astype(np.uint8)


def _grey(pixels: Pixels) -> NDArray[np.float32]:
    grey: NDArray[np.float32] = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return grey


def _amount_of_difference(original: Pixels, warped: Pixels, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How strongly each pixel is tinted, float32 (rows, columns), 0 to `_MOST_TINT`; 0 outside of the overlap."""
    if not inside.any():
        return np.zeros(inside.shape, dtype=np.float32)
    if min(_colour_spread(original[inside]), _colour_spread(warped[inside])) < _GREY_SPREAD:
        sides = [_grey(one)[..., None] for one in (original, warped)]
    else:
        sides = [one.astype(np.float32) for one in (original, warped)]
    one, other = (cv2.GaussianBlur(side, (0, 0), 1.0).reshape(side.shape).astype(np.float32) for side in sides)
    other = _levelled(other, one, inside)
    levels = np.maximum(_beyond(one, other), _beyond(other, one))
    amount = np.clip((levels - _NO_DIFFERENCE) / (_FULL_DIFFERENCE - _NO_DIFFERENCE), 0, 1) * _MOST_TINT
    # At the overlap's edge neighbours are missing.
    core = cv2.erode(inside.astype(np.uint8), _ENVELOPE).astype(np.bool_)
    shown: NDArray[np.float32] = np.where(core, amount, 0).astype(np.float32)
    return shown


def _colour_spread(pixels: Pixels) -> float:
    return float(np.ptp(pixels.astype(np.int16), axis=-1).mean())


def _levelled(values: NDArray[np.float32], like: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """With the other's brightness and contrast, each channel fitted to the pixels that fit best: text moves nothing."""
    levelled = np.empty_like(values)
    step = max(int(inside.sum()) // _FITTED_PIXELS, 1)
    for channel in range(values.shape[-1]):
        x, y = (side[..., channel][inside][::step].astype(np.float64) for side in (values, like))
        kept = np.ones(len(x), dtype=np.bool_)
        for _ in range(_FITTING_ROUNDS):
            spread = float(x[kept].var())
            contrast = float(((x - x[kept].mean()) * (y - y[kept].mean()))[kept].mean()) / spread if spread > 1 else 1.0
            contrast = min(max(contrast, 0.5), 2.0)
            shift = float(np.median(y[kept] - contrast * x[kept]))
            off = np.abs(contrast * x + shift - y)
            kept = off <= np.percentile(off, _FITTED_PERCENT)
        levelled[..., channel] = contrast * values[..., channel] + shift
    return levelled


def _beyond(values: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far each pixel lies beyond the levels of the other's pixels about it, the most of its channels."""
    highest = cv2.dilate(other, _ENVELOPE).reshape(other.shape)
    lowest = cv2.erode(other, _ENVELOPE).reshape(other.shape)
    beyond: NDArray[np.float32] = np.maximum(np.maximum(values - highest, lowest - values), 0).max(axis=-1)
    return beyond


def _font_for(label: str, width: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """The largest of the label's sizes that fits into the width, in pixels; the smallest if none does."""
    font = ImageFont.load_default(15)
    for size in (15, 13, 11, 9):
        font = ImageFont.load_default(size)
        if font.getlength(label) <= width:
            break
    return font
