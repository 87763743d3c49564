"""Which transform lays a found picture over a protected one? From their points' binary codes alone.

1. Matches: a code's nearest one of the other side, where it is clearly nearer than the second nearest (Lowe 2004,
   section 7.1), in both directions.
2. A similarity by RANSAC (OpenCV, which seeds it itself: one pair has one answer), for the picture and its mirror
   image.
3. Guided growth: with the transform known, a point need only be the best near its predicted place, of a like scale and
   angle. That finds what the ratio test loses: repeated structure, and points that a blur has changed. The transform is
   then fitted anew by least squares, as an affinity when there are points enough, since people also stretch pictures.

Only points at distinct places count, on both sides: SIFT describes one corner at several scales and angles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from copywatch.features.extract import DetectedPoints
from copywatch.features.points import Points

RATIO = 0.8
LEAST_MATCHES = 4
RANSAC_PIXELS = 3.0
RANSAC_ROUNDS = 2000
ENOUGH_FOR_A_HAND = 30
"""Points at distinct places; with as many the picture is not looked at as a mirror image too."""
MOST_SCALE = 10.0
"""A found picture that would lie more than so many times larger or smaller is no copy that anyone could see."""
MOST_STRETCH = 1.6
"""Of one axis against the other."""
DISTINCT_PIXELS = 4.0
LEAST_SCALE = 1.6
"""Pixels; SIFT finds no finer points."""

GROWTH_ROUNDS = 10
GROWTH_PIXELS = 8.0
"""Radius about the predicted place; in the last round `RANSAC_PIXELS`."""
GROWTH_BITS = 40
"""Codes of different points differ in 64 of 128 bits on average, those of one point in about 20."""
GROWTH_OCTAVES = 0.75
GROWTH_TURN = np.pi / 6
LEAST_STRETCHED = 8
STRETCHED_GAIN = 1.3
"""An affinity has two degrees of freedom more than a similarity; it must explain so many times as many points."""
STILL_PIXELS = 1.0
"""A round that moves no corner by more is the last but one."""
AFFINE_POINTS = 12
AFFINE_GAIN = 0.6
"""An affinity is taken for a similarity if it leaves less than this of the squared distances."""


@dataclass(frozen=True)
class Alignment:
    """A transform and the points that it brings together.

    Places are shares of the picture's own width and height, 0 to 1 from its upper left corner.

    Attributes:
        matrix: float64 (2, 3): takes a place (x, y, 1) of the found picture to the protected one.
        original_xy: float64 (K, 2), the protected picture's points.
        found_xy: float64 (K, 2), the found picture's points, in the same order.
        inliers: how many of them are at distinct places.
        expected: points of the protected picture that lie inside the found one by the transform.
    """

    matrix: NDArray[np.float64]
    original_xy: NDArray[np.float64]
    found_xy: NDArray[np.float64]
    inliers: int
    expected: int

    @property
    def mirrored(self) -> bool:
        """The found picture is a mirror image."""
        return bool(np.linalg.det(self.matrix[:, :2]) < 0)


def align(original: Points, found: DetectedPoints) -> Alignment | None:
    """The transform that brings most points together, of the picture or of its mirror image; None if there is none."""
    start = _started(original, found.upright, mirrored=False)
    if start is None or start.inliers < ENOUGH_FOR_A_HAND:
        other = _started(original, found.mirrored, mirrored=True)
        if other is not None and (start is None or other.inliers > start.inliers):
            start = other
    if start is None:
        return None
    points = found.mirrored if start.mirrored else found.upright
    matrix, rows, columns = _grown(start.matrix, original, points, start.apart)
    if not len(rows):
        return None
    places = (points.xy[columns] + 0.5) / np.array(points.size, dtype=np.float64)
    if start.mirrored:
        places[:, 0] = 1 - places[:, 0]
    return Alignment(
        _in_shares(matrix, points.size, original.size, start.mirrored),
        (original.xy[rows] + 0.5) / np.array(original.size, dtype=np.float64),
        places,
        min(distinct(original.xy[rows]), distinct(points.xy[columns])),
        _expected(matrix, original, points),
    )


def bits_apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Hamming distances of codes, uint8 (N, 16) and (M, 16): uint8 (N, M), 0 to 128."""
    a, b = np.ascontiguousarray(one).view(np.uint64), np.ascontiguousarray(other).view(np.uint64)
    bits: NDArray[np.uint8] = np.bitwise_count(a[:, None, 0] ^ b[None, :, 0])
    bits += np.bitwise_count(a[:, None, 1] ^ b[None, :, 1])
    return bits


def distinct(xy: NDArray[np.floating], apart: float = DISTINCT_PIXELS) -> int:
    """How many cells of a grid of `apart` pixels hold a point; xy float (N, 2)."""
    cells = np.floor(xy / apart).astype(np.int64)
    return len(np.unique(cells[:, 0] * (1 << 20) + cells[:, 1]))


