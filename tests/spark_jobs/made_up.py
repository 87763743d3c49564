"""Made-up rows of `detected` and `protected`, whose distances are known because they were put there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from copywatch.fingerprint import Mao
from copywatch.fingerprint.views import VIEW, Kind
from copywatch.lake.identity import sighting_id
from copywatch.lake.schemas import Table
from copywatch.lake.tables import table_url

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
IDENTICAL, SIMILAR, DIFFERENT = 0, 100, 700
"""Symbols by which a sighting differs from its original. Th is 0.47, or 338 of 720, under the paper's rule; under
"rescored" their scores are 0, .056 and .389."""


def fingerprint(family: int, changes: int = 0) -> bytes:
    """A fingerprint that differs from its family's in `changes` of 720 symbols; families are far from each other."""
    symbols = np.random.default_rng(family).integers(0, 4, 720, dtype=np.uint8)
    symbols[:changes] = (symbols[:changes] + 1) % 4
    return Mao().encode(symbols)


def views(family: int, changes: int = 0, kind: Kind = Kind.UPRIGHT, pdq: int | None = None) -> bytes:
    """One view with that fingerprint, detail everywhere, and the PDQ of its family (or of another, `pdq`)."""
    made = np.zeros(1, dtype=VIEW)
    made["kind"] = kind
    made["fingerprint"] = np.frombuffer(fingerprint(family, changes), dtype=np.uint8)
    made["mask"] = 255
    made["pdq"] = np.random.default_rng(5000 + (family if pdq is None else pdq)).integers(0, 256, 32, dtype=np.uint8)
    return made.tobytes()


def original(number: int, **changed: Any) -> dict[str, Any]:
    """Protected image `number`, of the family of its number."""
    row = {
        "protected_id": f"{number:032x}", "owner": "1", "application_id": number, "storage_address": f"o/{number}",
        "sha256": f"{number:064x}", "fingerprint": fingerprint(number), "views": views(number),
        "mask": bytes([255] * 18), "algorithm": "mao/1", "tag": "animal", "group_id": f"{number:032x}",
        "tags": [("animal", 1.0)], "width": 320, "height": 240, "registered_at": NOW - timedelta(days=1),
        "status": "active", "run": "intake",
    }  # fmt: skip
    return row | changed


def sighting(number: int, changes: int, run: str = "run-1", **changed: Any) -> dict[str, Any]:
    """A sighting that is `changes` symbols away from original `number`."""
    name = changed.pop("name", f"{number}.jpg")
    where = {
        "site": changed.pop("site", "lumen"), "page_url": "http://lumen/page",
        "image_url": f"http://lumen/{name}", "sha256": changed.pop("sha256", f"{number + 1000:064x}"),
    }  # fmt: skip
    row = where | {
        "sighting_id": sighting_id(**where), "uploader": "Finn", "crawled_at": NOW,
        "fingerprint": fingerprint(number, changes), "views": views(number, changes), "mask": bytes([255] * 18),
        "algorithm": "mao/1", "tag": "animal",
        "tags": [("animal", 1.0)], "width": 320, "height": 240, "run": run,
    }  # fmt: skip
    return row | changed


def append(warehouse: str, table: Table, *rows: dict[str, Any]) -> None:
    """Append rows to a table; columns that a row lacks are null."""
    complete = [dict.fromkeys(table.columns.names) | row for row in rows]
    write_deltalake(table_url(warehouse, table), pa.Table.from_pylist(complete, schema=table.columns), mode="append")
