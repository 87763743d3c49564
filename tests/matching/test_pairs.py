"""Rows that met under a tag become judged pairs: the library's half of the matching jobs, without Spark."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from copywatch.fingerprint.mao import Mao
from copywatch.fingerprint.views import VIEW, Kind
from copywatch.lake.schemas import PROTECTED, TAGS, TIMESTAMP
from copywatch.matching import pairs
from copywatch.matching.pairs import PAIRS, Newcomers, Terms, has_views
from copywatch.matching.tags import tags_to_search, tags_within_coverage
from copywatch.rule import Rule

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
TAG_NAMES = ("animal", "building", "nature", "person", "vehicle")
RESCORED = Terms("mao", Rule.RESCORED, 0.2275, 0.47, 0.0)
PAPER = Terms("mao", Rule.PAPER, 0.47, 0.47, 0.0)


def fingerprint(family: int, changes: int) -> bytes:
    symbols = np.random.default_rng(family).integers(0, 4, 720, dtype=np.uint8)
    symbols[:changes] = (symbols[:changes] + 1) % 4
    return Mao().encode(symbols)


def views(family: int, changes: int, kind: Kind = Kind.UPRIGHT, mask: int = 255) -> bytes:
    made = np.zeros(1, dtype=VIEW)
    made["kind"] = kind
    made["fingerprint"] = np.frombuffer(fingerprint(family, changes), dtype=np.uint8)
    made["mask"] = mask
    made["pdq"] = np.random.default_rng(family + 999).integers(0, 256, 32, dtype=np.uint8)
    return made.tobytes()


def sightings(*rows: dict[str, Any]) -> pa.Table:
    schema = pa.schema(
        [("sighting_id", pa.string()), ("sha256", pa.string()), ("fingerprint", pa.binary()), ("views", pa.binary()),
         ("tags", TAGS)]
    )  # fmt: skip
    return pa.Table.from_pylist(list(rows), schema=schema)


def sighting(family: int, changes: int, tag: str = "animal", **changed: Any) -> dict[str, Any]:
    row = {"sighting_id": f"s{family}-{changes}", "sha256": f"seen {family} {changes}", "tags": [(tag, 1.0)],
           "fingerprint": fingerprint(family, changes), "views": views(family, changes)}  # fmt: skip
    return row | changed


def originals(*rows: dict[str, Any]) -> pa.Table:
    schema = pa.schema([PROTECTED.columns.field(name) for name in pairs.OF_PROTECTED])
    assert schema.field("registered_at").type == TIMESTAMP
    return pa.Table.from_pylist(list(rows), schema=schema)


def original(family: int, tag: str = "animal", **changed: Any) -> dict[str, Any]:
    row = {"protected_id": f"p{family}", "owner": "7", "group_id": f"g{family}", "registered_at": NOW, "run": "intake",
           "sha256": f"{family}", "fingerprint": fingerprint(family, 0), "views": views(family, 0),
           "tag": tag}  # fmt: skip
    return row | changed


def streamed(seen: pa.Table, protected: pa.Table, terms: Terms = RESCORED, rows: int = 3) -> list[dict[str, Any]]:
    found = list(Newcomers(protected, terms, 0.95).pairs(iter(seen.to_batches(max_chunksize=rows))))
    assert all(batch.schema.equals(PAIRS) for batch in found)
    return sorted((row for batch in found for row in batch.to_pylist()), key=lambda row: row["sighting_id"])


def test_a_pair_says_what_it_is_of_and_how_it_was_judged():
    (row,) = streamed(sightings(sighting(1, 36), sighting(2, 720)), originals(original(1), original(2)))
    assert row == {
        "sighting_id": "s1-36", "protected_id": "p1", "owner": "7", "group_id": "g1", "registered_at": NOW,
        "registered_run": "intake", "verdict": 1, "distance": pytest.approx(0.02), "plain_distance": 0.05,
        "rule": "rescored", "threshold": 0.2275, "view": None, "verification": None, "stands": None,
    }  # fmt: skip


@pytest.mark.parametrize("terms", [RESCORED, PAPER], ids=["rescored", "paper"])
def test_streaming_gives_the_same_however_the_rows_are_cut(terms: Terms, monkeypatch: pytest.MonkeyPatch):
    seen = sightings(*(sighting(n % 7, n, tag=TAG_NAMES[n % 2]) for n in range(60)))
    protected = originals(*(original(n, tag=TAG_NAMES[n % 2]) for n in range(7)))
    whole = streamed(seen, protected, terms, rows=1000)
    assert len(whole) == sum(n % 7 % 2 == n % 2 for n in range(60))
    monkeypatch.setattr(pairs, "_ROWS_A_CHUNK", 5)
    assert streamed(seen, protected, terms, rows=2) == whole
    assert {row["rule"] for row in whole} == {terms.rule.value}


def test_nothing_streamed_and_nothing_protected():
    assert streamed(sightings(), originals(original(1))) == []
    assert streamed(sightings(sighting(1, 0)), originals()) == []
    empty = sightings().to_batches() or [pa.RecordBatch.from_pylist([], schema=sightings().schema)]
    assert list(Newcomers(originals(original(1)), RESCORED, 0.95).pairs(iter(empty))) == []


def test_the_same_file_is_identical_even_if_blank_and_elsewhere():
    blank = views(1, 0, mask=0)
    seen = sightings(
        sighting(1, 0, sha256="1", views=blank, tags=[("vehicle", 1.0)]), sighting(1, 1, views=blank),
        sighting(3, 0, sha256="3", views=None), sighting(4, 700, sha256="4"),
    )  # fmt: skip
    protected = originals(original(1, views=blank), original(3), original(4, tag="person"))
    found = {row["sighting_id"]: row for row in streamed(seen, protected) if row["verdict"] == 0}
    assert {(name, row["protected_id"]) for name, row in found.items()} == {
        ("s1-0", "p1"),
        ("s3-0", "p3"),
        ("s4-700", "p4"),
    }
    # A blank picture's score with itself lies beyond Th.
    assert found["s1-0"]["distance"] == pytest.approx(0.4 * 0.65)
    assert (found["s1-0"]["rule"], found["s1-0"]["plain_distance"]) == ("rescored", 0)
    assert (found["s3-0"]["rule"], found["s3-0"]["distance"], found["s3-0"]["threshold"]) == ("paper", 0, 0.47)


def test_an_identical_pair_of_views_decides_though_another_pair_scores_less():
    """Flat blocks cost even a picture and itself; a zoomed view of the same picture may have fewer of them."""
    mostly_flat = views(1, 0, mask=15)
    seen = sightings(sighting(1, 0, views=mostly_flat))
    protected = originals(original(1, views=mostly_flat + views(1, 2, Kind.ALIGNED, mask=255)))
    (row,) = streamed(seen, protected)
    assert (row["verdict"], row["plain_distance"], row["view"]) == (0, 0, None)


def test_the_bounds():
    seen, protected = sightings(sighting(1, 36)), originals(original(1))
    for terms, expected in (
        (Terms("mao", Rule.RESCORED, 0.0201, 0.47, 0.0), [1]), (Terms("mao", Rule.RESCORED, 0.0199, 0.47, 0.0), []),
        (Terms("mao", Rule.RESCORED, 0.0, 0.47, 0.021), [0]), (Terms("mao", Rule.RESCORED, 0.5, 0.47, 0.021), [0]),
        (Terms("mao", Rule.PAPER, 0.05, 0.05, 0.0), [1]), (Terms("mao", Rule.PAPER, 0.0499, 0.0499, 0.0), []),
        (Terms("mao", Rule.PAPER, 0.0, 0.0, 0.06), [0]),
    ):  # fmt: skip
        assert [row["verdict"] for row in streamed(seen, protected, terms)] == expected, terms


def test_which_rows_have_views():
    column = pa.chunked_array([[None, b"", b"x" * 230], [b"x" * 231, b"x" * 462, b"x" * 463]], pa.binary())
    assert has_views(column).to_pylist() == [False, False, False, True, True, False]


class TestTagsWithinCoverage:
    def rows(self, seed: int) -> Iterator[list[tuple[str, float]]]:
        chance = random.Random(seed)
        for _ in range(300):
            shares = [chance.choice([0.0, 0.1, 0.2, 0.5, chance.random()]) for _ in TAG_NAMES]
            shares[0] += 0.01
            made = [(tag, float(np.float32(share / sum(shares)))) for tag, share in zip(TAG_NAMES, shares, strict=True)]
            chance.shuffle(made)
            yield made

    @pytest.mark.parametrize("coverage", [0.25, 0.5, 0.95, 1.0])
    def test_is_tags_to_search_of_each_row(self, coverage: float):
        rows = list(self.rows(int(coverage * 100)))
        column = pa.chunked_array([pa.array(rows[:100], TAGS), pa.array(rows, TAGS)[100:]])
        wanted = [*TAG_NAMES, "nothing has it"]
        chosen = tags_within_coverage(column, coverage, wanted)
        expected = [[tag in tags_to_search(dict(row), coverage) for tag in wanted] for row in rows]
        assert chosen.tolist() == expected

    def test_rows_without_tags_are_looked_up_nowhere(self):
        column = pa.chunked_array([pa.array([None, [], [("animal", 0.0)], [("animal", 1.0)]], TAGS)])
        assert tags_within_coverage(column, 0.95, ["animal"]).tolist() == [[False], [False], [False], [True]]
        assert tags_within_coverage(column, 0.95, []).shape == (4, 0)
        assert tags_within_coverage(pa.chunked_array([], TAGS), 0.95, ["animal"]).shape == (0, 1)
