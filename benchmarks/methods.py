"""Rules that say how far a found picture is from each protected one, behind one small protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from copywatch.fingerprint import ALGORITHMS, Algorithm, Mao, identity
from copywatch.matching.codes import search_code_of

Described = Any
"""What a method keeps of several images; only the method itself looks inside."""

_QUERIES_A_SEARCH = 256


class Method(Protocol):
    """Images -> descriptions -> distances, whichever rule it is.

    Attributes:
        name: how tables call it, with its version.
    """

    @property
    def name(self) -> str: ...

    def describe(self, images: Sequence[Image.Image]) -> Described:
        """What the method keeps of these images, RGB from `copywatch.decode`, in their order."""

    def distances(self, queries: Described, protected: Described) -> NDArray[np.float32]:
        """How far each query is from each protected image: float32 (queries, protected); smaller is more alike."""

    def threshold_at(self, rate: float, different: Described) -> float:
        """The largest Th such that at most the share `rate` of the pairs of these different images lies within it.

        A pair lies within Th when its distance is <= Th. Where the distance is not symmetric, a pair's is the lesser.
        """


class PlainHamming:
    """Share of symbols that differ (SRPITP, Formula 1) between fingerprints of one algorithm."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self._code = search_code_of(algorithm)

    @property
    def name(self) -> str:
        """The algorithm and its version, "mao/1"."""
        return identity(self.algorithm)

    def describe(self, images: Sequence[Image.Image]) -> NDArray[np.uint8]:
        """Search codes, uint8 (images, search_bytes)."""
        codes = [self.algorithm.encode(self.algorithm.fingerprint(image)) for image in images]
        packed = np.frombuffer(b"".join(codes), dtype=np.uint8).reshape(len(codes), self._code.code_bytes)
        return self._code.expanded(packed)

    def distances(self, queries: NDArray[np.uint8], protected: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 (queries, protected), in [0, 1]."""
        width = self._code.search_bytes * 8
        index = faiss.IndexBinaryFlat(width)
        index.add(protected)
        found = np.empty((len(queries), len(protected)), dtype=np.float32)
        for start in range(0, len(queries), _QUERIES_A_SEARCH):
            batch = queries[start : start + _QUERIES_A_SEARCH]
            # A radius that nothing exceeds: faiss then returns every pair, in no order.
            limits, bits, positions = index.range_search(np.ascontiguousarray(batch), width + 1)
            rows = np.repeat(np.arange(start, start + len(batch)), np.diff(limits.astype(np.int64)))
            found[rows, positions] = self._code.normalised(bits.astype(np.int64))
        return found

    def threshold_at(self, rate: float, different: NDArray[np.uint8]) -> float:
        """A whole number of symbols over all of them; -1 / symbols where even identical fingerprints are too many."""
        first_beyond = least_beyond(pair_values(self.distances(different, different)), rate)
        return (round(first_beyond * self._code.symbols) - 1) / self._code.symbols


def least_beyond(values: NDArray[np.float32], rate: float) -> float:
    """The least distance that is not let in when at most the share `rate` of the pairs is: Th lies just below it.

    Args:
        values: (P,), the distance of each pair of different images.
        rate: in [0, 1).

    Raises:
        ValueError: no pair.
    """
    if not len(values):
        raise ValueError("a threshold is measured on pairs: two images at least")
    let_in = int(rate * len(values))
    return float(np.partition(values, let_in)[let_in])


def pair_values(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """The lesser distance of each pair of different rows of an (N, N) matrix; (N (N - 1) / 2,)."""
    rows, columns = np.triu_indices(len(distances), 1)
    return np.minimum(distances[rows, columns], distances[columns, rows])


def methods() -> dict[str, Method]:
    """Every method by the name under which `--method` takes it.

    Beside the product's algorithms there is mao as its authors have it, with f = 0.25.
    """
    plain = {name: PlainHamming(algorithm) for name, algorithm in ALGORITHMS.items()}
    return {**plain, "mao-authors": PlainHamming(Mao(inner_share=0.25))}
