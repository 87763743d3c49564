"""Crawls of sites that behave."""

from __future__ import annotations

import gzip
import hashlib
from datetime import UTC, date, datetime

import pytest

from copywatch.crawl_state import StateFile
from copywatch.errors import Reason
from copywatch.settings import Settings
from tests.crawlers.hostile_site import HostileSite, jpeg, redirect, status

START = """<html><body>
<span class="user">page owner</span><time datetime="2024-05-06">May</time>
<figure><a href="/full/1.jpg"><img src="/thumb/1.jpg"></a>
  <figcaption class="author">Ann\u202e\x07  B.</figcaption><time datetime="2025-01-02T03:04:05+02:00">x</time></figure>
<figure><img src="/small.jpg" srcset="/small.jpg 320w, /large.jpg 1280w, /middle.jpg 640w"></figure>
<img src="/2.jpg?b=1&a=2#top"><img src="/2.jpg?a=2&amp;b=1">
<picture><source srcset="/wide.avif 2000w"><img src="/narrow.jpg"></picture>
<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" data-src="/lazy.jpg">
<img src="data:image/png;base64,{inline}">
<a href="/page/2">next</a> <a href="http://elsewhere.invalid/">away</a> <a href="/file.zip">zip</a>
<a href="mailto:a@b">mail</a> <a href="/moved">moved</a> <a href="/hidden-image">image</a> <a href="http://[">bad</a>
</body></html>""".replace("{inline}", "A" * 5000)

PAGE_2 = '<html><base href="/deep/er/"><img src="3.jpg"><img src="/2.jpg?a=2&b=1"><a href="/">back</a></html>'


def fill(site: HostileSite) -> None:
    site.on("/", START)
    site.on("/page/2", PAGE_2)
    site.on("/moved", redirect("/page/2"))
    site.on("/hidden-image", jpeg(9))
    for number, path in enumerate(
        ["/full/1.jpg", "/thumb/1.jpg", "/large.jpg", "/2.jpg", "/wide.avif", "/lazy.jpg", "/deep/er/3.jpg"]
    ):
        site.on(path, jpeg(number))


def test_gallery_then_only_what_is_new(site: HostileSite, run_crawl, rows, tmp_path) -> None:
    fill(site)
    memory = tmp_path / "site.sqlite"
    first = run_crawl(site.url(), state=memory)
    landed = rows()
    fetched = {url.removeprefix(site.url("")): row for url, row in landed.items() if row["bytes"]}
    assert set(fetched) == {
        "/full/1.jpg", "/large.jpg", "/2.jpg?b=1&a=2", "/wide.avif", "/lazy.jpg", "/deep/er/3.jpg",
        "/hidden-image",
    }  # fmt: skip
    assert site.times("/small.jpg") == site.times("/thumb/1.jpg") == site.times("/file.zip") == 0
    assert sum(site.times(path) for path in ("/2.jpg?b=1&a=2", "/2.jpg?a=2&b=1")) == 1
    assert (first.outcome, first.error, first.pages, first.pages_failed) == ("finished", None, 2, 0)
    assert (first.images_found, first.images_known, first.images_fetched, first.images_failed) == (8, 0, 7, 1)
    assert first.bytes_fetched == sum(len(row["bytes"]) for row in fetched.values())

    row = fetched["/full/1.jpg"]
    assert (row["uploader"], row["uploaded_at"]) == ("Ann B.", datetime(2025, 1, 2, 1, 4, 5, tzinfo=UTC))
    assert (row["run"], row["site"], row["page_url"]) == ("run-1", "site", site.url())
    assert (row["content_type"], row["http_status"], row["reason"]) == ("image/jpeg", 200, None)
    assert row["sha256"] == hashlib.sha256(row["bytes"]).hexdigest()
    assert row["size"] == len(row["bytes"])
    # What the first figure says is said of its own image; the page speaks for the others.
    assert (fetched["/lazy.jpg"]["uploader"], fetched["/large.jpg"]["uploader"]) == ("page owner", "page owner")
    assert fetched["/large.jpg"]["uploaded_at"] == datetime(2024, 5, 6, tzinfo=UTC)
    assert fetched["/deep/er/3.jpg"]["uploader"] is None
    (inline,) = [row for url, row in landed.items() if url.startswith("data:image/png;sha256=")]
    assert inline["reason"] == Reason.FORBIDDEN_ADDRESS

    images = [path for path, _, _ in site.server.asked if "jpg" in path or "avif" in path]
    with StateFile(memory) as state:
        assert state.counts()[0] == 8
    site.on("/page/2", PAGE_2 + '<img src="/new.jpg">')
    site.on("/new.jpg", jpeg(77))
    second = run_crawl(site.url(), run="run-2", state=memory)
    assert (second.images_found, second.images_known, second.images_fetched, second.images_failed) == (9, 8, 1, 0)
    assert list(rows("run-2")) == [site.url("/new.jpg")]
    later = [path for path, _, _ in site.server.asked if "jpg" in path or "avif" in path]
    assert later == [*images, "/new.jpg"]
    agents = {headers["User-Agent"] for _, _, headers in site.server.asked}
    assert len(agents) == 1
    assert "Copywatch" in agents.pop()
    assert not any("Cookie" in headers for _, _, headers in site.server.asked)


