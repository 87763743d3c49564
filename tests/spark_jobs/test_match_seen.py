"""The reverse job: what is registered today is found among what was crawled before; once, whatever dies or re-runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from copywatch.lake import delta
from copywatch.lake.schemas import DETECTED, MATCHES, PROTECTED, SEEN
from copywatch.lake.tables import mirror_decisions
from copywatch.matching.score import RESCORED_THRESHOLD
from copywatch.rule import Rule
from copywatch.settings import Settings
from spark_jobs import comparing, match_images, match_seen
from tests.spark_jobs.death import Remains
from tests.spark_jobs.made_up import DIFFERENT, IDENTICAL, NOW, SIMILAR, append, fingerprint, original, sighting, views

pytestmark = pytest.mark.integration

Rows = Callable[..., list[dict[str, Any]]]
CRAWL, INTAKE = "run-1", "intake-2"


@pytest.fixture
def register(spark: SparkSession, config: Settings) -> Callable[..., list[dict[str, object]]]:
    def run(name: str = INTAKE, threshold: float = RESCORED_THRESHOLD) -> list[dict[str, object]]:
        return match_seen.match_seen(spark, name, "mao", threshold, config)

    return run


@pytest.fixture
def crawl_again(spark: SparkSession, config: Settings) -> Callable[..., list[dict[str, object]]]:
    def run(name: str = CRAWL, threshold: float = RESCORED_THRESHOLD) -> list[dict[str, object]]:
        return match_images.match_run(spark, name, "mao", threshold, config)

    return run


def put_world(put_rows: Callable[..., None]) -> None:
    """Three originals are new; of their sightings two are copies that were found different once, one is a match of an
    older image, and one is different indeed."""
    put_rows(PROTECTED, *(original(number, run=INTAKE) for number in (1, 2, 3)), original(4))
    put_rows(SEEN, sighting(1, SIMILAR, CRAWL), sighting(2, IDENTICAL, "run-0"), sighting(3, DIFFERENT, CRAWL),
             sighting(8, DIFFERENT, "run-0"))  # fmt: skip
    put_rows(DETECTED, sighting(4, IDENTICAL, CRAWL))


@pytest.fixture
def world(put_rows: Callable[..., None]) -> None:
    put_world(put_rows)


@dataclass(frozen=True)
class Done:
    """A job that was run: the data that it left, and as it leaves it that dies at its first write, its second, ..."""

    data: Path
    remains: list[Path]


@pytest.fixture(scope="module")
def job(project: Callable[[], Settings]) -> Callable[..., Done]:
    """Run a job in the world, or in a copy of what was left of it."""

    def run(work: Callable[[Settings], object], *writes: tuple[Any, str], after: Done | None = None) -> Done:
        config = project()
        if after is None:
            put_world(partial(append, config.warehouse))
        else:
            shutil.rmtree(config.data_dir)
            shutil.copytree(after.data, config.data_dir)
        left = Remains(config.data_dir)
        with pytest.MonkeyPatch.context() as patched:
            for where, name in writes:
                patched.setattr(where, name, left.before(getattr(where, name)))
            work(config)
        return Done(config.data_dir, left.folders)

    return run


WRITES = [(match_seen, name) for name in ("bring_in", "take_out", "write_matches")]


@pytest.fixture(scope="module")
def registered(spark: SparkSession, job: Callable[..., Done]) -> Done:
    """The world once the new images were matched."""
    return job(lambda config: match_seen.match_seen(spark, INTAKE, "mao", RESCORED_THRESHOLD, config), *WRITES)


@pytest.fixture(scope="module")
def withdrawn(spark: SparkSession, job: Callable[..., Done], registered: Done) -> Done:
    """The registration again, at a threshold that leaves one match."""
    return job(lambda config: match_seen.match_seen(spark, INTAKE, "mao", 0.01, config), *WRITES, after=registered)


@pytest.fixture(scope="module")
def crawled_again(spark: SparkSession, job: Callable[..., Done], registered: Done) -> Done:
    """The crawl's own job, run again after the registration."""
    return job(
        lambda config: match_images.match_run(spark, CRAWL, "mao", RESCORED_THRESHOLD, config),
        (delta, "replace_run"),
        (match_images, "write_matches"),
        after=registered,
    )


