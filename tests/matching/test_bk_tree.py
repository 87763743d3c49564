"""The BK-tree against the flat scan, which is tested against the paper, and against Burkhard and Keller's insertion."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from copywatch.fingerprint import ALGORITHMS, Algorithm, fingerprint_of, identity
from copywatch.matching import FlatIndex, SearchCode, search_code_of
from copywatch.matching.bk_tree import BkTree
from copywatch.settings import PROJECT_DIR

PHOTOS = sorted((PROJECT_DIR / "include" / "copywatch" / "demo" / "photos").glob("*.jpg"))


def encoded(algorithm: Algorithm, symbols: NDArray[np.uint8]) -> NDArray[np.uint8]:
    codes = b"".join(algorithm.encode(row) for row in symbols)
    return np.frombuffer(codes, dtype=np.uint8).reshape(-1, algorithm.code_bytes)


def random_codes(rng: np.random.Generator, count: int, algorithm: Algorithm) -> NDArray[np.uint8]:
    return encoded(algorithm, rng.integers(0, algorithm.levels, (count, algorithm.symbols), dtype=np.uint8))


def clustered_codes(rng: np.random.Generator, count: int, algorithm: Algorithm) -> NDArray[np.uint8]:
    """A few centres and what is 0, 1, 2 or more symbols off them: equal ones and equal distances abound."""
    centres = rng.integers(0, algorithm.levels, (3, algorithm.symbols), dtype=np.uint8)
    symbols = centres[rng.integers(0, 3, count)]
    for row in symbols:
        changed = rng.integers(0, algorithm.symbols, rng.choice([0, 1, 2, 5, algorithm.symbols // 4]))
        row[changed] = rng.integers(0, algorithm.levels, len(changed), dtype=np.uint8)
    return encoded(algorithm, symbols)


def few_symbols(rng: np.random.Generator, count: int, algorithm: Algorithm) -> NDArray[np.uint8]:
    """All zeros but one symbol: all at the distance 2 from each other, or 1, or equal."""
    symbols = np.zeros((count, algorithm.symbols), dtype=np.uint8)
    symbols[np.arange(count), rng.integers(0, algorithm.symbols, count)] = algorithm.levels - 1
    return encoded(algorithm, symbols)


def assert_same(tree: BkTree, flat: FlatIndex, queries: NDArray[np.uint8], thresholds: list[float]) -> None:
    assert len(tree) == len(flat)
    mine, theirs = tree.nearest(queries), flat.nearest(queries)
    np.testing.assert_array_equal(mine.positions, theirs.positions, strict=True)
    np.testing.assert_array_equal(mine.distances, theirs.distances, strict=True)
    for threshold in thresholds:
        some, same = tree.within(queries, threshold), flat.within(queries, threshold)
        np.testing.assert_array_equal(some.queries, same.queries, strict=True)
        np.testing.assert_array_equal(some.positions, same.positions, strict=True)
        np.testing.assert_array_equal(some.distances, same.distances, strict=True)


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=identity)
@pytest.mark.parametrize("made", [random_codes, clustered_codes, few_symbols])
@given(
    seed=st.integers(0, 2**32 - 1),
    protected=st.integers(1, 120),
    detected=st.integers(0, 70),
    threshold=st.one_of(st.floats(0, 1), st.sampled_from([-0.1, 0.0, 0.01, 0.1, 0.47, 1.0])),
)
@settings(max_examples=15, deadline=None)
@example(seed=0, protected=1, detected=1, threshold=1.0)
def test_answers_as_the_flat_scan_does(
    algorithm: Algorithm, made: Any, seed: int, protected: int, detected: int, threshold: float
) -> None:
    rng = np.random.default_rng(seed)
    codes = made(rng, protected + detected, algorithm)
    code = search_code_of(algorithm)
    tree, flat = BkTree(codes[:protected], code), FlatIndex(codes[:protected], code)
    assert_same(tree, flat, codes[protected:], [threshold])
    assert_same(tree, flat, codes[:protected], [algorithm.threshold])


@pytest.mark.parametrize("name", ["mao", "chamoso", "pdq"])
def test_answers_as_the_flat_scan_does_on_photos(name: str) -> None:
    algorithm = ALGORITHMS[name]
    codes = np.frombuffer(b"".join(fingerprint_of(path.read_bytes(), name) for path in PHOTOS), dtype=np.uint8)
    codes = codes.reshape(-1, algorithm.code_bytes)
    rng = np.random.default_rng(3)
    # Copies as edits leave them: some symbols of the photo's changed.
    symbols = np.repeat([algorithm.decode(code.tobytes()) for code in codes], 20, axis=0)
    changed = rng.random(symbols.shape) < rng.choice([0, 0.01, 0.05, 0.2], (len(symbols), 1))
    symbols[changed] = rng.integers(0, algorithm.levels, np.count_nonzero(changed), dtype=np.uint8)
    protected = np.concatenate([codes, encoded(algorithm, symbols)])
    code = search_code_of(algorithm)
    thresholds = [0.0, 0.01, 0.1, algorithm.threshold, 0.6]
    assert_same(BkTree(protected, code), FlatIndex(protected, code), protected[::3], thresholds)


def test_many_pairs_are_taken_in_turns() -> None:
    # More pairs wait than are compared at once.
    algorithm = ALGORITHMS["dhash"]
    rng = np.random.default_rng(8)
    protected, queries = random_codes(rng, 4000, algorithm), random_codes(rng, 70, algorithm)
    code = search_code_of(algorithm)
    assert_same(BkTree(protected, code), FlatIndex(protected, code), queries, [0.25, 0.4])


class Inserted:
    """Burkhard and Keller's tree, one fingerprint at a time: which comparisons a search makes."""

    def __init__(self, symbols: NDArray[np.uint8]) -> None:
        self.symbols = symbols
        self.children: list[dict[int, int]] = [{}]
        self.items = [0]
        for item in range(1, len(symbols)):
            node = 0
            while True:
                distance = int(np.count_nonzero(symbols[item] != symbols[self.items[node]]))
                if distance == 0:
                    break
                if distance not in self.children[node]:
                    self.children[node][distance] = len(self.items)
                    self.children.append({})
                    self.items.append(item)
                    break
                node = self.children[node][distance]

    def comparisons(self, query: NDArray[np.uint8], radius: int) -> int:
        visited, waiting = 0, [0]
        while waiting:
            node = waiting.pop()
            visited += 1
            distance = int(np.count_nonzero(query != self.symbols[self.items[node]]))
            waiting += [
                child for edge, child in self.children[node].items() if distance - radius <= edge <= distance + radius
            ]
        return visited


