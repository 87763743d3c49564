"""One image against all protected ones, now and without a JVM: what `copywatch check` and the check API answer with.

The same search as the chain's (`spark_jobs/match_images.py`), by the rule in force: under the image's tags until tau,
among the protected images in force. What is compared is read once for each version of the table and kept: of each
protected image 6.5 kB of views and 1 kB of index under "rescored", 0.3 kB under "paper".
"""

from __future__ import annotations

import hashlib
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from numpy.typing import NDArray
from PIL import Image

from copywatch.decode import decode
from copywatch.errors import LakeError
from copywatch.fingerprint.algorithm import Algorithm, identity
from copywatch.fingerprint.registry import algorithm_named
from copywatch.fingerprint.views import sighting_views
from copywatch.lake.schemas import PROTECTED, TIMESTAMP
from copywatch.lake.tables import open_table, rows_of
from copywatch.matching.candidates import CandidateIndex, Images, ScoredPairs
from copywatch.matching.codes import search_code_of
from copywatch.matching.index import FlatIndex
from copywatch.matching.tags import tags_to_search
from copywatch.matching.verdict import Verdict, verdicts
from copywatch.matching.view_words import view_words
from copywatch.rule import Rule
from copywatch.settings import Settings
from copywatch.tagging.tagger import Tagger
from copywatch.threshold import rule_for, threshold_in_force

log = logging.getLogger(__name__)

_COLUMNS = ("protected_id", "owner", "tag", "sha256", "algorithm", "status", "registered_at", "protected_until")
_COMPARED = {Rule.PAPER: "fingerprint", Rule.RESCORED: "views"}
_FIRST_STEP = 1 / 32
"""How far beyond the nearest image the others are sought first, in normalised distance."""
_MOST_UPRIGHT_VIEWS = 2
"""Of one protected image: as it is, and without its frame."""
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Neighbour:
    """A protected image and how far the checked one is from it.

    Attributes:
        protected_id: of the protected image.
        owner: its owner's id in the ledger.
        tag: the tag it is stored under.
        distance: what Th is compared with, in [0, 1]: by the rule.
        verdict: the paper's T.
        threshold: Th that T was found with.
        algorithm: algorithm and version of both fingerprints, such as `mao/1`.
        rule: how `distance` was measured.
        plain_distance: SRPITP's normalised Hamming distance of what was compared, in [0, 1].
        view: what was done to the checked image, in words, such as "mirrored"; empty: nothing that shows, or no copy.
    """

    protected_id: str
    owner: str
    tag: str
    distance: float
    verdict: Verdict
    threshold: float
    algorithm: str
    rule: Rule
    plain_distance: float
    view: str

    @property
    def similarity(self) -> float:
        """Share of the fingerprint that agrees, in [0, 1]."""
        return 1.0 - self.plain_distance


def check(data: bytes, *, warehouse: str, config: Settings, limit: int = 5) -> list[Neighbour]:
    """The protected images nearest to an image, nearest first; of equally near ones that registered first.

    Compared are the protected images under the image's tags (until their probabilities reach tau) that are active, not
    expired, and of the deciding algorithm's version. What is found different (T = 2) is among the answers. Under
    "rescored" identical ones come first, whatever their score is, and the very same file before all; which of the
    different ones are nearest is the first stage's guess.

    Args:
        data: bytes of an image file, from anywhere.
        warehouse: URL of the folder of the Delta tables.
        config: algorithm, rule, thresholds, tau, size limits, and where the tag models are.
        limit: how many at most, 1 or more.

    Raises:
        UnusableImage: the bytes give no fingerprint.
        LakeError: there is no table `protected`, or it holds a fingerprint or views of another length.
        MachineError: the tag models are not prepared.
        SettingsError: no algorithm has the name that the settings give.
        ValueError: the limit is below 1.
    """
    if limit < 1:
        raise ValueError(f"at least one neighbour must be asked for, not {limit}")
    algorithm = algorithm_named(config.algorithm)
    rule = rule_for(config.algorithm, config)
    image = decode(data, max_pixels=config.max_image_pixels, max_bytes=config.max_image_bytes).rgb
    checked = _Checked(hashlib.sha256(data).hexdigest(), image, algorithm)
    tags = tags_to_search(_tagger(config.prepared_dir / "models").probabilities(image), config.tag_coverage)
    now = datetime.now(UTC)
    found = sorted(
        one
        for protected in _in_force.of_tags(warehouse, algorithm, rule, tags)
        for one in protected.nearest(checked, limit, now)
    )[:limit]
    threshold = threshold_in_force(config).value
    judged = verdicts(
        np.array([one.distance for one in found], dtype=np.float64),
        np.array([one.is_certain for one in found], dtype=np.bool_),
        threshold,
        config.identical_bound,
    )
    return [
        Neighbour(
            protected_id=one.protected_id,
            owner=one.owner,
            tag=one.tag,
            distance=one.distance,
            verdict=Verdict(int(verdict)),
            threshold=threshold,
            algorithm=identity(algorithm),
            rule=rule,
            plain_distance=one.plain_distance,
            view=one.view if verdict < Verdict.DIFFERENT else "",
        )
        for one, verdict in zip(found, judged, strict=True)
    ]


