"""The edits of the grid: which there are, of which kind, and that each does what its name says."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.edits import CHAMOSO_KINDS, DARK, EDITS, LIGHT, MILD, Edit, edited

MILD_NAMES = {
    *(f"jpeg {quality}" for quality in (10, 30, 50, 70, 90)),
    *(f"resize {factor}" for factor in ("0.3", "0.5", "2")),
    "aspect ratio 10 %", "aspect ratio 25 %", "blur 1", "blur 2", "noise",
    *(f"brightness {factor}" for factor in ("0.5", "0.8", "1.25", "1.5")),
    "contrast 0.7", "contrast 1.3", "gamma 0.7", "gamma 1.4", "grey", "sepia", "equalise",
    "watermark", "text", "emoji", "crop 2 %", "crop 5 %", "crop 5 % off-centre",
    "border 5 % light", "border 5 % dark", "rotate 2", "rotate 5",
}  # fmt: skip
OTHER_NAMES = {
    "strong": {"crop 10 %", "crop 20 %", "crop 50 %"}
    | {f"border {percent} % {tone}" for percent in (10, 20) for tone in ("light", "dark")},
    "orientation": {"rotate 90", "rotate 180", "rotate 270", "flip horizontal", "flip vertical"},
    "overlay": {"screenshot"},
    "collage": {"collage of 2", "collage of 4"},
}
BY_NAME = {edit.name: edit for edit in EDITS}


def gradient(width: int = 400, height: int = 300) -> Image.Image:
    """Red grows to the right, green downwards: a pixel says where it was."""
    rows, columns = np.mgrid[0:height, 0:width]
    red, green = columns * 255 // (width - 1), rows * 255 // (height - 1)
    return Image.fromarray(np.stack([red, green, np.full_like(red, 90)], axis=2).astype(np.uint8))


FILLERS = [Image.new("RGB", (320, 200), colour) for colour in ("navy", "maroon", "olive")]


def result(name: str, photo: Image.Image | None = None, seed: int = 1) -> Image.Image:
    return edited(BY_NAME[name], photo or gradient(), FILLERS, seed)


def pixels(image: Image.Image) -> NDArray[np.int16]:
    return np.asarray(image, dtype=np.int16)


def test_the_kinds_partition_the_edits() -> None:
    assert len(BY_NAME) == len(EDITS)
    assert {edit.name for edit in MILD} == MILD_NAMES
    for kind, names in OTHER_NAMES.items():
        assert {edit.name for edit in EDITS if edit.kind == kind} == names
    assert len(EDITS) == len(MILD_NAMES) + sum(map(len, OTHER_NAMES.values()))


@pytest.mark.parametrize("edit", [*EDITS, *CHAMOSO_KINDS], ids=lambda edit: edit.name)
def test_the_same_seed_gives_the_same_pixels(edit: Edit) -> None:
    photo = gradient()
    before = photo.tobytes()
    first, again = (edited(edit, photo, FILLERS, 7) for _ in range(2))
    assert first.mode == "RGB"
    assert first.tobytes() == again.tobytes()
    assert photo.tobytes() == before


@pytest.mark.parametrize("name", ["noise", "text", "emoji"])
def test_another_seed_gives_other_pixels(name: str) -> None:
    assert result(name, seed=1).tobytes() != result(name, seed=2).tobytes()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("jpeg 10", (400, 300)),
        ("resize 0.3", (120, 90)),
        ("resize 0.5", (200, 150)),
        ("resize 2", (800, 600)),
        ("aspect ratio 10 %", (419, 286)),
        ("aspect ratio 25 %", (447, 268)),
        ("crop 2 %", (392, 294)),
        ("crop 10 %", (360, 270)),
        ("crop 50 %", (200, 150)),
        ("crop 5 % off-centre", (380, 285)),
        ("border 5 % dark", (420, 314)),
        ("border 20 % light", (480, 360)),
        ("rotate 5", (400, 300)),
        ("rotate 90", (300, 400)),
        ("rotate 180", (400, 300)),
        ("collage of 2", (800, 300)),
        ("collage of 4", (800, 600)),
    ],
)
def test_sizes(name: str, size: tuple[int, int]) -> None:
    assert result(name).size == size


@pytest.mark.parametrize(("tone", "colour"), [("light", LIGHT), ("dark", DARK)])
def test_a_border_has_its_tone_and_leaves_the_photo_whole(tone: str, colour: tuple[int, int, int]) -> None:
    framed = result(f"border 10 % {tone}")
    assert np.abs(pixels(framed)[:8, :8] - colour).max() <= 3
    inside = framed.crop((20, 15, 420, 315))
    assert np.abs(pixels(inside) - pixels(gradient())).mean() < 3


def test_a_centred_crop_keeps_the_middle_and_the_other_keeps_a_corner() -> None:
    middle = gradient().crop((100, 75, 300, 225))
    assert np.abs(pixels(result("crop 50 %")) - pixels(middle)).mean() < 3
    corner = gradient().crop((20, 15, 400, 300))
    assert np.abs(pixels(result("crop 5 % off-centre")) - pixels(corner)).mean() < 3


def test_quarter_turns_and_flips_move_the_whole_picture() -> None:
    for name, moved in {
        "rotate 90": Image.Transpose.ROTATE_90,
        "rotate 180": Image.Transpose.ROTATE_180,
        "rotate 270": Image.Transpose.ROTATE_270,
        "flip horizontal": Image.Transpose.FLIP_LEFT_RIGHT,
        "flip vertical": Image.Transpose.FLIP_TOP_BOTTOM,
    }.items():
        assert np.abs(pixels(result(name)) - pixels(gradient().transpose(moved))).mean() < 3, name


def test_a_tilt_has_black_corners() -> None:
    assert pixels(result("rotate 5", Image.new("RGB", (400, 300), "white")))[:4, :4].max() < 40


def test_a_collage_holds_the_photo_and_its_fillers() -> None:
    cells = [result("collage of 4").crop(box) for box in ((0, 0, 400, 300), (400, 0, 800, 300))]
    cells += [result("collage of 4").crop(box) for box in ((0, 300, 400, 600), (400, 300, 800, 600))]
    like_the_photo = [bool(np.abs(pixels(cell) - pixels(gradient())).mean() < 4) for cell in cells]
    assert sum(like_the_photo) == 1
    assert len({cell.getpixel((200, 150)) for cell in cells}) == 4


def test_a_collage_says_how_many_photos_it_lacks() -> None:
    with pytest.raises(ValueError, match="a collage of 4 needs 3 other photos, not 1"):
        edited(BY_NAME["collage of 4"], gradient(), FILLERS[:1], 0)


def test_a_jpeg_edit_is_coded_once() -> None:
    buffer = BytesIO()
    gradient().save(buffer, "JPEG", quality=10)
    assert result("jpeg 10").tobytes() == Image.open(buffer).convert("RGB").tobytes()


def test_the_watermark_is_half_transparent() -> None:
    marked = pixels(result("watermark", Image.new("RGB", (400, 300), "black")))
    assert 100 < marked.max() < 160
    assert (marked.max(axis=2) > 60).mean() > 0.01


def test_the_emoji_is_15_percent_of_the_short_side() -> None:
    for size in ((400, 200), (200, 400)):
        painted = pixels(result("emoji", Image.new("RGB", size, "blue")))[:, :, 0] > 128
        rows, columns = np.flatnonzero(painted.any(axis=1)), np.flatnonzero(painted.any(axis=0))
        assert 26 <= np.ptp(rows) + 1 <= 31
        assert 26 <= np.ptp(columns) + 1 <= 31


def test_chamoso_has_sixteen_kinds() -> None:
    assert len({kind.name for kind in CHAMOSO_KINDS}) == 16
    for word in ("watermark", "frame"):
        assert sum(word in kind.name for kind in CHAMOSO_KINDS) == 8
    for turn in ("90", "180", "270"):
        assert sum(f"rotation {turn}" in kind.name for kind in CHAMOSO_KINDS) == 4
    assert all(max(edited(kind, gradient(), (), 3).size) == 450 for kind in CHAMOSO_KINDS)
