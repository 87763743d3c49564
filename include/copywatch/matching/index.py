"""Exact search of protected fingerprints: SRPITP's Algorithm 2, steps 3 to 7, for many detected images at once.

faiss compares every pair, as the paper's loop does, some hundred million a second on a core. It uses as many threads
as OMP_NUM_THREADS says.
"""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from copywatch.matching.codes import SearchCode

_QUERIES_A_BATCH = 1024
"""Bounds what a range search holds at once, and keeps the batch's codes in the cache."""


@dataclass(frozen=True)
class Nearest:
    """The nearest protected fingerprint of each query.

    Attributes:
        positions: int64 (M,), rows of the protected array; the lowest of those at the same distance.
        distances: float64 (M,), normalised, in [0, 1].
    """

    positions: NDArray[np.int64]
    distances: NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Pairs of a query and a protected fingerprint, by query, then distance, then position.

    Attributes:
        queries: int64 (P,), rows of the queries.
        positions: int64 (P,), rows of the protected array.
        distances: float64 (P,), normalised, in [0, 1].
    """

    queries: NDArray[np.int64]
    positions: NDArray[np.int64]
    distances: NDArray[np.float64]


class FlatIndex:
    """Protected fingerprints of one algorithm and version, in memory: 270 bytes each for mao."""

    def __init__(self, protected: NDArray[np.uint8], code: SearchCode) -> None:
        """Take encoded fingerprints, uint8 (N, code.code_bytes); N may be 0.

        Raises:
            ValueError: the array has another shape or dtype.
        """
        self._code = code
        self._index = faiss.IndexBinaryFlat(code.search_bytes * 8)
        self._index.add(code.expanded(protected))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def nearest(self, queries: NDArray[np.uint8]) -> Nearest:
        """For each query (M, code_bytes) the nearest protected fingerprint, the lowest position among equals.

        Raises:
            ValueError: the array has another shape or dtype, or nothing is protected.
        """
        if not len(self):
            raise ValueError("no protected fingerprints: there is no nearest one")
        expanded = self._code.expanded(queries)
        if not len(expanded):
            return Nearest(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64))
        # With k = 1 faiss walks the rows in order and replaces only by a smaller distance, so ties fall to the first;
        # tests/matching pins that.
        bits, positions = self._index.search(expanded, 1)
        return Nearest(positions[:, 0].astype(np.int64), self._code.normalised(bits[:, 0]))

    def within(self, queries: NDArray[np.uint8], threshold: float) -> Pairs:
        """All pairs of a query (M, code_bytes) with a protected fingerprint at a distance <= `threshold`.

        Raises:
            ValueError: the array has another shape or dtype.
        """
        expanded = self._code.expanded(queries)
        most_bits = self._code.most_bits(threshold)
        found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
        if len(self) and most_bits >= 0:
            for start in range(0, len(expanded), _QUERIES_A_BATCH):
                # faiss takes an exclusive radius.
                limits, bits, positions = self._index.range_search(
                    expanded[start : start + _QUERIES_A_BATCH], most_bits + 1
                )
                counts = np.diff(limits.astype(np.int64))
                rows = np.repeat(np.arange(start, start + len(counts), dtype=np.int64), counts)
                order = np.lexsort((positions, bits, rows))
                found.append((rows[order], positions[order].astype(np.int64), bits[order].astype(np.int64)))
        if not found:
            nothing = np.empty(0, dtype=np.int64)
            return Pairs(nothing, nothing, np.empty(0, dtype=np.float64))
        rows, positions, bits = (np.concatenate(column) for column in zip(*found, strict=True))
        return Pairs(rows, positions, self._code.normalised(bits))
