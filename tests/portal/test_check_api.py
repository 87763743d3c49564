"""The check API and its page: who may ask, what is answered, and what hostile uploads come to."""

from __future__ import annotations

import io
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from parsel import Selector
from PIL import Image, ImageOps
from starlette.testclient import TestClient

from copywatch.lake.identity import protected_id
from copywatch.matching.score import RESCORED_THRESHOLD
from copywatch.portal import check_pages
from tests.portal.portal_steps import TOKEN, form_token, picture, protected_row, write_protected

SignedInBrowser = Callable[..., tuple[TestClient, int]]
BEARER = {"authorization": f"Bearer {TOKEN}", "accept": "application/json"}


@pytest.fixture
def program(browser: Callable[..., TestClient], tagged_as: Callable[[dict[str, float]], None]) -> TestClient:
    """A program with a token; it is no browser and says nothing that only browsers say."""
    tagged_as({"scenery": 1.0})
    client = browser()
    client.headers.clear()
    client.headers.update(BEARER)
    return client


def test_the_nearest_protected_images_as_json(program: TestClient, config: Any) -> None:
    write_protected(config.warehouse, [protected_row(picture(number), number) for number in range(1, 9)])
    for answer in (
        program.post("/api/check", content=picture(3), headers={"content-type": "image/png"}),
        program.post("/api/check", files={"image": ("../../x.png", picture(3), "text/html")}),
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        told = answer.json()
        assert (told["algorithm"], told["identical_bound"], len(told["results"])) == ("mao/1", 0.0, 5)
        assert told["results"][0] == {
            "id": f"{3:032x}",
            "distance": 0.0,
            "similarity": 1.0,
            "T": 0,
            "verdict": "identical",
            "tag": "scenery",
            "threshold": told["threshold"],
            "rule": "rescored",
            "plain_distance": 0.0,
            "view": "",
        }
        assert (told["rule"], told["threshold"]) == ("rescored", RESCORED_THRESHOLD)
        distances = [one["distance"] for one in told["results"]]
        assert distances == sorted(distances)
        assert told["results"][-1]["T"] == 2
        assert "set-cookie" not in answer.headers


def test_programs_and_owners_are_told_what_was_done(
    program: TestClient, signed_in: SignedInBrowser, config: Any
) -> None:
    write_protected(config.warehouse, [protected_row(picture(number), number) for number in (1, 2)])
    out = io.BytesIO()
    with Image.open(io.BytesIO(picture(1))) as original:
        ImageOps.mirror(original).save(out, "PNG")
    copy, other = program.post("/api/check", content=out.getvalue()).json()["results"]
    assert (copy["id"], copy["view"], copy["T"] < 2) == (f"{1:032x}", "mirrored", True)
    assert copy["similarity"] == 1 - copy["plain_distance"]
    assert (other["view"], other["T"]) == ("", 2)
    client, _ = signed_in()
    token = form_token(client.get("/check").text)
    answer = client.post("/check", data={"form_token": token}, files={"image": ("x.png", out.getvalue())})
    told = " ".join(" ".join(Selector(answer.text).css(".nearest li *::text").getall()).split())
    assert "Done to it: mirrored" in told
    assert f"score {copy['distance']:.4f} of Th {RESCORED_THRESHOLD:.4f}" in told
    assert f"SRPITP's distance {copy['plain_distance']:.4f}" in told


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer "},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": TOKEN},
        {"authorization": "Bearer \xe9".encode("latin-1")},
    ],
)
def test_nobody_else_may_ask(browser: Callable[..., TestClient], headers: dict[str, Any]) -> None:
    def never_read() -> Iterator[bytes]:
        yield picture(1)

    answer = browser().post("/api/check", content=never_read(), headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "COPYWATCH_CHECK_TOKENS" in answer.json()["detail"]


def test_without_tokens_no_token_does(config: Any) -> None:
    from pydantic import SecretStr

    from copywatch.portal.application import create_portal

    app = create_portal(config.model_copy(update={"check_tokens": SecretStr("")}))
    for token in ("", ",", "None"):
        answer = TestClient(app).post("/api/check", headers={"authorization": f"Bearer {token}"}, content=b"x")
        assert answer.status_code == 401


def test_owners_learn_nothing_of_other_owners(
    signed_in: SignedInBrowser, plant_image: Callable[..., int], config: Any, tagged_as: Any
) -> None:
    tagged_as({"scenery": 1.0})
    client, owner = signed_in()
    _, other = signed_in("bob@owners.example", "Bob")
    plant_image(owner, picture(1), filename="mine.png")
    plant_image(other, picture(2), filename="bobs.png")
    rows = []
    for seed, whose in ((1, owner), (2, other)):
        row = protected_row(picture(seed), seed, owner=str(whose))
        rows.append(row | {"protected_id": protected_id(str(whose), row["sha256"])})
    write_protected(config.warehouse, rows)
    token = form_token(client.get("/check").text)

    answer = client.post("/api/check", content=picture(2), headers={"x-form-token": token})
    bobs, mine = answer.json()["results"]
    assert (bobs["id"], bobs["yours"], bobs["filename"], bobs["T"]) == (None, False, None, 0)
    assert (mine["id"], mine["yours"], mine["filename"]) == (rows[0]["protected_id"], True, "mine.png")
    page = client.post("/check", data={"form_token": token}, files={"image": ("x.png", picture(2))})
    assert page.status_code == 200
    listed = Selector(page.text).css(".nearest li b").xpath("string()").getall()
    assert listed == ["An image of another owner", "mine.png"]
    assert "It is a protected image." in page.text
    for told in (answer.text, page.text):
        assert rows[1]["protected_id"] not in told
        assert "Bob" not in told
        assert "bobs.png" not in told


def test_a_session_takes_a_form_token(signed_in: SignedInBrowser, config: Any, tagged_as: Any) -> None:
    tagged_as({"scenery": 1.0})
    write_protected(config.warehouse, [protected_row(picture(1), 1)])
    client, _ = signed_in()
    token = form_token(client.get("/check").text)
    image = {"image": ("x.png", picture(1))}
    assert client.post("/api/check", files=image, data={"form_token": token}).status_code == 200
    assert client.post("/api/check", files=image).status_code == 403
    assert client.post("/api/check", content=picture(1)).status_code == 403
    assert client.post("/api/check", content=picture(1), headers={"x-form-token": "0" * 64}).status_code == 403
    crossing = {"x-form-token": token, "sec-fetch-site": "cross-site"}
    assert client.post("/api/check", content=picture(1), headers=crossing).status_code == 403
    # A token of an administrator that is wrong is not mended by a session.
    assert client.post("/api/check", content=picture(1), headers={"authorization": "Bearer x"}).status_code == 401


def _bomb() -> bytes:
    """A PNG of 100 megapixels in 12 KB."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 10_000, 10_000, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1251) * 10_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty: zero bytes"),
        (b"<!doctype html><p>hello", "not an image: HTML"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "vector image (SVG): nothing to fingerprint"),
        (b"\x00" * 5000, "not an image: unknown format"),
        (b"%PDF-1.7 " + b"x" * 100, "not an image: unknown format"),
        (picture(1)[:2000], "truncated image"),
        (picture(1, kind="JPEG")[:1500], "truncated image"),
        (picture(1, (8, 8)), "too few pixels to tell images apart"),
        (_bomb(), "too many pixels"),
    ],
)
def test_unusable_images_are_refused_with_their_reason(program: TestClient, data: bytes, reason: str) -> None:
    for answer in (
        program.post("/api/check", content=data),
        program.post("/api/check", files={"image": ("x.png", data, "image/png")}),
    ):
        assert answer.status_code == 422
        assert answer.json()["reason"] == reason
        assert reason in answer.json()["detail"]


def test_owners_are_told_the_reason_on_the_page(signed_in: SignedInBrowser) -> None:
    client, _ = signed_in()
    fields = {"form_token": form_token(client.get("/check").text)}
    answer = client.post("/check", data=fields, files={"image": ("x.svg", b"<svg><script>alert(1)</script></svg>")})
    assert answer.status_code == 422
    assert "This cannot be checked: vector image" in answer.text
    assert "<script" not in answer.text
    nothing = (
        f'--x\r\nContent-Disposition: form-data; name="form_token"\r\n\r\n{fields["form_token"]}\r\n'
        '--x\r\nContent-Disposition: form-data; name="image"; filename=""\r\n'
        "Content-Type: application/octet-stream\r\n\r\n\r\n--x--\r\n"
    )
    answer = client.post("/check", content=nothing, headers={"content-type": "multipart/form-data; boundary=x"})
    assert "Choose a file first." in answer.text
    assert client.post("/check", data=fields).status_code == 403


def test_large_uploads_are_refused(program: TestClient) -> None:
    promised = program.post("/api/check", content=bytes(400_000))
    assert promised.status_code == 413
    assert "at most 365,536" in promised.json()["detail"]
    just_over = program.post("/api/check", content=picture(1).ljust(300_001))
    assert just_over.status_code == 413
    assert just_over.json()["reason"] == "too many bytes"
    in_form = program.post("/api/check", files={"image": ("x", bytes(400_000))})
    assert in_form.status_code == 413


def test_an_endless_upload_is_cut_off(config: Any, free_port: Callable[[], int]) -> None:
    port = free_port()
    command = [sys.executable, "-m", "copywatch.portal", "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as portal:
        try:
            until = time.monotonic() + 30
            while time.monotonic() < until and portal.poll() is None:
                try:
                    assert httpx.get(f"http://127.0.0.1:{port}/healthz").json() == {"status": "ok"}
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                head = f"POST /api/check HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
                connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
                sent = 0
                with suppress(ConnectionError):
                    while sent < 64_000_000:
                        connection.sendall(b"10000\r\n" + bytes(65_536) + b"\r\n")
                        sent += 65_536
                        if select.select([connection], [], [], 0)[0]:
                            break
                answer = connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 413")
            assert sent < 16_000_000
        finally:
            portal.send_signal(signal.SIGINT)
            _, told = portal.communicate(timeout=20)
    assert TOKEN not in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "multipart/form-data", 400),
        (b"nonsense", "multipart/form-data; boundary=x", 400),
        (b"--x\r\n\r\n", "multipart/form-data; boundary=x", 400),
        (b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\ntext\r\n--x--\r\n', None, 422),
        (b'--x\r\nContent-Disposition: form-data; name="y"; filename="z"\r\n\r\ntext\r\n--x--\r\n', None, 422),
        (b'--x\r\nContent-Disposition: form-data; name="y"\r\n\r\nz\r\n' * 20 + b"--x--\r\n", None, 400),
    ],
)
def test_broken_forms_are_refused(program: TestClient, body: bytes, kind: str | None, status: int) -> None:
    headers = {"content-type": kind or "multipart/form-data; boundary=x"}
    answer = program.post("/api/check", content=body, headers=headers)
    assert answer.status_code in {status, 422}
    assert answer.json()["detail"]


def test_large_forms_are_refused_everywhere_else(browser: Callable[..., TestClient]) -> None:
    client = browser()
    token = form_token(client.get("/sign-in").text)
    assert client.post("/sign-in", data={"form_token": token, "address": "x" * 20_000}).status_code == 413


def test_a_service_that_is_not_set_up_says_no_more_than_that(program: TestClient) -> None:
    answer = program.post("/api/check", content=picture(1))
    assert answer.status_code == 503
    assert answer.json()["detail"] == "Checks are not possible now: the service is not set up completely."


def test_uploads_wait_for_nobody_when_too_many_are_under_way(
    program: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkers = program.app.state.checkers  # type: ignore[attr-defined]
    taken = [checkers.place() for _ in range(check_pages._MOST_UPLOADS)]
    for place in taken:
        place.__enter__()
    answer = program.post("/api/check", content=picture(1))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    for place in taken:
        place.__exit__(None, None, None)
    assert program.post("/api/check", content=b"").status_code == 422


def test_an_animation_counts_by_its_first_frame(program: TestClient, config: Any) -> None:
    write_protected(config.warehouse, [protected_row(picture(1), 1)])
    frames = [Image.open(io.BytesIO(picture(seed))) for seed in (1, 2, 3)]
    out = io.BytesIO()
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert program.post("/api/check", content=out.getvalue()).json()["results"][0]["T"] == 0
