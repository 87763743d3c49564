"""Crawls of feeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from html import escape
from pathlib import Path
from typing import Any

import pytest

from copywatch.crawl import CrawlStats
from copywatch.errors import Reason
from copywatch.sites import Selectors
from crawlers.listings import Listing, NotAListing, feed
from tests.crawlers.hostile_site import Handler, HostileSite, status
from tests.crawlers.interfaces import Again, ListedSite, Post, Rows, arguments, crawls_of

BASE = "https://a.example/feed"
SPACES = (
    'xmlns:media="http://search.yahoo.com/mrss/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:content="http://purl.org/rss/1.0/modules/content/" xmlns:atom="http://www.w3.org/2005/Atom"'
)


@dataclass
class Feed(ListedSite):
    """A Media RSS feed with validators, and with pages if `page_size` is set."""

    def item(self, post: Post) -> str:
        return (
            f"<item><title>t</title><link>/p/{post.number}</link><pubDate>{format_datetime(post.at)}</pubDate>"
            f'<media:content url="{post.path}" medium="image"><media:credit>{escape(post.by)}</media:credit>'
            f"<media:description>{post.caption}</media:description><media:license>{post.licence}</media:license>"
            "</media:content></item>"
        )

    def __call__(self, handler: Handler) -> None:
        page = int(arguments(handler).get("page", "1"))
        posts = list(reversed(self.shown))
        size = self.page_size or len(posts)
        shown = posts[(page - 1) * size : page * size]
        more = f'<atom:link rel="next" href="?page={page + 1}"/>' if posts[page * size :] else ""
        body = f"<rss version='2.0' {SPACES}><channel>{more}{''.join(map(self.item, shown))}</channel></rss>"
        etag = f'"{hash(body)}"'
        if handler.headers.get("If-None-Match") == etag:
            handler.answer(304, b"", ETag=etag)
        else:
            handler.answer(200, body.encode(), "application/rss+xml", ETag=etag)


@pytest.fixture
def source(site: HostileSite) -> Feed:
    source = Feed(site)
    site.on("/feed", source)
    return source


@pytest.fixture
def again(run_crawl: Callable[..., CrawlStats], tmp_path: Path) -> Again:
    return crawls_of("feed", run_crawl, tmp_path / "state.sqlite")


def test_every_image_once_and_then_only_what_is_new(source: Feed, again: Again, rows: Rows) -> None:
    source.add(30, by="Ada & co")
    hidden = source.posts[9]
    hidden.hidden = True
    assert again(source, "first", path="/feed").images_fetched == 29
    found = rows("first")
    assert set(found) == source.urls(source.shown)
    row = found[source.site.url("/uploads/7.jpg")]
    assert (row["uploader"], row["caption"], row["licence"]) == ("Ada & co", "Picture 7", "CC BY-SA 4.0")
    assert (row["uploaded_at"], row["uploaded_at_source"]) == (source.posts[7].at, "feed pubDate")
    assert row["page_url"] == source.site.url("/p/7")

    stats = again(source, "second", path="/feed")
    assert (stats.images_fetched, stats.not_modified >= 1) == (0, True)
    assert source.asked_listings == ["/feed"]

    hidden.hidden = False
    late = source.add(1, at=datetime(2001, 1, 1, tzinfo=UTC))
    assert again(source, "third", path="/feed").images_fetched == 2
    assert set(rows("third")) == source.urls([hidden, *late])


def test_a_feed_in_pages(source: Feed, again: Again, rows: Rows) -> None:
    source.page_size = 10
    source.add(45)
    hidden = source.posts[3]
    hidden.hidden = True
    assert again(source, "first", path="/feed").images_fetched == 44
    hidden.hidden = False
    new = source.add(2)
    again(source, "second", path="/feed")
    assert set(rows("second")) == source.urls([hidden, *new])
    assert len(source.asked_listings) == 5


def test_images_that_failed_are_asked_for_though_the_feed_is_as_it_was(source: Feed, again: Again) -> None:
    source.add(3)
    answer = source.site.server.routes["/uploads/2.jpg"]
    source.site.on("/uploads/2.jpg", status(500))
    assert again(source, "first", path="/feed").images_fetched == 2
    source.site.on("/uploads/2.jpg", answer)
    assert again(source, "second", path="/feed").images_fetched == 1


def test_a_feed_that_breaks_off_gives_what_came_and_a_row(source: Feed, again: Again, rows: Rows) -> None:
    source.add(2)
    items = "".join(map(source.item, source.shown))
    source.site.on("/feed", lambda handler: handler.answer(200, f"<rss {SPACES}><channel>{items}<item><ti".encode()))
    stats = again(source, "first", path="/feed")
    assert (stats.images_fetched, stats.pages_failed) == (2, 1)
    assert rows("first")[source.site.url("/feed")]["reason"] == Reason.CORRUPT.value


def read(body: str) -> Listing:
    return feed.read_listing(body.encode(), BASE, Selectors())


def rss(items: str, channel: str = "") -> Listing:
    return read(f"<rss version='2.0' {SPACES}><channel>{channel}{items}</channel></rss>")


def addresses(listing: Listing) -> list[str]:
    return [showing.shown.address.removeprefix("https://a.example") for showing in listing.showings]


def test_the_largest_of_a_group() -> None:
    sizes = "".join(f'<media:content url="/{w}.jpg" width="{w}" height="9"/>' for w in (100, 900, 300))
    group = f"<media:group><media:credit role='photographer'>Ada</media:credit>{sizes}</media:group>"
    listing = rss(
        f'<item>{group}<media:content url="/b.png"/><media:thumbnail url="/t.jpg"/><dc:creator>Bo</dc:creator></item>'
    )
    assert {one.shown.address[17:]: one.shown.uploader for one in listing.showings} == {
        "/900.jpg": "Ada",
        "/b.png": "Bo",
    }


def test_what_is_no_image_is_none() -> None:
    kinds = '<media:content url="/a.jpg" medium="video"/><media:content url="/b.mp4"/>'
    kinds += '<enclosure url="/c.mp3" type="audio/mpeg"/>'
    assert rss(f"<item>{kinds}</item>").showings == []
    thumbnails = (
        '<media:thumbnail url="/s.jpg" width="9" height="9"/><media:thumbnail url="/l.jpg" width="99" height="99"/>'
    )
    assert addresses(rss(f"<item>{kinds}{thumbnails}</item>")) == ["/l.jpg"]


def test_images_in_texts_and_enclosures() -> None:
    text = escape('<p><img src="/in.jpg" srcset="/big.jpg 2000w, /in.jpg 300w"></p>')
    listing = rss(
        f'<item><link>/p</link><content:encoded>{text}</content:encoded><enclosure url="e.jpg" type="image/jpeg"/>'
        f"<author>ada@a.example (Ada L)</author></item>",
        "<copyright>All of it is mine</copyright>",
    )
    assert sorted(addresses(listing)) == ["/big.jpg", "/e.jpg"]
    assert {(one.shown.uploader, one.shown.licence) for one in listing.showings} == {("Ada L", "All of it is mine")}


def test_atom() -> None:
    listing = read(
        '<feed xmlns="http://www.w3.org/2005/Atom" xml:base="https://b.example/x/"><author><name>Ada</name><uri>/ada</uri>'
        '</author><link rel="prev-archive" href="/2023"/><rights>CC0</rights><entry><link href="p1"/>'
        '<link rel="enclosure" type="image/png" href="1.png"/><published>2024-02-03T04:05:06Z</published>'
        '<updated>2024-03-03T00:00:00Z</updated><content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml">'
        '<img src="2.jpg"/></div></content></entry></feed>'
    )
    assert [one.shown.address for one in listing.showings] == ["https://b.example/x/1.png", "https://b.example/x/2.jpg"]
    showing = listing.showings[0]
    assert (showing.page_url, showing.shown.uploader_url) == ("https://b.example/x/p1", "https://b.example/ada")
    assert (showing.shown.licence, showing.shown.version) == ("CC0", "2024-03-03T00:00:00Z")
    assert showing.shown.uploaded_at == datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert listing.next == "https://b.example/2023"


def test_rss_1_has_its_items_beside_the_channel() -> None:
    listing = read(
        f'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/" {SPACES}>'
        '<channel/><item><link>/p</link><dc:date>2024-01-01</dc:date><media:content url="/1.jpg"/></item></rdf:RDF>'
    )
    assert addresses(listing) == ["/1.jpg"]
    assert listing.showings[0].shown.uploaded_at_source == "feed date"


BOMB = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no",
        "{}",
        "<html><body>x</body></html>",
        "<" * 10_000,
        '<!DOCTYPE x [<!ENTITY a0 "lol">' + BOMB + "]><x>&a11;</x>",
        '<?xml version="1.0" encoding="utf-99"?><x/>',
    ],
)
def test_what_is_no_feed(body: str) -> None:
    with pytest.raises(NotAListing):
        read(body)


def test_entities_are_not_read() -> None:
    item = "<item><title>&f;{}</title><media:content url='/1.jpg'/></item>"
    start = '<!DOCTYPE rss [<!ENTITY a0 "lol">{}<!ENTITY f SYSTEM "file:///etc/passwd">]>'
    feed_of = start + "<rss {}><channel>{}</channel></rss>"
    listing = read(feed_of.format("", SPACES, item.format("")))
    assert addresses(listing) == ["/1.jpg"]
    assert listing.showings[0].shown.caption is None
    bomb = read(feed_of.format(BOMB, SPACES, item.format("&a11;")))
    assert bomb.cut_short


@pytest.mark.parametrize(
    "item",
    [
        "<media:content/>",
        "<media:content url='javascript:alert(1).jpg' medium='image'/>",
        "<media:content url='http://[::/a.jpg'/>",
        f"<media:content url='http://{'a' * 5000}/a.jpg'/>",
        "<media:group><media:content width='-1' height='x'/></media:group>",
        "<link rel='alternate'/><enclosure type='image/png'/>",
        "<x>" * 200,
        "<pubDate>99999-99-99</pubDate><media:content url='x:' medium='image'/>",
    ],
)
def test_hostile_items_give_nothing(item: str) -> None:
    listing: Any = rss(f"<item xml:base='http://[x'>{item}</item><item><media:content url='/good.jpg'/></item>")
    assert addresses(listing) in (["/good.jpg"], [])
