"""The made site, and that what is counted about a crawl of it is what the site knows of itself."""

from __future__ import annotations

import hashlib
import http.client
import shutil
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import made_site
from benchmarks.crawl_cost import (
    NEW,
    REPLACED,
    STEPS,
    Crawl,
    Tool,
    by_copywatch,
    by_wget,
    crawls,
    goals,
    killed,
    landed,
    rows,
    saved,
)
from benchmarks.made_site import MadeSite, Traffic, noise, serving

IMAGES = 300


def status_of(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    told = {name.lower(): value for name, value in answer.getheaders()}
    body = answer.read()
    connection.close()
    return answer.status, told, body


def on_pages(site: MadeSite) -> list[str]:
    """Addresses of the images in the pages' files, in order."""
    files = [site.root / ("index.html" if path == "/" else path[1:]) for path in site.pages]
    texts = [file.read_text(encoding="utf-8").split('src="')[1:] for file in files]
    return [piece.partition('"')[0] for text in texts for piece in text]


def test_each_number_is_an_image_of_its_own_and_always_the_same() -> None:
    files = [noise(number) for number in range(40)]
    assert files == [noise(number) for number in range(40)]
    assert len(set(files)) == 40
    assert all(2_000 < len(file) < 32_000 and file.startswith(b"\xff\xd8") for file in files)


def test_new_images_are_at_the_front_in_the_middle_and_at_the_end(tmp_path: Path) -> None:
    site = MadeSite(tmp_path / "site", 250, 25)
    before = on_pages(site)
    assert before == [f"/images/{number:06d}.jpg" for number in range(250)]
    assert len(site.pages) == 3
    new = site.add()
    after = on_pages(site)
    assert len(new) == len(set(new)) == 25
    assert [path for path in after if path not in new] == before
    places = [after.index(path) for path in new]
    assert places == [*range(10), *range(135, 142), *range(267, 275)]
    site.reset()
    assert on_pages(site) == before


def test_replaced_images_have_other_bytes_until_it_is_reset(tmp_path: Path) -> None:
    site = MadeSite(tmp_path / "site", 120, 0)
    before, files = site.listed, {path.name: path.read_bytes() for path in (site.root / "images").iterdir()}
    changed = site.replace(5)
    now = {path.name: path.read_bytes() for path in (site.root / "images").iterdir()}
    assert [f"/images/{name}" for name in sorted(now) if now[name] != files[name]] == sorted(changed)
    assert len(changed) == 5
    assert site.listed == {hashlib.sha256(file).hexdigest() for file in now.values()}
    assert len(site.listed & before) == 115
    site.reset()
    assert {path.name: path.read_bytes() for path in (site.root / "images").iterdir()} == files
    assert site.listed == before


@pytest.mark.parametrize("name", ["nginx", "Starlette"])
def test_the_server_tells_what_it_sent(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "Starlette":
        monkeypatch.setattr(made_site.shutil, "which", lambda *_, **__: None)
    elif not shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin"):
        pytest.skip("nginx is not installed (Debian: apt-get install nginx-light)")
    site = MadeSite(tmp_path / "site", 5, 0)
    with serving(site.root, tmp_path / "server") as server:
        assert server.name == name
        path = site.path(3)
        status, told, body = status_of(server.port, path)
        assert status == 200
        assert hashlib.sha256(body).hexdigest() == site.digests[3]
        assert status_of(server.port, path, If_None_Match=told["etag"])[0] == 304
        assert status_of(server.port, path, If_Modified_Since=told["last-modified"])[0] == 304
        assert status_of(server.port, path, "HEAD")[0] == 200
        assert status_of(server.port, "/none.jpg")[0] == 404
        assert status_of(server.port, f"http://127.0.0.1{path}")[2] == body
        assert len(status_of(server.port, "/")[2]) > 300
        seen = server.traffic()
        assert seen.answers == {("GET", 200): 3, ("GET", 304): 2, ("HEAD", 200): 1, ("GET", 404): 1}
        assert seen.downloads == {path: 2}
        assert 2 * len(body) < seen.sent < 2 * len(body) + 10_000
        assert server.traffic().requests == 0


def crawl(tool: str, step: str, seconds: float, requests: int, sent: int, found: int = 0) -> Crawl:
    downloads = Counter({f"/images/{number}.jpg": 1 for number in range(sent)})
    traffic = Traffic(Counter({("GET", 200): requests}), 1000 * requests, downloads)
    return Crawl(tool, step, seconds, seconds / 2, traffic, listed=100, missing=0, of_step=found)


def test_the_goals_by_hand() -> None:
    done = [
        *(crawl("ours", "first", seconds, 1000, 100) for seconds in (10, 30, 12)),
        *(crawl("theirs", "first", seconds, 900, 100) for seconds in (20, 10, 20)),
        crawl("ours", "again", 1, 10, 0),
        crawl("theirs", "again", 1, 150, 0),
        crawl("ours", "new", 1, 40, 25, 24),
        crawl("theirs", "new", 1, 40, 25, 25),
    ]
    told = {str(row["goal"]): (row["measured"], row["met"]) for row in goals(done, "ours", 25)}
    # Ratios of the rounds are 0.5, 3 and 0.6.
    assert told == {
        "first crawl: seconds by those of theirs, <= 1": ("0.6", "yes"),
        "second crawl: requests of theirs by ours, >= 20": ("15", "no"),
        "second crawl: requests by the first's, <= 0.02": ("0.01", "yes"),
        "second crawl: images downloaded, 0": ("0", "yes"),
        "after 25 new: images downloaded, 25": ("25", "yes"),
        "after 25 new: of them found, 25": ("24", "no"),
    }
    first = rows(done, "first")[0]
    assert (first["seconds"], first["images/s"], first["requests"], first["MB sent"]) == ("12.0", "8", 1000, "1.00")
    assert rows(done, "again")[1]["% of the first's requests"] == pytest.approx(150 / 9)


def test_crawls_are_counted_as_the_site_knows_them(tmp_path: Path) -> None:
    if shutil.which("wget") is None:
        pytest.skip("wget is not installed")
    site = MadeSite(tmp_path / "site", IMAGES, NEW)
    tools = [
        Tool("copywatch", by_copywatch, landed),
        Tool("wget", by_wget("--no-if-modified-since"), saved),
    ]
    with serving(site.root, tmp_path / "server") as server:
        done = {(one.tool, one.step): one for one in crawls(site, server, tools, 1, tmp_path / "crawls")}
        death = killed(site, server, 0.5, tmp_path / "killed")
    assert set(done) == {(tool.name, step) for tool in tools for step in STEPS}
    for tool in ("copywatch", "wget"):
        first, again, new = (done[tool, step] for step in STEPS[:3])
        assert first.traffic.downloads == {site.path(number): 1 for number in range(IMAGES)}
        assert (first.listed, first.missing) == (IMAGES, 0)
        assert first.traffic.answers["GET", 200] == IMAGES + 3
        assert again.traffic.downloads.total() == again.missing == 0
        assert new.traffic.downloads == {site.path(number): 1 for number in range(IMAGES, IMAGES + NEW)}
        assert (new.listed, new.missing, new.of_step) == (IMAGES + NEW, 0, NEW)
        assert all(one.seconds > 0 and one.processor > 0 for one in (first, again, new))
    # It asks for all, every time; what we ask for is bounded: at least 150 requests may be made for what is known.
    assert done["wget", "again"].traffic.requests >= IMAGES
    assert done["copywatch", "again"].traffic.requests <= 152
    assert done["wget", "changed"].of_step == REPLACED
    assert done["copywatch", "changed"].of_step <= done["copywatch", "changed"].traffic.downloads.total() <= REPLACED
    # Fewer images than a shard has rows: nothing was safe, and all is fetched again.
    assert IMAGES / 2 <= death.before < IMAGES
    assert (death.safe, death.after, death.missing) == (0, IMAGES, 0)
    assert death.twice == death.before
