"""Log lines that say which run and which site they belong to, whatever handler prints them.

Airflow, Scrapy and Spark each bring their own handlers and formats. A record factory is the one place before all of
them, so the bound context is put at the head of the message there.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tabulate import tabulate

_context: ContextVar[dict[str, str] | None] = ContextVar("copywatch_log_context", default=None)
_plain_factory = logging.getLogRecordFactory()
_OURS = frozenset({"copywatch", "crawlers", "scrapy", "spark_jobs"})


def _record_with_context(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = _plain_factory(*args, **kwargs)
    context = _context.get()
    # `logging.makeLogRecord` (structlog's formatter, which is Airflow's, uses it) asks for a record without a name.
    if context and (record.name or "").partition(".")[0] in _OURS:
        head = " ".join(f"{key}={value}" for key, value in context.items())
        record.msg = f"[{head.replace('%', '%%') if record.args else head}] {record.msg}"
    return record


@contextmanager
def log_context(**names: str | None) -> Iterator[None]:
    """Put `run=... site=...` at the head of every line logged inside the block (our own loggers and Scrapy's)."""
    if logging.getLogRecordFactory() is not _record_with_context:
        logging.setLogRecordFactory(_record_with_context)
    token = _context.set({**(_context.get() or {}), **{key: value for key, value in names.items() if value}})
    try:
        yield
    finally:
        _context.reset(token)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Log to standard error, for programs of ours that nobody else configures logging for."""
    logging.basicConfig(
        stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )


def table(rows: Sequence[Mapping[str, object]], *, title: str = "") -> str:
    """A small plain-text table of what was done, for the end of a task's log. No rows: says so."""
    body = tabulate([dict(row) for row in rows], headers="keys", tablefmt="simple") if rows else "(nothing)"
    return f"{title}\n{body}" if title else body
