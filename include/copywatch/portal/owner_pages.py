"""What an owner sees: their images, and the alerts about them. What is another owner's does not exist here."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.status import HTTP_404_NOT_FOUND

from copywatch.ledger import owner_view
from copywatch.ledger.database import session
from copywatch.portal.pictures import picture
from copywatch.portal.rendering import page
from copywatch.portal.visitor import Visitor

router = APIRouter()

OVERVIEW_ALERTS = 5
OVERVIEW_IMAGES = 12
PAGE_ALERTS = 10
PAGE_IMAGES = 48
_LARGEST_ID = 2**31 - 1

Id = Annotated[int, Path(ge=1, le=_LARGEST_ID)]
Page = Annotated[int, Query(ge=1, le=100_000)]


@router.get("/")
def show_overview(request: Request, visitor: Visitor) -> Response:
    """The latest alerts, and the latest images."""
    with session() as opened:
        return page(
            request,
            "overview.html",
            visitor=visitor,
            alerts=owner_view.alerts(opened, visitor.owner_id, limit=OVERVIEW_ALERTS),
            alert_count=owner_view.alert_count(opened, visitor.owner_id),
            images=owner_view.images(opened, visitor.owner_id, limit=OVERVIEW_IMAGES),
            counts=owner_view.image_counts(opened, visitor.owner_id),
        )


@router.get("/alerts")
def show_alerts(request: Request, visitor: Visitor, page_number: Annotated[Page, Query(alias="page")] = 1) -> Response:
    """All alerts, the latest first."""
    with session() as opened:
        return page(
            request,
            "alerts.html",
            visitor=visitor,
            alerts=owner_view.alerts(
                opened, visitor.owner_id, limit=PAGE_ALERTS, offset=(page_number - 1) * PAGE_ALERTS
            ),
            total=owner_view.alert_count(opened, visitor.owner_id),
            page_number=page_number,
            page_size=PAGE_ALERTS,
        )


@router.get("/alerts/{alert_id}")
def show_alert(request: Request, visitor: Visitor, alert_id: Id) -> Response:
    """One alert, with all that its mail says."""
    with session() as opened:
        alert = owner_view.alert(opened, visitor.owner_id, alert_id)
        if alert is None:
            raise _missing("alert")
        return page(request, "alert.html", visitor=visitor, alert=alert)


@router.get("/alerts/{alert_id}/{which}.jpg")
def show_alert_picture(
    request: Request, visitor: Visitor, alert_id: Id, which: Literal["protected", "found", "explanation"]
) -> Response:
    """One of an alert's two pictures, or how they lie over each other."""
    with session() as opened:
        alert = owner_view.alert(opened, visitor.owner_id, alert_id)
        if alert is None:
            raise _missing("alert")
        address = getattr(alert.evidence, f"{which}_address")
    if address is None:
        raise _missing("picture")
    return picture(request, address, as_kept=which == "explanation")


@router.get("/images")
def show_images(request: Request, visitor: Visitor, page_number: Annotated[Page, Query(alias="page")] = 1) -> Response:
    """All images that were applied for, the latest first, refused ones with their reasons."""
    with session() as opened:
        counts = owner_view.image_counts(opened, visitor.owner_id)
        return page(
            request,
            "images.html",
            visitor=visitor,
            images=owner_view.images(
                opened, visitor.owner_id, limit=PAGE_IMAGES, offset=(page_number - 1) * PAGE_IMAGES
            ),
            counts=counts,
            total=sum(counts.values()),
            page_number=page_number,
            page_size=PAGE_IMAGES,
        )


@router.get("/images/{application_id}.jpg")
def show_image(request: Request, visitor: Visitor, application_id: Id) -> Response:
    """The picture of one image."""
    with session() as opened:
        application = owner_view.image(opened, visitor.owner_id, application_id)
        address = application.storage_address if application is not None else None
    if address is None:
        raise _missing("image")
    return picture(request, address)


def _missing(what: str) -> HTTPException:
    return HTTPException(HTTP_404_NOT_FOUND, f"You have no such {what}.")
