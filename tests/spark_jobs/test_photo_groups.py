"""Copies of one photo among the protected: which groups they make, and which owners are told of a sighting."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from copywatch.fingerprint.views import Kind
from copywatch.lake import delta
from copywatch.lake.schemas import DETECTED, MATCHES, PROTECTED
from copywatch.matching.pairs import Terms
from copywatch.matching.score import RESCORED_THRESHOLD
from copywatch.rule import Rule
from copywatch.settings import Settings
from spark_jobs.grouping import grouped
from spark_jobs.match_images import match_run
from tests.spark_jobs.made_up import DIFFERENT, NOW, fingerprint, original, sighting, views

pytestmark = pytest.mark.integration

Rows = Callable[..., list[dict[str, Any]]]
DAY = timedelta(days=1)


def image(number: int, family: int, changes: int = 0, **changed: Any) -> dict[str, Any]:
    """Protected image `number`, registered in the order of the numbers, `changes` symbols from the photo `family`."""
    row = {"fingerprint": fingerprint(family, changes), "views": views(family, changes), "group_id": None,
           "registered_at": NOW + number * DAY}  # fmt: skip
    return original(number, **row | changed)


class TestGroups:
    @pytest.fixture
    def groups(self, spark: SparkSession) -> Callable[..., dict[int, int]]:
        def of(new: list[dict[str, Any]], others: list[dict[str, Any]], rule: Rule = Rule.RESCORED) -> dict[int, int]:
            def frame(rows: list[dict[str, Any]]) -> DataFrame:
                empty = dict.fromkeys(PROTECTED.columns.names)
                made = [empty | row | {"tags": dict(row["tags"])} for row in rows]
                return spark.createDataFrame(made, delta.spark_schema(PROTECTED))

            terms = Terms("mao", rule, RESCORED_THRESHOLD if rule is Rule.RESCORED else 0.47, 0.47, 0.0)
            done = grouped(frame(new).drop("group_id"), frame(others), terms, 0.95).collect()
            assert len(done) == len(new)
            return {int(row["protected_id"], 16): int(row["group_id"], 16) for row in done}

        return of

    def test_alone_it_is_its_own(self, groups: Any):
        assert groups([image(5, 5)], []) == {5: 5}
        assert groups([image(5, 5), image(6, 6)], [image(1, 1)]) == {5: 5, 6: 6}
        assert groups([], [image(1, 1)]) == {}

    @pytest.mark.parametrize("rule", list(Rule))
    def test_the_group_of_the_nearest_that_was_there_before(self, groups: Any, rule: Rule):
        others = [image(1, 1, 90, group_id=f"{9:032x}"), image(2, 1, 20), image(3, 3)]
        assert groups([image(5, 1, 85), image(6, 1, 10), image(7, 7)], others, rule) == {5: 9, 6: 2, 7: 7}

    def test_of_one_run_the_earlier_ones_count(self, groups: Any):
        # 6 is nearest to 5, which is nearest to 2; 4 came before all of them, is near none, and 8 is nearest to it.
        new = [image(8, 4, 30), image(5, 1, 40), image(6, 1, 60), image(4, 4)]
        assert groups(new, [image(2, 1)]) == {4: 4, 5: 2, 6: 2, 8: 4}
        assert groups(new, []) == {4: 4, 5: 5, 6: 5, 8: 4}

    def test_of_one_moment_the_earlier_application_counts(self, groups: Any):
        new = [image(5, 1, registered_at=NOW), image(4, 1, 10, registered_at=NOW), image(6, 1, 5, registered_at=NOW)]
        assert groups(new, []) == {4: 4, 5: 4, 6: 4}

    def test_what_another_run_registered_later_changes_nothing_when_the_run_is_repeated(self, groups: Any):
        assert groups([image(5, 1, 10)], [image(7, 1, 10), image(2, 1, 90)]) == {5: 2}
        assert groups([image(5, 1, 10)], [image(7, 1, 10)]) == {5: 5}

    def test_the_same_file_is_the_same_photo_whatever_it_shows(self, groups: Any):
        same = {"sha256": "f" * 64}
        assert groups([image(5, 5, **same)], [image(2, 2, tag="vehicle", **same), image(3, 5, 60)]) == {5: 2}

    def test_a_mirrored_version_is_the_same_photo(self, groups: Any):
        mirrored = views(5) + views(2, 10, Kind.MIRRORED)
        assert groups([image(5, 5, views=mirrored)], [image(2, 2, views=views(2) + views(7, 0, Kind.ALIGNED))]) == {
            5: 2
        }
        # Views of the older image that are no sighting's are not compared: only how the new one may look.
        assert groups([image(5, 5)], [image(2, 2, views=views(2) + views(5, 0, Kind.ALIGNED))]) == {5: 5}


class TestTold:
    @pytest.fixture
    def found(self, spark: SparkSession, config: Settings, put_rows: Any, rows: Rows) -> Callable[..., Any]:
        """Match sightings with protected images; (image, T) of each match."""

        def of(protected: list[dict[str, Any]], *sightings: dict[str, Any], rule: Rule = Rule.RESCORED) -> Any:
            put_rows(PROTECTED, *protected)
            put_rows(DETECTED, *sightings)
            threshold = RESCORED_THRESHOLD if rule is Rule.RESCORED else 0.47
            match_run(spark, "run-1", "mao", threshold, config.model_copy(update={"rule": rule}))
            return sorted((int(row["protected_id"], 16), row["verdict"], row["view"]) for row in rows(MATCHES))

        return of

    def test_every_owner_of_the_photo_once_by_the_nearest_image_of_each(self, found: Any, rows: Rows):
        photo = {"group_id": "a" * 32}
        protected = [
            image(1, 1, 60, owner="1", **photo), image(2, 1, 10, owner="1", **photo),
            image(3, 1, 90, owner="2", **photo), image(4, 1, 120, owner="2", **photo),
            image(5, 1, 300, owner="3", **photo), image(6, 1, 700, owner="4", **photo),
            image(7, 1, 20, owner="5"),
        ]  # fmt: skip
        assert found(protected, sighting(1, 0)) == [(2, 1, None), (3, 1, None), (5, 1, None)]
        assert {int(row["protected_id"], 16): row["owner"] for row in rows(MATCHES)} == {2: "1", 3: "2", 5: "3"}

    def test_by_the_papers_rule_the_nearest_alone(self, found: Any):
        photo = {"group_id": "a" * 32}
        protected = [image(1, 1, 60, owner="1", **photo), image(2, 1, 10, owner="2", **photo)]
        assert found(protected, sighting(1, 0), rule=Rule.PAPER) == [(2, 1, None)]

    def test_the_same_file_is_certain_whatever_it_shows(self, found: Any):
        same = {"sha256": "e" * 64}
        protected = [image(1, 1, tag="vehicle", **same), image(2, 2, 5)]
        assert found(protected, sighting(2, DIFFERENT, **same), sighting(3, DIFFERENT)) == [(1, 0, None)]

    def test_says_what_was_done_to_the_copy(self, found: Any):
        turned = views(1) + views(41, 0, Kind.MIRRORED) + views(42, 0, Kind.ALIGNED)
        framed = views(2) + views(51, 0, Kind.UNFRAMED)
        protected = [image(1, 1, views=turned), image(2, 2, views=framed), image(3, 3)]
        copies = [
            sighting(41, 30), sighting(51, 30),
            sighting(61, 0, views=views(61) + views(3, 30, Kind.UNFRAMED)),
        ]  # fmt: skip
        assert found(protected, *copies) == [
            (1, 1, "mirrored"), (2, 1, "frame added or removed"), (3, 1, "frame added or removed"),
        ]  # fmt: skip

    def test_images_without_views_are_compared_by_the_papers_rule(self, found: Any, rows: Rows):
        protected = [image(1, 1, views=None), image(2, 2, 0, views=None), image(3, 3), image(4, 3, 10, views=b"")]
        assert found(protected, sighting(1, 100), sighting(3, 100)) == [(1, 1, None), (3, 1, None)]
        assert {(int(row["protected_id"], 16), row["rule"], row["threshold"]) for row in rows(MATCHES)} == {
            (1, "paper", 0.47), (3, "rescored", RESCORED_THRESHOLD),
        }  # fmt: skip
