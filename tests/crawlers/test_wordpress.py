"""Crawls of WordPress's REST interface."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from copywatch.crawl import CrawlStats
from copywatch.errors import CrawlFailed, Reason
from crawlers.listings import NotAListing, wordpress
from tests.crawlers.hostile_site import HostileSite, jpeg, status
from tests.crawlers.interfaces import FIRST, Again, Rows, WordPress, as_json, crawls_of


@pytest.fixture
def blog(site: HostileSite) -> WordPress:
    blog = WordPress(site)
    site.on(WordPress.prefix, blog)
    return blog


@pytest.fixture
def again(run_crawl: Callable[..., CrawlStats], tmp_path: Path) -> Again:
    return crawls_of("wordpress", run_crawl, tmp_path / "state.sqlite")


def test_every_image_is_found_once_with_what_is_said_of_it(blog: WordPress, again: Again, rows: Rows) -> None:
    blog.add(130, by="Ada & <b>Grace</b>")
    stats = again(blog, "first")
    assert (stats.outcome, stats.images_fetched, stats.source) == ("finished", 130, "wordpress")
    found = rows("first")
    assert set(found) == blog.urls(blog.shown)
    row = found[blog.site.url("/uploads/7.jpg")]
    assert row["uploader"] == "Ada & Grace"
    assert row["uploader_url"].startswith(blog.site.url("/author/"))
    assert row["uploaded_at"] == FIRST + timedelta(hours=7)
    assert row["uploaded_at_source"] == "wordpress date_gmt"
    assert row["caption"] == "Picture 7"
    assert row["page_url"] == blog.site.url("/?attachment_id=7")
    assert len(blog.asked) == 132


def test_a_second_crawl_is_cheap_and_brings_what_is_new(blog: WordPress, again: Again, rows: Rows) -> None:
    blog.page_size = 10
    blog.add(400)
    again(blog, "first")
    assert again(blog, "second").images_fetched == 0
    assert len(blog.asked_listings) == 2 + 1 + 40, "by number until two known pages, what changed, the sweep"
    new = blog.add(3)
    assert again(blog, "third").images_fetched == 3
    assert set(rows("third")) == blog.urls(new)


def test_late_back_dated_and_hidden_ones_are_found(blog: WordPress, again: Again, rows: Rows) -> None:
    blog.page_size = 10
    blog.add(300)
    hidden = [blog.posts[number] for number in (5, 150)]
    for post in hidden:
        post.hidden = True
    again(blog, "first")
    for post in hidden:
        post.hidden = False
    back_dated = blog.add(2, at=FIRST - timedelta(days=1000))
    again(blog, "second")
    assert set(rows("second")) == blog.urls(hidden + back_dated)


def test_bounds_are_gone_on_from(blog: WordPress, again: Again, rows: Rows) -> None:
    blog.page_size = 10
    blog.add(95)
    found: list[str] = []
    for number in range(4):
        stats = again(blog, f"run-{number}", max_images=30)
        assert stats.outcome == ("limited" if number < 3 else "finished")
        found += rows(f"run-{number}")
    assert len(found) == 95
    assert set(found) == blog.urls(blog.shown)


def test_a_changed_file_is_new(blog: WordPress, again: Again, rows: Rows) -> None:
    blog.add(20)
    again(blog, "first")
    changed = blog.posts[4]
    changed.body, changed.modified = jpeg(999, 3000), FIRST + timedelta(days=300)
    assert again(blog, "second").images_fetched == 1
    assert set(rows("second")) == blog.urls([changed])


def test_a_version_that_does_not_hear_the_filter(blog: WordPress, again: Again) -> None:
    blog.hears_modified_after = False
    blog.page_size = 10
    blog.add(300)
    again(blog, "first")
    again(blog, "second")
    # Two by number, two by change, and the sweep: what was to be filtered is not all read beside it.
    assert len(blog.asked_listings) == 2 + 2 + 30


def test_the_original_is_fetched_or_what_was_made_of_it(blog: WordPress, again: Again, rows: Rows) -> None:
    served, gone = blog.add(2)
    for post in (served, gone):
        scaled = f"/uploads/{post.number}-scaled.jpg"
        blog.site.on(scaled, jpeg(post.number + 100))
        details = {"original_image": f"{post.number}.jpg"}
        post.extra = {"source_url": blog.site.url(scaled), "media_details": details}
    blog.site.on(gone.path, status(404))
    again(blog, "first")
    found = rows("first")
    assert found[blog.site.url(served.path)]["bytes"] == served.body
    assert found[blog.site.url(gone.path)]["reason"] == Reason.HTTP_STATUS.value
    assert found[blog.site.url("/uploads/2-scaled.jpg")]["bytes"] == jpeg(102)
    assert len(found) == 3
    assert again(blog, "second").images_fetched == 0


def test_without_pretty_addresses(site: HostileSite, again: Again) -> None:
    blog = WordPress(site)
    blog.add(3)
    site.on("/", blog)
    assert again(blog, "first").images_fetched == 3
    assert "/wp-json/wp/v2/media" in blog.asked_listings[0]
    again(blog, "second")
    assert not any("wp-json" in path for path in blog.asked_listings), "where the interface is, is known by now"


def test_a_failing_page_of_the_listing_is_a_row_and_is_read_again(blog: WordPress, again: Again, rows: Rows) -> None:
    blog.page_size = 10
    blog.add(50)
    answers = blog.__call__

    def broken(handler: Any) -> None:
        answers(handler) if "&page=3" not in handler.path else handler.answer(500, b"oops")

    blog.site.on(WordPress.prefix, broken)
    stats = again(blog, "first")
    assert (stats.images_fetched, stats.pages_failed) == (40, 1)
    blog.site.on(WordPress.prefix, blog)
    assert again(blog, "second").images_fetched == 10
    assert len(rows("second")) == 10


def test_images_that_failed_are_asked_for_again(blog: WordPress, again: Again) -> None:
    blog.add(5)
    blog.site.on("/uploads/2.jpg", status(500))
    assert again(blog, "first").images_fetched == 4
    blog.site.on("/uploads/2.jpg", jpeg(2))
    assert again(blog, "second").images_fetched == 1


def test_hidden_authors_are_nobody(blog: WordPress, again: Again, rows: Rows) -> None:
    blog.add(1)[0].extra = {"_embedded": {"author": [{"code": "rest_user_invalid_id", "message": "Invalid user ID."}]}}
    again(blog, "first")
    (row,) = rows("first").values()
    assert (row["uploader"], row["uploader_url"]) == (None, None)


HOSTILE: list[Any] = [
    None,
    7,
    "text",
    [],
    {},
    {"source_url": 5},
    {"source_url": "javascript:alert(1)"},
    {"source_url": "file:///etc/passwd"},
    {"source_url": "http://" + "a" * 5000},
    {"source_url": ["http://a.example/"]},
]


def test_entries_of_any_shape_are_skipped(blog: WordPress, again: Again, rows: Rows) -> None:
    blog.add(2)
    nasty = {
        "source_url": blog.site.url("/uploads/1.jpg"),
        "media_details": [{"original_image": 3}],
        "caption": {"rendered": {"a": 1}},
        "date_gmt": {"date": "2024"},
        "modified_gmt": 12,
        "_embedded": {"author": {"name": "x"}},
        "link": "javascript:alert(1)",
        "post": "evil",
    }
    good = blog.entry(blog.posts[2])
    blog.site.on(WordPress.prefix, lambda handler: as_json(handler, [*HOSTILE, nasty, good]))
    stats = again(blog, "first")
    assert (stats.outcome, stats.images_fetched) == ("finished", 2)
    row = rows("first")[blog.site.url("/uploads/1.jpg")]
    assert (row["uploader"], row["uploaded_at"], row["caption"]) == (None, None, None)


@pytest.mark.parametrize(
    "body", [b"", b"<html>no</html>", b"[" * 100_000, b'{"code":"rest_disabled","message":"No"}', b"[1,2]", b"\xff\xfe"]
)
def test_what_is_no_listing_fails_the_crawl_with_its_reason(blog: WordPress, again: Again, body: bytes) -> None:
    blog.site.on(WordPress.prefix, lambda handler: handler.answer(200, body, "application/json"))
    blog.site.on("/", lambda handler: handler.answer(200, body, "application/json"))
    with pytest.raises(CrawlFailed):
        again(blog, "first")


def test_private_addresses_in_a_listing_are_refused(blog: WordPress, again: Again, rows: Rows) -> None:
    blog.add(1)[0].extra = {"source_url": "http://169.254.169.254/latest/meta-data/a.jpg"}
    again(blog, "first")
    (row,) = rows("first").values()
    assert row["reason"] == Reason.FORBIDDEN_ADDRESS.value


def test_a_listing_without_end_ends_at_the_budget(blog: WordPress, again: Again) -> None:
    blog.add(1)
    entry = [blog.entry(blog.posts[1])] * 100
    blog.site.on(WordPress.prefix, lambda handler: as_json(handler, entry))
    again(blog, "first")
    assert len(blog.asked_listings) <= 130
    again(blog, "second")
    assert len(blog.asked_listings) <= 130


def test_original_names_cannot_leave_their_folder() -> None:
    base = "https://a.example/up/photo-scaled.jpg"
    assert wordpress.scaled_address(base, "ph oto?.jpg") == "https://a.example/up/ph%20oto%3F.jpg"
    for name in ("../x.jpg", "/x.jpg", "..", "http://b.example/", "", None, "a\\b"):
        assert wordpress.scaled_address(base, name) is None


def test_endpoints() -> None:
    root = "https://a.example/wp-json/wp/v2/media"
    assert wordpress.endpoints("https://a.example")[0] == root
    assert wordpress.endpoints("https://a.example/wp-json/")[0] == root
    assert wordpress.endpoints(f"{root}?per_page=3") == [root]
    assert wordpress.endpoints("https://a.example/blog/")[0] == "https://a.example/blog/wp-json/wp/v2/media"
    assert wordpress.endpoints("https://a.example/?rest_route=/") == [
        "https://a.example/?rest_route=%2Fwp%2Fv2%2Fmedia"
    ]
    with pytest.raises(NotAListing):
        wordpress.read_listing(b"{}", root)


def test_a_site_that_moved_to_another_host_name(blog: WordPress, again: Again) -> None:
    blog.page_size = 10
    blog.add(25)

    def moved(handler: Any) -> None:
        if handler.headers["Host"].startswith("127."):
            handler.answer(301, b"", Location=blog.site.url(handler.path, host="localhost"))
        else:
            blog(handler)

    blog.site.on(WordPress.prefix, moved)
    assert again(blog, "first").images_fetched == 25
