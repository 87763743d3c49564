"""What was found, missed and false, measured against what the demo knows that it planted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from copywatch.demo.planting import Planted, Planting
from copywatch.logs import table


@dataclass(frozen=True)
class Judgement:
    """Each a list of objects with file, protected, T and distance (null where nothing was measured)."""

    planted: list[dict[str, Any]]
    alerted: list[dict[str, Any]]
    reviewed: list[dict[str, Any]]
    missed: list[dict[str, Any]]
    false: list[dict[str, Any]]
    unfetched: list[str]
    """Images of the second round that were not fetched, and others that were fetched again."""

    @property
    def right(self) -> bool:
        """Was every planted copy alerted, nothing else, and only the new images fetched?"""
        return not (self.missed or self.false or self.unfetched)


def _row(planted: Planted | None, found: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "file": planted.file if planted else None,
        "protected": found["protected_filename"] if found else (planted.protected if planted else None),
        "T": found["verdict"] if found else None,
        "distance": found["distance"] if found else None,
        "edit": planted.edit if planted else None,
        "site": found["site"] if found else None,
        "page": found["page_url"] if found else (planted.page if planted else None),
        "uploader": found["uploader"] if found else (planted.uploader if planted else None),
        "state": found["state"] if found else None,
    }


def judge(
    planting: Planting,
    rounds: Iterable[int],
    alerts: Sequence[Mapping[str, Any]],
    reviews: Sequence[Mapping[str, Any]],
    fetched: Sequence[str],
) -> Judgement:
    """Compare alerts and reviews with the planting.

    Args:
        planting: the truth.
        rounds: rounds that were crawled.
        alerts: alerts as the review page's JSON has them.
        reviews: reviews likewise.
        fetched: image paths that the second round fetched.
    """
    crawled = set(rounds)
    copies = [image for image in planting.copies if image.round in crawled]
    sent = [alert for alert in alerts if alert["state"] == "sent"]

    def right(image: Planted | None, found: Mapping[str, Any]) -> bool:
        return image is not None and image.is_copy and image.protected == found["protected_filename"]

    located = [(planting.at(alert["image_url"]), alert) for alert in sent]
    found = {image.file for image, alert in located if image is not None and right(image, alert)}
    new = {image.image_path for image in planting.of_round(2)} if 2 in crawled else set()
    return Judgement(
        planted=[_row(image, None) for image in copies],
        alerted=[_row(image, alert) for image, alert in located],
        reviewed=[_row(planting.at(review["image_url"]), review) for review in reviews],
        missed=[_row(image, None) for image in copies if image.file not in found],
        false=[_row(image, alert) for image, alert in located if not right(image, alert)],
        unfetched=sorted(new ^ set(fetched)) if new else [],
    )


def report(judgement: Judgement) -> str:
    """The tables that the demo ends with."""

    def shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        names = ("file", "edit", "protected", "site", "page", "uploader", "T", "distance", "state")
        return [
            {name: f"{row[name]:.4f}" if name == "distance" and row[name] is not None else row[name] for name in names}
            for row in rows
        ]

    total = len(judgement.planted)
    waiting = [row for row in judgement.reviewed if row["state"] == "pending"]
    parts = [
        table(shown(judgement.alerted), title=f"\nFound and alerted: {len(judgement.alerted)} of {total}"),
        table(shown(waiting), title="\nWaiting on the review page") if waiting else "",
        table(shown(judgement.missed), title=f"\nMissed: {len(judgement.missed)}"),
        table(shown(judgement.false), title=f"\nFalse: {len(judgement.false)}"),
    ]
    return "\n".join(part for part in parts if part)


def write_result(
    path: Path, judgement: Judgement, seconds: Mapping[str, float], first_alert: float | None, peak_bytes: int
) -> None:
    """Write `demo-result.json`."""
    result = {
        "planted": judgement.planted,
        "alerted": judgement.alerted,
        "reviewed": judgement.reviewed,
        "missed": judgement.missed,
        "false": judgement.false,
        "second_round_differs": judgement.unfetched,
        "seconds": dict(seconds),
        "first_alert_seconds": first_alert,
        "peak_memory_bytes": peak_bytes,
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
