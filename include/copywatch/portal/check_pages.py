"""Which protected images is a picture nearest to? As JSON for programs, and as a page for owners.

The answer of Chamoso et al.'s image checker, with the paper's T added: an identifier and a similarity for each of the
most similar images. Whose image another owner's is, stays with us.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.status import (
    HTTP_401_UNAUTHORIZED,
    HTTP_408_REQUEST_TIMEOUT,
    HTTP_413_CONTENT_TOO_LARGE,
    HTTP_422_UNPROCESSABLE_CONTENT,
    HTTP_503_SERVICE_UNAVAILABLE,
)

from copywatch.errors import CopywatchError, Reason, UnusableImage
from copywatch.fingerprint.algorithm import identity
from copywatch.fingerprint.registry import algorithm_named
from copywatch.ledger import owner_view
from copywatch.ledger.database import session
from copywatch.ledger.models import Application
from copywatch.matching.check import Neighbour, check
from copywatch.portal.rendering import page
from copywatch.portal.visitor import (
    FORM_TOKEN_FIELD,
    FORM_TOKEN_HEADER,
    SignedIn,
    Visitor,
    check_form_token,
    config_of,
    keys_in,
    same_origin,
    who,
)
from copywatch.settings import Settings
from copywatch.threshold import rule_for, threshold_in_force

log = logging.getLogger(__name__)
router = APIRouter()

MOST_NEIGHBOURS = 5
IMAGE_FIELD = "image"
UPLOAD_SECONDS = 60.0
"""An upload may take this long."""
_AT_ONCE = 2
"""Images decoded and compared at once; each may be as large as is let in."""
_MOST_UPLOADS = 12
"""Uploads taken in at once, waiting ones included; each is in memory."""
_FORM_OVERHEAD = 64 * 1024
_MOST_FIELDS = 8


class Checkers:
    """Bounds what checks take of the machine: memory by uploads, processors by threads of their own."""

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(_MOST_UPLOADS)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="check")

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one upload.

        Raises:
            HTTPException: 503: all are taken.
        """
        if not self._places.acquire(blocking=False):
            raise HTTPException(
                HTTP_503_SERVICE_UNAVAILABLE, "Too many images are being checked; try again.", {"Retry-After": "5"}
            )
        try:
            yield
        finally:
            self._places.release()

    async def neighbours(self, data: bytes, config: Settings) -> list[Neighbour]:
        """The protected images nearest to an image.

        Raises:
            UnusableImage: the bytes give no fingerprint.
            HTTPException: 503: what the search needs is not there.
        """
        search = partial(check, data, warehouse=config.warehouse, config=config, limit=MOST_NEIGHBOURS)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, search)
        except UnusableImage:
            raise
        except CopywatchError as error:
            # The message names paths of ours; who calls can do nothing about it anyway.
            log.error("check: %s", error)
            raise HTTPException(
                HTTP_503_SERVICE_UNAVAILABLE, "Checks are not possible now: the service is not set up completely."
            ) from error


def largest_upload(config: Settings) -> int:
    """Most bytes of a request that brings an image."""
    return config.max_image_bytes + _FORM_OVERHEAD


@router.post("/api/check")
async def check_for_programs(request: Request) -> Response:
    """The nearest protected images as JSON; the image is the body, or the field `image` of a multipart form."""
    visitor = await _program_or_owner(request)
    config = config_of(request)
    with _checkers(request).place():
        data = await _upload(request, token_wanted=visitor is not None)
        try:
            found = await _checkers(request).neighbours(data, config)
        except UnusableImage as error:
            status_code = (
                HTTP_413_CONTENT_TOO_LARGE if error.reason is Reason.TOO_LARGE else HTTP_422_UNPROCESSABLE_CONTENT
            )
            return JSONResponse({"detail": str(error), "reason": error.reason.value, "seen": error.detail}, status_code)
    own = await run_in_threadpool(_own, visitor, found)
    return JSONResponse(
        {
            "algorithm": identity(algorithm_named(config.algorithm)),
            "rule": rule_for(config.algorithm, config),
            "threshold": threshold_in_force(config).value,
            "identical_bound": config.identical_bound,
            "results": [_values(one, visitor, own) for one in found],
        }
    )


