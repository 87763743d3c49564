"""The edit in words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from copywatch.verification.colours import Colours
from copywatch.verification.edit_words import edit_words

PLAIN = Colours(0.0, 0.0, grey=False, coloured=False)
WHOLE = np.array([[1.0, 0, 0], [0, 1, 0]])


def words(
    matrix: NDArray[np.float64],
    *,
    original: tuple[int, int] = (300, 200),
    found: tuple[int, int] = (300, 200),
    shown: float = 1.0,
    covered: float = 1.0,
    colours: Colours = PLAIN,
) -> str:
    return edit_words(matrix, original, found, shown, covered, colours)


def clockwise(degrees: float, mirrored: bool = False) -> NDArray[np.float64]:
    """Of a picture of 300 x 200 that was mirrored, if at all, and then turned about its centre."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    if mirrored:
        turn = turn @ np.diag([-1, 1])
    sides = np.diag([300.0, 200.0])
    back = np.linalg.inv(np.linalg.inv(sides) @ turn @ sides)
    return np.column_stack([back, np.array([0.5, 0.5]) - back @ [0.5, 0.5]])


def test_nothing_that_shows_has_no_words() -> None:
    assert words(WHOLE) == ""
    assert words(WHOLE, shown=0.97, covered=0.98, found=(600, 400)) == ""


def test_areas_are_in_per_cent() -> None:
    assert words(WHOLE, shown=0.314) == "crop, 31 % of the original"
    assert words(WHOLE, covered=0.347) == "inset, 35 % of the picture"
    assert words(WHOLE, shown=0.001, covered=0.5) == "crop, 1 % of the original, inset, 50 % of the picture"


@pytest.mark.parametrize(
    ("degrees", "mirrored", "expected"),
    [
        (7, False, "turned by 7 degrees"),
        (-7, False, "turned by 7 degrees counterclockwise"),
        (90, False, "turned by 90 degrees"),
        (-90, False, "turned by 90 degrees counterclockwise"),
        (91.2, False, "turned by 90 degrees"),
        (180, False, "turned by 180 degrees"),
        (-179.5, False, "turned by 180 degrees"),
        (1, False, ""),
        (0, True, "mirrored"),
        (180, True, "mirrored upside down"),
        (15, True, "mirrored, turned by 15 degrees"),
        (90, True, "mirrored, turned by 90 degrees"),
    ],
)
def test_turns_and_mirror_images(degrees: float, mirrored: bool, expected: str) -> None:
    assert words(clockwise(degrees, mirrored)) == expected


def test_a_picture_turned_by_a_quarter_is_not_stretched() -> None:
    """In shares a quarter turn of any picture is this matrix; its sides change places.

    What is wider is the original's width, which is the turned picture's height.
    """
    quarter = np.array([[0.0, 1, 0], [-1, 0, 1]])
    assert words(quarter, found=(200, 300)) == "turned by 90 degrees"
    assert words(quarter, found=(200, 375)) == "turned by 90 degrees, stretched by 25 % in width"


def test_stretching_is_told_by_the_side_that_grew() -> None:
    assert words(WHOLE, found=(375, 200)) == "stretched by 25 % in width"
    assert words(WHOLE, found=(300, 220)) == "stretched by 10 % in height"
    assert words(WHOLE, found=(303, 200)) == ""


def test_colours_come_last() -> None:
    said = words(clockwise(90), shown=0.5, colours=Colours(0.0, 0.0, grey=True, coloured=False))
    assert said == "crop, 50 % of the original, turned by 90 degrees, grey or of one tint"
    assert words(WHOLE, colours=Colours(0.0, 0.0, grey=False, coloured=True)) == "coloured"
