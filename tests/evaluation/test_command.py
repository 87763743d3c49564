"""`copywatch evaluate` at a terminal, and the pages that it writes."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from copywatch.cli import app
from copywatch.errors import EvaluationError
from copywatch.evaluation import sheet
from copywatch.evaluation.evaluate import evaluate
from copywatch.evaluation.sheet import COLUMNS, claim_folder, write_misses
from copywatch.fingerprint.registry import ALGORITHMS
from copywatch.settings import PROJECT_DIR, Settings, settings
from tests.evaluation.conftest import Case, jpeg, picture


@pytest.fixture
def environment(config: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sees the test's settings."""
    monkeypatch.setenv("COPYWATCH_DATA_DIR", str(config.data_dir))
    monkeypatch.setenv("COPYWATCH_PREPARED_DIR", str(config.prepared_dir))
    monkeypatch.setenv("COPYWATCH_TAG_COVERAGE", "1")
    settings.cache_clear()


def run(case: Case, *options: str | Path, status: int = 0) -> str:
    """Standard output; of a failure standard error."""
    arguments = ["--protected", case.protected, "--detected", case.detected, "--truth", case.truth, *options]
    done = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    assert done.exit_code == status, f"{done.output}\n{done.exception!r}"
    return done.stdout if status == 0 else done.stderr


@pytest.mark.usefixtures("environment")
def test_it_prints_counts(known: Case) -> None:
    """As a table and as JSON."""
    found = json.loads(run(known, "--json"))
    assert (found["copies"], found["found"], found["certain"]) == (6, 5, 5)
    text = run(known)
    assert "wrong: 0 taken for certain, 0 sent to review; precision 1.0000" in text
    [totals] = [line.split() for line in text.splitlines() if line.startswith("all ")]
    assert totals[:4] == ["all", "6", "5", "5"]
    assert int(totals[4]) == sum(one["rank1"] for one in found["edits"])
    assert "32 (every detected image with every protected one" in text


@pytest.mark.usefixtures("environment")
def test_mistakes_end_it_with_a_sentence(known: Case, tmp_path: Path) -> None:
    """Before any image is read."""
    known.write([("a.jpg", "none.jpg", "")])
    assert "truth.csv:2: protected: none.jpg is not in" in run(known, status=1)
    assert "name one of them" in run(known, "--calibrate", "--threshold", "0.2", status=2)
    assert "name another folder" in run(known, "--misses", known.detected / "x", status=1)
    assert not (known.detected / "x").exists()
    run(known, "--rate", "0", status=2)