@pytest.mark.parametrize("made", [random_codes, clustered_codes, few_symbols])
@pytest.mark.parametrize("radius", [0, 1, 6, 30])
def test_it_is_the_tree_that_insertion_gives(made: Any, radius: int) -> None:
    algorithm = ALGORITHMS["dhash"]
    codes = made(np.random.default_rng(radius), 330, algorithm)
    symbols = np.stack([algorithm.decode(code.tobytes()) for code in codes])
    inserted = Inserted(symbols[:300])
    tree = BkTree(codes[:300], search_code_of(algorithm))
    assert tree.nodes == len(inserted.items)
    for query in range(290, 330):
        before = tree.comparisons
        tree.within(codes[query : query + 1], radius / 64)
        assert tree.comparisons - before == inserted.comparisons(symbols[query], radius)


def test_a_search_leaves_most_of_the_tree_alone_where_it_can() -> None:
    algorithm = ALGORITHMS["chamoso"]
    codes = clustered_codes(np.random.default_rng(6), 3000, algorithm)
    tree = BkTree(codes, search_code_of(algorithm))
    tree.within(codes[:10], 0.01)
    assert 10 <= tree.comparisons < 0.5 * 10 * tree.nodes


def test_a_copy_is_found_without_comparing_all() -> None:
    algorithm = ALGORITHMS["mao"]
    codes = random_codes(np.random.default_rng(7), 3000, algorithm)
    tree = BkTree(codes, search_code_of(algorithm))
    assert tree.nearest(codes[100:120]).positions.tolist() == list(range(100, 120))
    assert tree.comparisons < 0.5 * 20 * tree.nodes


def test_equal_fingerprints_share_a_node() -> None:
    algorithm = ALGORITHMS["mao"]
    codes = random_codes(np.random.default_rng(5), 4, algorithm)
    order = np.array([2, 0, 0, 1, 2, 3, 0])
    tree = BkTree(codes[order], search_code_of(algorithm))
    assert (len(tree), tree.nodes) == (7, 4)
    assert tree.nearest(codes).positions.tolist() == [1, 3, 0, 5]
    pairs = tree.within(codes[:1], 0.0)
    assert pairs.positions.tolist() == [1, 2, 6]
    wide = BkTree(codes, search_code_of(algorithm)).nbytes
    assert wide >= 4 * 270
    assert wide < tree.nbytes < wide + 100


def test_a_tree_as_deep_as_it_is_large() -> None:
    # Fingerprints with the distance 2 from each other make a chain; a recursive tree would overflow the stack.
    code = SearchCode(4096, 2)
    codes = np.packbits(np.eye(4096, dtype=np.uint8)[:3000], axis=1)
    tree = BkTree(codes, code)
    assert tree.nearest(codes[[2999, 0, 1500]]).positions.tolist() == [2999, 0, 1500]
    assert tree.within(codes[2999:], 1 / 4096).positions.tolist() == [2999]
    assert len(tree.within(codes[2999:], 2 / 4096).positions) == 3000


def test_nothing_protected() -> None:
    code = search_code_of(ALGORITHMS["mao"])
    tree = BkTree(np.empty((0, 180), dtype=np.uint8), code)
    queries = np.zeros((2, 180), dtype=np.uint8)
    assert (len(tree), tree.nodes) == (0, 0)
    assert len(tree.within(queries, 1.0).queries) == 0
    with pytest.raises(ValueError, match="no protected"):
        tree.nearest(queries)


@pytest.mark.parametrize("array", [np.zeros((2, 270), np.uint8), np.zeros(180, np.uint8), np.zeros((2, 180), np.int64)])
def test_other_arrays_are_refused(array: NDArray[np.uint8]) -> None:
    code = search_code_of(ALGORITHMS["mao"])
    with pytest.raises(ValueError, match="fingerprints are uint8"):
        BkTree(array, code)
    tree = BkTree(np.zeros((1, 180), np.uint8), code)
    with pytest.raises(ValueError, match="fingerprints are uint8"):
        tree.within(array, 0.5)
    with pytest.raises(ValueError, match="fingerprints are uint8"):
        tree.nearest(array)
