"""Photos for the tests of this room: some of the demo's, decoded as the product decodes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import copywatch.demo
from copywatch.decode import decode

_FOLDER = Path(copywatch.demo.__file__).with_name("photos")


@pytest.fixture(scope="session")
def photos() -> dict[str, Image.Image]:
    """Four photos, RGB, by the names of their files."""
    names = ("01.jpg", "07.jpg", "12.jpg", "19.jpg")
    return {name: decode((_FOLDER / name).read_bytes(), max_pixels=10**7, max_bytes=10**7).rgb for name in names}
