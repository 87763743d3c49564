"""What an owner may see of the ledger: their own images and the alerts about them, and nothing of anybody else."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session, contains_eager, joinedload

from copywatch.ledger.models import Alert, Application, ApplicationState, Evidence


def image_counts(session: Session, owner_id: int) -> dict[str, int]:
    """How many of the owner's applications stand in each state."""
    counts = dict.fromkeys((state.value for state in ApplicationState), 0)
    rows = session.execute(
        select(Application.state, func.count()).where(Application.owner_id == owner_id).group_by(Application.state)
    )
    counts.update(rows.all())
    return counts


def images(session: Session, owner_id: int, *, limit: int, offset: int = 0) -> Sequence[Application]:
    """The owner's applications, the latest first."""
    return session.scalars(
        select(Application)
        .where(Application.owner_id == owner_id)
        .order_by(Application.submitted_at.desc(), Application.id.desc())
        .limit(limit)
        .offset(offset)
    ).all()


def image(session: Session, owner_id: int, application_id: int) -> Application | None:
    """One of the owner's applications; None: there is none, or it is another owner's."""
    return session.scalar(select(Application).where(Application.id == application_id, Application.owner_id == owner_id))


def image_names(session: Session, owner_id: int, protected_ids: Collection[str]) -> dict[str, Application]:
    """Those of some protected images that are the owner's, by protected id."""
    rows = session.scalars(
        select(Application).where(
            Application.owner_id == owner_id,
            Application.protected_id.in_(protected_ids),
            Application.state == ApplicationState.PROTECTED,
        )
    )
    return {str(row.protected_id): row for row in rows}


def alert_count(session: Session, owner_id: int) -> int:
    """How many alerts there are about the owner's images."""
    query = select(func.count()).select_from(Alert).join(Evidence).where(Evidence.owner_id == owner_id)
    return int(session.scalar(query) or 0)


def alerts(session: Session, owner_id: int, *, limit: int, offset: int = 0) -> Sequence[Alert]:
    """Alerts about the owner's images with their evidence and review, the latest first.

    Matches that wait for a reviewer, or were refused, are no alerts: an owner sees what is certain or was confirmed.
    """
    query = (
        select(Alert)
        .join(Alert.evidence)
        .where(Evidence.owner_id == owner_id)
        .options(contains_eager(Alert.evidence).joinedload(Evidence.review))
        .order_by(Alert.created_at.desc(), Alert.id.desc())
    )
    return session.scalars(query.limit(limit).offset(offset)).all()


def alert(session: Session, owner_id: int, alert_id: int) -> Alert | None:
    """One alert about the owner's images; None: there is none, or it is another owner's."""
    return session.scalar(
        select(Alert)
        .join(Alert.evidence)
        .where(Alert.id == alert_id, Evidence.owner_id == owner_id)
        .options(contains_eager(Alert.evidence).options(joinedload(Evidence.review)))
    )
