"""Crawls of sites that do not behave."""

from __future__ import annotations

import gzip
import itertools
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from copywatch.crawl import CrawlStats, crawl, load_crawl_stats
from copywatch.crawl_state import StateFile
from copywatch.errors import CrawlFailed, Reason
from copywatch.lake.landing import shards
from copywatch.settings import Settings
from copywatch.sites import Site
from tests.crawlers.hostile_site import Handler, HostileSite, jpeg, redirect, status

BOMB = gzip.compress(bytes(3_000_000))


def slow(handler: Handler) -> None:
    handler.raw(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\n\xff\xd8\xff")
    time.sleep(8)


def endless(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n")
    while True:
        handler.wfile.write(bytes(65536))


def too_long(handler: Handler) -> None:
    handler.raw(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 99999999999\r\n\r\n")


def cut_short(handler: Handler) -> None:
    handler.raw(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 5000\r\n\r\n" + jpeg(1, 10))


class Twice:
    """Fails twice, then answers."""

    def __init__(self, code: int, **headers: str) -> None:
        self.fail = status(code, **headers)
        self.count = 0

    def __call__(self, handler: Handler) -> None:
        self.count += 1
        self.fail(handler) if self.count < 3 else handler.answer(200, jpeg(self.count), "image/jpeg")


IMAGES: dict[str, tuple[Any, str | None, bool]] = {
    "/good.jpg": (jpeg(1), None, True),
    "/page.jpg": ("<!DOCTYPE html><html>sorry</html>", Reason.HTML, True),
    "/text.jpg": (lambda h: h.answer(200, b"Not here", "text/html"), Reason.HTML, True),
    "/mislabelled.jpg": (lambda h: h.answer(200, jpeg(3), "text/html"), None, True),
    "/drawing.svg": (lambda h: h.answer(200, b"<svg xmlns='x'/>", "image/svg+xml"), None, True),
    "/empty.jpg": (lambda h: h.answer(200, b"", "image/jpeg"), Reason.EMPTY, True),
    "/gone.jpg": (status(404), Reason.HTTP_STATUS, True),
    "/broken.jpg": (status(500), Reason.HTTP_STATUS, False),
    "/busy.jpg": (status(429), Reason.HTTP_STATUS, False),
    "/recovers.jpg": (Twice(503), None, True),
    "/slow.jpg": (slow, Reason.TIMEOUT, False),
    "/endless.jpg": (endless, Reason.TOO_LARGE, True),
    "/too-long.jpg": (too_long, Reason.TOO_LARGE, True),
    "/cut-short.jpg": (cut_short, Reason.TRUNCATED, False),
    "/bomb.jpg": (lambda h: h.answer(200, BOMB, "image/jpeg", Content_Encoding="gzip"), Reason.TOO_LARGE, True),
    "/no-gzip.jpg": (lambda h: h.answer(200, b"\x00no", "image/jpeg", Content_Encoding="gzip"), Reason.CORRUPT, True),
    "/loop.jpg": (redirect("/loop2.jpg"), Reason.REDIRECT_LOOP, True),
    "/loop2.jpg": (redirect("/loop.jpg"), Reason.REDIRECT_LOOP, True),
    "/to-file.jpg": (redirect("file:///etc/passwd"), Reason.FORBIDDEN_ADDRESS, False),
    "/to-nowhere.jpg": (redirect("http://[broken"), Reason.FORBIDDEN_ADDRESS, False),
    "/to-port.jpg": (redirect("http://127.0.0.1:22/"), Reason.FORBIDDEN_ADDRESS, False),
    "/no-http.jpg": (lambda h: h.raw(b"\x00\x01\x02 nonsense\r\n\r\n"), Reason.UNREACHABLE, False),
    "/hangs-up.jpg": (lambda h: h.raw(b""), Reason.UNREACHABLE, False),
    "/strange-headers.jpg": (
        lambda h: h.raw(
            b"HTTP/1.1 200 \xff\xfe\r\nContent-Type: \xc3\xa4\x07\x1b[31m;;;" + b"x" * 500 + b"\r\nno colon here\r\n"
            b"Last-Modified: \xff\x00\r\nContent-Length: 2014\r\n\r\n" + jpeg(8)
        ),
        None,
        True,
    ),
    "/bad-header-names.jpg": (
        lambda h: h.raw(b"HTTP/1.1 200 OK\r\n: no name\r\nX-\xe9: 1\r\nContent-Length: 2014\r\n\r\n" + jpeg(8)),
        Reason.UNREACHABLE,
        False,
    ),
    "/bad-length.jpg": (
        lambda h: h.raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + jpeg(8)),
        Reason.UNREACHABLE,
        False,
    ),
    "/to-good.jpg": (redirect("/moved-here.jpg"), None, True),
    "/moved-here.jpg": (jpeg(99), None, True),
}


def test_every_kind_of_bad_image_is_a_row(site: HostileSite, run_crawl, rows, settings: Settings, tmp_path) -> None:
    for path, (answer, _, _) in IMAGES.items():
        site.on(path, answer)
    others = {
        "http://no-such-host.invalid/x.jpg": Reason.UNREACHABLE,
        "ftp://127.0.0.1/x.jpg": Reason.FORBIDDEN_ADDRESS,
        "http://[broken/x.jpg": Reason.FORBIDDEN_ADDRESS,
        f"http://127.0.0.1:{site.port}/{'x' * 3000}.jpg": Reason.FORBIDDEN_ADDRESS,
        "http://user:secret@127.0.0.1/x.jpg": Reason.FORBIDDEN_ADDRESS,
        "http://169.254.169.254/latest/meta-data": Reason.FORBIDDEN_ADDRESS,
    }
    images = "".join(f'<img src="{address}">' for address in [*IMAGES, *others])
    site.on("/", f'<html>{images}<a href="/gone-page">x</a><a href="/pdf">y</a><a href="/good-page">z</a>')
    site.on("/pdf", lambda h: h.answer(200, b"%PDF-1.4 \x00\x01", "application/pdf"))
    site.on("/good-page", "<html>\x00\x01<img src='/good.jpg'><img src><img src='   '></html>")
    memory, quick = tmp_path / "site.sqlite", settings.model_copy(update={"crawl_timeout_seconds": 1.5})
    stats = run_crawl(site.url(), state=memory, settings=quick)
    with StateFile(memory) as state:
        settled, _ = state.counts()
    landed = rows()
    expected = {site.url(path): reason for path, (_, reason, _) in IMAGES.items()}
    expected |= {url[:2083]: reason for url, reason in others.items() if url != "http://[broken/x.jpg"}
    expected |= {site.url("/gone-page"): Reason.HTTP_STATUS, site.url("/pdf"): Reason.NOT_AN_IMAGE}
    seen = {url: row["reason"] for url, row in landed.items() if not url.startswith("http://[")}
    assert seen == expected
    assert all((row["bytes"] is None) == (row["reason"] is not None) for row in landed.values())
    assert stats.outcome == "finished"
    assert (stats.pages, stats.pages_failed) == (2, 2)
    assert stats.images_fetched == sum(row["bytes"] is not None for row in landed.values())
    assert stats.images_failed + stats.pages_failed == sum(row["bytes"] is None for row in landed.values())
    assert stats.images_found == stats.images_fetched + stats.images_failed
    assert landed[site.url("/strange-headers.jpg")]["content_type"].isprintable()
    assert len(landed[site.url("/strange-headers.jpg")]["content_type"]) <= 200
    assert landed[site.url("/moved-here.jpg")]["bytes"] == landed[site.url("/to-good.jpg")]["bytes"]
    # Whatever passes is tried again by the next crawl, and nothing else is.
    again = run_crawl(site.url(), run="run-2", state=memory, settings=quick)
    passing = {site.url(path) for path, (_, _, lasting) in IMAGES.items() if not lasting}
    retried = {url for url in rows("run-2") if url.startswith(site.url()) and "x" * 50 not in url}
    assert retried - {site.url("/gone-page"), site.url("/pdf")} == passing
    assert again.images_known == settled
    assert site.times("/gone.jpg") == 1
    assert site.times("/recovers.jpg") == 3


def test_retry_after_is_honoured(site: HostileSite, run_crawl, rows) -> None:
    site.on("/", '<html><img src="/1.jpg"><img src="/2.jpg">')
    site.on("/1.jpg", Twice(429, Retry_After="1"))
    site.on("/2.jpg", jpeg(2))
    stats = run_crawl(site.url())
    assert (stats.images_fetched, stats.images_failed) == (2, 0)
    moments = [moment for path, moment, _ in site.server.asked if path == "/1.jpg"]
    assert len(moments) == 3
    assert all(b - a >= 0.95 for a, b in itertools.pairwise(moments))


def test_retry_after_beyond_patience_leaves_the_host_alone(site: HostileSite, run_crawl, rows, tmp_path) -> None:
    site.on("/", '<html><img src="/1.jpg"><a href="/next">next</a>')
    site.on("/1.jpg", status(429, Retry_After="7200"))
    site.on("/next", "<html>")
    stats = run_crawl(site.url(), max_images=5, state=tmp_path / "site.sqlite")
    assert rows()[site.url("/1.jpg")]["http_status"] == 429
    assert "7200 s" in rows()[site.url("/1.jpg")]["detail"]
    assert site.times("/1.jpg") == 1
    assert stats.outcome == "finished"
    with StateFile(tmp_path / "site.sqlite") as state:
        assert state.counts()[0] == 0


def robots_disallow(site: HostileSite) -> str:
    site.on("/robots.txt", "User-agent: *\nDisallow: /")
    return "forbidden by robots.txt"


def robots_broken(site: HostileSite) -> str:
    site.on("/robots.txt", status(503))
    return "HTTP 503"


def not_found(site: HostileSite) -> str:
    return "HTTP 404"


def too_many(site: HostileSite) -> str:
    site.on("/", status(429, Retry_After="3600"))
    return "HTTP 429, and the host asks to wait 3600 s"


def server_error(site: HostileSite) -> str:
    site.on("/", status(500))
    return "HTTP 500"


def looping(site: HostileSite) -> str:
    site.on("/", redirect("/"))
    return "too many redirects"


def too_slow(site: HostileSite) -> str:
    def wait(handler: Handler) -> None:
        time.sleep(5)

    site.on("/", wait)
    return "timed out"


def down(site: HostileSite) -> str:
    site.server.server_close()
    return "connection refused"


def page_is_empty(site: HostileSite) -> str:
    site.on("/", b"")
    return "zero bytes"


def page_is_a_bomb(site: HostileSite) -> str:
    bomb = gzip.compress(bytes(20_000_000))
    site.on("/", lambda handler: handler.answer(200, bomb, Content_Encoding="gzip"))
    return "too many bytes"


def leads_to_private(site: HostileSite) -> str:
    site.on("/", redirect("http://169.254.169.254/latest/"))
    return "address not allowed"


def unknown_name(site: HostileSite) -> str:
    site.start = "http://no-such-host.invalid/"
    return "no address for host no-such-host.invalid"


FAILURES: list[Callable[[HostileSite], str]] = [
    robots_disallow, robots_broken, not_found, too_many, server_error, looping, too_slow, down, page_is_empty,
    page_is_a_bomb, leads_to_private, unknown_name,
]  # fmt: skip


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, CrawlFailed | None, CrawlStats]]:
    """Every failing site crawled, some at a time: what should be said, what was raised, what was written."""
    folder = tmp_path_factory.mktemp("failures")
    settings = Settings(_env_file=None, data_dir=folder, crawl_timeout_seconds=1.5)  # type: ignore[call-arg]

    def attempt(case: Callable[[HostileSite], str]) -> tuple[str, CrawlFailed | None, CrawlStats]:
        name = case.__name__.replace("_", "-")
        with HostileSite() as site:
            expected = case(site)
            watched = Site.model_validate(
                {"name": name, "start": site.start or site.url(), "kind": "gallery", "delay_seconds": 0,
                 "allow_private_addresses": True}
            )  # fmt: skip
            raised = None
            try:
                state = folder / f"{name}.sqlite"
                crawl(watched, run="run-1", landing=settings.landing, state=state, settings=settings)
            except CrawlFailed as error:
                raised = error
        return expected, raised, load_crawl_stats(settings.landing, "run-1", name)

    with ThreadPoolExecutor(6) as pool:
        return dict(zip([case.__name__ for case in FAILURES], pool.map(attempt, FAILURES), strict=True))


@pytest.mark.parametrize("case", [case.__name__ for case in FAILURES])
def test_a_site_that_cannot_be_crawled_fails_with_its_reason(failures, case: str) -> None:
    expected, raised, stats = failures[case]
    assert raised is not None
    assert raised.site == case.replace("_", "-")
    assert expected in raised.reason
    assert (stats.outcome, stats.error) == ("failed", raised.reason)
    assert stats.pages == 0
    (shard,) = shards(stats.landing, "run-1", raised.site)
    (row,) = pq.read_table(shard).to_pylist()
    assert row["bytes"] is None
    assert row["reason"]


@pytest.mark.parametrize("host", ["localhost", "2130706433"])
def test_loopback_is_refused_by_default(site: HostileSite, run_crawl, host: str) -> None:
    site.on("/", "<html>")
    with pytest.raises(CrawlFailed, match=r"address not allowed.*loopback"):
        run_crawl(site.url(host=host), allow_private_addresses=False)
    assert site.server.asked == [], "nothing may connect, not even for robots.txt"


def test_hostile_texts_stay_texts(site: HostileSite, run_crawl, rows, caplog) -> None:
    nasty = "<script>alert(1)</script>'); DROP TABLE seen;--\r\nERROR root: forged\x1b[31m\u2028\u202eevil\ud83d" * 20
    page = f"""<html><figure><img src="/a\n.jpg"><b class="author">{nasty.encode("utf-8", "replace").decode()}</b>
    <time datetime="{"9" * 4000}">31/02/2024</time></figure>
    <figure><img src="/../../../../etc/passwd%00.jpg"><b class=author>&#7;&#8238;</b>
    <time datetime="9999-99-99T99:99">tomorrow</time></figure></html>"""
    site.on("/", page)
    site.on("/a.jpg", jpeg(1))
    run_crawl(site.url())
    landed = rows()
    first = landed[site.url("/a.jpg")]
    assert first["uploader"].isprintable()
    assert len(first["uploader"]) <= 200
    assert first["uploaded_at"] is None
    (other,) = [row for url, row in landed.items() if "passwd" in url]
    assert (other["uploader"], other["uploaded_at"], other["http_status"]) == (None, None, 404)
    assert not any(record.getMessage().startswith("ERROR root: forged") for record in caplog.records)


def test_a_failed_page_is_a_row_and_the_crawl_goes_on(site: HostileSite, run_crawl, rows) -> None:
    deep = "<html>" + "<div>" * 50_000 + "<img src='/deep.jpg'>"
    site.on("/", '<html><a href="/500">a</a><a href="/deep">b</a><a href="/last">c</a>')
    site.on("/500", status(500))
    site.on("/deep", deep)
    site.on("/last", '<html><img src="/1.jpg">')
    site.on("/1.jpg", jpeg(1))
    stats = run_crawl(site.url())
    assert stats.outcome == "finished"
    assert rows()[site.url("/500")]["http_status"] == 500
    assert rows()[site.url("/500")]["page_url"] == site.url()
    assert "nested too deep" in rows()[site.url("/deep")]["detail"]
    assert rows()[site.url("/1.jpg")]["bytes"]


def test_what_the_crawl_says_is_json(site: HostileSite, run_crawl, tmp_path: Path) -> None:
    site.on("/", "<html>")
    run_crawl(site.url(), run="manual__2026-01-01T00:00:00+00:00")
    (path,) = (tmp_path / "landing").glob("*/site/_stats.json")
    assert path.parent.parent.name == "manual__2026-01-01T00_00_00_00_00"
    assert json.loads(path.read_text())["outcome"] == "finished"
