"""Two pictures laid over each other: where do they agree, block by block?

The number of points that one transform explains cannot tell a copy from a burst's sibling or a product in another
colour; the pixels can. The found picture is drawn into the protected thumbnail's frame, both at the coarser one's
sharpness, and blocks of 16 pixels are compared by normalised cross-correlation (NCC; Lewis 1995, "Fast Normalized
Cross-Correlation", formula 2), which does not see a block's brightness and contrast. What NCC does not see, `colours`
compares.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from copywatch.verification.colours import quantile

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

FRAME = 256
"""Pixels of the longer side that both are compared at."""
BLOCK = 16
BLUR = 1.2
"""Pixels, sigma: what misplacement by a pixel, JPEG and noise change is not compared."""
TEXTURE = 4.0
"""Grey levels; a block whose standard deviation is smaller in both pictures says nothing."""
FLOOR = 1.0
"""Grey levels squared, added to an NCC's denominator: noise on a plain block is no texture."""
RIM = 3
"""Pixels."""
CLIPPED = 6.0
"""Grey levels from black or white: what is cut off there by a brighter or darker copy is no difference."""
HULL_MARGIN = 8
"""Pixels about the convex hull of the points."""

AGREES = 0.6
"""NCC of a block that shows the same."""
AGREES_WELL = 0.8
FOREIGN = 1.5
"""What a block that disagrees weighs against one that agrees, when the part with the picture is looked for."""
LEAST_FOREIGN = 0.25
"""Weight of what lies outside the part, for each block compared, below which the whole overlap is taken for it: a sixth
of the blocks. Less is a text or a mark laid over the picture."""
MOST_SHARED_OUTSIDE = 0.3
"""Share of the blocks outside the part that may agree; where more do, something was laid over the picture instead."""


@dataclass(frozen=True)
class Overlay:
    """Both pictures in the protected one's frame, sides multiples of `BLOCK`.

    Attributes:
        original: uint8 (H, W, 3), RGB.
        found: uint8 (H, W, 3), RGB; black where it does not reach.
        overlap: bool (H, W), where it does.
        matrix: float64 (2, 3), as in `copywatch.verification.align.Alignment`.
        softness: (original, found), sigma in pixels of the blur that makes each as soft as the other.
    """

    original: Pixels
    found: Pixels
    overlap: Flags
    matrix: NDArray[np.float64]
    softness: tuple[float, float]


@dataclass(frozen=True)
class Agreement:
    """What the blocks say. Shares are 0 where there is no block to count.

    Attributes:
        correlation: float32 (H / 16, W / 16), NCC of each block, -1 to 1.
        compared: bool likewise: inside the overlap, with texture.
        part: bool likewise: the rectangle that shows the picture, see `_part`, as far as the two overlap.
        blocks: blocks with texture inside the matched area.
        agreement: share of them with NCC above .8.
        weakest: the tenth percentile of their NCC.
        median: the median of their NCC.
        overlap_agreement: share of all compared blocks with NCC above .6.
        part_blocks: compared blocks in the part.
        part_agreement: share of these with NCC above .6.
        hole: the largest connected patch of blocks in the part with NCC below .6, as a share of the part's.
        shown: share of the protected picture's area that the part takes.
        covered: share of the found picture's area that it takes.
    """

    correlation: Floats
    compared: Flags
    part: Flags
    blocks: int
    agreement: float
    weakest: float
    median: float
    overlap_agreement: float
    part_blocks: int
    part_agreement: float
    hole: float
    shown: float
    covered: float


