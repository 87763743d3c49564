"""First stage of the rule "rescored": which protected images a sighting is scored against.

Two exact scans by faiss. The first compares the sighting's views with the protected upright ones by a code whose binary
distance is nearly the score's: each symbol is six bits, of which two different symbols differ in four, and a flat
block's symbols have codes of their own, which differ from any symbol in three and from each other in two or four; PDQ's
bits follow, repeated. The second finds turned and mirrored copies by PDQ alone, an eighth of the cost for each view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from copywatch.fingerprint.mao import BLOCKS, SYMBOLS, unpacked
from copywatch.fingerprint.views import VIEW, Kind
from copywatch.matching.score import BOTH_FLAT_CHARGE, Operands, identical, plain_distances, scores

PDQ_REPEATS = 6
CODE_BYTES = SYMBOLS * 6 // 8 + PDQ_REPEATS * 32
"""732: 540 of masked symbols, 192 of PDQ."""

UPRIGHT_BITS = 2340
"""Binary distance up to which an upright pair is scored; of 5,856."""
TURNED_BITS = 80
"""PDQ bits up to which a turned pair is scored; of 256."""

_SYMBOL_CODES = np.array([[0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 1, 1], [1, 0, 1, 1, 0, 1], [1, 1, 0, 1, 1, 0]], np.uint8)
_FLAT_PROTECTED = np.array([0, 0, 0, 1, 1, 1], np.uint8)
_FLAT_SIGHTING = np.array([[0, 0, 1, 1, 1, 0], [1, 1, 0, 0, 0, 1]], np.uint8)
"""Two and four bits from the protected one."""
_SIGHTINGS_A_BATCH = 512
_PAIRS_A_BATCH = 2048
"""Some 60,000 pairs of views, 50 MB."""


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs of a sighting and a protected image that the first stage let through, scored; by sighting, then score.

    Attributes:
        sightings: int64 (P,), which sighting.
        protected: int64 (P,), which protected image.
        scores: float64 (P,).
        distances: float64 (P,), SRPITP's, of the views with that score.
        kinds: uint8 (P,), `Kind` of the protected view.
        sighting_kinds: uint8 (P,), `Kind` of the sighting's view.
        identical: bool (P,), whether the symbols are all the same and the picture has enough detail to mean it.
    """

    sightings: NDArray[np.int64]
    protected: NDArray[np.int64]
    scores: NDArray[np.float64]
    distances: NDArray[np.float64]
    kinds: NDArray[np.uint8]
    sighting_kinds: NDArray[np.uint8]
    identical: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.scores)


class Images:
    """Several images' views in one array.

    Attributes:
        views: `VIEW` (V,).
        image: int64 (V,), which image each view is of.
    """

    def __init__(self, views: Sequence[NDArray[np.void]]) -> None:
        """Take each image's views."""
        self.count = len(views)
        self.views = np.concatenate(list(views)) if len(views) else np.empty(0, dtype=VIEW)
        counts = np.array([len(one) for one in views], dtype=np.int64)
        self.image = np.repeat(np.arange(len(views), dtype=np.int64), counts)
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @classmethod
    def packed(cls, columns: Sequence[bytes]) -> Images:
        """Of rows' `views` columns.

        Raises:
            ValueError: one is empty, or no whole number of records.
        """
        counts, rest = np.divmod(np.array([len(one) for one in columns], dtype=np.int64), VIEW.itemsize)
        if rest.any() or not counts.all():
            raise ValueError(f"views are one or more records of {VIEW.itemsize} bytes each")
        made = cls([])
        made.count = len(columns)
        made.views = np.frombuffer(b"".join(columns), dtype=VIEW)
        made.image = np.repeat(np.arange(made.count, dtype=np.int64), counts)
        made.starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return made

    def __len__(self) -> int:
        return self.count


def protected_code(views: NDArray[np.void]) -> NDArray[np.uint8]:
    """First-stage codes of protected views (`VIEW`, (V,)): uint8 (V, 732)."""
    flat = np.broadcast_to(_FLAT_PROTECTED, (SYMBOLS, 6))
    return _first_stage_code(views, flat)


