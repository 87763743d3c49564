"""The review queue: doubtful matches, and what people decide of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import case, exists, func, or_, select, tuple_
from sqlalchemy.orm import Session, joinedload

from copywatch.errors import CopywatchError
from copywatch.ledger.evidence import put_in_outbox
from copywatch.ledger.models import DECIDED, Alert, AlertState, Evidence, Review, ReviewState
from copywatch.verification.verdict import Judgement


@dataclass(frozen=True)
class Standing:
    """What a run that waits for reviewers needs to know."""

    to_apply: bool
    """A decision waits that no review_matches run has carried out."""
    pending: int
    """Reviews that wait for a decision."""


# Verified copies are the reviewers' quickest decisions, and what owners wait for most.
_TURN = case((Evidence.verification == Judgement.CERTAIN, 0), else_=1)


def waiting(
    session: Session,
    state: ReviewState = ReviewState.PENDING,
    *,
    limit: int = 50,
    after_id: int = 0,
    site: str | None = None,
) -> Sequence[Review]:
    """Undecided reviews in one state: those that verification is certain of first, then the oldest.

    Args:
        session: an open transaction.
        state: `PENDING`, or `DIFFERENT`.
        limit: how many at most.
        after_id: go on behind this review, the last one of an earlier page, decided meanwhile or not; 0: from the
            beginning.
        site: of this site alone.
    """
    query = select(Review).join(Evidence).where(Review.state == state).order_by(_TURN, Review.id).limit(limit)
    if after_id:
        turn = session.scalar(select(_TURN).select_from(Review).join(Evidence).where(Review.id == after_id)) or 0
        query = query.where(tuple_(_TURN, Review.id) > tuple_(turn, after_id))
    if site is not None:
        query = query.where(Evidence.site == site)
    return session.scalars(query).all()


def count_by_state(session: Session) -> dict[str, int]:
    """How many reviews stand in each state."""
    counts = dict.fromkeys((state.value for state in ReviewState), 0)
    counts.update(session.execute(select(Review.state, func.count()).group_by(Review.state)).all())
    return counts


def decide(session: Session, review_id: int, state: ReviewState, by: str) -> Review:
    """Write down a person's decision. Deciding the same again is harmless.

    Raises:
        CopywatchError: there is no such review; or it was decided otherwise already, by whom and when.
    """
    review = session.scalar(select(Review).where(Review.id == review_id).with_for_update(of=Review))
    if review is None:
        raise CopywatchError(f"review {review_id}: there is none; it may have been removed with its evidence")
    if review.state == state:
        return review
    if review.state in DECIDED:
        raise CopywatchError(
            f"review {review_id}: {review.decided_by} decided '{review.state}' "
            f"at {review.decided_at:%Y-%m-%d %H:%M} UTC"
        )
    review.state = state
    review.decided_by = by
    review.decided_at = datetime.now(UTC)
    session.flush()
    return review


def apply_decisions(session: Session, run: str) -> Sequence[Review]:
    """Carry out what was decided: accepted matches go to the outbox, refused ones are closed.

    Returns the decisions of this run, those of an earlier try of the same run included, so that what follows (the
    mirror in the lake) can be done again.
    """
    fresh = session.scalars(
        select(Review)
        .where(Review.state.in_(DECIDED), Review.applied_run.is_(None))
        .with_for_update(of=Review, skip_locked=True)
    ).all()
    for review in fresh:
        review.applied_run = run
        if review.state == ReviewState.ACCEPTED:
            put_in_outbox(session, review.evidence_id, run)
    session.flush()
    return session.scalars(select(Review).where(Review.applied_run == run).order_by(Review.id)).all()


def standing(session: Session) -> Standing:
    """Decisions to carry out and reviews that wait, in one query."""
    waiting = select(func.count()).select_from(Review).where(Review.state == ReviewState.PENDING).scalar_subquery()
    decided = exists().where(Review.state.in_(DECIDED), Review.applied_run.is_(None))
    pending_reviews, to_apply = session.execute(select(waiting, decided)).one()
    return Standing(bool(to_apply), int(pending_reviews))


def waiting_by_site(session: Session, state: ReviewState = ReviewState.PENDING) -> dict[str, int]:
    """How many reviews stand in a state, by site, in the sites' alphabetical order."""
    query = (
        select(Evidence.site, func.count())
        .join(Review, Review.evidence_id == Evidence.id)
        .where(Review.state == state)
        .group_by(Evidence.site)
        .order_by(Evidence.site)
    )
    return dict(session.execute(query).all())


def in_state(
    session: Session, state: ReviewState | None, *, limit: int = 50, after_id: int = 0, site: str | None = None
) -> Sequence[Review]:
    """Reviews in one state (None: in any), by id."""
    query = select(Review).where(Review.id > after_id).order_by(Review.id).limit(limit)
    if state is not None:
        query = query.where(Review.state == state)
    if site is not None:
        query = query.join(Evidence).where(Evidence.site == site)
    return session.scalars(query).all()


def decided(session: Session, *, limit: int = 50, offset: int = 0, site: str | None = None) -> Sequence[Review]:
    """Decided reviews with their alerts, the latest decision first."""
    query = (
        select(Review)
        .where(Review.state.in_(DECIDED))
        .order_by(Review.decided_at.desc(), Review.id.desc())
        .options(joinedload(Review.evidence).joinedload(Evidence.alert))
    )
    if site is not None:
        query = query.join(Evidence).where(Evidence.site == site)
    return session.scalars(query.limit(limit).offset(offset)).all()


def alerts(session: Session, state: AlertState | None = None, *, limit: int = 50, after_id: int = 0) -> Sequence[Alert]:
    """Alerts of the outbox in one state (None: in any), by id."""
    query = select(Alert).where(Alert.id > after_id).order_by(Alert.id).limit(limit)
    if state is not None:
        query = query.where(Alert.state == state)
    return session.scalars(query).all()


def evidence_of_run(session: Session, run: str, *, limit: int) -> tuple[int, Sequence[Evidence]]:
    """What a run found, decided or alerted: how many pairs, and the first of them with their reviews and alerts."""
    chosen = (
        select(Evidence.id)
        .outerjoin(Review, Review.evidence_id == Evidence.id)
        .outerjoin(Alert, Alert.evidence_id == Evidence.id)
        .where(or_(Evidence.run == run, Review.applied_run == run, Alert.run == run))
    )
    total = session.scalar(select(func.count()).select_from(chosen.subquery()))
    rows = session.scalars(
        select(Evidence)
        .where(Evidence.id.in_(chosen))
        .order_by(Evidence.id)
        .limit(limit)
        .options(joinedload(Evidence.review), joinedload(Evidence.alert))
    )
    return int(total or 0), rows.all()
