"""What crawls remember goes out of the ledger and comes back, whole or not at all."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from copywatch.crawl import normal_url, url_hash
from copywatch.crawl_state import ImageState, PageState, RobotsState, StateFile
from copywatch.errors import LakeError
from copywatch.ledger.crawl_state import export_state, forget_bytes, merge_state
from copywatch.ledger.database import session
from copywatch.ledger.models import CrawledImage, CrawledPage, CrawledRobots, CrawlNote

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def digest(name: object) -> bytes:
    return hashlib.sha256(str(name).encode()).digest()


def image(name: object, content: object = "bytes", **more: Any) -> ImageState:
    values: dict[str, Any] = {
        "url_hash": digest(name), "url": f"http://a.example/{name}.jpg", "page_url": "http://a.example/page",
        "sha256": None if content is None else digest(content).hex(), "source_hash": f"sha1:{name}", "version": "v1",
        "etag": '"e"', "last_modified": "Sat, 21 Nov 2026 09:00:00 GMT", "size": 2**40, "checked_at": NOW,
    }  # fmt: skip
    return ImageState(**(values | more))


def page(name: object, **more: Any) -> PageState:
    values: dict[str, Any] = {
        "url_hash": digest(name), "url": f"http://a.example/{name}", "found_on": "http://a.example/", "depth": 2,
        "etag": 'W/"p"', "last_modified": "yesterday", "digest": digest("lists"), "images": 12, "links": 3,
        "visited_at": NOW, "changed_at": NOW,
    }  # fmt: skip
    return PageState(**(values | more))


ROBOTS = RobotsState(origin="http://a.example", fetched_at=NOW, status=200, body=b"User-agent: *\nDisallow: /x\xff")

Crawl = Callable[..., Path]


@pytest.fixture
def crawl(ledger_url: str, tmp_path: Path) -> Crawl:
    """A crawl's file with what it changed, merged (unless `merge=False`); returns the file."""

    def work(run: str = "run-1", *, site: str = "a", merge: bool = True, **changed: Any) -> Path:
        path = tmp_path / f"{site}-{run}.sqlite"
        with session() as opened:
            export_state(opened, site, path, but_of=run)
        with StateFile(path) as state:
            state.commit(**changed)
        if merge:
            with session() as opened:
                merge_state(opened, site, run, path)
        return path

    return work


def exported(site: str, path: Path, but_of: str | None = None) -> dict[str, Any]:
    """What a new file of the site holds, by table."""
    with session() as opened:
        export_state(opened, site, path, but_of=but_of)
    with StateFile(path) as state, closing(sqlite3.connect(path)) as plain:
        assert not state.changed_notes()
        assert not [row for table in ("images", "pages", "robots") for row in state.changed(table)]
        plain.execute("UPDATE images SET changed = 1")
        plain.execute("UPDATE pages SET changed = 1")
        plain.execute("UPDATE robots SET changed = 1")
        plain.commit()
        rows = {table: list(state.changed(table)) for table in ("images", "pages", "robots")}
        notes = {name: state.note(name) for (name,) in plain.execute("SELECT name FROM notes")}
    return {
        "images": {row.url_hash: row for row in rows["images"]},
        "pages": {row.url_hash: row for row in rows["pages"]},
        "robots": rows["robots"],
        "notes": notes,
    }


def counts() -> list[int]:
    with session() as opened:
        models = (CrawledImage, CrawledPage, CrawledRobots, CrawlNote)
        return [opened.scalar(select(func.count()).select_from(model)) or 0 for model in models]


def test_all_of_it_comes_back_as_it_was(crawl: Crawl, tmp_path: Path):
    images = [image(1), image(2, None, source_hash=None, version=None, etag=None, last_modified=None, size=None)]
    pages = [page(1), page(2, etag=None, last_modified=None, digest=None, visited_at=None, changed_at=None)]
    notes = {"cursor": {"after": "2026-11-21", "ids": [1, 2]}, "nothing": None}
    crawl(images=images, pages=pages, robots=[ROBOTS], notes=notes)
    known = exported("a", tmp_path / "next.sqlite")
    assert known["images"] == {one.url_hash: one for one in images}
    assert known["pages"] == {one.url_hash: one for one in pages}
    assert (known["robots"], known["notes"]) == ([ROBOTS], notes)
    other = exported("b", tmp_path / "b.sqlite")
    assert other == {"images": {}, "pages": {}, "robots": [], "notes": {}}, "each site has its own"