@dataclass(frozen=True)
class _Checked:
    """The image that is checked."""

    sha256: str
    image: Image.Image
    algorithm: Algorithm

    def code(self) -> NDArray[np.uint8]:
        """Its encoded fingerprint, uint8 (1, code_bytes)."""
        encoded = self.algorithm.encode(self.algorithm.fingerprint(self.image))
        return np.frombuffer(encoded, dtype=np.uint8)[np.newaxis]


_SAME_FILE, _IDENTICAL, _OTHER = 0, 1, 2


@dataclass(frozen=True, order=True)
class _Found:
    """In the order of the answer."""

    rank: int
    distance: float
    registered_at: int
    protected_id: str
    owner: str
    tag: str
    plain_distance: float
    view: str = ""

    @property
    def is_certain(self) -> bool:
        """T = 0 whatever the thresholds are."""
        return self.rank != _OTHER


class _ProtectedOfTag(ABC):
    """The protected images of one tag and one algorithm, as one version of the table has them."""

    def __init__(self, tag: str, rows: pa.Table) -> None:
        # In the order in which equal distances are answered: the indexes answer them by position.
        rows = rows.sort_by([("registered_at", "ascending"), ("protected_id", "ascending")])
        self._tag = tag
        self._ids = rows.column("protected_id")
        self._owners = rows.column("owner")
        self._registered = _microseconds(rows.column("registered_at"))
        self._until = _microseconds(rows.column("protected_until"))
        self._rows = rows

    @abstractmethod
    def nearest(self, checked: _Checked, limit: int, now: datetime) -> list[_Found]:
        """The nearest in force at `now`, at most `limit`."""

    def _in_force(self, positions: NDArray[np.int64], now: datetime) -> NDArray[np.bool_]:
        in_force: NDArray[np.bool_] = self._until[positions] > int(now.timestamp() * 1_000_000)
        return in_force

    def _found(self, position: int, rank: int, distance: float, plain_distance: float, view: str = "") -> _Found:
        return _Found(
            rank=rank,
            distance=distance,
            registered_at=int(self._registered[position]),
            protected_id=self._ids[position].as_py(),
            owner=self._owners[position].as_py(),
            tag=self._tag,
            plain_distance=plain_distance,
            view=view,
        )


class _ByDistance(_ProtectedOfTag):
    """Rule "paper": upright fingerprints by SRPITP's Formula (1)."""

    def __init__(self, tag: str, rows: pa.Table, algorithm: Algorithm) -> None:
        super().__init__(tag, rows)
        codes = self._rows.column("fingerprint").to_pylist()
        wrong = next((len(code) for code in codes if len(code) != algorithm.code_bytes), None)
        if wrong is not None:
            raise LakeError(
                f"{PROTECTED.name}, tag {tag}: a fingerprint of {identity(algorithm)} has {wrong} bytes, "
                f"not {algorithm.code_bytes}; fingerprint the originals again"
            )
        matrix = np.frombuffer(b"".join(codes), dtype=np.uint8).reshape(-1, algorithm.code_bytes)
        self._index = FlatIndex(matrix, search_code_of(algorithm))
        del self._rows

    def nearest(self, checked: _Checked, limit: int, now: datetime) -> list[_Found]:
        if not len(self._index):
            return []
        # What expires while a version is held is still in the index, so the ring is widened until enough are left.
        code = checked.code()
        radius, step = float(self._index.nearest(code).distances[0]), _FIRST_STEP
        while True:
            radius, step = min(radius + step, 1.0), step * 2
            pairs = self._index.within(code, radius)
            valid = self._in_force(pairs.positions, now)
            if np.count_nonzero(valid) >= limit or radius >= 1.0:
                break
        nearest = zip(pairs.positions[valid][:limit], pairs.distances[valid][:limit], strict=True)
        return [
            self._found(int(position), _IDENTICAL if distance == 0 else _OTHER, float(distance), float(distance))
            for position, distance in nearest
        ]


