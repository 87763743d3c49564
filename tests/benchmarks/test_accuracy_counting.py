"""What counts as a right decision, on distances written by hand, and how the runs are drawn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from photo_folder import folder_of, save_noise

from benchmarks import edits, matching_accuracy
from benchmarks.chamoso_tables import successes
from benchmarks.copies import Copy, CopyCache
from benchmarks.distance_histogram import formula_3
from benchmarks.edits import EDITS, MILD, posted
from benchmarks.matching_accuracy import decided_rightly, trial
from benchmarks.methods import BEYOND
from benchmarks.photos import read_photos

DISTANCES = np.array(
    [
        [0.1, 0.6, 0.7],  # a copy of 0, found
        [0.3, 0.2, 0.7],  # a copy of 0, but 1 is nearer
        [0.6, 0.7, 0.5],  # a copy of 2, nearest but too far
        [0.9, 0.4, 0.8],  # a copy of 1, exactly at Th
        [0.6, 0.7, 0.5],  # another, left alone
        [0.6, 0.3, 0.5],  # another, taken for 1
        [0.2, 0.2, 0.9],  # a copy of 1, as near to 0, which comes first
    ],
    dtype=np.float32,
)
ORIGINALS = np.array([0, 0, 2, 1, -1, -1, 1])


def test_right_decisions_are_counted_by_hand() -> None:
    right = decided_rightly(DISTANCES, ORIGINALS, threshold=0.4)
    assert right.tolist() == [True, False, False, True, True, False, False]


def test_chamosos_success_needs_the_original_among_the_nearest() -> None:
    copies = ORIGINALS >= 0
    near, within = successes(DISTANCES[copies], ORIGINALS[copies], [float("inf"), 0.4])
    assert near.tolist() == [True, False, True, True, True]
    assert within.tolist() == [True, False, False, True, True]


def test_what_a_method_does_not_compare_is_not_the_nearest() -> None:
    distances = np.full((2, 3), BEYOND, dtype=np.float32)
    distances[1, 2] = 0.9
    (near,) = successes(distances, np.array([0, 2]), [float("inf")])
    assert near.tolist() == [False, True]


def test_a_trial_is_half_copies_and_its_others_are_not_protected(tmp_path: Path) -> None:
    photos = read_photos(folder_of(tmp_path, 12))
    drawn = trial(photos, protected=9, found=40, seed=3)
    protected = [photo.name for photo in drawn.protected]
    assert len(protected) == len(set(protected)) == 9
    assert (drawn.originals >= 0).sum() == 20
    for copy, original in zip(drawn.found, drawn.originals, strict=True):
        assert copy.edit in MILD
        assert (copy.photo.name == protected[original]) if original >= 0 else (copy.photo.name not in protected)
    assert len({(copy.photo.name, copy.edit.name if copy.edit else "") for copy in drawn.found}) == 40
    assert drawn.found == trial(photos, protected=9, found=40, seed=3).found
    assert drawn.found != trial(photos, protected=9, found=40, seed=4).found


def test_a_trial_needs_somebody_unprotected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="4 photos cannot be 4 protected ones and others"):
        trial(read_photos(folder_of(tmp_path, 4)), protected=4, found=2, seed=0)


def test_formula_3_with_the_papers_own_figures() -> None:
    # .6915 - 4.7534 x sqrt(.0037)
    assert formula_3(0.6915, 0.0037) == pytest.approx(0.4024, abs=1e-4)


def test_a_cached_copy_is_the_same_picture_and_is_made_once(tmp_path: Path) -> None:
    photo, filler = read_photos(folder_of(tmp_path / "photos", 2))
    folder = tmp_path / "cache"
    noise, collage = (next(edit for edit in EDITS if edit.name == name) for name in ("noise", "collage of 2"))
    wanted = [Copy(photo), Copy(photo, noise, 1), Copy(photo, noise, 2), Copy(photo, collage, 1, (filler,))]
    made = [CopyCache(folder).picture(copy).tobytes() for copy in wanted]
    files = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
    assert len(files) == 3
    assert len(set(made)) == 4
    places = [place for place, pictures in CopyCache(folder).batches(wanted) if len(pictures) == 4]
    assert places == [slice(0, 4)]
    assert [CopyCache(folder).picture(copy).tobytes() for copy in wanted] == made
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()} == files


def test_several_at_once_may_make_one_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_noise(tmp_path / "photos" / "large.png", 1, (96, 72))
    (photo,) = read_photos(tmp_path / "photos")
    together = Barrier(4)

    def posted_together(*arguments: Any) -> bytes:
        data = posted(*arguments)
        together.wait(timeout=30)
        return data

    monkeypatch.setattr(edits, "posted", posted_together)
    cache = CopyCache(tmp_path / "cache")
    with ThreadPoolExecutor(4) as four:
        for edit in MILD:
            made = list(four.map(cache.picture, [Copy(photo, edit)] * 4))
            assert len({picture.tobytes() for picture in made}) == 1
    kept = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert len(kept) == len(MILD)


def test_accuracy_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matching_accuracy.main(["--quick", "--method", "mao", "--method", "rescored", "--cache", str(tmp_path)])
    printed = capsys.readouterr().out
    # Twenty of the demo's photos are protected, and forty are found; its photos are far apart, so few go wrong.
    srpitp = printed.split("## SRPITP")[1].split("## Thresholds")[0]
    rows = [line for line in srpitp.splitlines() if line.startswith("| mao/1")]
    for row, name in zip(rows, ("mao/1", "mao/1 rescored"), strict=True):
        method, protected, detected, paper, ours, *_ = (cell.strip() for cell in row.strip("|").split("|"))
        assert (method, protected, detected, paper) == (name, "20", "40", "")
        assert float(ours) >= 90
