"""From the distances between different images to Th. SRPITP, section 4.1.

The paper fits a normal distribution to the distances and takes Th from its tail (Formula 3). But a fit to the middle
says little of the tail: photos on plain backgrounds are closer to each other than any normal distribution has it. So
the tail is measured beside the fit, and the smaller of both thresholds is the safer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from copywatch.matching.pair_distances import BLOCK, UNMEASURED, PairDistances

BINS = 200
"""Of the histogram, over [0, 1]."""

CLOSEST = 20
"""Pairs that are kept for a person to look at."""

FEWEST_IMAGES = 50
"""Fewer give no distribution worth the name: 50 are 1,225 pairs."""

_FEW_PAIRS = 10
_ROUNDING = 1e-9
"""1e-6 x 3,000,000 is 2.9999999999999996 as floats go."""


@dataclass(frozen=True, order=True)
class ClosePair:
    """Two different images that are close to each other.

    Attributes:
        distance: by the rule, in [0, 1].
        one: the lower position among the images measured.
        other: the higher one.
        unjudged: only the machine says that it is the same picture; it was left out.
    """

    distance: float
    one: int
    other: int
    unjudged: bool


@dataclass(frozen=True)
class Pictures:
    """Which images show the same picture.

    Attributes:
        known: int64 (N,); images with the same number are known to show the same picture: the same bytes, or a match
            that is certain or that a person accepted. Their pairs are left out.
        supposed: int64 (N,), likewise, with what only the machine says: groups of protected images, matches that wait
            for a person. Their pairs are left out too, but told of.
    """

    known: NDArray[np.int64]
    supposed: NDArray[np.int64]

    @classmethod
    def different(cls, count: int) -> Pictures:
        """Of images that each show a picture of their own."""
        return cls(np.arange(count, dtype=np.int64), np.arange(count, dtype=np.int64))


@dataclass(frozen=True)
class Part:
    """What one pair of blocks adds to a calibration.

    Attributes:
        values: int64 (U,), the distances there are, in steps, ascending.
        counts: int64 (U,), how many pairs of different images have each.
        unjudged: int64 (U,), how many further pairs have each that only the machine takes for the same picture.
        closest: the closest pairs, at most `CLOSEST`: (distance in steps, position, higher position, unjudged).
    """

    values: NDArray[np.int64]
    counts: NDArray[np.int64]
    unjudged: NDArray[np.int64]
    closest: tuple[tuple[int, int, int, bool], ...]


@dataclass(frozen=True)
class Calibration:
    """What was measured, and the two thresholds that follow.

    Attributes:
        images: different images.
        pairs: pairs measured.
        rate: the false-alarm rate wished: share of pairs of different images within Th.
        histogram: pairs in each of `BINS` equal bins of the distance.
        mean: of the distance.
        deviation: its standard deviation.
        normal_threshold: Th by Formula (3); 0 where the formula gives less.
        normal_within: pairs within it.
        tail_threshold: the largest Th with at most rate x pairs within; just below the closest pair when that is none.
        tail_within: pairs within it.
        normal_unjudged: pairs within `normal_threshold` that were left out although only the machine takes them for the
            same picture.
        tail_unjudged: likewise within `tail_threshold`.
        closest: the closest pairs, closest first, unjudged ones among them.
    """

    images: int
    pairs: int
    rate: float
    histogram: tuple[int, ...]
    mean: float
    deviation: float
    normal_threshold: float
    normal_within: int
    tail_threshold: float
    tail_within: int
    normal_unjudged: int
    tail_unjudged: int
    closest: tuple[ClosePair, ...]

    @property
    def safer(self) -> float:
        """The smaller threshold."""
        return min(self.normal_threshold, self.tail_threshold)

    @property
    def can_measure_rate(self) -> bool:
        """Whether there are enough pairs for one of them to be a false alarm at the rate wished."""
        return allowed(self.rate, self.pairs) >= 1

    @property
    def needs_a_person(self) -> bool:
        """Whether the safer threshold must not come into force before somebody has looked at it.

        That is so where the rate cannot be measured, and where pairs that only the machine takes for the same picture
        would make it lower if they were different ones: those pairs lie within the Th of their time, so that Th would
        justify itself, and a higher one after it.
        """
        normal = (self.normal_within, self.normal_unjudged)
        within, unjudged = min((self.tail_within, self.tail_unjudged), normal)
        return not self.can_measure_rate or (unjudged > 0 and within + unjudged > allowed(self.rate, self.pairs))

    @property
    def note(self) -> str:
        """What these figures can and cannot say, for the person who chooses."""
        said = []
        expected = allowed(self.rate, self.pairs)
        if not self.can_measure_rate:
            said.append(
                f"{self.images:,} images give {self.pairs:,} pairs: a rate below 1 / {self.pairs:,} = "
                f"{1 / self.pairs:.1e} cannot be measured. The tail's threshold lies just below the closest pair, "
                f"which is no proof of {self.rate:g}."
            )
        elif expected < _FEW_PAIRS:
            which, one_of = (
                ("the closest pair", "it") if expected == 1 else (f"the closest {expected} pairs", "one of them")
            )
            said.append(
                f"The tail's threshold rests on {which} of {self.pairs:,}: if {one_of} shows the same picture twice, "
                "it lies too low."
            )
        wished = self.rate * self.pairs
        # Three standard deviations of a count: fewer are chance.
        if self.normal_within > wished + 3 * sqrt(max(wished, 1)):
            times = self.normal_within / wished
            said.append(
                f"Within Formula (3)'s threshold lie {_pairs(self.normal_within)}, "
                f"{times:,.{0 if times >= 10 else 1}f} times as many as wished: the tail is heavier than a normal "
                "distribution's."
            )
        if self.tail_unjudged:
            said.append(
                f"Left out within the tail's threshold: {_pairs(self.tail_unjudged)} that the machine takes for the "
                "same picture and nobody has judged. If these are different pictures, the threshold lies too high: "
                "look at the closest pairs."
            )
        if any(pair.distance == 0 and not pair.unjudged for pair in self.closest):
            said.append("The closest pair has the distance 0. Is it the same picture twice?")
        return " ".join(said)


def allowed(rate: float, pairs: int) -> int:
    """How many of the pairs may lie within a threshold of a false-alarm rate."""
    return floor(rate * pairs + _ROUNDING)


def _pairs(count: int) -> str:
    return f"{count:,} {'pair' if count == 1 else 'pairs'}"


def block_pairs(images: int) -> list[tuple[range, range]]:
    """The pairs of blocks that hold every pair of images once."""
    blocks = [range(start, min(start + BLOCK, images)) for start in range(0, images, BLOCK)]
    return [(one, other) for place, one in enumerate(blocks) for other in blocks[place:]]


def measured(distances: PairDistances, pictures: Pictures, rows: range, columns: range) -> Part:
    """Measure one pair of blocks.

    Args:
        distances: of all images.
        pictures: which images show the same picture.
        rows: the one block.
        columns: the other, the same or a later one.
    """
    steps = distances.between(rows, columns)
    left, right = np.asarray(rows)[:, np.newaxis], np.asarray(columns)[np.newaxis]
    taken = (left < right) & (pictures.known[left] != pictures.known[right]) & (steps != UNMEASURED)
    places = np.flatnonzero(taken)
    found = steps.ravel()[places]
    one, other = rows.start + places // len(columns), columns.start + places % len(columns)
    unjudged = pictures.supposed[one] == pictures.supposed[other]
    values, place = np.unique(found, return_inverse=True)
    counts, of_unjudged = (np.bincount(place[chosen], minlength=len(values)) for chosen in (~unjudged, unjudged))
    nearest = np.lexsort((other, one, found))[:CLOSEST]
    closest = zip(*(column[nearest].tolist() for column in (found, one, other, unjudged)), strict=True)
    return Part(values, counts.astype(np.int64), of_unjudged.astype(np.int64), tuple(closest))


def calibrated(parts: Iterable[Part], *, images: int, steps: int, rate: float) -> Calibration:
    """The calibration that the parts give together; their order does not matter.

    Args:
        parts: of all pairs of blocks.
        images: how many images they are of.
        steps: of the distances, in 1.
        rate: the false-alarm rate wished, in (0, 1).

    Raises:
        ValueError: the rate is out of bounds, or there is no pair of different pictures.
    """
    if not 0 < rate < 1:
        raise ValueError(f"a false-alarm rate is above 0 and below 1, not {rate}")
    counts, unjudged = np.zeros(steps + 1, dtype=np.int64), np.zeros(steps + 1, dtype=np.int64)
    closest: list[tuple[int, int, int, bool]] = []
    for part in parts:
        counts[part.values] += part.counts
        unjudged[part.values] += part.unjudged
        closest += part.closest
    pairs = int(counts.sum())
    if not pairs:
        raise ValueError(f"{images} images give no pair of different pictures that could be compared")
    values = np.arange(steps + 1) / steps
    mean = float((values * counts).sum() / pairs)
    deviation = float(np.sqrt((counts * (values - mean) ** 2).sum() / pairs))
    within = counts.cumsum()
    normal = formula_3(mean, deviation, rate)
    # Half a step below the first pair that would be one too many: between two distances, where no rounding decides.
    too_many = int(np.searchsorted(within, allowed(rate, pairs), side="right"))
    tail = min(max(0.0, (too_many - 0.5) / steps), 1.0)
    bins = np.minimum(np.arange(steps + 1) * BINS // steps, BINS - 1)
    return Calibration(
        images=images,
        pairs=pairs,
        rate=rate,
        histogram=tuple(int(count) for count in np.bincount(bins, weights=counts, minlength=BINS)),
        mean=mean,
        deviation=deviation,
        normal_threshold=normal,
        normal_within=int(counts[values <= normal].sum()),
        tail_threshold=tail,
        tail_within=int(counts[values <= tail].sum()),
        normal_unjudged=int(unjudged[values <= normal].sum()),
        tail_unjudged=int(unjudged[values <= tail].sum()),
        closest=tuple(
            ClosePair(step / steps, one, other, unjudged) for step, one, other, unjudged in sorted(closest)[:CLOSEST]
        ),
    )


def calibrate(distances: PairDistances, pictures: Pictures, rate: float) -> Calibration:
    """Measure all pairs on one core: 2,000 images take 40 s by the rule "rescored", 1 s by the paper's.

    Raises:
        ValueError: the rate is out of bounds, or there is no pair of different pictures.
    """
    images = len(distances)
    parts = (measured(distances, pictures, rows, columns) for rows, columns in block_pairs(images))
    return calibrated(parts, images=images, steps=distances.steps, rate=rate)


def formula_3(mean: float, deviation: float, rate: float) -> float:
    """Th below which a normal distribution has the probability `rate` (SRPITP, Formula 3); at least 0."""
    return max(0.0, NormalDist(mean, deviation).inv_cdf(rate) if deviation > 0 else mean)


def numbered(names: Sequence[Iterable[str]], same: Iterable[tuple[str, str]] = ()) -> NDArray[np.int64]:
    """Which images show the same picture: int64 (N,), equal numbers for those that do, by as many links as it takes.

    Args:
        names: what each image is called (its id, its bytes' SHA-256, its group); images that share a name show the
            same picture.
        same: further pairs of names of the same picture, such as accepted matches.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := parent.setdefault(name, name)) != name:
            parent[name] = name = parent.setdefault(above, above)
        return name

    firsts = []
    for known_by in names:
        first, *others = known_by
        firsts.append(first)
        for other in others:
            parent[root(other)] = root(first)
    for one, other in same:
        parent[root(other)] = root(one)
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(root(first), len(numbers)) for first in firsts], dtype=np.int64)
