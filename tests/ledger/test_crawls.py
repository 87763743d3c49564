"""Which sites are due, and which image addresses are settled."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copywatch.ledger import crawls
from copywatch.ledger.database import session
from copywatch.ledger.models import CrawlCursor
from copywatch.sites import Site

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def site(name: str, every: str = "1h", **more: object) -> Site:
    return Site.model_validate({"name": name, "start": "http://a.example/", "every": every, **more})


def due(*sites: Site, now: datetime = NOW) -> list[str]:
    with session() as opened:
        return [one.name for one in crawls.due_sites(opened, sites, now)]


def started(name: str, ago: timedelta, run: str = "run-1") -> None:
    with session() as opened:
        crawls.crawl_started(opened, name, run, NOW - ago)


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


class TestDue:
    def test_a_new_site_is_due(self, ledger_url: str):
        assert due(site("a")) == ["a"]

    def test_a_disabled_one_never_is(self, ledger_url: str):
        assert due(site("a", enabled=False)) == []

    def test_each_has_its_own_interval(self, ledger_url: str):
        for name in ("a", "b", "c"):
            started(name, timedelta(hours=2))
        assert due(site("a", "1h"), site("b", "3h"), site("c", "2h")) == ["a", "c"]

    def test_a_run_that_begins_a_little_early_takes_it(self, ledger_url: str):
        started("a", timedelta(minutes=58))
        assert due(site("a", "1h")) == ["a"]
        started("a", timedelta(minutes=56))
        assert due(site("a", "1h")) == []

    def test_the_order_is_the_files(self, ledger_url: str):
        assert due(site("z"), site("a"), site("m")) == ["z", "a", "m"]

    def test_one_that_failed_waits_for_its_interval(self, ledger_url: str):
        started("a", timedelta(minutes=5))
        with session() as opened:
            crawls.crawl_finished(opened, "a", "run-1", NOW, "HTTP 500")
        assert due(site("a")) == []
        assert due(site("a"), now=NOW + timedelta(hours=1)) == ["a"]


class TestCursor:
    def test_says_how_the_last_crawl_ended(self, ledger_url: str):
        started("a", timedelta(hours=1), "run-1")
        with session() as opened:
            crawls.crawl_finished(opened, "a", "run-1", NOW, None)
        with session() as opened:
            crawls.crawl_started(opened, "a", "run-2", NOW + timedelta(hours=1))
            crawls.crawl_finished(opened, "a", "run-2", NOW + timedelta(hours=2), "unreachable")
        with session() as opened:
            cursor = opened.get_one(CrawlCursor, "a")
            assert (cursor.last_run, cursor.last_error) == ("run-2", "unreachable")
            assert cursor.last_finished_at == NOW
            assert cursor.last_started_at == NOW + timedelta(hours=1)

    def test_a_crawl_that_goes_well_clears_the_error(self, ledger_url: str):
        with session() as opened:
            crawls.crawl_finished(opened, "a", "run-1", NOW, "unreachable")
            crawls.crawl_finished(opened, "a", "run-2", NOW, None)
            assert opened.get_one(CrawlCursor, "a").last_error is None


class TestSettled:
    def test_settled_addresses_are_known_to_their_site_only(self, ledger_url: str):
        with session() as opened:
            assert crawls.settle_images(opened, "a", "run-1", [digest(1), digest(2), digest(2)]) == 2
            assert crawls.known_hashes(opened, "a") == {digest(1), digest(2)}
            assert crawls.known_hashes(opened, "b") == set()

    def test_again_adds_nothing(self, ledger_url: str):
        for expected in (2, 0):
            with session() as opened:
                assert crawls.settle_images(opened, "a", "run-1", [digest(1), digest(2)]) == expected
        with session() as opened:
            assert crawls.settle_images(opened, "a", "run-2", [digest(2), digest(3)]) == 1

    def test_what_a_run_settled_itself_is_new_to_it_again(self, ledger_url: str):
        """A crawl that is run again lands all of its run's images, since it replaces all of the run's rows."""
        with session() as opened:
            crawls.settle_images(opened, "a", "run-1", [digest(1)])
            crawls.settle_images(opened, "a", "run-2", [digest(1), digest(2)])
            assert crawls.known_hashes(opened, "a", but_of="run-2") == {digest(1)}
            assert crawls.known_hashes(opened, "a", but_of="run-3") == {digest(1), digest(2)}

    def test_more_than_one_statement_holds(self, ledger_url: str):
        with session() as opened:
            assert crawls.settle_images(opened, "a", "run-1", map(digest, range(12_001))) == 12_001
            assert len(crawls.known_hashes(opened, "a")) == 12_001

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
    @given(batches=st.lists(st.lists(st.integers(0, 20), max_size=8), max_size=5))
    def test_known_is_the_union_of_what_was_settled(self, ledger_url: str, batches: list[list[int]]):
        name = digest(hash(str(batches)))[:20]
        union: set[str] = set()
        with session() as opened:
            for number, batch in enumerate(batches):
                new = {digest(one) for one in batch} - union
                assert crawls.settle_images(opened, name, f"run-{number}", map(digest, batch)) == len(new)
                union |= new
            assert crawls.known_hashes(opened, name) == union
