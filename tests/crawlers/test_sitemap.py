"""Crawls of sitemaps, with and without images in them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from copywatch.crawl import CrawlStats
from copywatch.errors import Reason
from crawlers.failures import BodyTooLarge
from crawlers.listings import NotAListing, sitemap
from tests.crawlers.hostile_site import Handler, HostileSite, jpeg
from tests.crawlers.interfaces import Again, ListedSite, Rows, crawls_of

SPACES = (
    'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://www.google.com/schemas/sitemap-image/1.1"'
)
OLD = datetime.now(UTC) - timedelta(days=100)


@dataclass
class Maps(ListedSite):
    """An index of sitemaps, one of them packed; the posts whose number is even are on pages without image entries."""

    lastmod: dict[int, datetime] = field(default_factory=dict)
    size: int = 10

    def publish(self) -> None:
        """Answer as the posts are now."""
        posts = self.shown
        maps = []
        for number, first in enumerate(range(0, len(posts), self.size)):
            part = posts[first : first + self.size]
            changed = max(self.lastmod.get(post.number, OLD) for post in part)
            name = f"/map-{number}.xml" + (".gz" if number == 1 else "")
            body = f"<urlset {SPACES}>" + "".join(map(self.url, (post.number for post in part))) + "</urlset>"
            self.site.on(name, _file(gzip.compress(body.encode(), mtime=0) if number == 1 else body.encode()))
            maps.append(f"<sitemap><loc>{self.site.url(name)}</loc><lastmod>{changed.isoformat()}</lastmod></sitemap>")
        self.site.on("/index.xml", _file(f"<sitemapindex {SPACES}>{''.join(maps)}</sitemapindex>".encode()))
        self.site.on("/robots.txt", _file(f"User-agent: *\nSitemap: {self.site.url('/index.xml')}\n".encode()))

    def url(self, number: int) -> str:
        page, image = f"/p/{number}", self.site.url(self.posts[number].path)
        lastmod = f"<lastmod>{self.lastmod.get(number, OLD).isoformat()}</lastmod>"
        said = f"<image:caption>Picture {number}</image:caption><image:license>https://cc.example/by</image:license>"
        images = f"<image:image><image:loc>{image}</image:loc>{said}</image:image>"
        if number % 2 == 0:
            self.site.on(page, f'<html><body><img src="{image}"></body></html>')
            images = ""
        return f"<url><loc>{self.site.url(page)}</loc>{lastmod}{images}</url>"


def _file(body: bytes) -> Callable[[Handler], None]:
    etag = f'"{hash(body)}"'

    def answer(handler: Handler) -> None:
        same = handler.headers.get("If-None-Match") == etag
        handler.answer(304 if same else 200, b"" if same else body, "application/xml", ETag=etag)

    return answer


@pytest.fixture
def maps(site: HostileSite) -> Maps:
    return Maps(site)


@pytest.fixture
def again(run_crawl: Callable[..., CrawlStats], tmp_path: Path) -> Again:
    return crawls_of("sitemap", run_crawl, tmp_path / "state.sqlite")


@pytest.mark.parametrize("start", ["/index.xml", "/robots.txt"])
def test_images_and_pages_once_and_then_what_changed(maps: Maps, again: Again, rows: Rows, start: str) -> None:
    maps.add(40)
    maps.publish()
    stats = again(maps, "first", path=start)
    assert (stats.outcome, stats.images_fetched) == ("finished", 40)
    found = rows("first")
    assert set(found) == maps.urls(maps.shown)
    row = found[maps.site.url("/uploads/7.jpg")]
    assert (row["caption"], row["licence"]) == ("Picture 7", "https://cc.example/by")
    assert row["page_url"] == maps.site.url("/p/7")
    assert found[maps.site.url("/uploads/8.jpg")]["page_url"] == maps.site.url("/p/8")

    assert again(maps, "second", path=start).images_fetched == 0
    assert not [path for path in maps.asked if "map-" in path], "the index says that all is as it was"

    maps.lastmod[21] = maps.lastmod[22] = datetime.now(UTC)
    maps.posts[21].body = jpeg(777, 3000)
    maps.site.on("/p/22", f'<html><img src="{maps.site.url("/uploads/22.jpg")}"><img src="/uploads/new.jpg"></html>')
    maps.site.on("/uploads/new.jpg", jpeg(778))
    new = maps.add(2)
    page_22 = maps.site.server.routes["/p/22"]
    maps.publish()
    maps.site.on("/p/22", page_22)  # type: ignore[arg-type]
    again(maps, "third", path=start)
    assert set(rows("third")) == maps.urls([maps.posts[21], *new]) | {maps.site.url("/uploads/new.jpg")}
    assert [path for path in maps.asked if "map-" in path and path != "/map-2.xml" and path != "/map-4.xml"] == []


def test_damaged_and_hostile_sitemaps_are_rows(site: HostileSite, again: Again, rows: Rows) -> None:
    listed = ListedSite(site)
    listed.add(1)
    bomb = gzip.compress(b"<urlset>" + bytes(60 * 2**20) + b"</urlset>")
    site.on("/bomb.xml.gz", lambda handler: handler.answer(200, bomb, "application/gzip"))
    site.on("/html.xml", "<html><body>no</body></html>")
    cut = f"<urlset {SPACES}><url><loc>/p</loc><image:image><image:loc>/uploads/1.jpg</image:loc></image:image></url><u"
    site.on("/cut.xml", cut)
    addresses = ["/bomb.xml.gz", "/html.xml", "/cut.xml", "/index.xml", "/gone.xml"]
    inner = "".join(f"<sitemap><loc>{site.url(one)}</loc></sitemap>" for one in addresses)
    inner += "<sitemap><loc>http://169.254.169.254/x.xml</loc></sitemap><sitemap/><sitemap><loc>x:y</loc></sitemap>"
    site.on("/index.xml", f"<sitemapindex {SPACES}>{inner}</sitemapindex>")
    stats = again(listed, "first", path="/index.xml")
    assert (stats.images_fetched, stats.outcome) == (1, "finished")
    reasons = {one: row["reason"] for one, row in rows("first").items() if row["reason"]}
    assert reasons == {
        site.url("/bomb.xml.gz"): Reason.TOO_LARGE.value,
        site.url("/html.xml"): Reason.CORRUPT.value,
        site.url("/cut.xml"): Reason.CORRUPT.value,
        site.url("/gone.xml"): Reason.HTTP_STATUS.value,
    }


def test_indexes_of_indexes_end(site: HostileSite, again: Again) -> None:
    listed = ListedSite(site)

    def deeper(handler: Handler) -> None:
        number = int(handler.path.partition("?")[2] or 0)
        following = site.url(f"/index.xml?{number + 1}")
        body = f"<sitemapindex {SPACES}><sitemap><loc>{following}</loc></sitemap></sitemapindex>"
        handler.answer(200, body.encode(), "application/xml")

    site.on("/index.xml", deeper)
    assert again(listed, "first", path="/index.xml").outcome == "limited"
    assert len(listed.asked) == 4


def test_dates_that_are_always_new_cost_no_more_than_the_budget(maps: Maps, again: Again) -> None:
    maps.size = 1000
    maps.add(400)
    for post in maps.posts.values():
        post.number % 2 or maps.lastmod.update({post.number: OLD})
    maps.publish()
    again(maps, "first", path="/index.xml")
    maps.lastmod = dict.fromkeys(maps.posts, datetime.now(UTC))
    maps.publish()
    assert again(maps, "second", path="/index.xml").images_fetched == 0
    assert len(maps.asked) <= 160


def test_entries() -> None:
    base = "https://a.example/sitemap.xml"
    listing = sitemap.read_listing(b"\xef\xbb\xbfhttps://a.example/1\nhttps://a.example/2\nftp://x/\n", base)
    assert [page.address for page in listing.pages] == ["https://a.example/1", "https://a.example/2"]
    body = f"<urlset {SPACES}><url><loc> /p </loc><lastmod>soon</lastmod><image:image/></url><url/></urlset>".encode()
    listing = sitemap.read_listing(body, base)
    assert [(page.address, page.changed_at, page.has_images) for page in listing.pages] == [
        ("https://a.example/p", None, False)
    ]
    assert listing.unusable == 1
    for wrong in (b"", b"no", b"<rss/>", b"\x1f\x8bxx", b"<urlset", b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>'):
        with pytest.raises(NotAListing):
            sitemap.read_listing(wrong, base)
    with pytest.raises(BodyTooLarge):
        sitemap.read_listing(gzip.compress(bytes(51 * 2**20)), base)
