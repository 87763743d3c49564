"""Both sides of pairs, made of the demo's photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import copywatch.demo
from copywatch.decode import decode
from copywatch.features.extract import protected_points
from copywatch.features.thumbnail import decoded_thumbnail, thumbnail
from copywatch.verification.sides import Original

_FOLDER = Path(copywatch.demo.__file__).with_name("photos")


@pytest.fixture(scope="session")
def photos() -> list[Image.Image]:
    """Four photos, RGB."""
    names = ("01.jpg", "07.jpg", "12.jpg", "19.jpg")
    return [decode((_FOLDER / name).read_bytes(), max_pixels=10**7, max_bytes=10**7).rgb for name in names]


@pytest.fixture(scope="session")
def original_side() -> Callable[[Image.Image], Original]:
    """A picture as a protected one."""
    return lambda rgb: Original(protected_points(rgb), decoded_thumbnail(thumbnail(rgb)))
