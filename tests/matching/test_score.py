"""The rule "rescored" against its definition, written as a loop over symbols."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from copywatch.fingerprint.mao import Mao
from copywatch.fingerprint.views import VIEW, Kind
from copywatch.matching.score import DETAILED_BLOCKS, Operands, identical, plain_distances, scores


def plain_score(one: np.void, other: np.void) -> float:
    """The score of two views, symbol by symbol."""
    decode = Mao().decode
    left, right = decode(bytes(one["fingerprint"])), decode(bytes(other["fingerprint"]))
    detail_left = np.unpackbits(one["mask"])[:144]
    detail_right = np.unpackbits(other["mask"])[:144]
    charged = 0.0
    for symbol in range(720):
        block = symbol if symbol < 144 else (symbol - 144) // 4
        detailed = int(detail_left[block]) + int(detail_right[block])
        if detailed == 2:
            charged += left[symbol] != right[symbol]
        else:
            charged += 0.75 if detailed == 1 else 0.65
    differing = sum((int(a) ^ int(b)).bit_count() for a, b in zip(one["pdq"], other["pdq"], strict=True))
    return 0.4 * charged / 720 + 0.6 * differing / 256


def random_views(count: int, seed: int, detailed: float = 0.6) -> NDArray[np.void]:
    """Views of random symbols, masks and PDQs."""
    rng = np.random.default_rng(seed)
    views = np.zeros(count, dtype=VIEW)
    views["fingerprint"] = rng.integers(0, 256, (count, 180))
    views["mask"] = np.packbits(rng.random((count, 144)) < detailed, axis=1)
    views["pdq"] = rng.integers(0, 256, (count, 32))
    return views


def near(views: NDArray[np.void], seed: int, share: float) -> NDArray[np.void]:
    """The same views with a share of their bytes replaced."""
    rng = np.random.default_rng(seed)
    changed = views.copy()
    for name in ("fingerprint", "mask", "pdq"):
        replaced = rng.random(changed[name].shape) < share
        changed[name] = np.where(replaced, rng.integers(0, 256, changed[name].shape), changed[name])
    return changed


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1), detailed=st.floats(0, 1))
def test_score_is_its_definition(seed: int, share: float, detailed: float) -> None:
    one = random_views(3, seed, detailed)
    other = np.concatenate([near(one, seed + 1, share), random_views(2, seed + 2, detailed)])
    rows, columns = np.repeat(np.arange(3), 5), np.tile(np.arange(5), 3)
    expected = [plain_score(one[row], other[column]) for row, column in zip(rows, columns, strict=True)]
    assert scores(Operands.of(one), rows, Operands.of(other), columns) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_plain_distance_is_formula_1(seed: int, share: float) -> None:
    one = random_views(4, seed)
    other = near(one, seed + 1, share)
    rows = np.arange(4)
    algorithm = Mao()
    expected = [
        algorithm.distance(algorithm.decode(bytes(a["fingerprint"])), algorithm.decode(bytes(b["fingerprint"])))
        for a, b in zip(one, other, strict=True)
    ]
    assert plain_distances(Operands.of(one), rows, Operands.of(other), rows) == pytest.approx(expected, abs=1e-12)


def test_score_does_not_depend_on_who_is_the_sighting() -> None:
    one, other = random_views(6, 1), random_views(6, 2)
    rows = np.arange(6)
    there = scores(Operands.of(one), rows, Operands.of(other), rows)
    back = scores(Operands.of(other), rows, Operands.of(one), rows)
    assert there == pytest.approx(back, abs=0)


def test_identical_needs_detail() -> None:
    view = random_views(1, 3)
    rows = np.array([0])
    for blocks, expected in ((DETAILED_BLOCKS, True), (DETAILED_BLOCKS - 1, False), (0, False)):
        bits = np.zeros(144, dtype=np.uint8)
        bits[:blocks] = 1
        view["mask"] = np.packbits(bits)
        operands = Operands.of(view)
        assert identical(operands, rows, operands, rows).tolist() == [expected]


def test_one_other_symbol_is_not_identical() -> None:
    view = random_views(1, 4)
    other = view.copy()
    other["fingerprint"][0, 100] ^= 0b01000000
    rows = np.array([0])
    assert not identical(Operands.of(view), rows, Operands.of(other), rows)[0]
    assert plain_distances(Operands.of(view), rows, Operands.of(other), rows)[0] == pytest.approx(1 / 720)


def test_operands_want_views() -> None:
    with pytest.raises(ValueError, match="array of views"):
        Operands.of(np.zeros((2, 3), dtype=np.uint8))


def test_kinds_are_kept() -> None:
    views = random_views(2, 5)
    views["kind"] = [Kind.UPRIGHT, Kind.MIRRORED]
    assert Operands.of(views).kinds.tolist() == [0, 4]
