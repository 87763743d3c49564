"""From values to HTML. What a crawl brought in is hostile, and so is what owners name their files."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from copywatch.alerts import wording
from copywatch.hostile_text import plain, web_address
from copywatch.portal.hardening import SAFE_HEADERS
from copywatch.portal.visitor import form_token


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
    environment.filters |= {
        "certainty": wording.certainty,
        "done_beside": wording.done_beside,
        "found_earlier": wording.found_earlier,
        "measure_name": wording.measure_name,
        "measured": wording.measured,
        "picture_missing": wording.picture_missing,
        "title_of": wording.title,
        "told": wording.told,
        "uploaded": wording.uploaded,
        "uploader_page": wording.uploader_page,
    }
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
