"""Which of a found picture's pairs say something of their own.

A found picture may show several protected ones, side by side, and all their owners should hear of it. But where it
shows one, protected pictures that are like that one are found as well, at the same place: they are explained by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from copywatch.matching.verdict import Verdict
from copywatch.verification.verdict import Judgement, Verification

EXPLAINED_SHARE = 0.5
"""Of a pair's place in the found picture, that better pairs take."""

_GRID = 48
"""Places across and down at which a found picture is looked at."""


@dataclass(frozen=True)
class Verified:
    """A verified pair of one found picture.

    Attributes:
        protected_id: the protected picture.
        group_id: the photo that it shows.
        verdict: T of the first stage; None: it did not find the pair.
        verification: of the second.
    """

    protected_id: str
    group_id: str
    verdict: int | None
    verification: Verification


def standing(pairs: Sequence[Verified]) -> list[bool]:
    """Which pairs stand: certain or doubtful, and not explained by a better pair of another photo.

    Better is what is identical, then what is certain, then what is more probable. Pairs that cannot be verified neither
    stand nor explain anything; what they are told of is the first stage's matter.

    Args:
        pairs: all that were verified of one found picture.
    """
    areas = {place: _area(pair.verification) for place, pair in enumerate(pairs) if _is_found(pair)}
    better: list[int] = []
    stands = [False] * len(pairs)
    for place in sorted(areas, key=lambda place: _rank(pairs[place])):
        own = areas[place]
        others = [areas[other] for other in better if pairs[other].group_id != pairs[place].group_id]
        covered = np.any(others, axis=0) & own if others else np.zeros_like(own)
        stands[place] = bool(covered.sum() <= EXPLAINED_SHARE * own.sum())
        if stands[place]:
            better.append(place)
    return stands


def _is_found(pair: Verified) -> bool:
    return pair.verification.judgement in (Judgement.CERTAIN, Judgement.DOUBTFUL) and bool(pair.verification.alignment)


def _rank(pair: Verified) -> tuple[bool, bool, float, str]:
    found = pair.verification
    return (
        pair.verdict != Verdict.IDENTICAL,
        found.judgement is not Judgement.CERTAIN,
        -(found.probability or 0.0),
        pair.protected_id,
    )


def _area(verification: Verification) -> NDArray[np.bool_]:
    """Where in the found picture the protected one lies: bool (`_GRID` ** 2,)."""
    a, b, c, d, e, f = verification.alignment or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    middle = (np.arange(_GRID) + 0.5) / _GRID
    x, y = (places.ravel() for places in np.meshgrid(middle, middle))
    across, down = a * x + b * y + c, d * x + e * y + f
    inside: NDArray[np.bool_] = (across >= 0) & (across <= 1) & (down >= 0) & (down <= 1)
    return inside
