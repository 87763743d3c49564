"""Crawls of timelines of Mastodon and what speaks like it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from copywatch.crawl import CrawlStats
from copywatch.crawl_state import StateFile
from copywatch.errors import CrawlFailed
from crawlers.listings import NotAListing, mastodon, next_link
from tests.crawlers.hostile_site import HostileSite
from tests.crawlers.interfaces import FIRST, Again, Mastodon, Rows, as_json, crawls_of

TIMELINE = "/api/v1/timelines/public"


@pytest.fixture
def server(site: HostileSite) -> Mastodon:
    server = Mastodon(site)
    site.on(TIMELINE, server)
    return server


@pytest.fixture
def again(run_crawl: Callable[..., CrawlStats], tmp_path: Path) -> Again:
    return crawls_of("mastodon", run_crawl, tmp_path / "state.sqlite")


@pytest.mark.parametrize("sends_link", [True, False], ids=["link", "no-link"])
def test_every_image_once_and_then_only_what_is_new(
    server: Mastodon, again: Again, rows: Rows, sends_link: bool
) -> None:
    server.sends_link = sends_link
    server.page_size = 10
    server.add(55, by="ada")
    hidden = server.posts[9]
    hidden.hidden = True
    stats = again(server, "first")
    assert (stats.outcome, stats.images_fetched) == ("finished", 54)
    found = rows("first")
    assert set(found) == server.urls(server.shown)
    row = found[server.site.url("/uploads/7.jpg")]
    assert (row["uploader"], row["uploader_url"]) == ("ada", server.site.url("/@ada"))
    assert (row["uploaded_at"], row["uploaded_at_source"]) == (FIRST + timedelta(hours=7), "mastodon created_at")
    assert (row["caption"], row["page_url"]) == ("Picture 7", server.site.url("/@ada/7"))
    assert "only_media=true" in server.asked_listings[0]
    assert "local=true" in server.asked_listings[0]

    hidden.hidden = False
    new = server.add(12)
    assert again(server, "second").images_fetched == 13
    assert set(rows("second")) == server.urls([hidden, *new])
    assert len(server.asked_listings) <= 8
    assert "/uploads/film.mp4" not in server.asked


def test_bounds_are_gone_on_from(server: Mastodon, again: Again, rows: Rows) -> None:
    server.page_size = 10
    server.add(45)
    found = [*rows("first")] if again(server, "first", max_pages=2) else []
    new = server.add(3)
    again(server, "second", max_pages=3)
    found += rows("second")
    assert server.urls(new) <= set(found)
    again(server, "third")
    found += rows("third")
    assert len(found) == 48
    assert set(found) == server.urls(server.shown)


def test_one_account(server: Mastodon, again: Again, rows: Rows) -> None:
    server.add(3)
    server.site.on("/api/v1/accounts/lookup", lambda handler: as_json(handler, {"id": "42", "acct": "ada"}))
    server.site.on("/api/v1/accounts/42/statuses", server)
    assert again(server, "first", path="/@ada").images_fetched == 3
    assert server.asked_listings[0] == "/api/v1/accounts/lookup?acct=ada"
    assert again(server, "second", path="/@ada").images_fetched == 0
    server.site.on("/api/v1/accounts/lookup", lambda handler: as_json(handler, {"error": "Record not found"}, 404))
    with pytest.raises(CrawlFailed, match="404"):
        again(server, "third", path="/@ada")


def entry(**about: Any) -> dict[str, Any]:
    return {"id": "5", "media_attachments": [{"type": "image", "url": "https://a.example/1.jpg"}], **about}


def read(*entries: Any, link: str | None = None) -> Any:
    return mastodon.read_listing(json.dumps(entries).encode(), f"https://a.example{TIMELINE}?limit=40", link=link)


def test_missing_fields_as_in_pleroma_and_pixelfed() -> None:
    (showing,) = read(entry(id="AbCdEf", license={"title": "Attribution", "url": "https://cc.example/by/"})).showings
    assert showing.shown.licence == "https://cc.example/by/"
    assert (showing.shown.uploader, showing.shown.uploaded_at, showing.shown.caption) == (None, None, None)
    assert read(entry(id="AbCdEf")).next == f"https://a.example{TIMELINE}?limit=40&max_id=AbCdEf"
    elsewhere = [{"type": "image", "url": "https://a.example/c.jpg", "remote_url": "https://b.example/o.jpg"}]
    assert read(entry(media_attachments=elsewhere)).showings[0].shown.address == "https://b.example/o.jpg"


def test_entries_of_any_shape() -> None:
    nasty = [
        None,
        1,
        "x",
        [],
        {},
        {"id": {}},
        {"id": "1/../2", "media_attachments": []},
        entry(media_attachments={"a": 1}),
    ]
    listing = read(*nasty, entry(account=[1], url=7, created_at=[], content={"a": 1}, media_attachments=[None, 1, {}]))
    assert (listing.showings, listing.unusable) == ([], 8)
    for body in (b"{}", b'{"error":"This method requires an authenticated user"}', b"[1]", b"no", b'"x"'):
        with pytest.raises(NotAListing):
            mastodon.read_listing(body, "https://a.example/")


def test_link_headers() -> None:
    base = "https://a.example/x"
    assert next_link('<https://a.example/y?max_id=1>; rel="next"', base) == "https://a.example/y?max_id=1"
    assert next_link('</p>; rel="prev", </n>; title="a"; rel="foo next"', base) == "https://a.example/n"
    for header in (None, "", '<javascript:1>; rel="next"', "<" * 10_000, '</n>; rel="nextish"', "</n>" + "; a" * 5000):
        assert next_link(header, base) is None
    # A header that leads to another host is not followed.
    assert "a.example" in read(entry(), link='<https://evil.example/?max_id=1>; rel="next"').next


def test_a_first_crawl_that_was_killed_is_taken_up(server: Mastodon, again: Again, rows: Rows, tmp_path: Path) -> None:
    server.page_size = 2
    server.add(300)
    again(server, "first", max_images=290)
    with StateFile(tmp_path / "state.sqlite") as state:
        # What a killed crawl leaves: images that are in place, and no notes.
        state.commit(notes=dict.fromkeys(("cursor", "sweep", "again", "endpoint")))
    assert again(server, "second").images_fetched == 10