def new(number: int, family: int, changes: int = 0, **changed: Any) -> dict[str, Any]:
    """A newly protected image that differs from the photo `family` in `changes` symbols."""
    row = {"fingerprint": fingerprint(family, changes), "views": views(family, changes), "run": INTAKE,
           "registered_at": NOW + timedelta(days=1)}  # fmt: skip
    return original(number, **row | changed)


def numbers(rows: list[dict[str, Any]]) -> list[int]:
    return sorted(int(row["image_url"].split("/")[-1].removesuffix(".jpg")) for row in rows)


def pairs(rows: list[dict[str, Any]]) -> list[tuple[int, int, int, str]]:
    """(sighting, image, T, run) of each match."""
    return sorted((*numbers([row]), int(row["protected_id"], 16), row["verdict"], row["run"]) for row in rows)


FOUND = [(1, 1, 1, INTAKE), (2, 2, 0, INTAKE)]


def check(rows: Rows) -> None:
    assert [one for one in pairs(rows(MATCHES)) if one[0] != 4] == FOUND
    assert numbers(rows(DETECTED)) == [1, 2, 4]
    assert numbers(rows(SEEN)) == [3, 8]
    by_id = {row["sighting_id"]: row for row in rows(DETECTED) + rows(SEEN)}
    for one in (sighting(1, SIMILAR, CRAWL), sighting(2, IDENTICAL, "run-0"), sighting(3, DIFFERENT, CRAWL)):
        assert by_id[one["sighting_id"]] == dict.fromkeys(SEEN.columns.names) | one
    for row in rows(MATCHES):
        assert row["state"] == ("certain" if row["verdict"] == 0 else "doubtful")
        assert (row["rule"], row["site"], row["uploader"], row["tag"]) == ("rescored", "lumen", "Finn", "animal")


def test_copies_seen_before_are_matches_of_the_registration(register: Any, rows: Rows, world: None):
    (said,) = register()
    assert said == {"new images": 3, "found identical": 1, "found similar": 1, "sightings back in play": 2}
    check(rows)
    # They moved already, and a second time moves nothing.
    assert register() == [said | {"sightings back in play": 0}]
    check(rows)


def test_they_are_the_matches_of_a_crawl_after_the_registration(
    begin: Any, registered: Done, crawl_again: Any, rows: Rows
):
    begin(registered.data)
    reverse = pairs(rows(MATCHES))
    for run in (CRAWL, "run-0"):
        crawl_again(run)
    assert [one[:3] for one in pairs(rows(MATCHES)) if one[0] != 4] == [one[:3] for one in reverse]


@pytest.mark.parametrize("writes", range(3))
def test_a_death_after_any_write(register: Any, rows: Rows, begin: Any, registered: Done, writes: int):
    assert len(registered.remains) == 3
    begin(registered.remains[writes])
    assert set(numbers(rows(DETECTED) + rows(SEEN))) == {1, 2, 3, 4, 8}
    register()
    check(rows)


class TestAgain:
    """The crawl's own job, run again after the registration."""

    @pytest.fixture(autouse=True)
    def after_the_registration(self, begin: Any, registered: Done) -> None:
        begin(registered.data)

    def test_neither_loses_nor_doubles_nor_takes_over(self, register: Any, crawl_again: Any, rows: Rows):
        for run in (CRAWL, "run-0", CRAWL):
            crawl_again(run)
            check(rows)
        register()
        check(rows)
        assert pairs(rows(MATCHES, CRAWL)) == [(4, 4, 0, CRAWL)]

    def test_keeps_a_reverse_match_that_it_would_not_find_itself(self, crawl_again: Any, rows: Rows):
        crawl_again(CRAWL, threshold=0.01)
        check(rows)

    @pytest.mark.parametrize("writes", range(3))
    def test_may_die(self, begin: Any, crawled_again: Done, crawl_again: Any, rows: Rows, writes: int):
        assert len(crawled_again.remains) == 3
        begin(crawled_again.remains[writes])
        crawl_again()
        check(rows)

    def test_overturns_nothing_that_a_person_decided(
        self, register: Any, crawl_again: Any, rows: Rows, config: Settings
    ):
        (doubtful,) = [row for row in rows(MATCHES, INTAKE) if row["verdict"] == 1]
        decision = {name: doubtful[name] for name in ("sighting_id", "protected_id")}
        decision |= {"state": "refused", "decided_by": "rita", "decided_at": NOW}
        mirror_decisions(config.warehouse, [decision])
        for again in (register, crawl_again, lambda: register(threshold=0.01), register):
            again()
            assert [row for row in rows(MATCHES) if row["decided_by"]] == [doubtful | decision]
            assert pairs(rows(MATCHES, INTAKE)) == FOUND


