"""The search against SRPITP's Algorithm 2 as it is written: record by record, symbol by symbol."""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from copywatch.fingerprint import ALGORITHMS, Algorithm, Mao, algorithm_named, identity
from copywatch.matching import FlatIndex, SearchCode, Verdict, search_code_of, verdict

MAO = Mao()
CODE = search_code_of(MAO)


def formula_1(detected: Sequence[int], protected: Sequence[int]) -> float:
    """Normalised Hamming distance: the mean of d_i."""
    different = 0
    for detected_symbol, protected_symbol in zip(detected, protected, strict=True):
        if detected_symbol != protected_symbol:
            different += 1
    return different / len(detected)


def algorithm_2(
    detected: bytes, protected: Sequence[bytes], algorithm: Algorithm, threshold: float
) -> tuple[Verdict, int | None, float | None, list[tuple[int, float]]]:
    """Steps 1 to 7 for one detected record: T, the noted record, its distance, and all records with T < 2."""
    detected_symbols = algorithm.decode(detected).tolist()
    below = []
    for position, record in enumerate(protected):
        distance = formula_1(detected_symbols, algorithm.decode(record).tolist())
        if distance <= threshold:
            below.append((position, distance))
    if not below:
        return Verdict.DIFFERENT, None, None, []
    position, distance = min(below, key=lambda pair: (pair[1], pair[0]))
    return (Verdict.IDENTICAL if distance == 0 else Verdict.SIMILAR), position, distance, below


def stacked(codes: Sequence[bytes], width: int) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(codes), dtype=np.uint8).reshape(-1, width)


def fingerprints(rng: np.random.Generator, count: int, algorithm: Algorithm = MAO) -> NDArray[np.uint8]:
    """Few distinct ones and their near copies, so that ties and small distances abound."""
    base = rng.integers(0, algorithm.levels, (3, algorithm.symbols), dtype=np.uint8)
    rows = base[rng.integers(0, 3, count)]
    for row in rows:
        changed = rng.integers(0, algorithm.symbols, rng.choice([0, 1, 2, algorithm.symbols // 3]))
        row[changed] = rng.integers(0, algorithm.levels, len(changed), dtype=np.uint8)
    return stacked([algorithm.encode(row) for row in rows], algorithm.code_bytes)


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=identity)
@given(
    seed=st.integers(0, 2**32 - 1),
    protected_count=st.integers(1, 25),
    detected_count=st.integers(0, 5),
    threshold=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.4258, 1.0])),
)
@settings(max_examples=15, deadline=None)
@example(seed=0, protected_count=1, detected_count=1, threshold=0.0)
def test_equals_algorithm_2(
    algorithm: Algorithm, seed: int, protected_count: int, detected_count: int, threshold: float
) -> None:
    rng = np.random.default_rng(seed)
    together = fingerprints(rng, protected_count + detected_count, algorithm)
    protected, detected = together[:protected_count], together[protected_count:]
    index = FlatIndex(protected, search_code_of(algorithm))
    nearest, pairs = index.nearest(detected), index.within(detected, threshold)
    assert len(index) == protected_count
    assert nearest.positions.shape == nearest.distances.shape == (detected_count,)
    found = 0
    for row, record in enumerate(detected):
        wanted, position, distance, below = algorithm_2(
            record.tobytes(), [one.tobytes() for one in protected], algorithm, threshold
        )
        assert verdict(float(nearest.distances[row]), threshold) == wanted
        if position is not None:
            assert (nearest.positions[row], nearest.distances[row]) == (position, distance)
        mine = pairs.queries == row
        assert list(zip(pairs.positions[mine].tolist(), pairs.distances[mine].tolist(), strict=True)) == sorted(
            below, key=lambda pair: (pair[1], pair[0])
        )
        found += len(below)
    assert len(pairs.queries) == found
    assert (np.diff(pairs.queries) >= 0).all()


