"""Signing in by a mailed one-time code, and out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, BackgroundTasks
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.status import HTTP_303_SEE_OTHER, HTTP_422_UNPROCESSABLE_CONTENT, HTTP_429_TOO_MANY_REQUESTS

from copywatch.errors import CopywatchError
from copywatch.ledger import sign_in
from copywatch.ledger.database import session
from copywatch.portal.code_mail import send_code
from copywatch.portal.rendering import page
from copywatch.portal.visitor import OwnForm, config_of, keys_in, open_session, text_field, who

router = APIRouter()

_LONGEST_ADDRESS = 400
_LONGEST_CODE = 32
_MINUTES = int(sign_in.CODE_LASTS.total_seconds() // 60)


def _to(path: str) -> RedirectResponse:
    return RedirectResponse(path, HTTP_303_SEE_OTHER)


@router.get("/sign-in")
def show_sign_in(request: Request) -> Response:
    """Ask for the address."""
    if who(request) is not None:
        return _to("/")
    return page(request, "sign_in.html", trouble=None, address="")


@router.post("/sign-in")
def ask_for_code(request: Request, form: OwnForm, background: BackgroundTasks) -> Response:
    """Mail a code if the address is an owner's; answer the same, and as fast, if it is not."""
    typed = text_field(form, "address", _LONGEST_ADDRESS)
    config, now = config_of(request), datetime.now(UTC)
    try:
        with session() as opened:
            issued = sign_in.issue_code(
                opened,
                address=sign_in.mail_address(typed),
                client=request.client.host if request.client else "unknown",
                key=keys_in(request).codes,
                now=now,
                keep=timedelta(hours=config.portal_session_hours),
            )
    except sign_in.TooManyCodes as error:
        answer = page(
            request,
            "sign_in.html",
            HTTP_429_TOO_MANY_REQUESTS,
            trouble=f"Too many codes were asked for. Ask again in {_minutes(error.again_in)}.",
            address=typed,
        )
        answer.headers["Retry-After"] = str(int(error.again_in.total_seconds()))
        return answer
    except CopywatchError:
        trouble = "That is no mail address. Write it like name@example.org."
        return page(request, "sign_in.html", HTTP_422_UNPROCESSABLE_CONTENT, trouble=trouble, address=typed)
    if issued.owner is not None:
        # After the answer: how long the mail server takes would tell that there is an owner.
        background.add_task(send_code, issued.owner, issued.code, config)
    request.session["handle"] = issued.handle
    request.session["address"] = typed.strip()
    return _to("/sign-in/code")


@router.get("/sign-in/code")
def show_code(request: Request) -> Response:
    """Ask for the code."""
    if "handle" not in request.session:
        return _to("/sign-in")
    return _code_page(request, None)


@router.post("/sign-in/code")
def try_code(request: Request, form: OwnForm) -> Response:
    """Open the session if the code is right."""
    handle = request.session.get("handle")
    if not isinstance(handle, str):
        return _to("/sign-in")
    with session() as opened:
        redeemed = sign_in.redeem_code(
            opened,
            handle=handle,
            code=text_field(form, "code", _LONGEST_CODE),
            key=keys_in(request).codes,
            now=datetime.now(UTC),
        )
    if redeemed.sign_in_id is not None:
        wanted = request.session.get("next")
        open_session(request, redeemed.sign_in_id)
        return _to(wanted if isinstance(wanted, str) else "/")
    if redeemed.tries_left:
        tries = "1 try is" if redeemed.tries_left == 1 else f"{redeemed.tries_left} tries are"
        return _code_page(request, f"That is not the code; {tries} left.", HTTP_422_UNPROCESSABLE_CONTENT)
    del request.session["handle"]
    return page(
        request,
        "sign_in.html",
        HTTP_422_UNPROCESSABLE_CONTENT,
        trouble="That code does not work any more. Ask for a new one.",
        address=request.session.get("address", ""),
    )


@router.post("/sign-out")
def end_session(request: Request, form: OwnForm) -> Response:
    """End the session, in the ledger and in the browser."""
    number = request.session.get("sign_in")
    if isinstance(number, int):
        with session() as opened:
            sign_in.sign_out(opened, number, datetime.now(UTC))
    request.session.clear()
    return _to("/sign-in")


def _code_page(request: Request, trouble: str | None, status_code: int = 200) -> Response:
    address = request.session.get("address", "")
    return page(
        request,
        "code.html",
        status_code,
        trouble=trouble,
        address=address,
        minutes=_MINUTES,
        digits=sign_in.CODE_DIGITS,
    )


def _minutes(wait: timedelta) -> str:
    minutes = max(1, round(wait.total_seconds() / 60))
    return "a minute" if minutes == 1 else f"{minutes} minutes"
