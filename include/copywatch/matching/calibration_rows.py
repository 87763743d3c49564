"""Calibrations as rows of the table `thresholds`: written by the job, read by the page and by the next match."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from deltalake import DeltaTable

from copywatch.errors import LakeError
from copywatch.lake.schemas import THRESHOLDS
from copywatch.lake.tables import read_table, table_url

if TYPE_CHECKING:
    from copywatch.matching.calibration import Calibration

_FIGURES = [name for name in THRESHOLDS.columns.names if name not in {"plot", "closest", "histogram"}]


class Method(StrEnum):
    """How a threshold was come by."""

    NORMAL = "normal"
    """Formula (3) of the normal fit."""
    TAIL = "tail"
    """Measured."""

    @property
    def words(self) -> str:
        """For people."""
        return {Method.NORMAL: "normal fit, Formula (3)", Method.TAIL: "measured tail"}[self]


@dataclass(frozen=True)
class Measured:
    """An image that was measured, as people may want to look it up.

    Attributes:
        id: protected_id or sighting_id.
        protected: whether it is a protected image.
        address: where its original is kept (protected), or where it was seen on the web.
    """

    id: str
    protected: bool
    address: str


@dataclass(frozen=True)
class ClosestPair:
    """One of a calibration's closest pairs; `unjudged`: left out, as the machine takes it for the same picture."""

    distance: float
    unjudged: bool
    one: Measured
    other: Measured


@dataclass(frozen=True)
class Threshold:
    """One row: a calibration's figures and one of its two thresholds.

    Attributes:
        algorithm: identity of the fingerprint, such as `mao/1`.
        rule: how the distance was measured, a `Rule`.
        method: how Th follows from the distances.
        value: Th.
        within: pairs measured within it.
        unjudged: further pairs within it that were left out, as the machine takes them for the same picture.
        rate: the false-alarm rate wished.
        images: different images measured.
        pairs: pairs measured.
        mean: of the distance.
        deviation: its standard deviation.
        needs_a_person: whether it must not come into force before somebody chose it.
        note: what the figures can and cannot say.
        calibrated_at: when.
        run: the calibration.
    """

    algorithm: str
    rule: str
    method: Method
    value: float
    within: int
    unjudged: int
    rate: float
    images: int
    pairs: int
    mean: float
    deviation: float
    needs_a_person: bool
    note: str
    calibrated_at: datetime
    run: str

    @property
    def measurement(self) -> str:
        """What it rests on, for people: "measured tail, 1e-06 over 1,999,000 pairs"."""
        return f"{self.method.words}, {self.rate:g} over {self.pairs:,} pairs"


def rows_of_calibration(
    calibration: Calibration, images: Sequence[Measured], *, algorithm: str, rule: str, at: datetime
) -> list[dict[str, Any]]:
    """Two rows of `thresholds`, one for each method, without their run.

    Args:
        calibration: what was measured.
        images: the images, in the order that they were measured in.
        algorithm: identity of the fingerprint.
        rule: how the distance was measured.
        at: when.
    """
    # Imported here: whoever asks which threshold is in force needs no plots.
    from copywatch.matching.calibration_plot import plot

    closest = [
        {
            "distance": pair.distance,
            "unjudged": pair.unjudged,
            "one": vars(images[pair.one]),
            "other": vars(images[pair.other]),
        }
        for pair in calibration.closest
    ]
    both = {
        "algorithm": algorithm,
        "rule": rule,
        "false_alarm_rate": calibration.rate,
        "images": calibration.images,
        "pairs": calibration.pairs,
        "mean": calibration.mean,
        "deviation": calibration.deviation,
        "histogram": list(calibration.histogram),
        "needs_a_person": calibration.needs_a_person,
        "note": calibration.note,
        "closest": json.dumps(closest),
        "plot": plot(calibration, algorithm=algorithm, rule=rule),
        "calibrated_at": at,
    }
    figures = {
        Method.NORMAL: (calibration.normal_threshold, calibration.normal_within, calibration.normal_unjudged),
        Method.TAIL: (calibration.tail_threshold, calibration.tail_within, calibration.tail_unjudged),
    }
    return [
        both | {"method": method.value, "threshold": threshold, "within": within, "unjudged": unjudged}
        for method, (threshold, within, unjudged) in figures.items()
    ]


def thresholds(warehouse: str) -> list[Threshold]:
    """Every threshold that was calibrated, the newest first; of one calibration the measured tail's before the fit's.

    None where there is no such table yet.
    """
    if not _is_there(warehouse):
        return []
    known = {method.value for method in Method}
    found = [
        Threshold(
            algorithm=row["algorithm"],
            rule=row["rule"],
            method=Method(row["method"]),
            value=row["threshold"],
            within=row["within"],
            unjudged=row["unjudged"],
            rate=row["false_alarm_rate"],
            images=row["images"],
            pairs=row["pairs"],
            mean=row["mean"],
            deviation=row["deviation"],
            needs_a_person=row["needs_a_person"],
            note=row["note"],
            calibrated_at=row["calibrated_at"],
            run=row["run"],
        )
        for row in read_table(warehouse, THRESHOLDS, columns=_FIGURES).to_pylist()
        if row["method"] in known
    ]
    return sorted(found, key=lambda one: (one.calibrated_at, one.run, one.method), reverse=True)


def newest_safer(warehouse: str, algorithm: str, rule: str) -> Threshold | None:
    """The smaller threshold of the newest calibration that needs no person; None: there is none.

    One with too few pairs for its rate is left out: a threshold just below the closest of a thousand pairs says nothing
    of one in a million. So is one that hangs on pairs which nobody has judged. A person may still choose it.
    """
    of_rule = [
        one
        for one in thresholds(warehouse)
        if (one.algorithm, one.rule) == (algorithm, rule) and not one.needs_a_person
    ]
    newest = [one for one in of_rule if one.run == of_rule[0].run]
    return min(newest, key=lambda one: one.value, default=None)


def closest_pairs(warehouse: str, run: str) -> list[ClosestPair]:
    """The closest pairs of a calibration, closest first; none: there is no such run.

    Raises:
        LakeError: the row does not hold what the job writes.
    """
    row = _first(warehouse, run, "closest")
    try:
        return [
            ClosestPair(
                float(pair["distance"]), bool(pair["unjudged"]), Measured(**pair["one"]), Measured(**pair["other"])
            )
            for pair in json.loads(row or "[]")
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise LakeError(f"{THRESHOLDS.name}: the closest pairs of {run} cannot be read: {error}") from error


def plot_of(warehouse: str, run: str) -> bytes | None:
    """The PNG of a calibration; None: there is no such run."""
    drawn = _first(warehouse, run, "plot")
    return bytes(drawn) if drawn else None


def _first(warehouse: str, run: str, column: str) -> Any:
    if not _is_there(warehouse):
        return None
    rows = read_table(warehouse, THRESHOLDS, run=run, columns=[column]).column(column).to_pylist()
    return rows[0] if rows else None


def _is_there(warehouse: str) -> bool:
    return bool(DeltaTable.is_deltatable(table_url(warehouse, THRESHOLDS)))
