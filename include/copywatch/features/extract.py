"""Pictures to points: SIFT, chosen in two ways, as RootSIFT, as binary codes.

Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004, by OpenCV; Arandjelovic and Zisserman,
"Three things everyone should know to improve object retrieval", CVPR 2012, section 3 (RootSIFT).

Of a protected picture the strongest points are kept, half of them coarse ones: a copy that is shown small, in a
screenshot or a collage, has no fine points any more. Of a detected one points are taken evenly from the cells of a
grid: text laid over a picture is so rich in strong points that they would leave none for the picture itself.

Pictures are looked at in grey with at most 512 pixels on the long side; smaller ones are not enlarged. That bounds
time and memory whatever the picture shows. The worst found is a pattern of small dots, of which OpenCV describes all
that are equally strong, 41,000, in .75 s and 21 MB. A picture may have no point at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from copywatch.features.itq import VECTOR_UNIT, model
from copywatch.features.points import Points

LONGEST_SIDE = 512
"""Pixels."""
DESCRIBED_POINTS = 2000
PROTECTED_POINTS = 200
COARSE_POINTS = 100
COARSE_SCALE = 5.0
"""Pixels; SIFT's finest points have 1.8, so these are still found in a copy of a third of the size."""
DETECTED_POINTS = 400
GRID = 8
"""Cells across and down."""
CELL_POINTS = 15
"""Taken from one cell at most."""


@dataclass(frozen=True)
class Keypoints:
    """SIFT's points, strongest first; equally strong ones by y, x, scale and angle.

    Attributes:
        size: (width, height) of the scaled picture, in pixels.
        xy: float32 (N, 2), scale: float32 (N,), angle: float32 (N,), as in `Points`.
        descriptors: float32 (N, 128), whole numbers 0 to 255, as OpenCV lays them out: 4 rows x 4 columns x 8 angles.
    """

    size: tuple[int, int]
    xy: NDArray[np.float32]
    scale: NDArray[np.float32]
    angle: NDArray[np.float32]
    descriptors: NDArray[np.float32]

    def chosen(self, rows: NDArray[np.int64]) -> Keypoints:
        """Some of them, in the order of `rows`, int64."""
        return Keypoints(self.size, self.xy[rows], self.scale[rows], self.angle[rows], self.descriptors[rows])

    def mirrored(self) -> Keypoints:
        """What SIFT would find in the picture's mirror image (left and right swapped), in the same order.

        SIFT turns its patch by the point's angle, so mirroring it swaps the rows and reverses the sense of angles. That
        must happen before ITQ, which mixes all values.
        """
        xy = self.xy.copy()
        xy[:, 0] = np.maximum(self.size[0] - 1 - xy[:, 0], 0)
        patches = self.descriptors.reshape(-1, 4, 4, 8)[:, ::-1][..., -np.arange(8) % 8]
        return Keypoints(self.size, xy, self.scale, _turn(np.pi - self.angle), patches.reshape(-1, 128))

    def points(self) -> Points:
        """With their codes by the shipped model.

        Raises:
            MachineError: the model's file is missing or damaged.
        """
        return Points(self.size, self.xy, self.scale, self.angle, model().codes(root_sift(self.descriptors)))


@dataclass(frozen=True)
class DetectedPoints:
    """A detected picture's points as they are, and as they would be in its mirror image.

    Attributes:
        upright: `Points` (N,).
        mirrored: `Points` (N,) of the mirror image; the same points in the same order.
    """

    upright: Points
    mirrored: Points


def protected_points(rgb: Image.Image) -> Points:
    """200 points of an RGB picture from `copywatch.decode`, chosen by `kept`, strongest first.

    Raises:
        MachineError: the model's file is missing or damaged.
    """
    found = keypoints(rgb)
    return found.chosen(kept(found.scale)).points()


def detected_points(rgb: Image.Image) -> DetectedPoints:
    """At most 400 points of an RGB picture from `copywatch.decode`, spread over it by `spread`.

    Raises:
        MachineError: the model's file is missing or damaged.
    """
    found = keypoints(rgb)
    taken = found.chosen(spread(found.xy, found.size))
    return DetectedPoints(taken.points(), taken.mirrored().points())


