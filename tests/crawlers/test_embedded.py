"""What embedded data says of images: extruct parses it, so here is what becomes of what it found."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from time import process_time

import pytest
from lxml import html

from crawlers.embedded import NOTHING, Embedded, Stated, embedded_data

BASE = "http://site.example/dir/page"
DAY = datetime(2024, 5, 6, tzinfo=UTC)


def read(markup: str) -> Embedded:
    return embedded_data(html.document_fromstring(markup), BASE)


def ld(*values: object) -> Embedded:
    scripts = (value if isinstance(value, str) else json.dumps(value) for value in values)
    return read("".join(f'<script type="application/ld+json">{script}</script>' for script in scripts) + "<p>x")


def url(path: str) -> str:
    return f"http://site.example{path}"


def test_an_image_object() -> None:
    found = ld(
        {
            "@context": "https://schema.org/",
            "@type": "ImageObject",
            "contentUrl": "/photos/full.jpg#top",
            "url": "/about-the-photo",
            "thumbnailUrl": "../t.jpg",
            "author": {"@type": "Person", "name": "Tom &amp; Ann\u202e", "url": "/u/ann"},
            "uploadDate": "2024-05-06",
            "datePublished": "2024-05-07",
            "caption": "A  cat",
            "name": "IMG_1",
            "license": "https://example.org/licence",
            "acquireLicensePage": "https://example.org/buy",
            "creditText": "Agency",
        }
    )
    assert found.images == {
        url("/photos/full.jpg"): Stated(
            "Tom & Ann", url("/u/ann"), DAY, "json-ld uploadDate", "A cat", "https://example.org/licence"
        )
    }
    assert found.full_of == {url("/t.jpg"): url("/photos/full.jpg")}
    assert found.of(url("/t.jpg")) == found.of(url("/photos/full.jpg")) != NOTHING
    assert found.of(url("/other.jpg")) == NOTHING


@pytest.mark.parametrize(
    ("image", "addresses"),
    [
        ("/a.jpg", ["/a.jpg"]),
        (["/a.jpg", "b.jpg"], ["/a.jpg", "/dir/b.jpg"]),
        ({"@type": "ImageObject", "url": "/cdn/123"}, ["/cdn/123"]),
        ({"url": "/a.jpg"}, ["/a.jpg"]),
        ([{"@type": ["ImageObject"], "contentUrl": ["/a.jpg", "/b.jpg"]}], ["/a.jpg"]),
        ({"@list": ["/a.jpg"]}, ["/a.jpg"]),
        ({"@id": "#image"}, ["/by-id.jpg"]),
        ({"@id": "#missing"}, []),
        ({"@type": "schema:ImageObject"}, []),
        (["data:image/gif;base64,AAAA", "javascript:1", "", 5, None, True, [[]]], []),
        ("http://[", []),
    ],
)
def test_images_of_an_article_are_by_its_author(image: object, addresses: list[str]) -> None:
    graph = [
        {"@type": "WebSite", "name": "Site", "publisher": {"@type": "Organization", "logo": {"url": "/logo.png"}}},
        {"@type": "NewsArticle", "headline": "News", "author": [{"@id": "#ann", "@type": "Person"}],
         "datePublished": "2024-05-06", "image": image},
        {"@type": "Person", "@id": "#ann", "name": "Ann", "sameAs": ["https://elsewhere.example/ann"]},
    ]  # fmt: skip
    if image == {"@id": "#image"}:
        graph.append({"@type": "ImageObject", "@id": "#image", "url": "/by-id.jpg", "caption": "own"})
    found = ld({"@context": "https://schema.org", "@graph": graph})
    caption = "own" if "/by-id.jpg" in addresses else "News"
    stated = Stated("Ann", "https://elsewhere.example/ann", DAY, "json-ld datePublished", caption)
    assert found.images == {url(address): stated for address in addresses}
    assert found.page == Stated("Ann", "https://elsewhere.example/ann", DAY, "json-ld datePublished", "News")


@pytest.mark.parametrize(
    ("said", "stated"),
    [
        ({"author": "Ann"}, Stated(uploader="Ann")),
        ({"author": "https://site.example/u/1"}, Stated(uploader_url="https://site.example/u/1")),
        ({"author": {}, "creator": [{}, {"name": "Bob"}]}, Stated(uploader="Bob")),
        ({"author": {"name": "x" * 500}}, Stated(uploader="x" * 200)),
        ({"author": {"name": "Ann", "url": "javascript:alert(1)"}}, Stated(uploader="Ann")),
        ({"author": {"name": {"@value": "Ann", "@language": "en"}}}, Stated(uploader="Ann")),
        ({"uploadDate": "03/04/2021", "datePublished": "6 May 2024"},
         Stated(uploaded_at=DAY, uploaded_at_source="json-ld datePublished")),
        ({"uploadDate": 20240506}, NOTHING),
        ({"caption": {"@type": "MediaObject"}, "description": "y" * 600}, Stated(caption="y" * 500)),
        ({"license": {"@id": "https://example.org/l"}}, Stated(licence="https://example.org/l")),
        ({"license": ["CC BY 4.0"]}, Stated(licence="CC BY 4.0")),
        ({"copyrightNotice": "(c) Ann", "creditText": "A"}, Stated(licence="(c) Ann")),
        ({"creditText": "Agency"}, Stated(licence="Agency")),
        ({"acquireLicensePage": "https://example.org/buy"}, Stated(licence="https://example.org/buy")),
    ],
)  # fmt: skip
def test_what_is_said_of_an_image(said: dict[str, object], stated: Stated) -> None:
    found = ld({"@type": "http://schema.org/ImageObject", "contentUrl": "/a.jpg", **said})
    assert found.images == {url("/a.jpg"): stated}


def test_other_works_do_not_lend_their_author() -> None:
    comment = {"@type": "Comment", "author": "Carl", "image": "/c.jpg"}
    found = ld({"@type": "BlogPosting", "author": "Ann", "image": "/a.jpg", "comment": [comment]})
    assert {address: stated.uploader for address, stated in found.images.items()} == {
        url("/a.jpg"): "Ann",
        url("/c.jpg"): "Carl",
    }
    two = [{"@type": "BlogPosting", "author": name, "url": f"/{name}"} for name in ("Ann", "Bob")]
    assert ld(two).page == NOTHING, "a list of posts is about none of them"


def test_one_broken_script_does_not_hide_the_next() -> None:
    whole = {"@type": "ImageObject", "contentUrl": "/a.jpg"}
    for broken in (
        "{",
        "<!-- -->",
        '{"a":' * 10_000,
        "9" * 10_000,
        "null",
        '"text"',
        "[1, null, [[]]]",
        '[{"@type": {}}]',
    ):
        assert list(ld(broken, whole).images) == [url("/a.jpg")]
    commented = '// note\n{"@type": "ImageObject", /* here */ "contentUrl": "/a.jpg"}'
    assert list(ld(commented).images) == [url("/a.jpg")]


def test_microdata() -> None:
    found = read(
        """<div itemscope itemtype="https://schema.org/ImageGallery"><div itemprop="associatedMedia" itemscope
        itemtype="https://schema.org/ImageObject"><img itemprop="contentUrl" src="/a.jpg"><img itemprop="thumbnailUrl"
        src="/t.jpg"><span itemprop="author" itemscope itemtype="https://schema.org/Person">
        <a itemprop="url" href="/u/1"><span itemprop="name">Ann</span></a></span>
        <time itemprop="uploadDate" datetime="2024-05-06">May</time>
        <p itemprop="caption">A <b>cat</b></p><a itemprop="license" href="/cc">l</a></div></div>
        <article itemscope itemtype="http://schema.org/BlogPosting"><img itemprop="image" src="b.jpg">
        <b itemprop="author">Bob</b><meta itemprop="datePublished" content="2024-05-06">
        <h1 itemprop="headline">Post</h1></article>"""
    )
    assert found.images == {
        url("/a.jpg"): Stated("Ann", url("/u/1"), DAY, "microdata uploadDate", "A cat", url("/cc")),
        url("/dir/b.jpg"): Stated("Bob", None, DAY, "microdata datePublished", "Post"),
    }
    assert found.full_of == {url("/t.jpg"): url("/a.jpg")}
    assert found.page.uploader == "Bob"


def test_open_graph() -> None:
    def graph(*properties: tuple[str, str]) -> Embedded:
        metas = "".join(f'<meta property="{name}" content="{text}">' for name, text in properties)
        return read(f"<html><head>{metas}</head><body>x")

    found = graph(
        ("og:title", "Post"), ("og:image", "http://site.example/a.jpg"),
        ("og:image:secure_url", "https://site.example/a.jpg"), ("og:image:alt", "A cat"), ("og:image", "/b.jpg"),
        ("article:author", "https://site.example/u/ann"), ("article:published_time", "2024-05-06T00:00:00Z"),
    )  # fmt: skip
    page = Stated(None, "https://site.example/u/ann", DAY, "open graph article:published_time", "Post")
    assert found.page == page
    assert list(found.images) == ["https://site.example/a.jpg", url("/b.jpg")]
    assert found.images[url("/b.jpg")] == page
    assert found.images["https://site.example/a.jpg"].caption == "A cat"
    assert graph(("article:author", "Ann"), ("og:image:url", "/c.jpg")).images == {
        url("/c.jpg"): Stated(uploader="Ann")
    }
    assert graph(("og:image", "data:,x"), ("og:image", "")).images == {}


def test_a_name_keeps_its_link_and_a_date_its_source() -> None:
    first = Stated(uploader="Ann", uploaded_at=None, caption="c")
    other = Stated("Bob", "http://b/", DAY, "x", "d", "l")
    assert first.filled(other) == Stated("Ann", None, DAY, "x", "c", "l")
    assert first.filled(Stated("Ann", "http://a/")).uploader_url == "http://a/"
    assert Stated(uploader_url="http://a/").filled(other).uploader is None


def scripts(text: str) -> str:
    return f'<script type="application/ld+json">{text}</script>'


IMAGE = {"@type": "ImageObject", "contentUrl": "/a.jpg"}


@pytest.mark.parametrize(
    "markup",
    [
        scripts("[" * 10_000 + "]" * 10_000),
        scripts('{"image":' * 900 + '"a.jpg"' + "}" * 900),
        scripts(json.dumps([{**IMAGE, "contentUrl": f"/{i}"} for i in range(15_000)])),
        scripts(json.dumps({"@type": "Article", "image": [f"/{i}.jpg" for i in range(70_000)]})),
        scripts(json.dumps([{**IMAGE, "author": [{}] * 1000}] * 200)),
        scripts("/*" * 500_000),
        scripts("[1,]") * 100_000,
        "<div itemscope itemprop=x>" * 240,
        "<div itemscope><div itemprop=x>" * 120 + "x" * 100_000,
        "<div itemscope>" + "<div itemprop=x>" * 250 + "x" * 100_000,
        "<div itemscope>" + "<b itemprop=x>y</b>" * 30_000,
        "<div itemscope itemref='" + "a " * 10_000 + "'></div><div id=a>" + "<b itemprop=x>y</b>" * 2000 + "</div>",
        "<html prefix='" + "a" * 1_000_000 + "'><head><meta property=og:image content=x>",
        "<html><head>" + "<meta property=og:image content=x>" * 50_000,
    ],
    ids=["deep", "deep images", "many objects", "many images", "many authors", "comments", "many scripts", "deep items",
         "deep item properties", "deep properties", "many properties", "references", "prefix", "many graph images"],
)  # fmt: skip
def test_hostile_markup_costs_little(markup: str) -> None:
    ld({})
    root = html.document_fromstring(markup, parser=html.HTMLParser(huge_tree=True))
    start = process_time()
    found = embedded_data(root, BASE)
    assert process_time() - start < 10, "minutes without the bounds"
    assert len(found.images) <= 5000