@router.get("/check")
def show_check(request: Request, visitor: Visitor) -> Response:
    """The form that takes an image."""
    return page(request, "check.html", visitor=visitor, results=None, trouble=None)


@router.post("/check")
async def check_for_owners(request: Request, visitor: Visitor) -> Response:
    """The same search, shown as a page."""
    with _checkers(request).place():
        data = await _upload(request, token_wanted=True)
        try:
            found = await _checkers(request).neighbours(data, config_of(request))
        except UnusableImage as error:
            trouble = "Choose a file first." if error.reason is Reason.EMPTY else f"This cannot be checked: {error}"
            return page(
                request,
                "check.html",
                HTTP_422_UNPROCESSABLE_CONTENT,
                visitor=visitor,
                results=None,
                trouble=trouble,
            )
    own = await run_in_threadpool(_own, visitor, found)
    results = [(one, own.get(one.protected_id)) for one in found]
    return page(request, "check.html", visitor=visitor, results=results, trouble=None)


async def _program_or_owner(request: Request) -> SignedIn | None:
    """The owner who asks; None: a program with one of the administrator's tokens.

    Raises:
        HTTPException: 401: neither.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and keys_in(request).takes_token(token.strip()):
        return None
    visitor = None if scheme else await run_in_threadpool(who, request)
    if visitor is None:
        raise HTTPException(
            HTTP_401_UNAUTHORIZED,
            "sign in, or send 'Authorization: Bearer TOKEN' with a token of COPYWATCH_CHECK_TOKENS",
            {"WWW-Authenticate": "Bearer"},
        )
    return visitor


async def _upload(request: Request, *, token_wanted: bool) -> bytes:
    """The bytes of the image that a request brings, as long as `BoundedBodies` lets them be.

    Raises:
        HTTPException: 403: another site may have sent it; 408: it takes too long; 422: there is no image in it.
    """
    if token_wanted:
        same_origin(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            if kind != "multipart/form-data":
                if token_wanted:
                    check_form_token(request, request.headers.get(FORM_TOKEN_HEADER))
                return b"".join([piece async for piece in request.stream()])
            async with request.form(max_files=1, max_fields=_MOST_FIELDS) as form:
                if token_wanted:
                    check_form_token(request, request.headers.get(FORM_TOKEN_HEADER) or form.get(FORM_TOKEN_FIELD))
                return await _image_of(form)
    except TimeoutError as error:
        raise HTTPException(
            HTTP_408_REQUEST_TIMEOUT,
            f"The upload took more than {UPLOAD_SECONDS:.0f} seconds.",
            {"Connection": "close"},
        ) from error


async def _image_of(form: FormData) -> bytes:
    file = form.get(IMAGE_FIELD)
    if not isinstance(file, UploadFile):
        raise HTTPException(
            HTTP_422_UNPROCESSABLE_CONTENT,
            f"the form has no file '{IMAGE_FIELD}': send the image in it, or as the body itself",
        )
    return await file.read()


def _own(visitor: SignedIn | None, found: list[Neighbour]) -> dict[str, Application]:
    if visitor is None or not found:
        return {}
    with session() as opened:
        return owner_view.image_names(opened, visitor.owner_id, [one.protected_id for one in found])


def _values(one: Neighbour, visitor: SignedIn | None, own: dict[str, Application]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": one.protected_id,
        "distance": one.distance,
        "similarity": one.similarity,
        "T": int(one.verdict),
        "verdict": one.verdict.name.lower(),
        "tag": one.tag,
        "threshold": one.threshold,
        "rule": one.rule,
        "plain_distance": one.plain_distance,
        "view": one.view,
    }
    if visitor is not None:
        mine = own.get(one.protected_id)
        # The id is a hash of owner and file: with the file at hand, it would tell the owner's number.
        values |= {"id": one.protected_id if mine else None, "yours": mine is not None}
        values["filename"] = mine.filename if mine else None
    return values


def _checkers(request: Request) -> Checkers:
    checkers = request.app.state.checkers
    assert isinstance(checkers, Checkers)  # noqa: S101
    return checkers
