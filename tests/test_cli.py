"""The `copywatch` command, as somebody at a terminal uses it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from copywatch.cli import app
from copywatch.demo.edits import EVERY_EDIT
from copywatch.demo.planting import PHOTOS_DIR, photo_bytes
from copywatch.fingerprint import algorithm_named, fingerprint_of

ORIGINAL, OTHER = PHOTOS_DIR / "01.jpg", PHOTOS_DIR / "02.jpg"


def run(*arguments: str | Path, status: int = 0) -> str:
    """Standard output of a call that ends with `status`."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == status, f"{done.output}\n{done.exception!r}"
    return done.stdout


def run_json(*arguments: str | Path, status: int = 0) -> Any:
    """The same, read as JSON."""
    return json.loads(run(*arguments, "--json", status=status))


def test_compare_says_distance_and_verdict(tmp_path: Path) -> None:
    """Against the algorithm called directly."""
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(EVERY_EDIT["sepia"].apply(photo_bytes("01.jpg")))
    mao = algorithm_named("mao")
    codes = [mao.decode(fingerprint_of(path.read_bytes())) for path in (ORIGINAL, copy)]
    found = run_json("compare", ORIGINAL, copy)
    assert found["distance"] == pytest.approx(mao.distance(*codes), abs=1e-6)
    assert 0 < found["distance"] <= found["threshold"]
    assert found["T"] == 1
    assert run_json("compare", ORIGINAL, ORIGINAL)["T"] == 0
    assert run_json("compare", ORIGINAL, OTHER)["T"] == 2
    assert run_json("compare", ORIGINAL, copy, "--threshold", "0.000001")["T"] == 2
    assert "similar" in run("compare", ORIGINAL, copy)


def test_the_settings_threshold_is_for_the_settings_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another algorithm keeps its own."""
    from copywatch.settings import settings

    monkeypatch.setenv("COPYWATCH_THRESHOLD", "0.9")
    settings.cache_clear()
    try:
        assert run_json("compare", ORIGINAL, OTHER)["T"] == 1
        assert run_json("compare", ORIGINAL, OTHER, "--algorithm", "dhash")["T"] == 2
    finally:
        settings.cache_clear()


def test_fingerprint_prints_each_file_and_why_not(tmp_path: Path) -> None:
    """One bad file does not hide the others, and shows in the exit status."""
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"<html>no</html>")
    rows = run_json("fingerprint", ORIGINAL, bad, OTHER, status=1)
    assert [bool(row["fingerprint"]) for row in rows] == [True, False, True]
    assert rows[0]["fingerprint"] == fingerprint_of(ORIGINAL.read_bytes()).hex()
    assert len(bytes.fromhex(rows[0]["fingerprint"])) == 180
    assert "HTML" in rows[1]["reason"]
    run("fingerprint", ORIGINAL, "--algorithm", "none", status=1)


def test_sites_check_says_the_line(tmp_path: Path) -> None:
    """In both forms."""
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("sites:\n  - name: one\n    start: https://one.example/\n")
    bad.write_text("sites:\n  - name: one\n    start: https://one.example/\n    every: often\n")
    assert run_json("sites", "check", good)["sites"][0]["site"] == "one"
    assert run_json("sites", "check", bad, status=1)["errors"][0].startswith(f"{bad}:4:")
    run("sites", "check", bad, status=1)


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[str]:
    """Address of a page with two pictures, one of which is not there."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "index.html").write_text(
        '<figure><img src="a.jpg"><a rel="author">Mira</a><time datetime="2026-01-02T03:04:05Z"></time></figure>'
        '<img src="gone.jpg">'
    )
    (folder / "a.jpg").write_bytes(photo_bytes("01.jpg"))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def test_crawl_takes_a_page_address(gallery: str) -> None:
    """Without any file; a private address only when it is said to be wanted."""
    found = run_json("crawl", gallery, "--allow-private")
    images = {image["image_url"].rsplit("/", 1)[1]: image for image in found["images"]}
    assert images["a.jpg"]["uploader"] == "Mira"
    assert images["a.jpg"]["uploaded_at"].startswith("2026-01-02 03:04:05")
    assert images["a.jpg"]["outcome"] == "fetched"
    assert "404" in images["gone.jpg"]["outcome"]
    assert (found["crawl"]["images_fetched"], found["crawl"]["images_failed"]) == (1, 1)
    assert "not allowed" in run_json("crawl", gallery, status=1)["crawl"]["error"]


def test_crawl_takes_a_site_of_a_file(gallery: str, tmp_path: Path) -> None:
    """By its name; an unknown one is told with those that there are."""
    sites = tmp_path / "sites.yaml"
    sites.write_text(f"sites:\n  - name: mine\n    start: {gallery}\n    allow_private_addresses: true\n")
    assert "fetched" in run("crawl", "mine", "--sites", sites)
    done = CliRunner().invoke(app, ["crawl", "yours", "--sites", str(sites)])
    assert done.exit_code == 1
    assert "mine" in done.stderr


def test_crawl_of_a_site_that_is_down_says_so() -> None:
    """With a failing exit status."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{held.getsockname()[1]}/"
    assert run_json("crawl", address, "--allow-private", status=1)["crawl"]["error"]


def test_check_names_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among protected images whose fingerprints are in the lake."""
    from datetime import UTC, datetime

    from copywatch.fingerprint import identity
    from copywatch.lake.schemas import PROTECTED
    from copywatch.lake.tables import replace_rows
    from copywatch.settings import settings
    from copywatch.tagging.tagger import Tagger

    if not (settings().prepared_dir / "models").exists():
        pytest.skip("the tag models are not prepared: run make setup")
    monkeypatch.setenv("COPYWATCH_DATA_DIR", str(tmp_path))
    settings.cache_clear()
    try:
        run("lake", "create")
        from copywatch.fingerprint import decode_within_limits

        rows = []
        for name in ("01.jpg", "02.jpg"):
            image = decode_within_limits(photo_bytes(name))
            tags = Tagger(settings().prepared_dir / "models").probabilities(image.rgb)
            row = dict.fromkeys(PROTECTED.columns.names)
            row |= {"protected_id": name, "owner": "1", "status": "active", "tag": max(tags, key=lambda t: tags[t])}
            row |= {"fingerprint": fingerprint_of(photo_bytes(name)), "algorithm": identity(algorithm_named("mao"))}
            row |= {"tags": list(tags.items()), "registered_at": datetime.now(UTC)}
            rows.append(row)
        replace_rows(str(tmp_path / "warehouse"), PROTECTED, rows, run="r")
        found = run_json("check", ORIGINAL)
        assert (found[0]["protected_id"], found[0]["T"], found[0]["distance"]) == ("01.jpg", 0, 0)
    finally:
        settings.cache_clear()
