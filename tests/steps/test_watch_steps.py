"""The steps of the watch: what they leave in the ledger and the lake, and that they may be called again."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from sqlalchemy import select

from copywatch import crawl as crawling
from copywatch.crawl_state import ImageState, StateFile
from copywatch.errors import CrawlFailed, MachineError, SitesFileError
from copywatch.lake import landing
from copywatch.lake.landing import ShardWriter
from copywatch.lake.schemas import MATCHES
from copywatch.lake.tables import create_tables, table_url
from copywatch.ledger import crawls
from copywatch.ledger.applications import owner_by_email
from copywatch.ledger.database import session
from copywatch.ledger.models import Alert, Application, ApplicationState, CrawlCursor, CrawledImage, Evidence
from copywatch.settings import settings
from copywatch.steps import watch

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
RUN = "manual__2026-11-21T09:00:00+00:00"
KEY = "manual__2026-11-21T09_00_00_00_00"


@pytest.fixture
def sites_file(ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "sites.yaml"
    site = "  - {name: %s, start: 'http://%s.example/', every: 1h, enabled: %s}\n"
    rows = (("a", "a", "true"), ("b", "b", "true"), ("off", "off", "false"))
    file.write_text("sites:\n" + "".join(site % one for one in rows))
    monkeypatch.setenv("COPYWATCH_SITES_FILE", str(file))
    settings.cache_clear()
    return file


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def settled(name: str) -> ImageState:
    """An image that a crawl has settled."""
    return ImageState(url_hash=bytes.fromhex(digest(name)), url=name, page_url="", sha256=digest(name), checked_at=NOW)


def known(site: str) -> set[str]:
    """Hashes of the image addresses of a site that the ledger knows."""
    with session() as opened:
        return {row.hex() for row in opened.scalars(select(CrawledImage.url_hash).where(CrawledImage.site == site))}


class TestPickSites:
    def test_takes_what_is_due_and_enabled(self, sites_file: Path, caplog: pytest.LogCaptureFixture):
        with caplog.at_level(logging.INFO):
            assert watch.pick_sites(run=RUN) == ["a", "b"]
        assert f"[run={KEY}] done\nsites due" in caplog.text
        with session() as opened:
            crawls.crawl_started(opened, "a", "run-0", datetime.now(UTC))
        assert watch.pick_sites() == ["b"]

    def test_takes_what_a_person_chose_due_or_not(self, sites_file: Path):
        with session() as opened:
            crawls.crawl_started(opened, "a", "run-0", datetime.now(UTC))
        assert watch.pick_sites(["off", "a"]) == ["a", "off"]

    def test_an_unknown_one_is_named(self, sites_file: Path):
        with pytest.raises(SitesFileError, match="no site is named elsewhere; there are: a, b, off"):
            watch.pick_sites(["a", "elsewhere"])


class TestCrawlSite:
    @pytest.fixture
    def crawl(self, sites_file: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        """The crawl of a site without a network: says what it was asked for."""
        asked: list[dict[str, Any]] = []

        def crawled(site: Any, **options: Any) -> crawling.CrawlStats:
            asked.append({"site": site.name, **options})
            failing = site.name == "b"
            stats = {
                "outcome": "failed" if failing else "finished", "error": "HTTP 500" if failing else None, "pages": 1,
                "pages_failed": 2, "images_found": 8, "images_known": 3, "images_fetched": 4, "images_failed": 3,
                "bytes_fetched": 0, "started_at": NOW, "finished_at": NOW, "source": "gallery", "requests": 4711,
                "not_modified": 31, "images_repeated": 1, "bytes_received": 10**9, "robots_refused": 17, "errors": 19,
                "rejected": {"truncated image": 2, "HTTP error": 3}, "seconds": 2.345,
            }  # fmt: skip
            with StateFile(options["state"]) as state:
                known = state.image(bytes.fromhex(digest("old"))), state.image(bytes.fromhex(digest("own")))
                asked[-1]["known"] = [one is not None for one in known]
                state.commit(images=[settled(f"{site.name} of {options['run']}")])
            with ShardWriter(options["landing"], options["run"], site.name, shard_bytes=100) as writer:
                writer.finish(stats)
            if failing:
                raise CrawlFailed(site.name, "HTTP 500")
            return crawling.load_crawl_stats(options["landing"], options["run"], site.name)

        monkeypatch.setattr(crawling, "crawl", crawled)
        return asked

    def cursor(self, site: str) -> tuple[str | None, bool]:
        with session() as opened:
            cursor = opened.get_one(CrawlCursor, site)
            assert cursor.last_run == KEY
            assert cursor.last_started_at is not None
            return cursor.last_error, cursor.last_finished_at is not None

    def test_notes_its_begin_and_end_and_says_what_was_done(self, crawl: Any, caplog: pytest.LogCaptureFixture):
        with caplog.at_level(logging.INFO):
            assert watch.crawl_site("a", RUN)["outcome"] == "finished"
        assert self.cursor("a") == (None, True)
        assert f"[run={KEY} site=a] done\ncrawl of a\n" in caplog.text

    def test_a_failure_is_noted_shown_and_raised(self, crawl: Any, caplog: pytest.LogCaptureFixture):
        with caplog.at_level(logging.INFO), pytest.raises(CrawlFailed, match="b: HTTP 500"):
            watch.crawl_site("b", RUN)
        assert self.cursor("b") == ("HTTP 500", False)
        assert f"[run={KEY} site=b] failed\ncrawl of b\n" in caplog.text

    def test_a_crash_is_no_success(self, crawl: Any, monkeypatch: pytest.MonkeyPatch):
        def broken(*_: Any, **__: Any) -> None:
            raise MachineError("no crawlers here")

        monkeypatch.setattr(crawling, "crawl", broken)
        with pytest.raises(MachineError):
            watch.crawl_site("a", RUN)
        assert self.cursor("a") == ("MachineError: no crawlers here", False)

    def test_its_figures_are_in_the_log(self, crawl: Any, caplog: pytest.LogCaptureFixture):
        with caplog.at_level(logging.INFO):
            watch.crawl_site("a", RUN)
        figures = ("source gallery", "requests 4711", "answers 304 31", "images new 4", "at another place 1",
                   "images known 3", "rejected 5", "HTTP error 3", "truncated image 2", "robots refusals 17",
                   "errors 19", "seconds 2.3", "bytes received 1000000000")  # fmt: skip
        said = " ".join(caplog.text.split())
        assert [figure for figure in figures if figure not in said] == []

    def test_asks_only_for_what_other_runs_have_not_settled(self, crawl: list[dict[str, Any]]):
        with session() as opened:
            for run, name in (("run-0", "old"), (KEY, "own")):
                opened.add(CrawledImage(site="a", url_hash=bytes.fromhex(digest(name)), run=run))
        watch.crawl_site("a", RUN, uploaded_since="2026-11-01")
        assert crawl[0]["known"] == [True, False]
        assert (crawl[0]["run"], crawl[0]["uploaded_since"], crawl[0]["resume"]) == (KEY, date(2026, 11, 1), False)

    def test_goes_on_from_where_an_earlier_try_was_interrupted(self, crawl: list[dict[str, Any]]):
        file = landing.state_file(settings().landing, KEY, "a")
        with StateFile(file) as state:
            state.commit(images=[settled("own")])
        watch.crawl_site("a", RUN)
        assert (crawl[0]["resume"], crawl[0]["known"]) == (True, [False, True]), "its own file, not the ledger's"
        watch.crawl_site("a", RUN)
        assert (crawl[1]["resume"], crawl[1]["known"]) == (False, [False, False]), "that one had ended"

    def test_what_it_found_says_when_the_next_one_is_due(self, crawl: Any, caplog: pytest.LogCaptureFixture):
        watch.crawl_site("a", RUN)
        with session() as opened:
            cursor = opened.get_one(CrawlCursor, "a")
            assert (cursor.new_images_last, cursor.source, cursor.interval_seconds) == (5, "gallery", 3600)

    def test_a_site_that_fails_too_often_is_left_alone_until_a_person_names_it(
        self, crawl: Any, caplog: pytest.LogCaptureFixture
    ):
        for _ in range(3):
            with pytest.raises(CrawlFailed):
                watch.crawl_site("b", RUN)
        with session() as opened:
            opened.get_one(CrawlCursor, "b").last_started_at = NOW - timedelta(days=30)
        with caplog.at_level(logging.INFO):
            assert watch.pick_sites() == ["a"]
        assert "blocked: failed 3 times in a row, the last time with: HTTP 500" in caplog.text
        assert watch.pick_sites(["b"]) == ["b"]


class TestRecordFindings:
    @pytest.fixture
    def crawled(self, ledger_url: str) -> dict[str, Any]:
        """A run that found one identical copy, whose bytes still lie in the landing."""
        config = settings()
        create_tables(config.warehouse)
        data = b"the copy's bytes"
        sha256 = hashlib.sha256(data).hexdigest()
        with session() as opened:
            owner = owner_by_email(opened, "ada@owners.example")
            application = Application(run="i", owner_id=owner.id, filename="a.jpg", sha256="0" * 64)
            application.state, application.protected_id = ApplicationState.PROTECTED, "p" * 32
            application.storage_address = "originals/00/" + "0" * 64
            opened.add(application)
        with ShardWriter(config.landing, KEY, "a", shard_bytes=10**6) as writer:
            for name, content in (("copy", data), ("other", b"unrelated")):
                writer.write({"run": KEY, "site": "a", "image_url": name, "crawled_at": NOW, "bytes": content,
                              "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)})  # fmt: skip
            writer.finish({"outcome": "failed"})
        with StateFile(landing.state_file(config.landing, KEY, "a")) as state:
            state.commit(images=[settled("copy"), settled("other")])
        match = dict.fromkeys(MATCHES.columns.names) | {
            "sighting_id": "s" * 32, "protected_id": "p" * 32, "run": KEY, "site": "a", "page_url": "page",
            "image_url": "copy", "crawled_at": NOW, "sha256": sha256, "verdict": 0, "distance": 0.0,
            "algorithm": "mao/1", "threshold": 0.47, "state": "certain", "tag": "animal",
        }  # fmt: skip
        write_deltalake(
            table_url(config.warehouse, MATCHES), pa.Table.from_pylist([match], schema=MATCHES.columns), mode="append"
        )
        return {"data": data, "sha256": sha256}

    def test_keeps_the_evidence_settles_the_addresses_and_lets_the_bytes_go(self, crawled: dict[str, Any]):
        from copywatch.images import image_store

        done = watch.record_findings(RUN)
        assert (done["matches"], done["new alerts"], done["new reviews"]) == (1, 1, 0)
        assert (done["certain"], done["doubtful"], done["different"]) == (0, 0, 0), "T = 0 needs no verification"
        with session() as opened:
            (evidence,) = opened.scalars(select(Evidence))
            assert image_store().get(evidence.found_address) == crawled["data"]
        assert known("a") == {digest("copy"), digest("other")}, (
            "of a crawl that failed, too: its images are in the lake"
        )
        assert landing.shards(settings().landing, KEY) == []
        assert landing.is_released(settings().landing, KEY)

    def test_verified_pairs_go_their_ways_and_are_counted(self, crawled: dict[str, Any]):
        judged = ("certain", "doubtful", "doubtful", "different")
        rows = [
            dict.fromkeys(MATCHES.columns.names) | {
                "sighting_id": f"{number:032x}", "protected_id": "p" * 32, "run": KEY, "site": "a", "page_url": "page",
                "image_url": "copy", "crawled_at": NOW, "sha256": crawled["sha256"], "verdict": 1, "distance": 0.1,
                "algorithm": "mao/1", "threshold": 0.47, "tag": "animal", "verification": one, "probability": 0.5,
                "state": "different" if one == "different" else "doubtful",
            }
            for number, one in enumerate(judged)
        ]  # fmt: skip
        write_deltalake(
            table_url(settings().warehouse, MATCHES), pa.Table.from_pylist(rows, schema=MATCHES.columns), mode="append"
        )
        done = watch.record_findings(RUN)
        assert (done["certain"], done["doubtful"], done["different"]) == (1, 2, 1)
        assert (done["new alerts"], done["new reviews"]) == (1, 3)

    def test_again_adds_nothing(self, crawled: dict[str, Any]):
        watch.record_findings(RUN)
        again = watch.record_findings(RUN)
        assert (again["matches"], again["new alerts"], again["new reviews"]) == (1, 0, 0)
        with session() as opened:
            assert len(opened.scalars(select(Alert)).all()) == 1

    @pytest.mark.parametrize("place", ["record_matches", "merge_state", "release"])
    def test_a_death_at_any_line_loses_nothing(
        self, crawled: dict[str, Any], monkeypatch: pytest.MonkeyPatch, place: str
    ):
        from copywatch.images import image_store

        def dying(work: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*arguments: Any) -> None:
                work(*arguments)
                raise KeyboardInterrupt

            return wrapped

        with monkeypatch.context() as patched:
            room: Any = landing if place == "release" else watch
            patched.setattr(room, place, dying(getattr(room, place)))
            with pytest.raises(KeyboardInterrupt):
                watch.record_findings(RUN)
        with session() as opened:
            # Settled only together with its evidence: else the next crawl looks again.
            assert len(opened.scalars(select(Evidence)).all()) == (place == "release")
        assert bool(known("a")) == (place == "release")
        watch.record_findings(RUN)
        with session() as opened:
            (evidence,) = opened.scalars(select(Evidence))
            assert image_store().get(evidence.found_address) == crawled["data"]
            assert len(opened.scalars(select(Alert)).all()) == 1
        assert known("a") == {digest("copy"), digest("other")}
        assert landing.shards(settings().landing, KEY) == []

    def test_a_damaged_state_keeps_no_evidence_back(self, crawled: dict[str, Any], caplog: pytest.LogCaptureFixture):
        landing.state_file(settings().landing, KEY, "a").write_bytes(b"no database at all" * 100)
        assert watch.record_findings(RUN)["new alerts"] == 1
        assert "a: what its crawl has learned is lost" in caplog.text
        assert known("a") == set()
        assert landing.is_released(settings().landing, KEY)

    def test_a_crawl_that_has_not_ended_is_not_settled(self, crawled: dict[str, Any]):
        (landing.part_folder(settings().landing, KEY, "a") / landing.STATS_FILE).unlink()
        watch.record_findings(RUN)
        assert known("a") == set()

    def test_a_run_that_crawled_nothing_is_no_trouble(self, ledger_url: str, caplog: pytest.LogCaptureFixture):
        with caplog.at_level(logging.INFO):
            assert set(watch.record_findings(RUN).values()) == {0}
        assert f"[run={KEY}] done\nwhat the run found\n" in caplog.text


def test_send_alerts_says_what_went_out(ledger_url: str, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        assert watch.send_alerts(RUN) == 0
    assert f"[run={KEY}] done\nalerts sent\n(nothing)" in caplog.text
