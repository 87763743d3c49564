"""The explanation picture: what is drawn where, against edits whose place is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from copywatch.demo.planting import PHOTOS_DIR
from copywatch.verification.explanation import (
    LABEL_HEIGHT,
    MARGIN,
    MOST_ENLARGED,
    PANEL,
    SIZE_LIMIT,
    as_jpeg,
    explained,
)

WHOLE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
BOX = (0.25, 0.125, 0.75, 0.625)
"""Of a crop: left, upper, right, lower, as shares."""
OUTLINE = (255, 140, 0)

Pixels = NDArray[np.int64]


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """768 x 512."""
    with Image.open(PHOTOS_DIR / "03.jpg") as file:
        return file.convert("RGB")


def cut(photo: Image.Image) -> Image.Image:
    """The part of the photo that lies in `BOX`."""
    return photo.crop(tuple(round(side * share) for side, share in zip(photo.size * 2, BOX, strict=True)))


def crop_alignment(mirrored: bool = False) -> tuple[float, ...]:
    left, upper, right, lower = BOX
    wide, high = right - left, lower - upper
    return (-wide, 0, right, 0, high, upper) if mirrored else (wide, 0, left, 0, high, upper)


def panels(original: Image.Image, found: Image.Image, alignment: tuple[float, ...]) -> list[Pixels]:
    """The three pictures of an explanation, cut out of it; int64 (rows, columns, 3)."""
    drawn = explained(original, found, alignment)
    assert drawn is not None
    assert drawn.mode == "RGB"
    pixels, left, parts = np.array(drawn, dtype=np.int64), MARGIN, []
    for side in (original, found, original):
        scale = min(PANEL[0] / side.width, PANEL[1] / side.height, MOST_ENLARGED)
        width, height = round(side.width * scale), round(side.height * scale)
        parts.append(pixels[MARGIN + LABEL_HEIGHT :][:height, left : left + width])
        left += width + MARGIN
    assert drawn.width == left
    return parts


def place(pixels: Pixels, x: float, y: float) -> tuple[int, ...]:
    """The colour at shares of width and height."""
    return tuple(pixels[round(y * (pixels.shape[0] - 1)), round(x * (pixels.shape[1] - 1))].tolist())


def is_outline(pixels: Pixels, x: float, y: float) -> bool:
    """Is there a pixel of the outline's colour within three of the place?"""
    row, column = round(y * (pixels.shape[0] - 1)), round(x * (pixels.shape[1] - 1))
    about = pixels[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
    return bool((np.abs(about - OUTLINE).sum(axis=-1) < 60).any())


def red(pixels: Pixels) -> NDArray[np.bool_]:
    """Where the third picture says that the two differ; the outline's orange has less blue than green."""
    return (pixels[..., 0] - pixels[..., 1] > 60) & (pixels[..., 2] > pixels[..., 1])


def red_share(original: Image.Image, found: Image.Image, alignment: tuple[float, ...] = WHOLE) -> float:
    """Share of the third picture that is red."""
    return float(red(panels(original, found, alignment)[2]).mean())


class TestTheMatchedArea:
    @pytest.mark.parametrize("mirrored", [False, True])
    def test_of_a_crop_is_outlined_where_it_was_cut(self, photo: Image.Image, mirrored: bool):
        found = ImageOps.mirror(cut(photo)) if mirrored else cut(photo)
        protected, shown, difference = panels(photo, found, crop_alignment(mirrored))
        left, upper, right, lower = BOX
        for pixels in (protected, difference):
            for x, y in ((left, 0.4), (right, 0.4), (0.5, upper), (0.5, lower)):
                assert is_outline(pixels, x, y), (x, y)
            for x, y in ((0.1, 0.4), (0.5, 0.9), (0.9, 0.2)):
                assert not is_outline(pixels, x, y), (x, y)
        for x, y in ((0.0, 0.5), (1.0, 0.5), (0.5, 0.0), (0.5, 1.0)):
            assert is_outline(shown, x, y), (x, y)

    def test_of_an_inset_is_outlined_in_the_found_picture(self, photo: Image.Image):
        page = Image.new("RGB", (1000, 800), "#dddddd")
        page.paste(photo.resize((400, 300)), (200, 100))
        # A place of the page, 0 to 1, lies at ((x - 0.2) / 0.4, (y - 0.125) / 0.375) of the photo.
        _, shown, difference = panels(photo, page, (2.5, 0, -0.5, 0, 1 / 0.375, -0.125 / 0.375))
        for x, y in ((0.2, 0.3), (0.6, 0.3), (0.4, 0.125), (0.4, 0.5)):
            assert is_outline(shown, x, y), (x, y)
        assert not is_outline(shown, 0.8, 0.8)
        assert red(difference).mean() < 0.001

    def test_what_the_found_picture_does_not_show_is_dim(self, photo: Image.Image):
        white = Image.new("RGB", photo.size, "white")
        *_, difference = panels(white, cut(white), crop_alignment())
        assert place(difference, 0.5, 0.4) == (255, 255, 255)
        assert max(place(difference, 0.1, 0.9)) < 128


class TestTheDifference:
    @pytest.mark.parametrize("mirrored", [False, True])
    def test_of_a_painted_patch_is_red_there_and_nowhere_else(self, photo: Image.Image, mirrored: bool):
        found = cut(photo)
        ImageDraw.Draw(found).rectangle((38, 128, 115, 180), fill="#ff00ff")  # .1 to .3 across, .5 to .7 down
        found = ImageOps.mirror(found) if mirrored else found
        *_, difference = panels(photo, found, crop_alignment(mirrored))
        rows, columns = np.nonzero(red(difference))
        left, upper, right, lower = BOX
        x, y = columns / difference.shape[1], rows / difference.shape[0]
        expected = (left + 0.1 * (right - left), upper + 0.5 * (lower - upper),
                    left + 0.3 * (right - left), upper + 0.7 * (lower - upper))  # fmt: skip
        assert np.allclose((x.min(), y.min(), x.max(), y.max()), expected, atol=0.012)
        area = (expected[2] - expected[0]) * (expected[3] - expected[1])
        assert 0.85 < red(difference).mean() / area < 1.2, "about a pixel of 32 at each side is blur"

    @pytest.mark.parametrize(
        "edit",
        [
            lambda photo: photo,
            lambda photo: photo.resize((200, 133)),
            lambda photo: ImageOps.grayscale(photo),
            lambda photo: ImageEnhance.Brightness(photo).enhance(0.7),
            lambda photo: ImageEnhance.Contrast(photo).enhance(0.7),
        ],
        ids=["none", "smaller", "grey", "darker", "flatter"],
    )
    def test_of_what_is_the_same_all_over_is_nothing(
        self, photo: Image.Image, edit: Callable[[Image.Image], Image.Image]
    ):
        assert red_share(photo, edit(photo)) < 0.005

    def test_of_other_colours_is_seen(self, photo: Image.Image):
        bands = photo.split()
        assert red_share(photo, Image.merge("RGB", bands[::-1])) > 0.2

    def test_of_another_picture_is_most_of_it(self, photo: Image.Image):
        with Image.open(PHOTOS_DIR / "05.jpg") as other:
            assert red_share(photo, other) > 0.4

    def test_of_a_turned_copy_is_nothing(self, photo: Image.Image):
        turn, (width, height) = math.radians(20), photo.size
        turned = photo.rotate(-20, expand=True, resample=Image.Resampling.BICUBIC)
        back = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        linear = np.diag([1 / width, 1 / height]) @ back @ np.diag(turned.size)
        shift = 0.5 - linear @ (0.5, 0.5)
        alignment = tuple(np.column_stack([linear, shift]).ravel().tolist())
        assert red_share(photo, turned, alignment) < 0.01
        assert red_share(photo, turned) > 0.1, "the test would see a wrong transform"


@pytest.mark.parametrize(
    "alignment",
    [
        (math.nan, 0, 0, 0, 1, 0),
        (1, 0, math.inf, 0, 1, 0),
        (1e9, 0, 0, 0, 1e9, 0),
        (1e-9, 0, 0.5, 0, 1e-9, 0.5),
        (0, 0, 0, 0, 0, 0),
        (1, 1, 0, 1, 1, 0),
        (1, 0, 2, 0, 1, 0),
        (1, 0, 0.9999999, 0, 1, 0),
        (1, 0, 0, 0, 1),
        (),
    ],
)
def test_an_alignment_that_makes_no_sense_gives_no_picture(photo: Image.Image, alignment: tuple[float, ...]):
    assert explained(photo, photo, alignment) is None


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (4000, 2), (20, 20), (3000, 3000)])
def test_any_size_gives_a_picture_within_bounds(photo: Image.Image, size: tuple[int, int]):
    odd = Image.new("L", size, 90)
    for one, other in ((photo, odd), (odd, photo), (odd, odd)):
        drawn = explained(one, other, (0.9, 0.05, 0.02, -0.05, 0.9, 0.02))
        assert drawn is not None
        assert all(side <= limit for side, limit in zip(drawn.size, SIZE_LIMIT, strict=True))


def test_any_transform_in_bounds_is_drawn(photo: Image.Image):
    chance = np.random.default_rng(5)
    drawn = [explained(photo, cut(photo), tuple(chance.normal(0, 3, 6))) for _ in range(40)]
    assert any(one is not None for one in drawn)
    assert all(one is None or one.width <= SIZE_LIMIT[0] for one in drawn)


def test_the_file_is_the_same_each_time_and_small(photo: Image.Image):
    files = []
    for _ in range(2):
        drawn = explained(photo, cut(photo), crop_alignment())
        assert drawn is not None
        files.append(as_jpeg(drawn))
    assert files[0] == files[1]
    assert files[0].startswith(b"\xff\xd8")
    assert len(files[0]) < 300_000
