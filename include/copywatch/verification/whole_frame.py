"""Pictures with few points (blurred, flat, small): do they agree when one simply covers the other?

The whole pictures are compared in all eight ways to turn and mirror one, at 32 x 32 pixels. That finds no crop and no
border; it is for what points cannot say.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
LEAST_CONTRAST = 4.0
"""Grey levels, standard deviation: a picture with less shows nothing that could agree."""
LEAST_CORRELATION = 0.85


def whole_frame(thumbnail: Image.Image, picture: Image.Image) -> NDArray[np.float64] | None:
    """The way that agrees best, as float64 (2, 3) from shares of `picture` to shares of `thumbnail`; None if none does.

    Args:
        thumbnail: the protected picture, RGB.
        picture: the found one, RGB.
    """
    a, b = _square(thumbnail), _square(picture)
    if a is None or b is None:
        return None
    best, correlation = None, LEAST_CORRELATION
    for mirrored in (False, True):
        for quarters in range(4):
            seen = np.rot90(b[:, ::-1] if mirrored else b, quarters)
            one = float((a * seen).mean())
            if one > correlation:
                best, correlation = (mirrored, quarters), one
    return None if best is None else _matrix(*best)


def _square(image: Image.Image) -> NDArray[np.float32] | None:
    """Grey, of a mean of zero and a standard deviation of one; None for a plain one."""
    grey = cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    deviation = float(small.std())
    return None if deviation < LEAST_CONTRAST else (small - small.mean()) / np.float32(deviation)


def _matrix(mirrored: bool, quarters: int) -> NDArray[np.float64]:
    """Mirror left and right, then turn `quarters` times counterclockwise, as `numpy.rot90` does, in shares."""
    matrix = np.array([[-1.0, 0, 1], [0, 1, 0], [0, 0, 1]]) if mirrored else np.eye(3)
    for _ in range(quarters):
        matrix = np.array([[0.0, 1, 0], [-1, 0, 1], [0, 0, 1]]) @ matrix
    return matrix[:2]
