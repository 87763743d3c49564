"""The `copywatch` command, as somebody at a terminal uses it."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
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


def test_compare_says_score_and_verdict(tmp_path: Path) -> None:
    """Against the views called directly."""
    from copywatch.fingerprint import decode_within_limits
    from copywatch.fingerprint.views import protected_views, sighting_views
    from copywatch.matching.score import RESCORED_THRESHOLD, Operands, plain_distances, scores

    copy = tmp_path / "copy.png"
    with Image.open(ORIGINAL) as original:
        ImageOps.mirror(original).save(copy)
    views = protected_views(decode_within_limits(photo_bytes("01.jpg")).rgb)
    operands = Operands.of(sighting_views(decode_within_limits(copy.read_bytes()).rgb)), Operands.of(views)
    columns = np.arange(len(views))
    pairs = operands[0], np.zeros_like(columns), operands[1], columns
    best = int(scores(*pairs).argmin())
    found = run_json("compare", ORIGINAL, copy)
    assert found["distance"] == pytest.approx(scores(*pairs)[best], abs=1e-6)
    assert found["plain_distance"] == pytest.approx(plain_distances(*pairs)[best], abs=1e-6)
    assert (found["rule"], found["view"], found["threshold"]) == ("rescored", "mirrored", RESCORED_THRESHOLD)
    assert found["T"] in {0, 1}
    assert run_json("compare", ORIGINAL, ORIGINAL)["T"] == 0
    other = run_json("compare", ORIGINAL, OTHER)
    assert (other["T"], other["view"]) == (2, "")
    sepia = tmp_path / "sepia.jpg"
    sepia.write_bytes(EVERY_EDIT["sepia"].apply(photo_bytes("01.jpg")))
    assert run_json("compare", ORIGINAL, sepia)["T"] == 1
    assert run_json("compare", ORIGINAL, sepia, "--threshold", "0.000001")["T"] == 2
    shown = run("compare", ORIGINAL, sepia)
    assert "similar" in shown
    assert {"score", "distance of the paper"} <= {" ".join(part.split()) for part in shown.splitlines()[0].split("  ")}


def test_the_very_same_flat_file_is_identical_and_another_is_not(tmp_path: Path) -> None:
    """Whose fingerprints say nothing."""
    for name, grey in (("a.png", 90), ("b.png", 91)):
        Image.new("L", (100, 80), grey).save(tmp_path / name)
    assert run_json("compare", tmp_path / "a.png", tmp_path / "a.png")["T"] == 0
    assert run_json("compare", tmp_path / "a.png", tmp_path / "b.png")["T"] > 0


def test_compare_verifies(tmp_path: Path) -> None:
    copy, picture, plain = tmp_path / "copy.jpg", tmp_path / "out.png", tmp_path / "plain.png"
    with Image.open(ORIGINAL) as original:
        width, height = original.size
        ImageOps.mirror(original.crop((0, 0, width // 2, height))).save(copy, quality=90)
    Image.new("RGB", (200, 100), "red").save(plain)
    found = run_json("compare", ORIGINAL, copy, "--explain", picture)["verification"]
    assert (found["verification"], found["unverified"], found["mirrored"]) == ("certain", None, True)
    assert found["probability"] > 0.9
    assert re.fullmatch(r"crop, (49|50|51) % of the original, mirrored", found["edit"])
    # The left half, mirrored: its right edge is the original's left one.
    assert found["alignment"] == pytest.approx([-0.5, 0, 0.5, 0, 1, 0], abs=0.01)
    assert found["measures"]["shown"] == pytest.approx(0.5, abs=0.02)
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"
        assert drawn.width > 700
    shown = " ".join(run("compare", ORIGINAL, copy).split())
    assert f"certain more than 99 % {found['edit']}" in shown
    assert "inliers" in shown
    assert "overlap agreement" in shown

    assert run_json("compare", ORIGINAL, OTHER)["verification"]["verification"] == "different"
    unverified = run_json("compare", ORIGINAL, plain)["verification"]
    assert (unverified["verification"], unverified["probability"]) == (None, None)
    assert "too few points" in unverified["unverified"]
    assert "covered by the fingerprint alone" in run("compare", ORIGINAL, plain)


def test_compare_that_has_nothing_to_draw_says_so(tmp_path: Path) -> None:
    plain, picture = tmp_path / "plain.png", tmp_path / "out.png"
    Image.new("RGB", (200, 100), "red").save(plain)
    arguments = ["compare", str(ORIGINAL), str(plain), "--explain", str(picture)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert "nothing to draw: there is no way to lay the one over the other" in done.stderr
    assert not picture.exists()
    for wrong in (tmp_path / "out.xyz", tmp_path / "nowhere" / "out.png"):
        done = CliRunner().invoke(app, ["compare", str(ORIGINAL), str(ORIGINAL), "--explain", str(wrong)])
        assert done.exit_code == 1
        assert f"copywatch: {wrong}" in done.stderr


def test_compare_by_the_papers_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the algorithm called directly; other algorithms have no other rule."""
    from copywatch.settings import settings

    copy = tmp_path / "copy.jpg"
    copy.write_bytes(EVERY_EDIT["sepia"].apply(photo_bytes("01.jpg")))

    def directly(name: str) -> float:
        algorithm = algorithm_named(name)
        codes = [algorithm.decode(fingerprint_of(path.read_bytes(), name)) for path in (ORIGINAL, copy)]
        return algorithm.distance(*codes)

    hashed = run_json("compare", ORIGINAL, copy, "--algorithm", "dhash")
    assert (hashed["rule"], hashed["distance"]) == ("paper", pytest.approx(directly("dhash"), abs=1e-6))
    monkeypatch.setenv("COPYWATCH_RULE", "paper")
    settings.cache_clear()
    try:
        found = run_json("compare", ORIGINAL, copy)
        assert found["distance"] == found["plain_distance"] == pytest.approx(directly("mao"), abs=1e-6)
        assert (found["rule"], found["view"], found["threshold"]) == ("paper", "", algorithm_named("mao").threshold)
        assert 0 < found["distance"] <= found["threshold"]
        assert run_json("compare", ORIGINAL, ORIGINAL)["T"] == 0
        assert run_json("compare", ORIGINAL, OTHER)["T"] == 2
        assert "score" not in run("compare", ORIGINAL, copy)
    finally:
        settings.cache_clear()


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
    found = run_json("crawl", gallery, "--internal", "--source", "page")
    images = {image["image_url"].rsplit("/", 1)[1]: image for image in found["items"]}
    assert images["a.jpg"]["uploader"] == "Mira"
    assert images["a.jpg"]["uploaded_at"].startswith("2026-01-02 03:04:05")
    assert images["a.jpg"]["outcome"] == "fetched"
    assert "404" in images["gone.jpg"]["outcome"]
    assert (found["stats"]["images_new"], found["stats"]["rejected"]) == (1, {"HTTP error": 1})
    assert (found["stats"]["source"], found["error"]) == ("page", None)
    assert "not allowed" in run_json("crawl", gallery, "--source", "page", status=1)["error"]


