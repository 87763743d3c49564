"""What verification says of a pair of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

IDENTITY = "align/1"
"""Name and version of the whole way from two pictures to a probability."""

FOUND_BY_RULE = "verified"
"""`rule` of a match that the second stage alone found; its distance is 1 - probability, its algorithm the codes' own
(`copywatch.features.itq.IDENTITY`)."""


class Judgement(StrEnum):
    """Verification's verdict, beside the paper's T and never in its place."""

    CERTAIN = "certain"
    DOUBTFUL = "doubtful"
    DIFFERENT = "different"


@dataclass(frozen=True)
class Measures:
    """What was measured of two pictures laid over each other; all of it takes part in the probability.

    Attributes:
        inliers: points of the protected picture, at distinct places, that one transform takes to points of the other.
        blocks: blocks with texture that were compared inside the matched area.
        agreement: share of these that agree.
        weakest: the tenth percentile of the blocks' correlation, -1 to 1.
        overlap_agreement: share of the blocks that agree in all that the two pictures share by the transform.
        shown: share of the protected picture's area that the found one shows, 0 to 1.
        covered: share of the found picture's area that it takes, 0 to 1.
        colour: how far the colours are from each other, in Lab's a and b, after the best filter over the whole picture;
            0 if one of the two is grey (`copywatch.verification.colours`).
        expected: points of the protected picture that should be found if the transform is right.
        part_blocks: blocks with texture in the part of the overlap that shows the picture: a collage's cell without its
            neighbours, a picture without the text beside it.
        part_agreement: share of these that agree.
        hole: the largest connected patch of these that does not agree, as a share of them.
        tone: how far the lightness of places is from each other after the best rising curve, 0 to 100.
        greyed: one of the two is grey or of one tint, and the other is not.
    """

    inliers: int
    blocks: int
    agreement: float
    weakest: float
    overlap_agreement: float
    shown: float
    covered: float
    colour: float
    expected: int = 0
    part_blocks: int = 0
    part_agreement: float = 0.0
    hole: float = 0.0
    tone: float = 0.0
    greyed: bool = False


@dataclass(frozen=True)
class Verification:
    """Verification of one pair.

    Attributes:
        judgement: the verdict; None: the pair cannot be verified, and `reason` says why.
        probability: that the one is a copy of the other, calibrated, 0 to 1; None without a verdict.
        reason: why there is no verdict, in words for people; empty where there is one.
        edit: what was done to the copy, in words: "crop, 31 % of the original, mirrored"; empty: nothing that shows, or
            no copy.
        mirrored: the found picture is a mirror image.
        alignment: (a, b, c, d, e, f): a place (x, y) of the found picture lies at (a x + b y + c, d x + e y + f) of the
            protected one; both as shares of the picture's own width and height, 0 to 1 from its upper left corner, so
            that it holds at whatever size they are drawn. None: no transform was found.
        measures: None: no transform was found.
    """

    judgement: Judgement | None
    probability: float | None
    reason: str = ""
    edit: str = ""
    mirrored: bool = False
    alignment: tuple[float, float, float, float, float, float] | None = None
    measures: Measures | None = None
