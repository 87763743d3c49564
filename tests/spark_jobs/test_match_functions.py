"""The matching transforms under the paper's rule, against a plain double loop of SRPITP's Algorithm 2."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from copywatch.lake import delta
from copywatch.lake.schemas import DETECTED, MATCHES, PROTECTED
from copywatch.matching.pairs import Terms
from copywatch.rule import Rule
from spark_jobs import comparing, match_images

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
TAGS = ("animal", "building", "nature", "person", "vehicle")


@dataclass(frozen=True)
class Original:
    """A protected image of the oracle."""

    id: str
    symbols: tuple[int, ...]
    tag: str
    registered_at: datetime
    until: datetime | None = None
    status: str = "active"
    algorithm: str = "mao/1"


@dataclass(frozen=True)
class Sighting:
    """A detected image of the oracle."""

    id: str
    symbols: tuple[int, ...]
    tags: dict[str, float]


def packed(symbols: Sequence[int]) -> bytes:
    """Four symbols to a byte, the first in the highest bits: written down again, not the library's."""
    return bytes(
        symbols[at] << 6 | symbols[at + 1] << 4 | symbols[at + 2] << 2 | symbols[at + 3]
        for at in range(0, len(symbols), 4)
    )


def algorithm_2(
    sightings: Sequence[Sighting], originals: Sequence[Original], tau: float, threshold: float, bound: float
) -> dict[str, tuple[str, float, int]]:
    """Sighting -> (nearest protected image, distance, T) for T < 2: loops, and nothing else."""
    found = {}
    for sighting in sightings:
        searched, covered = [], 0.0
        for tag in sorted(sighting.tags, key=lambda tag: (-sighting.tags[tag], tag)):
            if covered >= tau - 1e-9 or sighting.tags[tag] <= 0:
                break
            searched.append(tag)
            covered += sighting.tags[tag]
        best: tuple[float, datetime, str] | None = None
        for original in originals:
            if original.tag not in searched or original.status != "active" or original.algorithm != "mao/1":
                continue
            if original.until is not None and original.until <= NOW:
                continue
            differing = sum(a != b for a, b in zip(sighting.symbols, original.symbols, strict=True))
            this = (differing / 720, original.registered_at, original.id)
            best = this if best is None or this < best else best
        if best is None:
            continue
        if best[0] <= bound:
            found[sighting.id] = (best[2], best[0], 0)
        elif best[0] <= threshold:
            found[sighting.id] = (best[2], best[0], 1)
    return found


def by_spark(
    spark: SparkSession, sightings: Sequence[Sighting], originals: Sequence[Original], tau: float, threshold: float,
    bound: float, shards: int,
) -> dict[str, tuple[str, float, int]]:  # fmt: skip
    """The same by the job's functions, as `match_run` puts them together."""
    empty = dict.fromkeys(DETECTED.columns.names)
    detected = spark.createDataFrame(
        [
            empty | {"sighting_id": one.id, "fingerprint": packed(one.symbols), "tags": one.tags, "algorithm": "mao/1"}
            for one in sightings
        ],
        delta.spark_schema(DETECTED),
    )
    empty = dict.fromkeys(PROTECTED.columns.names)
    protected = spark.createDataFrame(
        [
            empty | {"protected_id": one.id, "fingerprint": packed(one.symbols), "tag": one.tag, "owner": "7",
                     "algorithm": one.algorithm, "registered_at": one.registered_at, "protected_until": one.until,
                     "status": one.status}
            for one in originals
        ],
        delta.spark_schema(PROTECTED),
    )  # fmt: skip
    terms = Terms("mao", Rule.PAPER, threshold, threshold, bound)
    comparable = comparing.compared(comparing.in_force(protected, "mao/1", NOW))
    queries = comparing.looked_up(detected, tau)
    pairs = comparing.pairs_in_tags(queries, comparable, terms, Rule.PAPER, dict.fromkeys(TAGS, shards))
    rows = comparing.matches(detected, comparing.nearest(pairs), NOW).collect()
    assert len({row["sighting_id"] for row in rows}) == len(rows)
    for row in rows:
        assert row["state"] == ("certain" if row["verdict"] == 0 else "doubtful")
        assert (row["owner"], row["threshold"], row["decided_by"]) == ("7", threshold, None)
        assert (row["rule"], row["plain_distance"], row["view"]) == ("paper", row["distance"], None)
    return {row["sighting_id"]: (row["protected_id"], row["distance"], row["verdict"]) for row in rows}


