"""The A/D fingerprint of Mao et al., as SRPITP's Algorithm 1 (section 3.1) and Figure 2 give it.

Grey, 108 rows x 132 columns, Gaussian 3 x 3 (sigma 0.95), 12 x 12 blocks of 9 rows x 11 columns, eight pieces a block.
A is a block's mean (144 elements); D are the differences of the means of pieces 1-2, 3-4, 5-6 and 7-8 (576).
"Quaternion quantization" gives each element one of four levels by its rank within the image.

Everything after Pillow's integer grey and resampling is integer arithmetic here too: the Gaussian has whole weights and
the means are kept multiplied by a common denominator. So a fingerprint is the same bits on every machine, and a flat
block's differences are exactly zero, where rounded means would scatter them over two levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from copywatch.fingerprint.algorithm import checked_code, checked_symbols, normalised_hamming

ROWS, COLUMNS = 108, 132
BLOCKS_A_SIDE = 12
BLOCK_ROWS, BLOCK_COLUMNS = ROWS // BLOCKS_A_SIDE, COLUMNS // BLOCKS_A_SIDE
BLOCKS = BLOCKS_A_SIDE**2
DIFFERENCES = 4 * BLOCKS
SYMBOLS = BLOCKS + DIFFERENCES

PIECES: tuple[tuple[slice, slice], ...] = (
    (slice(0, 2), slice(0, 5)),
    (slice(2, 4), slice(0, 5)),
    (slice(0, 4), slice(5, 8)),
    (slice(0, 4), slice(8, 11)),
    (slice(4, 9), slice(0, 2)),
    (slice(4, 9), slice(2, 5)),
    (slice(4, 6), slice(5, 11)),
    (slice(6, 9), slice(5, 11)),
)
"""Rows and columns of pieces 1 to 8 in a block (Figure 2); together all 99 pixels, each once."""

GAUSSIAN_WEIGHTS = (17522, 30492, 17522)
"""exp(-x^2 / (2 * 0.95^2)) at x = -1, 0, 1, normalised to 65536 and rounded; the 3 x 3 kernel is its outer product."""

FLAT_BELOW = 2
"""Grey levels. With 3 or 1.5 as many copies are found at the same rate of false pairs, within .3 %."""

_KERNEL_SUM = sum(GAUSSIAN_WEIGHTS) ** 2
_PIECE_SIZES = tuple((r.stop - r.start) * (c.stop - c.start) for r, c in PIECES)
_COMMON_SIZE = int(np.lcm.reduce(_PIECE_SIZES))
_SHIFTS = np.array([6, 4, 2, 0], dtype=np.uint8)


@dataclass(frozen=True)
class Mao:
    """SRPITP's algorithm, "mao".

    Attributes:
        inner_share: f, the share of an image's elements (of A, and of D) that fall on the two inner levels. 0.25 is the
            authors'. The default 0.5 makes the four levels equally likely. Among photographs no f from 0.25 to 0.75
            finds more mildly edited copies than chance explains (at a measured 1e-4: 98.32 % with 0.5, 98.13 % with
            0.25, at most 98.55 %), so the natural choice stands; where like objects on one ground are protected too,
            larger ones find more (83.3 % with 0.75 against 80.4 %). See docs/results/inner_share.md.

    How the default threshold was measured (f = 0.5, this code, the decoding of `copywatch.decode`):

    - 1,959 different photographs, 1.92 million pairs: mean .737, standard deviation .032; Formula (3) at 1 ppm gives
      .586, but the quantiles at 1e-6, 1e-5, 1e-4 and 1e-3 are .262, .401, .522 and .599. Pairs below .40: 10 ppm;
      .45: 23 ppm; .47: 33 ppm; .50: 65 ppm.
    - with 400 studio photos of motorbikes, 2.78 million pairs: mean .731, sd .053, Formula (3) .481; quantiles .114,
      .171, .253, .338; below .47: 12,240 ppm, nearly all of them two motorbikes (42 % of such pairs). No threshold of
      this distance separates those; a person must.
    - the 24 demo photos among each other: least distance .647. Their farthest copies: crop of 5 % (a side in total)
      .458, brightness x 1.5 .307, crop of 2 % .268, brightness x 0.8 .186, sepia .179, text .175, contrast .133, JPEG
      quality 40 .081, size x 0.3 .079, blur .058. Not always below .47: 5 % cut off one edge (.487), a crop of 10 %
      (.586).
    - 150 of the photographs, share of copies below .45: crop of 10 % .19, of 5 % .96; every other edit .993 or more.

    T = 1 goes to a person, so the threshold is set for recall. `calibrate_threshold` measures it on one's own images.
    """

    inner_share: float = 0.5

    name = "mao"
    symbols = SYMBOLS
    levels = 4
    code_bytes = SYMBOLS // 4
    threshold = 0.47
    threshold_source = (
        "Measured: all of 28 mild edits of 24 photos lie below it (the farthest, a crop of 5 % a side in total, at "
        ".458), and 33 ppm of 1.9 million pairs of different photographs. Of pairs of like objects on one plain ground "
        "42 % do. The bound of SRPITP's Formula (3) at 1 ppm, .586, is not used: 624 ppm lie below it, not 1."
    )

    def __post_init__(self) -> None:
        if not 0 <= self.inner_share <= 1:
            raise ValueError(f"inner_share is a share, 0 to 1, not {self.inner_share}")

    @property
    def version(self) -> str:
        """Version 1 has f = 0.5; another f names itself, since such fingerprints do not compare."""
        return "1" if self.inner_share == 0.5 else f"1-f{self.inner_share:g}"

    def fingerprint(self, image: Image.Image) -> NDArray[np.uint8]:
        """Algorithm 1: an RGB image -> 720 symbols 0-3, uint8; 144 of A, then 576 of D, blocks row by row."""
        averages, differences = elements(smoothed(image))
        return np.concatenate([quantized(averages, self.inner_share), quantized(differences, self.inner_share)])

    def encode(self, symbols: NDArray[np.uint8]) -> bytes:
        """720 symbols -> 180 bytes, four to a byte, the first in the highest bits.

        Raises:
            ValueError: not 720 symbols, or one above 3.
        """
        quads = checked_symbols(symbols, SYMBOLS, 4).reshape(-1, 4)
        packed: NDArray[np.uint8] = np.bitwise_or.reduce(quads << _SHIFTS, axis=1)
        return bytes(packed)

    def decode(self, code: bytes) -> NDArray[np.uint8]:
        """180 bytes -> 720 symbols (SRPITP, Algorithm 2, step 1).

        Raises:
            ValueError: not 180 bytes.
        """
        return unpacked(checked_code(code, self.code_bytes)[np.newaxis]).reshape(SYMBOLS)

    def distance(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
        """Formula (1): share of the 720 symbols that differ."""
        return normalised_hamming(a, b)


def smoothed(image: Image.Image) -> NDArray[np.int64]:
    """Steps 1 to 3: grey, 108 x 132, Gaussian; int64 (108, 132), grey levels times 2^32.

    The paper names no resampling: Pillow's BILINEAR is used, which widens its kernel when it shrinks. At the borders
    the outermost pixels are repeated.
    """
    grey = image.convert("L").resize((COLUMNS, ROWS), Image.Resampling.BILINEAR)
    padded = np.pad(np.asarray(grey, dtype=np.int64), 1, mode="edge")
    side, middle, _ = GAUSSIAN_WEIGHTS
    down = side * (padded[:-2] + padded[2:]) + middle * padded[1:-1]
    across: NDArray[np.int64] = side * (down[:, :-2] + down[:, 2:]) + middle * down[:, 1:-1]
    return across


def elements(smooth: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Steps 4 and 5: A - 128 (144,) and D (576,: a block's four together), int64.

    Each is exact, in its own unit: A's grey level is 2^32 * 99, D's is 2^32 * 180. Only ranks within A and within D
    are used, so the units need not agree.
    """
    blocks = smooth.reshape(BLOCKS_A_SIDE, BLOCK_ROWS, BLOCKS_A_SIDE, BLOCK_COLUMNS).swapaxes(1, 2)
    averages = blocks.sum(axis=(2, 3)).reshape(BLOCKS) - 128 * _KERNEL_SUM * BLOCK_ROWS * BLOCK_COLUMNS
    means = [
        blocks[:, :, rows, columns].sum(axis=(2, 3)) * (_COMMON_SIZE // size)
        for (rows, columns), size in zip(PIECES, _PIECE_SIZES, strict=True)
    ]
    differences = np.stack([means[i] - means[i + 1] for i in range(0, len(means), 2)], axis=-1)
    return averages, differences.reshape(DIFFERENCES)


def informative_blocks(differences: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the 144 blocks have any detail: one of their four D is 2 grey levels or more; bool (144,).

    Not of the paper. In a flat block D is noise around zero, its quantized symbols agree between any two pictures on
    plain grounds, and such agreement is no evidence of a copy.

    Args:
        differences: D of `elements`, int64 (576,).
    """
    largest: NDArray[np.int64] = np.abs(differences).reshape(BLOCKS, 4).max(axis=1)
    return largest >= FLAT_BELOW * _KERNEL_SUM * _COMMON_SIZE


def quantized(values: NDArray[np.int64], inner_share: float) -> NDArray[np.uint8]:
    """Four levels by rank: with Thq = |v| at rank floor(f N), 3 if v > Thq, 2 if 0 <= v <= Thq, 1 if -Thq <= v < 0,
    else 0.

    Args:
        values: int64 (N,), centred on zero.
        inner_share: f, in [0, 1].

    Returns:
        uint8 (N,).
    """
    magnitudes = np.abs(values)
    rank = min(floor(inner_share * values.size), values.size - 1)
    bound = np.partition(magnitudes, rank)[rank]
    positive = values >= 0
    outer = magnitudes > bound
    return np.where(positive, np.where(outer, 3, 2), np.where(outer, 0, 1)).astype(np.uint8)


def unpacked(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Encoded fingerprints (N, 180) -> symbols (N, 720), both uint8."""
    quads: NDArray[np.uint8] = (codes[:, :, np.newaxis] >> _SHIFTS) & np.uint8(3)
    return quads.reshape(codes.shape[0], 4 * codes.shape[1])