@given(st.binary(min_size=180, max_size=180), st.binary(min_size=180, max_size=180))
@settings(max_examples=60)
def test_binary_distance_is_twice_the_symbols_distance(first: bytes, second: bytes) -> None:
    expanded = CODE.expanded(stacked([first, second], 180))
    assert expanded.shape == (2, 270)
    bits = np.unpackbits(expanded[0] ^ expanded[1]).sum()
    a, b = MAO.decode(first), MAO.decode(second)
    assert bits == 2 * np.count_nonzero(a != b)
    assert CODE.normalised(np.array([bits]))[0] == MAO.distance(a, b)


def test_the_code_is_the_even_weight_one() -> None:
    symbols = np.tile(np.array([0, 1, 2, 3], dtype=np.uint8), 180)
    expanded = CODE.expanded(stacked([MAO.encode(symbols)], 180))
    assert np.unpackbits(expanded[0])[:12].tolist() == [0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0]


def test_binary_fingerprints_are_searched_as_they_are() -> None:
    code = search_code_of(algorithm_named("pdq"))
    assert code == SearchCode(256, 2)
    assert (code.code_bytes, code.search_bytes) == (32, 32)


@given(st.sampled_from([720, 64, 256]), st.integers(0, 720), st.sampled_from([-1, 0, 1]))
def test_the_radius_never_disagrees_with_the_verdict(symbols: int, differing: int, nudge: int) -> None:
    differing = min(differing, symbols)
    threshold = differing / symbols
    if nudge:
        threshold = float(np.nextafter(threshold, nudge * np.inf))
    bits = SearchCode(symbols, 2).most_bits(threshold)
    assert bits == max((k for k in range(symbols + 1) if k / symbols <= threshold), default=-1)


@pytest.mark.parametrize("queries", [1, 3, 40])
def test_ties_fall_to_the_lowest_position_in_large_indexes(queries: int) -> None:
    # faiss splits work by rows, queries or blocks as it likes; the promise must hold on any of those paths.
    rng = np.random.default_rng(5)
    distinct = rng.integers(0, 256, (50, 180), dtype=np.uint8)
    order = rng.integers(0, 50, 60_000)
    index = FlatIndex(distinct[order], CODE)
    wanted = [int(np.flatnonzero(order == which)[0]) for which in range(queries)]
    threads = faiss.omp_get_max_threads()
    try:
        for count in (1, 4):
            faiss.omp_set_num_threads(count)
            nearest = index.nearest(distinct[:queries])
            assert nearest.positions.tolist() == wanted
            assert (nearest.distances == 0).all()
    finally:
        faiss.omp_set_num_threads(threads)


def test_many_queries_are_searched_in_batches() -> None:
    rng = np.random.default_rng(9)
    protected = rng.integers(0, 256, (20, 180), dtype=np.uint8)
    chosen = rng.integers(0, 20, 2500)
    pairs = FlatIndex(protected, CODE).within(protected[chosen], 0.0)
    assert pairs.queries.tolist() == list(range(2500))
    assert pairs.positions.tolist() == chosen.tolist()


def test_nothing_protected() -> None:
    index = FlatIndex(np.empty((0, 180), dtype=np.uint8), CODE)
    queries = np.zeros((2, 180), dtype=np.uint8)
    assert len(index) == 0
    assert len(index.within(queries, 1.0).queries) == 0
    with pytest.raises(ValueError, match="no protected"):
        index.nearest(queries)


@pytest.mark.parametrize("array", [np.zeros((2, 270), np.uint8), np.zeros(180, np.uint8), np.zeros((2, 180), np.int64)])
def test_other_arrays_are_refused(array: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="fingerprints are uint8"):
        FlatIndex(array, CODE)
    with pytest.raises(ValueError, match="fingerprints are uint8"):
        FlatIndex(np.zeros((1, 180), np.uint8), CODE).within(array, 0.5)
