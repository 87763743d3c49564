"""The image checker's hash of Chamoso et al., "Social computing for image matching", PLOS ONE 13(5), 2018.

Grey; the solid frame cut off (Algorithm 1, `copywatch.fingerprint.frame`); 32 x 32; turned so that the long side lies
across and the brightest half on top (Algorithm 2); discrete cosine transform; each of the 12 x 12 lowest frequencies
against their mean, 144 bits (Algorithm 3).

The published text has lost its comparison signs and equations (13) and (14). They are read as follows:

- Algorithm 2, lines 9, 11, 13: the brightest half is the south, west or east one, which turning by 180, 270 or 90
  degrees counter-clockwise brings on top. Line 7 gives the east half the rows of the south one, which must be a slip;
- line 22: the south half is the brighter;
- Algorithm 3, line 7: a coefficient above the mean is 1. The mean is that of all 144, the constant term among them,
  since the text excepts none;
- (13), (14): the DCT-II, F(u, v) = 2/N C(u) C(v) sum over x, y of f(x, y) cos((2x+1) u pi / 2N) cos((2y+1) v pi / 2N),
  with C(0) = 1/sqrt(2), else 1, and N = 32.

The whole chain is integer arithmetic, so a fingerprint is the same bits on every machine, and those of a picture's four
orientations are the same unless the halves that decide are equally bright.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from copywatch.fingerprint.algorithm import checked_code, checked_symbols, normalised_hamming
from copywatch.fingerprint.frame import frame_box

SIDE = 32
FREQUENCIES = 12
SYMBOLS = FREQUENCIES**2

SQUARENESS = 1.05
"""Images whose sides differ by less than this factor are turned as square ones. Ours: what is left of a square inside a
frame is a pixel or two off, and would else be turned by the other rule than its original."""

LEVEL_FRACTIONS = 64
"""Grey levels of the 32 x 32 are kept in these parts of a level."""

COSINE_SCALE = 1 << 15
"""Whole cosines are C(u) cos(...) times this, rounded. With `LEVEL_FRACTIONS` all sums stay below 2^62."""

_STRIP_ROWS = 512


def _cosines() -> NDArray[np.int64]:
    """C(u) cos((2x+1) u pi / 64) times `COSINE_SCALE`, rounded; (FREQUENCIES, SIDE)."""
    return np.array(
        [
            [
                round(COSINE_SCALE * (sqrt(0.5) if u == 0 else cos((2 * x + 1) * u * pi / (2 * SIDE))))
                for x in range(SIDE)
            ]
            for u in range(FREQUENCIES)
        ],
        dtype=np.int64,
    )


_COSINES = _cosines()


@dataclass(frozen=True)
class Chamoso:
    """The algorithm "chamoso"; see `copywatch.fingerprint.algorithm.Algorithm` for the attributes.

    Share of 300 photographs whose copy is within the threshold, one bit: turned 1.00; JPEG quality 50 .95; half the
    size .94; a frame of 5 % at each edge .96 (light) and .92 (dark), .90 (light) at JPEG quality 50; brightness x 1.2
    .48; sepia .40; watermark .28; crop of 5 % (a side in total) .01. Within 10 bits are .96 of the watermarked and .23
    of the cropped.
    """

    name = "chamoso"
    version = "1"
    symbols = SYMBOLS
    levels = 2
    code_bytes = SYMBOLS // 8
    threshold = 0.01
    threshold_source = (
        "The authors': similar at 99 % and above, which of 144 bits lets one differ. Of 2.8 million measured pairs of "
        "different photographs none is that close; up to 8 bits are 2 ppm, up to 18 bits 19 ppm."
    )

    def fingerprint(self, image: Image.Image) -> NDArray[np.uint8]:
        """Algorithm 3, with 1 and 2 inside: an RGB image -> 144 bits, uint8 0 or 1, lowest frequencies first.

        Row by row of the 12 x 12 coefficients: down the picture the first index, across it the second.
        """
        box = frame_box(image)
        grey = np.asarray((image if box is None else image.crop(box)).convert("L"))
        low = lowest_frequencies(upright(reduced(grey), width=grey.shape[1], height=grey.shape[0]))
        # Above the mean, without the division.
        bits: NDArray[np.uint8] = (low * SYMBOLS > low.sum()).astype(np.uint8).ravel()
        return bits

    def encode(self, symbols: NDArray[np.uint8]) -> bytes:
        """144 bits -> 18 bytes, the first in the highest bit.

        Raises:
            ValueError: not 144 values of 0 and 1.
        """
        return np.packbits(checked_symbols(symbols, SYMBOLS, 2)).tobytes()

    def decode(self, code: bytes) -> NDArray[np.uint8]:
        """18 bytes -> 144 bits.

        Raises:
            ValueError: not 18 bytes.
        """
        return np.unpackbits(checked_code(code, self.code_bytes))

    def distance(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
        """Share of the bits that differ: the paper's Hamming distance (equation 1) over 144."""
        return normalised_hamming(a, b)


def reduced(grey: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Algorithm 3, line 2: the means of 32 x 32 equal areas of a grey image, of whatever size.

    The paper names no resampling. Areas treat all four sides alike, where a resampling in two rounded passes depends on
    the image's orientation.

    Args:
        grey: uint8 (rows, columns), at least one of each.

    Returns:
        int64 (32, 32), grey levels times `LEVEL_FRACTIONS`, rounded half up.
    """
    rows, columns = grey.shape
    down, across = _overlaps(rows), _overlaps(columns)
    # Whole numbers far below 2^53: BLAS adds them exactly, in whichever order. In strips, for a large image's memory.
    sums = np.zeros((SIDE, columns))
    for top in range(0, rows, _STRIP_ROWS):
        sums += down[:, top : top + _STRIP_ROWS] @ grey[top : top + _STRIP_ROWS].astype(np.float64)
    areas = (sums @ across.T).astype(np.int64)
    size = rows * columns
    means: NDArray[np.int64] = (2 * LEVEL_FRACTIONS * areas + size) // (2 * size)
    return means


def _overlaps(pixels: int) -> NDArray[np.float64]:
    """How much of each pixel each of 32 equal parts of a line covers, in 1/32 pixels; whole float64 (32, pixels)."""
    begins = np.arange(pixels) * SIDE
    parts = np.arange(SIDE)[:, np.newaxis] * pixels
    common = np.minimum(begins + SIDE, parts + pixels) - np.maximum(begins, parts)
    covered: NDArray[np.float64] = np.maximum(common, 0).astype(np.float64)
    return covered


def upright(small: NDArray[np.int64], *, width: int, height: int) -> NDArray[np.int64]:
    """Algorithm 2: the reduced image (32, 32) turned to where its original, of `width` x `height` pixels, belongs.

    Long side across, the brighter long half on top; of a square (`SQUARENESS`) the brightest of the four halves, and of
    equal ones the first of north, south, west, east.
    """
    half = SIDE // 2
    if max(width, height) < SQUARENESS * min(width, height):
        halves = (small[:half], small[half:], small[:, :half], small[:, half:])
        brightest = int(np.argmax([part.sum() for part in halves]))
        return np.rot90(small, (0, 2, 3, 1)[brightest])
    if width < height:
        small = np.rot90(small)
    return np.rot90(small, 2) if small[half:].sum() > small[:half].sum() else small


def lowest_frequencies(small: NDArray[np.int64]) -> NDArray[np.int64]:
    """Equation (13) for u, v < 12, times a constant: 16 `COSINE_SCALE`^2 for the units of `small`; int64 (12, 12)."""
    low: NDArray[np.int64] = _COSINES @ small @ _COSINES.T
    return low
