"""What is read from a page's text."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scrapy.http import HtmlResponse, Response

from copywatch.crawl import normal_url, url_hash
from copywatch.errors import Reason
from copywatch.sites import Selectors
from crawlers import failures
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
