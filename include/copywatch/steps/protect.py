"""Applications -> duplicate check -> intake shards; and, once fingerprinted, the confirmation.

SRPITP, section 3, steps (1) to (3).
"""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, time

from copywatch.alerts.delivery import send_confirmations
from copywatch.images import image_store
from copywatch.lake import landing
from copywatch.lake.identity import run_key
from copywatch.lake.landing import ShardWriter
from copywatch.lake.schemas import INTAKE, PROTECTED
from copywatch.lake.tables import create_tables, read_table
from copywatch.ledger import applications
from copywatch.ledger.database import session
from copywatch.ledger.models import ApplicationState
from copywatch.logs import log_context, table
from copywatch.settings import settings

log = logging.getLogger(__name__)

INTAKE_PART = "intake"


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


def confirm_protection(run: str) -> dict[str, int]:
    """Mark the applications whose fingerprints are in the lake, and tell the owners.

    Raises:
        AlertNotSent: the mail server did not take a confirmation; a retry sends what is left.
    """
    config = settings()
    key = run_key(run)
    create_tables(config.warehouse)
    written = read_table(config.warehouse, PROTECTED, run=key, columns=["application_id", "tag"])
    tags = dict(zip(written.column("application_id").to_pylist(), written.column("tag").to_pylist(), strict=True))
    with log_context(run=key):
        with session() as opened:
            applications.mark_protected(opened, key, written)
            rows = [
                {"file": one.filename, "state": one.state, "tag": tags.get(one.id, ""), "reason": one.reason or ""}
                for one in applications.of_run(opened, key)
            ]
        landing.release(config.landing, key)
        mails = send_confirmations(session, key, config)
        log.info("done\n%s", table(rows, title=f"protected now; {mails} confirmation(s) sent"))
    return {"protected": len(tags), "mails": mails}
