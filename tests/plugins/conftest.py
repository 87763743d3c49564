"""A ledger with doubtful pairs in it, and the pages inside Airflow's real application."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

sys.path.append(str(Path(__file__).resolve().parents[2] / "plugins"))

Plant = Callable[..., int]


def _picture(colour: str, size: tuple[int, int] = (320, 200)) -> bytes:
    """A plain PNG."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def picture_bytes() -> Callable[..., bytes]:
    """Makes plain PNGs of a colour and a size."""
    return _picture


@pytest.fixture
def plant(ledger_url: str) -> Plant:
    """Enter a doubtful pair; returns the review's id (the evidence's is the same on an empty ledger)."""
    from copywatch.images import image_store
    from copywatch.ledger.applications import owner_by_email
    from copywatch.ledger.database import session
    from copywatch.ledger.models import Evidence, Review

    def enter(number: int = 1, owner: str = "Ada", **changed: Any) -> int:
        protected = image_store().put(_picture("red"), "originals")
        found = image_store().put(_picture(f"#{number:06x}"), "evidence")
        values: dict[str, Any] = {
            "sighting_id": f"{number:032x}",
            "protected_id": "a" * 32,
            "run": "run-1",
            "site": "photo-community",
            "page_url": f"https://photos.example/page/{number}",
            "image_url": f"https://photos.example/image/{number}.jpg",
            "uploader": "Bob",
            "uploaded_at": datetime(2026, 11, 1, 8, 30, tzinfo=UTC),
            "crawled_at": datetime(2026, 11, 20, 9, 0, tzinfo=UTC),
            "verdict": 1,
            "distance": 0.21,
            "algorithm": "mao/1",
            "threshold": 0.4,
            "found_sha256": found[-64:],
            "found_address": found,
            "protected_address": protected,
            "protected_filename": "lighthouse.png",
        }
        with session() as opened:
            owner_id = owner_by_email(opened, "ada@owners.example", owner).id
            evidence = Evidence(**(values | {"owner_id": owner_id} | changed))
            opened.add(evidence)
            opened.flush()
            review = Review(evidence_id=evidence.id)
            opened.add(review)
            opened.flush()
            return review.id

    return enter


@pytest.fixture(scope="session")
def airflow_app() -> Any:
    """Airflow's application with our plugin in it, on a database of its own, with its own auth manager."""
    from airflow.api_fastapi.app import create_app
    from airflow.utils.db import initdb

    initdb()
    return create_app(apps="core")


@pytest.fixture
def client_of(airflow_app: Any, ledger_url: str) -> Callable[..., TestClient]:
    """A browser (cookie) or a script (bearer) of a user with a role; of nobody without one."""

    def client(role: str | None, *, bearer: bool = False) -> TestClient:
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

        made = TestClient(airflow_app, base_url="http://testserver", follow_redirects=False)
        if role is not None:
            token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=f"{role}-person", role=role))
            if bearer:
                made.headers["Authorization"] = f"Bearer {token}"
            else:
                made.cookies.set("_token", token)
        return made

    return client
