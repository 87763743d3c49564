"""Crawls of MediaWiki's list of images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from copywatch.crawl import CrawlStats
from crawlers.listings import NotAListing, mediawiki
from tests.crawlers.hostile_site import HostileSite, jpeg
from tests.crawlers.interfaces import FIRST, Again, MediaWiki, Rows, as_json, crawls_of

API = "https://a.example/w/api.php"


@pytest.fixture
def wiki(site: HostileSite) -> MediaWiki:
    wiki = MediaWiki(site)
    site.on("/w/api.php", wiki)
    return wiki


@pytest.fixture
def again(run_crawl: Callable[..., CrawlStats], tmp_path: Path) -> Again:
    return crawls_of("mediawiki", run_crawl, tmp_path / "state.sqlite")


def test_every_image_once_and_then_only_what_is_new(wiki: MediaWiki, again: Again, rows: Rows) -> None:
    wiki.page_size = 10
    wiki.add(55, by="Ada Lovelace")
    hidden = wiki.posts[9]
    hidden.hidden = True
    stats = again(wiki, "first")
    assert (stats.outcome, stats.images_fetched) == ("finished", 54)
    found = rows("first")
    assert set(found) == wiki.urls(wiki.shown)
    row = found[wiki.site.url("/uploads/7.jpg")]
    assert row["uploader"] == "Ada Lovelace"
    assert row["uploader_url"] == wiki.site.url("/wiki/User:Ada_Lovelace")
    assert (row["uploaded_at"], row["uploaded_at_source"]) == (FIRST + timedelta(hours=7), "mediawiki timestamp")
    assert (row["caption"], row["licence"]) == ("Picture 7", "CC BY-SA 4.0")
    assert row["page_url"] == wiki.site.url("/wiki/File:7.jpg")
    assert row["source_hash"] == "sha1:" + hashlib.sha1(jpeg(7)).hexdigest()

    # Restored with its old time, imported with one, uploaded now, uploaded anew, and the bytes of another file.
    hidden.hidden = False
    imported = wiki.add(1, at=FIRST - timedelta(days=100))
    new = wiki.add(2, at=datetime.now(UTC))
    changed = wiki.posts[20]
    changed.body, changed.at = jpeg(999), datetime.now(UTC)
    repeated = wiki.add(1)[0]
    repeated.body = wiki.posts[3].body
    stats = again(wiki, "second")
    assert (stats.images_fetched, stats.images_repeated) == (5, 1)
    found = rows("second")
    assert set(found) == wiki.urls([hidden, *imported, *new, changed, repeated])
    assert found[wiki.site.url(repeated.path)]["bytes"] is None
    assert found[wiki.site.url(repeated.path)]["sha256"] == hashlib.sha256(wiki.posts[3].body).hexdigest()
    assert repeated.path not in wiki.asked_images
    assert len(wiki.asked_listings) == 1 + 6, "where api.php is, is known by now: what is new, and the sweep"

    stats = again(wiki, "third")
    assert (stats.images_fetched, stats.images_failed) == (0, 0)


def test_bounds_are_gone_on_from(wiki: MediaWiki, again: Again, rows: Rows) -> None:
    wiki.page_size = 10
    wiki.add(45)
    found: list[str] = []
    for number in range(3):
        again(wiki, f"run-{number}", max_pages=2)
        found += rows(f"run-{number}")
    assert len(found) == 45
    assert set(found) == wiki.urls(wiki.shown)


def test_a_listing_that_goes_round_ends(wiki: MediaWiki, again: Again) -> None:
    wiki.add(1)
    answer = {"query": {"allimages": [wiki.entry(wiki.posts[1])]}, "continue": {"aicontinue": "x", "continue": "-||"}}
    wiki.site.on("/w/api.php", lambda handler: as_json(handler, answer))
    assert again(wiki, "first").outcome == "finished"
    assert len(wiki.asked_listings) == 2

    numbers = iter(range(10**6))
    answer["query"]["allimages"] = []  # type: ignore[index]

    def endless(handler: Any) -> None:
        as_json(handler, {**answer, "continue": {"aicontinue": str(next(numbers))}})

    wiki.site.on("/w/api.php", endless)
    again(wiki, "second")
    assert len(wiki.asked_listings) <= 130


@pytest.mark.parametrize(
    "answer",
    [
        None,
        1,
        "x",
        [],
        {},
        {"query": []},
        {"query": {"allimages": {}}},
        {"error": {"info": 3}},
        {"query": {"allimages": [1]}},
    ],
)
def test_answers_of_any_shape(answer: Any) -> None:
    with pytest.raises(NotAListing):
        mediawiki.read_listing(json.dumps(answer).encode(), API)


def test_entries_of_any_shape() -> None:
    nasty: list[Any] = [
        {"url": url, "mime": 3, "user": [1], "sha1": "x", "timestamp": 5} for url in (None, 1, "x:y", "")
    ]
    nasty += [{"url": "/a.jpg", "sha1": 7, "extmetadata": [], "descriptionurl": "javascript:1", "user": "a/b?c"}]
    nasty += [{"url": "/film.webm", "mime": "video/webm"}]
    body = json.dumps(
        {"query": {"allimages": nasty}, "continue": {"action": "delete", "aicontinue": {"a": 1}}}
    ).encode()
    listing = mediawiki.read_listing(body, API)
    assert (len(listing.showings), listing.unusable, listing.next) == (1, 4, None)
    shown = listing.showings[0].shown
    assert (shown.address, shown.source_hash, shown.uploader_url) == ("https://a.example/a.jpg", None, None)


def test_only_the_continuation_is_taken_from_an_answer() -> None:
    more = {"aicontinue": "2024|x&y.jpg", "continue": "-||", "action": "delete", "titles": "x", "format": "xml"}
    body = json.dumps({"query": {"allimages": []}, "continue": more}).encode()
    following = mediawiki.read_listing(body, mediawiki.listing_address(API)).next
    assert following
    asked = parse_qs(urlsplit(following).query)
    assert (asked["aicontinue"], asked["action"], asked["format"]) == (["2024|x&y.jpg"], ["query"], ["json"])
    assert "titles" not in asked


def test_endpoints() -> None:
    assert mediawiki.endpoints(f"{API}?action=help") == [API]
    assert mediawiki.endpoints("https://a.example/wiki/Main_Page")[:2] == [API, "https://a.example/api.php"]
    assert "https://a.example/mw/api.php" in mediawiki.endpoints("https://a.example/mw/index.php/Main")
