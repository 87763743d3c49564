"""Names of rows that are the same on every retry, since they are made of what the row is about."""

from __future__ import annotations

import hashlib
import re


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def sighting_id(site: str, page_url: str, image_url: str, sha256: str) -> str:
    """One sighting: this picture, at this address, on this page. 32 hexadecimal digits."""
    return _digest("sighting", site, page_url, image_url, sha256)


def protected_id(owner: str, sha256: str) -> str:
    """One owner's protected image. 32 hexadecimal digits."""
    return _digest("protected", owner, sha256)


def run_key(run_id: str) -> str:
    """An Airflow run id as a name for folders and rows: letters, digits, `_`, `-` and `.` only.

    >>> run_key("scheduled__2026-11-21T08:00:00+00:00")
    'scheduled__2026-11-21T08_00_00_00_00'
    """
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", run_id)[:200].strip(".")
