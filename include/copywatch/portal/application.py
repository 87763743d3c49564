"""The portal as an ASGI application."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.status import (
    HTTP_303_SEE_OTHER,
    HTTP_400_BAD_REQUEST,
    HTTP_401_UNAUTHORIZED,
    HTTP_404_NOT_FOUND,
    HTTP_500_INTERNAL_SERVER_ERROR,
    HTTP_503_SERVICE_UNAVAILABLE,
)

from copywatch.ledger.database import session
from copywatch.portal import check_pages, owner_pages, sign_in_pages
from copywatch.portal.check_pages import Checkers, largest_upload
from copywatch.portal.hardening import SAFE_HEADERS, BoundedBodies, Hardened
from copywatch.portal.keys import keys_of
from copywatch.portal.rendering import page, templates
from copywatch.portal.visitor import NotSignedIn
from copywatch.settings import Settings, settings

log = logging.getLogger(__name__)

_LARGEST_FORM = 16 * 1024
_HEALTH_SECONDS = 5.0
_UPLOADS = frozenset({"/check", "/api/check"})
_LONGEST_NEXT = 500


def create_portal(config: Settings | None = None, *, local_only: bool = False) -> FastAPI:
    """The portal.

    Args:
        config: the settings; default: those of the process, whose ledger and image store are used in any case.
        local_only: it will listen on a loopback address; then it may do without `portal_secret`.

    Raises:
        SettingsError: `portal_secret` is missing or too short, or a token of `check_tokens` is too short.
    """
    config = config or settings()
    # No pages of FastAPI's own: they load their scripts from elsewhere, and are open to anybody.
    app = FastAPI(title="Copywatch portal", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.config = config
    app.state.keys = keys_of(config, local_only=local_only)
    app.state.checkers = Checkers()
    address = urlsplit(config.portal_url)
    secure = address.scheme == "https"
    # Cookies do not keep to a port, but two portals on one machine must not end each other's sessions.
    name = "__Host-copywatch" if secure else f"copywatch-{address.port or 80}"
    app.add_middleware(
        SessionMiddleware,
        secret_key=app.state.keys.session,
        session_cookie=name,
        max_age=int(config.portal_session_hours * 3600),
        same_site="lax",
        https_only=secure,
    )
    app.add_middleware(
        BoundedBodies, largest=lambda path: largest_upload(config) if path in _UPLOADS else _LARGEST_FORM
    )
    app.add_middleware(Hardened)
    app.add_exception_handler(NotSignedIn, _not_signed_in)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _bad_address)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(OperationalError, _no_ledger)
    app.add_exception_handler(PoolTimeoutError, _no_ledger)
    app.add_exception_handler(Exception, _our_mistake)
    app.add_api_route("/healthz", health, methods=["GET"])
    app.add_api_route("/icon.svg", icon, methods=["GET"])
    for part in (sign_in_pages, owner_pages, check_pages):
        app.include_router(part.router)
    return app


async def health() -> Response:
    """200 when the ledger answers, else 503: for load balancers, so it says no more."""
    try:
        with anyio.fail_after(_HEALTH_SECONDS):
            # The thread is left behind when the time is over: a server that does not answer can keep it for minutes.
            await anyio.to_thread.run_sync(_ask_ledger, abandon_on_cancel=True)
    except Exception as error:
        log.error("health: the ledger does not answer: %s", error)
        return JSONResponse({"status": "the ledger does not answer"}, HTTP_503_SERVICE_UNAVAILABLE)
    return JSONResponse({"status": "ok"})


def icon() -> Response:
    """The picture in the browser's tab."""
    image = templates().get_template("icon.svg").render()
    return Response(image, media_type="image/svg+xml", headers={"Cache-Control": "public, max-age=86400"})


def _ask_ledger() -> None:
    with session() as opened:
        opened.execute(text("SELECT 1"))


def _for_people(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") and "/api/" not in request.url.path


def _told(request: Request, status_code: int, title: str, message: str) -> Response:
    if not _for_people(request):
        return JSONResponse({"detail": message}, status_code, headers=dict(SAFE_HEADERS))
    return page(request, "notice.html", status_code, title=title, text=message)


async def _not_signed_in(request: Request, _: Exception) -> Response:
    if not _for_people(request) or request.method != "GET":
        return _told(request, HTTP_401_UNAUTHORIZED, "Signed out", "You are not signed in, or your session has ended.")
    wanted = request.scope["path"] + (f"?{request.url.query}" if request.url.query else "")
    # Only paths of our own routes come here, so there is nowhere else that it could lead.
    request.session["next"] = wanted[:_LONGEST_NEXT]
    return RedirectResponse("/sign-in", HTTP_303_SEE_OTHER)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    title = "Not found" if error.status_code == HTTP_404_NOT_FOUND else "That did not work"
    message = error.detail if error.detail != "Not Found" else "There is no such page."
    answer = _told(request, error.status_code, title, message)
    answer.headers.update(error.headers or {})
    return answer


async def _bad_address(request: Request, _: Exception) -> Response:
    return _told(request, HTTP_404_NOT_FOUND, "Not found", "There is no such page.")


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=HTTP_400_BAD_REQUEST)


async def _no_ledger(request: Request, error: Exception) -> Response:
    log.error("the ledger's database does not answer: %s", error)
    return _told(
        request,
        HTTP_503_SERVICE_UNAVAILABLE,
        "Out of reach",
        "The database does not answer. Nothing is lost; try again in a moment.",
    )


async def _our_mistake(_: Request, __: Exception) -> Response:
    # Starlette logs it with its traceback. It answers outside of the session, so there is no page here.
    return Response(
        "Something went wrong on our side. Try again; if it happens again, tell us when it did.\n",
        HTTP_500_INTERNAL_SERVER_ERROR,
        media_type="text/plain",
        headers=dict(SAFE_HEADERS),
    )