def test_addresses_of_before_the_state_are_known(ledger_url: str, tmp_path: Path):
    with session() as opened:
        opened.add(CrawledImage(site="a", url_hash=digest("old"), run="run-0", settled_at=NOW, checked_at=NOW))
    known = exported("a", tmp_path / "a.sqlite", but_of="run-1")["images"][digest("old")]
    assert (known.url, known.page_url, known.sha256, known.checked_at) == ("", "", None, NOW)


class TestRunAgain:
    def test_what_a_run_settled_itself_is_new_to_it(self, crawl: Crawl, tmp_path: Path):
        crawl("run-1", images=[image(1), image("changed", "old")], notes={"source": "page", "cursor": 1})
        crawl("run-2", images=[image(2), image("changed", "new", checked_at=LATER)], notes={"cursor": 2})
        again = exported("a", tmp_path / "again.sqlite", but_of="run-2")
        assert again["images"] == {digest(1): image(1)}, "its images replace the run's rows: all must be landed"
        assert again["notes"] == {}, "a cursor would pass by its images"
        assert len(exported("a", tmp_path / "next.sqlite", but_of="run-3")["images"]) == 3

    def test_what_it_only_found_unchanged_stays_known(self, crawl: Crawl, tmp_path: Path):
        crawl("run-1", images=[image(1), image("none", None)])
        seen = [image(1, checked_at=LATER, etag='"other"'), image("none", None, checked_at=LATER)]
        crawl("run-2", images=seen)
        known = exported("a", tmp_path / "again.sqlite", but_of="run-2")["images"]
        assert known == {one.url_hash: one for one in seen}

    def test_pages_that_it_read_are_read_again(self, crawl: Crawl, tmp_path: Path):
        """Not forgotten: the page that links to one of them may be unchanged since an earlier run."""
        crawl("run-1", pages=[page(1), page(2)])
        crawl("run-2", pages=[page(2, visited_at=LATER, etag='"new"')])
        again = exported("a", tmp_path / "again.sqlite", but_of="run-2")["pages"]
        unread = replace(page(2), visited_at=None, etag=None, last_modified=None, digest=None)
        assert again == {digest(1): page(1), digest(2): unread}

    def test_notes_of_a_run_that_settled_nothing_are_taken_back(self, crawl: Crawl, tmp_path: Path):
        crawl("run-1", notes={"source": "page", "cursor": 1})
        crawl("run-2", notes={"cursor": 2})
        assert exported("a", tmp_path / "again.sqlite", but_of="run-2")["notes"] == {"source": "page"}

    def test_pages_that_show_its_images_are_read_again_though_a_later_run_read_them(self, crawl: Crawl, tmp_path: Path):
        def at(url: str, **more: Any) -> PageState:
            return page(url, url=url, url_hash=bytes.fromhex(url_hash(normal_url(url))), **more)

        shows, other = at("http://a.example/page"), at("http://a.example/other")
        crawl("run-1", images=[image(1, page_url=other.url)], pages=[other])
        crawl("run-2", images=[image(2, page_url=shows.url)], pages=[shows])
        crawl("run-3", pages=[replace(shows, visited_at=LATER), replace(other, visited_at=LATER)], notes={"cursor": 3})
        again = exported("a", tmp_path / "again.sqlite", but_of="run-2")
        blank: dict[str, Any] = {"etag": None, "last_modified": None, "digest": None}
        assert again["pages"][shows.url_hash] == replace(shows, visited_at=None, **blank)
        assert again["pages"][other.url_hash] == replace(other, visited_at=LATER, **blank), "it may link to it"
        assert again["notes"] == {}
        crawl("run-4", images=[image(4, page_url="http://a.example/where/redirects/led")])
        again = exported("a", tmp_path / "again.sqlite", but_of="run-4")
        assert {one.visited_at for one in again["pages"].values()} == {None}, "any may have led there"


