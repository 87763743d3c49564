"""Sending what is in the outbox.

An alert is locked while it is sent and noted as sent in the same transaction. A process that dies between the mail
server's yes and the commit sends that one mail again, under the same Message-ID.
"""

from __future__ import annotations

import logging
import smtplib
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from itertools import groupby

from sqlalchemy import select
from sqlalchemy.orm import Session

from copywatch.alerts.message import alert_mail, confirmation_mail
from copywatch.errors import AlertNotSent
from copywatch.images import ImageStore
from copywatch.ledger.models import Alert, AlertState, Application, ApplicationState
from copywatch.settings import Settings

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 30
MAX_ATTEMPTS = 20
"""Tries after which an alert that the server refuses is given up and shown as failed. A server that is down refuses
nothing: what waits for it waits as long as it takes."""

Transaction = Callable[[], AbstractContextManager[Session]]


@dataclass(frozen=True)
class Sent:
    """One alert that went out."""

    alert_id: int
    to: str
    site: str
    image_url: str
    verdict: int
    distance: float


class _ServerDown(AlertNotSent):
    """Nobody answers at the mail server's address, or no login is had there: no other mail will fare better."""


def send_mail(message: EmailMessage, config: Settings) -> None:
    """Hand one mail to the mail server.

    Raises:
        AlertNotSent: it did not take it; the message says what it answered.
    """
    trouble: type[AlertNotSent] = _ServerDown
    try:
        with smtplib.SMTP(config.smtp_host, config.smtp_port, timeout=_TIMEOUT_SECONDS) as server:
            if config.smtp_tls:
                server.starttls()
            if config.smtp_user:
                server.login(config.smtp_user, config.smtp_password.get_secret_value())
            trouble = AlertNotSent
            server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        raise trouble(
            f"mail server {config.smtp_host}:{config.smtp_port} did not take the mail to {message['To']}: {error}. "
            "Check COPYWATCH_SMTP_*. An alert stays in the outbox and is tried again."
        ) from error


def send_pending(transaction: Transaction, store: ImageStore, config: Settings) -> list[Sent]:
    """Send every alert of the outbox, each in a transaction of its own.

    Raises:
        AlertNotSent: some could not be sent, the others were; or nobody answered, and the rest was not tried. The
            next try takes up what is left.
    """
    sent: list[Sent] = []
    failures: list[str] = []
    tried: set[int] = set()
    while True:
        with transaction() as session:
            alert = session.scalar(
                select(Alert)
                .where(Alert.state == AlertState.PENDING, Alert.id.not_in(tried))
                .order_by(Alert.id)
                .limit(1)
                .with_for_update(of=Alert, skip_locked=True)
            )
            if alert is None:
                break
            tried.add(alert.id)
            evidence = alert.evidence
            try:
                send_mail(alert_mail(evidence, store, config), config)
            except _ServerDown as error:
                alert.last_error = str(error)
                failures.append(str(error))
                break
            except Exception as error:  # a mail that cannot be made must not keep the others in the outbox
                alert.last_error = str(error) or type(error).__name__
                alert.attempts += 1
                if alert.attempts >= MAX_ATTEMPTS:
                    alert.state = AlertState.FAILED
                failures.append(alert.last_error)
                log.error("alert %s: %s", alert.id, alert.last_error)
                continue
            alert.attempts += 1
            alert.state = AlertState.SENT
            alert.sent_at = datetime.now(UTC)
            alert.last_error = None
            sent.append(
                Sent(
                    alert.id,
                    evidence.owner.email,
                    evidence.site,
                    evidence.image_url,
                    evidence.verdict,
                    evidence.distance,
                )
            )
    if failures:
        raise AlertNotSent(
            f"{len(tried) - len(sent)} of {len(tried)} alerts tried were not sent. The first: {failures[0]}"
        )
    return sent


def send_confirmations(
    transaction: Transaction, run: str, config: Settings, *, whole_only: Collection[int] = ()
) -> int:
    """Tell each owner, in one mail, what became of the images applied for in `run`; returns the mails sent.

    Args:
        transaction: opens a session.
        run: the run.
        config: the mail server.
        whole_only: ids of applications whose images are too plain for parts of them to be found.
    """
    mails = 0
    with transaction() as session:
        decided = session.scalars(
            select(Application)
            .where(
                Application.run == run,
                Application.state != ApplicationState.RECEIVED,
                Application.confirmed_at.is_(None),
            )
            .order_by(Application.owner_id, Application.id)
            .with_for_update(of=Application)
        ).all()
        for _, group in groupby(decided, key=lambda application: application.owner_id):
            applications = list(group)
            send_mail(confirmation_mail(applications[0].owner, applications, run, config, whole_only), config)
            for application in applications:
                application.confirmed_at = datetime.now(UTC)
            mails += 1
    return mails
