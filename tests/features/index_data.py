"""Made-up codes for the tests of the search index."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from copywatch.features.extract import DetectedPoints
from copywatch.features.points import Points


def some_codes(count: int, seed: int) -> NDArray[np.uint8]:
    """uint8 (count, 16), all bits by chance."""
    return np.random.default_rng(seed).integers(0, 256, (count, 16), dtype=np.uint8)


def flipped(codes: NDArray[np.uint8], bits: int, seed: int) -> NDArray[np.uint8]:
    """The codes, each with so many bits changed."""
    rng = np.random.default_rng(seed)
    table = np.unpackbits(codes, axis=1)
    for row in table:
        row[rng.permutation(128)[:bits]] ^= 1
    return np.packbits(table, axis=1)


def points_of(codes: NDArray[np.uint8]) -> Points:
    """Points with these codes, all at one place."""
    ones = np.ones(len(codes), dtype=np.float32)
    return Points((100, 100), np.ones((len(codes), 2), dtype=np.float32), ones, ones, codes)


def detected(upright: NDArray[np.uint8], mirrored: NDArray[np.uint8]) -> DetectedPoints:
    """A detected picture with these codes."""
    return DetectedPoints(points_of(upright), points_of(mirrored))
