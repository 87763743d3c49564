"""Rules that say how far a found picture is from each protected one, behind one small protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from copywatch.fingerprint import ALGORITHMS, Algorithm, Mao, identity
from copywatch.fingerprint.views import Kind, protected_views, sighting_views
from copywatch.matching.candidates import CandidateIndex, Images
from copywatch.matching.codes import search_code_of
from copywatch.matching.pair_distances import BLOCK, ScoreDistances

Described = Any
"""What a method keeps of several images; only the method itself looks inside."""

BEYOND = 1.0
"""The distance of a pair that a method does not compare: it is never found, nor the nearest."""

_QUERIES_A_SEARCH = 256


class Method(Protocol):
    """Images -> descriptions -> distances, whichever rule it is.

    Attributes:
        name: how tables call it, with its version.
        steps: distances are whole multiples of 1 / steps.
    """

    @property
    def name(self) -> str: ...

    @property
    def steps(self) -> int: ...

    def describe(self, images: Sequence[Image.Image]) -> Described:
        """What the method keeps of found images, RGB from `copywatch.decode`, in their order."""

    def describe_protected(self, images: Sequence[Image.Image]) -> Described:
        """What it keeps of protected images. They can stand for found ones too."""

    def chosen(self, described: Described, places: Sequence[int]) -> Described:
        """Of descriptions those at these places, in this order."""

    def distances(self, queries: Described, protected: Described) -> NDArray[np.float32]:
        """How far each query is from each protected image: float32 (queries, protected); smaller is more alike."""

    def pair_distances(self, different: Described) -> NDArray[np.float32]:
        """The distance of each pair of these protected images: float32 (N, N), symmetric.

        Where the distance depends on which of the two was found, a pair's is the lesser.
        """

    def threshold_at(self, rate: float, different: Described) -> float:
        """The largest Th such that at most the share `rate` of the pairs of these different images lies within it.

        Args:
            rate: in [0, 1).
            different: from `describe_protected`. A pair lies within Th when its distance is <= Th.
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

    @property
    def steps(self) -> int:
        """Symbols of a fingerprint."""
        return self._code.symbols

    def describe(self, images: Sequence[Image.Image]) -> NDArray[np.uint8]:
        """Search codes, uint8 (images, search_bytes)."""
        codes = [self.algorithm.encode(self.algorithm.fingerprint(image)) for image in images]
        packed = np.frombuffer(b"".join(codes), dtype=np.uint8).reshape(len(codes), self._code.code_bytes)
        return self._code.expanded(packed)

    def describe_protected(self, images: Sequence[Image.Image]) -> NDArray[np.uint8]:
        """The same: both sides are alike."""
        return self.describe(images)

    def chosen(self, described: NDArray[np.uint8], places: Sequence[int]) -> NDArray[np.uint8]:
        """Rows."""
        return described[np.asarray(places, dtype=np.int64)]

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

    def pair_distances(self, different: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 (N, N)."""
        return self.distances(different, different)

    def threshold_at(self, rate: float, different: NDArray[np.uint8]) -> float:
        """A whole number of symbols over all of them; -1 / symbols where even identical fingerprints are too many."""
        return threshold_of(self, rate, self.pair_distances(different))


class Rescored:
    """The product's rule: views, masks and the re-scored distance (`copywatch.matching.score`).

    `distances` are what the product finds: pairs that its first stage does not let through have the distance `BEYOND`,
    and those that it alerts without a person, because all symbols are the same, have 0. `pair_distances` are exact and
    of every pair, without a first stage, as the product calibrates.
    """

    name = f"{identity(Mao())} rescored"

    def __init__(self) -> None:
        self.steps = ScoreDistances([], []).steps

    def describe(self, images: Sequence[Image.Image]) -> Images:
        """As sightings: one view or two of 231 bytes each."""
        return Images([sighting_views(image) for image in images])

    def describe_protected(self, images: Sequence[Image.Image]) -> Images:
        """30 views or 31 each."""
        return Images([protected_views(image) for image in images])

    def chosen(self, described: Images, places: Sequence[int]) -> Images:
        """Their views."""
        views = _views_of_each(described)
        return Images([views[place] for place in places])

    def distances(self, queries: Images, protected: Images) -> NDArray[np.float32]:
        """float32 (queries, protected), in [0, 1]. Of queries only the views of a sighting count."""
        found = CandidateIndex(protected).within(_as_sightings(queries), BEYOND)
        distances = np.full((len(queries), len(protected)), BEYOND, dtype=np.float32)
        distances[found.sightings, found.protected] = np.where(found.identical, 0, found.scores)
        return distances

    def pair_distances(self, different: Images) -> NDArray[np.float32]:
        """float32 (N, N), in [0, 1]."""
        count = len(different)
        every = ScoreDistances(_views_of_each(different), [True] * count)
        distances = np.empty((count, count), dtype=np.float32)
        blocks = [range(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
        for place, rows in enumerate(blocks):
            for columns in blocks[place:]:
                block = every.between(rows, columns) / self.steps
                distances[rows.start : rows.stop, columns.start : columns.stop] = block
                distances[columns.start : columns.stop, rows.start : rows.stop] = block.T
        return distances

    def threshold_at(self, rate: float, different: Images) -> float:
        """A whole number of steps."""
        return threshold_of(self, rate, self.pair_distances(different))


def _views_of_each(images: Images) -> list[NDArray[np.void]]:
    return [images.views[images.starts[place] : images.starts[place + 1]] for place in range(len(images))]


def _as_sightings(images: Images) -> Images:
    return Images([views[np.isin(views["kind"], (Kind.UPRIGHT, Kind.UNFRAMED))] for views in _views_of_each(images)])


def threshold_of(method: Method, rate: float, pairs: NDArray[np.float32]) -> float:
    """`Method.threshold_at` for pair distances that are known, float32 (N, N): one step below the first beyond."""
    return (round(least_beyond(pair_values(pairs), rate) * method.steps) - 1) / method.steps


@dataclass(frozen=True)
class Limit:
    """A threshold by one method.

    Attributes:
        threshold: Th.
        reached: share of the pairs of all photos within it, whichever of them it was measured on.
    """

    threshold: float
    reached: float


def limit_of(
    method: Method, rate: float, pairs: NDArray[np.float32], measured_on: Sequence[int] | None = None
) -> Limit:
    """Th at a rate, and what it lets in.

    Args:
        method: whose.
        rate: in [0, 1).
        pairs: `Method.pair_distances` of all photos.
        measured_on: places of the photos that Th is measured on; by default all.
    """
    chosen = pairs if measured_on is None else pairs[np.ix_(measured_on, measured_on)]
    threshold = threshold_of(method, rate, chosen)
    return Limit(threshold, float((pair_values(pairs) <= threshold).mean()))


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
    """Each pair of different rows of a symmetric (N, N) matrix once; (N (N - 1) / 2,)."""
    return distances[np.triu_indices(len(distances), 1)]


def methods() -> dict[str, Method]:
    """Every method by the name under which `--method` takes it.

    The product's rule, and its algorithms by plain Hamming distance; beside them mao as its authors have it, f = 0.25.
    """
    plain = {name: PlainHamming(algorithm) for name, algorithm in ALGORITHMS.items()}
    return {"rescored": Rescored(), **plain, "mao-authors": PlainHamming(Mao(inner_share=0.25))}
