"""T of SRPITP's Formula (2)."""

from __future__ import annotations

import pytest

from copywatch.matching import Verdict, verdict


def test_values_are_the_paper_s() -> None:
    assert [Verdict.IDENTICAL, Verdict.SIMILAR, Verdict.DIFFERENT] == [0, 1, 2]


@pytest.mark.parametrize(
    ("distance", "bound", "wanted"),
    [
        (0.0, 0.0, Verdict.IDENTICAL),
        (1 / 720, 0.0, Verdict.SIMILAR),
        (0.4258, 0.0, Verdict.SIMILAR),
        (0.4259, 0.0, Verdict.DIFFERENT),
        (1.0, 0.0, Verdict.DIFFERENT),
        (0.05, 0.05, Verdict.IDENTICAL),
        (0.051, 0.05, Verdict.SIMILAR),
        (0.5, 0.6, Verdict.IDENTICAL),
    ],
)
def test_bounds_belong_to_the_better_side(distance: float, bound: float, wanted: Verdict) -> None:
    assert verdict(distance, 0.4258, bound) is wanted


@pytest.mark.parametrize("distance", [-0.001, 1.001, float("nan")])
def test_what_is_no_normalised_distance(distance: float) -> None:
    with pytest.raises(ValueError, match="normalised"):
        verdict(distance, 0.4)
