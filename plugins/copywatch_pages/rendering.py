"""From values to HTML. Everything a crawl brought in is hostile, and so is what owners name their files."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from functools import lru_cache, partial

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from copywatch.alerts import wording
from copywatch.hostile_text import plain, web_address


def moment(value: datetime | None) -> str:
    """A point in time, UTC; a dash for none."""
    if value is None:
        return "–"
    at = value.astimezone(UTC) if value.tzinfo else value
    return f"{at:%Y-%m-%d %H:%M} UTC"


@lru_cache(maxsize=1)
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("copywatch_pages", "templates"),
        # Always, not by file name: a template with another ending must not be the one that lets a script through.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"web_address": web_address, "plain": plain, "moment": moment}
    environment.filters |= {
        "done_to_it": wording.done_to_it,
        "found_earlier": partial(wording.found_earlier, to_owner=False),
        "measure_name": wording.measure_name,
        "picture_missing": wording.picture_missing,
        "told": wording.told,
        "uploaded": wording.uploaded,
        "uploader_page": wording.uploader_page,
        "verified": wording.verified,
    }
    return environment


def page(request: Request, template: str, status_code: int = 200, **values: object) -> HTMLResponse:
    """A page of ours: rendered, with a policy that lets only its own script, style and pictures work."""
    nonce = secrets.token_urlsafe(16)
    values |= {"nonce": nonce, "base": str(request.scope.get("root_path", "")).rstrip("/")}
    policy = (
        "default-src 'none'; img-src 'self'; connect-src 'self'; "
        f"style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        "frame-ancestors 'self'; form-action 'self'; base-uri 'none'"
    )
    return HTMLResponse(
        _templates().get_template(template).render(values),
        status_code=status_code,
        headers={"Content-Security-Policy": policy},
    )
