"""Which pairs of a found picture stand beside each other, and which are explained by a better one."""

from __future__ import annotations

from copywatch.verification.explained import Verified, standing
from copywatch.verification.verdict import Judgement, Verification

WHOLE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
LEFT = (2.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""The protected picture fills the left half of the found one."""
RIGHT = (2.0, 0.0, -1.0, 0.0, 1.0, 0.0)
MIDDLE = (2.0, 0.0, -0.5, 0.0, 1.0, 0.0)


def pair(name: str, judgement: Judgement | None, place: tuple[float, ...] | None, probability: float = 0.9, **more):
    found = Verification(judgement, probability if judgement else None, alignment=place)
    return Verified(name, more.get("group", name), more.get("verdict"), found)


def test_cells_of_a_collage_stand_beside_each_other():
    assert standing([pair("a", Judgement.CERTAIN, LEFT), pair("b", Judgement.DOUBTFUL, RIGHT)]) == [True, True]


def test_a_look_alike_at_the_same_place_is_explained_whatever_the_order():
    pairs = [pair("like", Judgement.DOUBTFUL, WHOLE, 0.95), pair("copied", Judgement.CERTAIN, WHOLE, 0.94)]
    assert standing(pairs) == [False, True]
    assert standing(pairs[::-1]) == [True, False]


def test_of_two_doubtful_ones_the_more_probable_explains_the_other():
    pairs = [pair("a", Judgement.DOUBTFUL, LEFT, 0.4), pair("b", Judgement.DOUBTFUL, LEFT, 0.6)]
    assert standing(pairs) == [False, True]


def test_what_is_identical_explains_what_is_certain():
    pairs = [pair("a", Judgement.CERTAIN, WHOLE, 0.999), pair("b", Judgement.CERTAIN, WHOLE, 0.98, verdict=0)]
    assert standing(pairs) == [False, True]


def test_other_images_of_the_same_photo_stand_as_well():
    pairs = [pair("a", Judgement.CERTAIN, WHOLE, group="p"), pair("b", Judgement.CERTAIN, WHOLE, 0.8, group="p")]
    assert standing(pairs) == [True, True]


def test_two_better_ones_together_explain_what_lies_across_them():
    pairs = [
        pair("a", Judgement.CERTAIN, LEFT),
        pair("b", Judgement.CERTAIN, RIGHT),
        pair("c", Judgement.DOUBTFUL, MIDDLE),
    ]
    assert standing(pairs) == [True, True, False]


def test_what_is_different_or_cannot_be_verified_neither_stands_nor_explains():
    pairs = [
        pair("a", Judgement.DIFFERENT, WHOLE, 0.99),
        pair("b", None, None, verdict=0),
        pair("c", Judgement.DOUBTFUL, WHOLE),
    ]
    assert standing(pairs) == [False, False, True]
