"""Detected against protected images, by the code of the chain.

What is alerted or reviewed is what `copywatch.matching.pairs.Newcomers` finds, which the chain matches new
registrations with: under the tags until tau, by either rule; and files with the same bytes whatever their tags; and
what the second stage finds beside it. Of each detected image the nearest one is shown, by T, then verification, then
distance, and with it what stands by verification: all protected images count as one owner's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from copywatch.evaluation.describe import Description
from copywatch.evaluation.progress import Progress
from copywatch.evaluation.second_stage import Match, SecondStage, shown
from copywatch.fingerprint.registry import algorithm_named
from copywatch.fingerprint.views import views_of
from copywatch.lake.schemas import TAGS, TIMESTAMP
from copywatch.matching.candidates import CandidateIndex, Images
from copywatch.matching.compare import Comparison, compared_codes, compared_views
from copywatch.matching.pairs import OF_PROTECTED, OF_SIGHTING, PAIRS, Newcomers, PlainIndex, Terms
from copywatch.matching.tags import tags_within_coverage
from copywatch.rule import Rule

Indices = NDArray[np.int64]

NOTHING = -1

_DETECTED_A_BATCH = 256
_RUNNERS_UP = 20
"""Of an image that nothing is shown for the nearest by the first stage that are scored, so that a rank can be told."""
_PAIRS_A_BATCH = 1024
"""Some 30 MB."""
_NOT_VERIFIED = 1
_REGISTERED_AT = datetime(2000, 1, 1, tzinfo=UTC)
"""Of all at once: equal distances then fall to the first by name."""


@dataclass(frozen=True)
class Side:
    """The images of one side that have a fingerprint, by their places.

    Attributes:
        names: as the truth file may give them.
        images: what reading them gave.
    """

    names: list[str]
    images: list[Description]

    @classmethod
    def of(cls, names: Sequence[str], descriptions: Sequence[Description]) -> Side:
        """Those of the described images that have a fingerprint."""
        usable = [(name, one) for name, one in zip(names, descriptions, strict=True) if one.fingerprint]
        return cls([name for name, _ in usable], [one for _, one in usable])

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def place_of(self) -> dict[str, int]:
        """Name -> place."""
        return {name: place for place, name in enumerate(self.names)}

    @cached_property
    def first_place(self) -> dict[str, int]:
        """SHA-256 -> the first image with it."""
        return {one.digest: place for place, one in reversed(list(enumerate(self.images)))}

    def views(self, places: Sequence[int]) -> list[NDArray[np.void]]:
        """Of images, in the order of `places`."""
        return [views_of(self.images[place].views) for place in places]


class Sides:
    """Both sides, and what they are compared by."""

    def __init__(
        self, detected: Side, protected: Side, terms: Terms, coverage: float, *, second_stage: bool = False
    ) -> None:
        """Take the images.

        Args:
            detected: the images that are searched for copies.
            protected: the originals.
            terms: what pairs are judged by.
            coverage: tau.
            second_stage: whether there is one; the images are described for it.
        """
        self.second = SecondStage(protected.images) if second_stage else None
        self.detected, self.protected = detected, protected
        self._terms, self._coverage = terms, coverage
        self._originals = _originals(protected)
        self._sightings = _sightings(detected)
        self._stored = sorted({one.tag for one in protected.images})
        self._looked_up = tags_within_coverage(self._sightings["tags"], coverage, self._stored)

    def searches(self, detected: int, tag: str) -> bool:
        """Whether a detected image is looked up under a tag that a protected image is stored under."""
        return bool(self._looked_up[detected, self._stored.index(tag)])

    def shown(self) -> list[list[Match]]:
        """What the product would show for each detected image, the nearest first."""
        found: list[list[Match]] = [[] for _ in range(len(self.detected))]
        if not len(self.protected):
            return found
        chain = Newcomers(self._originals, self._terms, self._coverage)
        progress = Progress("images compared", len(self.detected))
        # In batches of which every pair fits into memory, should all lie within Th.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for batch in self._sightings.to_batches(max_chunksize=_DETECTED_A_BATCH):
                first = _by_detected(pa.Table.from_batches(chain.pairs(iter([batch])), schema=PAIRS))
                places = [int(one) for one in batch.column("sighting_id").to_pylist()]
                judged = pool.map(self._judged, places, [first.get(place, []) for place in places])
                for place, matches in zip(places, judged, strict=True):
                    found[place] = matches
                progress.more(batch.num_rows)
        return found

    def _judged(self, place: int, first: list[Match]) -> list[Match]:
        if self.second is None:
            return shown(first)
        return shown(self.second.matches(self.detected.images[place], first))

    def nearest(self, detected: Indices) -> Indices:
        """Of given detected images the nearest protected one under their tags, at whatever distance.

        Returns:
            int64, one for each of `detected`; `NOTHING` where no tag brings one.
        """
        best = np.full(len(detected), NOTHING, dtype=np.int64)
        least = np.full(len(detected), np.inf)
        tags = np.array([one.tag for one in self.protected.images])
        for column, tag in enumerate(self._stored):
            rows = np.flatnonzero(self._looked_up[detected, column])
            if len(rows):
                places, distances = self._nearest_among(detected[rows], np.flatnonzero(tags == tag))
                # Of equally near ones the first by name, as the chain has it.
                nearer = (distances < least[rows]) | ((distances == least[rows]) & (places < best[rows]))
                best[rows[nearer]], least[rows[nearer]] = places[nearer], distances[nearer]
        return best

    def _nearest_among(self, detected: Indices, protected: Indices) -> tuple[Indices, NDArray[np.float64]]:
        if self._terms.rule is Rule.PAPER:
            index = PlainIndex(self._originals.take(pa.array(protected)), self._terms.algorithm)
            codes = b"".join(self.detected.images[place].fingerprint for place in detected.tolist())
            plain = index.index.nearest(np.frombuffer(codes, dtype=np.uint8).reshape(len(detected), -1))
            return protected[plain.positions], plain.distances
        found = CandidateIndex(Images(self.protected.views(protected.tolist()))).nearest(
            Images(self.detected.views(detected.tolist())), _RUNNERS_UP
        )
        # By sighting, then score, then place.
        firsts = np.flatnonzero(np.diff(found.sightings, prepend=NOTHING))
        return protected[found.protected[firsts]], found.scores[firsts]

    def compared(self, pairs: Sequence[tuple[int, int]]) -> list[Comparison]:
        """Given pairs of a detected and a protected image, whether a search brings them together or not."""
        starts = range(0, len(pairs), _PAIRS_A_BATCH)
        return [one for start in starts for one in self._compared(pairs[start : start + _PAIRS_A_BATCH])]

    def _compared(self, pairs: Sequence[tuple[int, int]]) -> list[Comparison]:
        sightings = [self.detected.images[place] for place, _ in pairs]
        originals = [self.protected.images[place] for _, place in pairs]
        terms = self._terms
        if terms.rule is Rule.PAPER:
            return compared_codes(
                algorithm_named(terms.algorithm),
                [one.fingerprint for one in originals],
                [one.fingerprint for one in sightings],
                terms.threshold,
                terms.identical_bound,
            )
        return compared_views(
            [views_of(one.views) for one in originals],
            [views_of(one.views) for one in sightings],
            [one.digest == other.digest for one, other in zip(originals, sightings, strict=True)],
            terms.threshold,
            terms.identical_bound,
        )


def _by_detected(pairs: pa.Table) -> dict[int, list[Match]]:
    """The first stage's pairs of each detected image, each once, as its best comparison has it."""
    best: dict[tuple[int, int], Match] = {}
    columns = ("sighting_id", "protected_id", "verdict", "distance")
    for detected, protected, verdict, distance in zip(*(pairs[name].to_pylist() for name in columns), strict=True):
        key = int(detected), int(protected)
        match = Match(verdict, _NOT_VERIFIED, False, distance, key[1])
        best[key] = min(match, best.get(key, match))
    found: dict[int, list[Match]] = {}
    for (place, _), match in best.items():
        found.setdefault(place, []).append(match)
    return found


