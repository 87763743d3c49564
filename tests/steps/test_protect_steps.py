"""The steps of the protection: applications, the shard of originals, the confirmation."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from copywatch.demo.planting import photo_bytes
from copywatch.errors import CopywatchError
from copywatch.lake import landing
from copywatch.lake.schemas import FEATURES, PROTECTED
from copywatch.lake.tables import create_tables, table_url
from copywatch.ledger import applications
from copywatch.ledger.database import session
from copywatch.settings import settings
from copywatch.steps import protect

pytestmark = pytest.mark.integration

MAIL = {"owner_email": "ada@owners.example", "owner_name": "Ada"}


@pytest.fixture
def folder(ledger_url: str) -> Path:
    made = settings().intake / "ada"
    made.mkdir(parents=True)
    (made / "a.jpg").write_bytes(photo_bytes("06.jpg"))
    (made / "bad.jpg").write_bytes(b"<html>")
    return made


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    sent: list[Any] = []
    monkeypatch.setattr("copywatch.alerts.delivery.send_mail", lambda message, config: sent.append(message))
    return sent


def shard(run: str) -> list[dict[str, Any]]:
    return [row for path in landing.shards(settings().landing, run) for row in pq.read_table(path).to_pylist()]


def fingerprint(run: str, points: int = 200) -> None:
    """What the Spark job writes, as far as the confirmation reads it."""
    create_tables(settings().warehouse)
    ids = [row["application_id"] for row in shard(run)]
    protected = [{"application_id": one, "protected_id": f"{one:032x}", "tag": "nature", "run": run} for one in ids]
    features = [{"protected_id": f"{one:032x}", "shard": 0, "points": points, "run": run} for one in ids]
    for table, rows in ((PROTECTED, protected), (FEATURES, features)):
        complete = [dict.fromkeys(table.columns.names) | row for row in rows]
        write_deltalake(
            table_url(settings().warehouse, table), pa.Table.from_pylist(complete, schema=table.columns), mode="append"
        )


def states(run: str) -> dict[str, str]:
    with session() as opened:
        return {one.filename: one.state for one in applications.of_run(opened, run)}


def test_from_a_folder_to_the_confirmation(folder: Path, mails: list[Any]):
    received = protect.receive_applications("run-1", folder="ada", protected_until=date(2027, 5, 1), **MAIL)
    assert received == {"received": 1, "refused": 1, "protected": 0}
    (row,) = shard("run-1")
    assert row["bytes"] == photo_bytes("06.jpg")
    # The whole of the last day is protected.
    assert datetime(2027, 5, 1, 23, 59, 59, tzinfo=UTC) <= row["protected_until"] < datetime(2027, 5, 2, tzinfo=UTC)
    fingerprint("run-1")
    assert protect.confirm_protection("run-1") == {"protected": 1, "mails": 1}
    assert states("run-1") == {"a.jpg": "protected", "bad.jpg": "refused"}
    assert landing.shards(settings().landing, "run-1") == []
    assert [mail["Subject"] for mail in mails] == ["1 of 2 images are protected"]


@pytest.mark.parametrize(("points", "told"), [(3, True), (200, False)])
def test_the_owner_of_a_plain_picture_is_told_that_parts_of_it_are_not_found(
    folder: Path, mails: list[Any], points: int, told: bool
):
    protect.receive_applications("run-1", folder="ada", **MAIL)
    fingerprint("run-1", points)
    protect.confirm_protection("run-1")
    assert ("a.jpg (a plain picture" in mails[0].get_body(("plain",)).get_content()) is told


def test_each_step_again_changes_nothing(folder: Path, mails: list[Any]):
    for _ in range(2):
        protect.receive_applications("run-1", folder="ada", **MAIL)
        assert len(shard("run-1")) == 1
    fingerprint("run-1")
    for _ in range(2):
        protect.confirm_protection("run-1")
    assert len(mails) == 1


def test_a_file_added_before_the_run_is_repeated_does_not_push_out_the_others(folder: Path, mails: list[Any]):
    """The job replaces all rows of the run, so the shard of a repeated run holds all of its images."""
    protect.receive_applications("run-1", folder="ada", **MAIL)
    fingerprint("run-1")
    protect.confirm_protection("run-1")
    (folder / "b.jpg").write_bytes(photo_bytes("07.jpg"))
    protect.receive_applications("run-1", folder="ada", **MAIL)
    assert [row["bytes"] for row in shard("run-1")] == [photo_bytes("06.jpg"), photo_bytes("07.jpg")]


def test_what_could_not_be_fingerprinted_is_refused_and_told(folder: Path, mails: list[Any]):
    protect.receive_applications("run-1", folder="ada", **MAIL)
    assert protect.confirm_protection("run-1") == {"protected": 0, "mails": 1}
    assert states("run-1") == {"a.jpg": "refused", "bad.jpg": "refused"}
    assert "could not be fingerprinted" in mails[0].get_body(("plain",)).get_content()


def test_a_wrong_folder_or_address_is_an_error_of_the_task(folder: Path):
    with pytest.raises(CopywatchError, match="no folder"):
        protect.receive_applications("run-1", folder="eve", **MAIL)
    with pytest.raises(CopywatchError, match="no mail address"):
        protect.receive_applications("run-1", folder="ada", owner_email="ada")
