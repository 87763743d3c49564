"""The review page and its decisions, through Airflow's own application and its tokens."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime

import pytest
from parsel import Selector
from PIL import Image

BROWSER = {"Sec-Fetch-Site": "same-origin", "Origin": "http://testserver"}

pytestmark = pytest.mark.integration


def state_of(review_id: int) -> str:
    from copywatch.ledger.database import session
    from copywatch.ledger.models import Review

    with session() as opened:
        return str(opened.get(Review, review_id).state)


def decide(client, review_id, decision="accepted", **options):
    headers = options.pop("headers", BROWSER)
    return client.post(
        f"/copywatch/review/{review_id}/decision", json={"decision": decision}, headers=headers, **options
    )


class TestPage:
    def test_shows_a_pair_with_all_a_reviewer_needs(self, plant, client_of):
        review = plant()
        html = client_of("VIEWER").get("/copywatch/review").text
        for text in (
            "photo-community",
            "https://photos.example/page/1",
            "https://photos.example/image/1.jpg",
            "Bob",
            "2026-11-01 08:30 UTC",
            "2026-11-20 09:00 UTC",
            "Ada",
            "lighthouse.png",
            "T = 1",
            "0.2100",
            "0.4000",
            "mao/1",
        ):
            assert text in html
        assert f'data-review="{review}"' in html

    def test_a_score_is_called_so_and_what_was_done_is_said(self, plant, client_of):
        review = plant(rule="rescored", distance=0.1, threshold=0.2275, plain_distance=0.3333, view="mirrored")
        plant(2)
        viewer = client_of("VIEWER")
        pairs = Selector(viewer.get("/copywatch/review").text).css("article.pair")
        scored, plain = pairs.css(".head")
        assert "score 0.1000 of Th 0.2275 distance 0.3333" in " ".join(" ".join(scored.css("::text").getall()).split())
        assert pairs[0].css("figcaption .view::text").get() == "mirrored"
        assert pairs[0].css("img.found::attr(data-view)").get() == "mirrored"
        assert "distance 0.2100 of Th 0.4000" in " ".join(" ".join(plain.css("::text").getall()).split())
        assert not pairs[1].css(".view")
        decide(client_of("USER"), review)
        assert "mirrored" in viewer.get("/copywatch/review/decided").text
        assert "mirrored" in viewer.get("/copywatch/runs/run-1").text
        first, second = viewer.get("/copywatch/api/reviews").json()["reviews"]
        assert (first["rule"], first["plain_distance"], first["view"]) == ("rescored", 0.3333, "mirrored")
        assert (second["rule"], second["plain_distance"], second["view"]) == ("paper", None, None)
        assert (second["registered_later"], second["picture_kept"]) == (False, True)

    def test_an_old_sighting_without_its_picture_is_explained(self, plant, client_of):
        looked = datetime(2026, 12, 24, 23, 0, tzinfo=UTC)
        review = plant(registered_later=True, found_address=None, created_at=looked)
        viewer = client_of("VIEWER")
        pair = Selector(viewer.get("/copywatch/review").text).css("article.pair")
        told = " ".join(" ".join(pair.css("::text").getall()).split())
        assert "Found on 2026-11-20, before this image was registered; matched when it was registered." in told
        assert "no longer to be had at its address when we looked again on 2026-12-24" in told
        assert pair.css("img::attr(src)").getall() == ["/copywatch/evidence/1/protected.jpg"]
        assert not pair.css("[data-mode=overlay]"), "there is nothing to lay over the other picture"
        assert viewer.get("/copywatch/evidence/1/found.jpg").status_code == 404
        assert viewer.get("/copywatch/evidence/1/protected.jpg").status_code == 200
        assert decide(client_of("USER"), review).status_code == 200
        decided = Selector(viewer.get("/copywatch/review/decided").text)
        assert decided.css("img::attr(src)").getall() == ["/copywatch/evidence/1/protected.jpg"]
        (row,) = viewer.get("/copywatch/api/reviews").json()["reviews"]
        assert (row["registered_later"], row["picture_kept"]) == (True, False)

    def test_every_answer_is_hardened(self, plant, client_of):
        plant()
        for path in ("/copywatch/review", "/copywatch/review/decided", "/copywatch/runs/x", "/copywatch/api/reviews"):
            headers = client_of("VIEWER").get(path).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"

    def test_crawled_text_stays_text(self, plant, client_of):
        attack = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
        told = {
            "uploaded_at_source": attack,
            "caption": attack,
            "licence": attack,
            "uploader_url": "javascript:alert(4)",
        }
        plant(uploader=attack, page_url=f"https://x.example/{attack}", protected_filename=attack, owner=attack, **told)
        client = client_of("USER")
        assert decide(client, 1).status_code == 200
        plant(2, uploader=attack, page_url="javascript:alert(3)", image_url="data:text/html,<script>x</script>")
        for path in ("/copywatch/review", "/copywatch/review/decided", "/copywatch/runs/run-1"):
            html = client.get(path).text
            assert "<script>alert" not in html
            assert "onerror=alert(2)>" not in html
            assert not re.search(r"href=\"(javascript|data):", html)
            nonce = re.search(r'<script nonce="([^"]+)"', html)[1]
            assert all(f'nonce="{nonce}"' in tag for tag in re.findall(r"<(?:script|style)[^>]*>", html))

    def test_what_the_site_tells_beside_is_shown(self, plant, client_of):
        plant(uploader_url="https://photos.example/members/bob", uploaded_at_source="wordpress date_gmt",
              caption="Evening at the pier", licence="CC BY-SA 4.0")  # fmt: skip
        client = client_of("VIEWER")
        html = client.get("/copywatch/review").text
        assert "2026-11-01 08:30 UTC (as the site&#39;s wordpress date_gmt says)" in html
        assert re.search(r"<dt>Caption</dt><dd><bdi>Evening at the pier</bdi>", html)
        assert re.search(r"<dt>Licence</dt><dd><bdi>CC BY-SA 4.0</bdi>", html)
        address = "https://photos.example/members/bob"
        assert re.search(f'href="{address}"[^>]*>{address}</a>', html)
        (row,) = client.get("/copywatch/api/reviews").json()["reviews"]
        assert (row["licence"], row["uploaded_at_source"]) == ("CC BY-SA 4.0", "wordpress date_gmt")

    def test_links_lead_out_without_a_trace(self, plant, client_of):
        plant()
        html = client_of("VIEWER").get("/copywatch/review").text
        assert re.search(r'href="https://photos.example/page/1"[^>]*rel="noopener noreferrer nofollow"', html)

    def test_pages_and_sites(self, plant, client_of):
        from copywatch_pages.review_page import PAGE_PAIRS

        for number in range(1, PAGE_PAIRS + 3):
            plant(number, site="second" if number == 1 else "first")
        client = client_of("USER")
        first = client.get("/copywatch/review").text
        assert first.count("data-review=") == PAGE_PAIRS
        assert f"after_id={PAGE_PAIRS}" in first
        assert client.get(f"/copywatch/review?after_id={PAGE_PAIRS}").text.count("data-review=") == 2
        assert client.get("/copywatch/review?site=second").text.count("data-review=") == 1
        assert client.get("/copywatch/review?site=&after_id=0").text.count("data-review=") == PAGE_PAIRS

    def test_an_empty_queue_says_so(self, client_of):
        assert "Nothing waits for you" in client_of("USER").get("/copywatch/review").text
        assert "Nothing has been decided" in client_of("USER").get("/copywatch/review/decided").text

    @pytest.mark.parametrize("query", ["after_id=-1", "after_id=99999999999999", "after_id=x", "site=" + "s" * 64])
    def test_a_query_out_of_bounds_is_refused(self, client_of, query):
        assert client_of("USER").get(f"/copywatch/review?{query}").status_code == 422


class TestPictures:
    def test_are_small_jpegs_made_anew(self, plant, client_of, picture_bytes):
        from copywatch.images import image_store

        large = picture_bytes("blue", (2000, 1000))
        plant(found_address=image_store().put(large, "evidence"))
        client = client_of("VIEWER")
        answer = client.get("/copywatch/evidence/1/found.jpg")
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.content != large
        assert Image.open(io.BytesIO(answer.content)).size == (640, 320)
        again = client.get("/copywatch/evidence/1/found.jpg", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")

    def test_what_is_no_image_is_not_shown(self, plant, client_of):
        from copywatch.images import image_store

        plant(found_address=image_store().put(b"<html><script>alert(1)</script>", "evidence"))
        plant(2, found_address="evidence/00/" + "0" * 64)
        client = client_of("VIEWER")
        for path in ("1/found.jpg", "2/found.jpg", "3/found.jpg"):
            assert client.get(f"/copywatch/evidence/{path}").status_code == 404
        assert client.get("/copywatch/evidence/1/other.jpg").status_code == 422


class TestDecision:
    @pytest.mark.parametrize("decision", ["accepted", "refused"])
    def test_is_noted_with_who_and_when(self, plant, client_of, decision):
        review = plant()
        answer = decide(client_of("USER"), review, decision).json()
        assert (answer["state"], answer["decided_by"]) == (decision, "USER-person")
        assert answer["decided_at"]
        assert answer["counts"][decision] == 1
        history = client_of("VIEWER").get("/copywatch/review/decided").text
        assert "USER-person" in history

    def test_once_more_is_harmless_and_otherwise_is_a_conflict(self, plant, client_of):
        review = plant()
        assert decide(client_of("USER"), review, "accepted").status_code == 200
        again = decide(client_of("ADMIN"), review, "accepted")
        assert (again.status_code, again.json()["decided_by"]) == (200, "USER-person")
        other = decide(client_of("ADMIN"), review, "refused")
        assert other.status_code == 409
        assert "USER-person decided 'accepted'" in other.json()["detail"]

    def test_of_an_unknown_review(self, client_of):
        assert decide(client_of("USER"), 7).status_code == 404

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"decision": "pending"}', b"x" * 5000])
    def test_that_is_none(self, plant, client_of, body):
        review = plant()
        headers = BROWSER | {"Content-Type": "application/json"}
        answer = client_of("USER").post(f"/copywatch/review/{review}/decision", content=body, headers=headers)
        assert answer.status_code in {413, 422}
        assert state_of(review) == "pending"

    def test_by_a_script_with_a_token(self, plant, client_of):
        first, second = plant(), plant(2)
        script = client_of("USER", bearer=True)
        assert decide(script, first, headers={}).status_code == 200
        form = script.post(f"/copywatch/review/{second}/decision", data={"decision": "refused"})
        assert form.json()["state"] == "refused"


class TestAccess:
    def test_a_viewer_sees_but_does_not_decide(self, plant, client_of):
        review = plant()
        viewer = client_of("VIEWER")
        html = viewer.get("/copywatch/review").text
        assert 'class="accept"' not in html
        assert "may look, but not decide" in html
        assert decide(viewer, review).status_code == 403
        assert state_of(review) == "pending"
        assert 'class="accept"' in client_of("USER").get("/copywatch/review").text

    def test_nobody_gets_nothing_on_every_route(self, plant, client_of):
        from copywatch_pages.application import application

        plant()
        fill = {"evidence_id": "1", "review_id": "1", "which": "found", "run:path": "x"}
        fill |= {"run": "x", "place": "0", "side": "one"}
        tried = set()
        for route in application().routes:
            path = re.sub(r"{([^}]+)}", lambda name: fill[name[1]], route.path)
            for method in route.methods:
                answer = client_of(None).request(method, f"/copywatch{path}", json={"decision": "accepted"})
                # The CSRF check may answer first; either way nothing happens.
                assert answer.status_code in ({401} if method == "GET" else {401, 403}), (method, path)
                tried.add(path)
        assert len(tried) >= 8
        assert state_of(1) == "pending"
        assert client_of(None).get("/copywatch/openapi.json").status_code == 404

    def test_a_browser_without_login_gets_a_page_to_read(self, client_of):
        answer = client_of(None).get("/copywatch/review", headers={"Accept": "text/html"})
        assert answer.status_code == 401
        assert "Log in to Airflow" in answer.text
        assert "/auth/login" in answer.text

    def test_a_user_without_a_role_is_refused(self, plant, client_of):
        plant()
        assert client_of("").get("/copywatch/review").status_code == 403


class TestForgery:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "same-site", "Origin": "http://testserver:1"},
            {"Sec-Fetch-Site": "none"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {},
        ],
    )
    def test_a_request_of_another_site_is_refused(self, plant, client_of, headers):
        review = plant()
        assert decide(client_of("USER"), review, headers=headers).status_code == 403
        form = client_of("USER").post(
            f"/copywatch/review/{review}/decision", data={"decision": "accepted"}, headers=headers
        )
        assert form.status_code == 403
        assert state_of(review) == "pending"

    def test_a_form_of_ones_own_needs_the_header(self, plant, client_of):
        review = plant()
        path = f"/copywatch/review/{review}/decision"
        form = {"decision": "accepted"}
        assert client_of("USER").post(path, data=form, headers=BROWSER).status_code == 403
        assert client_of("USER").post(path, data=form, headers=BROWSER | {"X-Copywatch": "1"}).status_code == 200

    def test_an_old_browser_is_known_by_its_origin(self, plant, client_of):
        review = plant()
        assert decide(client_of("USER"), review, headers={"Origin": "http://testserver"}).status_code == 200

    @pytest.mark.parametrize("authorization", ["Bearer", "Bearer ", "Basic eDp5"])
    def test_an_empty_token_does_not_open_the_cookie(self, plant, client_of, authorization):
        review = plant()
        assert decide(client_of("USER"), review, headers={"Authorization": authorization}).status_code == 403
        assert state_of(review) == "pending"

    def test_a_foreign_page_is_refused_even_with_a_token(self, plant, client_of):
        review = plant()
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
            assert decide(client_of("USER", bearer=True), review, headers=headers).status_code == 403
        assert state_of(review) == "pending"


class TestListing:
    def test_reviews(self, plant, client_of):
        for number in (1, 2, 3):
            plant(number)
        client = client_of("USER", bearer=True)
        decide(client, 2, "refused", headers={})
        pending = client.get("/copywatch/api/reviews?state=pending&limit=1").json()
        assert [row["id"] for row in pending["reviews"]] == [1]
        row = pending["reviews"][0]
        assert (row["site"], row["uploader"], row["verdict"], row["distance"]) == ("photo-community", "Bob", 1, 0.21)
        assert (row["owner_email"], row["protected_filename"]) == ("ada@owners.example", "lighthouse.png")
        following = client.get(f"/copywatch/api/reviews?state=pending&after_id={pending['next_after_id']}").json()
        assert [row["id"] for row in following["reviews"]] == [3]
        refused = client.get("/copywatch/api/reviews?state=refused").json()["reviews"]
        assert [(row["id"], row["decided_by"]) for row in refused] == [(2, "USER-person")]
        assert len(client.get("/copywatch/api/reviews").json()["reviews"]) == 3

    def test_alerts(self, plant, client_of):
        from copywatch.ledger import reviews
        from copywatch.ledger.database import session

        plant()
        client = client_of("USER")
        decide(client, 1)
        with session() as opened:
            reviews.apply_decisions(opened, "run-2")
        alert = client.get("/copywatch/api/alerts?state=pending").json()["alerts"][0]
        assert (alert["to"], alert["state"], alert["sent_at"]) == ("ada@owners.example", "pending", None)
        assert alert["page_url"] == "https://photos.example/page/1"
        assert client.get("/copywatch/api/alerts?state=sent").json()["alerts"] == []


def test_an_unreachable_ledger_is_said_plainly(client_of, monkeypatch):
    from copywatch.ledger import database

    unreachable = database.sessionmaker(database.connect("postgresql+psycopg2://nobody@127.0.0.1:9/none"))
    monkeypatch.setattr(database, "_sessions", lambda: unreachable)
    answer = client_of("USER").get("/copywatch/review", headers={"Accept": "text/html"})
    assert answer.status_code == 503
    assert "does not answer" in answer.text
    monkeypatch.undo()
