"""Are two aligned pictures of the same colours, but for a filter laid over the whole?

A product in another colour keeps every edge, so the blocks agree; its background keeps its colour too. A filter
(brightness, contrast, saturation, a tint, grey, sepia) changes all. So the best filter is fitted first, and what counts
is what it leaves: how far the coloured places still are from each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

CELL = 8
"""Pixels; colours are compared by means of such cells."""
LEAST_CELLS = 8
COLOURED = 8.0
"""Distance from grey in Lab, below which a place has no colour of its own."""
BINS = 12
"""Of a tone curve."""
MOST_GAIN = 2.5
"""Of saturation."""
SHARE = 0.9
"""Quantile of the places' differences that counts: an object may be small, a sticker is smaller."""

TONE_SHARE = 0.95
"""Likewise of all places, most of which may be ground."""
NEARLY_ALL = 0.98
UNTOUCHED = 0.7
"""Share of the places, the best fitting ones, that a filter is fitted to: what was recoloured must not pull it."""


@dataclass(frozen=True)
class Colours:
    """What the colours say.

    Attributes:
        colour: the 90th percentile over coloured places of the distance in Lab's a and b that the best filter leaves;
            0 where one of the two is grey or of one tint, or too little is compared.
        tone: the 95th percentile over all places of the difference in lightness (0 to 100) that the best rising curve
            leaves, on the protected picture's scale of contrast.
        grey: the found picture is grey or of one tint (sepia) and the protected one is not.
        coloured: the other way about: the protected picture is grey.
    """

    colour: float
    tone: float
    grey: bool
    coloured: bool


def colours(original: NDArray[np.uint8], found: NDArray[np.uint8], compared: NDArray[np.bool_]) -> Colours:
    """Compare two aligned pictures.

    Args:
        original: uint8 (H, W, 3), RGB, sides multiples of `CELL`.
        found: likewise.
        compared: bool (H, W), which pixels.
    """
    rows, columns = compared.shape[0] // CELL, compared.shape[1] // CELL
    whole = cv2.resize(compared.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA) >= 0.99
    if whole.sum() < LEAST_CELLS:
        return Colours(0.0, 0.0, False, False)
    a, b = (_cells(pixels, columns, rows)[whole] for pixels in (original, found))
    lab_a, lab_b = _lab(a), _lab(b)
    tone = _tone(lab_a[:, 0], lab_b[:, 0])
    plain_a, plain_b = _one_tint(lab_a), _one_tint(lab_b)
    if plain_a or plain_b:
        return Colours(0.0, tone, plain_b and not plain_a, plain_a and not plain_b)
    vivid = np.maximum(_chroma(lab_a), _chroma(lab_b)) > COLOURED
    if vivid.sum() < LEAST_CELLS:
        return Colours(0.0, tone, False, False)
    curves = np.column_stack([_curve(a[:, k], b[:, k]) for k in range(3)]).astype(np.float32)
    left = [_left_by_saturation(lab_a, lab_b), _lab(curves)[:, 1:] - lab_b[:, 1:]]
    colour = min(quantile(np.hypot(*one[vivid].T), SHARE) for one in left)
    return Colours(colour, tone, False, False)


def _cells(pixels: NDArray[np.uint8], columns: int, rows: int) -> Floats:
    return cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)


def quantile(values: NDArray[np.floating], share: float) -> float:
    """The value below which this share lies, by nearest rank from below; values (N,), N >= 1."""
    return float(np.sort(values)[int(share * (len(values) - 1))])


def _lab(rgb: Floats) -> Floats:
    lab: Floats = cv2.cvtColor(np.clip(rgb, 0, 1)[None], cv2.COLOR_RGB2LAB)[0]
    return lab


def _chroma(lab: Floats) -> Floats:
    return np.hypot(lab[:, 1], lab[:, 2])


def _one_tint(lab: Floats) -> bool:
    """Grey, or what lightness alone says of the colour (sepia) leaves nothing that is seen."""
    if quantile(_chroma(lab), NEARLY_ALL) < COLOURED:
        return True
    light = lab[:, 0]
    system = np.column_stack([np.ones_like(light), light, light * light / 100]).astype(np.float64)
    solution = np.linalg.lstsq(system, lab[:, 1:].astype(np.float64), rcond=None)[0]
    return quantile(np.hypot(*(system @ solution - lab[:, 1:]).T), NEARLY_ALL) < COLOURED / 2


def _left_by_saturation(lab_a: Floats, lab_b: Floats) -> Floats:
    """Differences in a and b, float (N, 2), after one gain of saturation and one shift of both.

    No turn of the hue is fitted: that is what a recoloured product is. Twice, the second time by the places that fit,
    so that what was recoloured does not pull the filter towards it.
    """
    x, y = lab_a[:, 1:].astype(np.float64), lab_b[:, 1:].astype(np.float64)
    kept = np.ones(len(x), dtype=bool)
    left = y - x
    for _ in range(3):
        centre_x, centre_y = x[kept].mean(axis=0), y[kept].mean(axis=0)
        spread = float(((x[kept] - centre_x) ** 2).sum())
        along = float(((x[kept] - centre_x) * (y[kept] - centre_y)).sum())
        gain = min(max(along / spread, 0.0), MOST_GAIN) if spread > 1e-6 else 1.0
        left = y - centre_y - gain * (x - centre_x)
        off = np.hypot(*left.T)
        kept = off <= quantile(off, UNTOUCHED)
    return left.astype(np.float32)


def _curve(x: Floats, y: Floats) -> Floats:
    """y as a rising function of x, both (N,): means of bins of equal counts, made to rise from either end."""
    order = np.argsort(x, kind="stable")
    bins = min(BINS, len(order))
    firsts = np.arange(bins) * len(order) // bins
    counts = np.diff(firsts, append=len(order))
    at = np.add.reduceat(x[order], firsts) / counts
    level = np.add.reduceat(y[order], firsts) / counts
    rising = (np.maximum.accumulate(level) + np.minimum.accumulate(level[::-1])[::-1]) / 2
    risen: Floats = np.interp(x, at, rising).astype(np.float32)
    return risen


def _tone(x: Floats, y: Floats) -> float:
    contrast = max(float(y.std()), 1.0) / max(float(x.std()), 1.0)
    left = np.abs(y - _curve(x, y)) / min(max(contrast, 0.25), 4.0)
    return quantile(left, TONE_SHARE)
