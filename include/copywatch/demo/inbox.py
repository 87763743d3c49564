"""The local mail inbox: takes mails by SMTP, keeps them as files, shows them on a web page and as JSON.

    python -m copywatch.demo.inbox --smtp-port 1025 --http-port 8025 --folder var/inbox

Everything in a mail is taken as hostile: names and subjects are escaped, an HTML part is shown without scripts, forms
or anything from the net, in a frame of its own that cannot reach the page around it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import email.policy
import os
import re
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import parsedate_to_datetime
from pathlib import Path
from socket import socket
from typing import Any
from urllib.parse import quote, unquote

import uvicorn
from aiosmtpd.smtp import SMTP, Envelope, Session
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from copywatch.demo import LOOPBACK, listen_on, serve_until_told

_TEMPLATES = Path(__file__).parent / "templates" / "inbox"
_REFRESH_SECONDS = 10
_SHOWN_INLINE = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"})
_PAGE_POLICY = "default-src 'none'; style-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'"
# Links of a mail may open a new window; nothing else that it brings may act or fetch.
_SANDBOX = "allow-popups allow-popups-to-escape-sandbox"
_MAIL_POLICY = (
    f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'self'; "
    f"sandbox {_SANDBOX}"
)
_CID = re.compile(r"cid:([^\"'\s)>]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Mail:
    """What the list says of one mail; `sender` and `to` are as the mail claims them."""

    id: str
    sender: str
    to: str
    subject: str
    date: str | None
    message_id: str
    received_at: str
    text: str

    def as_json(self) -> dict[str, Any]:
        """The mail as the API gives it, with `from` for the sender."""
        fields = asdict(self)
        return {"id": fields.pop("id"), "from": fields.pop("sender"), **fields}


@dataclass(frozen=True)
class Attachment:
    """A part that is neither the text nor the HTML of a mail."""

    number: int
    name: str
    kind: str
    content: bytes


def _printable(text: str) -> str:
    # A header may hold bytes that are no text; the parser keeps them as surrogates, which cannot be sent.
    return text.encode("utf-8", "replace").decode("utf-8")


def _header(message: EmailMessage, name: str) -> str:
    # The parser is lazy and fails in many ways on headers made to break it; one mail must not break the list.
    try:
        return _printable(" ".join(str(message.get(name, "")).split()))
    except Exception:
        return "(unreadable)"


def _date(message: EmailMessage) -> str | None:
    try:
        return parsedate_to_datetime(_header(message, "Date")).isoformat()
    except ValueError:
        return None


def _part_text(part: EmailMessage) -> str:
    try:
        return _printable(part.get_content())
    except (LookupError, UnicodeError, ValueError, AttributeError):
        return _bytes_of(part).decode("utf-8", "replace")


def _bytes_of(part: EmailMessage) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else part.as_bytes()


def _body(message: EmailMessage, kind: str) -> EmailMessage | None:
    try:
        part = message.get_body((kind,))
    except Exception:
        return None
    return part if isinstance(part, EmailMessage) else None


def _text(message: EmailMessage) -> str:
    part = _body(message, "plain")
    return _part_text(part) if part is not None else ""


def _html(message: EmailMessage) -> str | None:
    part = _body(message, "html")
    if part is None:
        return None
    inline: dict[str, str] = {}
    for other in message.walk():
        content_id = _header(other, "Content-ID").strip("<> ")
        if content_id and other.get_content_type() in _SHOWN_INLINE:
            encoded = base64.b64encode(_bytes_of(other)).decode("ascii")
            inline[content_id] = f"data:{other.get_content_type()};base64,{encoded}"
    return _CID.sub(lambda match: inline.get(unquote(match[1]), match[0]), _part_text(part))


def _attachments(message: EmailMessage) -> list[Attachment]:
    bodies = {id(part) for kind in ("plain", "html") if (part := _body(message, kind)) is not None}
    attachments = []
    for number, part in enumerate(message.walk()):
        if part.is_multipart() or id(part) in bodies:
            continue
        try:
            name = _printable(part.get_filename() or "")
        except Exception:
            name = ""
        attachments.append(Attachment(number, name or f"part-{number}", part.get_content_type(), _bytes_of(part)))
    return attachments


class MailFolder:
    """Mails as `.eml` files in one folder, newest last by name; what is there at the start is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._mails = {path.stem: self._summary(path.stem) for path in sorted(folder.glob("*.eml"))}

    @property
    def mails(self) -> list[Mail]:
        """Newest first."""
        return sorted(self._mails.values(), key=lambda mail: mail.id, reverse=True)

    def path(self, mail_id: str) -> Path | None:
        """The file of a mail; None if there is no such mail."""
        if mail_id not in self._mails:
            return None
        path = self._folder / f"{mail_id}.eml"
        return path if path.is_file() else None

    def mail(self, mail_id: str) -> Mail:
        """What the list says of this mail."""
        return self._mails[mail_id]

    def message(self, mail_id: str) -> EmailMessage:
        """The mail itself, parsed."""
        return BytesParser(EmailMessage, policy=email.policy.default).parsebytes(
            (self._folder / f"{mail_id}.eml").read_bytes()
        )

    def add(self, content: bytes, *, sender: str, recipients: Sequence[str]) -> Mail:
        """Keep a mail as it came, under the envelope it came in."""
        now = datetime.now(UTC)
        mail_id = f"{now:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"
        envelope = f"Return-Path: <{sender}>\r\nDelivered-To: {', '.join(recipients)}\r\n"
        path = self._folder / f"{mail_id}.eml"
        partial = path.with_suffix(".partial")
        partial.write_bytes(envelope.encode("utf-8", "replace") + content)
        partial.rename(path)
        self._mails[mail_id] = self._summary(mail_id)
        return self._mails[mail_id]

    def _summary(self, mail_id: str) -> Mail:
        message = self.message(mail_id)
        stamp = mail_id.split("-")[0]
        try:
            received = datetime.strptime(stamp, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
        except ValueError:  # a file that somebody else put here
            received = datetime.fromtimestamp((self._folder / f"{mail_id}.eml").stat().st_mtime, UTC)
        return Mail(
            id=mail_id,
            sender=_header(message, "From"),
            to=_header(message, "To"),
            subject=_header(message, "Subject"),
            date=_date(message),
            message_id=_header(message, "Message-ID"),
            received_at=received.isoformat(),
            text=_text(message),
        )


class _Delivery:
    """What aiosmtpd calls for each mail."""

    def __init__(self, folder: MailFolder) -> None:
        self._folder = folder

    async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content or b""
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogateescape")
        self._folder.add(content, sender=envelope.mail_from or "", recipients=envelope.rcpt_tos)
        return "250 Kept"


def smtp_listener(folder: MailFolder) -> SMTP:
    """The SMTP side of one connection, to be given to an event loop's `create_server`; call it inside the loop."""
    return SMTP(_Delivery(folder), hostname="inbox.localhost", enable_SMTPUTF8=True, ident="Copywatch inbox")


class _Pages:
    def __init__(self, folder: MailFolder, smtp_address: str) -> None:
        self._folder = folder
        self._smtp_address = smtp_address
        self._templates = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=select_autoescape(),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["moment"] = lambda text: datetime.fromisoformat(text).strftime("%d %b %Y, %H:%M:%S UTC")
        self._templates.filters["size"] = lambda count: f"{count / 1024:.0f} KB" if count >= 1024 else f"{count} bytes"

    def _page(self, template: str, **values: object) -> HTMLResponse:
        body = self._templates.get_template(template).render(smtp_address=self._smtp_address, **values)
        return HTMLResponse(body, headers=_headers(_PAGE_POLICY))

    def _known(self, request: Request) -> tuple[str, Path]:
        mail_id = str(request.path_params["mail_id"])
        path = self._folder.path(mail_id)
        if path is None:
            raise HTTPException(404, "there is no such mail")
        return mail_id, path

    async def mails(self, _: Request) -> Response:
        return self._page("mails.html", mails=self._folder.mails, refresh=_REFRESH_SECONDS)

    async def mail(self, request: Request) -> Response:
        mail_id, _ = self._known(request)
        message = self._folder.message(mail_id)
        return self._page(
            "mail.html",
            mail=self._folder.mail(mail_id),
            has_html=_body(message, "html") is not None,
            attachments=_attachments(message),
            sandbox=_SANDBOX,
        )

    async def html(self, request: Request) -> Response:
        mail_id, _ = self._known(request)
        html = _html(self._folder.message(mail_id))
        if html is None:
            raise HTTPException(404, "this mail has no HTML part")
        # Before whatever the mail says: its first base wins, and its links leave the frame.
        return HTMLResponse(f'<!doctype html><base target="_blank">\n{html}', headers=_headers(_MAIL_POLICY))

    async def raw(self, request: Request) -> Response:
        mail_id, path = self._known(request)
        return FileResponse(
            path,
            media_type="message/rfc822",
            filename=f"{mail_id}.eml",
            headers=_headers("default-src 'none'; sandbox"),
        )

    async def part(self, request: Request) -> Response:
        mail_id, _ = self._known(request)
        wanted = request.path_params["number"]
        for attachment in _attachments(self._folder.message(mail_id)):
            if attachment.number == wanted:
                headers = _headers("default-src 'none'; sandbox")
                headers["Content-Disposition"] = f"attachment; filename*=utf-8''{quote(attachment.name, safe='')}"
                return Response(attachment.content, media_type="application/octet-stream", headers=headers)
        raise HTTPException(404, "this mail has no such part")

    async def api_mails(self, _: Request) -> Response:
        return JSONResponse([mail.as_json() for mail in self._folder.mails])

    async def api_mail(self, request: Request) -> Response:
        mail_id, _ = self._known(request)
        message = self._folder.message(mail_id)
        attachments = [
            {"number": part.number, "name": part.name, "type": part.kind, "bytes": len(part.content)}
            for part in _attachments(message)
        ]
        html = _html(message)
        return JSONResponse({**self._folder.mail(mail_id).as_json(), "html": html, "attachments": attachments})

    async def style(self, _: Request) -> Response:
        return FileResponse(_TEMPLATES / "style.css", media_type="text/css")


def _headers(policy: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def create_inbox(folder: MailFolder, *, smtp_socket: socket | None = None, local_only: bool = True) -> Starlette:
    """The inbox as an ASGI application.

    Args:
        folder: where mails are kept.
        smtp_socket: a bound socket that mails are taken on while the application runs; None: only the pages.
        local_only: refuse requests for another host name than localhost, so that no web page can read the inbox by
            pointing a name of its own at this machine.
    """

    @asynccontextmanager
    async def take_mails(_: Starlette) -> AsyncIterator[None]:
        if smtp_socket is None:
            yield
            return
        server = await asyncio.get_running_loop().create_server(lambda: smtp_listener(folder), sock=smtp_socket)
        try:
            yield
        finally:
            server.close()

    address = "{}:{}".format(*smtp_socket.getsockname()[:2]) if smtp_socket else ""
    pages = _Pages(folder, address)
    hosts = [LOOPBACK, "localhost"] if local_only else ["*"]
    return Starlette(
        routes=[
            Route("/", pages.mails),
            Route("/mails/{mail_id}", pages.mail),
            Route("/mails/{mail_id}/html", pages.html),
            Route("/mails/{mail_id}/raw", pages.raw),
            Route("/mails/{mail_id}/parts/{number:int}", pages.part),
            Route("/api/mails", pages.api_mails),
            Route("/api/mails/{mail_id}", pages.api_mail),
            Route("/style.css", pages.style),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
        lifespan=take_mails,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Take and show mails until told to stop."""
    parent = os.getppid()
    parser = argparse.ArgumentParser(prog="copywatch.demo.inbox", description="A local mail inbox.")
    parser.add_argument("--smtp-port", type=int, required=True, help="port that mails are taken on")
    parser.add_argument("--http-port", type=int, required=True, help="port of the page that shows them")
    parser.add_argument("--folder", type=Path, required=True, help="where they are kept, one .eml file each")
    parser.add_argument("--host", default=LOOPBACK, help="address to listen on; default: this machine only")
    given = parser.parse_args(arguments)
    try:
        smtp_socket, http_socket = listen_on(given.smtp_port, given.host), listen_on(given.http_port, given.host)
    except OSError as error:
        print(error.strerror, file=sys.stderr)
        return 1
    application = create_inbox(MailFolder(given.folder), smtp_socket=smtp_socket, local_only=given.host == LOOPBACK)
    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        lifespan="on",
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    print(f"Inbox: http://{given.host}:{given.http_port}/  SMTP: {given.host}:{given.smtp_port}", flush=True)
    with suppress(KeyboardInterrupt):
        asyncio.run(serve_until_told(uvicorn.Server(config), [http_socket], parent))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
