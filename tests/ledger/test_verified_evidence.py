"""What the ledger makes of verified matches: who is alerted, who waits, what left the queue, and what is drawn."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select

from copywatch.images import ImageStore
from copywatch.ledger import reviews
from copywatch.ledger.database import session
from copywatch.ledger.evidence import Recorded
from copywatch.ledger.models import Alert, Evidence, Review, ReviewState
from tests.ledger.conftest import picture_of

pytestmark = pytest.mark.integration

Match = Callable[..., dict[str, Any]]
Record = Callable[..., Recorded]

CERTAIN = {"state": "certain", "verification": "certain", "probability": 0.97, "edit": "crop, 31 % of the original"}
DOUBTFUL = {"state": "doubtful", "verification": "doubtful", "probability": 0.6, "edit": "mirrored"}
DIFFERENT = {"state": "different", "verification": "different", "probability": 0.02}
UNVERIFIED = {"state": "doubtful", "verification": None, "unverified": "too few points"}
WHOLE = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def now() -> list[tuple[str | None, bool]]:
    """Of each evidence, in the sightings' order: its review's state, and whether it is alerted."""
    with session() as opened:
        rows = opened.scalars(select(Evidence).order_by(Evidence.sighting_id)).all()
        return [(one.review.state if one.review else None, one.alert is not None) for one in rows]


def only() -> dict[str, Any]:
    """What the only evidence says of verification."""
    with session() as opened:
        (one,) = opened.scalars(select(Evidence))
        names = ("verification", "probability", "unverified", "edit", "explanation_address")
        return {name: getattr(one, name) for name in names}


def decide(state: ReviewState) -> None:
    with session() as opened:
        reviews.decide(opened, opened.scalars(select(Review.id)).one(), state, "rita")


class TestByState:
    def test_certain_is_alerted_doubtful_waits_different_leaves(
        self, protected_ids: list[str], match: Match, record: Record
    ):
        rows = [CERTAIN, DOUBTFUL, DIFFERENT, UNVERIFIED, {"state": None}, {}]
        found = [match(number, protected_ids[0], **row) for number, row in enumerate(rows)]
        assert record(*found) == Recorded(evidence=6, alerts=1, reviews=4, different=1)
        waits, left = ("pending", False), ("different", False)
        assert now() == [(None, True), waits, left, waits, waits, waits]
        assert record(*found) == Recorded(0, 0, 0, 0)
        assert now() == [(None, True), waits, left, waits, waits, waits]

    @pytest.mark.parametrize("state", ["different", "doubtful", None])
    def test_an_identical_one_is_never_held_back(
        self, protected_ids: list[str], match: Match, record: Record, state: str | None
    ):
        assert record(match(1, protected_ids[0], verdict=0, state=state)).alerts == 1
        assert now() == [(None, True)]

    def test_found_by_features_alone_needs_no_plain_distance(
        self, protected_ids: list[str], match: Match, record: Record
    ):
        row = match(1, protected_ids[0], rule="verified", algorithm="sift-itq/1", distance=0.03, **CERTAIN)
        assert record(row).alerts == 1
        with session() as opened:
            (one,) = opened.scalars(select(Evidence))
            assert (one.rule, one.algorithm, one.plain_distance) == ("verified", "sift-itq/1", None)
            assert (one.verification, one.probability, one.edit) == ("certain", 0.97, "crop, 31 % of the original")


class TestALaterRun:
    @pytest.mark.parametrize(
        ("first", "then", "review"),
        [
            (UNVERIFIED, DIFFERENT, "different"),
            (DOUBTFUL, DIFFERENT, "different"),
            (DIFFERENT, DOUBTFUL, "pending"),
            ({}, DIFFERENT, "different"),
        ],
    )
    def test_moves_what_nobody_has_decided(
        self, protected_ids: list[str], match: Match, record: Record, first: Any, then: Any, review: str
    ):
        record(match(1, protected_ids[0], **first))
        assert record(match(1, protected_ids[0], **then)) == Recorded(0, 0, 0, 0)
        assert now() == [(review, False)]
        assert only() == {
            "unverified": None, "explanation_address": None, "edit": then.get("edit"),
            "verification": then["verification"], "probability": then["probability"],
        }  # fmt: skip

    def test_that_is_certain_alerts_and_asks_nobody_any_more(
        self, protected_ids: list[str], match: Match, record: Record
    ):
        record(match(1, protected_ids[0], **DOUBTFUL))
        assert record(match(1, protected_ids[0], **CERTAIN)).alerts == 1
        assert now() == [(None, True)]
        assert record(match(1, protected_ids[0], **DOUBTFUL)) == Recorded(0, 0, 0, 0)
        assert now() == [(None, True)], "the owner was told: nobody is asked whether to tell"
        assert only()["probability"] == 0.97, "and what was told stays"

    @pytest.mark.parametrize("first", [DOUBTFUL, DIFFERENT])
    @pytest.mark.parametrize("then", [DOUBTFUL, DIFFERENT, CERTAIN])
    @pytest.mark.parametrize("said", [ReviewState.ACCEPTED, ReviewState.REFUSED])
    def test_never_changes_what_a_person_decided(
        self, protected_ids: list[str], match: Match, record: Record, first: Any, then: Any, said: ReviewState
    ):
        record(match(1, protected_ids[0], **first))
        decide(said)
        record(match(1, protected_ids[0], **then))
        # What was accepted is alerted in any case; what was refused never.
        assert now() == [(said, said == "accepted" and then is CERTAIN)]
        assert only()["probability"] == first["probability"]
        with session() as opened:
            assert opened.scalars(select(Review)).one().decided_by == "rita"
            reviews.apply_decisions(opened, "run-9")
        assert now() == [(said, said == "accepted")]

    def test_that_verified_nothing_leaves_what_was_verified(
        self, protected_ids: list[str], match: Match, record: Record
    ):
        """A retry of the matching writes rows as they were before the pictures were fetched again."""
        record(match(1, protected_ids[0], **DIFFERENT))
        record(match(1, protected_ids[0], **UNVERIFIED))
        assert now() == [("different", False)]
        assert (only()["verification"], only()["unverified"]) == ("different", None)


class TestAccepting:
    def test_what_left_the_queue_alerts_its_owner(self, protected_ids: list[str], match: Match, record: Record):
        record(match(1, protected_ids[0], **DIFFERENT))
        with session() as opened:
            assert reviews.standing(opened) == reviews.Standing(to_apply=False, pending=0)
            assert reviews.apply_decisions(opened, "run-8") == []
        decide(ReviewState.ACCEPTED)
        with session() as opened:
            assert reviews.standing(opened) == reviews.Standing(to_apply=True, pending=0)
            (review,) = reviews.apply_decisions(opened, "run-9")
            assert (review.state, review.decided_by) == ("accepted", "rita")
            assert opened.scalars(select(Alert)).one().run == "run-9"


class TestTheExplanation:
    @pytest.fixture
    def found(self) -> tuple[str, dict[str, bytes]]:
        """A found picture's SHA-256, and its bytes by it."""
        data = picture_of(1)
        sha256 = hashlib.sha256(data).hexdigest()
        return sha256, {sha256: data}

    def test_is_drawn_and_kept(
        self, protected_ids: list[str], match: Match, record: Record, store: ImageStore, found: Any
    ):
        sha256, data = found
        row = match(1, protected_ids[0], sha256=sha256, alignment=WHOLE, **DOUBTFUL)
        record(row, data=data)
        address = only()["explanation_address"]
        assert address.startswith("explanations/")
        with Image.open(io.BytesIO(store.get(address))) as drawn:
            assert drawn.format == "JPEG"
            # Three pictures of 160 x 120, twice as large, side by side.
            assert drawn.width == 3 * 320 + 4 * 12
        record(row)
        assert only()["explanation_address"] == address

    def test_comes_with_the_bytes(
        self, protected_ids: list[str], match: Match, record: Record, found: tuple[str, dict[str, bytes]]
    ):
        sha256, data = found
        row = match(1, protected_ids[0], sha256=sha256, alignment=WHOLE, **DOUBTFUL)
        record(row)
        assert only()["explanation_address"] is None
        record(row, data=data)
        assert only()["explanation_address"] is not None

    @pytest.mark.parametrize(
        ("bytes_", "alignment"),
        [
            (b"<html>no picture", WHOLE),
            (picture_of(1)[:200], WHOLE),
            (picture_of(1), [float("nan")] * 6),
            (picture_of(1), [1e12, 0.0, 0.0, 0.0, 1e12, 0.0]),
            (picture_of(1), [1.0]),
        ],
    )
    def test_that_cannot_be_drawn_keeps_no_alert_back(
        self, protected_ids: list[str], match: Match, record: Record, caplog: pytest.LogCaptureFixture,
        bytes_: bytes, alignment: list[float],
    ):  # fmt: skip
        sha256 = hashlib.sha256(bytes_).hexdigest()
        row = match(1, protected_ids[0], sha256=sha256, alignment=alignment, **CERTAIN)
        with caplog.at_level(logging.WARNING):
            assert record(row, data={sha256: bytes_}).alerts == 1
        assert only()["explanation_address"] is None
        assert "no explanation of http://lumen.example/1.jpg" in caplog.text