def test_it_runs_as_a_program_with_processes(known: Case, config: Settings) -> None:
    """Spawned ones, which import the program anew; no server, no folder is made."""
    for number in range(30):
        (known.detected / f"again-{number}.jpg").write_bytes((known.detected / "a.jpg").read_bytes())
    known.write([(f"again-{number}.jpg", "01.jpg", "") for number in range(30)])
    done = subprocess.run(
        [
            Path(sys.executable).with_name("copywatch"), "evaluate", "--json", "--processes", "2",
            "--protected", known.protected, "--detected", known.detected, "--truth", known.truth,
        ],
        env={"PATH": "/usr/bin:/bin", "COPYWATCH_DATA_DIR": str(config.data_dir),
             "COPYWATCH_PREPARED_DIR": str(config.prepared_dir.resolve())},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["certain"] == 30
    assert "8 files of" in done.stderr
    assert not config.data_dir.exists()


@pytest.mark.usefixtures("environment")
def test_json_is_all_that_goes_to_standard_output(known: Case, tmp_path: Path) -> None:
    """Also with pages, and with files that are left out or unusable; these are counted in it."""
    (known.protected / "04.jpg").write_bytes(b"no image")
    known.write([("f.jpg", "02.jpg", "cut to a corner"), ("g.jpg", "", "")])
    found = json.loads(run(known, "--json", "--misses", tmp_path / "misses"))
    assert (found["copies"], found["unnamed"], len(found["unusable"])) == (1, 6, 1)
    text = run(known)
    assert "left out: 6 detected files that the truth file does not name, such as a.jpg" in text
    assert "unusable: 1 images" in text
    assert "04.jpg: " in text


@pytest.mark.usefixtures("environment")
def test_no_copy_and_one_image_are_results(case: Case) -> None:
    """With a sentence instead of an empty table."""
    (case.protected / "a.jpg").write_bytes(jpeg(picture(1)))
    (case.detected / "b.jpg").write_bytes(jpeg(picture(2)))
    case.write([("b.jpg", "", "")])
    text = run(case)
    assert "copies: none, by the truth file" in text
    assert "no image was taken for a copy" in text
    case.truth.unlink()
    assert "truth.csv" in run(case, status=2)


def test_the_help_names_every_algorithm() -> None:
    """Of both commands that take one."""
    for command in ("evaluate", "compare"):
        words = set(re.findall(r"\w+", CliRunner().invoke(app, [command, "--help"]).stdout))
        assert set(ALGORITHMS) <= words


@pytest.mark.usefixtures("environment")
def test_the_command_of_the_readme_runs(known: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that has what it names."""
    readme = (PROJECT_DIR / "README.md").read_text(encoding="utf-8")
    [line] = re.findall(r"^\.venv/bin/copywatch (evaluate .*)$", readme, re.MULTILINE)
    known.protected.rename(tmp_path / "originals")
    known.detected.rename(tmp_path / "found")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, shlex.split(line, comments=True))
    assert done.exit_code == 0, done.output
    assert re.search(r"^all +6 +5 +5 ", done.stdout, re.MULTILINE)
    header = re.search(r"^edit +copies.*$", done.stdout, re.MULTILINE)
    assert header
    assert header[0].split() in [line.split() for line in readme.splitlines()]


def write(case: Case, config: Settings, folder: Path) -> int:
    """Measure, and write what was judged wrongly; how many pages."""
    found = evaluate(case.protected, case.detected, case.truth, config=config, processes=1)
    claim_folder(folder, apart_from=(case.protected, case.detected))
    return write_misses(found, folder, protected=case.protected, detected=case.detected, config=config)


def table_of(folder: Path) -> list[dict[str, str]]:
    """Rows of the index."""
    with (folder / "index.csv").open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def test_pages_show_what_was_judged_wrongly(known: Case, config: Settings, tmp_path: Path) -> None:
    """The detected picture on the left, the protected one on the right; and again, with fewer pages."""
    folder = tmp_path / "misses"
    known.write([("f.jpg", "02.jpg", "cut to a corner"), ("a.jpg", "", ""), ("b.jpg", "02.jpg", "=1+1")])
    (known.detected / "b.jpg").write_bytes(b"no image")
    assert write(known, config, folder) == 1
    rows = table_of(folder)
    assert tuple(rows[0]) == COLUMNS
    assert [(row["wrong"], row["detected"], row["protected"]) for row in rows] == [
        ("false, alerted", "a.jpg", "01.jpg"),
        ("missed", "f.jpg", "02.jpg"),
        ("missed", "b.jpg", "02.jpg"),
    ]
    assert (rows[2]["edit"], rows[2]["distance"], rows[2]["why"]) == ("./=1+1", "", "the detected image is unusable")
    assert {row["page"] for row in rows} == {"page-01.png"}
    with Image.open(folder / "page-01.png") as page:
        page.load()
        left, right = (page.crop((x, 44 + 60, x + 100, 44 + 120)).tobytes() for x in (12 + 30, 12 + 180 + 30))
        # The same file on both sides, so the same picture; of the unusable one there is a grey tile.
        assert left == right
        assert len(set(left)) > 50
        unusable = page.crop((12 + 2 * 368 + 10, 44 + 10, 12 + 2 * 368 + 150, 44 + 150))
        assert unusable.getcolors() == [(140 * 140, (228, 228, 228))]
    known.write([("g.jpg", "", "")])
    assert write(known, config, folder) == 0
    assert [file.name for file in folder.iterdir()] == ["index.csv"]


def test_pages_are_bounded(known: Case, config: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table names what no page shows."""
    monkeypatch.setattr(sheet, "PAIRS_A_PAGE", 1)
    monkeypatch.setattr(sheet, "MOST_PAGES", 2)
    known.write([(name, "03.jpg", "") for name in ("a.jpg", "b.jpg", "g.jpg", "h.jpg")])
    folder = tmp_path / "misses"
    assert write(known, config, folder) == 2
    pages = [row["page"] for row in table_of(folder)]
    assert pages == ["page-01.png", "page-02.png", "", "", "", ""]
    assert len(list(folder.glob("page-*.png"))) == 2


def test_a_folder_of_other_files_is_left_alone(case: Case, tmp_path: Path) -> None:
    """Also one with another index.csv."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "index.csv").write_text("a,b\n1,2\n")
    with pytest.raises(EvaluationError, match="holds other files"):
        claim_folder(folder, apart_from=(case.protected,))
    with pytest.raises(EvaluationError, match="name another folder"):
        claim_folder(case.protected, apart_from=(case.protected,))
    (tmp_path / "file").write_text("x")
    with pytest.raises(EvaluationError, match="file"):
        claim_folder(tmp_path / "file", apart_from=())
