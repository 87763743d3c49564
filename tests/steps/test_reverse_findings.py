"""Copies that were crawled before the registration: fetched again, verified, put before people."""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from PIL import Image, ImageOps
from sqlalchemy import select

from copywatch.demo.planting import photo_bytes
from copywatch.errors import CopywatchError
from copywatch.features.extract import protected_points
from copywatch.features.itq import IDENTITY
from copywatch.features.points import packed
from copywatch.features.thumbnail import thumbnail
from copywatch.fingerprint import decode_within_limits
from copywatch.images import image_store
from copywatch.lake.schemas import FEATURES, MATCHES
from copywatch.lake.tables import create_tables, read_table, table_url
from copywatch.ledger import reviews
from copywatch.ledger.applications import owner_by_email
from copywatch.ledger.database import session
from copywatch.ledger.models import Application, ApplicationState, Evidence, Review, ReviewState
from copywatch.settings import settings
from copywatch.steps import protect

pytestmark = pytest.mark.integration

RUN = "run-1"
NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
PROTECTED = "p" * 32


def jpeg(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.convert("RGB").save(out, "JPEG", quality=85)
    return out.getvalue()


def photo(name: str) -> Image.Image:
    return decode_within_limits(photo_bytes(name)).rgb


def mirrored_crop() -> bytes:
    """Of the protected photo: 60 % of each side."""
    whole = photo("03.jpg")
    return jpeg(ImageOps.mirror(whole.crop((150, 60, 150 + whole.width * 6 // 10, 60 + whole.height * 6 // 10))))


def append(table: Any, rows: list[dict[str, Any]]) -> None:
    complete = [dict.fromkeys(table.columns.names) | row for row in rows]
    data = pa.Table.from_pylist(complete, schema=table.columns)
    write_deltalake(table_url(settings().warehouse, table), data, mode="append")


def match(number: int, data: bytes, **changed: Any) -> dict[str, Any]:
    return {
        "sighting_id": f"{number:032x}", "protected_id": PROTECTED, "run": RUN, "site": "lumen", "page_url": "page",
        "image_url": f"http://lumen.example/{number}.jpg", "crawled_at": NOW, "verdict": 1, "distance": 0.1,
        "sha256": hashlib.sha256(data).hexdigest(), "algorithm": "mao/1", "rule": "rescored", "threshold": 0.2,
        "state": "doubtful", "tag": "animal",
    } | changed  # fmt: skip


@pytest.fixture
def protected(ledger_url: str) -> None:
    """One protected photo, with its row in `features`."""
    create_tables(settings().warehouse)
    data = photo_bytes("03.jpg")
    with session() as opened:
        owner = owner_by_email(opened, "ada@owners.example")
        application = Application(run=RUN, owner_id=owner.id, filename="a.jpg", sha256=hashlib.sha256(data).hexdigest())
        application.state, application.protected_id = ApplicationState.PROTECTED, PROTECTED
        application.storage_address = image_store().put(data, "originals")
        opened.add(application)
    rgb = photo("03.jpg")
    points = protected_points(rgb)
    codes, positions = packed(points)
    append(FEATURES, [{
        "protected_id": PROTECTED, "shard": 0, "model": IDENTITY, "points": len(points), "codes": codes,
        "positions": positions, "scaled_width": points.size[0], "scaled_height": points.size[1],
        "thumbnail": thumbnail(rgb), "run": RUN,
    }])  # fmt: skip


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What is still to be fetched, by SHA-256: empty at first."""
    there: dict[str, bytes] = {}

    def fetched(wanted: Any, config: Any) -> dict[str, bytes]:
        return {one.sha256: there[one.sha256] for one in wanted if one.sha256 in there}

    monkeypatch.setattr(protect, "refetch", fetched)
    return there


@pytest.fixture
def found(protected: None, web: dict[str, bytes]) -> Callable[..., None]:
    """Enter matches of these pictures; those that are still there can be fetched again."""

    def enter(*pictures: bytes, gone: tuple[bytes, ...] = (), **changed: Any) -> None:
        append(MATCHES, [match(number, data, **changed) for number, data in enumerate([*pictures, *gone])])
        web.update({hashlib.sha256(data).hexdigest(): data for data in pictures})

    return enter


def lake() -> list[dict[str, Any]]:
    rows = read_table(settings().warehouse, MATCHES).to_pylist()
    return sorted(rows, key=lambda row: str(row["sighting_id"]))


def evidence() -> list[tuple[Any, ...]]:
    with session() as opened:
        rows = opened.scalars(select(Evidence).order_by(Evidence.sighting_id)).all()
        return [
            (one.verification, one.review and one.review.state, one.alert is not None, bool(one.explanation_address))
            for one in rows
        ]


def test_copies_come_first_and_others_leave_the_queue(found: Callable[..., None]):
    found(photo_bytes("05.jpg"), mirrored_crop())
    counts = protect.record_reverse_findings(RUN)
    assert (counts["certain"], counts["doubtful"], counts["different"]) == (1, 0, 1)
    assert (counts["new reviews"], counts["new alerts"]) == (1, 0)
    assert evidence() == [("different", "different", False, False), ("certain", "pending", False, True)]
    other, copy = lake()
    assert (other["verification"], other["state"], other["verifier"]) == ("different", "different", "align/1")
    assert (copy["verification"], copy["state"], copy["unverified"]) == ("certain", "doubtful", None)
    assert copy["probability"] > 0.9
    edit = re.fullmatch(r"crop, (\d+) % of the original, mirrored", copy["edit"])
    assert edit
    assert abs(int(edit[1]) - 36) <= 2
    assert len(copy["alignment"]) == 6
    assert dict(copy["measures"])["inliers"] > 10
    with session() as opened:
        (first,) = opened.scalars(select(Evidence).where(Evidence.verification == "certain"))
        assert (first.edit, first.probability) == (copy["edit"], copy["probability"])


def test_again_changes_nothing(found: Callable[..., None]):
    found(photo_bytes("05.jpg"), mirrored_crop())
    protect.record_reverse_findings(RUN)
    before = lake(), evidence()
    counts = protect.record_reverse_findings(RUN)
    assert (counts["new reviews"], counts["new alerts"]) == (0, 0)
    assert (lake(), evidence()) == before


def test_certain_ones_are_alerted_at_once_where_that_is_switched_on(
    found: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COPYWATCH_ALERT_CERTAIN", "true")
    settings.cache_clear()
    found(photo_bytes("05.jpg"), mirrored_crop())
    assert protect.record_reverse_findings(RUN)["new alerts"] == 1
    assert evidence() == [("different", "different", False, False), ("certain", None, True, True)]
    assert [row["state"] for row in lake()] == ["different", "certain"]


def test_what_is_gone_or_no_picture_waits_for_a_person(found: Callable[..., None], caplog: pytest.LogCaptureFixture):
    found(b"<html>", photo_bytes("07.jpg")[:4000], mirrored_crop(), gone=(photo_bytes("05.jpg"),))
    with caplog.at_level(logging.WARNING):
        assert protect.record_reverse_findings(RUN)["new reviews"] == 4
    reasons = [row["unverified"] for row in lake()]
    assert "not an image: HTML" in reasons[0]
    assert "truncated" in reasons[1]
    assert reasons[2] is None
    assert reasons[3] == "the found picture is no longer to be had"
    assert [one[:3] for one in evidence()] == [
        (None, "pending", False), (None, "pending", False), ("certain", "pending", False), (None, "pending", False),
    ]  # fmt: skip
    with session() as opened:
        told = opened.scalars(select(Evidence.unverified).order_by(Evidence.sighting_id)).all()
        assert told == reasons


def test_an_identical_one_is_alerted_whatever_became_of_it(found: Callable[..., None]):
    found(photo_bytes("05.jpg"), gone=(photo_bytes("07.jpg"),), verdict=0, state="certain")
    assert protect.record_reverse_findings(RUN)["new alerts"] == 2
    assert [row["verification"] for row in lake()] == [None, None]


def test_a_sites_file_that_is_gone_or_a_broken_row_keeps_nothing_back(
    found: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    found(mirrored_crop())
    append(FEATURES, [{"protected_id": "q" * 32, "model": IDENTITY, "codes": b"x", "positions": b"", "shard": 0,
                       "scaled_width": 3, "scaled_height": 3, "thumbnail": b"y"}])  # fmt: skip
    append(
        MATCHES, [match(7, mirrored_crop(), protected_id="q" * 32), match(8, mirrored_crop(), protected_id="r" * 32)]
    )
    protect.record_reverse_findings(RUN)
    rows = {row["protected_id"][0]: row for row in lake()}
    assert rows["p"]["verification"] == "certain"
    assert rows["q"]["unverified"].startswith("verification failed (ValueError")
    assert "no local features" in rows["r"]["unverified"]

    def fails(*_: Any) -> None:
        raise CopywatchError("no such site")

    monkeypatch.setattr(protect, "refetch", fails)
    protect.record_reverse_findings(RUN)


def test_a_decision_stays_whatever_is_verified_later(found: Callable[..., None], web: dict[str, bytes]):
    found(gone=(photo_bytes("05.jpg"),))
    protect.record_reverse_findings(RUN)
    with session() as opened:
        reviews.decide(opened, opened.scalars(select(Review.id)).one(), ReviewState.ACCEPTED, "rita")
    web[lake()[0]["sha256"]] = photo_bytes("05.jpg")
    protect.record_reverse_findings(RUN)
    assert evidence()[0][:2] == (None, "accepted")


def test_without_a_second_stage_nothing_is_verified(found: Callable[..., None], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COPYWATCH_SECOND_STAGE", "false")
    settings.cache_clear()
    found(photo_bytes("05.jpg"))
    protect.record_reverse_findings(RUN)
    assert evidence() == [(None, "pending", False, False)]
