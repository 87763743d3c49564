"""A portal on a real ledger, with a real SMTP inbox behind it and protected images in a real Delta table."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from copywatch.demo.inbox import MailFolder, smtp_listener
from tests.portal.portal_steps import ORIGIN, TOKEN, ask, code_in, picture, try_code


@pytest.fixture(scope="session")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MailFolder, int]]:
    """Mails taken by SMTP, and the port they are taken on."""
    folder = MailFolder(tmp_path_factory.mktemp("mails"))
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: smtp_listener(folder), "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield folder, server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


@pytest.fixture
def config(ledger_url: str, inbox: tuple[MailFolder, int], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Settings of a portal in production, its mails going to the inbox."""
    from copywatch.settings import settings

    monkeypatch.setenv("COPYWATCH_SMTP_HOST", "127.0.0.1")
    monkeypatch.setenv("COPYWATCH_SMTP_PORT", str(inbox[1]))
    monkeypatch.setenv("COPYWATCH_PORTAL_SECRET", "s" * 40)
    monkeypatch.setenv("COPYWATCH_CHECK_TOKENS", f" {TOKEN}, another-token-of-ours ")
    monkeypatch.setenv("COPYWATCH_MAX_IMAGE_BYTES", "300000")
    settings.cache_clear()
    return settings()


@pytest.fixture
def browser(config: Any) -> Callable[..., TestClient]:
    """A browser that knows nobody yet; `address` is the network that it comes from."""
    from copywatch.portal.application import create_portal

    app = create_portal(config)

    def make(address: str = "198.51.100.7") -> TestClient:
        headers = {"accept": "text/html,*/*", "sec-fetch-site": "same-origin", "origin": ORIGIN}
        return TestClient(app, base_url=ORIGIN, headers=headers, follow_redirects=False, client=(address, 40000))

    return make


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A port that nobody listens on now."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.fixture
def owner_of(config: Any) -> Callable[..., int]:
    """Enter an owner by address; returns the id."""
    from copywatch.ledger.applications import owner_by_email
    from copywatch.ledger.database import session

    def enter(email: str = "ada@owners.example", name: str = "Ada") -> int:
        with session() as opened:
            return owner_by_email(opened, email, name).id

    return enter


@pytest.fixture
def signed_in(
    browser: Callable[..., TestClient], inbox: tuple[MailFolder, int], owner_of: Callable[..., int]
) -> Callable[..., tuple[TestClient, int]]:
    """A browser that an owner signed in with, and the owner's id."""

    def enter(email: str = "ada@owners.example", name: str = "Ada") -> tuple[TestClient, int]:
        owner_id = owner_of(email, name)
        client = browser()
        assert ask(client, email).status_code == 303
        newest = next(mail for mail in inbox[0].mails if email in mail.to)
        assert try_code(client, code_in(newest.text)).headers["location"] == "/"
        return client, owner_id

    return enter


@pytest.fixture
def plant_image(config: Any) -> Callable[..., int]:
    """Enter an application of an owner with its original; returns its id."""
    from copywatch.images import image_store
    from copywatch.lake.identity import protected_id
    from copywatch.ledger.database import session
    from copywatch.ledger.models import Application

    def enter(owner_id: int, data: bytes | None = None, **changed: Any) -> int:
        data = picture(1) if data is None else data
        digest = hashlib.sha256(data).hexdigest()
        values: dict[str, Any] = {
            "owner_id": owner_id,
            "run": "run-1",
            "filename": "lighthouse.png",
            "sha256": digest,
            "storage_address": image_store().put(data, "originals"),
            "state": "protected",
            "protected_id": protected_id(str(owner_id), digest),
        }
        with session() as opened:
            row = Application(**(values | changed))
            opened.add(row)
            opened.flush()
            return row.id

    return enter


@pytest.fixture
def plant_alert(config: Any) -> Callable[..., int]:
    """Enter a match with its alert (or, with alerted=False, without); returns the alert's id, or 0."""
    from copywatch.images import image_store
    from copywatch.ledger.database import session
    from copywatch.ledger.models import Alert, Evidence

    def enter(owner_id: int, number: int = 1, *, alerted: bool = True, state: str = "sent", **changed: Any) -> int:
        protected = image_store().put(picture(1), "originals")
        found = image_store().put(picture(number), "evidence")
        values: dict[str, Any] = {
            "sighting_id": f"{number:032x}",
            "protected_id": "a" * 32,
            "owner_id": owner_id,
            "run": "run-1",
            "site": "photo-community",
            "page_url": f"https://photos.example/page/{number}",
            "image_url": f"https://photos.example/image/{number}.jpg",
            "uploader": "Bob",
            "uploaded_at": datetime(2026, 11, 1, 8, 30, tzinfo=UTC),
            "crawled_at": datetime(2026, 11, 20, 9, 0, tzinfo=UTC),
            "verdict": 0,
            "distance": 0.0,
            "algorithm": "mao/1",
            "threshold": 0.25,
            "found_sha256": found[-64:],
            "found_address": found,
            "protected_address": protected,
            "protected_filename": "lighthouse.png",
        }
        with session() as opened:
            evidence = Evidence(**(values | changed))
            opened.add(evidence)
            opened.flush()
            if not alerted:
                return 0
            alert = Alert(evidence_id=evidence.id, run="run-1", state=state)
            opened.add(alert)
            opened.flush()
            return alert.id

    return enter


@pytest.fixture
def tagged_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, float]], None]:
    """Give every checked image these tags, so that a test of the search needs no models."""
    from copywatch.matching import check as module

    def give(tags: dict[str, float]) -> None:
        class Fixed:
            def probabilities(self, _: Image.Image) -> dict[str, float]:
                return tags

        monkeypatch.setattr(module, "_tagger", lambda _: Fixed())

    return give