def a_world(seed: int) -> dict[str, Any]:
    """Random fingerprints of a few families, so that there are near ones, equal ones, and ties."""
    chance = random.Random(seed)
    families = [[chance.randrange(4) for _ in range(720)] for _ in range(3)]

    def relative(changes: int) -> tuple[int, ...]:
        symbols = list(chance.choice(families))
        for place in chance.sample(range(720), changes):
            symbols[place] = (symbols[place] + chance.randint(1, 3)) % 4
        return tuple(symbols)

    originals = [
        Original(
            id=f"p{number:02d}",
            symbols=relative(chance.choice([0, 0, 1, 100, 300, 500])),
            tag=chance.choice(TAGS),
            registered_at=NOW - timedelta(days=chance.randint(1, 3)),
            until=chance.choice([None, None, NOW + timedelta(seconds=1), NOW, NOW - timedelta(days=1)]),
            status=chance.choice(["active", "active", "active", "withdrawn"]),
            algorithm=chance.choice(["mao/1", "mao/1", "mao/1", "mao/1-f0.25", "pdq/1"]),
        )
        for number in range(chance.choice([0, 1, 40]))
    ]
    sightings = []
    for number in range(chance.choice([0, 1, 30])):
        # Eighths: sums of them are exact also in the table's 32-bit floats, so both sides meet the same tau.
        cuts = sorted(chance.randrange(9) for _ in range(len(TAGS) - 1))
        shares = [(high - low) / 8 for low, high in zip([0, *cuts], [*cuts, 8], strict=True)]
        sightings.append(
            Sighting(
                f"s{number:02d}", relative(chance.choice([0, 1, 200, 338, 339])), dict(zip(TAGS, shares, strict=True))
            )
        )
    return {
        "sightings": sightings,
        "originals": originals,
        "tau": chance.choice([0.25, 0.5, 0.95, 1.0]),
        "threshold": chance.choice([0.0, 0.3, 338 / 720, 0.47]),
        "bound": chance.choice([0.0, 0.0, 1 / 720, 0.5]),
    }


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), shards=st.integers(1, 3))
def test_equals_the_double_loop(spark: SparkSession, seed: int, shards: int):
    world = a_world(seed)
    assert by_spark(spark, shards=shards, **world) == algorithm_2(**world)


PLAIN = tuple([0, 1, 2, 3] * 180)
NEAR = (1, *PLAIN[1:])
ONLY = {"animal": 1.0}


def match_one(spark: SparkSession, *originals: Original, shards: int = 1, **more: Any) -> Any:
    options: dict[str, Any] = {"tau": 0.95, "threshold": 0.47, "bound": 0.0, **more}
    sighting = Sighting("s", options.pop("symbols", PLAIN), options.pop("tags", ONLY))
    found = by_spark(spark, [sighting], originals, shards=shards, **options)
    assert found == algorithm_2([sighting], originals, **options)
    return found.get("s")


@pytest.mark.parametrize("shards", [1, 4])
def test_of_equals_the_image_protected_first_wins(spark: SparkSession, shards: int):
    late = [Original(f"p{number}", PLAIN, "animal", NOW) for number in range(6)]
    first = Original("p9", PLAIN, "animal", NOW - timedelta(days=1))
    assert match_one(spark, *late, first, *late, shards=shards) == ("p9", 0.0, 0)
    assert match_one(spark, *reversed(late), shards=shards) == ("p0", 0.0, 0)


def test_of_equals_under_two_tags_the_image_protected_first_wins(spark: SparkSession):
    tags = {"animal": 0.6, "person": 0.4}
    early, late = NOW - timedelta(days=2), NOW - timedelta(days=1)
    assert match_one(spark, Original("p1", NEAR, "animal", late), Original("p2", NEAR, "person", early), tags=tags) == (
        "p2",
        1 / 720,
        1,
    )


def test_a_nearer_one_under_a_lesser_tag_is_found(spark: SparkSession):
    tags = {"animal": 0.6, "person": 0.36, "vehicle": 0.04}
    others = [Original("far", NEAR, "animal", NOW), Original("beyond", PLAIN, "vehicle", NOW)]
    assert match_one(spark, *others, Original("near", PLAIN, "person", NOW), tags=tags) == ("near", 0.0, 0)
    assert match_one(spark, *others, tags=tags, tau=1.0) == ("beyond", 0.0, 0)
    assert match_one(spark, *others, tags=tags) == ("far", 1 / 720, 1)


def test_is_never_compared(spark: SparkSession):
    never = [
        Original("expired", PLAIN, "animal", NOW, until=NOW - timedelta(seconds=1)),
        Original("withdrawn", PLAIN, "animal", NOW, status="withdrawn"),
        Original("another version", PLAIN, "animal", NOW, algorithm="mao/2"),
        Original("another tag", PLAIN, "vehicle", NOW),
    ]
    assert match_one(spark, *never) is None
    # They would be the nearer ones.
    assert match_one(spark, *never, Original("compared", NEAR, "animal", NOW)) == ("compared", 1 / 720, 1)


def test_the_bounds_belong_to_the_better_verdict(spark: SparkSession):
    original = Original("p", PLAIN, "animal", NOW)
    assert match_one(spark, original, symbols=NEAR, threshold=1 / 720) == ("p", 1 / 720, 1)
    assert match_one(spark, original, symbols=NEAR, threshold=0.9 / 720) is None
    assert match_one(spark, original, symbols=NEAR, threshold=0.0, bound=1 / 720) == ("p", 1 / 720, 0)
    assert match_one(spark, original, threshold=0.0) == ("p", 0.0, 0)


def test_a_row_without_a_column_is_refused(spark: SparkSession, config: Any):
    from copywatch.errors import LakeError

    with pytest.raises(LakeError, match=r"matches: rows without .*sighting_id"):
        delta.conform(spark.createDataFrame([("lumen",)], "site string"), MATCHES)


@pytest.mark.parametrize(("text", "number"), [("", None), ("None", None), ("0", 0.0), ("0.4", 0.4), ("1e-1", 0.1)])
def test_the_forms_threshold(text: str, number: float | None):
    assert match_images.threshold_or_none(text) == number
