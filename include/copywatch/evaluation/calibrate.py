"""The threshold that one's own different photos allow at a wished rate of false pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from copywatch.errors import EvaluationError
from copywatch.evaluation.compare import Side
from copywatch.evaluation.progress import Progress
from copywatch.hostile_text import plain
from copywatch.matching import calibration
from copywatch.matching.calibration import Calibration, Part, Pictures, block_pairs, measured, numbered
from copywatch.matching.calibration_rows import Method
from copywatch.matching.pair_distances import PairDistances, distances_of
from copywatch.rule import Rule
from copywatch.threshold import ThresholdInForce

MOST_IMAGES = 4000
"""Eight million pairs, three minutes; the time grows with the square. Of more images this many are measured."""


def calibrated(
    algorithm: str, rule: Rule, images: Side, *, protected: int, same: Iterable[tuple[int, int]], rate: float
) -> ThresholdInForce:
    """The threshold within which at most `rate` of the pairs of different images lie: the safer one, as in the chain.

    The pairs are the protected images among each other and with the others.

    Args:
        algorithm: name of the algorithm.
        rule: how distances are measured.
        images: the protected images, and after them images that are no copies.
        protected: how many of them are protected.
        same: places of two images that show one photo; also those with the same bytes do.
        rate: share of the pairs, in (0, 1).

    Raises:
        EvaluationError: there is no pair of different images.
    """
    known_by = [(f"place {place}", one.digest) for place, one in enumerate(images.images)]
    pictures = numbered(known_by, [(f"place {one}", f"place {other}") for one, other in same])
    places = _chosen(images.names)
    of_measured = pictures[np.array(places, dtype=np.int64)]
    shown = [images.images[place] for place in places]
    compared = [one.views if rule is Rule.RESCORED else one.fingerprint for one in shown]
    distances = distances_of(compared, [place < protected for place in places], algorithm, rule)
    try:
        parts = _parts(distances, Pictures(of_measured, of_measured))
        found = calibration.calibrated(parts, images=len(places), steps=distances.steps, rate=rate)
    except ValueError as error:
        raise EvaluationError(f"calibration: {error}; give more photos, or leave --calibrate out") from None
    names = [images.names[place] for place in places]
    return ThresholdInForce(found.safer, _words(found, names, of=len(images)))


def _chosen(names: Sequence[str]) -> list[int]:
    """Places of at most `MOST_IMAGES`, the same each time and in no order that the names have."""
    drawn = sorted(
        range(len(names)), key=lambda place: hashlib.sha256(names[place].encode(errors="surrogateescape")).digest()
    )
    return sorted(drawn[:MOST_IMAGES])


def _parts(distances: PairDistances, pictures: Pictures) -> Iterator[Part]:
    blocks = block_pairs(len(distances))
    progress = Progress("blocks of pairs measured", len(blocks))
    for rows, columns in blocks:
        yield measured(distances, pictures, rows, columns)
        progress.more()


def _words(found: Calibration, names: Sequence[str], *, of: int) -> str:
    closest = found.closest[0]
    method = Method.TAIL if found.tail_threshold <= found.normal_threshold else Method.NORMAL
    drawn = f" on {len(names):,} of {of:,} images" if len(names) < of else ""
    words = (
        f"Calibrated{drawn}: {method.words}, {found.rate:g} over {found.pairs:,} different pairs, of which the closest "
        f"are {plain(names[closest.one])} and {plain(names[closest.other])} at {closest.distance:.4f}."
    )
    return f"{words} {found.note}".rstrip()
