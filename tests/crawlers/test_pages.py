"""What is read from a page's text."""

from __future__ import annotations

import contextlib
import hashlib
from datetime import UTC, datetime, timedelta
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scrapy.http import HtmlResponse, Response

from copywatch.crawl import normal_url, url_hash
from copywatch.errors import Reason
from copywatch.sites import Selectors
from crawlers import failures
from crawlers.addresses import AddressPolicy
from crawlers.middlewares import retry_after
from crawlers.pages import Page, best_of_source_set
from crawlers.texts import clean_text, parse_date


def page(html: str, **select: object) -> Page:
    response = HtmlResponse("http://site.example/dir/page", body=html.encode("utf-8", "replace"), encoding="utf-8")
    return Page(response, Selectors.model_validate(select))


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2024-05-06", datetime(2024, 5, 6, tzinfo=UTC)),
        ("2024-05-06T07:08:09Z", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
        ("2024-05-06 01:00+02:00", datetime(2024, 5, 5, 23, 0, tzinfo=UTC)),
        ("6 May 2024", datetime(2024, 5, 6, tzinfo=UTC)),
        ("Mon, 06 May 2024 07:08:09 GMT", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
        ("May 6, 2024", datetime(2024, 5, 6, tzinfo=UTC)),
        ("25/12/2023", datetime(2023, 12, 25, tzinfo=UTC)),
        ("03/04/2021", None),
        ("May 2024", None),
        ("12:30", None),
        ("yesterday", None),
        ("1066-10-14", None),
        ("2999-01-01", None),
        ("9" * 5000, None),
        ("2024-02-31", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("", None),
    ],
)
def test_dates(text: str, date: datetime | None) -> None:
    assert parse_date(text) == date


@given(st.text(max_size=300))
def test_texts_and_dates_of_any_text(text: str) -> None:
    date = parse_date(text)
    assert date is None or date.utcoffset() == timedelta(0)
    cleaned = clean_text(text)
    assert cleaned is None or (0 < len(cleaned) <= 200 and not any(c < " " or "\x7f" <= c < "\xa0" for c in cleaned))
    if cleaned:
        cleaned.encode()


@pytest.mark.parametrize(
    ("text", "best"),
    [
        ("a.jpg 320w, b.jpg 1280w, c.jpg 640w", "b.jpg"),
        ("a.jpg, b.jpg 2x", "b.jpg"),
        ("a,b.jpg 1x,c.jpg 3x", "c.jpg"),
        ("only.jpg", "only.jpg"),
        (" , ,", None),
        ("a.jpg 1..2w, b.jpg 5w", "b.jpg"),
        ("", None),
        ("a.jpg,, ,b.jpg 2x", "b.jpg"),
        (" " * 20_000, None),
        ("a" + "," * 20_000, "a"),
    ],
)
def test_source_sets(text: str, best: str | None) -> None:
    found = best_of_source_set(text)
    assert (found and found[1]) == best


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from(list("<>/='\" aimgsrcfhtp:,0.9wx#?&;[]\x00\ud800é\n")), max_size=200))
def test_any_markup_is_read(text: str) -> None:
    tags = f"<figure><img src='{text}' srcset='{text}'>{text}<a href='{text}.jpg'></a></figure><base href='{text}'>"
    for markup in (text, tags):
        found = page(markup)
        for shown in found.images():
            assert shown.address.isascii() or shown.trouble
            with contextlib.suppress(ValueError):
                assert url_hash(normal_url(shown.address)) == url_hash(normal_url(normal_url(shown.address)))
        assert all(link.startswith(("http://", "https://")) for link in found.links(["a"]))


def test_base_applies_wherever_it_stands_and_only_http() -> None:
    padding = "<!-- " + "x" * 5000 + " -->"
    shown = list(page(f"{padding}<base href='/other/'><img src=a.jpg>").images())
    assert [image.address for image in shown] == ["http://site.example/other/a.jpg"]
    shown = list(page("<base href='javascript:1'><img src=a.jpg>").images())
    assert [image.address for image in shown] == ["http://site.example/dir/a.jpg"]


@pytest.mark.parametrize(
    "markup",
    [
        "<html><body></body></html><img src=a.jpg>",
        "<html><p>x</p></html ><html><body><img src=a.jpg></body></html>",
        "<html>\x00</BODY/><p></html\n><img src=a.jpg>",
        "<noscript><img src=a.jpg></noscript>",
        "</html><img src=a.jpg",
        "<img src=a.jpg>" + "<div>" * 3000,
    ],
)
def test_an_image_cannot_hide_in_broken_markup(markup: str) -> None:
    if markup.endswith("a.jpg"):
        markup += ">"
    assert [image.address for image in page(markup).images()] == ["http://site.example/dir/a.jpg"]