def test_crawl_remembers_in_its_state_folder(gallery: str, tmp_path: Path) -> None:
    """What is new, as a dry run and the crawl after it say; then nothing is. Each crawl's shards stay."""
    own = ("crawl", gallery, "--internal", "--state", tmp_path / "state", "--landing", tmp_path / "landing")
    listed = run_json(*own, "--dry-run")
    assert listed["stats"]["source"] == "gallery"
    assert [item["outcome"] for item in listed["items"]] == ["listed", "listed"]
    first, second = run_json(*own), run_json(*own)
    assert (first["stats"]["images_new"], second["stats"]["images_new"]) == (1, 0)
    assert second["stats"]["images_known"] == 2
    assert second["stats"]["requests"] < first["stats"]["requests"]
    assert len(list((tmp_path / "landing").glob("by-hand-*/*/*.parquet"))) == 2


@pytest.mark.integration
@pytest.mark.usefixtures("ledger_url")
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
    assert run_json("crawl", address, "--internal", status=1)["error"]


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
        from copywatch.fingerprint.views import protected_views

        rows = []
        for name in ("01.jpg", "02.jpg"):
            image = decode_within_limits(photo_bytes(name))
            tags = Tagger(settings().prepared_dir / "models").probabilities(image.rgb)
            row = dict.fromkeys(PROTECTED.columns.names)
            row |= {"protected_id": name, "owner": "1", "status": "active", "tag": max(tags, key=lambda t: tags[t])}
            row |= {"fingerprint": fingerprint_of(photo_bytes(name)), "algorithm": identity(algorithm_named("mao"))}
            row |= {"views": protected_views(image.rgb).tobytes()}
            row |= {"tags": list(tags.items()), "registered_at": datetime.now(UTC)}
            rows.append(row)
        replace_rows(str(tmp_path / "warehouse"), PROTECTED, rows, run="r")
        found = run_json("check", ORIGINAL)
        assert (found[0]["protected_id"], found[0]["T"], found[0]["plain_distance"]) == ("01.jpg", 0, 0)
        assert (found[0]["rule"], found[0]["view"]) == ("rescored", "")
    finally:
        settings.cache_clear()
