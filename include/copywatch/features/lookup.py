"""Which protected images may a detected one show? All shards searched, their hits merged, votes counted.

The coarse search, of the lists that are nearest to a code, is made once for all shards. Of each shard only what can
change the votes is kept: the distances of a point's nearest codes, since the tenth nearest of all shards is what hits
are weighed by, and the hits of images that have as many as make a candidate. An image lies in one shard, and a hit
weighs at most one, so nothing is lost: merged hits have the votes of one search in all shards together. Where more than
ten codes are equally near, which of a shard's are counted is chance; beyond `votes.LEAST_REFERENCE` bits they weigh
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from copywatch.features.centroids import centroids, quantiser
from copywatch.features.extract import DetectedPoints
from copywatch.features.manifest import Manifest, read_manifest
from copywatch.features.points import CODE_BYTES
from copywatch.features.shards import Shard
from copywatch.features.votes import LEAST_VOTES, MOST_CANDIDATES, NEIGHBOURS, best_of_both, summed

PROBES = 4
"""Lists that a code is looked up in: docs/results/search_cost.md."""
PICTURES_AT_ONCE = 100
"""Detected pictures that are searched together: 80,000 codes, 10 MB of hits."""
NO_HIT = 255
"""Bits, where there are fewer codes than looked for; two codes differ in 128 at most."""


@dataclass(frozen=True)
class Proposal:
    """A protected image that a detected one may show.

    Attributes:
        protected_id: of the image.
        votes: as in `copywatch.features.votes.Candidate`.
        mirrored: likewise.
    """

    protected_id: str
    votes: float
    mirrored: bool


@dataclass(frozen=True)
class Queries:
    """The points of detected pictures, ready for every shard.

    Attributes:
        codes: uint8 (N, 16); of each picture the upright points, then the mirrored ones.
        lists: int64 (N, probes), nearest first; distances: int32 (N, probes), bits.
        sides: int64 (2 P + 1,), where the upright points of each picture begin, and where the mirrored ones.
    """

    codes: NDArray[np.uint8]
    lists: NDArray[np.int64]
    distances: NDArray[np.int32]
    sides: NDArray[np.int64]


@dataclass(frozen=True)
class ShardHits:
    """What one shard adds to the votes.

    Attributes:
        nearest: uint8 (N, `NEIGHBOURS`), bits to the nearest codes of each point, ascending; `NO_HIT` where there are
            fewer.
        points: int32 (H,), rows of `nearest`; bits: uint8 (H,); protected_ids: of each hit that is kept.
    """

    nearest: NDArray[np.uint8]
    points: NDArray[np.int32]
    bits: NDArray[np.uint8]
    protected_ids: list[str]


class Coarse:
    """The lists that codes are looked up in."""

    def __init__(self, table: NDArray[np.uint8] | None = None, *, probes: int = PROBES) -> None:
        """Of the shipped centroids or others, uint8 (lists, 16); at most all lists are probed."""
        table = centroids() if table is None else table
        self._quantiser = quantiser(table)
        self._probes = min(probes, len(table))

    def queries(self, detected: Sequence[DetectedPoints]) -> Queries:
        """The points of some pictures, and their lists."""
        tables = [points.codes for one in detected for points in (one.upright, one.mirrored)]
        codes = np.concatenate([np.empty((0, CODE_BYTES), dtype=np.uint8), *tables])
        sides = np.concatenate([[0], np.cumsum([len(one) for one in tables], dtype=np.int64)]).astype(np.int64)
        if not len(codes):
            nothing = np.empty((0, self._probes))
            return Queries(codes, nothing.astype(np.int64), nothing.astype(np.int32), sides)
        distances, lists = self._quantiser.search(codes, self._probes)
        return Queries(codes, lists, distances, sides)


def shard_hits(shard: Shard, queries: Queries, *, least: int = int(LEAST_VOTES)) -> ShardHits:
    """Look the points up in one shard.

    Args:
        shard: built over the centroids that `queries` was made by.
        queries: at least one picture's.
        least: hits below which an image of the shard cannot become a candidate.
    """
    count = len(queries.codes)
    if not count:
        return ShardHits(np.empty((0, NEIGHBOURS), np.uint8), np.empty(0, np.int32), np.empty(0, np.uint8), [])
    shard.index.nprobe = queries.lists.shape[1]
    distances, places = shard.index.search_preassigned(queries.codes, NEIGHBOURS, queries.lists, queries.distances)
    nearest = np.where(places < 0, NO_HIT, distances).astype(np.uint8)
    kept: list[NDArray[np.int64]] = [np.empty((0, 2), dtype=np.int64)]
    for begin, end in pairwise(queries.sides):
        side = places[begin:end]
        often = np.bincount(side[side >= 0], minlength=1) >= least
        # A place of -1 looks at the last image, and is left out afterwards.
        hits = np.argwhere(often[side] & (side >= 0))
        kept.append(hits + np.array([begin, 0]))
    rows, columns = np.concatenate(kept).T
    ids = [shard.protected_ids[place] or "" for place in places[rows, columns].tolist()]
    return ShardHits(nearest, rows.astype(np.int32), nearest[rows, columns], ids)


def merged(
    queries: Queries, hits: Sequence[ShardHits], *, least: float = LEAST_VOTES, most: int = MOST_CANDIDATES
) -> list[list[Proposal]]:
    """For each picture the protected images with most votes, most first, equal ones by their ids.

    Args:
        queries: of the pictures.
        hits: of every shard.
        least: votes below which an image is left out; not below that of `shard_hits`.
        most: how many of a picture at most.
    """
    pictures = (len(queries.sides) - 1) // 2
    ids = sorted({one for of_shard in hits for one in of_shard.protected_ids})
    if not ids:
        return [[] for _ in range(pictures)]
    number = {one: place for place, one in enumerate(ids)}
    images = np.array([number[one] for of_shard in hits for one in of_shard.protected_ids], dtype=np.int64)
    points = np.concatenate([of_shard.points for of_shard in hits]).astype(np.int64)
    bits = np.concatenate([of_shard.bits for of_shard in hits]).astype(np.int64)
    tenth, farthest = _reach(hits)
    counted = bits <= tenth[points]
    side = np.repeat(np.arange(2 * pictures), np.diff(queries.sides))
    sides, found, sums = summed(points[counted], images[counted], bits[counted], farthest, side)
    bounds = np.searchsorted(sides, np.arange(2 * pictures + 1))
    hands = [(found[a:b].tolist(), sums[a:b].tolist()) for a, b in pairwise(bounds)]
    return [
        [
            Proposal(ids[one.image], one.votes, one.mirrored)
            for one in best_of_both(upright, mirrored, least=least, most=most)
        ]
        for upright, mirrored in zip(hands[::2], hands[1::2], strict=True)
    ]


def _reach(hits: Sequence[ShardHits]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each point the bits within which hits count, and the bits to the farthest hit that does."""
    nearest = np.sort(np.concatenate([of_shard.nearest for of_shard in hits], axis=1), axis=1)[:, :NEIGHBOURS]
    known = np.where(nearest == NO_HIT, 0, nearest)
    return nearest[:, -1].astype(np.int64), known.max(axis=1).astype(np.int64)


class Lookup:
    """The search index as it was when this was made; later versions are not seen."""

    def __init__(self, folder: Path, *, probes: int = PROBES) -> None:
        """Open all shards below `folder`; their codes stay in the files.

        Raises:
            LakeError: the index is damaged.
            MachineError: the centroids are missing or are not the shipped ones.
        """
        self.manifest: Manifest = read_manifest(folder).usable(folder)
        self._coarse = Coarse(probes=probes)
        self._shards = [Shard.read(folder, one.name, mapped=True) for one in self.manifest.shards.values()]

    def proposals(self, detected: Sequence[DetectedPoints]) -> list[list[Proposal]]:
        """For each picture at most 20 protected images with at least 8 votes, most first; none if it has no points.

        They were in force when the index was built.
        """
        found: list[list[Proposal]] = []
        for begin in range(0, len(detected), PICTURES_AT_ONCE):
            queries = self._coarse.queries(detected[begin : begin + PICTURES_AT_ONCE])
            found += merged(queries, [shard_hits(shard, queries) for shard in self._shards])
        return found


def use_one_core() -> None:
    """Let a search take one core alone: where every core has a task of its own, more threads only get in the way."""
    faiss.omp_set_num_threads(1)
