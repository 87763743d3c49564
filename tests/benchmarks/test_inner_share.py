"""The ablation of f: its short cuts against the algorithm, its counting by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from photo_folder import save_noise

from benchmarks import inner_share
from benchmarks.edits import MILD
from benchmarks.inner_share import Distances, ablation, chosen_by, codes_of, crossed, difference, true_distances
from benchmarks.methods import PlainHamming
from benchmarks.photos import Pictures, half, read_photos
from copywatch.fingerprint import Mao


def test_codes_are_those_of_the_algorithm_with_that_f(tmp_path: Path) -> None:
    for number in range(3):
        save_noise(tmp_path / f"{number}.png", number)
    pictures = Pictures(read_photos(tmp_path))
    made = codes_of(pictures, (0.25, 0.5, 0.75))
    for share, codes in made.items():
        np.testing.assert_array_equal(codes, PlainHamming(Mao(inner_share=share)).describe(pictures))
    assert not np.array_equal(made[0.25], made[0.75])


def test_a_copy_whose_original_is_not_the_nearest_is_not_found_at_any_th() -> None:
    distances = np.array([[0.1, 0.6], [0.3, 0.2], [0.9, 0.4]], dtype=np.float32)
    true = true_distances(distances, np.array([0, 0, 1]))
    assert true.tolist() == pytest.approx([0.1, np.inf, 0.4])


def of(true: list[float], photographs: list[float], everything: list[float] | None = None) -> Distances:
    """Copies of two photos, in turns."""
    return Distances(
        originals=np.arange(len(true)) % 2,
        true=np.array(true, dtype=np.float32),
        photographs=np.array(photographs, dtype=np.float32),
        everything=np.array(everything or photographs, dtype=np.float32),
    )


def test_th_lies_just_below_the_first_pair_that_is_not_let_in() -> None:
    one = of([0.2, 0.5], [360 / 720, 720 / 720, 432 / 720], [72 / 720, 360 / 720])
    assert one.threshold(1e-4, look_alikes=False) == 359 / 720
    assert one.threshold(0.34, look_alikes=False) == 431 / 720
    assert one.threshold(1e-4, look_alikes=True) == 71 / 720
    assert one.found(0.5).tolist() == [True, True]
    assert one.found(359 / 720).tolist() == [True, False]


def test_a_difference_has_the_error_of_the_photos_not_of_the_copies() -> None:
    # Photo 0 gains both its copies, photo 1 none of four: means of 100 and 0 points.
    one = np.array([True, True, False, False, True, True])
    other = np.array([False, False, False, False, True, True])
    more, error = difference(one, other, np.array([0, 0, 1, 1, 1, 1]))
    assert more == 50
    assert error == pytest.approx(np.std([100, 0], ddof=1) / np.sqrt(2))


def test_the_choice_sees_its_own_half_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inner_share, "SHARES", (0.4, 0.5, 0.6))
    far, near = [0.45, 0.45], [0.1, 0.1]
    pairs = [0.5, 0.9]
    choose = {0.4: of(far, [0.2, 0.9]), 0.5: of(near, pairs), 0.6: of(near, pairs)}
    # Of equals the one that is nearest to the default.
    assert chosen_by(choose) == 0.5
    assert chosen_by({**choose, 0.5: of(far, [0.2, 0.9])}) == 0.6


def test_each_half_is_reported_by_the_others_th(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inner_share, "SHARES", (0.4, 0.5))
    choose = of([0.1, 0.3], [0.2, 0.9])  # Th 143 / 720 finds one of its own
    report = of([0.1, 0.15], [0.4, 0.1])  # Th 71 / 720
    halves = {"choose": {0.4: choose, 0.5: choose}, "report": {0.4: report, 0.5: report}}
    other = crossed(halves, 0.5, 1e-4, look_alikes=False)  # type: ignore[arg-type]
    assert other["report"].tolist() == [True, True]
    assert other["choose"].tolist() == [False, False]
    row = ablation(halves, 1e-4, look_alikes=False)[0]  # type: ignore[arg-type]
    assert (row["choose, %"], row["report, %"], row["choose by it, %"], row["both by the other's, %"]) == (
        50,
        100,
        0,
        50,
    )
    # Of the pairs of `report` one of two lies within the Th of `choose`; the other way none does.
    assert row["other's pairs within Th, ppm"] == pytest.approx(1e6 / 4)
    assert row["against the default"] == "+0.00 ± 0.00"


def test_the_whole_on_made_up_photos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inner_share, "SHARES", (0.25, 0.5))
    monkeypatch.setattr(inner_share, "SOURCES", 6)
    for number in range(10):
        save_noise(tmp_path / "photos" / f"{number}.png", number, (128, 96))
    photos = read_photos(tmp_path / "photos")
    assert all(len(half(photos, which)) > 1 for which in inner_share.HALVES)
    inner_share.main(["--photos", str(tmp_path / "photos"), "--results", str(tmp_path / "out")])
    written = (tmp_path / "out" / "inner_share.md").read_text(encoding="utf-8")
    assert written.strip() in capsys.readouterr().out
    assert str(tmp_path) not in written
    by_edit = written.split("## By edit")[1].split("## Time")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in by_edit.splitlines() if "|" in line][2:]
    assert [row[0] for row in rows] == [edit.name for edit in MILD]
    # Noise shares nothing with other noise, so a crop of 2 % is found whatever f.
    assert ["crop 2 %", "100", "100"] in rows
