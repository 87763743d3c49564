"""What an experiment prints and writes."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from photo_folder import folder_of
from PIL import Image

from benchmarks import chamoso_tables, distance_histogram
from benchmarks.report import Result, Table, beside_paper, page, publish

DAY = date(2026, 3, 4)


def some_result() -> Result:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    rows = [
        {"method": "a", **beside_paper(50.0, 60.0)},
        {"method": "b", **beside_paper(None, 61.23456)},
    ]
    return Result(
        name="some_result",
        title="Some result",
        question="What was asked.",
        command="python -m benchmarks.some_result --photos DIR",
        photos="17 different photos",
        tables=[Table("A table", rows, "A note.")],
        figure=figure,
    )


def test_a_page_says_when_on_what_and_how_again() -> None:
    text = page(some_result(), DAY)
    assert text.startswith("# Some result\n\n2026-03-04, 17 different photos, ")
    assert " cores" in text
    assert "Again: `python -m benchmarks.some_result --photos DIR`." in text
    assert "A note." in text


def test_ours_stands_beside_the_papers_with_their_ratio() -> None:
    lines = [line for line in page(some_result(), DAY).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["method", "paper", "ours", "ratio"]
    assert cells[2] == ["a", "50", "60", "1.2"]
    assert cells[3] == ["b", "", "61.23", ""]


def test_publishing_prints_and_writes_page_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(some_result(), tmp_path / "results", DAY)
    written = (tmp_path / "results" / "some_result.md").read_text(encoding="utf-8")
    assert written == page(some_result(), DAY)
    assert capsys.readouterr().out.strip() == written.strip()
    assert "![Some result](some_result.png)" in written
    first = (tmp_path / "results" / "some_result.png").read_bytes()
    with Image.open(tmp_path / "results" / "some_result.png") as picture:
        assert picture.size == (240, 120)
    publish(some_result(), tmp_path / "results", DAY)
    assert (tmp_path / "results" / "some_result.png").read_bytes() == first


def test_publishing_without_a_folder_only_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    publish(some_result(), None, DAY)
    assert "# Some result" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("experiment", [distance_histogram, chamoso_tables])
def test_an_experiment_writes_no_path_of_the_machine(experiment: object, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", 12)
    arguments = [
        "--photos",
        str(folder),
        "--method",
        "dhash",
        "--method",
        "chamoso",
        "--results",
        str(tmp_path / "out"),
    ]
    experiment.main(arguments)  # type: ignore[attr-defined]
    (written,) = (tmp_path / "out").glob("*.md")
    text = written.read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert "--photos DIR --method dhash --method chamoso" in text
    assert "| chamoso/" in text or "chamoso/1" in text
    assert written.with_suffix(".png").exists()