def test_hot_linked_images_and_image_hosts(site: HostileSite, run_crawl, rows) -> None:
    with HostileSite() as other:
        for server in (site, other):
            server.on("/a.jpg", jpeg(server.port))
        addresses = [site.url("/a.jpg"), site.url("/a.jpg", "localhost"), other.url("/a.jpg")]
        site.on("/", "<html>" + "".join(f'<img src="{address}">' for address in addresses))
        run_crawl([site.url()], kind="page")
        assert {url: row["reason"] for url, row in rows().items()} == {
            addresses[0]: None,
            addresses[1]: None,
            addresses[2]: Reason.FORBIDDEN_ADDRESS,  # its port is neither usual nor the site's
        }
        stats = run_crawl([site.url()], run="run-2", kind="page", image_hosts=[f"127.0.0.1:{other.port}"])
        assert list(rows("run-2")) == [addresses[2]]
        assert (stats.images_found, stats.images_fetched) == (1, 1)


def test_sitemap_index_and_compressed_sitemap(site: HostileSite, run_crawl, rows) -> None:
    def listed(kind: str, *paths: str) -> str:
        entry = "sitemap" if kind == "sitemapindex" else "url"
        places = "".join(f"<{entry}><loc>{site.url(path)}</loc></{entry}>" for path in paths)
        return f'<?xml version="1.0"?><{kind} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{places}</{kind}>'

    site.on("/index.xml", lambda h: h.answer(200, listed("sitemapindex", "/1.xml", "/2.xml.gz").encode(), "text/xml"))
    site.on("/1.xml", lambda h: h.answer(200, listed("urlset", "/p1", "/gone").encode(), "application/xml"))
    packed = gzip.compress(listed("urlset", "/p2").encode())
    site.on("/2.xml.gz", lambda h: h.answer(200, packed, "application/gzip"))
    site.on("/p1", '<html><img src="/1.jpg"><a href="/p3">not listed</a>')
    site.on("/p2", '<html><img src="/2.jpg">')
    site.on("/1.jpg", jpeg(1))
    site.on("/2.jpg", jpeg(2))
    stats = run_crawl(site.url("/index.xml"), kind="sitemap")
    assert {url.removeprefix(site.url("")) for url, row in rows().items() if row["bytes"]} == {"/1.jpg", "/2.jpg"}
    assert (stats.pages, stats.pages_failed, stats.outcome) == (3 + 2, 1, "finished")
    assert rows()[site.url("/gone")]["http_status"] == 404
    assert site.times("/p3") == 0


@pytest.mark.parametrize(("field", "value"), [("max_pages", 3), ("max_images", 2), ("max_depth", 1)])
def test_bounds_of_the_site(site: HostileSite, run_crawl, field: str, value: int) -> None:
    for number in range(8):
        site.on(f"/p{number}", f'<html><img src="/{number}.jpg"><a href="/p{number + 1}">next</a>')
        site.on(f"/{number}.jpg", jpeg(number))
    stats = run_crawl(site.url("/p0"), **{field: value})
    assert stats.outcome == "limited"
    assert stats.error is None
    count = stats.images_fetched if field == "max_images" else stats.pages
    assert count == (2 if field == "max_depth" else value)


