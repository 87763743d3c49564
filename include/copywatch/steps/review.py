"""Carrying out what reviewers decided. SRPITP, Algorithm 2, step (7a)."""

from __future__ import annotations

import logging

from copywatch.lake.identity import run_key
from copywatch.lake.tables import create_tables, mirror_decisions
from copywatch.ledger import reviews
from copywatch.ledger.database import session
from copywatch.ledger.models import ReviewState
from copywatch.logs import log_context, table
from copywatch.settings import settings

log = logging.getLogger(__name__)


def apply_decisions(run: str) -> dict[str, int]:
    """Accepted matches go to the outbox, refused ones are closed; the lake is told of both."""
    config = settings()
    key = run_key(run)
    create_tables(config.warehouse)
    with log_context(run=key):
        with session() as opened:
            decided = reviews.apply_decisions(opened, key)
            decisions = [
                {
                    "sighting_id": review.evidence.sighting_id,
                    "protected_id": review.evidence.protected_id,
                    "state": review.state,
                    "decided_by": review.decided_by,
                    "decided_at": review.decided_at,
                }
                for review in decided
            ]
            rows = [
                {
                    "site": review.evidence.site,
                    "image": review.evidence.image_url,
                    "distance": f"{review.evidence.distance:.4f}",
                    "decision": review.state,
                    "by": review.decided_by,
                }
                for review in decided
            ]
        mirror_decisions(config.warehouse, decisions)
        log.info("done\n%s", table(rows, title="decisions carried out"))
    return {
        state.value: sum(decision["state"] == state for decision in decisions)
        for state in (ReviewState.ACCEPTED, ReviewState.REFUSED)
    }
