"""Made-up rows of `detected` and `protected`, whose distances are known because they were put there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from copywatch.fingerprint import Mao
from copywatch.lake.identity import sighting_id

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
IDENTICAL, SIMILAR, DIFFERENT = 0, 100, 700
"""Symbols by which a sighting differs from its original; Th is 0.47, or 338 of 720."""


def fingerprint(family: int, changes: int = 0) -> bytes:
    """A fingerprint that differs from its family's in `changes` of 720 symbols; families are far from each other."""
    symbols = np.random.default_rng(family).integers(0, 4, 720, dtype=np.uint8)
    symbols[:changes] = (symbols[:changes] + 1) % 4
    return Mao().encode(symbols)


def original(number: int, **changed: Any) -> dict[str, Any]:
    """Protected image `number`, of the family of its number."""
    row = {
        "protected_id": f"{number:032x}", "owner": "1", "application_id": number, "storage_address": f"o/{number}",
        "sha256": f"{number:064x}", "fingerprint": fingerprint(number), "algorithm": "mao/1", "tag": "animal",
        "tags": [("animal", 1.0)], "width": 320, "height": 240, "registered_at": NOW - timedelta(days=1),
        "status": "active", "run": "intake",
    }  # fmt: skip
    return row | changed


def sighting(number: int, changes: int, run: str = "run-1", **changed: Any) -> dict[str, Any]:
    """A sighting that is `changes` symbols away from original `number`."""
    where = {
        "site": changed.pop("site", "lumen"), "page_url": "http://lumen/page",
        "image_url": f"http://lumen/{number}.jpg", "sha256": f"{number + 1000:064x}",
    }  # fmt: skip
    row = where | {
        "sighting_id": sighting_id(**where), "uploader": "Finn", "crawled_at": NOW,
        "fingerprint": fingerprint(number, changes), "algorithm": "mao/1", "tag": "animal",
        "tags": [("animal", 1.0)], "width": 320, "height": 240, "run": run,
    }  # fmt: skip
    return row | changed
