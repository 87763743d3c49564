"""The outbox: each alert goes out once, and what is not taken stays."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from copywatch.alerts import delivery
from copywatch.alerts.delivery import send_confirmations, send_pending
from copywatch.errors import AlertNotSent
from copywatch.images import image_store
from copywatch.ledger.applications import owner_by_email
from copywatch.ledger.database import session
from copywatch.ledger.models import Alert, Application, ApplicationState, Evidence, Owner
from copywatch.settings import Settings
from tests.alerts.conftest import MailServer

pytestmark = pytest.mark.integration

Plant = Callable[..., int]


@pytest.fixture
def send(config: Settings) -> Callable[[], list[delivery.Sent]]:
    return lambda: send_pending(session, image_store(), config)


def outbox() -> list[tuple[str, int]]:
    with session() as opened:
        return [(alert.state, alert.attempts) for alert in opened.scalars(select(Alert).order_by(Alert.id))]


def subjects_of(server: MailServer) -> list[str]:
    return [str(mail["To"]) for mail in server.mails]


def test_sends_what_waits_and_says_what(send: Any, plant: Plant, mail_server: MailServer):
    plant(1)
    plant(2, "eve@owners.example", "Eve", verdict=0, distance=0.0)
    plant(3, alert=False)
    sent = send()
    assert [(one.to, one.verdict, one.image_url) for one in sent] == [
        ("ada@owners.example", 1, "http://lumen.example/1.jpg"),
        ("eve@owners.example", 0, "http://lumen.example/2.jpg"),
    ]
    assert [mail.recipients for mail in mail_server.mails] == [["ada@owners.example"], ["eve@owners.example"]]  # type: ignore[attr-defined]
    with session() as opened:
        assert all(alert.sent_at is not None for alert in opened.scalars(select(Alert)))


def test_an_alert_without_the_found_picture_goes_out(send: Any, plant: Plant, mail_server: MailServer):
    plant(1, found_address=None, registered_later=True)
    assert [one.image_url for one in send()] == ["http://lumen.example/1.jpg"]
    assert outbox() == [("sent", 1)]


def test_a_retry_sends_nothing_again(send: Any, plant: Plant, mail_server: MailServer):
    plant(1)
    send()
    assert send() == []
    assert len(mail_server.mails) == 1


def test_an_empty_outbox_needs_no_server(send: Any, ledger_url: str):
    assert send() == []


def test_a_server_that_is_down_keeps_everything(
    send: Any, plant: Plant, config: Settings, monkeypatch: pytest.MonkeyPatch
):
    for number in range(3):
        plant(number)
    with pytest.raises(AlertNotSent, match=rf"127\.0\.0\.1:{config.smtp_port}.*COPYWATCH_SMTP"):
        send()
    assert [state for state, _ in outbox()] == ["pending"] * 3
    with session() as opened:
        assert "did not take" in str(opened.scalars(select(Alert).order_by(Alert.id)).all()[0].last_error)
    server = MailServer(config.smtp_port)
    server.start()
    try:
        assert len(send()) == 3
        assert len(server.mails) == 3
    finally:
        server.stop()


def test_a_server_that_stays_down_loses_no_alert(send: Any, plant: Plant, config: Settings):
    """A day without a mail server is more tries than an alert has: those are for mails that a server refuses."""
    plant(1)
    for _ in range(delivery.MAX_ATTEMPTS + 2):
        with pytest.raises(AlertNotSent):
            send()
    assert outbox()[0][0] == "pending"


def test_a_server_that_is_down_is_asked_once(send: Any, plant: Plant, monkeypatch: pytest.MonkeyPatch):
    """A hundred alerts at 30 seconds each would hold the task for an hour."""
    for number in range(3):
        plant(number)
    asked = []

    def connect(*arguments: Any, **options: Any) -> None:
        asked.append(arguments)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(AlertNotSent, match="timed out"):
        send()
    assert len(asked) == 1


def test_one_refused_does_not_stop_the_others(send: Any, plant: Plant, mail_server: MailServer):
    for number, email in enumerate(["ada@owners.example", "gone@owners.example", "eve@owners.example"]):
        plant(number, email)
    mail_server.refused.add("gone@owners.example")
    with pytest.raises(AlertNotSent, match=r"1 of 3 alerts tried were not sent.*550.*no such mailbox"):
        send()
    assert outbox() == [("sent", 1), ("pending", 1), ("sent", 1)]
    assert [str(mail["To"].addresses[0].addr_spec) for mail in mail_server.mails] == [
        "ada@owners.example",
        "eve@owners.example",
    ]
    mail_server.refused.clear()
    assert [one.to for one in send()] == ["gone@owners.example"]
    assert len(mail_server.mails) == 3


def test_one_that_is_refused_again_and_again_is_given_up_and_shown(
    send: Any, plant: Plant, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(delivery, "MAX_ATTEMPTS", 3)
    plant(1)
    mail_server.refused.add("ada@owners.example")
    for _ in range(3):
        with pytest.raises(AlertNotSent):
            send()
    assert outbox() == [("failed", 3)]
    assert send() == []


@pytest.mark.parametrize("trouble", ["picture", "address"])
def test_a_mail_that_cannot_be_made_does_not_stop_the_others(
    send: Any, plant: Plant, mail_server: MailServer, trouble: str
):
    plant(1, **({"found_address": "evidence/00/" + "0" * 64} if trouble == "picture" else {}))
    if trouble == "address":
        with session() as opened:
            opened.scalars(select(Owner)).one().email = "a@b@c,<"
    plant(2, "eve@owners.example")
    with pytest.raises(AlertNotSent, match="1 of 2"):
        send()
    assert outbox() == [("pending", 1), ("sent", 1)]
    assert len(mail_server.mails) == 1


def test_a_death_after_the_mail_sends_it_again_under_the_same_id(
    send: Any, plant: Plant, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
):
    plant(1)
    honest = delivery.send_mail

    def send_and_die(*arguments: Any) -> None:
        honest(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(delivery, "send_mail", send_and_die)
        with pytest.raises(KeyboardInterrupt):
            send()
    assert outbox() == [("pending", 0)]
    send()
    first, second = mail_server.mails
    assert first["Message-ID"] == second["Message-ID"]


def test_an_alert_that_another_process_is_sending_is_left_to_it(send: Any, plant: Plant, mail_server: MailServer):
    plant(1)
    plant(2)
    with session() as other:
        other.scalars(select(Alert).order_by(Alert.id).limit(1).with_for_update(of=Alert)).one()
        assert [one.image_url for one in send()] == ["http://lumen.example/2.jpg"]
    assert [one.image_url for one in send()] == ["http://lumen.example/1.jpg"]
    assert len(mail_server.mails) == 2


class TestConfirmations:
    @pytest.fixture
    def applied(self, ledger_url: str) -> None:
        states = {
            "a.jpg": ApplicationState.PROTECTED,
            "b.jpg": ApplicationState.REFUSED,
            "c.jpg": ApplicationState.RECEIVED,
        }
        with session() as opened:
            owner = owner_by_email(opened, "ada@owners.example", "Ada")
            for name, state in states.items():
                opened.add(Application(run="run-1", owner_id=owner.id, filename=name, sha256="", state=state,
                                       decided_at=datetime.now(UTC)))  # fmt: skip

    def test_one_mail_tells_all_once(self, applied: None, mail_server: MailServer, config: Settings):
        assert send_confirmations(session, "run-1", config) == 1
        assert send_confirmations(session, "run-1", config) == 0
        (mail,) = mail_server.mails
        assert mail["Subject"] == "1 of 2 images are protected"
        with session() as opened:
            told = {one.filename: one.confirmed_at is not None for one in opened.scalars(select(Application))}
        assert told == {"a.jpg": True, "b.jpg": True, "c.jpg": False}

    def test_a_server_that_is_down_leaves_it_to_the_next_try(self, applied: None, config: Settings):
        with pytest.raises(AlertNotSent):
            send_confirmations(session, "run-1", config)
        server = MailServer(config.smtp_port)
        server.start()
        try:
            assert send_confirmations(session, "run-1", config) == 1
        finally:
            server.stop()

    def test_other_runs_are_not_told(self, applied: None, mail_server: MailServer, config: Settings):
        assert send_confirmations(session, "run-2", config) == 0
        assert mail_server.mails == []


def test_every_alert_sent_is_of_evidence_that_exists(send: Any, plant: Plant, mail_server: MailServer):
    """The Message-ID names the pair, so a second mail of one pair would be seen as such by any mail program."""
    for number in range(3):
        plant(number)
    send()
    with session() as opened:
        pairs = {
            f"<alert-{one.sighting_id}-{one.protected_id}@copywatch.invalid>"
            for one in opened.scalars(select(Evidence))
        }
    assert {str(mail["Message-ID"]) for mail in mail_server.mails} == pairs
    assert len(mail_server.mails) == 3
