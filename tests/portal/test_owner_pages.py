"""What owners see: their own, all of it harmless, and nothing of anybody else's."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from parsel import Selector
from PIL import Image
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from copywatch.images import image_store
from copywatch.ledger.database import session
from copywatch.ledger.models import Review
from copywatch.portal.rendering import plain, web_address
from tests.portal.portal_steps import picture

SignedInBrowser = Callable[..., tuple[TestClient, int]]
Plant = Callable[..., int]

NASTY = "<script>alert(1)</script>\"' onerror=x \u202egnp.exe"


def test_empty_pages_are_friendly(signed_in: SignedInBrowser) -> None:
    client, _ = signed_in()
    overview = client.get("/").text
    assert "No copy was found so far." in overview
    assert "None of your images is registered yet." in overview
    assert "None of your images is registered yet." in client.get("/images").text
    assert "No copy was found so far." in client.get("/alerts").text
    assert "Ada" in Selector(overview).css(".out").get("")


def test_images_are_shown_with_what_became_of_them(signed_in: SignedInBrowser, plant_image: Plant) -> None:
    client, owner = signed_in()
    until = datetime(2031, 5, 6, tzinfo=UTC)
    plant_image(owner, filename="open.png")
    plant_image(owner, filename="dated.png", protected_until=until)
    plant_image(owner, filename="over.png", protected_until=datetime(2020, 1, 1, tzinfo=UTC))
    plant_image(owner, filename="new.png", state="received")
    plant_image(
        owner, filename="bad.png", state="refused", reason="truncated image", storage_address=None, protected_id=None
    )
    tiles = {
        tile.css(".name bdi::text").get(): " ".join("".join(tile.css("div ::text").getall()).split())
        for tile in Selector(client.get("/images").text).css(".tile")
    }
    assert "protected without end" in tiles["open.png"]
    assert "protected until 2031-05-06" in tiles["dated.png"]
    assert "ended on 2020-01-01" in tiles["over.png"]
    assert "being registered" in tiles["new.png"]
    assert "refused truncated image" in tiles["bad.png"]
    assert "no picture is kept" in tiles["bad.png"]
    assert "3 protected, 1 being registered, 1 refused" in " ".join(client.get("/").text.split())


def test_an_alert_says_all(signed_in: SignedInBrowser, plant_alert: Plant) -> None:
    client, owner = signed_in()
    alert = plant_alert(owner, 7, verdict=1, distance=0.125)
    for path in ("/", "/alerts", f"/alerts/{alert}"):
        page = Selector(client.get(path).text)
        facts = {
            " ".join(part.css("dt ::text").getall()): " ".join("".join(part.css("dd ::text").getall()).split())
            for part in page.css("dl div")
        }
        assert facts["How sure"] == "87.5% of the fingerprint agrees"
        assert facts["Uploaded by"] == "Bob"
        assert facts["Uploaded at"] == "2026-11-01 08:30 UTC"
        assert facts["Found at"] == "2026-11-20 09:00 UTC"
        assert facts["Alert"].startswith("mailed to you")
        assert "photo-community" in page.css("article :is(h1, h2)").get("")
        links = page.css("dl a")
        assert [link.attrib["href"] for link in links] == [
            "https://photos.example/page/7",
            "https://photos.example/image/7.jpg",
        ]
        assert {link.attrib["rel"] for link in links} == {"noopener noreferrer nofollow"}
        pictures = page.css("article img::attr(src)").getall()
        assert pictures == [f"/alerts/{alert}/protected.jpg", f"/alerts/{alert}/found.jpg"]
        assert "Done to it" not in facts
        assert "before you registered" not in page.css("article").get("")
    assert facts["Measured"] == "T = 1, distance 0.1250, Th 0.2500, mao/1"


def test_an_alert_by_score_says_what_was_done(signed_in: SignedInBrowser, plant_alert: Plant) -> None:
    client, owner = signed_in()
    rescored = {"rule": "rescored", "distance": 0.2, "plain_distance": 0.05, "threshold": 0.2275, "view": "mirrored"}
    alert = plant_alert(owner, 7, verdict=1, **rescored)
    for path in ("/", "/alerts", f"/alerts/{alert}"):
        page = Selector(client.get(path).text)
        facts = {part.css("dt::text").get(): "".join(part.css("dd ::text").getall()) for part in page.css("dl div")}
        assert facts["How sure"] == "95.0% of the fingerprint agrees"
        assert facts["Done to it"] == "mirrored"
        assert page.css("article h1, article h2").xpath("string()").get() == "A changed copy on photo-community"
    assert facts["Measured"] == "T = 1, score 0.2000, Th 0.2275, SRPITP's distance 0.0500, mao/1"


def test_a_verified_alert_says_how_sure_and_shows_why(signed_in: SignedInBrowser, plant_alert: Plant) -> None:
    client, owner = signed_in()
    drawn = picture(9, (1500, 500), "JPEG")
    verified = {
        "rule": "verified", "algorithm": "sift-itq/1", "distance": 0.027, "verification": "certain",
        "probability": 0.973, "edit": "crop, 31 % of the original, mirrored",
        "explanation_address": image_store().put(drawn, "explanations"),
    }  # fmt: skip
    alert = plant_alert(owner, 7, verdict=1, **verified)
    for path in ("/", "/alerts", f"/alerts/{alert}"):
        page = Selector(client.get(path).text)
        facts = {part.css("dt::text").get(): "".join(part.css("dd ::text").getall()) for part in page.css("dl div")}
        assert facts["How sure"] == "97 % sure that it is a copy: a crop that shows 31 % of your image, mirrored"
        assert "Done to it" not in facts
        explanation = f"/alerts/{alert}/explanation.jpg"
        assert page.css(".explanation img::attr(src)").getall() == ([explanation] if path.endswith(str(alert)) else [])
    assert facts["Measured"] == "T = 1, found by local features (sift-itq/1); verified: certain, probability 0.9730"
    answer = client.get(explanation)
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "image/jpeg", drawn)
    again = client.get(explanation, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    stranger, _ = signed_in("bob@owners.example", "Bob")
    assert stranger.get(explanation).status_code == 404
    other = plant_alert(owner, 8)
    assert client.get(f"/alerts/{other}/explanation.jpg").status_code == 404
    assert not Selector(client.get(f"/alerts/{other}").text).css(".explanation")


def test_an_old_sighting_without_its_picture_is_explained(signed_in: SignedInBrowser, plant_alert: Plant) -> None:
    client, owner = signed_in()
    looked = datetime(2026, 12, 24, 23, 0, tzinfo=UTC)
    alert = plant_alert(owner, 7, registered_later=True, found_address=None, created_at=looked)
    for path in ("/", "/alerts", f"/alerts/{alert}"):
        page = Selector(client.get(path).text)
        card = " ".join(" ".join(page.css("article ::text").getall()).split())
        assert "Found on 2026-11-20, before you registered this image; matched when it was registered." in card
        assert "The picture was no longer to be had at its address when we looked again on 2026-12-24." in card
        assert page.css("article img::attr(src)").getall() == [f"/alerts/{alert}/protected.jpg"]
    assert "The found file is kept" not in client.get(f"/alerts/{alert}").text
    assert "The found file is kept" in client.get(f"/alerts/{plant_alert(owner, 8)}").text
    assert client.get(f"/alerts/{alert}/found.jpg").status_code == 404
    assert client.get(f"/alerts/{alert}/protected.jpg").status_code == 200


@pytest.mark.parametrize(("state", "told"), [("pending", "on its way"), ("failed", "could not be delivered")])
def test_mails_that_are_not_out_yet(signed_in: SignedInBrowser, plant_alert: Plant, state: str, told: str) -> None:
    client, owner = signed_in()
    plant_alert(owner, state=state)
    assert told in client.get("/").text


def test_what_waits_for_a_reviewer_is_not_shown(signed_in: SignedInBrowser, plant_alert: Plant) -> None:
    client, owner = signed_in()
    plant_alert(owner, alerted=False, verdict=1, distance=0.2)
    with session() as opened:
        opened.add(Review(evidence_id=1))
    assert "No copy was found so far." in client.get("/").text
    assert client.get("/alerts/1").status_code == 404


def test_an_owner_sees_only_their_own(signed_in: SignedInBrowser, plant_image: Plant, plant_alert: Plant) -> None:
    client, owner = signed_in()
    other_client, other = signed_in("bob@owners.example", "Bob")
    mine, theirs = plant_image(owner, filename="mine.png"), plant_image(other, picture(2), filename="theirs.png")
    my_alert = plant_alert(owner, 3)
    their_alert = plant_alert(other, 4, site="their-site", protected_id="b" * 32)
    for browser, own, own_alert, foreign, foreign_alert in (
        (client, mine, my_alert, theirs, their_alert),
        (other_client, theirs, their_alert, mine, my_alert),
    ):
        for path in (f"/images/{own}.jpg", f"/alerts/{own_alert}", f"/alerts/{own_alert}/found.jpg"):
            assert browser.get(path).status_code == 200
        for path in (
            f"/images/{foreign}.jpg",
            f"/alerts/{foreign_alert}",
            f"/alerts/{foreign_alert}/protected.jpg",
            f"/alerts/{foreign_alert}/found.jpg",
        ):
            assert browser.get(path).status_code == 404
    for path in ("/", "/alerts", "/images"):
        assert "theirs.png" not in client.get(path).text
        assert "their-site" not in client.get(path).text


@pytest.mark.parametrize(
    "path", ["/", "/alerts", "/alerts/1", "/alerts/1/found.jpg", "/images", "/images/1.jpg", "/check"]
)
def test_nobody_sees_anything_without_signing_in(browser: Callable[..., TestClient], path: str) -> None:
    assert browser().get(path).headers["location"] == "/sign-in"
    answer = browser().get(path, headers={"accept": "image/*"})
    assert answer.status_code == 401
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


def test_what_a_crawl_brought_in_is_harmless(
    signed_in: SignedInBrowser, plant_image: Plant, plant_alert: Plant
) -> None:
    client, owner = signed_in(name=NASTY)
    plant_image(owner, filename=NASTY)
    plant_image(owner, filename=NASTY, run="run-2", state="refused", reason=NASTY, storage_address=None)
    alert = plant_alert(
        owner,
        site=NASTY[:60],
        uploader=NASTY,
        uploader_url="javascript:alert(document.cookie)//https://photos.example/",
        uploaded_at_source=NASTY,
        caption=NASTY,
        licence=NASTY,
        page_url="javascript:alert(document.cookie)//https://photos.example/",
        image_url=f"https://photos.example/{NASTY}",
        protected_filename=NASTY,
    )
    for path in ("/", "/alerts", f"/alerts/{alert}", "/images", "/check"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "<script" not in answer.text
        assert "\u202e" not in answer.text
        page = Selector(answer.text)
        assert not page.xpath("//@onerror")
        assert not [link for link in page.xpath("//@href").getall() if not link.startswith(("/", "#"))]
        policy = answer.headers["content-security-policy"]
        assert "script-src" not in policy
        assert policy.startswith("default-src 'none'")
        assert f"'nonce-{page.css('style::attr(nonce)').get()}'" in policy
        assert not [source for source in page.xpath("//@src").getall() if not source.startswith("/")]
    assert client.get("/").headers["content-security-policy"] != policy
    assert client.get("/").headers["cache-control"] == "no-store"


def test_what_the_site_tells_beside_is_shown(signed_in: SignedInBrowser, plant_alert: Plant) -> None:
    client, owner = signed_in()
    told = {"uploader_url": "https://photos.example/members/bob", "uploaded_at_source": "wordpress date_gmt",
            "caption": "Evening at the <pier>", "licence": "CC BY-SA 4.0"}  # fmt: skip
    alert = plant_alert(owner, 1, **told)
    plain = plant_alert(owner, 2)
    page = Selector(client.get(f"/alerts/{alert}").text)
    facts = dict(
        zip(page.css("dt::text").getall(), (one.xpath("string()").get() for one in page.css("dd")), strict=True)
    )
    assert facts["Uploaded at"] == "2026-11-01 08:30 UTC (as the site's wordpress date_gmt says)"
    assert (facts["Caption"], facts["Licence"]) == ("Evening at the <pier>", "CC BY-SA 4.0")
    (link,) = page.xpath("//a[contains(@href, '/members/bob')]")
    assert (link.attrib["href"], link.xpath("string()").get()) == (told["uploader_url"], told["uploader_url"])
    assert set(Selector(client.get(f"/alerts/{plain}").text).css("dt::text").getall()).isdisjoint(
        {"Their page", "Caption", "Licence"}
    )


def test_pictures_are_made_anew(signed_in: SignedInBrowser, plant_image: Plant) -> None:
    client, owner = signed_in()
    hidden = picture(5, (900, 700), "JPEG") + b"<script>alert(1)</script>"
    number = plant_image(owner, hidden)
    answer = client.get(f"/images/{number}.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert b"script" not in answer.content
    with Image.open(io.BytesIO(answer.content)) as shown:
        assert (shown.format, max(shown.size)) == ("JPEG", 480)
    again = client.get(f"/images/{number}.jpg", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_picture_that_is_gone_is_no_error_of_the_page(signed_in: SignedInBrowser, plant_image: Plant) -> None:
    client, owner = signed_in()
    number = plant_image(owner, storage_address=f"originals/00/{'0' * 64}")
    broken = plant_image(owner, b"no image", run="run-2")
    assert client.get("/images").status_code == 200
    for missing in (number, broken):
        answer = client.get(f"/images/{missing}.jpg", headers={"accept": "image/*"})
        assert (answer.status_code, answer.json()) == (404, {"detail": "There is no picture here any more."})


def test_long_lists_come_in_pages(signed_in: SignedInBrowser, plant_alert: Plant) -> None:
    client, owner = signed_in()
    for number in range(1, 14):
        plant_alert(owner, number, crawled_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number))
    first, second = (Selector(client.get(f"/alerts?page={number}").text) for number in (1, 2))
    assert (len(first.css("article")), len(second.css("article"))) == (10, 3)
    assert first.css(".pages a::attr(href)").getall() == ["/alerts?page=2"]
    assert second.css(".pages a::attr(href)").getall() == ["/alerts?page=1"]
    assert len(Selector(client.get("/").text).css("article")) == 5
    assert "All 13" in client.get("/").text
    assert "There are not that many pages." in client.get("/alerts?page=99").text
    for wrong in ("0", "-1", "x", "9" * 30):
        assert client.get(f"/alerts?page={wrong}").status_code == 404


@pytest.mark.parametrize("path", ["/nothing", "/alerts/99", "/alerts/x", "/images/99999999999999.jpg", "/%00"])
def test_what_is_not_there(signed_in: SignedInBrowser, path: str) -> None:
    client, _ = signed_in()
    answer = client.get(path)
    assert answer.status_code == 404
    assert "Not found" in answer.text


def test_health(browser: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch) -> None:
    answer = browser().get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})

    def down() -> None:
        raise OperationalError("SELECT 1", {}, Exception("connection refused"))

    monkeypatch.setattr("copywatch.portal.application._ask_ledger", down)
    answer = browser().get("/healthz")
    assert (answer.status_code, answer.json()) == (503, {"status": "the ledger does not answer"})


def test_a_ledger_that_is_down_shows_as_that(signed_in: SignedInBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = signed_in()

    def down() -> Any:
        raise OperationalError("SELECT 1", {}, Exception("password=secret"))

    monkeypatch.setattr("copywatch.portal.visitor.session", down)
    answer = client.get("/")
    assert answer.status_code == 503
    assert "try again in a moment" in answer.text
    assert "secret" not in answer.text


def test_our_mistakes_are_not_explained_to_visitors(
    signed_in: SignedInBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = signed_in()
    client = TestClient(
        client.app, base_url="http://localhost:8090", cookies=client.cookies, raise_server_exceptions=False
    )

    def broken(*_: object) -> None:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr("copywatch.ledger.owner_view.image_counts", broken)
    answer = client.get("/")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    ("address", "leads"),
    [
        ("https://a.example/x", True),
        ("http://a.example", True),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("//a.example", False),
        ("https://", False),
        ("https://a.example@evil.example/", False),
        ("http://[::1", False),
        ("https://a.example/\n", False),
        ("", False),
        (None, False),
    ],
)
def test_links_lead_to_the_web_only(address: str | None, leads: bool) -> None:
    assert (web_address(address) is not None) == leads


def test_text_is_one_bounded_line() -> None:
    assert plain("a\n b\x00c\u202e") == "a b\N{REPLACEMENT CHARACTER}c\N{REPLACEMENT CHARACTER}"
    assert len(plain("x" * 10_000)) == 240
