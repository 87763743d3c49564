"""A ledger with alerts in its outbox, and a mail server that can be told to misbehave."""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import numpy as np
import pytest
from aiosmtpd.controller import Controller
from PIL import Image

from copywatch.images import image_store
from copywatch.settings import Settings, settings


def picture_of(seed: int) -> bytes:
    """A JPEG of 640 x 480, different for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(out, "JPEG")
    return out.getvalue()


class MailServer:
    """Takes mails, and refuses recipients that it is told to."""

    def __init__(self, port: int) -> None:
        self.mails: list[EmailMessage] = []
        self.refused: set[str] = set()
        self.die_after: int | None = None
        self._controller = Controller(self, hostname="127.0.0.1", port=port)
        self.port = port

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if address in self.refused:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        message.recipients = envelope.rcpt_tos  # type: ignore[attr-defined]
        self.mails.append(message)
        return "250 taken"

    def start(self) -> None:
        self._controller.start()

    def stop(self) -> None:
        with contextlib.suppress(AssertionError, RuntimeError):
            self._controller.stop(no_assert=True)


@pytest.fixture
def free_smtp_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def mail_server(free_smtp_port: int) -> Iterator[MailServer]:
    server = MailServer(free_smtp_port)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def config(ledger_url: str, free_smtp_port: int) -> Settings:
    return settings().model_copy(update={"smtp_host": "127.0.0.1", "smtp_port": free_smtp_port})


@pytest.fixture
def plant(ledger_url: str) -> Callable[..., int]:
    """Enter evidence with its alert in the outbox (`alert=False`: without); returns the evidence's id."""
    from copywatch.ledger.applications import owner_by_email
    from copywatch.ledger.database import session
    from copywatch.ledger.evidence import put_in_outbox
    from copywatch.ledger.models import Evidence

    def enter(
        number: int = 1, email: str = "ada@owners.example", name: str = "Ada", alert: bool = True, **changed: Any
    ) -> int:
        protected = image_store().put(picture_of(0), "originals")
        found = image_store().put(picture_of(number), "evidence")
        values: dict[str, Any] = {
            "sighting_id": f"{number:032x}", "protected_id": "a" * 32, "run": "run-1", "site": "lumen",
            "page_url": f"http://lumen.example/photo/{number}", "image_url": f"http://lumen.example/{number}.jpg",
            "uploader": "Finn", "uploaded_at": datetime(2026, 11, 1, 8, 30, tzinfo=UTC),
            "crawled_at": datetime(2026, 11, 20, 9, 0, tzinfo=UTC), "verdict": 1, "distance": 0.2153,
            "algorithm": "mao/1", "threshold": 0.47, "found_sha256": found[-64:], "found_address": found,
            "protected_address": protected, "protected_filename": "lighthouse.jpg",
        }  # fmt: skip
        with session() as opened:
            owner = owner_by_email(opened, email, name)
            evidence = Evidence(**(values | {"owner_id": owner.id} | changed))
            opened.add(evidence)
            opened.flush()
            if alert:
                put_in_outbox(opened, evidence.id, "run-1")
            return evidence.id

    return enter
