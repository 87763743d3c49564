"""Routes of the thresholds: what was calibrated, what is in force, and the administrator's choice."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Annotated, Any, Literal

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, status
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, Response

from copywatch.errors import CopywatchError
from copywatch.fingerprint import algorithm_named, identity
from copywatch.fingerprint.registry import ALGORITHMS
from copywatch.ledger import reviews as queue
from copywatch.ledger import thresholds as choices
from copywatch.ledger.database import session
from copywatch.matching.calibration_rows import (
    ClosestPair,
    Method,
    Threshold,
    closest_pairs,
    plot_of,
    thresholds,
)
from copywatch.rule import Rule
from copywatch.settings import Settings, settings
from copywatch.threshold import ThresholdInForce, built_in_threshold, in_force_of, rule_for
from copywatch_pages import pictures
from copywatch_pages.access import configures, may_configure, own_request
from copywatch_pages.rendering import page
from copywatch_pages.small_body import small_body

log = logging.getLogger(__name__)

router = APIRouter()

PAGE_CALIBRATIONS = 5
HISTORY_ROWS = 50
_LARGEST_OFFSET = 100_000

RunKey = Annotated[str, Path(max_length=300)]
Measure = tuple[str, str]
"""What a threshold is of: an algorithm with its version, and a rule."""


class Choice(BaseModel):
    """What an administrator chooses. Th itself is never sent: it is looked up in the calibration."""

    algorithm: str = Field(max_length=32)
    rule: Rule
    method: Literal["normal", "tail", "default", "newest"]
    run: str | None = Field(None, max_length=300)


@dataclass(frozen=True)
class Calibrated:
    """One calibration on the page: its two thresholds, and the closest pairs of different images."""

    methods: Sequence[Threshold]
    closest: Sequence[ClosestPair]
    trouble: str = ""

    @property
    def figures(self) -> Threshold:
        """What both thresholds share."""
        return self.methods[0]

    @property
    def safer(self) -> Method:
        """The method of the smaller threshold."""
        return min(self.methods, key=lambda one: one.value).method


@router.get("/thresholds")
def show_thresholds(
    request: Request,
    user: GetUserDep,
    of: Annotated[str | None, Query(max_length=64)] = None,
    offset: Annotated[int, Query(ge=0, le=_LARGEST_OFFSET)] = 0,
) -> HTMLResponse:
    """The calibrations of one algorithm and rule, and which threshold is in force."""
    config = settings()
    every, trouble = _thresholds(config)
    measures = _measures(config, every)
    measure = _measure_named(of, measures) if of else measures[0]
    runs = _runs_of(every, measure)
    shown = [_calibrated(config, rows) for rows in runs[offset : offset + PAGE_CALIBRATIONS]]
    force, unknown = _in_force(config, measure)
    with session() as opened:
        return page(
            request,
            "thresholds.html",
            tab="thresholds",
            measure=measure,
            measures=measures,
            used=_used(config),
            by_setting=config.threshold is not None and measure[0].partition("/")[0] == config.algorithm,
            choosable=_is_current(measure),
            may_choose=may_configure(user),
            in_force=force,
            built_in=_built_in(config, measure),
            trouble=" ".join(filter(None, (trouble, unknown))),
            calibrations=shown,
            offset=offset,
            earlier=offset + PAGE_CALIBRATIONS if len(runs) > offset + PAGE_CALIBRATIONS else None,
            later=max(offset - PAGE_CALIBRATIONS, 0) if offset else None,
            choice=choices.newest(opened, *measure),
            history=choices.history(opened, *measure, limit=HISTORY_ROWS),
            counts=queue.count_by_state(opened),
        )


@router.get("/thresholds/{run}/plot.png")
def show_plot(request: Request, run: RunKey) -> Response:
    """The histogram of a calibration, with the fit and both thresholds."""
    drawn = plot_of(settings().warehouse, run)
    if drawn is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "there is no calibration of that name")
    headers = {"ETag": f'"{hashlib.sha256(drawn).hexdigest()[:32]}"', "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return Response(drawn, media_type="image/png", headers=headers)


@router.get("/thresholds/{run}/pairs/{place}/{side}.jpg")
def show_pair_picture(
    request: Request, run: RunKey, place: Annotated[int, Path(ge=0, le=1000)], side: Literal["one", "other"]
) -> Response:
    """A protected picture of one of the closest pairs; crawled ones are not kept."""
    pairs = closest_pairs(settings().warehouse, run)
    image = getattr(pairs[place], side) if place < len(pairs) else None
    if image is None or not image.protected:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "no picture is kept of it")
    return pictures.answer(request, image.address)


@router.post("/thresholds/choice", dependencies=[Depends(own_request), Depends(configures)])
async def choose(request: Request, user: GetUserDep) -> JSONResponse:
    """Take a choice: `{"algorithm": "mao/1", "rule": "rescored", "method": "tail", "run": "..."}`."""
    wanted = (
        'a choice is {"algorithm": "mao/1", "rule": "rescored" or "paper", "method": "normal" or "tail", "run": '
        '"..."}; or, without run, with the method "default" or "newest"'
    )
    chosen = await small_body(request, Choice, wanted)
    return JSONResponse(await run_in_threadpool(_write_down, chosen, user.get_name()))


@router.get("/api/thresholds")
def list_thresholds(of: Annotated[str | None, Query(max_length=64)] = None) -> JSONResponse:
    """The threshold in force and every calibrated one, for scripts; `of` is such as "mao/1 rescored"."""
    config = settings()
    every, trouble = _thresholds(config)
    if trouble:
        raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, trouble)
    measures = _measures(config, every)
    measure = _measure_named(of, measures) if of else measures[0]
    force, unknown = _in_force(config, measure)
    return JSONResponse(
        {
            "algorithm": measure[0],
            "rule": measure[1],
            "in_force": _force_values(force) if force else None,
            "why_none_is_known": unknown or None,
            "thresholds": [_threshold_values(one) for one in every if (one.algorithm, one.rule) == measure],
        }
    )


def _write_down(chosen: Choice, by: str) -> dict[str, Any]:
    config = settings()
    measure = (chosen.algorithm, chosen.rule.value)
    if not _is_current(measure):
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, f"nothing is compared by {' '.join(measure)} today")
    figures: dict[str, Any] = {}
    if chosen.method in {Method.NORMAL, Method.TAIL}:
        every, trouble = _thresholds(config)
        wanted = (*measure, chosen.run, chosen.method)
        found = next((one for one in every if (one.algorithm, one.rule, one.run, one.method) == wanted), None)
        if found is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND, trouble or "there is no such calibration")
        figures = {
            "threshold": found.value, "calibration_run": found.run, "false_alarm_rate": found.rate,
            "pairs": found.pairs,
        }  # fmt: skip
    with session() as opened:
        choices.choose(
            opened, algorithm=measure[0], rule=measure[1], method=chosen.method, by=by, **figures
        )  # fmt: skip
    force, unknown = _in_force(config, measure)
    log.info("%s chose %s for %s: %s", by, chosen.method, " ".join(measure), force or unknown)
    return {"method": chosen.method, "in_force": _force_values(force) if force else None, "chosen_by": by}


def _thresholds(config: Settings) -> tuple[list[Threshold], str]:
    """Every threshold there is, or none and why."""
    try:
        return thresholds(config.warehouse), ""
    # The engine's own errors have no common base but Exception.
    except Exception as error:
        log.warning("the table of thresholds cannot be read: %s", error)
        return [], f"The table of thresholds cannot be read at the moment: {error}."


def _in_force(config: Settings, measure: Measure) -> tuple[ThresholdInForce | None, str]:
    if not _is_current(measure):
        return None, ""
    try:
        return in_force_of(config, *measure), ""
    except CopywatchError as error:
        return None, f"Which threshold is in force cannot be said: {error}"


def _used(config: Settings) -> Measure:
    """What runs compare by."""
    return identity(algorithm_named(config.algorithm)), rule_for(config.algorithm, config).value


def _is_current(measure: Measure) -> bool:
    name = measure[0].partition("/")[0]
    return name in ALGORITHMS and identity(ALGORITHMS[name]) == measure[0] and (name == "mao" or measure[1] == "paper")


def _measures(config: Settings, every: Sequence[Threshold]) -> list[Measure]:
    """What runs compare by, then what was calibrated beside it."""
    return list(dict.fromkeys([_used(config), *sorted({(one.algorithm, one.rule) for one in every})]))


def _measure_named(of: str, measures: Sequence[Measure]) -> Measure:
    found = next((one for one in measures if " ".join(one) == of), None)
    if found is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "nothing of that name was calibrated")
    return found


def _built_in(config: Settings, measure: Measure) -> ThresholdInForce | None:
    if not _is_current(measure):
        return None
    return built_in_threshold(measure[0].partition("/")[0], config.model_copy(update={"rule": Rule(measure[1])}))


def _runs_of(every: Sequence[Threshold], measure: Measure) -> list[list[Threshold]]:
    """The thresholds of each calibration, the newest calibration first."""

    def when(one: Threshold) -> tuple[datetime, str]:
        return one.calibrated_at, one.run

    return [list(rows) for _, rows in groupby((one for one in every if (one.algorithm, one.rule) == measure), when)]


def _calibrated(config: Settings, methods: Sequence[Threshold]) -> Calibrated:
    try:
        return Calibrated(methods, closest_pairs(config.warehouse, methods[0].run))
    except CopywatchError as error:
        return Calibrated(methods, [], str(error))


def _force_values(force: ThresholdInForce) -> dict[str, Any]:
    return {"threshold": force.value, "source": force.source, "run": force.run or None, "method": force.method or None}


def _threshold_values(one: Threshold) -> dict[str, Any]:
    return vars(one) | {"method": one.method.value, "calibrated_at": one.calibrated_at.isoformat()}
