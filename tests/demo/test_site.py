"""The demo site, over real HTTP: its pages, what it says of each photo, its counters, its second round."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from parsel import Selector
from starlette.testclient import TestClient

from copywatch.demo.planting import OWNER_WORK, Planted, Planting, plant
from copywatch.demo.site import create_misbehaving_site, create_site, misbehaving_sites_yaml, sites_yaml
from copywatch.sites import Selectors, load_sites

TOKEN = "a token"
AUTHORISED = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Running:
    """The site as a process."""

    base: str
    owner: str
    forbidding: str
    process: subprocess.Popen[str]


Begin = Callable[[], Running]


@pytest.fixture(scope="module")
def begin(start: Callable[..., subprocess.Popen[str]], free_port: Callable[[], int]) -> Begin:
    """Start a site of one's own, for what changes it or counts its requests."""

    def begin_one() -> Running:
        port, owner, forbidding = free_port(), free_port(), free_port()
        base = f"http://127.0.0.1:{port}"
        arguments = ["--port", port, "--owner-port", owner, "--forbidding-port", forbidding, "--token", TOKEN]
        process = start("copywatch.demo.site", *arguments, url=f"{base}/robots.txt")
        return Running(base, f"http://localhost:{owner}", f"http://127.0.0.1:{forbidding}", process)

    return begin_one


@pytest.fixture(scope="module")
def running(begin: Begin) -> Running:
    """A site that tests only read."""
    return begin()


@pytest.fixture
def web() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=10) as client:
        yield client


@dataclass(frozen=True)
class Seen:
    """An image as a crawler finds it on a page."""

    page: str
    uploader: str
    uploaded_at: datetime


def crawl(web: httpx.Client, base: str) -> tuple[dict[str, httpx.Response], dict[str, Seen]]:
    """Every page that links lead to, and every image on them, read with the selectors that sites have by default."""
    select, host = Selectors(), urlsplit(base).netloc
    to_do, pages, images = [f"{base}/"], {}, {}
    while to_do:
        address = to_do.pop()
        if address in pages:
            continue
        pages[address] = web.get(address)
        document = Selector(pages[address].text)
        links = (urljoin(address, str(link)) for link in document.css("a::attr(href)").getall())
        to_do += [link for link in links if urlsplit(link).netloc == host]
        for item in document.css(select.item):
            uploaders = [name for css in select.uploader for name in item.css(f"{css}::text").getall()]
            dates = item.css("time[datetime]::attr(datetime)").getall()
            for source in item.css("img::attr(src)").getall():
                seen = Seen(urlsplit(address).path, uploaders[0], datetime.fromisoformat(dates[0]))
                images[urljoin(address, source)] = seen
    return pages, images


def assert_shown_as_planted(shown: dict[str, Seen], expected: list[Planted], planting: Planting) -> None:
    by_file = {}
    for address, seen in shown.items():
        image = planting.at(address)
        assert image is not None, address
        by_file[image.file] = seen
    assert sorted(by_file) == sorted(image.file for image in expected)
    for image in expected:
        seen = by_file[image.file]
        assert (seen.uploader, seen.uploaded_at) == (image.uploader, image.uploaded_at), image.file


def test_a_crawl_finds_everything_then_three_new_ones(begin: Begin, web: httpx.Client) -> None:
    running, planting = begin(), plant()
    pages, images = crawl(web, running.base)
    assert {response.status_code for response in pages.values()} == {200}
    assert len([address for address in pages if "/gallery" in address]) == 3
    assert_shown_as_planted(images, list(planting.of_round(1)), planting)
    for image in planting.of_round(1):
        assert image.page in {urlsplit(address).path for address in pages}

    for address in images:
        image = planting.at(address)
        assert image is not None
        response = web.get(address)
        content = image.content()
        assert response.status_code == (404 if content is None else 200), address
        assert content is None or response.content == content
    hot = next(address for address in images if OWNER_WORK in address)
    assert hot.startswith(running.owner)

    counted = web.get(f"{running.base}/-/requests", headers=AUTHORISED).json()
    assert (counted["round"], counted["images"], counted["last"]) == (1, len(images), len(images))
    assert set(counted["by_path"]) == {image.image_path for image in planting.of_round(1)}

    for image in planting.of_round(2):
        assert web.get(running.base + image.page).status_code == 404
        assert web.get(running.base + image.image_path).status_code == 404
    before = web.get(f"{running.base}/-/requests", headers=AUTHORISED).json()["last"]
    posted = web.post(f"{running.base}/-/publish-round/2", headers=AUTHORISED).json()
    assert [post["page"] for post in posted["posted"]] == [image.page for image in planting.of_round(2)]

    _, later = crawl(web, running.base)
    assert_shown_as_planted(later, list(planting.images), planting)
    new = set(later) - set(images)
    assert len(new) == 3
    for address in new:
        assert web.get(address).status_code == 200
    counted = web.get(f"{running.base}/-/requests", params={"after": before}, headers=AUTHORISED).json()
    assert counted["by_path"] == {image.image_path: 1 for image in planting.of_round(2)}
    assert {request["status"] for request in counted["requests"]} == {200}


