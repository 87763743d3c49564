"""What the grid counts, on distances written by hand, and the whole of it on made-up photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from photo_folder import save_noise
from PIL import Image

from benchmarks import robustness_grid
from benchmarks.copies import CopyCache
from benchmarks.edits import EDITS
from benchmarks.experiment import Experiment, edited_sources
from benchmarks.methods import Limit
from benchmarks.photos import different, read_photos
from benchmarks.robustness_grid import Found, grid_rows, limits_of, measured, real_rows

FOUND = Found(
    own=np.array([[0.1, 0.3, 0.5], [0.4, 0.0, 1.0]], dtype=np.float32),
    first=np.array([[True, True, False], [True, True, False]]),
)


class ByHand:
    """A method that knows its distances in advance; a description is places among all that was ever described."""

    name, steps = "by hand", 10

    def __init__(self, found: NDArray[np.float32], pairs: NDArray[np.float32]) -> None:
        self.found, self.pairs, self.described = found, pairs, 0

    def describe(self, images: Sequence[Image.Image]) -> NDArray[np.int64]:
        self.described += len(images)
        return np.arange(self.described - len(images), self.described)

    def describe_protected(self, images: Sequence[Image.Image]) -> NDArray[np.int64]:
        return np.arange(len(images))

    def chosen(self, described: NDArray[np.int64], places: Sequence[int]) -> NDArray[np.int64]:
        return described[np.asarray(places)]

    def distances(self, queries: NDArray[np.int64], protected: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.found[np.ix_(queries, protected)]

    def pair_distances(self, different: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.pairs[np.ix_(different, different)]

    def threshold_at(self, rate: float, different: NDArray[np.int64]) -> float:
        raise AssertionError("the grid takes its thresholds from the pairs")


def photo_folder(folder: Path, count: int) -> Path:
    for number in range(count):
        save_noise(folder / f"{number:02}.png", number, (128, 96))
    return folder


def test_shares_are_counted_by_edit() -> None:
    assert FOUND.within(0.3).tolist() == pytest.approx([200 / 3, 100 / 3])
    assert FOUND.within(-0.1).tolist() == [0, 0]
    assert FOUND.rank_1().tolist() == pytest.approx([200 / 3, 200 / 3])


def test_a_row_for_each_edit_and_a_mean_for_each_kind() -> None:
    edits = [next(edit for edit in EDITS if edit.name == name) for name in ("grey", "rotate 90", "sepia")]
    rows = grid_rows(edits, {"a": np.array([90.0, 10.0, 70.0])})
    assert [(row["edit"], row["kind"], row["a"]) for row in rows] == [
        ("grey", "mild", 90),
        ("rotate 90", "orientation", 10),
        ("sepia", "mild", 70),
        ("all 2", "mild", 80),
        ("all 1", "orientation", 10),
    ]


def test_real_pairs_are_counted_by_label() -> None:
    distances = {"a": np.array([0.1, 0.5, 0.2], dtype=np.float32), "b": np.array([0.6, 0.3, 0.9], dtype=np.float32)}
    rows = real_rows(["copy", "hardneg", "copy"], distances, {"a": 0.2, "b": 0.3})
    assert rows == [{"label": "copy", "pairs": 2, "a": 2, "b": 0}, {"label": "hardneg", "pairs": 1, "a": 0, "b": 1}]


def test_distances_go_to_their_edit_and_source(tmp_path: Path) -> None:
    photos = read_photos(photo_folder(tmp_path / "photos", 4))
    sources, fillers = [photos[2], photos[0]], (photos[1], photos[3], photos[1])
    found = np.full((2 * len(EDITS), 4), 0.8, dtype=np.float32)
    # Copies come edit after edit. The first edit's copies: of 02, found; of 00, with 01 nearer.
    found[0, 2], found[1, 0], found[1, 1] = 0.2, 0.4, 0.3
    # The last edit's copy of 00 is as near to 03: either may be the nearest.
    found[-1, 0] = found[-1, 3] = 0.1
    pairs = np.array([[0, 5, 6, 7], [5, 0, 7, 7], [6, 7, 0, 8], [7, 7, 8, 0]], dtype=np.float32) / 10
    method = ByHand(found, pairs)
    experiment = Experiment(
        photos=photos, methods={"hand": method}, quick=True, cache=CopyCache(tmp_path / "cache"), results=None,
        command="", folder=tmp_path / "photos",
    )  # fmt: skip
    one = measured(
        experiment, {"hand": method.describe_protected([photo.image() for photo in photos])}, sources, fillers
    )["hand"]
    assert one.own[0].tolist() == pytest.approx([0.2, 0.4])
    assert one.first[0].tolist() == [True, False]
    assert one.own[-1].tolist() == pytest.approx([0.8, 0.1])
    assert one.first[-1].tolist() == [True, True]
    assert one.own.shape == (len(EDITS), 2)
    # None of six pairs may lie within: Th is a step below the nearest.
    assert limits_of(experiment, {"hand": np.arange(4)})["hand"] == {1e-6: Limit(0.4, 0.0), 1e-4: Limit(0.4, 0.0)}


def test_the_sources_are_photos_and_look_alikes_and_nobody_fills_his_own_collage(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path, 20)
    splits = ["hardneg" if number < 6 else "dev" for number in range(20)]
    rows = [f"{split},{number:02}.png,128,96,x," for number, split in enumerate(splits)]
    (folder / "manifest.csv").write_text("split,path,width,height,fine,tags\n" + "\n".join(rows) + "\n")
    photos = different(read_photos(folder))
    sources, fillers = edited_sources(photos, 12)
    assert [photo.group for photo in sources] == ["photo"] * 10 + ["look-alike"] * 2
    assert len(fillers) == 3
    assert not set(fillers) & set(sources)
    assert (sources, fillers) == edited_sources(photos, 12)


def test_the_grid_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photo_folder(tmp_path / "photos", 8)
    (folder / "real_copies.csv").write_text("label,a,b\ncopy,00.png,00.png\nhardneg,00.png,01.png\n")
    arguments = [
        "--photos",
        str(folder),
        "--quick",
        "--cache",
        str(tmp_path / "cache"),
        "--results",
        str(tmp_path / "out"),
    ]
    robustness_grid.main([*arguments, "--method", "rescored", "--method", "dhash"])
    text = (tmp_path / "out" / "robustness_grid.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == text.strip()
    assert str(tmp_path) not in text
    tables = {part.splitlines()[0]: part for part in text.split("\n## ")[1:]}
    assert list(tables) == [
        "Thresholds",
        "Found at a measured 1e-06",
        "Found at a measured 1e-04",
        "Right at rank 1",
        "Pairs that strangers made, at a measured 1e-06",
        "Pairs that strangers made, at a measured 1e-04",
    ]
    cells = {
        title: {
            row[0]: row[1:]
            for row in (
                [cell.strip() for cell in line.strip("|").split("|")]
                for line in part.splitlines()
                if line.startswith("|")
            )
        }
        for title, part in tables.items()
    }
    assert set(cells["Right at rank 1"]) >= {edit.name for edit in EDITS}
    # Coarse noise is far from other noise: any rule knows such a picture in grey, but only one knows it turned.
    assert cells["Found at a measured 1e-06"]["grey"] == ["mild", "100", "100"]
    assert float(cells["Found at a measured 1e-06"]["rotate 90"][1]) == 100
    assert float(cells["Found at a measured 1e-06"]["rotate 90"][2]) < 50
    assert cells["Pairs that strangers made, at a measured 1e-06"]["copy"] == ["1", "1", "1"]
    assert cells["Pairs that strangers made, at a measured 1e-06"]["hardneg"] == ["1", "0", "0"]
    assert (tmp_path / "out" / "robustness_grid.png").exists()
