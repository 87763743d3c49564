"""What a later crawl asks for, and what it still finds."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from copywatch.crawl_state import StateFile
from copywatch.errors import CrawlFailed
from copywatch.lake.landing import part_folder
from tests.crawlers.hostile_site import Handler, HostileSite, jpeg
from tests.crawlers.test_crawl_process import children

PER_PAGE = 20


class Gallery:
    """A gallery of listing pages with validators, whose pictures come and go as a test says."""

    def __init__(self, site: HostileSite, images: int) -> None:
        self.site = site
        self.order = list(range(images))
        self.bytes = {number: jpeg(number) for number in self.order}
        self.conditional = True
        site.on("/", lambda handler: self._page(handler, 0))
        site.server.routes.update({f"/page/{number}": self._listing(number) for number in range(1, 200)})
        for number in self.order:
            self._serve(number)

    def add(self, place: int) -> int:
        """A new picture at this place of the order."""
        number = len(self.bytes) + 1000
        self.bytes[number] = jpeg(number)
        self.order.insert(place, number)
        self._serve(number)
        return number

    def path(self, number: int) -> str:
        return f"/{number}.jpg"

    def downloaded(self) -> list[int]:
        """Pictures that were sent, in order, and forgets them."""
        paths = [path for path, _, _ in self.site.server.asked if path.endswith(".jpg")]
        self.site.server.asked.clear()
        return [int(path[1:-4]) for path in paths]

    def _serve(self, number: int) -> None:
        self.site.on(self.path(number), lambda handler: self._answer(handler, self.bytes[number], "image/jpeg"))

    def _listing(self, number: int) -> Callable[[Handler], None]:
        return lambda handler: self._page(handler, number)

    def _page(self, handler: Handler, number: int) -> None:
        shown = self.order[number * PER_PAGE : (number + 1) * PER_PAGE]
        images = "".join(f'<img src="{self.path(one)}">' for one in shown)
        last = (len(self.order) - 1) // PER_PAGE
        links = "".join(f'<a href="/page/{other}">p</a>' for other in range(1, last + 1))
        self._answer(handler, f"<html>{images}{links}".encode(), "text/html")

    def _answer(self, handler: Handler, body: bytes, kind: str) -> None:
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if self.conditional and handler.headers.get("If-None-Match") == etag:
            handler.answer(304, b"", kind, ETag=etag)
        else:
            handler.answer(200, body, kind, **({"ETag": etag} if self.conditional else {}))


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "site.sqlite"


@pytest.mark.parametrize("conditional", [True, False])
def test_an_unchanged_site_costs_its_budget_and_no_image(
    site: HostileSite, run_crawl: Any, rows: Any, memory: Path, conditional: bool
):
    gallery = Gallery(site, 240)
    gallery.conditional = conditional
    first = run_crawl(site.url(), state=memory)
    assert (first.outcome, first.images_fetched, first.pages) == ("finished", 240, 12)
    assert sorted(gallery.downloaded()) == sorted(gallery.order)
    second = run_crawl(site.url(), run="run-2", state=memory)
    assert (second.outcome, second.images_fetched, second.images_failed) == ("finished", 0, 0)
    assert gallery.downloaded() == []
    assert rows("run-2") == {}
    assert second.pages == 12
    # The budget for what is known, and robots.txt where it is not kept.
    assert second.requests <= 150 + 1
    assert second.not_modified >= 149 if conditional else second.not_modified == 0


def test_late_back_dated_and_reordered_pictures_are_found_and_no_other(
    site: HostileSite, run_crawl: Any, rows: Any, memory: Path
):
    gallery = Gallery(site, 160)
    hidden = gallery.order.pop(50)
    run_crawl(site.url(), state=memory)
    gallery.downloaded()
    new = {gallery.add(0), gallery.add(110), gallery.add(len(gallery.order)), hidden}
    gallery.order.insert(77, hidden)
    random.Random(5).shuffle(gallery.order)
    second = run_crawl(site.url(), run="run-2", state=memory)
    assert set(gallery.downloaded()) == new
    assert second.images_fetched == 4
    assert set(rows("run-2")) == {site.url(gallery.path(number)) for number in new}


def test_a_picture_changed_under_its_address_is_new(site: HostileSite, run_crawl: Any, rows: Any, memory: Path):
    gallery = Gallery(site, 60)
    run_crawl(site.url(), state=memory)
    gallery.downloaded()
    gallery.bytes[33] = jpeg(33, 3000)
    second = run_crawl(site.url(), run="run-2", state=memory)
    assert gallery.downloaded() == [33]
    (row,) = rows("run-2").values()
    assert row["bytes"] == jpeg(33, 3000)
    assert second.images_fetched == 1
    run_crawl(site.url(), run="run-3", state=memory)
    assert (gallery.downloaded(), rows("run-3")) == ([], {})


def test_what_failed_is_tried_again_though_its_page_is_as_it_was(
    site: HostileSite, run_crawl: Any, rows: Any, memory: Path
):
    gallery = Gallery(site, 40)
    site.on("/7.jpg", lambda handler: handler.answer(503, b"busy", Retry_After="900"))
    run_crawl(site.url(), state=memory)
    assert rows()[site.url("/7.jpg")]["http_status"] == 503
    gallery._serve(7)
    gallery.downloaded()
    run_crawl(site.url(), run="run-2", state=memory)
    assert gallery.downloaded().count(7) == 1
    assert rows("run-2")[site.url("/7.jpg")]["bytes"] == gallery.bytes[7]


@pytest.mark.parametrize("bound", [{"max_images": 70}, {"max_pages": 3}])
def test_a_crawl_that_ended_at_a_bound_is_gone_on_with(
    site: HostileSite, run_crawl: Any, memory: Path, bound: dict[str, int]
):
    gallery = Gallery(site, 160)
    fetched: list[int] = []
    for number in range(3):
        run_crawl(site.url(), run=f"run-{number}", state=memory, **bound)
        fetched += gallery.downloaded()
    assert sorted(fetched) == gallery.order


def test_killed_in_the_middle_it_fetches_nothing_twice_beyond_the_open_shard_and_loses_nothing(
    site: HostileSite, run_crawl: Any, rows: Any, memory: Path, settings: Any, tmp_path: Path
):
    gallery = Gallery(site, 200)
    small = settings.model_copy(update={"shard_bytes": 50_000})
    folder = part_folder(tmp_path / "landing", "run-1", "site")

    def kill() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and len(list(folder.glob("0*.parquet"))) < 3:
            time.sleep(0.01)
        children()[0].kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(CrawlFailed, match="signal 9"):
        run_crawl(site.url(), state=memory, settings=small)
    thread.join()
    with StateFile(memory) as state:
        kept, _ = state.counts()
    assert kept >= 40
    before = gallery.downloaded()
    stats = run_crawl(site.url(), state=memory, settings=small, resume=True)
    after = gallery.downloaded()
    assert set(before) | set(after) == set(gallery.order)
    assert len(after) == 200 - kept
    assert {row["sha256"] for row in rows().values()} == {
        hashlib.sha256(data).hexdigest() for data in gallery.bytes.values()
    }
    assert stats.images_fetched == 200
    third = run_crawl(site.url(), run="run-2", state=memory)
    assert (third.images_fetched, gallery.downloaded()) == (0, [])


def test_a_dry_run_lists_and_remembers_nothing(site: HostileSite, run_crawl: Any, rows: Any, memory: Path):
    gallery = Gallery(site, 50)
    stats = run_crawl(site.url(), state=memory, dry_run=True)
    assert gallery.downloaded() == []
    assert set(rows()) == {site.url(gallery.path(number)) for number in gallery.order}
    assert all(row["bytes"] is None and row["reason"] is None for row in rows().values())
    assert stats.images_fetched == 0
    run_crawl(site.url(), run="run-2", state=memory)
    assert len(rows("run-2")) == 50


def test_a_page_that_is_gone_is_told_once(site: HostileSite, run_crawl: Any, rows: Any, memory: Path):
    Gallery(site, 40)
    site.on("/also", "<html><a href='/'>back</a><img src='/1.jpg'>")
    run_crawl([site.url(), site.url("/also")], state=memory)
    del site.server.routes["/page/1"]
    run_crawl([site.url(), site.url("/also")], run="run-2", state=memory)
    assert rows("run-2")[site.url("/page/1")]["http_status"] == 404
