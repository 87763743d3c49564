"""A small folder of photos for the tests of this room."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def save_noise(file: Path, seed: int, size: tuple[int, int] = (64, 48)) -> None:
    """A picture like no other: coarse noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file)


def folder_of(folder: Path, count: int) -> Path:
    """`count` pictures named 00.png on."""
    for number in range(count):
        save_noise(folder / f"{number:02}.png", number)
    return folder
