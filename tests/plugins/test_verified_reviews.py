"""What the review page makes of verification: the order, the chips, the difference, and what left the queue."""

from __future__ import annotations

import pytest
from parsel import Selector
from test_review_page import decide, state_of

pytestmark = pytest.mark.integration

CERTAIN = {"verification": "certain", "probability": 0.973, "edit": "crop, 31 % of the original, mirrored"}
BY_FEATURES = CERTAIN | {"rule": "verified", "algorithm": "sift-itq/1", "distance": 0.027}
DIFFERENT = {"verification": "different", "probability": 0.004}


@pytest.fixture
def set_aside(plant):
    """Enter a pair that left the queue by verification; returns the review's id."""

    def enter(number: int, **changed) -> int:
        from copywatch.ledger.database import session
        from copywatch.ledger.models import Review

        review = plant(number, **(DIFFERENT | changed))
        with session() as opened:
            opened.get_one(Review, review).state = "different"
        return review

    return enter


def shown(client, query: str = "") -> list[int]:
    """The reviews on a page, in its order."""
    page = Selector(client.get(f"/copywatch/review{query}").text)
    return [int(one) for one in page.css("article.pair::attr(data-review)").getall()]


def words(part) -> str:
    return " ".join(" ".join(part.css("::text").getall()).split())


class TestTheQueue:
    def test_certain_ones_come_first_on_every_page(self, plant, client_of):
        from copywatch_pages.review_page import PAGE_PAIRS

        total = 2 * PAGE_PAIRS + 3
        for number in range(1, total + 1):
            plant(number, **(CERTAIN if number % 2 else {"verification": "doubtful", "probability": 0.6}))
        client = client_of("USER")
        expected = [*range(1, total + 1, 2), *range(2, total + 1, 2)]
        found, query = [], ""
        while query is not None:
            page = Selector(client.get(f"/copywatch/review{query}").text)
            found += [int(one) for one in page.css("article.pair::attr(data-review)").getall()]
            query = next((link for link in page.css(".pages a::attr(href)").getall() if "after_id" in link), None)
            query = query and query.removeprefix("/copywatch/review")
        assert found == expected

    def test_says_the_verdict_or_why_there_is_none(self, plant, client_of):
        plant(1, **CERTAIN)
        plant(2, verification="doubtful", probability=0.62)
        plant(3, unverified="too few points to verify")
        plant(4)
        plant(5, unverified="<script>alert(1)</script>")
        page = Selector(client_of("VIEWER").get("/copywatch/review").text)
        assert [words(chip) for chip in page.css(".head .verdict")] == [
            "verified: certain, 97 %", "verified: doubtful, 62 %", "not verified: too few points to verify",
            "not verified", "not verified: <script>alert(1)</script>",
        ]  # fmt: skip
        kinds = [chip.attrib["class"].split()[-1] for chip in page.css(".head .verdict")]
        assert kinds == ["certain", "doubtful", "none", "none", "none"]

    def test_a_pair_of_the_second_stage_has_no_distance(self, plant, client_of):
        plant(1, view="mirrored", **BY_FEATURES)
        pair = Selector(client_of("VIEWER").get("/copywatch/review").text).css("article.pair")
        assert words(pair.css(".head")).startswith(
            "photo-community T = 1 verified: certain, 97 % found by local features sift-itq/1"
        )
        assert not pair.css(".distance")
        assert words(pair.css("figcaption .view")) == "crop, 31 % of the original, mirrored", "says more than the view"

    def test_what_was_found_out_is_in_the_lists(self, plant, client_of):
        decide(client_of("USER"), plant(1, **BY_FEATURES))
        decided = words(Selector(client_of("VIEWER").get("/copywatch/review/decided").text).css("tbody tr"))
        assert "verified: certain, 97 % – crop, 31 % of the original, mirrored" in decided
        run = words(Selector(client_of("VIEWER").get("/copywatch/runs/run-1").text).css("tbody tr"))
        assert "certain 0.9730 crop, 31 % of the original, mirrored" in run
        plant(2, unverified="too few points")
        first, second = client_of("VIEWER").get("/copywatch/api/reviews").json()["reviews"]
        names = ("verification", "probability", "unverified", "edit", "explained")
        assert [first[name] for name in names] == ["certain", 0.973, None, CERTAIN["edit"], False]
        assert [second[name] for name in names] == [None, None, "too few points", None, False]