def sighting_code(views: NDArray[np.void]) -> NDArray[np.uint8]:
    """First-stage codes of a sighting's views (`VIEW`, (V,)): uint8 (V, 732)."""
    # Spread evenly, so that a pair's flat symbols cost the charge on average wherever in the picture they lie.
    farther = (BOTH_FLAT_CHARGE * 4 - 2) / 2
    steps = np.floor(np.arange(1, SYMBOLS + 1) * farther) - np.floor(np.arange(SYMBOLS) * farther)
    return _first_stage_code(views, _FLAT_SIGHTING[steps.astype(np.int64)])


class CandidateIndex:
    """Protected images in memory: 732 + 7 x 32 bytes each in faiss, and their views."""

    def __init__(self, protected: Images) -> None:
        self._images = protected
        kinds = protected.views["kind"]
        self._upright = np.flatnonzero((kinds == Kind.UPRIGHT) | (kinds == Kind.UNFRAMED))
        self._turned = np.flatnonzero((kinds > Kind.UPRIGHT) & (kinds < Kind.UNFRAMED))
        self._upright_index = faiss.IndexBinaryFlat(CODE_BYTES * 8)
        self._upright_index.add(protected_code(protected.views[self._upright]))
        self._turned_index = faiss.IndexBinaryFlat(256)
        self._turned_index.add(np.ascontiguousarray(protected.views["pdq"][self._turned]))

    def __len__(self) -> int:
        return len(self._images)

    def candidates(self, sightings: Images) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs that are worth scoring, each once: (which sighting, which protected image), both int64 (P,)."""
        if not len(sightings) or not len(self):
            nothing = np.empty(0, dtype=np.int64)
            return nothing, nothing
        pairs: list[NDArray[np.int64]] = []
        for start in range(0, len(sightings.views), _SIGHTINGS_A_BATCH):
            batch = sightings.views[start : start + _SIGHTINGS_A_BATCH]
            image = sightings.image[start : start + _SIGHTINGS_A_BATCH]
            codes, pdqs = sighting_code(batch), np.ascontiguousarray(batch["pdq"])
            for index, rows, query, radius in (
                (self._upright_index, self._upright, codes, UPRIGHT_BITS),
                (self._turned_index, self._turned, pdqs, TURNED_BITS),
            ):
                # faiss takes an exclusive radius.
                limits, _bits, found = index.range_search(query, radius + 1)
                counts = np.diff(limits.astype(np.int64))
                owner = self._images.image[rows[found.astype(np.int64)]]
                pairs.append(np.unique(np.repeat(image, counts) * len(self) + owner))
        keys = np.unique(np.concatenate(pairs))
        return keys // len(self), keys % len(self)

    def within(self, sightings: Images, threshold: float) -> ScoredPairs:
        """Pairs of the first stage whose score is <= `threshold`, and identical ones."""
        which, originals = self.candidates(sightings)
        return self.rescored(sightings, which, originals, threshold)

    def nearest(self, sightings: Images, count: int) -> ScoredPairs:
        """For each sighting at least its `count` nearest by the first stage (fewer only if there are fewer), scored."""
        which, originals = self.candidates(sightings)
        keys = [which * len(self) + originals]
        if len(self) and len(sightings):
            upright = min(count, len(self._upright))
            _bits, found = self._upright_index.search(sighting_code(sightings.views), upright)
            owner = self._images.image[self._upright[found.astype(np.int64)]]
            keys.append((sightings.image[:, np.newaxis] * len(self) + owner).ravel())
        every = np.unique(np.concatenate(keys))
        return self.rescored(sightings, every // max(1, len(self)), every % max(1, len(self)), 1.0)

    def rescored(
        self, sightings: Images, which: NDArray[np.int64], originals: NDArray[np.int64], threshold: float
    ) -> ScoredPairs:
        """Score given pairs by their best views; those <= `threshold`, and identical ones. Equal scores by position."""
        results = [_NOTHING]
        for start in range(0, len(which), _PAIRS_A_BATCH):
            pairs = slice(start, start + _PAIRS_A_BATCH)
            results.append(_best_views(sightings, which[pairs], self._images, originals[pairs], threshold))
        which = np.concatenate([one.sightings for one in results])
        originals = np.concatenate([one.protected for one in results])
        score = np.concatenate([one.scores for one in results])
        order = np.lexsort((originals, score, which))
        return ScoredPairs(
            sightings=which[order],
            protected=originals[order],
            scores=score[order],
            distances=np.concatenate([one.distances for one in results])[order],
            kinds=np.concatenate([one.kinds for one in results])[order],
            sighting_kinds=np.concatenate([one.sighting_kinds for one in results])[order],
            identical=np.concatenate([one.identical for one in results])[order],
        )


_NOTHING = ScoredPairs(
    sightings=np.empty(0, dtype=np.int64),
    protected=np.empty(0, dtype=np.int64),
    scores=np.empty(0),
    distances=np.empty(0),
    kinds=np.empty(0, dtype=np.uint8),
    sighting_kinds=np.empty(0, dtype=np.uint8),
    identical=np.empty(0, dtype=np.bool_),
)


def _best_views(
    sightings: Images, which: NDArray[np.int64], protected: Images, originals: NDArray[np.int64], threshold: float
) -> ScoredPairs:
    """`CandidateIndex.rescored` for a batch of pairs."""
    left, which_left = _taken(sightings, which)
    right, which_right = _taken(protected, originals)
    rows, columns, pair = pairs_of_views(left, which_left, right, which_right)
    one, other = Operands.of(left.views), Operands.of(right.views)
    every = scores(one, rows, other, columns)
    firsts = np.concatenate([[0], np.flatnonzero(np.diff(pair)) + 1])
    equal = identical(one, rows, other, columns)
    # An identical pair of views decides, even where flat blocks make another pair's score less. Of equally good views
    # the first: lexsort is stable.
    best = np.lexsort((every, ~equal, pair))[firsts]
    distances = plain_distances(one, rows[best], other, columns[best])
    same = equal[best]
    kept = np.flatnonzero((every[best] <= threshold) | same)
    return ScoredPairs(
        sightings=which[kept],
        protected=originals[kept],
        scores=every[best][kept],
        distances=distances[kept],
        kinds=other.kinds[columns[best]][kept],
        sighting_kinds=one.kinds[rows[best]][kept],
        identical=same[kept],
    )


def _taken(images: Images, chosen: NDArray[np.int64]) -> tuple[Images, NDArray[np.int64]]:
    """The chosen images alone, and where each of `chosen` is among them: operands are 17 kB an image."""
    distinct, places = np.unique(chosen, return_inverse=True)
    return Images([images.views[images.starts[i] : images.starts[i + 1]] for i in distinct]), places.astype(np.int64)


def pairs_of_views(
    sightings: Images, which: NDArray[np.int64], protected: Images, originals: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Every pair of views of each pair of images (which[i], originals[i]).

    Returns:
        Rows of the sightings' views, rows of the protected views, and the pair each belongs to; int64 (Q,).
    """
    left = sightings.starts[which + 1] - sightings.starts[which]
    right = protected.starts[originals + 1] - protected.starts[originals]
    counts = left * right
    pair = np.repeat(np.arange(len(which), dtype=np.int64), counts)
    inner = np.arange(int(counts.sum()), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = sightings.starts[which][pair] + inner // right[pair]
    columns = protected.starts[originals][pair] + inner % right[pair]
    return rows, columns, pair


def _first_stage_code(views: NDArray[np.void], flat: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Codes with the bits `flat`, uint8 (720, 6), at the symbols of flat blocks. By tables: a byte is four symbols."""
    count, masks = len(views), views["mask"]
    symbols = _CODES_OF_BYTES[views["fingerprint"]].reshape(count, SYMBOLS * 6 // 8)
    averages = _MASKS_OF_AVERAGES[masks].reshape(count, BLOCKS * 6 // 8)
    differences = _MASKS_OF_DIFFERENCES[masks].reshape(count, 4 * BLOCKS * 6 // 8)
    detailed = np.concatenate([averages, differences], axis=1)
    bits = (symbols & detailed) | (np.packbits(flat) & ~detailed)
    return np.concatenate([bits, np.tile(views["pdq"], (1, PDQ_REPEATS))], axis=1)


_BYTES = np.arange(256, dtype=np.uint8)[:, np.newaxis]
_CODES_OF_BYTES = np.packbits(_SYMBOL_CODES[unpacked(_BYTES)].reshape(256, -1), axis=1)
"""Of four symbols in a byte of fingerprint; uint8 (256, 3)."""
_MASKS_OF_AVERAGES = np.packbits(np.repeat(np.unpackbits(_BYTES, axis=1), 6, axis=1), axis=1)
_MASKS_OF_DIFFERENCES = np.packbits(np.repeat(np.unpackbits(_BYTES, axis=1), 4 * 6, axis=1), axis=1)
"""Of eight blocks in a byte of mask, spread over their symbols' bits; uint8 (256, 6) and (256, 24)."""
