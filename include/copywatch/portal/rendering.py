"""From values to HTML. What a crawl brought in is hostile, and so is what owners name their files."""

from __future__ import annotations

import secrets
import unicodedata
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from copywatch.portal.hardening import SAFE_HEADERS
from copywatch.portal.visitor import form_token

_LONGEST_TEXT = 240


def web_address(address: str | None) -> str | None:
    """The address if a link may lead there: http or https, a host, nothing invisible; else None."""
    if not address or any(sign.isspace() or not sign.isprintable() for sign in address):
        return None
    try:
        parts = urlsplit(address)
        return address if parts.scheme in {"http", "https"} and parts.hostname else None
    except ValueError:
        return None


def plain(value: object, longest: int = _LONGEST_TEXT) -> str:
    """Text from outside as one bounded line; signs that are not seen, or turn the direction, show as a box."""
    text = " ".join(str(value)[: longest * 4].split())
    seen = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(sign)[0] == "C" else sign for sign in text)
    return seen if len(seen) <= longest else seen[: longest - 1] + "…"


def moment(value: datetime) -> str:
    """A point in time, UTC."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def day(value: datetime) -> str:
    """The day of a point in time, UTC."""
    return f"{value.astimezone(UTC):%Y-%m-%d}"


@lru_cache(maxsize=1)
def templates() -> Environment:
    """The portal's templates, pages and mails."""
    environment = Environment(
        loader=PackageLoader("copywatch.portal", "templates"),
        # Text mails alone are not escaped; a page with another ending must not be the one that lets a script through.
        autoescape=select_autoescape(disabled_extensions=("txt",), default_for_string=True, default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"web_address": web_address, "plain": plain, "moment": moment, "day": day}
    return environment


def page(request: Request, template: str, status_code: int = 200, **values: object) -> HTMLResponse:
    """A page of ours: no script at all, its own style, pictures of this site, forms to this site."""
    nonce = secrets.token_urlsafe(16)
    values = {
        "visitor": None,
        "nonce": nonce,
        "token": form_token(request),
        "now": datetime.now(UTC),
        **values,
    }
    policy = (
        f"default-src 'none'; img-src 'self'; style-src 'nonce-{nonce}'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    )
    return HTMLResponse(
        templates().get_template(template).render(values),
        status_code=status_code,
        headers={**SAFE_HEADERS, "Content-Security-Policy": policy},
    )
