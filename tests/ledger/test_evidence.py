"""From matches to the outbox and the review queue: each pair once, however often it is recorded."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from copywatch.images import ImageStore
from copywatch.ledger.database import session
from copywatch.ledger.evidence import Recorded, put_in_outbox
from copywatch.ledger.models import Alert, Application, Evidence, Review

pytestmark = pytest.mark.integration

Match = Callable[..., dict[str, Any]]
Record = Callable[..., Recorded]


def counts() -> tuple[int, int, int]:
    with session() as opened:
        return tuple(opened.scalar(select(func.count()).select_from(one)) for one in (Evidence, Alert, Review))


def test_identical_pictures_are_alerted_similar_ones_reviewed(protected_ids: list[str], match: Match, record: Record):
    first, second = protected_ids
    assert record(
        match(1, first, verdict=0, distance=0.0), match(2, second), match(3, second, verdict=0), match(4, first)
    ) == Recorded(evidence=4, alerts=2, reviews=2)
    with session() as opened:
        rows = opened.scalars(select(Evidence).order_by(Evidence.sighting_id)).all()
        assert [(row.alert is not None, row.review is not None) for row in rows] == [
            (True, False), (False, True), (True, False), (False, True),
        ]  # fmt: skip
        assert {row.review.state for row in rows if row.review} == {"pending"}


def test_recording_again_adds_nothing(protected_ids: list[str], match: Match, record: Record):
    matches = [match(1, protected_ids[0], verdict=0), match(2, protected_ids[1])]
    record(*matches)
    assert record(*matches) == Recorded(0, 0, 0)
    assert counts() == (2, 1, 1)


def test_a_death_before_the_commit_leaves_nothing(
    protected_ids: list[str], match: Match, store: ImageStore, record: Record
):
    from copywatch.ledger.evidence import record_matches

    matches = [match(1, protected_ids[0], verdict=0), match(2, protected_ids[1])]

    def die() -> None:
        with session() as opened:
            record_matches(opened, matches, {}, store)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die()
    assert counts() == (0, 0, 0)
    assert record(*matches) == Recorded(2, 1, 1)


def test_one_sighting_of_two_images_and_one_image_sighted_twice_are_pairs_of_their_own(
    protected_ids: list[str], match: Match, record: Record
):
    first, second = protected_ids
    assert record(match(1, first), match(1, second), match(2, first)).evidence == 3


def test_the_evidence_says_all_and_keeps_the_bytes(
    protected_ids: list[str], match: Match, record: Record, store: ImageStore
):
    data = b"the found picture"
    sha256 = hashlib.sha256(data).hexdigest()
    told = {"uploader_url": "https://x.example/finn", "uploaded_at_source": "feed pubDate", "caption": "A barn",
            "licence": "CC0"}  # fmt: skip
    row = match(1, protected_ids[0], sha256=sha256, **told)
    record(row, data={sha256: data})
    with session() as opened:
        (kept,) = opened.scalars(select(Evidence))
        for name in ("sighting_id", "protected_id", "run", "site", "page_url", "image_url", "uploader", "uploaded_at",
                     *told, "crawled_at", "verdict", "distance", "algorithm", "threshold"):  # fmt: skip
            assert getattr(kept, name) == row[name], name
        assert kept.owner.email == "ada@owners.example"
        assert kept.protected_filename == "lighthouse.jpg"
        assert store.get(kept.found_address) == data
        original = opened.scalars(select(Application).where(Application.protected_id == protected_ids[0])).one()
        assert kept.protected_address == original.storage_address


def test_bytes_kept_before_are_found_without_the_landing(
    protected_ids: list[str], match: Match, record: Record, store: ImageStore
):
    """The same picture was found by an earlier run, or this is a retry after the landing bytes went."""
    address = store.put(b"found", "evidence")
    record(match(1, protected_ids[0], sha256=address[-64:]))
    with session() as opened:
        assert opened.scalars(select(Evidence)).one().found_address == address


def test_the_evidence_says_how_it_was_measured_and_what_was_done(
    protected_ids: list[str], match: Match, record: Record
):
    rescored = {"rule": "rescored", "distance": 0.1, "threshold": 0.2275, "plain_distance": 0.3, "view": "mirrored"}
    record(
        match(1, protected_ids[0], **rescored),
        match(2, protected_ids[0]),
        match(3, protected_ids[0], rule=None, plain_distance=None, view=None),
    )
    with session() as opened:
        first, *before = opened.scalars(select(Evidence).order_by(Evidence.sighting_id))
        assert {name: getattr(first, name) for name in rescored} == rescored
        # Rows of before there was a second rule.
        assert [(one.rule, one.plain_distance, one.view) for one in before] == [("paper", None, None)] * 2


def test_a_picture_that_nobody_has_is_evidence_all_the_same(
    protected_ids: list[str], match: Match, record: Record, store: ImageStore
):
    data = b"the found picture"
    sha256 = hashlib.sha256(data).hexdigest()
    rows = [match(1, protected_ids[0], verdict=0, sha256=sha256), match(2, protected_ids[1], sha256=sha256)]
    assert record(*rows) == Recorded(evidence=2, alerts=1, reviews=1)
    with session() as opened:
        assert {one.found_address for one in opened.scalars(select(Evidence))} == {None}
    # A retry, or a later sighting of the same file, brings the bytes: then all that show it have their picture.
    assert record(rows[0], data={sha256: data}) == Recorded(0, 0, 0)
    assert record(match(3, protected_ids[0], sha256="0" * 64)).evidence == 1
    with session() as opened:
        first, second, other = opened.scalars(select(Evidence).order_by(Evidence.sighting_id))
        assert first.found_address == second.found_address
        assert store.get(str(first.found_address)) == data
        assert other.found_address is None


def test_what_was_crawled_before_the_registration_is_known_as_that(
    protected_ids: list[str], match: Match, record: Record
):
    with session() as opened:
        submitted = opened.scalars(select(Application.submitted_at)).first()
    assert submitted is not None
    second = timedelta(seconds=1)
    record(
        match(1, protected_ids[0], crawled_at=submitted - second),
        match(2, protected_ids[0], crawled_at=submitted + second),
    )
    with session() as opened:
        rows = opened.scalars(select(Evidence).order_by(Evidence.sighting_id))
        assert [one.registered_later for one in rows] == [True, False]


def test_a_match_of_an_unknown_image_does_not_stop_the_others(
    protected_ids: list[str], match: Match, record: Record, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.ERROR):
        assert record(match(1, "f" * 32, verdict=0), match(2, protected_ids[0], verdict=0)).alerts == 1
    assert "the ledger has no such protected image" in caplog.text
    assert "f" * 32 in caplog.text


def test_nothing_found_is_nothing_recorded(ledger_url: str, record: Record):
    assert record() == Recorded(0, 0, 0)


def test_the_outbox_holds_one_alert_for_each_evidence(protected_ids: list[str], match: Match, record: Record):
    record(match(1, protected_ids[0]))
    with session() as opened:
        (evidence,) = opened.scalars(select(Evidence))
        assert put_in_outbox(opened, evidence.id, "run-9")
        assert not put_in_outbox(opened, evidence.id, "run-10")
    with session() as opened:
        (alert,) = opened.scalars(select(Alert))
        assert (alert.state, alert.attempts, alert.run) == ("pending", 0, "run-9")
