"""The rows that one run wrote, from the Delta tables and the ledger, as a page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from copywatch.alerts.wording import done_to_it
from copywatch.ledger import reviews as queue
from copywatch.ledger.database import session
from copywatch.ledger.models import Evidence
from copywatch.settings import settings
from copywatch_pages.rendering import page

log = logging.getLogger(__name__)

router = APIRouter()

SHOWN_ROWS = 200
"""Of each table; the count says how many there are."""

_TABLE_COLUMNS: dict[str, tuple[str, ...]] = {
    "crawl_stats": (
        "site",
        "outcome",
        "error",
        "pages",
        "images_found",
        "images_known",
        "images_fetched",
        "images_failed",
        "bytes_fetched",
        "started_at",
        "finished_at",
    ),
    "matches": (
        "site",
        "verdict",
        "distance",
        "threshold",
        "rule",
        "plain_distance",
        "view",
        "verification",
        "probability",
        "unverified",
        "edit",
        "state",
        "page_url",
        "image_url",
        "uploader",
        "protected_id",
    ),
    "rejected": ("site", "reason", "detail", "http_status", "size", "page_url", "image_url"),
    "detected": ("site", "tag", "page_url", "image_url", "uploader", "uploaded_at", "width", "height", "algorithm"),
    "seen": ("site", "tag", "page_url", "image_url", "uploader", "uploaded_at", "width", "height", "algorithm"),
    "thresholds": (
        "algorithm",
        "rule",
        "method",
        "threshold",
        "images",
        "pairs",
        "within",
        "unjudged",
        "needs_a_person",
        "note",
    ),
    "protected": ("owner", "tag", "protected_id", "width", "height", "algorithm", "registered_at", "status"),
}
"""What is shown of each table; never fingerprints or bytes."""


@dataclass
class Section:
    """One table on the page."""

    name: str
    about: str
    columns: Sequence[str]
    rows: list[Sequence[Any]] = field(default_factory=list)
    total: int = 0
    detail: str = ""
    """What the total is made of, such as "2 certain, 1 different"."""
    trouble: str = ""


@router.get("/runs/{run:path}")
def show_run(request: Request, run: str) -> HTMLResponse:
    """The rows of a run, given by its id or by the key made of it."""
    from copywatch.lake.identity import run_key

    key = run_key(run)
    crawls, *others = [_table_section(name, key) for name in _TABLE_COLUMNS]
    sections = [crawls, _ledger_section(key), *others]
    return page(request, "run.html", tab="run", run=key, sections=sections, shown_rows=SHOWN_ROWS)


def _table_section(name: str, run: str) -> Section:
    """A Delta table's rows of a run; a missing table has none, an unreadable one says why."""
    # The lake's engine is heavy, and most processes that import the pages never show a run.
    import pyarrow as pa
    from deltalake import QueryBuilder

    from copywatch.errors import LakeError
    from copywatch.lake.schemas import TABLES
    from copywatch.lake.tables import open_table

    table = TABLES[name]
    columns = _TABLE_COLUMNS[name]
    section = Section(name, table.comment, columns)
    # A run's key holds letters, digits, _ - and . only, so it can stand in the query as it is.
    condition = f"FROM \"{name}\" WHERE run = '{run}'"
    chosen = ", ".join(f'"{column}"' for column in columns)
    order = ", ".join(
        f'"{column}"' for column in ("site", "page_url", "image_url", "protected_id", "method") if column in columns
    )
    try:
        query = QueryBuilder().register(name, open_table(settings().warehouse, table))
        counted = pa.table(query.execute(f"SELECT count(*) AS n {condition}").read_all())
        section.total = counted.column("n")[0].as_py()
        if section.total:
            section.detail = _verdicts(query, name, condition)
            first = query.execute(f"SELECT {chosen} {condition} ORDER BY {order} LIMIT {SHOWN_ROWS}").read_all()
            section.rows = [[row[column] for column in columns] for row in pa.table(first).to_pylist()]
    except LakeError:
        return section
    # The engine's own errors have no common base but Exception; one broken table must not take the page with it.
    except Exception as error:
        log.warning("run %s: table %s cannot be read: %s", run, name, error)
        section.trouble = f"This table cannot be read at the moment: {error}"
    return section


def _verdicts(query: Any, name: str, condition: str) -> str:
    """How many of a run's matches verification takes for what; nothing of other tables."""
    import pyarrow as pa

    if name != "matches":
        return ""
    word = "coalesce(verification, CASE WHEN verdict = 0 THEN 'identical' ELSE 'not verified' END)"
    counted = pa.table(query.execute(f"SELECT {word} AS word, count(*) AS n {condition} GROUP BY 1").read_all())
    rows = dict(zip(counted.column("word").to_pylist(), counted.column("n").to_pylist(), strict=True))
    order = ("identical", "certain", "doubtful", "different", "not verified")
    return ", ".join(f"{rows[one]:,} {one}" for one in order if one in rows)


def _ledger_section(run: str) -> Section:
    """What people and the outbox did with the pairs of a run."""
    columns: dict[str, Callable[[Evidence], Any]] = {
        "site": lambda evidence: evidence.site,
        "T": lambda evidence: evidence.verdict,
        "distance": lambda evidence: evidence.distance,
        "rule": lambda evidence: evidence.rule,
        "verification": lambda evidence: evidence.verification,
        "probability": lambda evidence: evidence.probability,
        "done_to_it": done_to_it,
        "protected": lambda evidence: evidence.protected_filename,
        "owner": lambda evidence: evidence.owner.name or evidence.owner.email,
        "page_url": lambda evidence: evidence.page_url,
        "image_url": lambda evidence: evidence.image_url,
        "uploader": lambda evidence: evidence.uploader,
        "review": lambda evidence: evidence.review.state if evidence.review else None,
        "decided_by": lambda evidence: evidence.review.decided_by if evidence.review else None,
        "alert": lambda evidence: evidence.alert.state if evidence.alert else None,
        "sent_at": lambda evidence: evidence.alert.sent_at if evidence.alert else None,
    }
    section = Section("reviews and alerts", "pairs that this run found, decided or alerted", list(columns))
    with session() as opened:
        section.total, found = queue.evidence_of_run(opened, run, limit=SHOWN_ROWS)
        section.rows = [[value(evidence) for value in columns.values()] for evidence in found]
    return section
