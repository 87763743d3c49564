"""Owners, images and matches for the ledger's tests."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from copywatch.images import ImageStore, image_store
from copywatch.settings import Settings, settings

FOUND_AT = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)


def picture_of(seed: int) -> bytes:
    """A small JPEG, different for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def picture() -> Callable[[int], bytes]:
    return picture_of


@pytest.fixture
def config(ledger_url: str) -> Settings:
    return settings()


@pytest.fixture
def store(ledger_url: str) -> ImageStore:
    return image_store()


@pytest.fixture
def intake(config: Settings) -> Callable[..., Path]:
    """Put files into a folder of the intake; returns the folder."""

    def put(folder: str = "ada", **files: bytes) -> Path:
        root = config.intake / folder
        root.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (root / name).write_bytes(data)
        return root

    return put


@pytest.fixture
def apply_for(config: Settings, store: ImageStore) -> Callable[..., list[tuple[str, str, str | None]]]:
    """Apply for the images of a folder, in a transaction of its own; returns (file, state, reason) of each."""

    def apply(root: Path, run: str = "run-1", email: str = "ada@owners.example") -> list[tuple[str, str, str | None]]:
        from copywatch.ledger import applications
        from copywatch.ledger.database import session

        with session() as opened:
            received = applications.receive(
                opened, run=run, owner=applications.owner_by_email(opened, email), root=root, store=store,
                files=sorted(path for path in root.rglob("*") if path.is_file()), config=config,
            )  # fmt: skip
            return [(one.filename, one.state, one.reason) for one in received]

    return apply


@pytest.fixture
def protected_ids(intake: Callable[..., Path], apply_for: Callable[..., Any]) -> list[str]:
    """Two protected images of Ada's, by their ids."""
    from sqlalchemy import select

    from copywatch.ledger.database import session
    from copywatch.ledger.models import Application, ApplicationState

    apply_for(intake("ada", **{"lighthouse.jpg": picture_of(1), "barn.jpg": picture_of(2)}))
    with session() as opened:
        rows = opened.scalars(select(Application).order_by(Application.filename.desc())).all()
        for row in rows:
            row.state = ApplicationState.PROTECTED
        return [str(row.protected_id) for row in rows]


@pytest.fixture
def match() -> Callable[..., dict[str, Any]]:
    """A row of the table `matches`."""

    def make(number: int, protected_id: str, **changed: Any) -> dict[str, Any]:
        row: dict[str, Any] = {
            "sighting_id": f"{number:032x}", "protected_id": protected_id, "run": "run-2", "site": "lumen",
            "page_url": f"http://lumen.example/photo/{number}", "image_url": f"http://lumen.example/{number}.jpg",
            "uploader": "Finn <3 film", "uploaded_at": datetime(2026, 11, 1, 8, 30, tzinfo=UTC),
            "crawled_at": FOUND_AT, "verdict": 1, "distance": 0.2153, "algorithm": "mao/1", "threshold": 0.47,
            "sha256": f"{number:064x}",
        }  # fmt: skip
        return row | changed

    return make


@pytest.fixture
def record(store: ImageStore) -> Callable[..., Any]:
    """Record matches in a transaction of its own."""

    def enter(*matches: dict[str, Any], data: dict[str, bytes] | None = None) -> Any:
        from copywatch.ledger.database import session
        from copywatch.ledger.evidence import record_matches

        with session() as opened:
            return record_matches(opened, matches, data or {}, store)

    return enter
