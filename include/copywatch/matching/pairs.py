"""Rows of sightings x rows of protected images -> the pairs within Th, judged; Arrow tables, no Spark.

SRPITP, Algorithm 2, by either rule (`copywatch.rule`). The jobs bring rows together by their tags; what is done with
those that met is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from copywatch.fingerprint.registry import algorithm_named
from copywatch.fingerprint.views import VIEW, Kind
from copywatch.lake.schemas import TIMESTAMP
from copywatch.matching.candidates import CandidateIndex, Images
from copywatch.matching.codes import search_code_of
from copywatch.matching.index import FlatIndex
from copywatch.matching.score import Operands, scores
from copywatch.matching.tags import tags_within_coverage
from copywatch.matching.verdict import Verdict, verdicts
from copywatch.matching.view_words import view_words
from copywatch.rule import Rule

OF_SIGHTING = ("sighting_id", "sha256", "fingerprint", "views", "tags")
"""What is needed of a sighting."""

OF_PROTECTED = (
    "protected_id", "owner", "group_id", "registered_at", "run", "sha256", "fingerprint", "views", "tag",
)  # fmt: skip
"""What is needed of a protected image."""

PAIRS = pa.schema(
    [
        pa.field("sighting_id", pa.string()),
        pa.field("protected_id", pa.string()),
        pa.field("owner", pa.string()),
        pa.field("group_id", pa.string()),
        pa.field("registered_at", TIMESTAMP),
        pa.field("registered_run", pa.string()),
        pa.field("verdict", pa.int8()),
        pa.field("distance", pa.float64()),
        pa.field("plain_distance", pa.float64()),
        pa.field("rule", pa.string()),
        pa.field("threshold", pa.float64()),
        pa.field("view", pa.string()),
        pa.field("verification", pa.string()),
        pa.field("stands", pa.bool_()),
    ]
)
"""A pair with T < 2. Of the protected image: `owner` to `registered_run`; the others as in the table `matches`. Null
before verification: `verification`, and `stands` (`copywatch.verification.explained`)."""

_ROWS_A_CHUNK = 8192
"""Sightings that are compared at once: 2 MB, and 6 MB of codes."""
_UPRIGHT_KINDS = np.array([Kind.UPRIGHT, Kind.UNFRAMED], dtype=np.uint8)


@dataclass(frozen=True)
class Terms:
    """What pairs are judged by. Plain values: it is sent to Spark's Python workers.

    Attributes:
        algorithm: name of the deciding algorithm.
        rule: how a distance is measured.
        threshold: Th of that rule.
        plain_threshold: Th of the paper's rule, for rows that were written before there were views.
        identical_bound: T = 0 up to this distance.
    """

    algorithm: str
    rule: Rule
    threshold: float
    plain_threshold: float
    identical_bound: float

    @classmethod
    def of(cls, algorithm: str, rule: Rule, threshold: float, identical_bound: float) -> Terms:
        """Terms of a rule's Th; where that is not the paper's, the paper's Th is the algorithm's own.

        Raises:
            SettingsError: no algorithm has that name.
        """
        plain = threshold if rule is Rule.PAPER else algorithm_named(algorithm).threshold
        return cls(algorithm, rule, threshold, plain, identical_bound)


def rescored_pairs(index: RescoredIndex, sightings: pa.Table, terms: Terms) -> pa.Table:
    """All pairs of sightings with views and the images of `index` with T < 2 by the rule "rescored"; `PAIRS`.

    Raises:
        ValueError: a row's views are no whole records.
    """
    images = _upright(Images.packed(sightings.column("views").to_pylist()))
    found = index.index.within(images, max(terms.threshold, terms.identical_bound))
    judged = verdicts(found.scores, found.identical, terms.threshold, terms.identical_bound)
    kept = np.flatnonzero(judged < Verdict.DIFFERENT)
    kinds = zip(found.kinds[kept].tolist(), found.sighting_kinds[kept].tolist(), strict=True)
    return _pairs(
        sightings.take(pa.array(found.sightings[kept])),
        index.rows.take(pa.array(found.protected[kept])),
        verdict=judged[kept],
        distance=found.scores[kept],
        plain_distance=found.distances[kept],
        rule=Rule.RESCORED,
        threshold=terms.threshold,
        view=[view_words(*pair) or None for pair in kinds],
    )


def plain_pairs(index: PlainIndex, sightings: pa.Table, terms: Terms, *, nearest_only: bool = False) -> pa.Table:
    """Pairs of sightings and the images of `index` with T < 2 by SRPITP's Formulas (1) and (2); `PAIRS`.

    Args:
        index: the protected images.
        sightings: rows with `sighting_id` and `fingerprint`.
        terms: `plain_threshold` and `identical_bound` are used.
        nearest_only: of each sighting the nearest alone, which is Algorithm 2; else all.
    """
    codes = code_matrix(sightings.column("fingerprint"))
    if nearest_only and len(index.index):
        nearest = index.index.nearest(codes)
        rows, positions, distances = np.arange(len(codes)), nearest.positions, nearest.distances
    else:
        found = index.index.within(codes, max(terms.plain_threshold, terms.identical_bound))
        rows, positions, distances = found.queries, found.positions, found.distances
    judged = verdicts(distances, distances <= terms.identical_bound, terms.plain_threshold, terms.identical_bound)
    kept = np.flatnonzero(judged < Verdict.DIFFERENT)
    return _pairs(
        sightings.take(pa.array(rows[kept])),
        index.rows.take(pa.array(positions[kept])),
        verdict=judged[kept],
        distance=distances[kept],
        plain_distance=distances[kept],
        rule=Rule.PAPER,
        threshold=terms.plain_threshold,
        view=[None] * len(kept),
    )


def same_file_pairs(sightings: pa.Table, protected: pa.Table, terms: Terms) -> pa.Table:
    """Row i of both is the same file: T = 0 whatever it shows; `PAIRS`.

    Needed are `sighting_id` and `views`, and of the protected image what `PAIRS` keeps of it.

    Under "rescored" the distance is what the score makes of a picture and itself, which flat blocks keep from 0.
    """
    by_score = np.zeros(sightings.num_rows, dtype=np.bool_)
    distances = np.zeros(sightings.num_rows)
    if terms.rule is Rule.RESCORED and sightings.num_rows:
        # The same file has the same views, so the sighting's own tell enough.
        by_score = np.asarray(has_views(sightings["views"]), dtype=np.bool_)
        rows = np.flatnonzero(by_score)
        images = Images.packed(sightings["views"].take(pa.array(rows)).to_pylist())
        upright = Operands.of(images.views[images.starts[:-1]])
        distances[rows] = scores(upright, np.arange(len(rows)), upright, np.arange(len(rows)))
    made = _pairs(
        sightings,
        protected,
        verdict=np.full(sightings.num_rows, Verdict.IDENTICAL, dtype=np.int8),
        distance=distances,
        plain_distance=np.zeros(sightings.num_rows),
        rule=terms.rule,
        threshold=terms.threshold,
        view=[None] * sightings.num_rows,
    )
    rules = np.where(by_score, Rule.RESCORED.value, Rule.PAPER.value)
    thresholds = np.where(by_score, terms.threshold, terms.plain_threshold)
    made = made.set_column(made.schema.get_field_index("rule"), "rule", pa.array(rules, pa.string()))
    return made.set_column(made.schema.get_field_index("threshold"), "threshold", pa.array(thresholds)).cast(PAIRS)


class RescoredIndex:
    """Protected images with views, to be compared by the rule "rescored": 7.5 kB each."""

    def __init__(self, protected: pa.Table) -> None:
        """Take rows with the columns of `OF_PROTECTED`.

        Raises:
            ValueError: a row's views are no whole records.
        """
        self.index = CandidateIndex(Images.packed(protected.column("views").to_pylist()))
        self.rows = _narrow(protected)


class PlainIndex:
    """Protected images, to be compared by the paper's rule: 270 bytes each for mao."""

    def __init__(self, protected: pa.Table, algorithm: str) -> None:
        """Take rows with the columns of `OF_PROTECTED`."""
        # Equal distances fall to the image that was protected first, whichever row order Spark brings.
        rows = protected.sort_by([("registered_at", "ascending"), ("protected_id", "ascending")])
        code = search_code_of(algorithm_named(algorithm))
        self.index = FlatIndex(code_matrix(rows.column("fingerprint"), code.code_bytes), code)
        self.rows = _narrow(rows)


