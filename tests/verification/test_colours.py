"""Filters over a whole picture are not another colour; a recoloured object is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from copywatch.verification.colours import Colours, colours, quantile

LIMIT = 12.0
"""Lab distance: filters stay well below, another hue lies above."""


def compared(one: Image.Image, other: Image.Image) -> Colours:
    a, b = (np.asarray(image.resize((256, 256))) for image in (one, other))
    return colours(a, b, np.ones((256, 256), dtype=bool))


@pytest.mark.parametrize(
    "edit",
    [
        lambda photo: photo,
        lambda photo: ImageEnhance.Brightness(photo).enhance(0.6),
        lambda photo: ImageEnhance.Brightness(photo).enhance(1.4),
        lambda photo: ImageEnhance.Contrast(photo).enhance(1.3),
        lambda photo: ImageEnhance.Color(photo).enhance(0.4),
        lambda photo: ImageEnhance.Color(photo).enhance(1.6),
        lambda photo: photo.point([round(255 * (level / 255) ** 1.4) for level in range(256)] * 3),
        ImageOps.equalize,
        lambda photo: Image.blend(photo, Image.new("RGB", photo.size, (255, 200, 120)), 0.2),
    ],
)
def test_a_filter_is_not_another_colour(photos: list[Image.Image], edit: Callable[[Image.Image], Image.Image]) -> None:
    for photo in photos:
        said = compared(photo, edit(photo))
        assert said.colour < LIMIT
        assert said.tone < LIMIT
        assert (said.grey, said.coloured) == (False, False)


def test_grey_and_sepia_are_told() -> None:
    pixels = bike((200, 30, 30))
    grey = ImageOps.grayscale(pixels)
    for toned in (grey.convert("RGB"), ImageOps.colorize(grey, (20, 10, 0), (255, 240, 200))):
        said = compared(pixels, toned)
        assert (said.colour, said.grey, said.coloured) == (0, True, False)
        said = compared(toned, pixels)
        assert (said.colour, said.grey, said.coloured) == (0, False, True)


def bike(colour: tuple[int, int, int]) -> Image.Image:
    """A product on a white ground: a coloured body with shades, black wheels."""
    pixels = np.full((256, 256, 3), 250, dtype=np.uint8)
    shade = np.linspace(0.6, 1.0, 96)[None, :, None]
    pixels[96:160, 80:176] = (np.array(colour) * shade).astype(np.uint8)
    pixels[150:200, 50:90] = 25
    pixels[150:200, 170:210] = 25
    return Image.fromarray(pixels)


@pytest.mark.parametrize("other", [(30, 30, 200), (30, 160, 40), (220, 200, 20)])
def test_a_recoloured_product_is_another_colour(other: tuple[int, int, int]) -> None:
    assert compared(bike((200, 30, 30)), bike(other)).colour > 2 * LIMIT


def test_a_white_product_and_a_black_one_differ_in_tone() -> None:
    """Both grey, so that only lightness can tell them apart."""
    assert compared(bike((230, 230, 230)), bike((60, 60, 60))).tone > LIMIT


def test_too_little_to_compare_says_nothing() -> None:
    pixels: NDArray[np.uint8] = np.zeros((32, 32, 3), dtype=np.uint8)
    assert colours(pixels, pixels, np.zeros((32, 32), dtype=bool)) == Colours(0, 0, False, False)


def test_a_quantile_is_numpys_lower_one() -> None:
    values = np.random.default_rng(0).random(57)
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        assert quantile(values, share) == np.quantile(values, share, method="lower")
