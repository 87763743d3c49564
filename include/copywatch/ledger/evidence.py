"""From the matches of a run to what people act on: alerts in the outbox, doubtful pairs in the review queue."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, exists, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from copywatch.images import ImageStore
from copywatch.ledger.explanations import Explanations
from copywatch.ledger.models import DECIDED, Alert, Application, Evidence, Review, ReviewState
from copywatch.matching.verdict import Verdict
from copywatch.rule import Rule

log = logging.getLogger(__name__)

CERTAIN = "certain"
"""`state` of a row of `matches` that is alerted at once."""

_TOLD = ("uploader", "uploader_url", "uploaded_at", "uploaded_at_source", "caption", "licence")
_VERIFIED = ("verification", "probability", "unverified", "edit")
_UNDECIDED = (ReviewState.PENDING, ReviewState.DIFFERENT)

Pair = tuple[str, str]


@dataclass(frozen=True)
class Recorded:
    """What recording a run's matches added; all 0 when the task ran before.

    Attributes:
        evidence: pairs that nobody knew of.
        alerts: put into the outbox.
        reviews: that wait for a person.
        different: that verification kept out of the queue.
    """

    evidence: int
    alerts: int
    reviews: int
    different: int = 0


def record_matches(
    session: Session, matches: Iterable[Mapping[str, Any]], found_bytes: Mapping[str, bytes], store: ImageStore
) -> Recorded:
    """Enter evidence for each match, and act by its `state`.

    Certain ones go to the outbox at once, T = 0 whatever the state says. Doubtful ones go to the review queue.
    Different ones get a review that waits for nobody.

    Args:
        session: an open transaction.
        matches: rows of the `matches` table. Those of earlier versions may lack `rule`, `plain_distance`, `view`,
            `state` and what verification wrote, or have nulls there; T alone then decides. What the site tells of the
            image may be missing, too.
        found_bytes: the found images by their SHA-256; a row whose bytes are kept already needs none. A row whose
            bytes nobody has is evidence without a picture, until a later call brings them.
        store: where evidence is kept.

    One evidence, one alert, one review per (sighting, protected image). A later call that brings another verification
    moves what nobody has decided or been alerted of; a person's decision stays.
    """
    found = list(matches)
    originals = _originals(session, {match["protected_id"] for match in found})
    addresses = {sha256: _kept(sha256, found_bytes, store) for sha256 in sorted({match["sha256"] for match in found})}
    known = _known(session, found)
    drawn = _drawn(found, originals, addresses, known, store)
    evidence = alerts = reviews = different = 0
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
        pair = _pair(match)
        verified = {**_verified(match), "explanation_address": drawn.get(pair)}
        values = _values(match, original, addresses[match["sha256"]]) | verified
        added = session.scalar(insert(Evidence).values(values).on_conflict_do_nothing().returning(Evidence.id))
        evidence += added is not None
        identifier = added or session.scalar(
            select(Evidence.id).where(Evidence.sighting_id == pair[0], Evidence.protected_id == pair[1])
        )
        if identifier is None:
            continue
        if added is None and pair in drawn:
            _verify_again(session, identifier, verified)
        if match["verdict"] == Verdict.IDENTICAL or match.get("state") == CERTAIN:
            alerts += _alert_at_once(session, identifier, match)
        elif _says_anything(match, known.get(pair)):
            queued = _put_into_queue(session, identifier, match)
            reviews += queued == ReviewState.PENDING
            different += queued == ReviewState.DIFFERENT
    _complete(session, addresses)
    return Recorded(evidence, alerts, reviews, different)


def _pair(match: Mapping[str, Any]) -> Pair:
    return match["sighting_id"], match["protected_id"]


def _verified(match: Mapping[str, Any]) -> dict[str, Any]:
    return {name: match.get(name) for name in _VERIFIED}


def _values(match: Mapping[str, Any], original: Application, found_address: str | None) -> dict[str, Any]:
    return {
        "sighting_id": match["sighting_id"],
        "protected_id": match["protected_id"],
        "owner_id": original.owner_id,
        "run": match["run"],
        "site": match["site"],
        "page_url": match["page_url"],
        "image_url": match["image_url"],
        **{name: match.get(name) for name in _TOLD},
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
        "found_address": found_address,
        "protected_address": original.storage_address,
        "protected_filename": original.filename,
    }


def _known(session: Session, matches: Iterable[Mapping[str, Any]]) -> dict[Pair, dict[str, Any]]:
    """What was verified of pairs that are evidence already."""
    rows = session.execute(
        select(
            Evidence.sighting_id,
            Evidence.protected_id,
            Evidence.explanation_address,
            *(getattr(Evidence, name) for name in _VERIFIED),
        ).where(Evidence.sighting_id.in_({match["sighting_id"] for match in matches}))
    )
    return {(row.sighting_id, row.protected_id): dict(row._mapping) for row in rows}


def _says_anything(match: Mapping[str, Any], before: Mapping[str, Any] | None) -> bool:
    """Not so, if the pair was verified by an earlier call and this row is from before that."""
    return match.get("verification") is not None or before is None or before["verification"] is None


def _drawn(
    matches: Iterable[Mapping[str, Any]],
    originals: Mapping[str, Application],
    addresses: Mapping[str, str | None],
    known: Mapping[Pair, Mapping[str, Any]],
    store: ImageStore,
) -> dict[Pair, str | None]:
    """The explanations of new pairs, and of those that are verified otherwise, or can be drawn only now.

    All are made before the first row is written: that takes its time, and nobody shall wait for a lock meanwhile.
    """
    drawn: dict[Pair, str | None] = {}
    explanations = Explanations(store)
    for match in matches:
        pair, original = _pair(match), originals.get(match["protected_id"])
        before = known.get(pair)
        if original is None or not _says_anything(match, before):
            continue
        same = before is not None and all(before[name] == value for name, value in _verified(match).items())
        if not same or (before is not None and before["explanation_address"] is None):
            drawn[pair] = explanations.address(match, original.storage_address, addresses[match["sha256"]])
    return drawn


def _verify_again(session: Session, evidence_id: int, verified: Mapping[str, Any]) -> None:
    """Let evidence say what is known now, unless a person or an alert has said something of it already."""
    spoken = exists().where(Review.evidence_id == evidence_id, Review.state.in_(DECIDED))
    alerted = exists().where(Alert.evidence_id == evidence_id)
    session.execute(update(Evidence).where(Evidence.id == evidence_id, ~spoken, ~alerted).values(verified))


def _alert_at_once(session: Session, evidence_id: int, match: Mapping[str, Any]) -> bool:
    """Put an alert into the outbox without a review; a verified copy that a person refused stays refused."""
    session.execute(delete(Review).where(Review.evidence_id == evidence_id, Review.state.in_(_UNDECIDED)))
    refused = select(Review.id).where(Review.evidence_id == evidence_id, Review.state == ReviewState.REFUSED)
    if match["verdict"] != Verdict.IDENTICAL and session.scalar(refused) is not None:
        return False
    return put_in_outbox(session, evidence_id, match["run"])


def _put_into_queue(session: Session, evidence_id: int, match: Mapping[str, Any]) -> ReviewState | None:
    """See to the pair's review; returns its state if it is new, None if there was one, or the owner was alerted."""
    if session.scalar(select(Alert.id).where(Alert.evidence_id == evidence_id)) is not None:
        return None
    state = ReviewState.DIFFERENT if match.get("state") == ReviewState.DIFFERENT else ReviewState.PENDING
    added = session.scalar(
        insert(Review).values(evidence_id=evidence_id, state=state).on_conflict_do_nothing().returning(Review.id)
    )
    if added is not None:
        return state
    session.execute(
        update(Review).where(Review.evidence_id == evidence_id, Review.state.in_(_UNDECIDED)).values(state=state)
    )
    return None


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
