"""Votes, against an oracle in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from copywatch.features.votes import LEAST_REFERENCE, MOST_CANDIDATES, Candidate, Hits, candidates, votes

Table = list[list[tuple[int, int]]]


def hits(table: Table, neighbours: int = 10) -> Hits:
    cells = np.array(table, dtype=np.int64).reshape(len(table), neighbours, 2)
    return Hits(cells[..., 0], cells[..., 1])


def plain_votes(table: Table) -> dict[int, float]:
    totals: dict[int, float] = {}
    for row in table:
        known = [(image, distance) for image, distance in row if image >= 0]
        farthest = max([LEAST_REFERENCE, *(distance for _, distance in known)])
        best: dict[int, float] = {}
        for image, distance in known:
            best[image] = max(best.get(image, 0.0), 1 - distance / farthest)
        for image, weight in best.items():
            totals[image] = totals.get(image, 0.0) + weight
    return totals


def plain_candidates(upright: Table, mirrored: Table, least: float, most: int) -> list[tuple[int, float, bool]]:
    one, other = plain_votes(upright), plain_votes(mirrored)
    found = []
    for image in {*one, *other}:
        hand = other.get(image, -1) > one.get(image, -1)
        weight = max(one.get(image, -1), other.get(image, -1))
        if weight >= least:
            found.append((image, weight, hand))
    return sorted(found, key=lambda row: (-row[1], row[0]))[:most]


TABLES = st.lists(st.lists(st.tuples(st.integers(-1, 12), st.integers(0, 128)), min_size=4, max_size=4), max_size=12)


@given(TABLES)
def test_votes_are_the_oracles(table: Table) -> None:
    images, sums = votes(hits(table, 4))
    expected = plain_votes(table)
    assert images == sorted(expected)
    assert sums == pytest.approx([expected[image] for image in images])


@given(TABLES, TABLES, st.sampled_from([0.0, 0.5, 2.0]), st.integers(1, 6))
def test_candidates_are_the_oracles(upright: Table, mirrored: Table, least: float, most: int) -> None:
    found = candidates(hits(upright, 4), hits(mirrored, 4), least=least, most=most)
    expected = plain_candidates(upright, mirrored, least, most)
    # Sums that are equal but for rounding may change places.
    assert [one.votes for one in found] == pytest.approx([weight for _, weight, _ in expected])
    totals = {image: weight for image, weight, _ in plain_candidates(upright, mirrored, 0.0, 100)}
    assert [one.votes for one in found] == pytest.approx([totals[one.image] for one in found])
    assert len({one.image for one in found}) == len(found)
    upright_votes, mirrored_votes = plain_votes(upright), plain_votes(mirrored)
    for one in found:
        hand = mirrored_votes if one.mirrored else upright_votes
        assert one.votes == pytest.approx(hand[one.image])


def test_a_point_votes_once_for_a_picture_and_by_its_best_hit() -> None:
    assert votes(hits([[(7, 10), (7, 4), (3, 30), (5, 40)]], 4)) == ([3, 5, 7], [0.25, 0.0, 0.9])


def test_ten_copies_of_one_picture_do_not_take_each_others_votes() -> None:
    images, sums = votes(hits([[(image, 2) for image in range(10)]]))
    assert images == list(range(10))
    assert sums == pytest.approx([1 - 2 / LEAST_REFERENCE] * 10)


def test_the_hand_with_more_votes_stands_and_a_tie_is_upright() -> None:
    upright = hits([[(1, 0), (2, 20)], [(1, 0), (2, 20)]], 2)
    mirrored = hits([[(2, 0), (1, 20)], [(2, 0), (1, 20)], [(2, 0), (9, 20)]], 2)
    assert candidates(upright, mirrored, least=1) == [Candidate(2, 3.0, True), Candidate(1, 2.0, False)]
    both = hits([[(4, 0), (5, 20)]], 2)
    assert candidates(both, both, least=0.5) == [Candidate(4, 1.0, False)]


def test_equal_votes_stand_by_number_and_too_few_votes_are_chance() -> None:
    table = [[(image, 0), (99, 20)] for image in (8, 3, 5) for _ in range(9)]
    assert [one.image for one in candidates(hits(table, 2), hits([], 2))] == [3, 5, 8]
    assert candidates(hits(table[:7], 2), hits([], 2)) == []


def test_there_are_not_more_candidates_than_can_be_verified() -> None:
    table = [[(image, 0), (999, 20)] for image in range(30) for _ in range(8)]
    assert len(candidates(hits(table, 2), hits([], 2))) == MOST_CANDIDATES


def test_a_picture_without_points_has_no_candidates() -> None:
    nothing = Hits(np.empty((0, 10), dtype=np.int64), np.empty((0, 10), dtype=np.int32))
    assert candidates(nothing, nothing) == []
    assert candidates(nothing, nothing, least=0) == []


def test_faiss_fills_what_it_has_not_with_minus_one() -> None:
    table = hits([[(2, 4), (-1, 2**31 - 1)]], 2)
    assert votes(table) == ([2], [0.5])


@pytest.mark.parametrize("shape", [(4,), (2, 3), (3, 2, 1)])
def test_tables_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="two tables"):
        Hits(np.zeros(shape, dtype=np.int64), np.zeros((3, 2), dtype=np.int64))
