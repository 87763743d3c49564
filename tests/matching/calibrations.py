"""Rows of `thresholds` with thresholds of one's choice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from copywatch.lake.schemas import THRESHOLDS

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def calibration_rows(*, normal: float, tail: float, hours: int = 0, **changed: Any) -> list[dict[str, Any]]:
    """Two rows of a calibration `hours` after the first, without their run."""
    figures = {
        "algorithm": "mao/1", "rule": "rescored", "false_alarm_rate": 1e-6, "images": 2000, "pairs": 1_999_000,
        "mean": 0.7, "deviation": 0.03, "within": 1, "unjudged": 0, "needs_a_person": False, "note": "",
        "calibrated_at": NOW + timedelta(hours=hours), "closest": "[]", "histogram": [0] * 200,
    }  # fmt: skip
    empty = dict.fromkeys(name for name in THRESHOLDS.columns.names if name != "run")
    return [
        empty | figures | {"method": method, "threshold": threshold} | changed
        for method, threshold in (("normal", normal), ("tail", tail))
    ]