@pytest.mark.parametrize("writes", [None, 0, 1, 2])
def test_what_is_no_match_any_more_is_withdrawn_and_its_sighting_seen_again(
    register: Any, rows: Rows, begin: Any, withdrawn: Done, writes: int | None
):
    assert len(withdrawn.remains) == 3
    if writes is None:
        begin(withdrawn.data)
    else:
        begin(withdrawn.remains[writes])
        assert set(numbers(rows(DETECTED) + rows(SEEN))) == {1, 2, 3, 4, 8}
        register(threshold=0.01)
    assert pairs(rows(MATCHES)) == [(2, 2, 0, INTAKE)]
    assert (numbers(rows(DETECTED)), numbers(rows(SEEN))) == ([2, 4], [1, 3, 8])
    register()
    check(rows)


class TestAlreadyAMatch:
    """Sighting 4 was a match of owner 1's image 4 when the registration came."""

    @pytest.fixture(scope="class")
    def crawled(self, spark: SparkSession, project: Callable[[], Settings]) -> Path:
        config = project()
        append(config.warehouse, PROTECTED, original(4))
        append(config.warehouse, DETECTED, sighting(4, 60, CRAWL))
        match_images.match_run(spark, CRAWL, "mao", RESCORED_THRESHOLD, config)
        return config.data_dir

    @pytest.fixture
    def matched(self, begin: Any, crawled: Path, rows: Rows) -> dict[str, Any]:
        begin(crawled)
        (row,) = rows(MATCHES)
        return row

    def new_pairs(self, rows: Rows) -> list[tuple[int, int, int, str]]:
        return pairs(rows(MATCHES, INTAKE))

    def test_another_owner_of_the_photo_is_told_too(self, matched: Any, register: Any, rows: Rows, put_rows: Any):
        put_rows(PROTECTED, new(14, 4, 20, owner="2", group_id=original(4)["group_id"]))
        register()
        assert self.new_pairs(rows) == [(4, 14, 1, INTAKE)]
        assert rows(MATCHES, CRAWL) == [matched]
        assert numbers(rows(DETECTED)) == [4]

    def test_the_owner_is_not_told_again_of_the_same_photo(
        self, matched: Any, register: Any, crawl_again: Any, rows: Rows, put_rows: Any
    ):
        put_rows(PROTECTED, new(14, 4, 60, owner="1", group_id=original(4)["group_id"]))
        register()
        assert rows(MATCHES) == [matched]

    def test_an_image_of_another_photo_is_told_of_only_if_it_is_nearer(
        self, matched: Any, register: Any, rows: Rows, put_rows: Any
    ):
        put_rows(PROTECTED, new(14, 4, 200, owner="2"), new(15, 4, 55, owner="3"))
        register()
        assert self.new_pairs(rows) == [(4, 15, 1, INTAKE)]

    def test_what_a_person_refused_hides_nothing(
        self, matched: Any, register: Any, rows: Rows, put_rows: Any, config: Settings
    ):
        decision = {name: matched[name] for name in ("sighting_id", "protected_id")}
        mirror_decisions(config.warehouse, [decision | {"state": "refused", "decided_by": "rita", "decided_at": NOW}])
        put_rows(PROTECTED, new(14, 4, 200, owner="2"))
        register()
        assert self.new_pairs(rows) == [(4, 14, 1, INTAKE)]

    def test_a_match_that_a_crawl_found_after_the_registration_stays_the_crawls(
        self, matched: Any, register: Any, crawl_again: Any, rows: Rows, put_rows: Any
    ):
        """A crawl's job may come between a registration's two jobs."""
        put_rows(PROTECTED, new(5, 5, owner="2"))
        put_rows(DETECTED, sighting(5, IDENTICAL, "run-3"))
        crawl_again("run-3")
        before = rows(MATCHES)
        register()
        assert sorted(rows(MATCHES), key=str) == sorted(before, key=str)


