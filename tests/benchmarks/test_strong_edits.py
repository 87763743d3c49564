"""The edits of the second stage: that each leaves of a photo, and adds to it, what its name says."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.edits import EDITS, Edit, edited
from benchmarks.strong_edits import COMBINATIONS, KINDS, STRONG

EVERY = [edit for kind in KINDS.values() for edit in kind]
BY_NAME = {edit.name: edit for edit in EVERY}
FILLERS = [Image.new("RGB", (320, 200), colour) for colour in ("navy", "maroon", "olive")]


def gradient(width: int = 400, height: int = 300) -> Image.Image:
    """Red grows to the right, green downwards: a pixel says where it was."""
    rows, columns = np.mgrid[0:height, 0:width]
    red, green = columns * 255 // (width - 1), rows * 255 // (height - 1)
    return Image.fromarray(np.stack([red, green, np.full_like(red, 90)], axis=2).astype(np.uint8))


def magenta_share(image: Image.Image) -> float:
    """Of the pixels: what a photo of plain magenta takes."""
    red, green, blue = np.asarray(image, dtype=np.int16).transpose(2, 0, 1)
    return float(((red > 220) & (green < 60) & (blue > 220)).mean())


def result(name: str, photo: Image.Image | None = None, seed: int = 1) -> Image.Image:
    return edited(BY_NAME[name], photo or gradient(), FILLERS, seed)


def red_from_left(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image, dtype=np.float64)[..., 0].mean(axis=0)


def test_every_name_stands_once_and_the_grid_keeps_its_own() -> None:
    assert len(BY_NAME) == len(EVERY)
    for edit in EDITS:
        assert BY_NAME.get(edit.name, edit) is edit
    kinds = "crop border rotation flip meme screenshot inset collage combination beyond"
    assert " ".join(STRONG) == kinds
    assert STRONG["combination"] == COMBINATIONS


@pytest.mark.parametrize("edit", [edit for kind in STRONG.values() for edit in kind], ids=lambda edit: edit.name)
def test_the_same_seed_gives_the_same_pixels(edit: Edit) -> None:
    one, other = (np.asarray(edited(edit, gradient(), FILLERS, seed=3)) for _ in range(2))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("percent", [50, 40, 30])
def test_a_crop_leaves_its_share_of_the_area_and_lies_anywhere(percent: int) -> None:
    crops = [result(f"crop to {percent} % of the area", seed=seed) for seed in range(4)]
    for crop in crops:
        assert crop.width * crop.height / (400 * 300) == pytest.approx(percent / 100, abs=0.01)
    assert len({round(float(red_from_left(crop)[0])) for crop in crops}) > 1


@pytest.mark.parametrize("percent", [15, 20])
def test_a_border_stands_on_each_edge(percent: int) -> None:
    framed = result(f"border {percent} % on each edge", Image.new("RGB", (400, 300), "magenta"))
    assert framed.width == pytest.approx(400 * (1 + 2 * percent / 100), abs=2)
    assert framed.height == pytest.approx(300 * (1 + 2 * percent / 100), abs=2)


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("inset, 40 % of the area", 0.4),
        ("inset, 30 % of the area", 0.3),
        ("screenshot, phone", 0.3),
        ("screenshot, web", 0.3),
        ("collage of 2, cut to fit", 0.49),
        ("collage of 4, cut to fit", 0.245),
    ],
)
@pytest.mark.parametrize("size", [(400, 300), (300, 400), (400, 180)])
def test_a_photo_takes_the_share_that_is_named(name: str, share: float, size: tuple[int, int]) -> None:
    shown = result(name, Image.new("RGB", size, "magenta"), seed=size[1])
    assert magenta_share(shown) == pytest.approx(share, abs=0.025)


def test_a_rotation_has_another_angle_for_another_seed() -> None:
    sizes = {result("rotation by any angle, filled", seed=seed).size for seed in range(4)}
    assert len(sizes) == 4


def test_a_band_stands_above_and_text_stands_over() -> None:
    banded = result("meme with a band")
    assert banded.width == 400
    assert 1.19 * 300 <= banded.height <= 1.36 * 300
    captioned = result("meme with text over it", Image.new("RGB", (400, 300), "magenta"))
    assert captioned.size == (400, 300)
    assert 0.6 < magenta_share(captioned) < 0.95
    middle = captioned.crop((0, 90, 400, 210))
    assert magenta_share(middle) > 0.99


def test_two_edits_follow_each_other() -> None:
    both = result("flip horizontal + crop to 50 % of the area")
    assert both.width * both.height / (400 * 300) == pytest.approx(0.5, abs=0.01)
    red = red_from_left(both)
    assert red[0] > red[-1] + 50
    turned = result("flip horizontal + rotate 90")
    assert turned.size == (300, 400)


def test_too_few_fillers_are_an_error() -> None:
    for name, count in (("inset, 30 % of the area", 0), ("collage of 4, cut to fit", 2)):
        with pytest.raises(ValueError, match="other photo"):
            edited(BY_NAME[name], gradient(), FILLERS[:count], 1)


def test_the_smallest_photo_that_the_product_takes_survives() -> None:
    for name in ("meme with a band", "meme with text over it", "screenshot, web", "collage of 4, cut to fit"):
        assert min(result(name, gradient(24, 24)).size) >= 16
