"""What was done to a copy, in words for people: "crop, 31 % of the original, mirrored, turned by 90 degrees, grey"."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from copywatch.verification.colours import Colours

WHOLE = 0.96
"""Shares of an area from which on it counts as all of it: the alignment is not exact."""
LEAST_TURN = 1.5
"""Degrees."""
RIGHT_ANGLE_TURN = 2.0
LEAST_STRETCH = 1.05
STRETCH_STEP = 5
"""Per cent."""


def edit_words(
    matrix: NDArray[np.float64],
    original_size: tuple[int, int],
    found_size: tuple[int, int],
    shown: float,
    covered: float,
    colours: Colours,
) -> str:
    """The edit; empty where nothing shows.

    Args:
        matrix: float64 (2, 3), from shares of the found picture to shares of the protected one.
        original_size: (width, height) of the protected picture, in pixels of any scale.
        found_size: likewise of the found one.
        shown: share of the protected picture's area that the found one shows.
        covered: share of the found picture's area that it takes.
        colours: what the colours say.
    """
    # From pixels of the found picture to pixels of the protected one, without the shift.
    turn = np.diag(original_size) @ matrix[:, :2] @ np.diag([1 / side for side in found_size])
    words = []
    if shown < WHOLE:
        words.append(f"crop, {_per_cent(shown)} of the original")
    if covered < WHOLE:
        words.append(f"inset, {_per_cent(covered)} of the picture")
    degrees = _degrees_clockwise(turn)
    if np.linalg.det(turn) < 0:
        # A mirror image turned upside down has swapped only top and bottom: that is how people call it.
        if abs(abs(degrees) - 180) <= RIGHT_ANGLE_TURN:
            words.append("mirrored upside down")
            degrees = 0.0
        else:
            words.append("mirrored")
    if abs(degrees) >= LEAST_TURN:
        nearest = 90 * round(degrees / 90)
        if nearest and abs(degrees - nearest) <= RIGHT_ANGLE_TURN:
            degrees = nearest
        way = " counterclockwise" if degrees < 0 and abs(round(degrees)) < 180 else ""
        words.append(f"turned by {abs(round(degrees))} degrees{way}")
    if stretch := _stretch(turn):
        words.append(stretch)
    if colours.grey:
        words.append("grey or of one tint")
    elif colours.coloured:
        words.append("coloured")
    return ", ".join(words)


def _per_cent(share: float) -> str:
    return f"{max(1, round(100 * share))} %"


def _degrees_clockwise(turn: NDArray[np.float64]) -> float:
    """How far the found picture must have been turned, -180 to 180; of a mirrored one after it was mirrored."""
    x, y = np.linalg.inv(turn) @ ([-1, 0] if np.linalg.det(turn) < 0 else [1, 0])
    return math.degrees(math.atan2(y, x))


def _stretch(turn: NDArray[np.float64]) -> str:
    """Whose width or height, the original's, was drawn longer than the other; only where its sides still are sides."""
    x, y = np.hypot(turn[0], turn[1])
    across = float(np.hypot(turn[0, 0], turn[1, 0]) / np.hypot(turn[0, 1], turn[1, 1]))
    sideways = abs(turn[0, 0]) < abs(turn[1, 0])
    slanted = min(abs(turn[0, 0]), abs(turn[1, 0])) > 0.1 * max(x, y)
    factor = 1 / across if not sideways else across
    if slanted or max(factor, 1 / factor) < LEAST_STRETCH:
        return ""
    percent = STRETCH_STEP * round(100 * (max(factor, 1 / factor) - 1) / STRETCH_STEP)
    return f"stretched by {percent} % in {'width' if factor > 1 else 'height'}"
