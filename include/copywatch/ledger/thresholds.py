"""Which threshold an administrator chose, and every choice before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from copywatch.ledger import database
from copywatch.ledger.models import ThresholdChoice
from copywatch.settings import Settings, settings

DEFAULT = "default"
"""The method of a choice: the measured default, whichever it is."""
NEWEST = "newest"
"""The method of a choice: let the newest calibration say."""


def choose(
    session: Session,
    *,
    algorithm: str,
    rule: str,
    method: str,
    by: str,
    threshold: float | None = None,
    calibration_run: str | None = None,
    false_alarm_rate: float | None = None,
    pairs: int | None = None,
) -> ThresholdChoice:
    """Write down a choice. The same choice once more adds nothing: the first stays in force, and says who made it.

    Args:
        session: on the ledger.
        algorithm: identity of the fingerprint, such as `mao/1`.
        rule: how the distance is measured, a `Rule`.
        method: `normal` or `tail` of a calibration, `DEFAULT` or `NEWEST`.
        by: who chose.
        threshold: Th, in [0, 1]; None for `DEFAULT` and `NEWEST`.
        calibration_run: that it is from.
        false_alarm_rate: that it was made for.
        pairs: that it measured.

    Raises:
        ValueError: a threshold where none belongs, none where one does, or one out of bounds.
    """
    if (threshold is None) != (method in {DEFAULT, NEWEST}):
        raise ValueError(f"a choice of {method!r} with the threshold {threshold}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"a threshold is in [0, 1], not {threshold}")
    last = newest(session, algorithm, rule)
    if last is not None and (last.method, last.threshold, last.calibration_run) == (method, threshold, calibration_run):
        return last
    choice = ThresholdChoice(
        algorithm=algorithm,
        rule=rule,
        method=method,
        threshold=threshold,
        calibration_run=calibration_run,
        false_alarm_rate=false_alarm_rate,
        pairs=pairs,
        chosen_by=by,
    )
    session.add(choice)
    session.flush()
    session.refresh(choice)
    return choice


def newest(session: Session, algorithm: str, rule: str) -> ThresholdChoice | None:
    """The choice in force; None: nobody chose."""
    return session.scalar(_of(algorithm, rule).limit(1))


def history(session: Session, algorithm: str, rule: str, *, limit: int) -> Sequence[ThresholdChoice]:
    """Choices, the newest first."""
    return session.scalars(_of(algorithm, rule).limit(limit)).all()


def _of(algorithm: str, rule: str) -> Select[ThresholdChoice]:
    return (
        select(ThresholdChoice)
        .where(ThresholdChoice.algorithm == algorithm, ThresholdChoice.rule == rule)
        .order_by(ThresholdChoice.id.desc())
    )


@contextmanager
def ledger_of(config: Settings) -> Iterator[Session | None]:
    """A transaction on the ledger that some settings name; None: there never was one there.

    That is so where no server is set and the embedded one has no files: on a machine that only runs the command, say.
    A ledger that is set, or has files, and does not answer is an error.

    Raises:
        SQLAlchemyError: the server cannot be reached.
    """
    files = config.data_dir.resolve() / "postgres"
    if config.database_url is None and not files.exists():
        yield None
        return
    mine = settings()
    if (config.database_url, files) == (mine.database_url, mine.data_dir.resolve() / "postgres"):
        with database.session() as opened:
            yield opened
        return
    engine = database.connect(database.ledger_url(config))
    try:
        database.migrate(engine)
        with Session(engine, expire_on_commit=False) as opened, opened.begin():
            yield opened
    finally:
        engine.dispose()
