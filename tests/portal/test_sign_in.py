"""Signing in: the code comes by real SMTP, works once, and tells nobody who is an owner."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from parsel import Selector
from sqlalchemy import select, update
from starlette.testclient import TestClient

from copywatch.errors import CopywatchError, SettingsError
from copywatch.ledger import sign_in
from copywatch.ledger.database import session
from copywatch.ledger.models import SignIn
from copywatch.portal.__main__ import is_loopback, main
from copywatch.portal.application import create_portal
from copywatch.settings import load_settings
from tests.portal.portal_steps import ORIGIN, ask, code_in, form_token, try_code

ADA = "ada@owners.example"
Browser = Callable[..., TestClient]
SignedInBrowser = Callable[..., tuple[TestClient, int]]


def newest_code(inbox: Any, address: str = ADA) -> str:
    return code_in(next(mail for mail in inbox[0].mails if address in mail.to).text)


def test_a_mailed_code_opens_the_portal(browser: Browser, inbox: Any, owner_of: Callable[..., int]) -> None:
    owner_of()
    client = browser()
    first = client.get("/alerts")
    assert (first.status_code, first.headers["location"]) == (303, "/sign-in")

    answer = ask(client, f"  {ADA.upper()} ")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in/code")
    mail = inbox[0].mails[0]
    assert mail.to == f"Ada <{ADA}>"
    assert not re.search(r"\d{4} ?\d{4}", mail.subject)
    code = code_in(mail.text)

    answer = try_code(client, code)
    # Where the owner wanted to go in the first place.
    assert (answer.status_code, answer.headers["location"]) == (303, "/alerts")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie
    assert "No copy was found so far" in client.get("/").text
    assert client.get("/sign-in").headers["location"] == "/"


def test_nothing_secret_is_kept(browser: Browser, inbox: Any, owner_of: Callable[..., int]) -> None:
    owner_of()
    ask(browser(), ADA)
    code = newest_code(inbox)
    with session() as opened:
        (row,) = opened.scalars(select(SignIn)).all()
        kept = repr([getattr(row, column.name) for column in SignIn.__table__.columns])
    assert code.replace(" ", "") not in kept
    assert ADA not in kept
    assert row.expires_at - row.asked_at == timedelta(minutes=10)


def test_a_code_works_once(browser: Browser, inbox: Any, owner_of: Callable[..., int]) -> None:
    owner_of()
    client = browser()
    ask(client, ADA)
    before = dict(client.cookies)
    code = newest_code(inbox)
    assert try_code(client, code.replace(" ", "-")).headers["location"] == "/"
    # The same browser state again, as somebody would who copied it before.
    replay = browser()
    replay.cookies.update(before)
    answer = try_code(replay, code)
    assert answer.status_code == 422
    assert "does not work any more" in answer.text
    assert replay.get("/").headers["location"] == "/sign-in"


def test_a_code_works_in_the_browser_that_asked_only(
    browser: Browser, inbox: Any, owner_of: Callable[..., int]
) -> None:
    owner_of()
    ask(browser(), ADA)
    code = newest_code(inbox)
    other = browser()
    ask(other, "mallory@elsewhere.example")
    assert try_code(other, code).status_code == 422
    assert other.get("/").headers["location"] == "/sign-in"
    assert browser().get("/sign-in/code").headers["location"] == "/sign-in"


def test_five_wrong_tries_end_a_code(browser: Browser, inbox: Any, owner_of: Callable[..., int]) -> None:
    owner_of()
    client = browser()
    ask(client, ADA)
    code = newest_code(inbox)
    held = dict(client.cookies)
    wrong = f"{(int(code.replace(' ', '')) + 1) % 10**8:08}"
    told = [Selector(try_code(client, wrong).text).css(".trouble::text").get() for _ in range(5)]
    assert told[0] == "That is not the code; 4 tries are left."
    assert told[3] == "That is not the code; 1 try is left."
    assert told[4] == "That code does not work any more. Ask for a new one."
    assert client.get("/sign-in/code").headers["location"] == "/sign-in"
    client.cookies.update(held)
    assert try_code(client, code).status_code == 422
    assert client.get("/").headers["location"] == "/sign-in"


def test_a_code_ends_after_ten_minutes(browser: Browser, inbox: Any, owner_of: Callable[..., int]) -> None:
    owner_of()
    client = browser()
    ask(client, ADA)
    with session() as opened:
        opened.execute(update(SignIn).values(expires_at=datetime.now(UTC)))
    assert "does not work any more" in try_code(client, newest_code(inbox)).text


def test_nobody_learns_who_is_an_owner(browser: Browser, inbox: Any, owner_of: Callable[..., int]) -> None:
    owner_of()
    seen = {}
    for address, network in ((ADA, "198.51.100.1"), ("bob@nobody.example", "198.51.100.2")):
        mails = len(inbox[0].mails)
        client = browser(network)
        answers = []
        for _ in range(5):
            answers.append(ask(client, address))
        answers.append(client.get("/sign-in/code"))
        # A wrong code is wrong in the same words, and the limit is the same.
        answers.extend(try_code(client, "1") for _ in range(5))
        answers.append(ask(client, address))
        sent = len(inbox[0].mails) - mails
        seen[address] = [(one.status_code, _shape(one.text, address), one.headers.get("location")) for one in answers]
        assert sent == (5 if address == ADA else 0)
    assert seen[ADA] == seen["bob@nobody.example"]
    assert seen[ADA][-1][0] == 429


def _shape(page: str, address: str) -> str:
    page = re.sub(r'(nonce|value)="[^"]*"', r'\1=""', page.replace(address, "ADDRESS"))
    return re.sub(r"\d+ minutes?", "MINUTES", page)


def test_codes_are_rationed_by_network_too(browser: Browser, owner_of: Callable[..., int]) -> None:
    client = browser("2001:db8:1:2::5")
    for number in range(sign_in.MOST_CODES_OF_CLIENT):
        assert ask(client, f"a{number}@nobody.example").status_code == 303
    refused = ask(browser("2001:db8:1:2:ffff::9"), "one-more@nobody.example")
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 3600
    assert "Too many codes" in refused.text
    assert ask(browser("2001:db8:1:3::5"), "one-more@nobody.example").status_code == 303


def test_an_hour_later_codes_are_given_again_and_old_rows_are_gone(config: Any) -> None:
    now, later = datetime.now(UTC), datetime.now(UTC) + timedelta(hours=1)
    given: dict[str, Any] = {"address": ADA, "client": "198.51.100.1", "key": b"k", "keep": timedelta(hours=12)}
    with session() as opened:
        for _ in range(sign_in.MOST_CODES_OF_ADDRESS):
            sign_in.issue_code(opened, now=now, **given)
        with pytest.raises(sign_in.TooManyCodes, match="wait 60 minutes"):
            sign_in.issue_code(opened, now=now, **given)
        sign_in.issue_code(opened, now=later, **given)
        sign_in.issue_code(opened, now=later + timedelta(hours=12), **given)
        assert len(opened.scalars(select(SignIn)).all()) == 2


@pytest.mark.parametrize("typed", ["", "nobody", "@host", "a b@c.example", "a@b\x00.example", "x" * 330 + "@a.example"])
def test_what_is_no_address_is_said(browser: Browser, typed: str) -> None:
    answer = ask(browser(), typed)
    assert answer.status_code == 422
    assert "That is no mail address" in answer.text
    with pytest.raises(CopywatchError, match="no mail address"):
        sign_in.mail_address(typed)


def test_a_mail_server_that_is_down_tells_nobody_either(
    browser: Browser, owner_of: Callable[..., int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from copywatch.errors import AlertNotSent

    def down(*_: object) -> None:
        raise AlertNotSent("mail server x:25 did not take the mail")

    monkeypatch.setattr("copywatch.portal.code_mail.send_mail", down)
    owner_id = owner_of()
    assert ask(browser(), ADA).headers["location"] == "/sign-in/code"
    assert f"owner {owner_id} got no code: mail server x:25" in caplog.text


def test_signing_out_ends_every_copy_of_the_cookie(signed_in: SignedInBrowser, browser: Browser) -> None:
    client, _ = signed_in()
    thief = browser()
    thief.cookies.update(client.cookies)
    assert thief.get("/").status_code == 200
    token = form_token(client.get("/").text)
    assert client.post("/sign-out", data={"form_token": token}).headers["location"] == "/sign-in"
    assert client.get("/").headers["location"] == "/sign-in"
    assert thief.get("/").headers["location"] == "/sign-in"


def test_a_session_ends_by_itself(signed_in: SignedInBrowser) -> None:
    client, _ = signed_in()
    with session() as opened:
        opened.execute(update(SignIn).values(redeemed_at=datetime.now(UTC) - timedelta(hours=12)))
    assert client.get("/").headers["location"] == "/sign-in"
    answer = client.get("/images/1.jpg", headers={"accept": "image/*"})
    assert answer.status_code == 401


def test_a_forged_cookie_is_nobodys(browser: Browser, signed_in: SignedInBrowser) -> None:
    client, _ = signed_in()
    name, value = next(iter(client.cookies.items()))
    for forged in (value[::-1], "x" + value, "null", "é", value.rpartition(".")[0]):
        answer = browser().get("/", headers={"cookie": f"{name}={forged}".encode()})
        assert answer.headers["location"] == "/sign-in"


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({"sec-fetch-site": "cross-site", "origin": "https://evil.example"}, True),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": None, "origin": "https://evil.example"}, True),
        ({"sec-fetch-site": None, "origin": "null"}, True),
        ({"sec-fetch-site": None, "origin": None}, True),
        ({}, False),
    ],
)
def test_another_sites_page_changes_nothing(
    signed_in: SignedInBrowser, headers: dict[str, str | None], token: bool
) -> None:
    client, _ = signed_in()
    fields = {"form_token": form_token(client.get("/").text) if token else "0" * 64}
    for name, value in headers.items():
        if value is None:
            del client.headers[name]
        else:
            client.headers[name] = value
    for path in ("/sign-in", "/sign-in/code", "/sign-out", "/check"):
        answer = client.post(path, data=fields)
        assert answer.status_code == 403
        assert "refused" in answer.text
    assert client.get("/").status_code == 200


def test_a_token_of_another_visit_does_not_do(browser: Browser) -> None:
    token = form_token(browser().get("/sign-in").text)
    client = browser()
    client.get("/sign-in")
    assert client.post("/sign-in", data={"address": ADA, "form_token": token}).status_code == 403


def test_plain_http_has_only_the_origin(signed_in: SignedInBrowser) -> None:
    client, _ = signed_in()
    token = form_token(client.get("/").text)
    del client.headers["sec-fetch-site"]
    assert client.headers["origin"] == ORIGIN
    assert client.post("/sign-out", data={"form_token": token}).status_code == 303


def test_https_makes_the_cookie_secure(config: Any) -> None:
    app = create_portal(config.model_copy(update={"portal_url": "https://portal.example"}))
    cookie = TestClient(app, base_url="https://portal.example").get("/sign-in").headers["set-cookie"]
    assert cookie.startswith("__Host-copywatch=")
    assert "; secure" in cookie.lower()
    assert "path=/;" in cookie


@pytest.mark.parametrize(
    ("changed", "local_only", "told"),
    [
        ({"portal_secret": ""}, False, "COPYWATCH_PORTAL_SECRET is not set"),
        ({"portal_secret": "short"}, True, "COPYWATCH_PORTAL_SECRET has 5 characters, at least 32"),
        ({"check_tokens": "x" * 16 + ",short"}, True, "token 2 of 2 has 5 characters, at least 16"),
    ],
)
def test_a_portal_without_its_secrets_does_not_start(changed: dict[str, str], local_only: bool, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        create_portal(load_settings(**changed), local_only=local_only)
    create_portal(load_settings(portal_secret="", check_tokens=""), local_only=True)


def test_the_command_refuses_in_words(
    config: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from copywatch.settings import settings

    monkeypatch.setenv("COPYWATCH_PORTAL_SECRET", "")
    settings.cache_clear()
    assert main(["--host", "0.0.0.0"]) == 2
    assert "PORTAL_SECRET is not set" in capsys.readouterr().err
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "[::1]", "localhost", "0.0.0.0", "portal")] == [
        True, True, True, True, False, False,
    ]  # fmt: skip
