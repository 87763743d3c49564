"""Which kind of source a site is, against answers like those of the real ones."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from scrapy import Request
from scrapy.http import HtmlResponse, TextResponse

from copywatch.crawl import CrawlStats
from copywatch.sites import Site
from crawlers.spiders.detect import DetectSpider
from tests.crawlers.hostile_site import HostileSite
from tests.crawlers.interfaces import WordPress

HOME = "https://a.example/"
Answers = dict[str, Any]

WORDPRESS_PAGE = '<html><head><link rel="https://api.w.org/" href="/wp-json/"></head><body>Blog</body></html>'
WIKI_PAGE = (
    '<html><head><meta name="generator" content="MediaWiki 1.43.0">'
    '<link rel="EditURI" type="application/rsd+xml" href="//a.example/w/api.php?action=rsd"></head></html>'
)
MEDIA = json.dumps([{"id": 1, "media_type": "image", "source_url": "https://a.example/1.jpg"}])
IMAGES = json.dumps({"query": {"allimages": [{"url": "https://a.example/1.jpg", "mime": "image/jpeg"}]}})
POSTS = json.dumps([{"id": "1", "media_attachments": []}])
INSTANCE = json.dumps({"uri": "a.example", "title": "A", "version": "4.3.0"})
FEED_PAGE = '<html><head><link rel="alternate" type="application/rss+xml" href="/feed"></head></html>'
RSS = '<?xml version="1.0"?><rss version="2.0"><channel><title>x</title></channel></rss>'
SITEMAP = (
    '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"{}><url><loc>https://a.example/p</loc>{}</url></urlset>'
)
IMAGE_SITEMAP = SITEMAP.format(
    ' xmlns:image="http://www.google.com/schemas/sitemap-image/1.1"',
    "<image:image><image:loc>https://a.example/1.jpg</image:loc></image:image>",
)
INDEX = (
    '<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><sitemap><loc>https://a.example/pages.xml</loc>'
    "</sitemap><sitemap><loc>https://a.example/image-sitemap.xml</loc></sitemap></sitemapindex>"
)
ROBOTS = "User-agent: *\nSitemap: https://a.example/map.xml\n"


def detect(answers: Answers, *start: str) -> tuple[Any, list[str]]:
    """What a spider finds that is given these answers by the beginning of the address, and what it asked for."""
    site = Site.model_validate({"name": "a", "start": list(start or (HOME,))})
    spider = DetectSpider(job=SimpleNamespace(site_seconds=60), site=site, policy=None)  # type: ignore[arg-type]
    asked: list[str] = []

    async def first() -> list[Request]:
        return [request async for request in spider.start()]

    waiting = asyncio.run(first())
    while waiting:
        request = waiting.pop(0)
        asked.append(request.url)
        key = max((one for one in answers if _is_at(request.url, one)), key=len, default=None)
        body, headers, code = "not found", {}, 404
        if key is not None:
            body, headers, code = answers[key], {}, 200
        if isinstance(body, tuple):
            body, headers = body
        if isinstance(body, int):
            body, code = "", body
        data = body if isinstance(body, bytes) else body.encode()
        kind = HtmlResponse if data.lstrip()[:5].lower() == b"<html" else TextResponse
        response = kind(request.url, status=code, body=data, headers=headers, request=request, encoding="utf-8")
        waiting += list(request.callback(response, **request.cb_kwargs))  # type: ignore[misc]
    return spider.detected, asked


def _is_at(url: str, answer: str) -> bool:
    return url == answer or (url.startswith(answer) and url[len(answer)] in "?&")


WP_MEDIA = "https://a.example/wp-json/wp/v2/media"
TIMELINE = "https://a.example/api/v1/timelines/public"
API = "https://a.example/w/api.php"

SITES: dict[str, tuple[Answers, str, str, str]] = {
    "wordpress": ({HOME: WORDPRESS_PAGE, WP_MEDIA: MEDIA}, HOME, "wordpress", WP_MEDIA),
    "wordpress by header": (
        {HOME: ("<html>x</html>", {"Link": '<https://a.example/wp-json/>; rel="https://api.w.org/"'}), WP_MEDIA: MEDIA},
        HOME,
        "wordpress",
        WP_MEDIA,
    ),
    "wordpress without pretty addresses": (
        {
            HOME: WORDPRESS_PAGE.replace("/wp-json/", "/?rest_route=/"),
            "https://a.example/?rest_route=%2Fwp%2Fv2%2Fmedia": MEDIA,
        },
        HOME,
        "wordpress",
        "https://a.example/?rest_route=%2Fwp%2Fv2%2Fmedia",
    ),
    "wordpress by address": ({WP_MEDIA: MEDIA}, "https://a.example/wp-json/", "wordpress", WP_MEDIA),
    "an empty media library": ({HOME: WORDPRESS_PAGE, WP_MEDIA: "[]"}, HOME, "wordpress", WP_MEDIA),
    "a closed wordpress": ({HOME: WORDPRESS_PAGE, WP_MEDIA: 401}, HOME, "gallery", HOME),
    "a wordpress that answers pages": ({HOME: WORDPRESS_PAGE, WP_MEDIA: WORDPRESS_PAGE}, HOME, "gallery", HOME),
    "mediawiki": ({HOME: WIKI_PAGE, API: IMAGES}, HOME, "mediawiki", API),
    "mediawiki by its maker": (
        {HOME: '<html><meta name="generator" content="MediaWiki 1.39"></html>', "https://a.example/api.php": IMAGES},
        HOME,
        "mediawiki",
        "https://a.example/api.php",
    ),
    "a closed wiki": ({HOME: WIKI_PAGE, API: '{"error":{"code":"readapidenied"}}'}, HOME, "gallery", HOME),
    "mastodon": (
        {HOME: "<html></html>", "https://a.example/api/v1/instance": INSTANCE, TIMELINE: POSTS},
        HOME,
        "mastodon",
        TIMELINE,
    ),
    "a closed timeline": (
        {HOME: "<html></html>", "https://a.example/api/v1/instance": INSTANCE, TIMELINE: 422},
        HOME,
        "gallery",
        HOME,
    ),
    "an account": (
        {"https://a.example/@ada": "<html></html>", "https://a.example/api/v1/accounts/lookup": '{"id":"7"}'},
        "https://a.example/@ada",
        "mastodon",
        "https://a.example/@ada",
    ),
    "a feed": ({"https://a.example/feed": RSS}, "https://a.example/feed", "feed", "https://a.example/feed"),
    "a page with a feed": ({HOME: FEED_PAGE, "https://a.example/feed": RSS}, HOME, "gallery", HOME),
    "a sitemap": (
        {"https://a.example/s.xml": SITEMAP.format("", "")},
        "https://a.example/s.xml",
        "sitemap",
        "https://a.example/s.xml",
    ),
    "a packed sitemap": (
        {"https://a.example/s.xml.gz": gzip.compress(IMAGE_SITEMAP.encode())},
        "https://a.example/s.xml.gz",
        "sitemap",
        "https://a.example/s.xml.gz",
    ),
    "a robots.txt": ({}, "https://a.example/robots.txt", "sitemap", "https://a.example/robots.txt"),
    "a sitemap of images": (
        {
            HOME: "<html></html>",
            "https://a.example/robots.txt": ROBOTS,
            "https://a.example/map.xml": INDEX,
            "https://a.example/image-sitemap.xml": IMAGE_SITEMAP,
        },
        HOME,
        "sitemap",
        "https://a.example/robots.txt",
    ),
    "a sitemap of pages": (
        {
            HOME: "<html></html>",
            "https://a.example/robots.txt": ROBOTS,
            "https://a.example/map.xml": SITEMAP.format("", ""),
        },
        HOME,
        "gallery",
        HOME,
    ),
    "a gallery": ({HOME: "<html><img src=a.jpg></html>"}, HOME, "gallery", HOME),
    "a page that lies": (
        {HOME: WORDPRESS_PAGE + WIKI_PAGE, API: "[]", WP_MEDIA: '{"query":{}}', TIMELINE: "{}"},
        HOME,
        "gallery",
        HOME,
    ),
}


@pytest.mark.parametrize("name", SITES)
def test_kinds(name: str) -> None:
    answers, start, kind, begins = SITES[name]
    detected, asked = detect(answers, start)
    assert (detected.kind, detected.start) == (kind, [begins])
    assert len(asked) <= 7
    assert detected.why
    if name.startswith(("a closed", "a wordpress that")):
        assert ", but https://a.example/" in detected.why


def test_a_site_that_does_not_answer_is_not_judged() -> None:
    assert detect({HOME: 503})[0] is None


def test_several_start_addresses() -> None:
    feeds = {"https://a.example/f1": RSS, "https://a.example/f2": RSS}
    assert detect(feeds, *feeds)[0].start == list(feeds)
    mixed, _ = detect({**feeds, HOME: "<html></html>"}, HOME, *feeds)
    assert (mixed.kind, mixed.start) == ("gallery", [HOME, *feeds])


@pytest.mark.parametrize(
    "body",
    [
        b"<" * 100_000,
        b"\x1f\x8b" + b"broken",
        gzip.compress(b"<urlset>" + bytes(60_000_000)),
        b'<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY a "b"><!ENTITY c SYSTEM "file:///etc/passwd">]><rss>&c;',
        b"{" * 10_000,
        b"<html><link rel='https://api.w.org/' href='http://[::'>",
        b"<html><link rel='https://api.w.org/' href='javascript:alert(1)'><link rel=EditURI href='ftp://x/api.php'>",
    ],
)
def test_hostile_pages_end_in_some_answer(body: bytes) -> None:
    detected, asked = detect({HOME: body})
    assert detected.kind in {"gallery", "feed"}
    assert len(asked) <= 7


def test_a_crawl_of_a_kind_that_nobody_named(
    site: HostileSite, run_crawl: Callable[..., CrawlStats], rows: Callable[..., dict[str, dict[str, Any]]]
) -> None:
    blog = WordPress(site)
    site.on(WordPress.prefix, blog)
    site.on("/", WORDPRESS_PAGE)
    blog.add(3)
    stats = run_crawl(site.url("/"), kind="auto")
    assert (stats.source, stats.images_fetched) == ("wordpress", 3)
    assert set(rows()) == blog.urls(blog.shown)
