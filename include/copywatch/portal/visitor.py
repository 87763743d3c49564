"""Who is visiting: the session in the cookie, and whether a change was asked for by one of our own pages."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.status import HTTP_403_FORBIDDEN

from copywatch.ledger import sign_in
from copywatch.ledger.database import session
from copywatch.portal.keys import Keys
from copywatch.settings import Settings

FORM_TOKEN_FIELD = "form_token"  # noqa: S105 (a name)
FORM_TOKEN_HEADER = "x-form-token"  # noqa: S105 (a name)
_MOST_FIELDS = 8


class NotSignedIn(Exception):
    """The page is an owner's, and nobody is signed in."""


@dataclass(frozen=True)
class SignedIn:
    """The owner whose session it is."""

    owner_id: int
    name: str
    email: str


def config_of(request: Request) -> Settings:
    """Settings that the portal was made with."""
    config = request.app.state.config
    assert isinstance(config, Settings)  # noqa: S101
    return config


def keys_in(request: Request) -> Keys:
    """Keys that the portal was made with."""
    keys = request.app.state.keys
    assert isinstance(keys, Keys)  # noqa: S101
    return keys


def who(request: Request) -> SignedIn | None:
    """Who is signed in; None: nobody. The ledger decides, so that a sign-out ends every copy of the cookie."""
    sign_in_id = request.session.get("sign_in")
    if not isinstance(sign_in_id, int):
        return None
    lasts = timedelta(hours=config_of(request).portal_session_hours)
    with session() as opened:
        owner = sign_in.signed_in_owner(opened, sign_in_id, now=datetime.now(UTC), lasts=lasts)
    if owner is None:
        request.session.pop("sign_in")
        return None
    return SignedIn(owner.id, owner.name, owner.email)


def signed_in(request: Request) -> SignedIn:
    """Who is signed in, for routes that nobody else may use.

    Raises:
        NotSignedIn: nobody is.
    """
    visitor = who(request)
    if visitor is None:
        raise NotSignedIn
    return visitor


def form_token(request: Request) -> str:
    """What every form of this visit must carry; begins the visit if there is none."""
    visit = request.session.get("visit")
    if not isinstance(visit, str):
        visit = request.session["visit"] = secrets.token_urlsafe(16)
    return keys_in(request).form_token(visit)


def open_session(request: Request, sign_in_id: int) -> None:
    """Begin the session of an owner; nothing of the visit before it stays, so no one can have prepared it."""
    request.session.clear()
    request.session["visit"] = secrets.token_urlsafe(16)
    request.session["sign_in"] = sign_in_id


def same_origin(request: Request) -> None:
    """Refuse what another site's page sends with the owner's cookie.

    Raises:
        HTTPException: 403, with what was missing.
    """
    fetch_site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if fetch_site is None and origin is None:
        raise _refused("it must say where it comes from (Sec-Fetch-Site or Origin)")
    if fetch_site is not None and fetch_site != "same-origin":
        raise _refused("it comes from another site")
    # Browsers send no Sec-Fetch-Site to plain http; then the origin is all there is.
    if fetch_site is None and origin not in _own_origins(request):
        raise _refused("it comes from another site")


def check_form_token(request: Request, given: object) -> None:
    """Refuse what does not carry this visit's token.

    Raises:
        HTTPException: 403.
    """
    if not isinstance(given, str) or not hmac.compare_digest(
        form_token(request).encode(), given.encode("utf-8", "replace")
    ):
        raise _refused("the page was out of date; load it again")


async def own_form(request: Request) -> FormData:
    """The fields of a form that one of our own pages sent.

    Raises:
        HTTPException: 403 when another site may have sent it, 400 when it is no form.
    """
    same_origin(request)
    form = await request.form(max_files=1, max_fields=_MOST_FIELDS)
    check_form_token(request, form.get(FORM_TOKEN_FIELD))
    return form


Visitor = Annotated[SignedIn, Depends(signed_in)]
OwnForm = Annotated[FormData, Depends(own_form)]


def text_field(form: FormData, name: str, longest: int) -> str:
    """A text of a form, cut; empty when it is missing or a file."""
    value = form.get(name)
    return value[:longest] if isinstance(value, str) else ""


def _own_origins(request: Request) -> set[str]:
    parts = urlsplit(config_of(request).portal_url)
    return {f"{parts.scheme}://{parts.netloc}", f"{request.url.scheme}://{request.url.netloc}"}


def _refused(why: str) -> HTTPException:
    return HTTPException(HTTP_403_FORBIDDEN, f"This request was refused: {why}.")
