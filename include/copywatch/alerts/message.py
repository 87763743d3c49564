"""The alert as a mail: what was found, where, when, by whom, how sure, and both pictures.

SRPITP, section 3, step (10).
"""

from __future__ import annotations

import io
from collections.abc import Collection
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr

from jinja2 import Environment, PackageLoader, select_autoescape

from copywatch.alerts.wording import (
    certainty,
    done_beside,
    found_earlier,
    measured,
    picture_missing,
    title,
    told,
    uploaded,
    uploader_page,
)
from copywatch.decode import decode
from copywatch.images import ImageStore
from copywatch.ledger.models import Application, ApplicationState, Evidence, Owner
from copywatch.settings import Settings

_THUMBNAIL_PIXELS = 480
_HEADER_CHARACTERS = 200


def _one_line(text: str) -> str:
    """Without line breaks and control characters: what others wrote makes no line of its own in a mail."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


_templates = Environment(
    loader=PackageLoader("copywatch.alerts", "templates"),
    autoescape=select_autoescape(["html"]),
    trim_blocks=True,
    lstrip_blocks=True,
    # Each value that a template puts out, before it is escaped.
    finalize=lambda value: _one_line(value) if isinstance(value, str) else value,
)


def thumbnail(data: bytes, config: Settings) -> bytes:
    """A small JPEG of an image, at most 480 pixels a side: nobody is sent the crawled bytes themselves."""
    image = decode(data, max_pixels=config.max_image_pixels, max_bytes=config.max_image_bytes).rgb
    image = image.copy()
    image.thumbnail((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


def _mail(config: Settings, owner: Owner, subject: str, message_id: str) -> EmailMessage:
    message = EmailMessage()
    name, address = parseaddr(config.mail_from)
    message["From"] = Address(name, addr_spec=address)
    message["To"] = Address(_header(owner.name), addr_spec=owner.email)
    message["Subject"] = _header(subject)
    # The same on every try, so that a mail that was sent but not noted as sent is not a second one.
    message["Message-ID"] = f"<{message_id}@{address.rpartition('@')[2] or 'copywatch.invalid'}>"
    message["Auto-Submitted"] = "auto-generated"
    return message


def _header(text: str) -> str:
    return _one_line(text)[:_HEADER_CHARACTERS]


def alert_mail(evidence: Evidence, store: ImageStore, config: Settings) -> EmailMessage:
    """The mail for one alert; its parts: text, HTML, inline both pictures and how they lie over each other.

    A picture that could not be kept or drawn is left out.
    """
    message = _mail(
        config,
        evidence.owner,
        f"{title(evidence)} of {evidence.protected_filename or 'your image'} was found on {evidence.site}",
        f"alert-{evidence.sighting_id}-{evidence.protected_id}",
    )
    message["Date"] = format_datetime(evidence.created_at)
    portal = f"{config.portal_url.rstrip('/')}/alerts/{evidence.alert.id}" if evidence.alert else None
    pictures = _pictures(evidence, store, config)
    values = {
        "evidence": evidence,
        "explained": "explanation" in pictures,
        "certainty": certainty(evidence),
        "measured": measured(evidence),
        "done": done_beside(evidence),
        "uploaded": uploaded(evidence),
        "uploader_page": uploader_page(evidence),
        "told": told(evidence),
        "found_earlier": found_earlier(evidence),
        "missing": picture_missing(evidence),
        "portal": portal,
    }
    message.set_content(_templates.get_template("alert.txt").render(values))
    message.add_alternative(_templates.get_template("alert.html").render(values), subtype="html")
    html = message.get_payload()[1]  # type: ignore[index]
    for name, data in pictures.items():
        html.add_related(data, "image", "jpeg", cid=f"<{name}>", filename=f"{name}.jpg")  # type: ignore[union-attr]
    return message


def _pictures(evidence: Evidence, store: ImageStore, config: Settings) -> dict[str, bytes]:
    """The mail's pictures by name, JPEG."""
    pictures = {
        name: thumbnail(store.get(address), config)
        for name, address in (("protected", evidence.protected_address), ("found", evidence.found_address))
        if address is not None
    }
    explanation = evidence.explanation_address
    if explanation is not None and store.holds(explanation):
        # Drawn by us, and of the size that it is meant for.
        pictures["explanation"] = store.get(explanation)
    return pictures


def confirmation_mail(
    owner: Owner, applications: list[Application], run: str, config: Settings, whole_only: Collection[int] = ()
) -> EmailMessage:
    """The mail that tells an owner what became of the images applied for in one run.

    Args:
        owner: to whom.
        applications: of the run and owner.
        run: the run.
        config: sender and addresses.
        whole_only: ids of applications whose images are too plain for parts of them to be found.
    """
    protected = [one for one in applications if one.state == ApplicationState.PROTECTED]
    refused = [one for one in applications if one.state == ApplicationState.REFUSED]
    message = _mail(
        config, owner, f"{len(protected)} of {len(applications)} images are protected", f"confirmation-{run}-{owner.id}"
    )
    values = {
        "owner": owner,
        "protected": protected,
        "whole_only": frozenset(whole_only),
        "refused": refused,
        "config": config,
    }
    message.set_content(_templates.get_template("confirmation.txt").render(values))
    message.add_alternative(_templates.get_template("confirmation.html").render(values), subtype="html")
    return message
