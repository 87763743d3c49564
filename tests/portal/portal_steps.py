"""What tests of the portal do again and again: make pictures, sign in as the forms do, fill the lake."""

from __future__ import annotations

import hashlib
import io
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from parsel import Selector
from PIL import Image
from starlette.testclient import TestClient

ORIGIN = "http://localhost:8090"
TOKEN = "administrators-token-1"


def picture(seed: int, size: tuple[int, int] = (320, 240), kind: str = "PNG") -> bytes:
    """A smooth random picture: as different from the next one's as photos are."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(out, kind)
    return out.getvalue()


def form_token(page: str) -> str:
    """The token in a page's form."""
    return Selector(page).css("input[name=form_token]::attr(value)").get() or ""


def code_in(mail_text: str) -> str:
    """The code in a mail's text."""
    found = re.search(r"^\s+(\d{4} \d{4})\s*$", mail_text, re.MULTILINE)
    assert found, mail_text
    return found.group(1)


def ask(client: TestClient, address: str) -> Any:
    """Ask for a code as the form does."""
    token = form_token(client.get("/sign-in").text)
    return client.post("/sign-in", data={"address": address, "form_token": token})


def try_code(client: TestClient, code: str) -> Any:
    """Enter a code as the form does."""
    token = form_token(client.get("/sign-in/code").text)
    return client.post("/sign-in/code", data={"code": code, "form_token": token})


def protected_row(
    data: bytes, number: int, *, owner: str = "1", tag: str = "scenery", **changed: Any
) -> dict[str, Any]:
    """A row of the `protected` table for an image file."""
    from copywatch.fingerprint import algorithm_named, decode_within_limits, fingerprint_of, identity
    from copywatch.fingerprint.views import protected_views

    views = protected_views(decode_within_limits(data).rgb)
    mao = algorithm_named("mao")
    return {
        "protected_id": f"{number:032x}",
        "owner": owner,
        "application_id": number,
        "storage_address": f"originals/{number}",
        "sha256": hashlib.sha256(data).hexdigest(),
        "fingerprint": fingerprint_of(data),
        "mask": views[0]["mask"].tobytes(),
        "views": views.tobytes(),
        "algorithm": identity(mao),
        "tag": tag,
        "tags": [(tag, 1.0)],
        "other_fingerprints": [],
        "width": 320,
        "height": 240,
        "registered_at": datetime(2026, 1, 1, tzinfo=UTC),
        "protected_until": None,
        "status": "active",
        "run": "run-1",
    } | changed


def write_protected(warehouse: str, rows: list[dict[str, Any]]) -> None:
    """Append rows to the `protected` table, as Spark would."""
    from copywatch.lake.schemas import PROTECTED
    from copywatch.lake.tables import create_tables, table_url

    Path(warehouse).mkdir(parents=True, exist_ok=True)
    create_tables(warehouse)
    write_deltalake(
        table_url(warehouse, PROTECTED), pa.Table.from_pylist(rows, schema=PROTECTED.columns), mode="append"
    )
