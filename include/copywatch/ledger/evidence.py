"""From the matches of a run to what people act on: alerts in the outbox, doubtful pairs in the review queue."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from copywatch.images import ImageStore
from copywatch.ledger.models import Alert, Application, Evidence, Review
from copywatch.matching.verdict import Verdict
from copywatch.rule import Rule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recorded:
    """What recording a run's matches added; all 0 when the task ran before."""

    evidence: int
    alerts: int
    reviews: int


def record_matches(
    session: Session, matches: Iterable[Mapping[str, Any]], found_bytes: Mapping[str, bytes], store: ImageStore
) -> Recorded:
    """Enter evidence for each match; T = 0 goes to the outbox at once, T = 1 to the review queue.

    Args:
        session: an open transaction.
        matches: rows of the `matches` table. Those written before there was a second rule may lack `rule`,
            `plain_distance` and `view`, or have nulls there.
        found_bytes: the found images by their SHA-256; a row whose bytes are kept already needs none. A row whose
            bytes nobody has is evidence without a picture, until a later call brings them.
        store: where evidence is kept.

    Every insert leaves what is there: one evidence, one alert, one review per (sighting, protected image).
    """
    evidence = alerts = reviews = 0
    found = list(matches)
    originals = _originals(session, {match["protected_id"] for match in found})
    addresses = {sha256: _kept(sha256, found_bytes, store) for sha256 in sorted({match["sha256"] for match in found})}
    for match in found:
        original = originals.get(match["protected_id"])
        if original is None:
            # One match that nobody can be told of must not keep the others from their owners.
            log.error(
                "match of %s with %s: the ledger has no such protected image, so nobody is alerted",
                match["image_url"],
                match["protected_id"],
            )
            continue
        values = {
            "sighting_id": match["sighting_id"],
            "protected_id": match["protected_id"],
            "owner_id": original.owner_id,
            "run": match["run"],
            "site": match["site"],
            "page_url": match["page_url"],
            "image_url": match["image_url"],
            "uploader": match["uploader"],
            "uploaded_at": match["uploaded_at"],
            "crawled_at": match["crawled_at"],
            "verdict": match["verdict"],
            "distance": match["distance"],
            "algorithm": match["algorithm"],
            "threshold": match["threshold"],
            "rule": match.get("rule") or Rule.PAPER,
            "plain_distance": match.get("plain_distance"),
            "view": match.get("view"),
            "registered_later": match["crawled_at"] < original.submitted_at,
            "found_sha256": match["sha256"],
            "found_address": addresses[match["sha256"]],
            "protected_address": original.storage_address,
            "protected_filename": original.filename,
        }
        added = session.scalar(insert(Evidence).values(values).on_conflict_do_nothing().returning(Evidence.id))
        evidence += added is not None
        identifier = added or session.scalar(
            select(Evidence.id).where(
                Evidence.sighting_id == match["sighting_id"], Evidence.protected_id == match["protected_id"]
            )
        )
        if identifier is None:
            continue
        if match["verdict"] == Verdict.IDENTICAL:
            alerts += put_in_outbox(session, identifier, match["run"])
        else:
            reviews += (
                session.scalar(
                    insert(Review).values(evidence_id=identifier).on_conflict_do_nothing().returning(Review.id)
                )
                is not None
            )
    _complete(session, addresses)
    return Recorded(evidence, alerts, reviews)


def _originals(session: Session, protected_ids: set[str]) -> dict[str, Application]:
    """The applications behind protected images; a withdrawn and renewed one is the newest's."""
    rows = session.scalars(
        select(Application).where(Application.protected_id.in_(protected_ids)).order_by(Application.id)
    )
    return {str(row.protected_id): row for row in rows}


def put_in_outbox(session: Session, evidence_id: int, run: str) -> bool:
    """Put one alert into the outbox; False: it is there already."""
    statement = insert(Alert).values(evidence_id=evidence_id, run=run).on_conflict_do_nothing().returning(Alert.id)
    return session.scalar(statement) is not None


def _kept(sha256: str, found_bytes: Mapping[str, bytes], store: ImageStore) -> str | None:
    """Address at which the found image is kept; None: nobody has its bytes."""
    data = found_bytes.get(sha256)
    if data is not None:
        return store.put(data, "evidence")
    address = f"evidence/{sha256[:2]}/{sha256}"
    return address if store.holds(address) else None


def _complete(session: Session, addresses: Mapping[str, str | None]) -> None:
    """Give evidence that was entered without a picture the one that is kept now: of a retry, or a later crawl."""
    for sha256, address in addresses.items():
        if address is not None:
            session.execute(
                update(Evidence)
                .where(Evidence.found_sha256 == sha256, Evidence.found_address.is_(None))
                .values(found_address=address)
            )
