"""The thresholds page: what it shows, who may choose, and that matching goes by what was chosen."""

from __future__ import annotations

import hashlib
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from parsel import Selector

BROWSER = {"Sec-Fetch-Site": "same-origin", "Origin": "http://testserver"}
NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
ATTACK = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
MEASURE = {"algorithm": "mao/1", "rule": "rescored"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.integration

Calibrated = Callable[..., Any]


@pytest.fixture
def calibrated(ledger_url: str) -> Calibrated:
    """Write a calibration of random fingerprints as the job does; returns what was measured."""

    def write(
        run: str = "run-1",
        *,
        rate: float = 0.01,
        hours: int = 0,
        images: list[Any] | None = None,
        algorithm: str = "mao/1",
        rule: str = "rescored",
        seed: int = 7,
        same: tuple[int, ...] = (),
    ) -> Any:
        from copywatch.fingerprint import algorithm_named
        from copywatch.lake.schemas import THRESHOLDS
        from copywatch.lake.tables import create_tables, replace_rows
        from copywatch.matching import search_code_of
        from copywatch.matching.calibration import Pictures, calibrate
        from copywatch.matching.calibration_rows import Measured, rows_of_calibration
        from copywatch.matching.pair_distances import CodeDistances
        from copywatch.settings import settings

        mao = algorithm_named("mao")
        codes = np.random.default_rng(seed).integers(0, 256, (60, mao.code_bytes), dtype=np.uint8)
        codes[list(same)] = codes[0]
        pictures = Pictures.different(60)
        pictures.supposed[list(same)] = 0
        found = calibrate(CodeDistances(codes, search_code_of(mao)), pictures, rate)
        named = images or [Measured(f"{number:032x}", True, f"originals/{number}") for number in range(60)]
        create_tables(settings().warehouse)
        rows = rows_of_calibration(found, named, algorithm=algorithm, rule=rule, at=NOW + timedelta(hours=hours))
        replace_rows(settings().warehouse, THRESHOLDS, rows, run=run)
        return found

    return write


def choose(client: Any, method: str, run: str | None = None, **options: Any) -> Any:
    headers = options.pop("headers", BROWSER)
    return client.post("/copywatch/thresholds/choice", json=MEASURE | {"method": method, "run": run} | options,
                       headers=headers)  # fmt: skip


def in_force() -> Any:
    """What a match that starts now would go by."""
    from copywatch.settings import settings
    from copywatch.threshold import threshold_in_force

    return threshold_in_force(settings())


def chosen() -> list[Any]:
    from copywatch.ledger import thresholds
    from copywatch.ledger.database import session

    with session() as opened:
        return list(thresholds.history(opened, "mao/1", "rescored", limit=100))


def words(selected: Any) -> str:
    return " ".join(" ".join(selected.css("::text").getall()).split())


class TestPage:
    def test_before_anything_was_calibrated(self, client_of):
        from copywatch.matching.score import RESCORED_THRESHOLD

        page = Selector(client_of("ADMIN").get("/copywatch/thresholds").text)
        assert "Nothing has been calibrated yet" in words(page)
        assert page.css("#in-force::text").get() == f"{RESCORED_THRESHOLD:.4f}"
        assert page.css(".force li.standing .mark::text").get() == "nobody has chosen: this is the default"

    def test_shows_the_figures_of_a_calibration(self, client_of, calibrated):
        found = calibrated()
        client = client_of("VIEWER")
        page = Selector(client.get("/copywatch/thresholds").text)
        (article,) = page.css("article.calibration")
        head = words(article.css(".head"))
        for text in ("2026-11-20 09:00 UTC", "60 images", "1,770 pairs", "rate 0.01", "run-1"):
            assert text in head
        told = {one.attrib["data-method"]: words(one) for one in article.css(".method")}
        assert f"Th = {found.normal_threshold:.4f}" in told["normal"]
        assert f"Th = {found.tail_threshold:.4f}" in told["tail"]
        assert f"{found.tail_within} of 1,770 pairs lie within" in told["tail"]
        safer = "tail" if found.tail_threshold < found.normal_threshold else "normal"
        assert "the safer" in told[safer]
        assert sum("the safer" in one for one in told.values()) == 1
        assert article.css(".method.standing::attr(data-method)").getall() == [safer]
        assert found.note in words(article)
        plot = client.get(article.css("img.plot::attr(src)").get())
        assert (plot.headers["content-type"], plot.content[:8]) == ("image/png", b"\x89PNG\r\n\x1a\n")
        again = client.get("/copywatch/thresholds/run-1/plot.png", headers={"If-None-Match": plot.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")

    def test_too_few_pairs_for_the_rate_are_told_and_change_nothing(self, client_of, calibrated):
        from copywatch.matching.score import RESCORED_THRESHOLD

        calibrated(rate=1e-6)
        article = Selector(client_of("VIEWER").get("/copywatch/thresholds").text).css("article.calibration")
        assert "a rate below 1 / 1,770 = 5.6e-04 cannot be measured" in words(article.css(".notice"))
        assert "needs a person's look" in words(article.css(".head"))
        assert not article.css(".standing")
        assert in_force().value == RESCORED_THRESHOLD

    def test_closest_pairs_with_the_pictures_that_are_kept(self, client_of, calibrated, picture_bytes):
        from copywatch.images import image_store
        from copywatch.matching.calibration_rows import Measured

        kept = image_store().put(picture_bytes("red", (900, 600)), "originals")
        images = [Measured(f"{n:032x}", n < 30, kept if n < 30 else f"https://web.example/{n}.jpg") for n in range(60)]
        found = calibrated(images=images, same=(0, 1))
        client = client_of("VIEWER")
        pairs = Selector(client.get("/copywatch/thresholds").text).css(".closest li")
        assert len(pairs) == len(found.closest) == 20
        assert pairs[0].css(".number::text").get() == "0.0000"
        assert "left out, nobody has judged" in words(pairs[0])
        for place, (shown, pair) in enumerate(zip(pairs, found.closest, strict=True)):
            protected = [side for side in ("one", "other") if getattr(pair, side) < 30]
            assert shown.css("img::attr(src)").getall() == [
                f"/copywatch/thresholds/run-1/pairs/{place}/{side}.jpg" for side in protected
            ]
            for side in ("one", "other"):
                answer = client.get(f"/copywatch/thresholds/run-1/pairs/{place}/{side}.jpg")
                assert answer.status_code == (200 if side in protected else 404)
        assert client.get(pairs[0].css("img::attr(src)").get()).headers["content-type"] == "image/jpeg"
        assert "https://web.example/" in words(pairs)
        for path in ("run-1/pairs/20/one.jpg", "run-2/pairs/0/one.jpg", "run-2/plot.png"):
            assert client.get(f"/copywatch/thresholds/{path}").status_code == 404

    def test_hostile_text_stays_text(self, client_of, calibrated):
        from copywatch.ledger import thresholds
        from copywatch.ledger.database import session
        from copywatch.matching.calibration_rows import Measured

        addresses = [ATTACK, "javascript:alert(3)"]
        calibrated(images=[Measured(ATTACK, False, addresses[number % 2]) for number in range(60)])
        calibrated(ATTACK, algorithm=ATTACK)
        with session() as opened:
            thresholds.choose(opened, **MEASURE, method="tail", by=ATTACK, threshold=0.1, calibration_run=ATTACK)
        client = client_of("ADMIN")
        for page in ("/copywatch/thresholds", "/copywatch/thresholds?of=" + f"{ATTACK} rescored".replace(" ", "%20")):
            html = client.get(page).text
            assert "<script>alert" not in html
            assert "onerror=alert(2)>" not in html
            assert 'href="javascript:' not in html
        assert client.get("/copywatch/thresholds").status_code == 200

    def test_older_calibrations_are_on_further_pages(self, client_of, calibrated):
        from copywatch_pages.thresholds_page import PAGE_CALIBRATIONS

        for number in range(PAGE_CALIBRATIONS + 1):
            calibrated(f"run-{number}", hours=number)
        first = Selector(client_of("VIEWER").get("/copywatch/thresholds").text)
        newest_first = [f"run-{number}" for number in reversed(range(1, PAGE_CALIBRATIONS + 1))]
        assert first.css("article::attr(data-run)").getall() == newest_first
        (link,) = first.css(".pages a::attr(href)").getall()
        assert Selector(client_of("VIEWER").get(link).text).css("article::attr(data-run)").getall() == ["run-0"]

    def test_of_another_rule_and_of_an_earlier_version(self, client_of, calibrated):
        calibrated("run-1", rule="paper")
        calibrated("run-2", algorithm="mao/0")
        client = client_of("ADMIN")
        page = Selector(client.get("/copywatch/thresholds").text)
        options = page.css(".filter option::attr(value)").getall()
        assert options == ["mao/1 rescored", "mao/0 rescored", "mao/1 paper"]
        assert not page.css("article")
        paper = Selector(client.get("/copywatch/thresholds?of=mao/1 paper").text)
        assert paper.css("article::attr(data-run)").getall() == ["run-1"]
        assert "Runs compare by mao/1, rule rescored" in words(paper)
        assert paper.css("button.choose")
        old = Selector(client.get("/copywatch/thresholds?of=mao/0 rescored").text)
        assert "earlier version" in words(old)
        assert not old.css("button.choose")
        assert choose(client, "tail", "run-2", algorithm="mao/0").status_code == 422
        assert client.get("/copywatch/thresholds?of=md5 rescored").status_code == 404

    def test_a_broken_table_is_said_and_nothing_is_made_up(self, client_of, calibrated):
        from pathlib import Path

        from copywatch.settings import settings

        calibrated()
        for part in (Path(settings().warehouse) / "thresholds").rglob("*.parquet"):
            part.write_bytes(b"broken")
        client = client_of("ADMIN")
        page = Selector(client.get("/copywatch/thresholds").text)
        assert "cannot be read" in words(page.css(".notice"))
        assert not page.css("#in-force")
        assert client.get("/copywatch/api/thresholds").status_code == 503
        assert choose(client, "tail", "run-1").status_code == 404

    def test_a_setting_that_wins_is_told(self, client_of, calibrated, monkeypatch):
        from copywatch.settings import settings

        calibrated()
        monkeypatch.setenv("COPYWATCH_THRESHOLD", "0.123")
        settings.cache_clear()
        page = Selector(client_of("ADMIN").get("/copywatch/thresholds").text)
        assert "COPYWATCH_THRESHOLD is set" in words(page.css(".notice"))
        assert page.css("#in-force::text").get() == "0.1230"

    def test_is_hardened_and_in_the_menus(self, client_of, calibrated):
        calibrated()
        client = client_of("ADMIN")
        for path in ("thresholds", "thresholds/run-1/plot.png", "api/thresholds"):
            headers = client.get(f"/copywatch/{path}").headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
        rows = Selector(client.get("/copywatch/runs/run-1").text).css("#thresholds tbody tr")
        assert [row.css("td:nth-child(3) ::text").get() for row in rows] == ["normal", "tail"]
        for page in ("review", "review/decided", "runs/run-1"):
            links = Selector(client.get(f"/copywatch/{page}").text).css(".bar nav a::attr(href)").getall()
            assert "/copywatch/thresholds" in links
        (ours,) = [one for one in client.get("/api/v2/plugins").json()["plugins"] if one["name"] == "copywatch"]
        (view,) = [one for one in ours["external_views"] if one["name"] == "Thresholds"]
        assert (view["href"], view["url_route"], view["category"]) == ("copywatch/thresholds", "thresholds", "admin")


class TestChoice:
    @pytest.mark.parametrize("method", ["normal", "tail"])
    def test_of_a_calibration_holds_although_a_later_one_says_otherwise(self, client_of, calibrated, method):
        found = calibrated("run-1", rate=0.05)
        calibrated("run-2", hours=1)
        wanted = getattr(found, f"{method}_threshold")
        answer = choose(client_of("ADMIN"), method, "run-1").json()
        assert answer["in_force"]["threshold"] == wanted
        assert in_force().value == wanted
        assert (in_force().run, in_force().method) == ("run-1", method)
        (row,) = chosen()
        assert (row.chosen_by, row.false_alarm_rate, row.pairs) == ("ADMIN-person", 0.05, 1770)
        page = Selector(client_of("VIEWER").get("/copywatch/thresholds").text)
        assert page.css("#in-force::text").get() == f"{wanted:.4f}"
        standing = page.css(".method.standing")
        assert standing.xpath("ancestor::article/@data-run").getall() == ["run-1"]
        assert standing.attrib["data-method"] == method
        assert "ADMIN-person" in words(page.css("#history"))

    def test_of_the_default_and_of_the_newest_again(self, client_of, calibrated):
        from copywatch.matching.score import RESCORED_THRESHOLD

        found = calibrated()
        client = client_of("ADMIN")
        assert in_force().value == found.safer
        choose(client, "default")
        assert in_force().value == RESCORED_THRESHOLD != found.safer
        choose(client, "default")
        choose(client, "newest")
        assert in_force().value == found.safer
        assert [row.method for row in chosen()] == ["newest", "default"]
        ways = Selector(client.get("/copywatch/thresholds").text).css(".force li")
        assert [way.attrib.get("class") for way in ways] == ["standing", None, None]

    def test_of_a_calibration_that_needs_a_person(self, client_of, calibrated):
        found = calibrated(rate=1e-6)
        assert choose(client_of("ADMIN"), "tail", "run-1").status_code == 200
        assert in_force().value == found.tail_threshold

    @pytest.mark.parametrize(
        ("changed", "status"),
        [({"run": "run-2"}, 404), ({"run": None}, 404), ({"method": "published"}, 422), ({"rule": "paper"}, 404),
         ({"rule": "other"}, 422), ({"algorithm": "mao/0"}, 422), ({"algorithm": "md5/1"}, 422),
         ({"algorithm": "dhash/1"}, 422), ({"run": "x" * 5000}, 413)],
    )  # fmt: skip
    def test_that_is_none(self, client_of, calibrated, changed, status):
        calibrated()
        body = MEASURE | {"method": "tail", "run": "run-1"} | changed
        answer = client_of("ADMIN").post("/copywatch/thresholds/choice", json=body, headers=BROWSER)
        assert answer.status_code == status
        assert chosen() == []

    def test_a_threshold_cannot_be_sent(self, client_of, calibrated):
        found = calibrated()
        choose(client_of("ADMIN"), "tail", "run-1", threshold=0.99)
        assert in_force().value == found.tail_threshold

    @pytest.mark.parametrize(("role", "may"), [("VIEWER", False), ("USER", False), ("OP", True), ("ADMIN", True)])
    def test_takes_an_administrator(self, client_of, calibrated, role, may):
        calibrated()
        client = client_of(role)
        page = Selector(client.get("/copywatch/thresholds").text)
        assert bool(page.css("button.choose")) is may
        assert ("may look, but not choose" in words(page)) is not may
        assert choose(client, "default").status_code == (200 if may else 403)
        assert len(chosen()) == int(may)

    @pytest.mark.parametrize(
        "headers",
        [{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, {"Origin": "https://evil.example"}, {}],
    )
    def test_of_another_site_is_refused(self, client_of, calibrated, headers):
        calibrated()
        assert choose(client_of("ADMIN"), "default", headers=headers).status_code == 403
        form = client_of("ADMIN").post("/copywatch/thresholds/choice", data=MEASURE | {"method": "default"},
                                       headers=BROWSER)  # fmt: skip
        assert form.status_code == 403
        assert chosen() == []

    def test_by_a_script_with_a_token(self, client_of, calibrated):
        found = calibrated()
        script = client_of("ADMIN", bearer=True)
        assert choose(script, "tail", "run-1", headers={}).status_code == 200
        listed = script.get("/copywatch/api/thresholds").json()
        assert (listed["algorithm"], listed["rule"]) == ("mao/1", "rescored")
        assert listed["in_force"] | {"source": ""} == {
            "threshold": found.tail_threshold, "source": "", "run": "run-1", "method": "tail",
        }  # fmt: skip
        assert {one["method"]: one["value"] for one in listed["thresholds"]} == {
            "tail": found.tail_threshold, "normal": found.normal_threshold,
        }  # fmt: skip


@pytest.mark.parametrize("job", ["match_images", "match_seen"])
def test_the_next_run_goes_by_what_was_chosen(client_of, calibrated, monkeypatch, job):
    """The job's own command line, with Spark itself left out."""
    import importlib
    from unittest.mock import MagicMock

    module = importlib.import_module(f"spark_jobs.{job}")
    used: list[float] = []
    entry = {"match_images": "match_run", "match_seen": "match_seen"}[job]
    monkeypatch.setattr(module, entry, lambda spark, run, algorithm, threshold, config: used.append(threshold) or [])
    monkeypatch.setattr(module, "SparkSession", MagicMock())
    monkeypatch.setattr(sys, "argv", [job, "--run", "run-9"])
    found = calibrated()
    for method in ("normal", "tail"):
        assert choose(client_of("ADMIN"), method, "run-1").status_code == 200
        module.main()
    assert used == [found.normal_threshold, found.tail_threshold]
    assert used[0] != used[1]


@pytest.fixture
def served(airflow_app: Any) -> Iterator[str]:
    """Airflow's application behind a real port."""
    import uvicorn

    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port = opened.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(airflow_app, host="127.0.0.1", port=port, lifespan="off", log_level="warning")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started and time.monotonic() < until:
        time.sleep(0.1)
    assert server.started
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(30)


@pytest.mark.e2e
def test_an_administrator_chooses_in_a_browser(served, client_of, calibrated, picture_bytes, tmp_path):
    if CHROMIUM is None:
        pytest.skip("no chromium: install it (Debian: apt-get install chromium) to run the browser tests")
    from playwright.sync_api import expect, sync_playwright

    from copywatch.images import image_store
    from copywatch.matching.calibration_rows import Measured

    colours = [f"#{hashlib.sha256(bytes([number])).hexdigest()[:6]}" for number in range(40)]
    kept = [image_store().put(picture_bytes(colour), "originals") for colour in colours]
    crawled = [f"https://web.example/photos/{number}.jpg" for number in range(20)]
    images = [Measured(f"{n:032x}", n < 40, address) for n, address in enumerate(kept + crawled)]
    found = calibrated("scheduled__1", rate=0.02, images=images, same=(0, 1))
    calibrated("manual__2", rate=1e-6, hours=2, images=images, seed=8)
    token = client_of("ADMIN").cookies["_token"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        context = chromium.new_context(viewport={"width": 1440, "height": 940}, base_url=served)
        context.add_cookies([{"name": "_token", "value": token, "url": served}])
        page = context.new_page()
        troubles: list[str] = []
        page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto("/copywatch/thresholds")
        article = page.locator("article.calibration[data-run='scheduled__1']")
        article.locator("summary").click()
        first = article.locator(".closest img").first
        first.scroll_into_view_if_needed()
        expect(first).to_have_js_property("complete", True)
        assert first.evaluate("image => image.naturalWidth") == 320
        page.screenshot(path=tmp_path / "thresholds.png", full_page=True)
        article.locator("[data-method='normal'] button.choose").click()
        expect(page.locator("#in-force")).to_have_text(f"{found.normal_threshold:.4f}", timeout=20_000)
        expect(page.locator("#history")).to_contain_text("ADMIN-person")
        assert page.evaluate("window.scrollY") == 0, "what is in force is in sight"
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": 700, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.screenshot(path=tmp_path / "chosen.png", full_page=True)
        chromium.close()
    assert troubles == []
    assert in_force().value == found.normal_threshold
