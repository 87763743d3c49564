"""The nearest codes of a picture's points to the protected pictures that it may show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 10
"""Codes to look up for each point."""
MOST_CANDIDATES = 20
LEAST_VOTES = 8.0
"""Fewer are chance."""
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
    found: dict[int, Candidate] = {}
    for hits, hand in ((upright, False), (mirrored, True)):
        for image, weight in zip(*votes(hits), strict=True):
            if weight >= least and (image not in found or weight > found[image].votes):
                found[image] = Candidate(image, weight, hand)
    return sorted(found.values(), key=lambda one: (-one.votes, one.image))[:most]


def votes(hits: Hits) -> tuple[list[int], list[float]]:
    """Each picture that was hit, in ascending order, and the sum of its weights.

    A hit weighs 1 - d / d', with d' the distance of its point's farthest hit, but at least `LEAST_REFERENCE`: what is
    no nearer than the others is chance (after Jegou, Douze and Schmid, "Exploiting descriptor distances for precise
    image search", INRIA RR-7656, 2011). A point has one vote for a picture, that of its best hit.
    """
    rows, columns = np.nonzero(hits.images >= 0)
    images, place = np.unique(hits.images[rows, columns], return_inverse=True)
    distance = hits.distances[rows, columns].astype(np.float64)
    reference = np.full(len(hits.images), float(LEAST_REFERENCE))
    np.maximum.at(reference, rows, distance)
    weight = 1 - distance / reference[rows]
    pair = rows * len(images) + place
    best_first = np.lexsort((-weight, pair))
    best = best_first[np.unique(pair[best_first], return_index=True)[1]]
    sums = np.bincount(place[best], weights=weight[best], minlength=len(images))
    return [int(image) for image in images], [float(total) for total in sums]