class TestMerge:
    def test_again_changes_nothing(self, crawl: Crawl, tmp_path: Path):
        path = crawl(images=[image(1)], pages=[page(1)], robots=[ROBOTS], notes={"cursor": 1})
        before = exported("a", tmp_path / "next.sqlite")
        with session() as opened:
            assert merge_state(opened, "a", "run-1", path) == 1
        assert exported("a", tmp_path / "next.sqlite") == before
        assert counts() == [1, 1, 1, 1]

    def test_only_what_the_crawl_changed_is_taken(self, crawl: Crawl, monkeypatch: pytest.MonkeyPatch):
        crawl("run-1", images=map(image, range(10)))
        path = crawl("run-2", merge=False, images=[image(10)])
        with session() as opened:
            assert merge_state(opened, "a", "run-2", path) == 1

    def test_a_death_in_the_middle_leaves_nothing(self, crawl: Crawl, monkeypatch: pytest.MonkeyPatch):
        path = crawl(merge=False, images=[image(1)], pages=[page(1)], notes={"cursor": 1})

        def dying(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("copywatch.ledger.crawl_state._put_note", dying)
            with pytest.raises(KeyboardInterrupt), session() as opened:
                merge_state(opened, "a", "run-1", path)
        assert counts() == [0, 0, 0, 0]
        with session() as opened:
            assert merge_state(opened, "a", "run-1", path) == 1
        assert counts() == [1, 1, 0, 1]

    def test_an_older_runs_file_takes_nothing_back(self, crawl: Crawl, tmp_path: Path):
        late = crawl("run-1", merge=False, images=[image(1, "old")], pages=[page(1)], robots=[ROBOTS])
        robots = replace(ROBOTS, fetched_at=LATER, body=b"")
        newer = {"images": [image(1, "new", checked_at=LATER)], "pages": [page(1, visited_at=LATER)]}
        crawl("run-2", **newer, robots=[robots])
        with session() as opened:
            merge_state(opened, "a", "run-1", late)
        known = exported("a", tmp_path / "next.sqlite")
        assert list(known["images"].values()) == newer["images"]
        assert list(known["pages"].values()) == newer["pages"]
        assert known["robots"] == [robots]

    def test_a_page_whose_images_could_not_be_had_is_to_be_read_again(self, crawl: Crawl, tmp_path: Path):
        crawl("run-1", pages=[page(1)])
        crawl("run-2", pages=[page(1, visited_at=None, etag=None)])
        assert exported("a", tmp_path / "next.sqlite")["pages"][digest(1)].visited_at is None

    def test_no_file_is_no_trouble(self, ledger_url: str, tmp_path: Path):
        with session() as opened:
            assert merge_state(opened, "a", "run-1", tmp_path / "none.sqlite") == 0
        assert not (tmp_path / "none.sqlite").exists()

    def test_hostile_text_is_taken(self, crawl: Crawl, tmp_path: Path):
        notes = {"cursor": "\x00 \ud800 \u202e", "x" * 5000: 1}
        crawl(images=[image(1, etag='"a\x00b"', version="\u202e")], robots=[ROBOTS, replace(ROBOTS, origin="o" * 5000)],
              notes=notes)  # fmt: skip
        known = exported("a", tmp_path / "next.sqlite")
        assert known["images"][digest(1)].etag == '"ab"', "PostgreSQL takes no NUL"
        assert known["notes"] == {"cursor": "\x00 \ud800 \u202e"}, "a name that no index takes is left out"
        assert known["robots"] == [ROBOTS]

    @pytest.mark.parametrize("broken", [{"size": "a lot"}, {"url": None}])
    def test_what_no_crawl_writes_is_told_and_the_transaction_goes_on(self, crawl: Crawl, broken: dict[str, Any]):
        path = crawl(merge=False, images=[image(1), image(2, **broken)])
        with session() as opened:
            with pytest.raises(LakeError, match="holds what no crawl writes"):
                merge_state(opened, "a", "run-1", path)
            opened.add(CrawledImage(site="b", url_hash=digest(1), run="run-1"))
        assert counts() == [1, 0, 0, 0]

    def test_a_damaged_file_is_told(self, crawl: Crawl, tmp_path: Path):
        path = tmp_path / "broken.sqlite"
        path.write_bytes(b"no database at all" * 100)
        with session() as opened, pytest.raises(LakeError, match=r"broken\.sqlite"):
            merge_state(opened, "a", "run-1", path)


class TestExport:
    def test_replaces_a_file_and_what_sqlite_left_beside_it(self, crawl: Crawl, tmp_path: Path):
        crawl(images=[image(1)])
        path = tmp_path / "folder" / "a.sqlite"
        path.parent.mkdir()
        for ending in ("", "-wal", "-shm"):
            path.with_name(path.name + ending).write_bytes(b"of a crawl that was killed")
        assert list(exported("a", path)["images"]) == [digest(1)]
        assert [one.name for one in path.parent.iterdir()] == ["a.sqlite"]

    def test_a_death_leaves_no_file(self, crawl: Crawl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """Half a file would make the crawl fetch again what is known."""
        crawl(images=[image(1)])

        def dying(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(StateFile, "commit", dying)
            with pytest.raises(KeyboardInterrupt), session() as opened:
                export_state(opened, "a", tmp_path / "a.sqlite")
        assert not (tmp_path / "a.sqlite").exists()
        assert len(exported("a", tmp_path / "a.sqlite")["images"]) == 1

    def test_a_place_that_cannot_be_written_is_told(self, ledger_url: str, tmp_path: Path):
        (tmp_path / "file").write_text("")
        with session() as opened, pytest.raises(LakeError, match="cannot be put there"):
            export_state(opened, "a", tmp_path / "file" / "a.sqlite")


def test_more_than_one_batch_holds(crawl: Crawl, tmp_path: Path):
    crawl(images=(image(number, number) for number in range(12_001)))
    known = exported("a", tmp_path / "next.sqlite")["images"]
    assert len(known) == 12_001
    assert known[digest(12_000)] == image(12_000, 12_000)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(
    runs=st.lists(st.dictionaries(st.integers(0, 6), st.integers(0, 2), max_size=5), min_size=1, max_size=5),
    again=st.integers(0, 4),
)
def test_a_run_knows_what_the_others_left(tmp_path: Path, ledger_url: str, runs: list[dict[int, int]], again: int):
    """Against dictionaries: each run finds some addresses with some content, a content of 0 is that there is none."""
    site = digest(f"{runs}{again}").hex()[:20]
    content: dict[bytes, int] = {}
    landed_by: dict[bytes, int] = {}
    for number, found in enumerate(runs):
        path = tmp_path / f"{site}.sqlite"
        with session() as opened:
            export_state(opened, site, path, but_of=str(number))
        at = NOW + timedelta(hours=number)
        with StateFile(path) as state:
            state.commit(images=[image(name, data or None, checked_at=at) for name, data in found.items()])
        with session() as opened:
            assert merge_state(opened, site, str(number), path) == len(found)
        for name, data in found.items():
            if content.get(digest(name)) != data:
                content[digest(name)], landed_by[digest(name)] = data, number
    known = exported(site, tmp_path / "next.sqlite", but_of=str(again))["images"]
    expected = {name: data for name, data in content.items() if landed_by[name] != again}
    assert {name: one.sha256 for name, one in known.items()} == {
        name: digest(data).hex() if data else None for name, data in expected.items()
    }


def test_bytes_that_the_lake_knows_no_more_are_fetched_again_wherever_they_are(crawl: Crawl, tmp_path: Path):
    crawl("run-1", images=[image(1, "lost"), image(2, "lost"), image(3, "kept")])
    with session() as opened:
        assert forget_bytes(opened, [digest("lost").hex()]) == 2
        assert forget_bytes(opened, []) == 0
    with session() as opened:
        assert {row.url_hash for row in opened.scalars(select(CrawledImage))} == {digest(3)}