def _originals(side: Side) -> pa.Table:
    """The columns `OF_PROTECTED`."""
    columns = _columns(side)
    nothing = pa.array([""] * len(side), pa.string())
    return pa.table(
        {
            **columns,
            "protected_id": columns["id"],
            "group_id": columns["id"],
            "owner": nothing,
            "run": nothing,
            "registered_at": pa.array([_REGISTERED_AT] * len(side), TIMESTAMP),
            "tag": pa.array([one.tag for one in side.images], pa.string()),
        }
    ).select(list(OF_PROTECTED))


def _sightings(side: Side) -> pa.Table:
    """The columns `OF_SIGHTING`."""
    columns = _columns(side)
    tags = pa.array([list(one.tags.items()) for one in side.images], TAGS)
    return pa.table({**columns, "sighting_id": columns["id"], "tags": tags}).select(list(OF_SIGHTING))


def _columns(side: Side) -> dict[str, pa.Array]:
    return {
        # Places, with zeros before them, so that they sort by name.
        "id": pa.array([f"{place:010d}" for place in range(len(side))], pa.string()),
        "sha256": pa.array([one.digest for one in side.images], pa.string()),
        "fingerprint": pa.array([one.fingerprint for one in side.images], pa.binary()),
        "views": pa.array([one.views or None for one in side.images], pa.binary()),
    }