@dataclass(frozen=True)
class _Start:
    """A similarity in pixels by clear matches alone, float64 (2, 3), and the codes' distances that it came from."""

    matrix: NDArray[np.float64]
    inliers: int
    mirrored: bool
    apart: NDArray[np.uint8]


def _started(original: Points, found: Points, mirrored: bool) -> _Start | None:
    if min(len(original), len(found)) < LEAST_MATCHES:
        return None
    apart = bits_apart(original.codes, found.codes)
    rows, columns = _clear_matches(apart)
    if len(rows) < LEAST_MATCHES:
        return None
    x, y = found.xy[columns], original.xy[rows]
    start = _ransac(cv2.estimateAffinePartial2D, x, y)
    if start is None:
        return None
    matrix, inliers = start
    if LEAST_STRETCHED <= inliers < len(rows) / 2:
        # Of a stretched picture a similarity explains a patch alone.
        stretched = _ransac(cv2.estimateAffine2D, x, y)
        if stretched is not None and stretched[1] > STRETCHED_GAIN * inliers:
            matrix, inliers = stretched
    return _Start(matrix, inliers, mirrored, apart)


def _ransac(
    estimate: Callable[..., tuple[Any, Any]], x: NDArray[np.float32], y: NDArray[np.float32]
) -> tuple[NDArray[np.float64], int] | None:
    """The transform, float64 (2, 3), and at how many distinct places it brings points together; None for none."""
    fitted, kept = estimate(x, y, method=cv2.RANSAC, ransacReprojThreshold=RANSAC_PIXELS, maxIters=RANSAC_ROUNDS)
    if fitted is None:
        return None
    matrix = np.asarray(fitted, dtype=np.float64)
    together = kept.ravel().astype(bool)
    return (matrix, min(distinct(x[together]), distinct(y[together]))) if _sensible(matrix) else None


def _clear_matches(apart: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns whose distance is clearly the least of the row, or of the column; each once."""
    pairs = []
    for table, flipped in ((apart, False), (apart.T, True)):
        if table.shape[1] < 2:
            continue
        nearest = table.argmin(axis=1)
        everyone = np.arange(len(table))
        first = table[everyone, nearest]
        others = table.copy()
        others[everyone, nearest] = 255
        clear = np.flatnonzero(first < RATIO * others.min(axis=1))
        pairs.append((nearest[clear], clear) if flipped else (clear, nearest[clear]))
    rows, columns = (np.concatenate(both) for both in zip(*pairs, strict=True))
    # Else all that look a little like one point would be taken to it, by a transform that shrinks everything.
    best = _once(rows, columns, apart[rows, columns].astype(np.float64))
    return rows[best], columns[best]


def _once(rows: NDArray[np.int64], columns: NDArray[np.int64], worth: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which pairs to keep, (K,), so that each row and each column is in one, those of the least worth first."""
    order = np.argsort(worth, kind="stable")
    order = order[np.unique(rows[order], return_index=True)[1]]
    order = order[np.argsort(worth[order], kind="stable")]
    kept: NDArray[np.int64] = order[np.unique(columns[order], return_index=True)[1]]
    return kept


def _grown(
    matrix: NDArray[np.float64], original: Points, found: Points, apart: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """The transform fitted to all points that it brings together, and these."""
    rows, columns = np.nonzero(apart <= GROWTH_BITS)
    turned = original.angle[rows] - found.angle[columns]
    octaves = np.log2(original.scale[rows] / found.scale[columns])
    # What is far off now will not fit after a few small steps.
    likely = _alike(matrix, turned, octaves, slack=2)
    rows, columns, turned, octaves = rows[likely], columns[likely], turned[likely], octaves[likely]
    bits = apart[rows, columns].astype(np.float64)
    x, y = found.xy[columns].astype(np.float64), original.xy[rows].astype(np.float64)
    none = np.empty(0, dtype=np.int64)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * found.size
    last = False
    for step in range(GROWTH_ROUNDS):
        # A pixel of a picture that is shown small is several of the protected one's.
        coarse = min(max(_size(matrix), 1.0), 3.0)
        last = last or step == GROWTH_ROUNDS - 1
        off = _off(matrix, x, y)
        near = off <= (RANSAC_PIXELS if last else GROWTH_PIXELS) * coarse
        fits = np.flatnonzero(near & _alike(matrix, turned, octaves, slack=1))
        # The nearest codes first, then the nearest places.
        order = fits[_once(rows[fits], columns[fits], bits[fits] + off[fits] / 100)]
        if len(order) < LEAST_MATCHES:
            return matrix, none, none
        if last:
            return matrix, rows[order], columns[order]
        fitted = _fitted(x[order], y[order])
        if fitted is None:
            return matrix, none, none
        moved = corners @ (fitted - matrix)[:, :2].T + (fitted - matrix)[:, 2]
        last = float(np.abs(moved).max()) < STILL_PIXELS
        matrix = fitted
    raise AssertionError("the last round returns")


def _alike(
    matrix: NDArray[np.float64], turned: NDArray[np.float32], octaves: NDArray[np.float32], slack: float
) -> NDArray[np.bool_]:
    """Pairs whose points are turned and scaled against each other as the transform says."""
    turn = np.arctan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1])
    off = np.abs((turned - turn + np.pi) % (2 * np.pi) - np.pi)
    alike: NDArray[np.bool_] = off <= slack * GROWTH_TURN
    alike &= np.abs(octaves - np.log2(_size(matrix))) <= slack * GROWTH_OCTAVES
    return alike