class TestTheDifference:
    def test_is_a_fourth_way_to_compare_where_it_was_drawn(self, plant, client_of, picture_bytes):
        from copywatch.images import image_store

        drawn = picture_bytes("green", (1500, 500))
        plant(1, explanation_address=image_store().put(drawn, "explanations"), **CERTAIN)
        plant(2)
        viewer = client_of("VIEWER")
        with_it, without = Selector(viewer.get("/copywatch/review").text).css("article.pair")
        modes = ["side", "overlay", "flicker", "difference"]
        assert with_it.css("button[data-mode]::attr(data-mode)").getall() == modes
        assert without.css("button[data-mode]::attr(data-mode)").getall() == modes[:3]
        source = with_it.css(".explanation img::attr(src)").get()
        assert not without.css(".explanation")
        answer = viewer.get(source)
        assert (answer.headers["content-type"], answer.content) == ("image/jpeg", drawn), "as it was drawn"
        assert viewer.get(source, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
        assert client_of(None).get(source).status_code == 401
        assert viewer.get("/copywatch/evidence/2/explanation.jpg").status_code == 404
        assert viewer.get("/copywatch/api/reviews").json()["reviews"][0]["explained"] is True


class TestLeftTheQueue:
    def test_is_shown_under_its_filter_alone(self, plant, set_aside, client_of):
        waiting, aside = plant(1), set_aside(2)
        set_aside(3, site="other-site")
        client = client_of("USER")
        assert shown(client) == [waiting]
        assert shown(client, "?state=different") == [aside, aside + 1]
        assert shown(client, "?state=different&site=other-site") == [aside + 1]
        page = Selector(client.get("/copywatch/review?state=different").text)
        assert [words(link) for link in page.css(".which a")] == ["Waiting 1", "Left the queue (different) 2"]
        assert words(page.css(".which a[aria-current]")) == "Left the queue (different) 2"
        assert page.css(".filter option::text").getall() == ["all", "other-site (1)", "photo-community (1)"]
        assert words(page.css(".head")[0]).count("verified: different, less than 1 % for a copy") == 1
        assert "Nothing has been decided" in client.get("/copywatch/review/decided").text
        assert client.get("/copywatch/review?state=accepted").status_code == 422

    def test_pages_stay_within_the_filter(self, plant, set_aside, client_of):
        from copywatch_pages.review_page import PAGE_PAIRS

        plant(1)
        for number in range(2, PAGE_PAIRS + 4):
            set_aside(number)
        page = Selector(client_of("USER").get("/copywatch/review?state=different").text)
        (link,) = page.css(".pages a::attr(href)").getall()
        assert len(shown(client_of("USER"), link.removeprefix("/copywatch/review"))) == 2

    def test_may_be_accepted_all_the_same(self, set_aside, client_of):
        from copywatch.ledger import reviews
        from copywatch.ledger.database import session

        accepted, refused = set_aside(1), set_aside(2)
        client = client_of("USER")
        answer = decide(client, accepted).json()
        assert (answer["state"], answer["decided_by"]) == ("accepted", "USER-person")
        assert answer["counts"] == {"pending": 0, "different": 1, "accepted": 1, "refused": 0}
        assert decide(client, refused, "refused").status_code == 200
        assert decide(client, accepted, "refused").status_code == 409
        with session() as opened:
            reviews.apply_decisions(opened, "run-2")
        (alert,) = client.get("/copywatch/api/alerts").json()["alerts"]
        assert (alert["verification"], alert["probability"]) == ("different", 0.004)
        assert state_of(refused) == "refused"

    def test_is_listed_for_scripts(self, plant, set_aside, client_of):
        plant(1)
        aside = set_aside(2)
        listed = client_of("VIEWER").get("/copywatch/api/reviews?state=different").json()
        assert [(row["id"], row["state"]) for row in listed["reviews"]] == [(aside, "different")]
        assert listed["counts"] == {"pending": 1, "different": 1, "accepted": 0, "refused": 0}

    def test_nothing_there_says_so(self, plant, client_of):
        plant(1)
        assert "Nothing left the queue." in client_of("USER").get("/copywatch/review?state=different").text
