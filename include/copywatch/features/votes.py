"""The nearest codes of a picture's points to the protected pictures that it may show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 10
"""Codes to look up for each point."""
MOST_CANDIDATES = 20
LEAST_VOTES = 8.0
"""Fewer are chance."""
LEAST_POINTS = 50
"""A protected picture with fewer is not promised to be found by its points: even of a whole copy not all points are
found again, and their weights are below one."""
LEAST_REFERENCE = 8
"""Bits. A point's farthest neighbour tells how near chance comes. Where all its neighbours are copies of one another it
tells nothing, and would take their votes from all of them; so it counts as no nearer than this. From 12 on, points that
many pictures share (straight edges, corners of letters) get votes: measured, screenshots are found worse."""


@dataclass(frozen=True)
class Hits:
    """The nearest codes of each of a picture's points.

    Attributes:
        images: integers (N, k), the protected picture each belongs to, >= 0; -1 where there were fewer than k.
        distances: integers (N, k), bits that differ; of no meaning where `images` is -1.

    Raises:
        ValueError: the two have different shapes or are no tables.
    """

    images: NDArray[np.integer]
    distances: NDArray[np.integer]

    def __post_init__(self) -> None:
        if self.images.ndim != 2 or self.images.shape != self.distances.shape:
            raise ValueError(f"hits must be two tables (N, k), not {self.images.shape} and {self.distances.shape}")


@dataclass(frozen=True)
class Candidate:
    """A protected picture that a detected one may show.

    Attributes:
        image: as in `Hits`.
        votes: sum of the weights of the points that found it, up to their number.
        mirrored: it was found by the detected picture's mirror image.
    """

    image: int
    votes: float
    mirrored: bool


def candidates(
    upright: Hits, mirrored: Hits, *, least: float = LEAST_VOTES, most: int = MOST_CANDIDATES
) -> list[Candidate]:
    """Protected pictures by votes, most first, equal ones by their number; each once, by the hand that has more votes.

    Args:
        upright: hits of the detected picture's points.
        mirrored: hits of its mirror image's points.
        least: votes below which a picture is left out.
        most: how many at most.
    """
    return best_of_both(votes(upright), votes(mirrored), least=least, most=most)


def best_of_both(
    upright: tuple[Iterable[int], Iterable[float]],
    mirrored: tuple[Iterable[int], Iterable[float]],
    *,
    least: float = LEAST_VOTES,
    most: int = MOST_CANDIDATES,
) -> list[Candidate]:
    """`candidates`, of each hand's protected pictures and their votes."""
    found: dict[int, Candidate] = {}
    for counted, hand in ((upright, False), (mirrored, True)):
        for image, weight in zip(*counted, strict=True):
            if weight >= least and (image not in found or weight > found[image].votes):
                found[image] = Candidate(image, weight, hand)
    return sorted(found.values(), key=lambda one: (-one.votes, one.image))[:most]


def votes(hits: Hits) -> tuple[list[int], list[float]]:
    """Each picture that was hit, in ascending order, and the sum of its weights: `summed`."""
    rows, columns = np.nonzero(hits.images >= 0)
    distances = hits.distances[rows, columns]
    farthest = np.zeros(len(hits.images), dtype=np.int64)
    np.maximum.at(farthest, rows, distances)
    found = hits.images[rows, columns]
    _, images, sums = summed(rows, found, distances, farthest, np.zeros(len(hits.images), dtype=np.int64))
    return images.tolist(), sums.tolist()


def summed(
    points: NDArray[np.integer],
    images: NDArray[np.integer],
    distances: NDArray[np.integer],
    farthest: NDArray[np.integer],
    side: NDArray[np.integer],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Votes of the points of many pictures at once, each counted on its own side.

    A hit weighs 1 - d / d', with d' the distance of its point's farthest hit, but at least `LEAST_REFERENCE`: what is
    no nearer than the others is chance (after Jegou, Douze and Schmid, "Exploiting descriptor distances for precise
    image search", INRIA RR-7656, 2011). A point has one vote for a protected picture, that of its best hit.

    Args:
        points: of each hit (H,), the point, a row of `farthest` and `side`.
        images: (H,), the protected picture it belongs to, >= 0.
        distances: (H,), bits that differ.
        farthest: of each point (N,), d' in bits.
        side: of each point (N,), which picture and hand it is of, >= 0.

    Returns:
        side, image, sum of weights of each that has a hit: three arrays, by side and image.
    """
    if not len(points):
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing, np.empty(0)
    weights = 1 - distances / np.maximum(farthest, LEAST_REFERENCE)[points]
    most = int(images.max()) + 1
    best_first = np.lexsort((-weights, images, points))
    pairs = points[best_first].astype(np.int64) * most + images[best_first]
    best = best_first[np.flatnonzero(np.diff(pairs, prepend=-1))]
    counted, place = np.unique(side[points[best]].astype(np.int64) * most + images[best], return_inverse=True)
    sums = np.bincount(place, weights=weights[best]).astype(np.float64)
    return counted // most, counted % most, sums
