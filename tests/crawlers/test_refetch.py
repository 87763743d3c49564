"""Images fetched again for evidence, from sites that may have changed or turned hostile."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from copywatch.errors import SitesFileError
from copywatch.refetch import Wanted, refetch
from copywatch.settings import Settings
from tests.crawlers.hostile_site import Handler, HostileSite, jpeg, redirect, status


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def other_site() -> Iterator[HostileSite]:
    with HostileSite() as running:
        yield running


@pytest.fixture
def config(settings: Settings, tmp_path: Path) -> Settings:
    quick = {"crawl_timeout_seconds": 1.5, "sites_file": tmp_path / "sites.yaml"}
    return settings.model_copy(update=quick)


@pytest.fixture
def watch(config: Settings) -> Callable[..., None]:
    """Write the sites file: sites by name, as fields beside those that every site of a test has."""

    def write(**sites: dict[str, Any]) -> None:
        common = {"delay_seconds": 0, "allow_private_addresses": True}
        rows = [{"name": name.replace("_", "-"), **common, **fields} for name, fields in sites.items()]
        with config.sites_file.open("w") as file:
            YAML().dump({"sites": rows}, file)

    return write


def outcomes(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.name == "copywatch.refetch")


def test_what_is_still_there_comes_back_and_nothing_else(
    site: HostileSite,
    other_site: HostileSite,
    config: Settings,
    watch: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def endless(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n")
        while True:
            handler.wfile.write(bytes(65536))

    def hangs(handler: Handler) -> None:
        time.sleep(10)

    watch(lumen={"start": site.url()}, second_site={"start": other_site.url()})
    there = {"/there.jpg": jpeg(1), "/redirected.jpg": jpeg(2), "/twice.jpg": jpeg(3)}
    site.on("/there.jpg", there["/there.jpg"])
    site.on("/redirected.jpg", redirect("/now-here.jpg"))
    site.on("/now-here.jpg", there["/redirected.jpg"])
    site.on("/twice.jpg", there["/twice.jpg"])
    site.on("/changed.jpg", jpeg(99))
    site.on("/page.jpg", "<html>it was removed</html>")
    site.on("/huge.jpg", jpeg(5, 200_000))
    site.on("/endless.jpg", endless)
    site.on("/hangs.jpg", hangs)
    site.on("/broken.jpg", status(500))
    site.on("/metadata.jpg", redirect("http://169.254.169.254/latest/meta-data"))
    site.on("/robots.txt", "User-agent: *\nDisallow: /private/")
    site.on("/private/x.jpg", jpeg(7))
    other_site.on("/a.jpg", jpeg(8))
    lost = {
        "/changed.jpg": "another file", "/gone.jpg": "HTTP 404", "/page.jpg": "HTML", "/huge.jpg": "too many bytes",
        "/endless.jpg": "too many bytes", "/hangs.jpg": "timed out", "/broken.jpg": "HTTP 500",
        "/metadata.jpg": "link-local", "/private/x.jpg": "forbidden by robots.txt",
    }  # fmt: skip
    wanted = [Wanted("lumen", site.url(path), sha256(data)) for path, data in there.items()]
    # The same file was seen twice, and once there was another at its address.
    wanted += [wanted[-1], Wanted("lumen", site.url("/twice.jpg"), "1" * 64)]
    wanted += [Wanted("lumen", site.url(path), f"{number:064x}") for number, path in enumerate(lost)]
    wanted += [Wanted("second-site", other_site.url("/a.jpg"), sha256(jpeg(8)))]
    with caplog.at_level(logging.INFO):
        found = refetch(wanted, config)
    assert found == {sha256(data): data for data in [*there.values(), jpeg(8)]}
    assert site.times("/twice.jpg") == 1
    assert site.times("/private/x.jpg") == 0
    assert site.times("/") == other_site.times("/") == 0, "no page is read"
    told = outcomes(caplog)
    lines = {path: line for path in lost for line in told.splitlines() if site.url(path) in line}
    assert [path for path, words in lost.items() if words not in lines[path]] == []
    assert "4 of 13 addresses have the same file" in told
    assert told.count("the same file") == 5
    assert list(config.landing.iterdir()) == [], "nothing is left of what passed through"
    asked = next(headers for path, _, headers in site.server.asked if path == "/there.jpg")
    assert asked["Referer"] == site.url("/")


def test_private_addresses_are_refused_unless_the_site_is_inside(
    site: HostileSite, config: Settings, watch: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    watch(lumen={"start": "https://photos.example/", "allow_private_addresses": False})
    site.on("/1.jpg", jpeg(1))
    # The port is one of those that a crawl may connect to on no host.
    urls = [site.url("/1.jpg"), "http://127.0.0.1/1.jpg", "http://[::1]/1.jpg", "http://localhost/1.jpg"]
    urls += ["file:///etc/passwd", "http://[broken/x.jpg", "x" * 3000]
    with caplog.at_level(logging.INFO):
        assert refetch([Wanted("lumen", url, sha256(jpeg(1))) for url in urls], config) == {}
    assert site.server.asked == []
    assert f"0 of {len(urls)} addresses" in outcomes(caplog)
    assert outcomes(caplog).count("address not allowed") >= len(urls) - 1


def test_image_hosts_hold(
    site: HostileSite, config: Settings, watch: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    watch(lumen={"start": site.url(), "image_hosts": ["cdn.example"], "max_images": 1})
    site.on("/1.jpg", jpeg(1))
    with caplog.at_level(logging.INFO):
        assert refetch([Wanted("lumen", site.url("/1.jpg"), sha256(jpeg(1)))], config) == {}
    assert site.times("/1.jpg") == 0
    assert "not among the site's image_hosts" in outcomes(caplog)


@pytest.mark.parametrize("fields", [None, {"enabled": False}])
def test_a_site_that_is_watched_no_more_is_not_asked(
    site: HostileSite,
    config: Settings,
    watch: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    fields: dict[str, Any] | None,
) -> None:
    watch(
        still={"start": "https://photos.example/"},
        **({} if fields is None else {"gone": {"start": site.url()} | fields}),
    )
    with caplog.at_level(logging.INFO):
        assert refetch([Wanted("gone", site.url("/1.jpg"), sha256(jpeg(1)))], config) == {}
    assert site.server.asked == []
    assert "the site is not watched now" in outcomes(caplog)


def test_more_images_than_a_crawl_of_the_site_may_have(
    site: HostileSite, config: Settings, watch: Callable[..., None]
) -> None:
    watch(lumen={"start": site.url(), "max_images": 2})
    for number in range(9):
        site.on(f"/{number}.jpg", jpeg(number))
    small = config.model_copy(update={"shard_bytes": 5000})
    wanted = [Wanted("lumen", site.url(f"/{number}.jpg"), sha256(jpeg(number))) for number in range(9)]
    assert len(refetch(wanted, small)) == 9


def test_the_time_of_a_site_ends_and_the_next_one_is_asked(
    site: HostileSite,
    other_site: HostileSite,
    config: Settings,
    watch: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def drips(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.2)

    watch(a_slow={"start": site.url()}, b_next={"start": other_site.url()})
    for number in range(40):
        site.on(f"/{number}.jpg", drips)
    other_site.on("/1.jpg", jpeg(1))
    short = config.model_copy(update={"crawl_site_seconds": 2})
    wanted = [Wanted("a-slow", site.url(f"/{number}.jpg"), f"{number:064x}") for number in range(40)]
    with caplog.at_level(logging.INFO):
        found = refetch([*wanted, Wanted("b-next", other_site.url("/1.jpg"), sha256(jpeg(1)))], short)
    assert list(found) == [sha256(jpeg(1))]
    assert sum(site.times(f"/{number}.jpg") > 0 for number in range(40)) < 40
    assert "the time that the site may take was over" in outcomes(caplog)


def test_a_child_that_dies_costs_its_site_only(
    site: HostileSite,
    other_site: HostileSite,
    config: Settings,
    watch: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from copywatch import crawl as crawling

    watch(a_deadly={"start": site.url()}, b_next={"start": other_site.url()})
    other_site.on("/1.jpg", jpeg(1))
    honest = crawling._run_child
    calls = []

    def die_once(scratch: Path, limit: float) -> str | None:
        calls.append(scratch)
        return "the crawl's process was ended by signal 9" if len(calls) == 1 else honest(scratch, limit)

    monkeypatch.setattr(crawling, "_run_child", die_once)
    wanted = [Wanted("a-deadly", site.url("/1.jpg"), "0" * 64)]
    with caplog.at_level(logging.INFO):
        found = refetch([*wanted, Wanted("b-next", other_site.url("/1.jpg"), sha256(jpeg(1)))], config)
    assert list(found) == [sha256(jpeg(1))]
    assert "ended by signal 9" in outcomes(caplog)


def test_hostile_addresses_make_no_lines_in_the_log(
    config: Settings, watch: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    watch(lumen={"start": "https://photos.example/"})
    evil = "http://x.example/a\nERROR root: forged\u202e.jpg"
    with caplog.at_level(logging.INFO):
        assert refetch([Wanted("no\nsite", evil, "0" * 64), Wanted("lumen", "data:\n\nx", "0" * 64)], config) == {}
    assert not any(line.startswith("ERROR root") for line in outcomes(caplog).splitlines())
    assert "\u202e" not in outcomes(caplog)


def test_what_a_death_leaves_is_cleared_by_maintenance(
    config: Settings, watch: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from copywatch import refetch as module
    from copywatch.lake import landing

    watch(lumen={"start": "https://photos.example/"})

    def die(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "crawl", die)
    monkeypatch.setattr(landing, "forget", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        refetch([Wanted("lumen", "https://photos.example/1.jpg", "0" * 64)], config)
    (left,) = config.landing.iterdir()
    assert (left / landing.RELEASED_FILE).exists()


def test_nothing_wanted_needs_no_sites_file(config: Settings) -> None:
    assert refetch([], config) == {}
    with pytest.raises(SitesFileError, match="there is no such file"):
        refetch([Wanted("lumen", "https://photos.example/1.jpg", "0" * 64)], config)