def test_a_page_that_is_nested_too_deep_says_so() -> None:
    assert page("<img src=a.jpg>" + "<div>" * 3000).cut_short
    assert not page("<img src=a.jpg>" + "<div>" * 1000).cut_short
    assert not page("").cut_short


def test_first_selector_that_finds_something_wins() -> None:
    html = "<div class=big><img src=1.jpg></div><img src=2.jpg><a class=next href=n>n</a><a href=m>m</a>"
    found = page(html, image=[".none img", ".big img"], follow=[".next"])
    assert [image.address for image in found.images()] == ["http://site.example/dir/1.jpg"]
    assert list(found.links([".next", "a"])) == ["http://site.example/dir/n"]
    assert len(list(found.links([".missing", "a"]))) == 2


def addresses(html: str, **select: object) -> list[str]:
    return [image.address.removeprefix("http://site.example") for image in page(html, **select).images()]


@pytest.mark.parametrize(
    ("markup", "shown"),
    [
        ("<a href=/full.jpg><img src=/thumb.jpg></a>", ["/full.jpg"]),
        ("<figure><a href=/full.JPG?x=1><img src=/t.jpg><img src=/zoom.png></a></figure>", ["/full.JPG?x=1"]),
        ("<a href=/full.jpg><picture><source srcset='/a.webp 900w'><img src=/t.jpg></picture></a>", ["/full.jpg"]),
        ("<a href=/photo/1><img src=/t.jpg></a>", ["/t.jpg"]),
        ("<a href=/wiki/File:Cat.jpg><img src=/t.jpg></a>", ["/t.jpg"]),
        ("<pre><a href=IMG_1.jpg>IMG_1.jpg</a> <a href=a.txt>a</a></pre>", ["/dir/IMG_1.jpg"]),
        ("<img src=/s.jpg srcset='/s.jpg 320w, /l.jpg 1280w'>", ["/l.jpg"]),
        ("<img src=/s.jpg data-srcset='/s.jpg 1x, /l.jpg 2x'>", ["/l.jpg"]),
        ("<picture><source srcset='/a.avif 2000w'><source data-srcset='/b.webp 90w'><img src=/n.jpg></picture>",
         ["/a.avif"]),
        *((f"<img src=/p.gif {name}=/l.jpg>", ["/l.jpg"]) for name in (
            "data-src", "data-original", "data-lazy-src", "data-lazy", "data-full", "data-full-src", "data-full-url",
            "data-hi-res-src", "data-hires", "data-orig-file", "data-large-file", "data-large_image",
            "data-zoom-image")),
        ("<img src=/l.jpg data-full=true data-hires='#fff' data-zoom-image='{\"a/b\"}'>", ["/l.jpg"]),
        ("<img src=/s.jpg data-src=/m.jpg srcset='/l.jpg 900w' data-orig-file=/o.jpg>", ["/o.jpg"]),
        ("<img src='data:image/gif;base64,AA=='><noscript><img src=/n.jpg></noscript>",
         ["data:image/gif;sha256=" + hashlib.sha256(b"data:image/gif;base64,AA==").hexdigest(), "/n.jpg"]),
        *((f"<div {name}=/bg.jpg></div>", ["/bg.jpg"]) for name in (
            "data-bg", "data-bg-src", "data-background", "data-background-image")),
        ("<div data-bg='url(/bg.jpg)'></div><div data-bg=dark></div><div data-background='#fff'></div>", ["/bg.jpg"]),
        ("<div data-bgset='/s.jpg 100w, /l.jpg 900w'></div>", ["/l.jpg"]),
        ("<div style=\"background: url('/a.jpg'), URL( /b ), url(&quot;/c.png&quot;)\"></div>",
         ["/a.jpg", "/b", "/c.png"]),
        ("<div style='fill: url(#g); background: url()'></div>", []),
        ("<style>@import url(/fonts); @font-face {src: url(/f.woff2)} .a{background:url(/a.jpg)}\n"
         ".b{cursor:url(/c.cur), url(/i.svg)}</style>", ["/a.jpg"]),
        ("<video poster=/poster.jpg src=/v.mp4></video><video data-poster=/2.jpg></video>", ["/poster.jpg", "/2.jpg"]),
        ("<input type=IMAGE src=/buy.png><input type=text src=/no.png>", ["/buy.png"]),
        ("<svg><image href=/1.jpg /><image xlink:href=/2.jpg /><image href=#x /></svg>", ["/1.jpg", "/2.jpg"]),
        ("<link rel=image_src href=/share.jpg><link rel=icon href=/icon.png>", ["/share.jpg"]),
        ("<object data=/o.jpg></object><object data=/o type=image/png></object><object data=/o.svg type=image/svg+xml>"
         "</object><object data=/o.swf></object><embed src=/e.jpg>", ["/o.jpg", "/o", "/e.jpg"]),
        ("<meta property=og:image content=/og.jpg>", ["/og.jpg"]),
        ("<img src=/t.jpg><script type='application/ld+json'>{\"@type\":\"ImageObject\",\"contentUrl\":\"/full.jpg\","
         "\"thumbnailUrl\":\"/t.jpg\"}</script>", ["/full.jpg"]),
        ("<img src=/a.jpg alt=x><img src=/a.jpg alt=x>", ["/a.jpg"]),
        ("<img src=''><img src='#'><img src=' '><img>", []),
    ],
)  # fmt: skip
def test_images_of_all_kinds(markup: str, shown: list[str]) -> None:
    assert addresses(markup) == shown