def _fitted(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The transform, float64 (2, 3), least squares with one reweighting; None if it makes no sense."""
    enough = min(distinct(x), distinct(y)) >= AFFINE_POINTS
    weights = np.ones(len(x))
    chosen = None
    for _ in range(2):
        chosen = _similarity(x, y, weights)
        if chosen is None:
            return None
        off = _off(chosen, x, y)
        affine = _affinity(x, y, weights) if enough else None
        if affine is not None and _sensible(affine):
            stretched = _off(affine, x, y)
            if weights @ stretched**2 < AFFINE_GAIN * (weights @ off**2):
                chosen, off = affine, stretched
        if not _sensible(chosen):
            return None
        weights = 1 / (1 + (off / max(1.0, float(np.sort(off)[len(off) // 2]))) ** 2)
    return chosen


def _off(matrix: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far from its place each point is taken, pixels, (N,)."""
    distances: NDArray[np.float64] = np.hypot(*(x @ matrix[:, :2].T + matrix[:, 2] - y).T)
    return distances


def _affinity(
    x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    share = weights / weights.sum()
    from_centre, to_centre = share @ x, share @ y
    a, b = x - from_centre, y - to_centre
    weighted = (a * share[:, None]).T
    spread = weighted @ a
    # On one line, or nearly: what is across it would be chance.
    if np.linalg.det(spread) < 1e-3 * np.trace(spread) ** 2:
        return None
    turn = np.linalg.solve(spread, weighted @ b).T
    return np.column_stack([turn, to_centre - turn @ from_centre])


def _similarity(
    x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Umeyama 1991 in complex numbers: y = m x + t, with m and t complex."""
    share = weights / weights.sum()
    from_centre, to_centre = share @ x, share @ y
    a = (x - from_centre) @ np.array([1, 1j])
    b = (y - to_centre) @ np.array([1, 1j])
    spread = float(share @ np.abs(a) ** 2)
    if spread < 1e-9:
        return None
    m = complex(share @ (b * a.conj())) / spread
    turn = np.array([[m.real, -m.imag], [m.imag, m.real]])
    return np.column_stack([turn, to_centre - turn @ from_centre])


def _sensible(matrix: NDArray[np.float64]) -> bool:
    """Not mirrored (that is the other hand's), not flat, neither much too large nor too small."""
    if not np.isfinite(matrix).all() or np.linalg.det(matrix[:, :2]) <= 0:
        return False
    largest, least = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(largest <= MOST_SCALE and least >= 1 / MOST_SCALE and largest <= MOST_STRETCH * least)


def _size(matrix: NDArray[np.float64]) -> float:
    """Pixels of the protected picture, along a line, for each of the found one."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def _expected(matrix: NDArray[np.float64], original: Points, found: Points) -> int:
    """Points of the protected picture that the found one shows, and not too small to be found there."""
    places = (original.xy - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    shown = ((places >= 0) & (places <= np.array(found.size))).all(axis=1)
    return int((shown & (original.scale >= LEAST_SCALE * _size(matrix))).sum())


def _in_shares(
    matrix: NDArray[np.float64], found: tuple[int, int], original: tuple[int, int], mirrored: bool
) -> NDArray[np.float64]:
    """From pixels, whose centres are whole numbers, to shares; a mirrored picture's transform to its own."""
    whole = np.vstack([matrix, [0, 0, 1]])
    from_shares = np.array([[found[0], 0, -0.5], [0, found[1], -0.5], [0, 0, 1.0]])
    to_shares = np.array([[1 / original[0], 0, 0.5 / original[0]], [0, 1 / original[1], 0.5 / original[1]], [0, 0, 1]])
    mirror = np.array([[-1.0, 0, 1], [0, 1, 0], [0, 0, 1]]) if mirrored else np.eye(3)
    shares: NDArray[np.float64] = (to_shares @ whole @ from_shares @ mirror)[:2]
    return shares