def test_only_new_ones_in_force_of_this_version_and_tag_are_compared(register: Any, rows: Rows, put_rows: Any):
    not_compared: list[dict[str, Any]] = [
        {"status": "withdrawn"}, {"protected_until": NOW - timedelta(days=1000)}, {"algorithm": "mao/0"},
        {"tag": "vehicle"}, {"run": "another-intake"},
    ]  # fmt: skip
    put_rows(PROTECTED, *(original(number, **{"run": INTAKE} | one) for number, one in enumerate([*not_compared, {}])))
    put_rows(SEEN, *(sighting(number, IDENTICAL) for number in range(6)))
    register()
    assert pairs(rows(MATCHES)) == [(5, 5, 0, INTAKE)]
    assert (numbers(rows(SEEN)), numbers(rows(DETECTED))) == ([0, 1, 2, 3, 4], [5])


def test_sightings_are_looked_up_under_all_their_tags_and_every_image_passes(
    register: Any, rows: Rows, put_rows: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(comparing, "PASS_IMAGES", 2)
    put_rows(
        PROTECTED, *(original(number, run=INTAKE, tag="vehicle" if number % 2 else "animal") for number in range(5))
    )
    tags = [("animal", 0.5), ("vehicle", 0.46), ("person", 0.04)]
    put_rows(SEEN, *(sighting(number, SIMILAR, f"run-{number}", tags=tags) for number in range(5)))
    register()
    assert [one[:2] for one in pairs(rows(MATCHES))] == [(number, number) for number in range(5)]


def test_the_same_file_is_found_whatever_it_shows_and_under_whatever_tag(register: Any, rows: Rows, put_rows: Any):
    same = {"sha256": f"{77:064x}"}
    put_rows(PROTECTED, original(1, run=INTAKE, tag="vehicle", **same))
    put_rows(SEEN, sighting(1, DIFFERENT, **same), sighting(2, DIFFERENT))
    register()
    assert pairs(rows(MATCHES)) == [(1, 1, 0, INTAKE)]


def test_rows_without_views_are_compared_by_the_papers_rule(register: Any, rows: Rows, put_rows: Any):
    """Fingerprinted before there were views, and no bytes are left to do it again."""
    put_rows(PROTECTED, original(1, run=INTAKE), original(2, run=INTAKE))
    put_rows(
        SEEN, sighting(1, SIMILAR, views=None), sighting(2, DIFFERENT, views=None), sighting(3, DIFFERENT, views=b"x")
    )
    register()
    (row,) = rows(MATCHES)
    assert pairs([row]) == [(1, 1, 1, INTAKE)]
    assert (row["rule"], row["distance"], row["threshold"]) == ("paper", SIMILAR / 720, 0.47)


def test_by_the_papers_rule(spark: SparkSession, rows: Rows, world: None, config: Settings):
    ruled = config.model_copy(update={"rule": Rule.PAPER})
    match_seen.match_seen(spark, INTAKE, "mao", 0.47, ruled)
    assert pairs(rows(MATCHES)) == FOUND
    assert {(row["rule"], row["distance"] == row["plain_distance"]) for row in rows(MATCHES)} == {("paper", True)}


def test_nothing_seen_and_nothing_registered(register: Any, rows: Rows, put_rows: Any):
    assert register()[0]["new images"] == 0
    put_rows(SEEN, sighting(1, IDENTICAL))
    register()
    put_rows(PROTECTED, original(2, run=INTAKE))
    register()
    assert (rows(MATCHES), numbers(rows(SEEN))) == ([], [1])
