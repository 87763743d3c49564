"""SRPITP's indicator T."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Verdict(IntEnum):
    """T of SRPITP's Formula (2)."""

    IDENTICAL = 0
    """Certain: alerted at once."""
    SIMILAR = 1
    """Doubtful: a person decides."""
    DIFFERENT = 2
    """No copy."""


def verdicts(
    distances: NDArray[np.float64], identical: NDArray[np.bool_], threshold: float, identical_bound: float = 0.0
) -> NDArray[np.int8]:
    """T of many pairs of the rule "rescored", int8 (P,): 0 where `identical`, or up to a raised `identical_bound`."""
    certain = identical | ((identical_bound > 0) & (distances <= identical_bound))
    similar = np.where(distances <= threshold, Verdict.SIMILAR, Verdict.DIFFERENT)
    return np.where(certain, Verdict.IDENTICAL, similar).astype(np.int8)


def verdict(distance: float, threshold: float, identical_bound: float = 0.0) -> Verdict:
    """T of one distance: 0 up to `identical_bound`, 1 up to `threshold`, else 2 (SRPITP, section 3.4, Formula 2).

    Args:
        distance: normalised, in [0, 1].
        threshold: Th.
        identical_bound: 0 is the paper's. It wins where it lies above the threshold.

    Raises:
        ValueError: the distance is not in [0, 1].
    """
    if not 0 <= distance <= 1:
        raise ValueError(f"a normalised distance is in [0, 1], not {distance}")
    if distance <= identical_bound:
        return Verdict.IDENTICAL
    return Verdict.SIMILAR if distance <= threshold else Verdict.DIFFERENT
