"""One image against all protected ones, now and without a JVM: what `copywatch check` and the check API answer with.

The same search as the chain's (`spark_jobs/match_images.py`): under the image's tags until tau, exactly, among the
protected images in force. The fingerprints of a tag are read once for each version of the table.
"""

from __future__ import annotations

import threading
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

from copywatch.decode import decode
from copywatch.errors import LakeError
from copywatch.fingerprint.algorithm import Algorithm, identity
from copywatch.fingerprint.registry import algorithm_named
from copywatch.lake.schemas import PROTECTED, TIMESTAMP
from copywatch.lake.tables import open_table, rows_of
from copywatch.matching.codes import search_code_of
from copywatch.matching.index import FlatIndex
from copywatch.matching.tags import tags_to_search
from copywatch.matching.verdict import Verdict, verdict
from copywatch.settings import Settings
from copywatch.tagging.tagger import Tagger

_COLUMNS = ("protected_id", "owner", "tag", "fingerprint", "algorithm", "status", "registered_at", "protected_until")
_FIRST_STEP = 1 / 32
"""How far beyond the nearest image the others are sought first, in normalised distance."""
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Neighbour:
    """A protected image and how far the checked one is from it.

    Attributes:
        protected_id: of the protected image.
        owner: its owner's id in the ledger.
        tag: the tag it is stored under.
        distance: normalised Hamming distance, in [0, 1].
        verdict: the paper's T.
        threshold: Th that T was found with.
        algorithm: algorithm and version of both fingerprints, such as `mao/1`.
    """

    protected_id: str
    owner: str
    tag: str
    distance: float
    verdict: Verdict
    threshold: float
    algorithm: str

    @property
    def similarity(self) -> float:
        """Share of the fingerprint that agrees, in [0, 1]."""
        return 1.0 - self.distance


def threshold_in_force(config: Settings) -> float:
    """Th of the settings, else the deciding algorithm's own.

    Raises:
        SettingsError: no algorithm has the name that the settings give.
    """
    return config.threshold if config.threshold is not None else algorithm_named(config.algorithm).threshold


def check(data: bytes, *, warehouse: str, config: Settings, limit: int = 5) -> list[Neighbour]:
    """The protected images nearest to an image, nearest first; of equally near ones that registered first.

    Compared are the protected images under the image's tags (until their probabilities reach tau) that are active, not
    expired, and of the deciding algorithm's version. What is found different (T = 2) is among the answers.

    Args:
        data: bytes of an image file, from anywhere.
        warehouse: URL of the folder of the Delta tables.
        config: algorithm, thresholds, tau, size limits, and where the tag models are.
        limit: how many at most, 1 or more.

    Raises:
        UnusableImage: the bytes give no fingerprint.
        LakeError: there is no table `protected`, or it holds a fingerprint of another length.
        MachineError: the tag models are not prepared.
        SettingsError: no algorithm has the name that the settings give.
        ValueError: the limit is below 1.
    """
    if limit < 1:
        raise ValueError(f"at least one neighbour must be asked for, not {limit}")
    algorithm = algorithm_named(config.algorithm)
    image = decode(data, max_pixels=config.max_image_pixels, max_bytes=config.max_image_bytes).rgb
    code = np.frombuffer(algorithm.encode(algorithm.fingerprint(image)), dtype=np.uint8)[np.newaxis]
    tags = tags_to_search(_tagger(config.prepared_dir / "models").probabilities(image), config.tag_coverage)
    now = datetime.now(UTC)
    found = [
        one
        for protected in _in_force.of_tags(warehouse, algorithm, tags)
        for one in protected.nearest(code, limit, now)
    ]
    threshold = threshold_in_force(config)
    return [
        Neighbour(
            protected_id=one.protected_id,
            owner=one.owner,
            tag=one.tag,
            distance=one.distance,
            verdict=verdict(one.distance, threshold, config.identical_bound),
            threshold=threshold,
            algorithm=identity(algorithm),
        )
        for one in sorted(found)[:limit]
    ]


@dataclass(frozen=True, order=True)
class _Found:
    """In the order of the answer."""

    distance: float
    registered_at: int
    protected_id: str
    owner: str
    tag: str


