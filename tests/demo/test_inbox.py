"""The inbox takes mails by real SMTP, keeps them, and shows hostile ones without harm."""

from __future__ import annotations

import smtplib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

import httpx
import pytest
from parsel import Selector
from starlette.testclient import TestClient

from copywatch.demo.inbox import MailFolder, create_inbox
from copywatch.demo.planting import photo_bytes

PHOTO = photo_bytes("03.jpg")


@dataclass
class Running:
    """The inbox as a process."""

    smtp_port: int
    base: str
    folder: Path


@pytest.fixture
def running(start: Callable[..., subprocess.Popen[str]], free_port: Callable[[], int], tmp_path: Path) -> Running:
    smtp_port, http_port, folder = free_port(), free_port(), tmp_path / "mails"
    base = f"http://127.0.0.1:{http_port}"
    arguments = ["--smtp-port", smtp_port, "--http-port", http_port, "--folder", folder]
    start("copywatch.demo.inbox", *arguments, url=f"{base}/api/mails")
    return Running(smtp_port, base, folder)


def alert_mail() -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "Copywatch <alerts@copywatch.example>"
    mail["To"] = "Ada Lindqvist <ada@photographers.example>"
    mail["Subject"] = "<script>alert('subject')</script> Möglich: a copy of 03.jpg"
    mail["Message-ID"] = "<alert-1@copywatch.example>"
    mail["Date"] = "Mon, 02 Mar 2026 08:15:00 +0000"
    mail.set_content("A copy of 03.jpg was found.\n<script>alert('text')</script>\n")
    mail.add_alternative(
        "<html><body><h1>A copy was found</h1><script>alert('html')</script>"
        '<img src="cid:original@copywatch" onerror="alert(1)"><img src="cid:unknown">'
        '<img src="http://tracker.example/pixel.gif"><a href="http://localhost/x">see it</a></body></html>',
        subtype="html",
    )
    html = mail.get_payload()[1]  # type: ignore[index]
    assert isinstance(html, EmailMessage)
    html.add_related(PHOTO, "image", "jpeg", cid="<original@copywatch>", filename='03".jpg')
    mail.add_attachment("key;value\n", subtype="csv", filename="../evidence <1>.csv")
    return mail


def client_of(folder: Path) -> TestClient:
    return TestClient(create_inbox(MailFolder(folder)), base_url="http://localhost")


def test_a_mail_goes_in_by_smtp_and_comes_out_safely(running: Running) -> None:
    with smtplib.SMTP("127.0.0.1", running.smtp_port, timeout=10) as smtp:
        smtp.send_message(alert_mail(), mail_options=["SMTPUTF8"])

    (mail,) = httpx.get(f"{running.base}/api/mails").json()
    assert mail["from"] == "Copywatch <alerts@copywatch.example>"
    assert mail["to"] == "Ada Lindqvist <ada@photographers.example>"
    assert mail["subject"] == "<script>alert('subject')</script> Möglich: a copy of 03.jpg"
    assert mail["message_id"] == "<alert-1@copywatch.example>"
    assert mail["date"] == "2026-03-02T08:15:00+00:00"
    assert mail["received_at"].endswith("+00:00")
    assert mail["text"].startswith("A copy of 03.jpg was found.")

    for path in ("/", f"/mails/{mail['id']}"):
        page = httpx.get(running.base + path)
        assert page.status_code == 200
        assert "<script" not in page.text
        assert "&lt;script&gt;" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "script-src" not in page.headers["content-security-policy"]

    shown = Selector(httpx.get(f"{running.base}/mails/{mail['id']}").text)
    sandbox = shown.css("iframe::attr(sandbox)").get()
    assert sandbox is not None
    assert "allow-scripts" not in sandbox
    assert "allow-same-origin" not in sandbox

    html = httpx.get(running.base + str(shown.css("iframe::attr(src)").get()))
    policy = html.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "img-src data:" in policy
    assert "sandbox" in policy
    assert "allow-scripts" not in policy
    assert "script-src" not in policy
    pictures = Selector(html.text).css("img::attr(src)").getall()
    assert pictures[0].startswith("data:image/jpeg;base64,")
    assert pictures[1] == "cid:unknown"

    one = httpx.get(f"{running.base}/api/mails/{mail['id']}").json()
    assert [part["name"] for part in one["attachments"]] == ['03".jpg', "../evidence <1>.csv"]
    assert one["html"].count("data:image/jpeg") == 1
    picture = httpx.get(f"{running.base}/mails/{mail['id']}/parts/{one['attachments'][0]['number']}")
    assert picture.content == PHOTO
    assert picture.headers["content-disposition"] == "attachment; filename*=utf-8''03%22.jpg"

    raw = httpx.get(f"{running.base}/mails/{mail['id']}/raw")
    assert raw.headers["content-type"].startswith("message/rfc822")
    assert raw.content.startswith(b"Return-Path: <alerts@copywatch.example>\r\nDelivered-To: ada@photographers.example")