def test_time_of_the_site(site: HostileSite, run_crawl, settings: Settings) -> None:
    for number in range(150):
        site.on(f"/p{number}", f'<html><img src="/{number}.jpg"><a href="/p{number + 1}">next</a>')
        site.on(f"/{number}.jpg", jpeg(number))
    short = settings.model_copy(update={"crawl_site_seconds": 5})
    stats = run_crawl(site.url("/p0"), settings=short, delay_seconds=0.2)
    assert stats.outcome == "limited"
    assert 0 < stats.images_fetched < 40
    moments = sorted(moment for _, moment, _ in site.server.asked)
    # A busy machine notes a request late, and then the next one seems near.
    assert (moments[-1] - moments[0]) / (len(moments) - 1) > 0.19


def test_robots_forbid_one_image(site: HostileSite, run_crawl, rows, tmp_path) -> None:
    site.on("/robots.txt", "User-agent: image\nDisallow: /\n\nUser-agent: *\nDisallow: /private/\n")
    site.on("/", '<html><img src="/private/1.jpg"><img src="/2.jpg"><a href="/private/page">x</a>')
    site.on("/2.jpg", jpeg(2))
    stats = run_crawl(site.url(), state=tmp_path / "site.sqlite")
    assert rows()[site.url("/private/1.jpg")]["reason"] == Reason.FORBIDDEN_BY_ROBOTS
    assert rows()[site.url("/private/page")]["reason"] == Reason.FORBIDDEN_BY_ROBOTS
    assert rows()[site.url("/2.jpg")]["reason"] is None
    assert (stats.outcome, stats.images_fetched, stats.images_failed, stats.pages_failed) == ("finished", 1, 1, 1)
    assert site.times("/private/1.jpg") == site.times("/private/page") == 0
    assert site.times("/robots.txt") == 1
    with StateFile(tmp_path / "site.sqlite") as state:
        assert state.counts()[0] == 1, "what robots.txt forbids today it may allow tomorrow"


def test_one_start_page_of_two_is_enough(site: HostileSite, run_crawl) -> None:
    site.on("/good", "<html><p>nothing here")
    site.on("/bad", status(404))
    stats = run_crawl([site.url("/bad"), site.url("/good")])
    assert (stats.outcome, stats.pages, stats.pages_failed) == ("finished", 1, 1)


def test_an_image_is_told_of_by_its_own_page(site: HostileSite, run_crawl, rows) -> None:
    """Not by the start page or a neighbour, which show it as a link; what the own page leaves out is kept."""
    figure = '<figure><a href="/own"><img src="/picture.jpg"></a><span class="uploader">Mira</span></figure>'
    site.on("/", figure + '<a href="/neighbour">on</a>')
    site.on("/neighbour", figure)
    said = '<time datetime="2026-03-04T05:06:07Z">then</time>'
    site.on("/own", '<img src="/picture.jpg"><img src="/other.jpg">' + said)
    site.on("/picture.jpg", jpeg(1))
    site.on("/other.jpg", jpeg(2))
    run_crawl(site.url())
    row = rows()[site.url("/picture.jpg")]
    assert row["page_url"] == site.url("/own")
    assert row["uploader"] == "Mira"
    assert row["uploaded_at"].isoformat() == "2026-03-04T05:06:07+00:00"


def test_images_before_a_day_are_left_for_later(site: HostileSite, run_crawl, rows, tmp_path) -> None:
    """They are neither fetched nor settled: a crawl without the bound fetches them."""
    figure = '<figure><img src="/{day}.jpg"><time datetime="2026-03-{day}T12:00:00Z"></time></figure>'
    site.on("/", figure.replace("{day}", "01") + figure.replace("{day}", "09"))
    site.on("/01.jpg", jpeg(1))
    site.on("/09.jpg", jpeg(2))
    run_crawl(site.url(), uploaded_since=date(2026, 3, 5), state=tmp_path / "site.sqlite")
    assert set(rows()) == {site.url("/09.jpg")}
    run_crawl(site.url(), state=tmp_path / "site.sqlite")
    assert set(rows()) == {site.url("/01.jpg")}