class _ByScore(_ProtectedOfTag):
    """Rule "rescored": views by `copywatch.matching.score`."""

    def __init__(self, tag: str, rows: pa.Table) -> None:
        with_views = rows.filter(pc.is_valid(rows["views"]))
        if left_out := rows.num_rows - with_views.num_rows:
            log.warning(
                "%s, tag %s: %d protected images were fingerprinted before there were views and are not compared; "
                "fingerprint the originals again",
                PROTECTED.name,
                tag,
                left_out,
            )
        super().__init__(tag, with_views)
        try:
            views = Images.packed(self._rows.column("views").to_pylist())
        except ValueError as error:
            raise LakeError(f"{PROTECTED.name}, tag {tag}: {error}; fingerprint the originals again") from error
        self._sha256s = np.array(self._rows.column("sha256").to_pylist(), dtype=np.str_)
        self._index = CandidateIndex(views) if len(views) else None
        del self._rows

    def nearest(self, checked: _Checked, limit: int, now: datetime) -> list[_Found]:
        if self._index is None:
            return []
        sighting = Images([sighting_views(checked.image)])
        # The first stage counts views, and what has expired since the version was read: asked for more until enough
        # images in force are left.
        count = limit
        while True:
            pairs = self._index.nearest(sighting, count)
            in_force = np.count_nonzero(self._in_force(pairs.protected, now))
            if in_force >= limit or count >= _MOST_UPRIGHT_VIEWS * len(self._index):
                break
            count *= 2
        same = np.flatnonzero(self._sha256s == checked.sha256)
        # The very same file is found even where all that it shows is flat, and so equally near to many.
        missed = np.setdiff1d(same, pairs.protected)
        found = self._of(pairs, same, now)
        found += self._of(self._index.rescored(sighting, np.zeros_like(missed), missed, 1.0), same, now)
        return sorted(found)[:limit]

    def _of(self, pairs: ScoredPairs, same: NDArray[np.int64], now: datetime) -> list[_Found]:
        in_force = self._in_force(pairs.protected, now)
        ranks = np.where(pairs.identical, _IDENTICAL, _OTHER)
        ranks[np.isin(pairs.protected, same)] = _SAME_FILE
        return [
            self._found(
                int(pairs.protected[i]),
                int(ranks[i]),
                float(pairs.scores[i]),
                float(pairs.distances[i]),
                # Nothing was done to the very same file, whichever of its views agree best.
                "" if ranks[i] == _SAME_FILE else view_words(int(pairs.kinds[i]), int(pairs.sighting_kinds[i])),
            )
            for i in np.flatnonzero(in_force)
        ]


class _InForce:
    """Protected images by tag, kept until the table has a newer version."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version: tuple[str, str, Rule, str, int] | None = None
        self._by_tag: dict[str, _ProtectedOfTag] = {}

    def of_tags(self, warehouse: str, algorithm: Algorithm, rule: Rule, tags: Sequence[str]) -> list[_ProtectedOfTag]:
        """Those of some tags; tags that are not kept yet are read, and no others."""
        # One reader at a time: two requests that find a new version must not both hold all fingerprints twice.
        with self._lock:
            opened = open_table(warehouse, PROTECTED)
            # A table that was dropped and made again starts at version 0 under another id.
            version = (warehouse, identity(algorithm), rule, str(opened.metadata().id), opened.version())
            if version != self._version:
                self._by_tag = {}
                self._version = version
            self._read([tag for tag in tags if tag not in self._by_tag], opened, algorithm, rule)
            return [self._by_tag[tag] for tag in tags]

    def _read(self, tags: Sequence[str], opened: DeltaTable, algorithm: Algorithm, rule: Rule) -> None:
        if not tags:
            return
        rows = rows_of(opened, PROTECTED, tags=tags, columns=(*_COLUMNS, _COMPARED[rule]))
        rows = rows.filter(
            pc.and_(pc.equal(rows["status"], "active"), pc.equal(rows["algorithm"], identity(algorithm)))
        )
        for tag in tags:
            of_tag = rows.filter(pc.equal(rows["tag"], tag))
            self._by_tag[tag] = _ByScore(tag, of_tag) if rule is Rule.RESCORED else _ByDistance(tag, of_tag, algorithm)


_in_force = _InForce()


def _microseconds(moments: pa.ChunkedArray) -> NDArray[np.int64]:
    """Microseconds since 1970, int64; a null counts as never."""
    numbers = moments.cast(TIMESTAMP).cast(pa.int64())
    return np.asarray(pc.fill_null(numbers, _NEVER).combine_chunks().to_numpy(zero_copy_only=False), dtype=np.int64)


@lru_cache(maxsize=2)
def _tagger(models: Path) -> Tagger:
    return Tagger(models)
