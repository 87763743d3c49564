"""The mail that brings a one-time code."""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr

from copywatch.alerts.delivery import send_mail
from copywatch.errors import CopywatchError
from copywatch.hostile_text import plain
from copywatch.ledger.models import Owner
from copywatch.ledger.sign_in import CODE_LASTS
from copywatch.portal.rendering import templates
from copywatch.settings import Settings

log = logging.getLogger(__name__)


def code_mail(owner: Owner, code: str, config: Settings) -> EmailMessage:
    """The mail for one code; the subject does not show it, since locked screens show subjects."""
    message = EmailMessage()
    name, address = parseaddr(config.mail_from)
    message["From"] = Address(name, addr_spec=address)
    message["To"] = Address(plain(owner.name), addr_spec=owner.email)
    message["Subject"] = "Your code for Copywatch"
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<code-{secrets.token_hex(16)}@{address.rpartition('@')[2] or 'copywatch.invalid'}>"
    message["Auto-Submitted"] = "auto-generated"
    half = len(code) // 2
    values = {
        "owner": owner,
        "code": f"{code[:half]} {code[half:]}",
        "minutes": int(CODE_LASTS.total_seconds() // 60),
        "portal_url": config.portal_url,
    }
    message.set_content(templates().get_template("code_mail.txt").render(values))
    message.add_alternative(templates().get_template("code_mail.html").render(values), subtype="html")
    return message


def send_code(owner: Owner, code: str, config: Settings) -> None:
    """Mail a code. A failure is logged and told to nobody: who asked may not learn that there was a mail to send."""
    try:
        send_mail(code_mail(owner, code, config), config)
    except CopywatchError as error:
        log.error("sign-in: owner %s got no code: %s", owner.id, error)
