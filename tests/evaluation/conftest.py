"""Folders of photos and a truth file whose result is known by hand."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from copywatch.demo.edits import EVERY_EDIT
from copywatch.demo.planting import photo_bytes
from copywatch.settings import Settings, settings


def picture(seed: int, side: int = 320) -> Image.Image:
    """A picture like no other one of another seed: soft random shapes."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    return small.resize((side, side * 3 // 4), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    """The image as the bytes of a file."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def written(
    file: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = ("detected", "protected", "edit")
) -> Path:
    """A truth file."""
    with file.open("w", encoding="utf-8", newline="") as text:
        csv.writer(text).writerows([header, *rows])
    return file


class Case:
    """Two folders and the truth file beside them."""

    def __init__(self, root: Path) -> None:
        self.protected, self.detected, self.truth = root / "protected", root / "detected", root / "truth.csv"
        self.protected.mkdir()
        self.detected.mkdir()

    def write(self, rows: Sequence[Sequence[str]]) -> None:
        """Write the truth file."""
        written(self.truth, rows)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """Empty folders."""
    return Case(tmp_path)


@pytest.fixture
def known(case: Case) -> Case:
    """Four protected photos; two are copied in three ways each, and two strangers are no copies.

    By hand: "same file" 1 copy, certain; "sepia" 2 copies, found; "turned" 2, found; "cut to a corner" 1, missed.
    """
    for name in ("01.jpg", "02.jpg", "03.jpg", "04.jpg"):
        (case.protected / name).write_bytes(photo_bytes(name))
    (case.detected / "sub").mkdir()
    first, second = photo_bytes("01.jpg"), photo_bytes("02.jpg")
    opened = Image.open(BytesIO(second)).convert("RGB")
    corner = opened.crop((0, 0, opened.width // 3, opened.height // 3))
    files = {
        "a.jpg": first,
        "b.jpg": EVERY_EDIT["sepia"].apply(first),
        "c.jpg": EVERY_EDIT["sepia"].apply(second),
        "sub/d.jpg": jpeg(ImageOps.mirror(Image.open(BytesIO(first)).convert("RGB"))),
        "sub/e.jpg": jpeg(opened.transpose(Image.Transpose.ROTATE_90)),
        "f.jpg": jpeg(corner),
        "g.jpg": photo_bytes("05.jpg"),
        "h.jpg": photo_bytes("06.jpg"),
    }
    for name, data in files.items():
        (case.detected / name).write_bytes(data)
    case.write(
        [
            ("a.jpg", "01.jpg", "same file"),
            ("b.jpg", "01.jpg", "sepia"),
            ("c.jpg", "02.jpg", "sepia"),
            ("sub/d.jpg", "01.jpg", "turned"),
            ("sub/e.jpg", "02.jpg", "turned"),
            ("f.jpg", "02.jpg", "cut to a corner"),
            ("g.jpg", "", ""),
            ("h.jpg", "", ""),
        ]
    )
    return case


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    """The settings' defaults but for the second stage, every tag searched, data in a folder that must stay away."""
    prepared = settings().prepared_dir
    if not (prepared / "models").exists():
        pytest.skip("the tag models are not prepared: run make setup")
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        data_dir=tmp_path / "data",
        prepared_dir=prepared,
        tag_coverage=1.0,
        second_stage=False,
    )


@pytest.fixture
def both_stages(config: Settings) -> Settings:
    """The same with the second stage."""
    return config.model_copy(update={"second_stage": True})
