"""Applications -> duplicate check -> intake shards; once fingerprinted, copies crawled before, and the confirmation.

SRPITP, section 3, steps (1) to (3); and (9) and (10) for what was crawled before it was protected.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

import pyarrow as pa

from copywatch.alerts.delivery import send_confirmations
from copywatch.errors import CopywatchError
from copywatch.features.votes import LEAST_POINTS
from copywatch.images import ImageStore, image_store
from copywatch.lake import landing
from copywatch.lake.identity import run_key
from copywatch.lake.landing import ShardWriter
from copywatch.lake.schemas import FEATURES, INTAKE, MATCHES, PROTECTED
from copywatch.lake.tables import create_tables, mirror_verifications, read_table
from copywatch.ledger import applications
from copywatch.ledger.database import session
from copywatch.ledger.evidence import Recorded, record_matches
from copywatch.ledger.models import ApplicationState
from copywatch.logs import log_context, table
from copywatch.refetch import Wanted, refetch
from copywatch.settings import Settings, settings
from copywatch.verification.verdict import Judgement

log = logging.getLogger(__name__)

INTAKE_PART = "intake"

_FILES_AT_ONCE = 25
"""Found images that are fetched again, and in memory, at once."""


def receive_applications(
    run: str, *, owner_email: str, owner_name: str = "", folder: str, protected_until: date | None = None
) -> dict[str, int]:
    """Enter an application for each image of an intake folder, and put the accepted ones into a shard.

    Returns:
        How many applications stand in each state.

    Raises:
        CopywatchError: no such folder, or no such mail address.
    """
    config = settings()
    key = run_key(run)
    until = datetime.combine(protected_until, time.max, tzinfo=UTC) if protected_until else None
    files = applications.files_of_intake(config.intake, folder)
    root = (config.intake / folder).resolve()
    store = image_store()
    with log_context(run=key):
        with session() as opened:
            owner = applications.owner_by_email(opened, owner_email, owner_name)
            received = applications.receive(
                opened, run=key, owner=owner, files=files, root=root, store=store, config=config, protected_until=until
            )
            rows = [{"file": one.filename, "state": one.state, "reason": one.reason or ""} for one in received]
            with ShardWriter(config.landing, key, INTAKE_PART, shard_bytes=config.shard_bytes, schema=INTAKE) as writer:
                for row in applications.intake_rows(opened, key, store):
                    writer.write(row)
                writer.finish({"applications": len(received)})
        log.info("done\n%s", table(rows, title=f"applications of {owner_email}"))
    return {state.value: sum(row["state"] == state for row in rows) for state in ApplicationState}


def record_reverse_findings(run: str) -> dict[str, int]:
    """Put copies that were crawled before the run's images were protected before people.

    Nobody kept their bytes, so they are fetched again from where they were found. What is gone, or another file by
    now, is evidence without a picture: the owner hears of it all the same. With the bytes the pairs are verified, which
    could not be done when they were matched.
    """
    config = settings()
    key = run_key(run)
    create_tables(config.warehouse)
    found = read_table(config.warehouse, MATCHES, run=key).to_pylist()
    store = image_store()
    of_file: dict[str, list[dict[str, Any]]] = {}
    for match in found:
        of_file.setdefault(match["sha256"], []).append(match)
    files = sorted(of_file)
    recorded: list[Recorded] = []
    verified: list[str] = []
    with log_context(run=key):
        for start in range(0, len(files), _FILES_AT_ONCE):
            batch = [match for sha256 in files[start : start + _FILES_AT_ONCE] for match in of_file[sha256]]
            data = _fetched_again(batch, store, config)
            batch = _verified(batch, data, store, config)
            verified += [match["verification"] for match in batch]
            with session() as opened:
                recorded.append(record_matches(opened, batch, data, store))
        with_picture = sum(store.holds(_evidence_address(sha256)) for sha256 in files)
        counts = {
            "matches": len(found),
            "files": len(files),
            "files kept as evidence": with_picture,
            **{judgement.value: verified.count(judgement) for judgement in Judgement},
            "new alerts": sum(one.alerts for one in recorded),
            "new reviews": sum(one.reviews for one in recorded),
        }
        log.info("done\n%s", table([counts], title="copies crawled before"))
    return counts


def _evidence_address(sha256: str) -> str:
    return f"evidence/{sha256[:2]}/{sha256}"


def _verified(
    matches: Sequence[dict[str, Any]], data: Mapping[str, bytes], store: ImageStore, config: Settings
) -> list[dict[str, Any]]:
    """The rows with what verification says of them now, which is written into `matches` too."""
    # OpenCV and the models are for this step alone.
    from copywatch.verification.later import verified_later

    if not config.second_stage:
        return list(matches)

    def bytes_of(sha256: str) -> bytes | None:
        kept = _evidence_address(sha256)
        return data.get(sha256) or (store.get(kept) if store.holds(kept) else None)

    new = verified_later(matches, bytes_of, config)
    rows = [{"sighting_id": pair[0], "protected_id": pair[1], **columns} for pair, columns in new.items()]
    mirror_verifications(config.warehouse, rows)
    return [{**match, **new.get((match["sighting_id"], match["protected_id"]), {})} for match in matches]


def _fetched_again(matches: Sequence[Mapping[str, Any]], store: ImageStore, config: Settings) -> dict[str, bytes]:
    wanted = [
        Wanted(match["site"], match["image_url"], match["sha256"])
        for match in matches
        if not store.holds(_evidence_address(match["sha256"]))
    ]
    try:
        return refetch(wanted, config)
    except CopywatchError as error:
        # No alert waits for a picture.
        log.warning("the images cannot be fetched again: %s", error)
        return {}


def confirm_protection(run: str) -> dict[str, int]:
    """Mark the applications whose fingerprints are in the lake, and tell the owners.

    Raises:
        AlertNotSent: the mail server did not take a confirmation; a retry sends what is left.
    """
    config = settings()
    key = run_key(run)
    create_tables(config.warehouse)
    columns = ["application_id", "protected_id", "tag"]
    written = read_table(config.warehouse, PROTECTED, run=key, columns=columns)
    tags = dict(zip(written.column("application_id").to_pylist(), written.column("tag").to_pylist(), strict=True))
    with log_context(run=key):
        with session() as opened:
            applications.mark_protected(opened, key, written)
            rows = [
                {"file": one.filename, "state": one.state, "tag": tags.get(one.id, ""), "reason": one.reason or ""}
                for one in applications.of_run(opened, key)
            ]
        landing.release(config.landing, key)
        mails = send_confirmations(session, key, config, whole_only=_whole_only(written, key, config))
        log.info("done\n%s", table(rows, title=f"protected now; {mails} confirmation(s) sent"))
    return {"protected": len(tags), "mails": mails}


def _whole_only(written: pa.Table, run: str, config: Settings) -> set[int]:
    """Applications whose images have too few points for the second stage: the fingerprint alone covers them."""
    features = read_table(config.warehouse, FEATURES, run=run, columns=["protected_id", "points"])
    few = {row["protected_id"] for row in features.to_pylist() if row["points"] < LEAST_POINTS}
    return {row["application_id"] for row in written.to_pylist() if row["protected_id"] in few and config.second_stage}
