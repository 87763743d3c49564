"""What a site may expect of the crawl: its robots.txt, its pace, its bandwidth, and an end when it is in trouble."""

from __future__ import annotations

import itertools
import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from scrapy.http import Response

from copywatch.crawl_state import StateFile
from copywatch.errors import CrawlFailed, Reason
from copywatch.settings import Settings
from crawlers.manners import max_age
from tests.crawlers.hostile_site import Handler, HostileSite, jpeg, redirect, status

Crawl = Callable[..., Any]
Rows = Callable[..., dict[str, dict[str, Any]]]

ALLOW = b"User-agent: *\nAllow: /\n"


def robots(text: bytes, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(200, text, "text/plain", **headers)


def gallery(site: HostileSite, count: int, *, host: str = "127.0.0.1", size: int = 2000) -> list[str]:
    """A start page with images; their paths."""
    paths = [f"/{number}.jpg" for number in range(count)]
    site.on("/", "<html>" + "".join(f'<img src="{site.url(path, host)}">' for path in paths))
    for number, path in enumerate(paths):
        site.on(path, jpeg(number, size))
    return paths


def asked(site: HostileSite, path: str) -> list[float]:
    return [moment for one, moment, _ in site.server.asked if one == path]


def older(state: Path, hours: float) -> None:
    """Let what is known of each robots.txt be read so many hours earlier."""
    with StateFile(state) as opened:
        rows = list(opened.changed("robots"))
        opened.commit(robots=[replace(row, fetched_at=row.fetched_at - timedelta(hours=hours)) for row in rows])


class TestRobots:
    """RFC 9309."""

    @pytest.mark.parametrize(
        ("answer", "hours", "times"),
        [
            (robots(ALLOW), 23.9, 1),
            (robots(ALLOW), 24.1, 2),
            (status(404), 23.9, 1),
            (robots(ALLOW, Cache_Control="max-age=3600"), 0.9, 1),
            (robots(ALLOW, Cache_Control="max-age=3600"), 1.1, 2),
            (robots(ALLOW, Cache_Control="public, max-age=604800"), 24.1, 2),
        ],
    )
    def test_is_kept_between_crawls_for_a_day_at_most(
        self, site: HostileSite, run_crawl: Crawl, tmp_path: Path, answer: Any, hours: float, times: int
    ):
        gallery(site, 1)
        site.on("/robots.txt", answer)
        state = tmp_path / "state.sqlite"
        run_crawl(site.url(), state=state)
        older(state, hours)
        run_crawl(site.url(), state=state, run="run-2")
        assert site.times("/robots.txt") == times

    def test_a_kept_one_is_obeyed(self, site: HostileSite, run_crawl: Crawl, rows: Rows, tmp_path: Path):
        paths = gallery(site, 2)
        site.on("/robots.txt", robots(b"\xef\xbb\xbfUser-agent: Copywatch\nDisallow: /1.jpg\n"))
        for run in ("run-1", "run-2"):
            stats = run_crawl(site.url(), state=tmp_path / "state.sqlite", run=run)
            assert stats.robots_refused == 1
            assert rows(run)[site.url(paths[1])]["reason"] == Reason.FORBIDDEN_BY_ROBOTS
        assert (site.times("/1.jpg"), site.times("/robots.txt")) == (0, 1)

    def test_one_that_cannot_be_read_forbids_all_but_where_it_was_read_within_a_day(
        self, site: HostileSite, run_crawl: Crawl, tmp_path: Path
    ):
        gallery(site, 1)
        state = tmp_path / "state.sqlite"
        site.on("/robots.txt", robots(ALLOW, Cache_Control="no-cache"))
        run_crawl(site.url(), state=state)
        site.on("/robots.txt", status(503))
        assert run_crawl(site.url(), state=state, run="run-2").outcome == "finished"
        older(state, 25)
        with pytest.raises(CrawlFailed, match="HTTP 503"):
            run_crawl(site.url(), state=state, run="run-3")
        assert site.times("/") == 2

    def test_redirects_are_followed_and_half_a_megabyte_is_read(self, site: HostileSite, run_crawl: Crawl):
        """The rest of a larger one is left."""
        gallery(site, 3)
        comment = b"# " + b"x" * 97 + b"\n"
        text = ALLOW + b"Disallow: /1.jpg\n" + comment * 5100 + b"Disallow: /2.jpg\n" + comment * 1000
        assert text.index(b"/2.jpg") > 500 * 1024 - 5000
        for number in range(5):
            site.on("/robots.txt" if not number else f"/r{number}", redirect(f"/r{number + 1}"))
        site.on("/r5", robots(text + b"Disallow: /\n"))
        stats = run_crawl(site.url())
        assert (stats.images_fetched, stats.robots_refused) == (1, 2)

    def test_five_redirects_are_the_most(self, site: HostileSite, run_crawl: Crawl):
        gallery(site, 1)
        for number in range(6):
            site.on("/robots.txt" if not number else f"/r{number}", redirect(f"/r{number + 1}"))
        site.on("/r6", robots(b"User-agent: *\nDisallow: /"))
        assert run_crawl(site.url()).images_fetched == 1

    def test_its_crawl_delay_is_the_least_time_between_requests(self, site: HostileSite, run_crawl: Crawl):
        gallery(site, 4)
        site.on("/robots.txt", robots(ALLOW + b"Crawl-delay: 0.5\n"))
        assert run_crawl(site.url(), delay_seconds=0.1).images_fetched == 4
        moments = [moment for _, moment, _ in site.server.asked]
        assert min(b - a for a, b in itertools.pairwise(moments)) >= 0.45

    def test_a_crawl_delay_beyond_the_crawls_time_ends_with_it(
        self, site: HostileSite, run_crawl: Crawl, settings: Settings, caplog: pytest.LogCaptureFixture
    ):
        gallery(site, 3)
        site.on("/robots.txt", robots(ALLOW + b"Crawl-delay: 86400\n"))
        begun = time.monotonic()
        with pytest.raises(CrawlFailed, match="time that the site may take was over"):
            run_crawl(site.url(), settings=settings.model_copy(update={"crawl_site_seconds": 2.0}))
        assert time.monotonic() - begun < 20
        assert site.times("/") == 0
        assert "asks for a Crawl-delay of 86400 s; we wait 60 s" in caplog.text

    @pytest.mark.parametrize(
        ("header", "hours"),
        [
            ("", 24), ("max-age=60", 1 / 60), ('MAX-AGE = "7200"', 2), ("max-age=99999999999", 24), ("max-age=-1", 24),
            ("no-store", 0), ("private, no-cache", 0), ("s-maxage=60", 24),
        ],
    )  # fmt: skip
    def test_cache_control(self, header: str, hours: float):
        assert max_age(Response("http://a/robots.txt", headers={"Cache-Control": header})) == timedelta(hours=hours)


class TestBreaker:
    def test_a_site_in_trouble_is_not_asked_on_and_on(self, site: HostileSite, run_crawl: Crawl, rows: Rows):
        paths = gallery(site, 150)
        for path in paths[5:]:
            site.on(path, status(500))
        with pytest.raises(CrawlFailed, match=r"did not answer 20 requests in a row, the last: HTTP 500"):
            run_crawl(site.url())
        landed = rows()
        assert sum(row["bytes"] is not None for row in landed.values()) == 5
        # Those under way at the same time come to an end, and the first ones are tried again.
        assert sum(len(asked(site, path)) for path in paths[5:]) <= 20 + 16 + 2 * 4

    def test_what_answers_now_and_then_is_asked(self, site: HostileSite, run_crawl: Crawl):
        paths = gallery(site, 60)
        for number, path in enumerate(paths):
            if number % 6:
                site.on(path, status(500))
        stats = run_crawl(site.url())
        assert (stats.outcome, stats.images_fetched, stats.images_failed) == ("finished", 10, 50)

    def test_not_found_is_an_answer(self, site: HostileSite, run_crawl: Crawl):
        for path in gallery(site, 60):
            site.on(path, status(404))
        stats = run_crawl(site.url())
        assert (stats.outcome, stats.images_failed) == ("finished", 60)

    def test_another_host_alone_is_left_alone(self, site: HostileSite, run_crawl: Crawl, rows: Rows):
        foreign = gallery(site, 80, host="localhost")
        images = "".join(f'<img src="{site.url(path, "localhost")}">' for path in foreign)
        for path in foreign:
            site.on(path, lambda handler: handler.raw(b""))
        site.on("/", f'<html>{images}<img src="/own.jpg">')
        site.on("/own.jpg", jpeg(1))
        stats = run_crawl(site.url())
        landed = rows()
        assert (stats.outcome, stats.images_fetched, stats.images_failed) == ("finished", 1, 80)
        left = [landed[site.url(path, "localhost")] for path in foreign if not asked(site, path)]
        assert len(left) >= 80 - 20 - 16, "those under way at the same time come to an end"
        assert {row["reason"] for row in left} == {Reason.UNREACHABLE}
        assert all(row["detail"].startswith("not asked: localhost") for row in left)


class TestPace:
    def test_no_more_requests_at_once_than_allowed(self, site: HostileSite, run_crawl: Crawl):
        paths = gallery(site, 20)
        under_way, most, lock = [0], [0], threading.Lock()

        def slowly(handler: Handler) -> None:
            with lock:
                under_way[0] += 1
                most[0] = max(most[0], under_way[0])
            time.sleep(0.1)
            with lock:
                under_way[0] -= 1
            handler.answer(200, jpeg(int(handler.path[1:-4])), "image/jpeg")

        for path in paths:
            site.on(path, slowly)
        assert run_crawl(site.url(), concurrency=2).images_fetched == 20
        assert most[0] == 2

    def test_bandwidth(self, site: HostileSite, run_crawl: Crawl):
        """One second's worth may come at once, and some answers of about the usual size with it."""
        gallery(site, 30, size=50_000)
        run_crawl(site.url(), bytes_per_second=300_000)
        moments = sorted(moment for path, moment, _ in site.server.asked if path.endswith(".jpg"))
        took = moments[-1] - moments[0]
        assert took >= (29 * 50_000 - 300_000 - 4 * 50_000) / 300_000
        assert took <= 30 * 50_000 / 300_000 + 3

    def test_a_delay_is_kept_and_a_fast_site_is_not_slowed_beyond_it(self, site: HostileSite, run_crawl: Crawl):
        gallery(site, 20)
        run_crawl(site.url(), delay_seconds=0.2)
        moments = [moment for _, moment, _ in site.server.asked]
        apart = sorted(b - a for a, b in itertools.pairwise(moments))
        assert apart[0] >= 0.18
        assert apart[len(apart) // 2] <= 0.3

    def test_who_asks_is_told(self, site: HostileSite, run_crawl: Crawl, settings: Settings):
        gallery(site, 1)
        given = Settings(
            _env_file=None,  # type: ignore[call-arg]
            data_dir=settings.data_dir,
            crawl_contact="https://watch.example/about",
        )
        run_crawl(site.url(), settings=given)
        agents = {headers["User-Agent"] for _, _, headers in site.server.asked}
        assert len(agents) == 1
        assert re.fullmatch(r"Copywatch/\S+ \(.*\+https://watch\.example/about\)", agents.pop())


def drip(head: bytes) -> Callable[[Handler], None]:
    """A byte now and then, for ever."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(head)
        for _ in range(300):
            handler.wfile.write(b"x")
            time.sleep(0.1)

    return answer


def calendar(handler: Handler) -> None:
    day = int(handler.path.rpartition("=")[2]) if "=" in handler.path else 0
    handler.answer(200, f'<html><a href="/?day={day + 1}">next</a><a href="/?day={day + 1}0">x</a>'.encode())


def sessions(handler: Handler) -> None:
    links = "".join(f'<a href="/?sid={time.monotonic_ns()}{number}">x</a>' for number in range(5))
    handler.answer(200, f"<html>{links}".encode())


def segments(handler: Handler) -> None:
    handler.answer(200, f'<html><a href="{handler.path.rstrip("/")}/a/b">deeper</a>'.encode())


class TestTraps:
    @pytest.mark.parametrize("trap", [calendar, sessions, segments])
    def test_addresses_without_end_end_at_the_budget(
        self, site: HostileSite, run_crawl: Crawl, trap: Any, caplog: pytest.LogCaptureFixture
    ):
        site.server.routes = Everything(trap)
        caplog.set_level(logging.INFO)
        stats = run_crawl(site.url(), max_pages=30, max_depth=1000)
        assert (stats.outcome, stats.pages) == ("limited", 30)
        assert "limited (max_pages)" in caplog.text
        assert len(site.server.asked) <= 32

    def test_ever_deeper_ends_at_the_depth(self, site: HostileSite, run_crawl: Crawl):
        site.server.routes = Everything(segments)
        stats = run_crawl(site.url(), max_depth=4)
        assert (stats.outcome, stats.pages) == ("limited", 5)

    def test_answers_that_drip_end_at_the_time_out(
        self, site: HostileSite, run_crawl: Crawl, rows: Rows, settings: Settings
    ):
        site.on("/", '<html><img src="/body.jpg"><img src="/headers.jpg"><img src="/1.jpg">')
        site.on("/1.jpg", jpeg(1))
        site.on("/body.jpg", drip(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n"))
        site.on("/headers.jpg", drip(b"HTTP/1.1 200 OK\r\nX-Long: "))
        stats = run_crawl(site.url(), settings=settings.model_copy(update={"crawl_timeout_seconds": 1.0}))
        landed = rows()
        assert (stats.outcome, stats.images_fetched) == ("finished", 1)
        assert {landed[site.url(path)]["reason"] for path in ("/body.jpg", "/headers.jpg")} == {Reason.TIMEOUT}
        assert stats.seconds < 10


class Everything(dict[str, Any]):
    """Routes that answer every path alike."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def get(self, path: str, default: Any = None) -> Any:
        return None if path == "/robots.txt" else self.answer
