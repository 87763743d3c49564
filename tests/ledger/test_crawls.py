"""Which sites are due, how often they are crawled, and which are left alone."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta

import pytest

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


def finished(one: Site, *, at: datetime = NOW, new_images: int = 0, saw_all: bool = True) -> None:
    with session() as opened:
        crawls.crawl_finished(opened, one, "run-1", at, new_images=new_images, saw_all=saw_all, source="gallery")


def failed(one: Site, error: str = "HTTP 500", *, run: str = "run-1", at: datetime = NOW, of_site: bool = True) -> None:
    with session() as opened:
        crawls.crawl_failed(opened, one, run, at, error, of_site=of_site)


def state(one: Site, now: datetime = NOW) -> crawls.SiteState:
    with session() as opened:
        return crawls.site_states(opened, [one], now)[0]


def state_of(one: Site, cursor: CrawlCursor) -> crawls.SiteState:
    return crawls._state(one, cursor, NOW)


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
        failed(site("a"))
        assert due(site("a")) == []
        assert due(site("a"), now=NOW + timedelta(hours=1)) == ["a"]


class TestCursor:
    def test_says_how_the_last_crawl_ended(self, ledger_url: str):
        started("a", timedelta(hours=1), "run-1")
        finished(site("a"), new_images=7)
        with session() as opened:
            crawls.crawl_started(opened, "a", "run-2", NOW + timedelta(hours=1))
        failed(site("a"), "unreachable", run="run-2")
        with session() as opened:
            cursor = opened.get_one(CrawlCursor, "a")
            assert (cursor.last_run, cursor.last_error) == ("run-2", "unreachable")
            assert (cursor.new_images_last, cursor.source, cursor.failures) == (7, "gallery", 1)
            assert cursor.last_finished_at == NOW
            assert cursor.last_started_at == NOW + timedelta(hours=1)

    def test_a_crawl_that_goes_well_clears_the_error(self, ledger_url: str):
        failed(site("a"))
        finished(site("a"))
        with session() as opened:
            cursor = opened.get_one(CrawlCursor, "a")
            assert (cursor.last_error, cursor.failures) == (None, 0)


class TestInterval:
    def crawl(self, one: Site, at: datetime, new_images: int, **more: bool) -> timedelta:
        """A crawl that begins at a time; returns the interval after it."""
        with session() as opened:
            crawls.crawl_started(opened, one.name, "run", at)
        finished(one, new_images=new_images, at=at + timedelta(minutes=1), **more)
        return state(one, at).interval

    def test_is_the_sites_own_where_no_bound_is_set(self, ledger_url: str):
        for day in range(4):
            assert self.crawl(site("a", "6h"), NOW + timedelta(days=day), day % 2) == timedelta(hours=6)

    def test_grows_while_nothing_comes_and_shrinks_when_something_does(self, ledger_url: str):
        one = site("a", "2h", every_at_most="8h")
        found = [100, 0, 0, 0, 0, 0, 1, 3, 1]
        hours = [self.crawl(one, NOW + timedelta(days=day), count) / timedelta(hours=1)
                 for day, count in enumerate(found)]  # fmt: skip
        assert hours == [2, 3, 4.5, 6.75, 8, 8, 4, 2, 2], "the first crawl finds all that was ever put there"

    def test_is_what_due_goes_by(self, ledger_url: str):
        one = site("a", "2h", every_at_most="8h")
        for day in (0, 1):
            self.crawl(one, NOW + timedelta(days=day), 0)
        begun = NOW + timedelta(days=1)
        assert state(one, begun).next_due_at == begun + timedelta(hours=3)
        assert due(one, now=begun + timedelta(hours=2.8)) == []
        assert due(one, now=begun + timedelta(hours=2.95)) == ["a"]

    def test_keeps_to_the_bounds_of_today(self, ledger_url: str):
        wide = site("a", "1h", every_at_most="24h")
        for day in range(5):
            self.crawl(wide, NOW + timedelta(days=day), 0)
        assert state(wide).interval == timedelta(hours=1.5**4)
        assert state(site("a", "1h", every_at_most="2h")).interval == timedelta(hours=2)
        assert state(site("a", "12h", every_at_most="24h")).interval == timedelta(hours=12)
        assert state(site("a", "1h")).interval == timedelta(hours=1)

    def test_a_crawl_soon_after_says_nothing(self, ledger_url: str):
        """Neither a task that runs twice, nor somebody who starts one by hand."""
        one = site("a", "2h", every_at_most="24h")
        self.crawl(one, NOW, 100)
        after = [self.crawl(one, NOW + timedelta(hours=3, minutes=minute), 0) for minute in (0, 1, 20)]
        assert after == [timedelta(hours=3)] * 3
        assert self.crawl(one, NOW + timedelta(hours=5), 0) == timedelta(hours=4.5)

    def test_one_that_did_not_see_all_does_not_lengthen_it(self, ledger_url: str):
        one = site("a", "2h", every_at_most="24h")
        for day, (new_images, hours) in enumerate([(5, 2), (0, 2), (0, 2)]):
            at = NOW + timedelta(days=day)
            assert self.crawl(one, at, new_images, saw_all=False) == timedelta(hours=hours)
        assert self.crawl(one, NOW + timedelta(days=3), 0) == timedelta(hours=3)
        assert self.crawl(one, NOW + timedelta(days=4), 1, saw_all=False) == timedelta(hours=2)

    @pytest.mark.parametrize("rate", [0.05, 0.5])
    def test_settles_at_about_two_crawls_for_each_upload(self, rate: float):
        """Uploads as a Poisson process (a rate an hour): the geometric mean of the interval is near 0.46 / rate."""
        chance = random.Random(7)
        one, cursor, at, logarithms = site("a", "1m", every_at_most="90d"), CrawlCursor(site="a"), NOW, []
        for number in range(6000):
            hours = state_of(one, cursor).interval / timedelta(hours=1)
            at += timedelta(hours=hours)
            crawls._adapt(one, cursor, chance.random() < 1 - math.exp(-rate * hours), at)
            if number >= 1000:
                logarithms.append(math.log(hours))
        # The mean of the logarithms is not the balance point itself: steps are coarse.
        assert math.exp(sum(logarithms) / len(logarithms)) == pytest.approx(0.46 / rate, rel=0.15)


class TestBreaker:
    def fail(self, one: Site, times: int, at: datetime = NOW) -> None:
        for _ in range(times):
            with session() as opened:
                crawls.crawl_started(opened, one.name, "run", at)
            failed(one, at=at)

    @pytest.mark.parametrize(
        ("failures", "hours"), [(1, 0), (2, 0), (3, 2), (4, 4), (5, 8), (9, 128), (10, 168), (500, 168)]
    )
    def test_failures_in_a_row_leave_the_site_alone_for_longer_each_time(
        self, ledger_url: str, failures: int, hours: int
    ):
        one = site("a", "1h")
        self.fail(one, failures)
        blocked = state(one)
        assert blocked.failures == failures
        if not hours:
            assert (blocked.standing, blocked.blocked_until, blocked.blocked_why) == ("waiting", None, None)
            return
        assert blocked.standing == "blocked"
        assert blocked.blocked_until == blocked.next_due_at == NOW + timedelta(hours=hours)
        assert blocked.blocked_why == f"failed {failures} times in a row, the last time with: HTTP 500"

    def test_then_it_is_tried_once(self, ledger_url: str):
        one = site("a", "1h")
        self.fail(one, 3)
        assert due(one, now=NOW + timedelta(hours=1)) == []
        trial = NOW + timedelta(hours=2)
        assert due(one, now=trial) == ["a"]
        assert state(one, trial).standing == "on trial"
        self.fail(one, 1, trial)
        assert due(one, now=trial + timedelta(hours=3)) == [], "it failed once more: for twice as long"
        assert due(one, now=trial + timedelta(hours=4)) == ["a"]

    def test_a_crawl_that_goes_well_ends_it(self, ledger_url: str):
        one = site("a", "1h")
        self.fail(one, 4)
        with session() as opened:
            crawls.crawl_started(opened, "a", "run", NOW)
        finished(one)
        well = state(one)
        assert (well.standing, well.failures, well.blocked_until, well.blocked_why) == ("waiting", 0, None, None)
        self.fail(one, 2)
        assert state(one).standing == "waiting", "counted anew"

    def test_our_own_trouble_does_not_count(self, ledger_url: str):
        for _ in range(5):
            failed(site("a"), "MachineError: no crawlers here", of_site=False)
        assert (state(site("a")).failures, due(site("a"))) == (0, ["a"])
        assert state(site("a")).last_error == "MachineError: no crawlers here"

    def test_an_interval_without_end_makes_no_error(self, ledger_url: str):
        one = site("a", "999999d")
        self.fail(one, 4)
        assert state(one).blocked_until == NOW + timedelta(days=7)
        assert due(one, now=NOW + timedelta(days=8)) == [], "its own interval is longer"


def test_the_states_of_sites_are_in_the_order_given(ledger_url: str):
    started("b", timedelta(minutes=5))
    sites = [site("z"), site("b", kind="feed"), site("off", enabled=False)]
    with session() as opened:
        states = crawls.site_states(opened, sites, NOW)
    assert [(one.name, one.kind, one.standing) for one in states] == [
        ("z", "auto", "due"), ("b", "feed", "waiting"), ("off", "auto", "off"),
    ]  # fmt: skip
    assert states[1].next_due_at == NOW + timedelta(minutes=55)
    assert (states[0].next_due_at, states[2].next_due_at) == (None, None)
