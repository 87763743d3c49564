"""Routes of the review: the page, its pictures, the decision, and the same as JSON for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, status
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, Response

from copywatch.errors import CopywatchError
from copywatch.ledger import reviews as queue
from copywatch.ledger.database import session
from copywatch.ledger.models import Alert, AlertState, Evidence, Review, ReviewState
from copywatch_pages import pictures
from copywatch_pages.access import may_decide, own_request
from copywatch_pages.rendering import page
from copywatch_pages.small_body import small_body

router = APIRouter()

PAGE_PAIRS = 20
HISTORY_ROWS = 50
_LARGEST_ID = 2**31 - 1

Id = Annotated[int, Path(ge=1, le=_LARGEST_ID)]
AfterId = Annotated[int, Query(ge=0, le=_LARGEST_ID)]
Limit = Annotated[int, Query(ge=1, le=500)]
SiteName = Annotated[str | None, Query(max_length=63)]


class Decision(BaseModel):
    """What a reviewer says of one pair."""

    decision: Literal["accepted", "refused"]


@router.get("/review")
def show_queue(
    request: Request,
    user: GetUserDep,
    after_id: AfterId = 0,
    site: SiteName = None,
    state: Literal["pending", "different"] = "pending",
) -> HTMLResponse:
    """The pairs that wait, side by side; or those that left the queue by verification."""
    site = site or None
    chosen = ReviewState(state)
    with session() as opened:
        waiting = queue.waiting(opened, chosen, limit=PAGE_PAIRS + 1, after_id=after_id, site=site)
        shown = waiting[:PAGE_PAIRS]
        return page(
            request,
            "review.html",
            tab="queue",
            reviews=shown,
            next_after_id=shown[-1].id if len(waiting) > PAGE_PAIRS else None,
            after_id=after_id,
            site=site,
            state=state,
            sites=queue.waiting_by_site(opened, chosen),
            counts=queue.count_by_state(opened),
            deciding=_allowed(request, user),
        )


@router.get("/review/decided")
def show_history(
    request: Request, offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0, site: SiteName = None
) -> HTMLResponse:
    """What was decided, by whom and when."""
    site = site or None
    with session() as opened:
        decided = queue.decided(opened, limit=HISTORY_ROWS + 1, offset=offset, site=site)
        return page(
            request,
            "decided.html",
            tab="decided",
            reviews=decided[:HISTORY_ROWS],
            offset=offset,
            older=offset + HISTORY_ROWS if len(decided) > HISTORY_ROWS else None,
            newer=max(offset - HISTORY_ROWS, 0) if offset else None,
            site=site,
            counts=queue.count_by_state(opened),
        )


@router.get("/evidence/{evidence_id}/{which}.jpg")
def show_picture(request: Request, evidence_id: Id, which: Literal["protected", "found", "explanation"]) -> Response:
    """One picture of a pair, made anew as a small JPEG; or how the two lie over each other."""
    with session() as opened:
        evidence = opened.get(Evidence, evidence_id)
        if evidence is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND, f"evidence {evidence_id}: there is none")
        address = getattr(evidence, f"{which}_address")
    if address is None:
        trouble = "nothing could be drawn" if which == "explanation" else "it was not to be had again"
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"no picture: {trouble}")
    return pictures.answer(request, address, as_kept=which == "explanation")


@router.post("/review/{review_id}/decision", dependencies=[Depends(own_request), Depends(may_decide)])
async def decide(request: Request, review_id: Id, user: GetUserDep) -> JSONResponse:
    """Take a decision, as JSON or as a form: `{"decision": "accepted" | "refused"}`."""
    chosen = await small_body(request, Decision, 'a decision is {"decision": "accepted"} or {"decision": "refused"}')
    return JSONResponse(await run_in_threadpool(_write_down, review_id, ReviewState(chosen.decision), user.get_name()))


def _write_down(review_id: int, state: ReviewState, by: str) -> dict[str, Any]:
    with session() as opened:
        if opened.get(Review, review_id) is None:
            # The review of a pair that a later run is certain of is taken back.
            raise HTTPException(status.HTTP_404_NOT_FOUND, f"review {review_id}: there is none, or no longer")
        try:
            review = queue.decide(opened, review_id, state, by)
        except CopywatchError as error:
            raise HTTPException(status.HTTP_409_CONFLICT, str(error)) from error
        return {
            "id": review.id,
            "state": str(review.state),
            "decided_by": review.decided_by,
            "decided_at": _json_time(review.decided_at),
            "counts": queue.count_by_state(opened),
        }


@router.get("/api/reviews")
def list_reviews(
    state: Literal["pending", "different", "accepted", "refused", "all"] = "all",
    after_id: AfterId = 0,
    limit: Limit = 100,
    site: SiteName = None,
) -> JSONResponse:
    """Reviews by id, for scripts; `next_after_id` is null on the last page."""
    chosen = None if state == "all" else ReviewState(state)
    with session() as opened:
        rows = queue.in_state(opened, chosen, limit=limit, after_id=after_id, site=site or None)
        return JSONResponse(
            {
                "reviews": [_review_values(row) for row in rows],
                "counts": queue.count_by_state(opened),
                "next_after_id": rows[-1].id if len(rows) == limit else None,
            }
        )


@router.get("/api/alerts")
def list_alerts(
    state: Literal["pending", "sent", "failed", "all"] = "all", after_id: AfterId = 0, limit: Limit = 100
) -> JSONResponse:
    """Alerts of the outbox by id, for scripts; `next_after_id` is null on the last page."""
    chosen = None if state == "all" else AlertState(state)
    with session() as opened:
        rows = queue.alerts(opened, chosen, limit=limit, after_id=after_id)
        return JSONResponse(
            {
                "alerts": [_alert_values(row) for row in rows],
                "next_after_id": rows[-1].id if len(rows) == limit else None,
            }
        )


def _evidence_values(evidence: Evidence) -> dict[str, Any]:
    return {
        "evidence_id": evidence.id,
        "sighting_id": evidence.sighting_id,
        "protected_id": evidence.protected_id,
        "run": evidence.run,
        "site": evidence.site,
        "page_url": evidence.page_url,
        "image_url": evidence.image_url,
        "uploader": evidence.uploader,
        "uploader_url": evidence.uploader_url,
        "uploaded_at": _json_time(evidence.uploaded_at),
        "uploaded_at_source": evidence.uploaded_at_source,
        "caption": evidence.caption,
        "licence": evidence.licence,
        "crawled_at": _json_time(evidence.crawled_at),
        "verdict": evidence.verdict,
        "distance": evidence.distance,
        "threshold": evidence.threshold,
        "rule": evidence.rule,
        "plain_distance": evidence.plain_distance,
        "view": evidence.view,
        "verification": evidence.verification,
        "probability": evidence.probability,
        "unverified": evidence.unverified,
        "edit": evidence.edit,
        "explained": evidence.explanation_address is not None,
        "registered_later": evidence.registered_later,
        "picture_kept": evidence.found_address is not None,
        "algorithm": evidence.algorithm,
        "protected_filename": evidence.protected_filename,
        "owner": evidence.owner.name,
        "owner_email": evidence.owner.email,
    }


def _review_values(review: Review) -> Mapping[str, Any]:
    return {
        "id": review.id,
        "state": str(review.state),
        "decided_by": review.decided_by,
        "decided_at": _json_time(review.decided_at),
        "applied_run": review.applied_run,
        **_evidence_values(review.evidence),
    }


def _alert_values(alert: Alert) -> Mapping[str, Any]:
    return {
        "id": alert.id,
        "state": str(alert.state),
        "to": alert.evidence.owner.email,
        "sent_at": _json_time(alert.sent_at),
        "attempts": alert.attempts,
        "last_error": alert.last_error,
        "alert_run": alert.run,
        **_evidence_values(alert.evidence),
    }


def _json_time(value: Any) -> str | None:
    return value.isoformat() if value is not None else None


def _allowed(request: Request, user: GetUserDep) -> bool:
    """May this user decide? For what the page shows; the decision's own route asks again."""
    try:
        may_decide(request, user)
    except HTTPException:
        return False
    return True