class _ProtectedOfTag:
    """The protected images of one tag and one algorithm, as one version of the table has them."""

    def __init__(self, tag: str, rows: pa.Table, algorithm: Algorithm) -> None:
        # In the order in which equal distances are answered: the index answers them by position.
        rows = rows.sort_by([("registered_at", "ascending"), ("protected_id", "ascending")])
        self._tag = tag
        self._ids = rows.column("protected_id")
        self._owners = rows.column("owner")
        self._registered = _microseconds(rows.column("registered_at"))
        self._until = _microseconds(rows.column("protected_until"))
        codes = rows.column("fingerprint").to_pylist()
        wrong = next((len(code) for code in codes if len(code) != algorithm.code_bytes), None)
        if wrong is not None:
            raise LakeError(
                f"{PROTECTED.name}, tag {tag}: a fingerprint of {identity(algorithm)} has {wrong} bytes, "
                f"not {algorithm.code_bytes}; fingerprint the originals again"
            )
        matrix = np.frombuffer(b"".join(codes), dtype=np.uint8).reshape(-1, algorithm.code_bytes)
        self._index = FlatIndex(matrix, search_code_of(algorithm))

    def nearest(self, code: NDArray[np.uint8], limit: int, now: datetime) -> list[_Found]:
        """The nearest in force at `now`, at most `limit`."""
        if not len(self._index):
            return []
        # What expires while a version is held is still in the index, so the ring is widened until enough are left.
        moment = int(now.timestamp() * 1_000_000)
        radius, step = float(self._index.nearest(code).distances[0]), _FIRST_STEP
        while True:
            radius, step = min(radius + step, 1.0), step * 2
            pairs = self._index.within(code, radius)
            valid = self._until[pairs.positions] > moment
            if np.count_nonzero(valid) >= limit or radius >= 1.0:
                break
        return [
            _Found(
                distance=float(distance),
                registered_at=int(self._registered[position]),
                protected_id=self._ids[int(position)].as_py(),
                owner=self._owners[int(position)].as_py(),
                tag=self._tag,
            )
            for position, distance in zip(pairs.positions[valid][:limit], pairs.distances[valid][:limit], strict=True)
        ]


class _InForce:
    """Protected images by tag, kept until the table has a newer version."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version: tuple[str, str, str, int] | None = None
        self._by_tag: dict[str, _ProtectedOfTag] = {}

    def of_tags(self, warehouse: str, algorithm: Algorithm, tags: Sequence[str]) -> list[_ProtectedOfTag]:
        """Those of some tags; tags that are not kept yet are read, and no others."""
        # One reader at a time: two requests that find a new version must not both hold all fingerprints twice.
        with self._lock:
            opened = open_table(warehouse, PROTECTED)
            # A table that was dropped and made again starts at version 0 under another id.
            version = (warehouse, identity(algorithm), str(opened.metadata().id), opened.version())
            if version != self._version:
                self._by_tag = {}
                self._version = version
            self._read([tag for tag in tags if tag not in self._by_tag], opened, algorithm)
            return [self._by_tag[tag] for tag in tags]

    def _read(self, tags: Sequence[str], opened: DeltaTable, algorithm: Algorithm) -> None:
        if not tags:
            return
        rows = rows_of(opened, PROTECTED, tags=tags, columns=_COLUMNS)
        rows = rows.filter(
            pc.and_(pc.equal(rows["status"], "active"), pc.equal(rows["algorithm"], identity(algorithm)))
        )
        for tag in tags:
            self._by_tag[tag] = _ProtectedOfTag(tag, rows.filter(pc.equal(rows["tag"], tag)), algorithm)


_in_force = _InForce()


def _microseconds(moments: pa.ChunkedArray) -> NDArray[np.int64]:
    """Microseconds since 1970, int64; a null counts as never."""
    numbers = moments.cast(TIMESTAMP).cast(pa.int64())
    return np.asarray(pc.fill_null(numbers, _NEVER).combine_chunks().to_numpy(zero_copy_only=False), dtype=np.int64)


@lru_cache(maxsize=2)
def _tagger(models: Path) -> Tagger:
    return Tagger(models)
