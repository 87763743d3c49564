"""Pictures that are the same on every machine: whole numbers only, no drawing library."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """A colourful picture with gradients, edges and texture; RGB."""
    y, x = np.mgrid[:height, :width].astype(np.int64)
    u, v = x * 1000 // width, y * 1000 // height
    red = (u * 3 + v * (seed % 5 + 1)) // 8
    green = np.abs((u - 300 - 17 * seed) ** 2 + (v - 600) ** 2 - 90_000) // 900
    blue = np.where((u // 90 + v // (70 + seed)) % 2 == 0, 200, 40) + (u * v // 5_000) % 50
    return Image.fromarray(np.stack([red % 256, green % 256, blue % 256], axis=-1).astype(np.uint8))


def gradient(width: int, height: int) -> Image.Image:
    """A picture without edges, that lossy formats keep closely; no two of its orientations are alike; RGB."""
    y, x = np.mgrid[:height, :width].astype(np.int64)
    u, v = x * 250 // width, y * 250 // height
    return Image.fromarray(np.stack([u, v, (2 * u + v) // 3], axis=-1).astype(np.uint8))


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """The picture as a file."""
    file = BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def pixels(image: Image.Image) -> NDArray[np.int64]:
    """Its pixels, signed, so that differences do not wrap."""
    return np.asarray(image, dtype=np.int64)