def overlaid(thumbnail: Image.Image, picture: Image.Image, matrix: NDArray[np.float64]) -> Overlay:
    """The found picture in the protected one's frame.

    Args:
        thumbnail: the protected picture, RGB, at most 256 pixels a side.
        picture: the found one, RGB, at most 512 pixels a side.
        matrix: float64 (2, 3), invertible, from shares of the found picture to shares of the protected one.
    """
    longest = max(thumbnail.size)
    width, height = (BLOCK * max(1, round(FRAME * side / longest / BLOCK)) for side in thumbnail.size)
    original = np.asarray(thumbnail)
    enlarged = max(width / thumbnail.width, height / thumbnail.height)
    way = cv2.INTER_AREA if enlarged < 1 else cv2.INTER_LINEAR
    original = cv2.resize(original, (width, height), interpolation=way).astype(np.uint8, copy=False)

    found = np.asarray(picture)
    to_frame = np.diag([width, height]).astype(np.float64) @ matrix
    # Frame pixels for each of the found picture's, along its two axes. Where they are fewer it is averaged first.
    reach = np.hypot(to_frame[0, :2], to_frame[1, :2]) / np.array(picture.size)
    if reach.min() < 1:
        small = [max(1, round(side * min(1.0, one))) for side, one in zip(picture.size, reach, strict=True)]
        found = cv2.resize(found, small, interpolation=cv2.INTER_AREA)
    rows, columns = found.shape[:2]
    pixels = to_frame.copy()
    pixels[:, :2] /= np.array([columns, rows])
    # Places are of edges here, OpenCV's are of pixels' centres.
    pixels[:, 2] += pixels[:, :2] @ [0.5, 0.5] - 0.5
    warped: Pixels = cv2.warpAffine(
        found, pixels, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    ).astype(np.uint8, copy=False)

    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) @ to_frame[:, :2].T + to_frame[:, 2]
    overlap = _filled(corners, width, height)
    warped[~overlap] = 0
    return Overlay(
        _without_rim(original),
        _without_rim(warped),
        overlap,
        matrix,
        (_softness(float(reach.max())), _softness(enlarged)),
    )


def agreement(overlay: Overlay, original_xy: NDArray[np.float64] | None) -> Agreement:
    """The blocks compared.

    Args:
        overlay: both pictures.
        original_xy: float64 (K, 2), shares: the protected picture's points that were matched; None: the matched area
            is the whole overlap.
    """
    height, width = overlay.overlap.shape
    a, b = _grey(overlay.original, overlay.softness[0]), _grey(overlay.found, overlay.softness[1])
    correlation, textured = block_correlation(a, b)
    inside = _block_means(overlay.overlap) >= 0.99
    compared = inside & textured
    matched = compared
    if original_xy is not None:
        hull = cv2.convexHull((original_xy * [width, height]).astype(np.float32))[:, 0].astype(np.float64)
        area = _filled(hull, width, height).astype(np.uint8)
        dilated = cv2.dilate(area, np.ones((2 * HULL_MARGIN + 1,) * 2, dtype=np.uint8)).astype(np.uint8, copy=False)
        matched = compared & (_block_means(dilated) >= 0.5)
    values = correlation[matched]
    agrees = correlation >= AGREES
    part = _part(agrees, compared, inside)
    in_part = compared & part
    shown, covered = _shares(overlay, part, inside)
    return Agreement(
        correlation=correlation,
        compared=compared,
        part=part,
        blocks=len(values),
        agreement=_share(values > AGREES_WELL),
        weakest=quantile(values, 0.1) if len(values) else 0.0,
        median=quantile(values, 0.5) if len(values) else 0.0,
        overlap_agreement=_share(agrees[compared]),
        part_blocks=int(in_part.sum()),
        part_agreement=_share(agrees[in_part]),
        hole=_largest_patch(in_part & ~agrees) / max(1, int(in_part.sum())),
        shown=shown,
        covered=covered,
    )


def block_correlation(a: Floats, b: Floats) -> tuple[Floats, Flags]:
    """NCC of each block of two grey pictures, float32 (H, W), and which blocks have texture in either.

    A block that is cut off at white or black in one of the two counts as without.
    """
    a, b = a - np.float32(128), b - np.float32(128)
    mean_a, mean_b = _block_means(a), _block_means(b)
    variance_a = np.maximum(_block_means(a * a) - mean_a**2, 0)
    variance_b = np.maximum(_block_means(b * b) - mean_b**2, 0)
    together = _block_means(a * b) - mean_a * mean_b
    correlation = together / (np.sqrt(variance_a * variance_b) + np.float32(FLOOR))
    textured = np.maximum(variance_a, variance_b) > TEXTURE**2
    textured &= ~(_clipped(mean_a, variance_a, mean_b) | _clipped(mean_b, variance_b, mean_a))
    return np.clip(correlation, -1, 1), textured


