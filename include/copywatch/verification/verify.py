"""Is the found picture a copy of the protected one? From two sides to a verdict.

Points first, since they are cheap and say where to look; then pixels, which decide. Where points are too few, the whole
pictures are laid over each other. What a picture shows never raises; time and memory are bounded by the sides' sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from copywatch.features.extract import detected_points
from copywatch.features.points import unpacked
from copywatch.features.thumbnail import decoded_thumbnail
from copywatch.verification.agreement import AGREES_WELL, BLOCK, Agreement, agreement, overlaid
from copywatch.verification.align import Alignment, align
from copywatch.verification.colours import Colours, colours
from copywatch.verification.edit_words import edit_words
from copywatch.verification.model import model
from copywatch.verification.sides import LONGEST_SIDE, Found, Original
from copywatch.verification.verdict import Judgement, Measures, Verification
from copywatch.verification.whole_frame import whole_frame

LEAST_INLIERS = 6
"""Fewer points at distinct places fit some transform by chance: then only the whole pictures are compared."""
ENOUGH_POINTS = 20
"""With fewer on either side points cannot say that a pair is different."""
RICH = 100
"""With as many on both sides a copy of the whole would be seen by its points."""
LEAST_BLOCKS = 8
"""Blocks with texture, below which pixels cannot say anything either."""
TOO_FEW_POINTS = "too few points to verify: a plain or tiny picture"


@dataclass(frozen=True)
class Comparison:
    """All that was found out about a pair that a transform lays over each other."""

    matrix: NDArray[np.float64]
    alignment: Alignment | None
    agreement: Agreement
    colours: Colours

    def measures(self) -> Measures:
        """What the model judges by."""
        return Measures(
            inliers=self.alignment.inliers if self.alignment else 0,
            blocks=self.agreement.blocks,
            agreement=self.agreement.agreement,
            weakest=self.agreement.weakest,
            overlap_agreement=self.agreement.overlap_agreement,
            shown=self.agreement.shown,
            covered=self.agreement.covered,
            colour=self.colours.colour,
            expected=self.alignment.expected if self.alignment else 0,
            part_blocks=self.agreement.part_blocks,
            part_agreement=self.agreement.part_agreement,
            hole=self.agreement.hole,
            tone=self.colours.tone,
            greyed=self.colours.grey or self.colours.coloured,
        )


def verify(original: Original, found: Found) -> Verification:
    """The verdict on a pair.

    Raises:
        MachineError: the shipped model is missing or damaged.
    """
    comparison = compare(original, found)
    few = min(len(original.points), len(found.points.upright)) < ENOUGH_POINTS
    if comparison is None or (comparison.alignment is None and comparison.agreement.blocks < LEAST_BLOCKS):
        if few:
            return Verification(None, None, TOO_FEW_POINTS)
        return Verification(Judgement.DIFFERENT, model().without_transform)
    measures = comparison.measures()
    judgement = model().judgement(measures)
    if judgement is Judgement.DIFFERENT and few and measures.blocks < LEAST_BLOCKS:
        return Verification(None, None, TOO_FEW_POINTS)
    matrix = comparison.matrix
    edit = ""
    if judgement is not Judgement.DIFFERENT:
        edit = edit_words(
            matrix,
            original.thumbnail.size,
            found.picture.size,
            measures.shown,
            measures.covered,
            comparison.colours,
        )
    a, b, c, d, e, f = (float(value) for value in matrix.flat)
    return Verification(
        judgement,
        model().probability(measures),
        edit=edit,
        mirrored=bool(np.linalg.det(matrix[:, :2]) < 0),
        alignment=(a, b, c, d, e, f),
        measures=measures,
    )


def compare(original: Original, found: Found) -> Comparison | None:
    """The pair laid over each other by its points, or as whole pictures; None if neither gives a transform."""
    alignment = align(original.points, found.points)
    if alignment is not None and alignment.inliers >= LEAST_INLIERS:
        return _compared(original, found, alignment.matrix, alignment)
    if min(len(original.points), len(found.points.upright)) >= RICH:
        return None
    matrix = whole_frame(original.thumbnail, found.picture)
    return None if matrix is None else _compared(original, found, matrix, None)


def original_of(row: Mapping[str, Any]) -> Original:
    """The protected side of a row of the table `features`.

    Args:
        row: its columns codes, positions, scaled_width, scaled_height and thumbnail.

    Raises:
        ValueError: they are not what `fingerprint_images` writes.
    """
    size = (int(row["scaled_width"]), int(row["scaled_height"]))
    return Original(unpacked(row["codes"], row["positions"], size), decoded_thumbnail(row["thumbnail"]))


def found_of(rgb: Image.Image) -> Found:
    """The found side of a picture from `copywatch.decode`, mode RGB.

    Raises:
        MachineError: the model of the points' codes is missing or damaged.
    """
    picture = rgb.convert("RGB")
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return Found(detected_points(rgb), picture)


def _compared(original: Original, found: Found, matrix: NDArray[np.float64], alignment: Alignment | None) -> Comparison:
    overlay = overlaid(original.thumbnail, found.picture, matrix)
    said = agreement(overlay, alignment.original_xy if alignment else None)
    # Where something else is shown its colours say nothing.
    good = said.part & ~(said.compared & (said.correlation < AGREES_WELL))
    # Nor do those of its rim, in blocks that it hardly reaches.
    pixels = cv2.resize(good.astype(np.uint8), overlay.overlap.shape[::-1], interpolation=cv2.INTER_NEAREST)
    pixels = cv2.erode(pixels, np.ones((BLOCK + 1,) * 2, dtype=np.uint8))
    return Comparison(matrix, alignment, said, colours(overlay.original, overlay.found, pixels.astype(bool)))