def keypoints(rgb: Image.Image) -> Keypoints:
    """The up to 2,000 strongest SIFT points of an RGB picture, in grey and scaled down to 512 pixels."""
    grey = rgb.convert("L")
    grey.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    found, descriptors = cv2.SIFT.create(DESCRIBED_POINTS).detectAndCompute(np.asarray(grey), None)
    if not found:
        none = np.empty(0, dtype=np.float32)
        return Keypoints(grey.size, none.reshape(0, 2), none, none, none.reshape(0, 128))
    table = np.array([(*point.pt, point.size, point.angle, point.response) for point in found], dtype=np.float32)
    x, y, scale, angle, response = table.T
    # OpenCV keeps all that are as strong as the last one.
    order = np.lexsort((angle, scale, x, y, -response))[:DESCRIBED_POINTS]
    table = table[order]
    turned = _turn(np.deg2rad(table[:, 3]))
    described = np.asarray(descriptors, dtype=np.float32)[order]
    return Keypoints(grey.size, table[:, :2].copy(), table[:, 2].copy(), turned, described)


def kept(scale: NDArray[np.float32]) -> NDArray[np.int64]:
    """Which of a protected picture's points, strongest first, to keep: the strongest coarse ones, then the strongest.

    Args:
        scale: float32 (N,), pixels.

    Returns:
        int64, rows in their order: `PROTECTED_POINTS`, or all if there are fewer, at least `COARSE_POINTS` of them of
        `COARSE_SCALE` or more, or all such points if there are fewer.
    """
    coarse = np.flatnonzero(scale >= COARSE_SCALE)[:COARSE_POINTS]
    others = np.setdiff1d(np.arange(len(scale)), coarse)[: PROTECTED_POINTS - len(coarse)]
    rows: NDArray[np.int64] = np.sort(np.concatenate([coarse, others])).astype(np.int64)
    return rows


def spread(xy: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.int64]:
    """Which of the points, strongest first, to take: the best of each cell of the grid, then the second best, and on.

    Args:
        xy: float32 (N, 2), pixels.
        size: (width, height) of the picture, in pixels.

    Returns:
        int64, rows of `xy` in their order: at most `DETECTED_POINTS`, at most `CELL_POINTS` of a cell.
    """
    cells = np.minimum(xy * GRID // np.array(size), GRID - 1).astype(np.int64)
    cell = cells[:, 1] * GRID + cells[:, 0]
    by_cell = np.argsort(cell, kind="stable")
    firsts = np.searchsorted(cell[by_cell], cell[by_cell])
    place = np.empty(len(cell), dtype=np.int64)
    place[by_cell] = np.arange(len(cell)) - firsts
    in_turns = np.argsort(place, kind="stable")
    taken = in_turns[place[in_turns] < CELL_POINTS][:DETECTED_POINTS]
    rows: NDArray[np.int64] = np.sort(taken).astype(np.int64)
    return rows


def root_sift(descriptors: NDArray[np.float32]) -> NDArray[np.int16]:
    """RootSIFT: the square root of each value's share of the sum, so that vectors have a length of one.

    Args:
        descriptors: float32 (N, 128), >= 0.

    Returns:
        int16 (N, 128), in steps of 1 / `VECTOR_UNIT`; zeros for a descriptor of zeros.
    """
    # Division and square root are exactly rounded everywhere (IEEE 754), and the sum is of whole numbers.
    values = descriptors.astype(np.float64)
    shares = values / np.maximum(values.sum(axis=1, keepdims=True), 1)
    whole: NDArray[np.int16] = np.rint(np.sqrt(shares) * VECTOR_UNIT).astype(np.int16)
    return whole


def _turn(angle: NDArray[np.float32]) -> NDArray[np.float32]:
    """Radians into [0, 2 pi)."""
    turned = (angle % np.float32(2 * np.pi)).astype(np.float32)
    # What is just below zero rounds to a whole turn.
    turned[turned >= 2 * np.pi] = 0
    return turned