def _clipped(mean: Floats, variance: Floats, other: Floats) -> Flags:
    """Blocks that are plain white, or black, where the other picture's are light, or dark; means about 128."""
    plain: Flags = variance < 1
    return plain & (((mean > 127 - CLIPPED) & (other > 64)) | ((mean < CLIPPED - 128) & (other < -64)))


def _grey(pixels: Pixels, soft: float) -> Floats:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return cv2.GaussianBlur(grey, (0, 0), float(np.hypot(BLUR, soft))).astype(np.float32, copy=False)


def _softness(enlarged: float) -> float:
    """A picture enlarged so many times has lost what a blur of this sigma, in pixels, would take."""
    return 0.5 * float(np.sqrt(max(0.0, min(enlarged, 16.0) ** 2 - 1)))


def _without_rim(pixels: Pixels) -> Pixels:
    """The outermost pixels as those inside them: a border laid about a copy leaks in where it is a pixel misplaced."""
    inner = pixels[RIM:-RIM, RIM:-RIM]
    return cv2.copyMakeBorder(inner, RIM, RIM, RIM, RIM, cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)


def _block_means(values: NDArray[np.float32] | Flags | Pixels) -> Floats:
    height, width = values.shape
    grid = (width // BLOCK, height // BLOCK)
    return cv2.resize(values.astype(np.float32), grid, interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)


def _filled(corners: NDArray[np.floating], width: int, height: int) -> Flags:
    """Pixels of a convex shape, its corners in pixels."""
    area = np.zeros((height, width), dtype=np.uint8)
    cv2.fillConvexPoly(area, np.rint(corners - 0.5).astype(np.int32), 1)
    return area.astype(bool)


def _share(flags: Flags) -> float:
    return float(flags.mean()) if flags.size else 0.0


def _part(agrees: Flags, compared: Flags, inside: Flags) -> Flags:
    """The blocks of the overlap that show the picture: in a collage's cell or beside a text, the rest is foreign.

    Of all rectangles of blocks the one with most agreeing less `FOREIGN` times the disagreeing ones; the largest of
    such. If what is outside disagrees little, or agrees in places, the whole overlap.
    """
    weight = np.where(compared, np.where(agrees, 1.0, -FOREIGN), 0.0)
    sums = np.zeros((weight.shape[0] + 1, weight.shape[1] + 1))
    sums[1:, 1:] = weight.cumsum(axis=0).cumsum(axis=1)
    top, bottom = np.triu_indices(sums.shape[0], 1)
    left, right = np.triu_indices(sums.shape[1], 1)
    bands = sums[bottom] - sums[top]
    totals = bands[:, right] - bands[:, left]
    areas = (bottom - top)[:, None] * (right - left)[None, :]
    best = int(np.argmax(totals + areas * 1e-6))
    if totals.flat[best] - weight.sum() <= LEAST_FOREIGN * compared.sum():
        return inside
    row, column = divmod(best, len(left))
    part = np.zeros_like(inside)
    part[top[row] : bottom[row], left[column] : right[column]] = True
    outside = compared & ~part
    return inside if _share(agrees[outside]) > MOST_SHARED_OUTSIDE else part & inside


def _largest_patch(flags: Flags) -> int:
    if not flags.any():
        return 0
    _, _, stats, _ = cv2.connectedComponentsWithStats(flags.astype(np.uint8), connectivity=4)
    return int(stats[1:, cv2.CC_STAT_AREA].max())


def _shares(overlay: Overlay, part: Flags, inside: Flags) -> tuple[float, float]:
    """Of the protected picture and of the found one."""
    overlap = float(overlay.overlap.mean())
    shown = overlap if part is inside else min(overlap, float(part.mean()))
    return shown, min(1.0, shown / max(1e-9, abs(float(np.linalg.det(overlay.matrix[:, :2])))))
