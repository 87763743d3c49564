"""The BK-tree that Chamoso et al. search with, as an index that answers as `FlatIndex` does.

W. A. Burkhard and R. M. Keller, "Some approaches to best-match file searching", CACM 16(4), 1973 (Chamoso et al.,
section "Database virtual organization"). A node holds a fingerprint, and its children hold those at each distance from
it. By the triangle inequality, what lies within r of a query at distance d from the node lies below the children d - r
to d + r.

The tree is the one that inserting the fingerprints in their order gives, but it is laid out in arrays, level by level,
and many (query, node) pairs are compared at once. pybktree, the library for it, has had no release since 2017, keeps a
tuple and a dict for every node, and compares one pair at a time. Nothing here recurses: fingerprints that all have one
distance from each other make a tree as deep as there are fingerprints.

`benchmarks/index_cost.py` measures it beside the flat scan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from copywatch.matching.codes import SearchCode
from copywatch.matching.index import Nearest, Pairs

_PAIRS_AT_ONCE = 1 << 15
"""Pairs whose codes are gathered at once: some megabytes, which stay in the cache."""

_QUERIES_A_BATCH = 64
"""Bounds the pairs that wait for their turn."""

_WORD_BYTES = 8


@dataclass(frozen=True)
class _Tree:
    """Nodes in the order of their levels, siblings together and by their distance from the parent.

    Attributes:
        words: search codes in 64-bit words, zeros behind them, uint64 (nodes, words).
        keys: parent * (symbols + 1) + distance from it, for the nodes 1, 2, ...: ascending, int64 (nodes - 1,).
        offsets: where each node's positions begin and end among `positions`, int64 (nodes + 1,).
        positions: rows of the protected array, ascending within a node, int64 (fingerprints,).
    """

    words: NDArray[np.uint64]
    keys: NDArray[np.int64]
    offsets: NDArray[np.int64]
    positions: NDArray[np.int64]


class BkTree:
    """Protected fingerprints of one algorithm and version, in memory. Equal ones share a node.

    Attributes:
        comparisons: how many distances the searches have computed so far.
    """

    def __init__(self, protected: NDArray[np.uint8], code: SearchCode) -> None:
        """Take encoded fingerprints, uint8 (N, code.code_bytes); N may be 0.

        Raises:
            ValueError: the array has another shape or dtype.
        """
        self._code = code
        self._span = code.symbols + 1
        self._tree = self._built(code.expanded(protected))
        self.comparisons = 0

    def __len__(self) -> int:
        return len(self._tree.positions)

    @property
    def nodes(self) -> int:
        """Different fingerprints."""
        return len(self._tree.words)

    @property
    def nbytes(self) -> int:
        """Memory that the tree takes, in bytes."""
        tree = self._tree
        return tree.words.nbytes + tree.keys.nbytes + tree.offsets.nbytes + tree.positions.nbytes

    def nearest(self, queries: NDArray[np.uint8]) -> Nearest:
        """For each query (M, code_bytes) the nearest protected fingerprint, the lowest position among equals.

        Raises:
            ValueError: the array has another shape or dtype, or nothing is protected.
        """
        if not len(self):
            raise ValueError("no protected fingerprints: there is no nearest one")
        words = _words(self._code.expanded(queries))
        batches = [
            self._nearest(words[start : start + _QUERIES_A_BATCH]) for start in range(0, len(words), _QUERIES_A_BATCH)
        ]
        best = np.concatenate([np.empty(0, dtype=np.int64), *batches])
        return Nearest(best % len(self), self._normalised(best // len(self)))

    def within(self, queries: NDArray[np.uint8], threshold: float) -> Pairs:
        """All pairs of a query (M, code_bytes) with a protected fingerprint at a distance <= `threshold`.

        Raises:
            ValueError: the array has another shape or dtype.
        """
        words = _words(self._code.expanded(queries))
        most_bits = self._code.most_bits(threshold)
        nothing = np.empty(0, dtype=np.int64)
        found = [(nothing, nothing, nothing)]
        if len(self) and most_bits >= 0:
            radius = most_bits // self._code.bits_per_difference
            for start in range(0, len(words), _QUERIES_A_BATCH):
                rows, positions, distances = self._within(words[start : start + _QUERIES_A_BATCH], radius)
                order = np.lexsort((positions, distances, rows))
                found.append((rows[order] + start, positions[order], distances[order]))
        rows, positions, distances = (np.concatenate(column) for column in zip(*found, strict=True))
        return Pairs(rows, positions, self._normalised(distances))

    def _built(self, codes: NDArray[np.uint8]) -> _Tree:
        """Insert all codes at once: on each level the first that comes to a free place takes it, the others go on."""
        _, firsts, groups = np.unique(codes, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(firsts)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        words = _words(codes[firsts[order]])

        node_items = [np.zeros(min(1, len(words)), dtype=np.int64)]
        keys = [np.empty(0, dtype=np.int64)]
        items = np.arange(1, len(words), dtype=np.int64)
        at, at_items, nodes = np.zeros_like(items), np.zeros_like(items), 1
        while items.size:
            distances = self._distances(words, items, words, at_items)
            # `items` ascend, and the first index is of the first of each key.
            new, first, which = np.unique(at * self._span + distances, return_index=True, return_inverse=True)
            node_items.append(items[first])
            keys.append(new)
            below = np.ones(len(items), dtype=bool)
            below[first] = False
            at, at_items = (nodes + which)[below], items[first][which][below]
            items, nodes = items[below], nodes + len(new)

        item_of_node = np.concatenate(node_items)
        node_of_item = np.empty_like(item_of_node)
        node_of_item[item_of_node] = np.arange(len(item_of_node))
        node_of_row = node_of_item[rank[groups.reshape(-1)]]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(node_of_row, minlength=len(words)))]).astype(np.int64)
        positions = np.argsort(node_of_row, kind="stable").astype(np.int64)
        return _Tree(words[item_of_node], np.concatenate(keys), offsets, positions)

    def _nearest(self, queries: NDArray[np.uint64]) -> NDArray[np.int64]:
        """For each query distance * N + position of the nearest, int64."""
        tree, count = self._tree, len(self)
        best = self._bounds(queries) * count + count - 1
        waiting = _Waiting(len(queries))
        while waiting:
            rows, nodes, least = waiting.taken()
            live = least <= best[rows] // count
            rows, nodes = rows[live], nodes[live]
            distances = self._distances(queries, rows, tree.words, nodes)
            self.comparisons += len(rows)
            np.minimum.at(best, rows, distances * count + tree.positions[tree.offsets[nodes]])
            # Equal distances too: a lower position may lie there.
            waiting.add(*self._children(rows, nodes, distances, best[rows] // count))
        return best

    def _bounds(self, queries: NDArray[np.uint64]) -> NDArray[np.int64]:
        """For each query a distance at which there is a fingerprint: the least on one way from the root to a leaf."""
        rows = np.arange(len(queries), dtype=np.int64)
        nodes = np.zeros_like(rows)
        least = np.full(len(queries), self._code.symbols, dtype=np.int64)
        while rows.size:
            distances = self._distances(queries, rows, self._tree.words, nodes)
            self.comparisons += len(rows)
            least[rows] = np.minimum(least[rows], distances)
            rows, nodes = self._likeliest_children(rows, nodes, distances)
        return least

    def _likeliest_children(
        self, rows: NDArray[np.int64], nodes: NDArray[np.int64], distances: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of each pair that has any, the child whose distance from the node is closest to the query's."""
        keys = self._tree.keys
        if not keys.size:
            return rows[:0], nodes[:0]
        wanted = nodes * self._span + distances
        after = np.searchsorted(keys, wanted)
        candidates = np.stack([np.maximum(after - 1, 0), np.minimum(after, len(keys) - 1)])
        gaps = np.where(keys[candidates] // self._span == nodes, np.abs(keys[candidates] - wanted), self._span)
        nearer = np.argmin(gaps, axis=0)
        pairs = np.arange(len(rows))
        has = gaps[nearer, pairs] < self._span
        return rows[has], candidates[nearer, pairs][has] + 1

    def _within(
        self, queries: NDArray[np.uint64], radius: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Rows of `queries`, positions and distances of all pairs up to `radius` symbols, in no order, int64 each."""
        tree = self._tree
        found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
        waiting = _Waiting(len(queries))
        while waiting:
            rows, nodes, _ = waiting.taken()
            distances = self._distances(queries, rows, tree.words, nodes)
            self.comparisons += len(rows)
            hit = distances <= radius
            found.append((rows[hit], nodes[hit], distances[hit]))
            waiting.add(*self._children(rows, nodes, distances, np.full(len(rows), radius, dtype=np.int64)))
        rows, nodes, distances = (np.concatenate(column) for column in zip(*found, strict=True))
        which, places = _spread(tree.offsets[nodes], tree.offsets[nodes + 1])
        return rows[which], tree.positions[places], distances[which]

    def _children(
        self,
        rows: NDArray[np.int64],
        nodes: NDArray[np.int64],
        distances: NDArray[np.int64],
        radii: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Pairs of a row and a child below which something may be within its radius, and the least it can be off."""
        parents = nodes * self._span
        lowest = np.searchsorted(self._tree.keys, parents + np.maximum(distances - radii, 0), side="left")
        highest = np.searchsorted(
            self._tree.keys, parents + np.minimum(distances + radii, self._code.symbols), side="right"
        )
        which, places = _spread(lowest, highest)
        least = np.abs(self._tree.keys[places] - (parents + distances)[which])
        return rows[which], places + 1, least

    def _distances(
        self,
        left: NDArray[np.uint64],
        left_rows: NDArray[np.int64],
        right: NDArray[np.uint64],
        right_rows: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Symbols in which `left[left_rows]` and `right[right_rows]` differ, pair by pair, int64."""
        bits = np.empty(len(left_rows), dtype=np.int64)
        for start in range(0, len(bits), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            differing = np.bitwise_count(left[left_rows[part]] ^ right[right_rows[part]])
            bits[part] = differing.sum(axis=1, dtype=np.int64)
        return bits // self._code.bits_per_difference

    def _normalised(self, distances: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._code.normalised(distances * self._code.bits_per_difference)


class _Waiting:
    """Pairs (row of the queries, node) to be compared, with the least distance possible below; last in, first out."""

    def __init__(self, queries: int) -> None:
        """Every query begins at the root."""
        roots = np.zeros(queries, dtype=np.int64)
        self._blocks = [(np.arange(queries, dtype=np.int64), roots, roots)]

    def __len__(self) -> int:
        return len(self._blocks)

    def add(self, rows: NDArray[np.int64], nodes: NDArray[np.int64], least: NDArray[np.int64]) -> None:
        if not rows.size:
            return
        # The likeliest last, so that they come first, and narrow what the others have to look at.
        order = np.argsort(-least, kind="stable")
        self._blocks.append((rows[order], nodes[order], least[order]))

    def taken(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        rows, nodes, least = self._blocks.pop()
        if len(rows) > _PAIRS_AT_ONCE:
            self._blocks.append((rows[:-_PAIRS_AT_ONCE], nodes[:-_PAIRS_AT_ONCE], least[:-_PAIRS_AT_ONCE]))
        return rows[-_PAIRS_AT_ONCE:], nodes[-_PAIRS_AT_ONCE:], least[-_PAIRS_AT_ONCE:]


def _words(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Search codes (N, bytes) as 64-bit words, zeros behind them; uint64 (N, words)."""
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % _WORD_BYTES)))
    return np.ascontiguousarray(padded).view(np.uint64)


def _spread(begins: NDArray[np.int64], ends: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All members of the ranges `begins` to `ends`, and of which range each is; int64 (members,) both."""
    counts = ends - begins
    which = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    before = np.cumsum(counts) - counts
    return which, np.arange(len(which), dtype=np.int64) - before[which] + begins[which]
