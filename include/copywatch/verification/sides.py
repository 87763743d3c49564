"""The two sides of a pair, as verification needs them."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from copywatch.features.extract import DetectedPoints
from copywatch.features.points import Points

LONGEST_SIDE = 512
"""Pixels of the found picture; a smaller one is not enlarged."""


@dataclass(frozen=True)
class Original:
    """A protected picture, as the table `features` keeps it.

    Attributes:
        points: its strongest points.
        thumbnail: mode RGB, at most 256 pixels a side (`copywatch.features.thumbnail`).
    """

    points: Points
    thumbnail: Image.Image


@dataclass(frozen=True)
class Found:
    """A detected picture.

    Attributes:
        points: points spread over it, as they are and mirrored.
        picture: mode RGB, at most `LONGEST_SIDE` pixels a side.
    """

    points: DetectedPoints
    picture: Image.Image