def test_a_selector_of_images_is_a_choice() -> None:
    html = (
        "<meta property=og:image content=/4.jpg><div class=photo><img src=/1.jpg></div><img src=/2.jpg>"
        "<p style='background:url(/3.jpg)'></p><a href=/5.jpg>5</a><figure><a href=/6.jpg>6</a></figure>"
    )
    assert addresses(html) == ["/1.jpg", "/2.jpg", "/5.jpg", "/6.jpg", "/3.jpg", "/4.jpg"]
    assert addresses(html, image=[".photo img"]) == ["/1.jpg", "/6.jpg"]


def test_of_several_addresses_one_that_may_be_fetched_is_taken() -> None:
    html = (
        "<a href=http://far.example/full.jpg><img src=/thumb.jpg></a>"
        "<img src=/s.jpg srcset='http://cdn.example/l.jpg 900w'><img src=http://far.example/only.jpg>"
    )
    response = HtmlResponse("http://site.example/", body=html.encode(), encoding="utf-8")

    def taken(*hosts: str) -> list[str]:
        policy = AddressPolicy(private_allowed=False, image_hosts=frozenset(hosts))
        return [image.address for image in Page(response, Selectors(), policy).images()]

    far = "http://far.example/only.jpg"
    # The link stays as what it is, an image elsewhere, which the crawl then leaves.
    assert taken("site.example") == ["http://site.example/thumb.jpg", "http://site.example/s.jpg", far]
    assert taken("site.example", "cdn.example")[:2] == ["http://site.example/thumb.jpg", "http://cdn.example/l.jpg"]
    assert taken("far.example") == ["http://far.example/full.jpg", "http://cdn.example/l.jpg", far]


DAY = datetime(2024, 5, 6, tzinfo=UTC)
LD = (
    '<script type="application/ld+json">{"@type": "BlogPosting", "author": {"name": "Lea", "url": "/u/lea"}, '
    '"datePublished": "2024-05-06", "headline": "Post", "image": "/main.jpg", "license": "/ld"}</script>'
)


def said(html: str, **select: object) -> dict[str, tuple[object, ...]]:
    return {
        shown.address.removeprefix("http://site.example"): (
            shown.uploader, shown.uploader_url, shown.uploaded_at, shown.uploaded_at_source, shown.caption,
            shown.licence,
        )
        for shown in page(html, **select).images()
    }  # fmt: skip


def test_what_an_item_says() -> None:
    html = """<figure><a href=/full.jpg><img src=/t.jpg alt=alt></a><figcaption>A  cat</figcaption>
    <a href="/u/ann"><b class=author>Ann</b></a><time datetime=2024-05-06>May</time>
    <a rel="nofollow license" href=/by>l</a>
    </figure><figure><span class=author><a href=/u/bob>Bob</a></span><img src=/2.jpg title=t></figure>
    <a class=photo href=/photo/3><img src=/3.jpg><i class=author>Cid</i></a>
    <figure><a href=/photo/4><img src=/4.jpg><i class=author>Dan</i></a></figure>"""
    assert said(html) == {
        "/full.jpg": ("Ann", "http://site.example/u/ann", DAY, "time[datetime]", "A cat", "http://site.example/by"),
        "/2.jpg": ("Bob", "http://site.example/u/bob", None, None, "t", None),
        "/3.jpg": ("Cid", None, None, None, None, None),
        "/4.jpg": ("Dan", None, None, None, None, None),
    }


