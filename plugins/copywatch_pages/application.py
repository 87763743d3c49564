"""The application that Airflow mounts at `/copywatch`: every route behind the reader's right, every answer hardened."""

from __future__ import annotations

import logging
from functools import lru_cache

from airflow.api_fastapi.app import get_auth_manager
from fastapi import Depends, FastAPI, Request, status
from sqlalchemy.exc import OperationalError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from copywatch_pages import review_page, run_page, thresholds_page
from copywatch_pages.access import may_read
from copywatch_pages.rendering import page

log = logging.getLogger(__name__)


class Hardened:
    """Adds the headers that every answer carries, unless the route set its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and see to the answer's headers."""

        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'self'")
                headers.setdefault("Cache-Control", "no-store")
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Referrer-Policy", "no-referrer")
                headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
            await send(message)

        await self.app(scope, receive, send_hardened)


def _reads_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") and "/api/" not in request.url.path


def _told(request: Request, status_code: int, title: str, text: str, login: bool = False) -> Response:
    if not _reads_html(request):
        return JSONResponse({"detail": text}, status_code)
    address = get_auth_manager().get_url_login(next_url=str(request.url)) if login else None
    return page(request, "notice.html", status_code, title=title, text=text, login=address)


async def _http_error(request: Request, error: Exception) -> Response:
    status_code = error.status_code if isinstance(error, HTTPException) else status.HTTP_500_INTERNAL_SERVER_ERROR
    detail = str(getattr(error, "detail", ""))
    if status_code == status.HTTP_401_UNAUTHORIZED:
        text = "You are not logged in, or your session has ended. Log in to Airflow, then load this page again."
        return _told(request, status_code, "Log in", text if _reads_html(request) else detail, login=True)
    if status_code == status.HTTP_403_FORBIDDEN and _reads_html(request):
        text = f"Your user may not see this page; it takes the right to read the DAG review_matches. ({detail})"
        return _told(request, status_code, "Not allowed", text)
    return _told(request, status_code, "Not found" if status_code == 404 else "That did not work", detail)


async def _no_ledger(request: Request, error: Exception) -> Response:
    log.error("the ledger's database does not answer: %s", error)
    text = "The ledger's database does not answer. Nothing is lost; try again in a moment."
    return _told(request, status.HTTP_503_SERVICE_UNAVAILABLE, "Out of reach", text)


@lru_cache(maxsize=1)
def application() -> FastAPI:
    """The application, made once."""
    app = FastAPI(
        title="Copywatch pages",
        # Airflow's own API pages document what is public; these would be open to anybody.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(may_read)],
    )
    app.add_middleware(Hardened)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OperationalError, _no_ledger)
    app.include_router(review_page.router)
    app.include_router(run_page.router)
    app.include_router(thresholds_page.router)

    @app.get("/")
    def start(request: Request) -> Response:
        """Lead to the review page."""
        return RedirectResponse(f"{request.scope.get('root_path', '')}/review", status.HTTP_303_SEE_OTHER)

    return app