def test_sitemap_and_robots(running: Running, web: httpx.Client) -> None:
    robots = web.get(f"{running.base}/robots.txt").text
    sitemap = re.search(r"Sitemap: (\S+)", robots)
    assert sitemap is not None
    addresses = Selector(web.get(sitemap[1]).text, type="xml").xpath("//*[local-name()='loc']/text()").getall()
    assert f"{running.base}/photo/1016-red-barn" in addresses
    assert {web.get(address).status_code for address in addresses} == {200}
    assert "Disallow: /\n" in web.get(f"{running.forbidding}/robots.txt").text


def test_an_unchanged_image_is_not_sent_again(running: Running, web: httpx.Client) -> None:
    address = f"{running.base}/media/bolt.jpg"
    tag = web.get(address).headers["etag"]
    again = web.get(address, headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_owner_shows_own_photos_only(running: Running, web: httpx.Client) -> None:
    page = web.get(f"{running.owner}/").text
    assert "Bruno Castellani" in page
    assert web.get(f"{running.owner}/portfolio/21.jpg").status_code == 200
    assert web.get(f"{running.owner}/portfolio/03.jpg").status_code == 404


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}])
def test_the_demos_own_addresses_need_the_token(running: Running, web: httpx.Client, headers: dict[str, str]) -> None:
    assert web.get(f"{running.base}/-/requests", headers=headers).status_code == 403
    assert web.post(f"{running.base}/-/publish-round/2", headers=headers).status_code == 403
    assert web.get(f"{running.base}/photo/1034-snowmelt").status_code == 404


def test_names_are_escaped() -> None:
    client = TestClient(create_site(plant(), token=TOKEN, owner_url="http://localhost:1"), base_url="http://localhost")
    page = client.get("/members/finn").text
    assert "Finn &lt;3 film" in page
    assert "Finn <3" not in page


def test_another_host_name_is_refused() -> None:
    client = TestClient(
        create_site(plant(), token=TOKEN, owner_url="http://localhost:1"), base_url="http://evil.example"
    )
    assert client.get("/").status_code == 400


def test_misbehaving_pages_misbehave() -> None:
    client = TestClient(create_misbehaving_site(slow_seconds=0.3), follow_redirects=False)
    assert [client.get(f"/status/{status}").status_code for status in (404, 429, 500)] == [404, 429, 500]
    assert client.get("/status/429").headers["retry-after"] == "120"
    first = client.get("/loop").headers["location"]
    second = client.get(first).headers["location"]
    assert client.get(second).headers["location"] == first
    begun = time.monotonic()
    assert client.get("/slow").status_code == 200
    assert time.monotonic() - begun >= 0.3


def test_mixed_page_leads_to_its_images(running: Running, web: httpx.Client) -> None:
    page = f"{running.base}/misbehaving/mixed"
    sources = Selector(web.get(page).text).css("img::attr(src)").getall()
    answers = {s.rsplit("/", 1)[1]: web.get(urljoin(page, s)).status_code for s in sources if not s.endswith("slow")}
    assert answers == {"loop": 302, "404": 404, "429": 429, "500": 500, "picture.jpg": 200}


def test_sites_files_are_valid(tmp_path: Path) -> None:
    path = tmp_path / "sites.yaml"
    path.write_text(sites_yaml(8100, 8101, every="30m"))
    (site,) = load_sites(path).sites
    assert (site.name, site.start, site.every.total_seconds()) == ("lumen", ["http://127.0.0.1:8100/"], 1800)
    path.write_text(misbehaving_sites_yaml(8100, 8102, 8103))
    sites = load_sites(path).sites
    assert len(sites) == 8
    assert all(site.allow_private_addresses for site in sites)


def test_sigterm_stops_it(begin: Begin, web: httpx.Client) -> None:
    running = begin()
    web.get(f"{running.base}/")  # the connection stays open: it must not hold the server up
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(timeout=5) in (0, -signal.SIGTERM)


def test_a_taken_port_is_said(running: Running, free_port: Callable[[], int]) -> None:
    taken = urlsplit(running.base).port
    command = [sys.executable, "-m", "copywatch.demo.site", "--token", "t", "--port", str(taken)]
    command += ["--owner-port", str(free_port())]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "include")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{taken}" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_dies_with_its_parent(free_port: Callable[[], int]) -> None:
    port, owner = free_port(), free_port()
    parent_program = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-m', 'copywatch.demo.site', '--port', '{port}', "
        f"'--owner-port', '{owner}', '--token', 't'], stdout=subprocess.PIPE, text=True)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "include")}
    parent = subprocess.Popen(
        [sys.executable, "-c", parent_program], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline().strip().isdigit()
    until = time.monotonic() + 10
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/robots.txt")
            break
        except httpx.TransportError:
            assert time.monotonic() < until
            time.sleep(0.1)
    parent.kill()
    parent.communicate()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            httpx.get(f"http://127.0.0.1:{port}/robots.txt")
        except httpx.TransportError:
            return
        time.sleep(0.1)
    pytest.fail("the site outlived its parent")