def test_items_inside_items() -> None:
    """What the article says holds for its figures; what a figure or a comment says holds for nothing else."""
    html = """<article><b class=author>Ann</b><img src=/1.jpg><figure><img src=/2.jpg></figure>
    <figure><img src=/3.jpg><b class=author>Bob</b></figure><article><b class=author>Carl</b></article></article>
    <article><figure><img src=/4.jpg><b class=author>Dan</b></figure><img src=/5.jpg></article>"""
    who = {address: facts[0] for address, facts in said(html).items()}
    assert who == {"/1.jpg": "Ann", "/2.jpg": "Ann", "/3.jpg": "Bob", "/4.jpg": "Dan", "/5.jpg": None}


def test_who_is_believed_first() -> None:
    lea = ("Lea", "http://site.example/u/lea", DAY, "json-ld datePublished")
    # Embedded data speaks of its image, and of the only one of a page; the page's own words come after it.
    of_image = (*lea, "Post", "http://site.example/rel")
    page_words = "<b class=user>Pat</b><time datetime=2020-01-01></time><link rel=license href=/rel>"
    html = LD.replace('"/ld"', "null") + page_words
    assert said(html + "<img src=/main.jpg>") == {"/main.jpg": of_image}
    assert said(html + "<img src=/1.jpg alt=1>")["/1.jpg"] == (*lea, "1", "http://site.example/rel")
    two = said(html + "<img src=/1.jpg><img src=/2.jpg><img src=/main.jpg>")
    pat = ("Pat", None, datetime(2020, 1, 1, tzinfo=UTC), "time[datetime]", None, "http://site.example/rel")
    assert (two["/1.jpg"], two["/2.jpg"], two["/main.jpg"]) == (pat, pat, of_image)
    # An image that leads on to another page is not what this one is about.
    assert said(html + "<a href=/p><img src=/1.jpg></a><img src=/2.jpg>")["/1.jpg"][0] == "Pat"
    # Selectors of the site's own are believed before it, and an item before all.
    own = said(html + "<img src=/main.jpg>", uploader=[".user"])["/main.jpg"]
    assert own == ("Pat", None, *of_image[2:])
    item = said(html + "<figure><img src=/main.jpg><b class=author>Ann</b></figure>", uploader=[".author", ".user"])
    assert item["/main.jpg"][:3] == ("Ann", None, DAY)


def test_a_page_with_too_much_says_so() -> None:
    found = page("".join(f"<img src={number}.jpg>" for number in range(20_001)))
    assert len(list(found.images())) == 20_000
    assert found.cut_short
    found = page("<div>" * 2000 + "<img src=a.jpg>" * 15_000)
    assert len(list(found.images())) == 1


@pytest.mark.parametrize(
    "text", ["(", "url(", 'url("', "url('", "url( ", "@import ", "@import url(", "url(\"'", "url(a) "]
)
def test_hostile_styles_cost_little(text: str) -> None:
    found = page(f'<style>{text * (1_000_000 // len(text))}</style><p style="{text.replace(chr(34), "") * 100_000}">')
    start = process_time()
    assert {image.address for image in found.images()} <= {"http://site.example/dir/a"}
    assert process_time() - start < 10


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("0", 0), ("Sat, 21 Nov 2026 08:00:10 GMT", 10), ("Sat, 21 Nov 2020 08:00:10 GMT", 0), ("-3", None),
     ("soon", None), ("", None), ("9" * 30, None), ("1.5", None)],
)  # fmt: skip
def test_retry_after(text: str, seconds: float | None) -> None:
    response = Response("http://a/", status=429, headers={"Retry-After": text})
    assert retry_after(response, datetime(2026, 11, 21, 8, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    ("status", "lasting"),
    [(404, True), (403, True), (410, True), (429, False), (408, False), (500, False), (304, True)],
)
def test_statuses(status: int, lasting: bool) -> None:
    refusal = failures.of_status(Response("http://a/", status=status))
    assert refusal is not None
    assert (refusal.reason, refusal.lasting, refusal.status) == (Reason.HTTP_STATUS, lasting, status)