class Newcomers:
    """Images that were just protected, which the sightings of earlier crawls are streamed past."""

    def __init__(self, protected: pa.Table, terms: Terms, coverage: float) -> None:
        """Index them by tag.

        Args:
            protected: rows with the columns of `OF_PROTECTED`, all in memory.
            terms: what pairs are judged by.
            coverage: tau: a sighting is looked up under its best tags until their probabilities sum to this.
        """
        self._terms = terms
        self._coverage = coverage
        self._protected = protected
        self._tags = sorted(set(protected.column("tag").to_pylist()))
        of_tags = [protected.filter(pc.equal(protected["tag"], tag)) for tag in self._tags]
        self._plain = [PlainIndex(rows, terms.algorithm) for rows in of_tags]
        if terms.rule is Rule.RESCORED:
            self._blind = [
                PlainIndex(rows.filter(pc.invert(has_views(rows["views"]))), terms.algorithm) for rows in of_tags
            ]
            self._rescored = [RescoredIndex(rows.filter(has_views(rows["views"]))) for rows in of_tags]

    def pairs(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The pairs (`PAIRS`) of sightings with the columns of `OF_SIGHTING`, batch after batch."""
        for chunk in _chunks(batches):
            yield from self._pairs_of(chunk).to_batches()

    def _pairs_of(self, sightings: pa.Table) -> pa.Table:
        looked_up = tags_within_coverage(sightings.column("tags"), self._coverage, self._tags)
        found = [self._same_files(sightings)]
        for place in range(len(self._tags)):
            found += self._pairs_of_tag(sightings.filter(pa.array(looked_up[:, place])), place)
        return pa.concat_tables(found)

    def _pairs_of_tag(self, sightings: pa.Table, place: int) -> Iterator[pa.Table]:
        if self._terms.rule is Rule.PAPER:
            yield plain_pairs(self._plain[place], sightings, self._terms)
            return
        seeing = has_views(sightings["views"])
        with_views = sightings.filter(seeing)
        yield rescored_pairs(self._rescored[place], with_views, self._terms)
        # What was written before there were views is compared as it was then.
        yield plain_pairs(self._plain[place], sightings.filter(pc.invert(seeing)), self._terms)
        yield plain_pairs(self._blind[place], with_views, self._terms)

    def _same_files(self, sightings: pa.Table) -> pa.Table:
        among = pc.is_in(sightings["sha256"], value_set=self._protected["sha256"].combine_chunks())
        places: dict[str, list[int]] = {}
        for place, sha256 in enumerate(self._protected["sha256"].to_pylist()):
            places.setdefault(sha256, []).append(place)
        rows, positions = [], []
        for row in np.flatnonzero(np.asarray(among.to_numpy(), dtype=np.bool_)).tolist():
            for place in places[sightings["sha256"][row].as_py()]:
                rows.append(row)
                positions.append(place)
        seen, protected = pa.array(rows, pa.int64()), pa.array(positions, pa.int64())
        return same_file_pairs(sightings.take(seen), self._protected.take(protected), self._terms)


def has_views(views: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which rows' `views` are one or more whole records; bool."""
    length = pc.fill_null(pc.binary_length(views), 0).cast(pa.int64())
    whole = pc.equal(pc.multiply(pc.divide(length, VIEW.itemsize), VIEW.itemsize), length)
    return pc.and_(pc.greater(length, 0), whole)


def code_matrix(fingerprints: pa.ChunkedArray, code_bytes: int = 180) -> NDArray[np.uint8]:
    """Encoded fingerprints of one length: uint8 (N, bytes); `code_bytes` is the length where there are none."""
    codes = fingerprints.to_pylist()
    length = len(codes[0]) if codes else code_bytes
    return np.frombuffer(b"".join(codes), dtype=np.uint8).reshape(len(codes), length)


def _narrow(protected: pa.Table) -> pa.Table:
    return protected.select(["protected_id", "owner", "group_id", "registered_at", "run"])


def _upright(images: Images) -> Images:
    """Of protected images that stand for sightings only the views that a sighting has."""
    kept = np.isin(images.views["kind"], _UPRIGHT_KINDS)
    if kept.all():
        return images
    views, image = images.views[kept], images.image[kept]
    return Images(np.split(views, np.searchsorted(image, np.arange(1, len(images)))))


def _chunks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The rows of small batches in larger ones."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= _ROWS_A_CHUNK:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if any(one.num_rows for one in waiting):
        yield pa.Table.from_batches(waiting)


def _pairs(
    sightings: pa.Table,
    protected: pa.Table,
    *,
    verdict: NDArray[np.int8],
    distance: NDArray[np.float64],
    plain_distance: NDArray[np.float64],
    rule: Rule,
    threshold: float,
    view: Sequence[str | None],
) -> pa.Table:
    """`PAIRS` of row i of both."""
    count = sightings.num_rows
    columns = [
        sightings["sighting_id"], protected["protected_id"], protected["owner"], protected["group_id"],
        protected["registered_at"], protected["run"], pa.array(verdict), pa.array(distance), pa.array(plain_distance),
        pa.array([rule.value] * count, pa.string()), pa.array([threshold] * count, pa.float64()),
        pa.array(view, pa.string()), pa.nulls(count, pa.string()), pa.nulls(count, pa.bool_()),
    ]  # fmt: skip
    return pa.table(columns, names=PAIRS.names).cast(PAIRS)