def test_newest_first_and_kept_over_a_restart(tmp_path: Path) -> None:
    folder = MailFolder(tmp_path)
    for number in range(3):
        folder.add(b"Subject: mail %d\r\n\r\nhello\r\n" % number, sender="a@b.example", recipients=["c@d.example"])
    expected = ["mail 2", "mail 1", "mail 0"]
    assert [mail.subject for mail in folder.mails] == expected
    client = client_of(tmp_path)
    assert [mail["subject"] for mail in client.get("/api/mails").json()] == expected
    assert Selector(client.get("/").text).css(".subject a::text").getall() == expected


def test_an_empty_inbox_says_so(tmp_path: Path) -> None:
    assert "No mail yet" in client_of(tmp_path).get("/").text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"no header at all",
        b"Subject: =?utf-8?b?////?=\r\nFrom: <<<@@>>>,,;\r\nTo: \xff\xfe\r\nDate: yesterday\r\n\r\n\xff\xfe",
        b"Content-Type: text/plain; charset=no-such-charset\r\n\r\nhello \xff",
        b'Content-Type: text/html; charset=""\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!',
        b"Content-Type: multipart/mixed\r\n\r\nno boundary",
        b'Content-Type: multipart/related; boundary="x"\r\n\r\n--x\r\nContent-Type: message/rfc822\r\n\r\n',
        b"Content-Type: text/html\r\nContent-ID: <\r\nMessage-ID: [\r\n\r\n<img src=cid:%00>",
        b"From: a@[\r\nSubject: " + b"x" * 5000 + b"\r\nDate: Mon, 99 Mar 9999 99:99:99 +9999\r\n\r\n",
        b"Subject: two\r\n lines\r\nContent-Disposition: attachment; filename*=utf-8''%ZZ%00\"\r\n\r\nx",
    ],
)
def test_mails_made_to_break_a_reader_break_nothing(tmp_path: Path, content: bytes) -> None:
    mail = MailFolder(tmp_path).add(content, sender="", recipients=[])
    client = client_of(tmp_path)
    for path in ("/", f"/mails/{mail.id}", f"/mails/{mail.id}/raw", "/api/mails", f"/api/mails/{mail.id}"):
        assert client.get(path).status_code == 200, path
    assert client.get(f"/mails/{mail.id}/html").status_code in (200, 404)
    for part in client.get(f"/api/mails/{mail.id}").json()["attachments"]:
        assert client.get(f"/mails/{mail.id}/parts/{part['number']}").status_code == 200


def test_only_mails_of_the_folder_are_served(tmp_path: Path) -> None:
    (tmp_path / "mails").mkdir()
    (tmp_path / "secret.eml").write_text("Subject: secret\n\nsecret\n")
    client = client_of(tmp_path / "mails")
    for mail_id in ("..%2fsecret", "../secret", "secret", "%2e%2e%2fsecret"):
        for path in (f"/mails/{mail_id}", f"/mails/{mail_id}/raw", f"/api/mails/{mail_id}"):
            assert client.get(path).status_code == 404, path


def test_a_mail_that_somebody_else_put_there_is_shown(tmp_path: Path) -> None:
    (tmp_path / "from elsewhere.eml").write_text("Subject: hello\n\nyou\n")
    client = client_of(tmp_path)
    link = Selector(client.get("/").text).css(".subject a::attr(href)").get()
    assert client.get(str(link)).status_code == 200


def test_another_host_name_is_refused(tmp_path: Path) -> None:
    application = create_inbox(MailFolder(tmp_path))
    assert TestClient(application, base_url="http://evil.example").get("/").status_code == 400
