"""The thumbnail that is kept of a protected image."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from copywatch.features.thumbnail import LONGEST_SIDE, MOST_BYTES, decoded_thumbnail, thumbnail


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("size", "small"),
    [((1024, 512), (256, 128)), ((300, 600), (128, 256)), ((256, 256), (256, 256)), ((40, 20), (40, 20))],
)
def test_the_long_side_is_256_and_nothing_is_enlarged(size: tuple[int, int], small: tuple[int, int]) -> None:
    assert decoded_thumbnail(thumbnail(noise(*size))).size == small


@pytest.mark.parametrize("size", [(4000, 16), (16, 4000)])
def test_the_narrowest_picture_that_is_decoded_has_one(size: tuple[int, int]) -> None:
    assert max(decoded_thumbnail(thumbnail(noise(*size))).size) == LONGEST_SIDE


def test_it_shows_the_photo(photos: dict[str, Image.Image]) -> None:
    photo = photos["01.jpg"]
    back = decoded_thumbnail(thumbnail(photo))
    expected = photo.resize(back.size, Image.Resampling.BOX)
    difference = np.asarray(back, dtype=np.int64) - np.asarray(expected, dtype=np.int64)
    assert np.abs(difference).mean() < 8
    assert back.mode == "RGB"


def test_the_picture_given_stays_as_it_is_and_the_bytes_repeat() -> None:
    picture = noise(700, 500)
    assert thumbnail(picture) == thumbnail(picture)
    assert picture.size == (700, 500)


def test_even_noise_fits() -> None:
    assert len(thumbnail(noise(512, 512))) <= MOST_BYTES


def _jpeg(width: int, height: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (width, height)).save(file, "JPEG")
    return file.getvalue()


def _png() -> bytes:
    file = BytesIO()
    noise(20, 20).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff",
        thumbnail(noise(200, 200))[:2000],
        _png(),
        _jpeg(257, 16),
        _jpeg(9000, 9000),
        bytes(1 << 19),
    ],
)
def test_bytes_that_are_no_thumbnail_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no thumbnail"):
        decoded_thumbnail(data)


@given(st.binary(max_size=200), st.integers(0, 600))
def test_any_damage_gives_a_picture_or_a_value_error(junk: bytes, at: int) -> None:
    whole = thumbnail(Image.new("RGB", (60, 40), (90, 40, 20)))
    damaged = whole[:at] + junk + whole[at + len(junk) :]
    try:
        picture = decoded_thumbnail(damaged)
    except ValueError:
        return
    assert max(picture.size) <= LONGEST_SIDE
