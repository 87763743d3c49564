"""Other fingerprints, beside SRPITP's: ImagePro's dHash, and what the field commonly uses.

They are thin coats over imagehash and pdqhash, binary and compared by Hamming distance. imagehash's phash and pdqhash
compute in floating point, so a bit near its threshold may differ between builds of SciPy or of the compiler; dhash and
ahash compare integer pixels only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import imagehash
import numpy as np
import pdqhash
from numpy.typing import NDArray
from PIL import Image

from copywatch.fingerprint.algorithm import checked_code, checked_symbols, normalised_hamming


class _BitsOf(Protocol):
    def __call__(self, image: Image.Image, /) -> NDArray[np.uint8]: ...


def _dhash(image: Image.Image) -> NDArray[np.uint8]:
    return cast(NDArray[np.uint8], imagehash.dhash(image).hash.astype(np.uint8).ravel())


def _ahash(image: Image.Image) -> NDArray[np.uint8]:
    return cast(NDArray[np.uint8], imagehash.average_hash(image).hash.astype(np.uint8).ravel())


def _phash(image: Image.Image) -> NDArray[np.uint8]:
    return cast(NDArray[np.uint8], imagehash.phash(image).hash.astype(np.uint8).ravel())


def _pdq(image: Image.Image) -> NDArray[np.uint8]:
    bits, _quality = pdqhash.compute(np.array(image, dtype=np.uint8))
    return np.asarray(bits, dtype=np.uint8)


@dataclass(frozen=True)
class BinaryHash:
    """A fingerprint of bits; see `copywatch.fingerprint.algorithm.Algorithm` for the attributes."""

    name: str
    version: str
    symbols: int
    threshold: float
    threshold_source: str
    bits_of: _BitsOf

    levels = 2

    @property
    def code_bytes(self) -> int:
        """Eight symbols to a byte."""
        return self.symbols // 8

    def fingerprint(self, image: Image.Image) -> NDArray[np.uint8]:
        """An RGB image -> `symbols` bits, uint8 0 or 1."""
        return self.bits_of(image)

    def encode(self, symbols: NDArray[np.uint8]) -> bytes:
        """Eight bits to a byte, the first in the highest bit.

        Raises:
            ValueError: not `symbols` values of 0 and 1.
        """
        return np.packbits(checked_symbols(symbols, self.symbols, 2)).tobytes()

    def decode(self, code: bytes) -> NDArray[np.uint8]:
        """What `encode` packed, as bits.

        Raises:
            ValueError: not `code_bytes` bytes.
        """
        return np.unpackbits(checked_code(code, self.code_bytes))

    def distance(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
        """Share of the bits that differ."""
        return normalised_hamming(a, b)


# Bounds: the largest that only about 20 ppm of the pairs of 1,959 different photographs keep, measured; for pdq its
# maker's, which is stricter.
DHASH = BinaryHash("dhash", "1", 64, 10 / 64, "10 of 64 bits: 22 ppm of 1.9 million measured pairs.", _dhash)
AHASH = BinaryHash("ahash", "1", 64, 2 / 64, "2 of 64 bits: 15 ppm of 1.9 million measured pairs.", _ahash)
PHASH = BinaryHash("phash", "1", 64, 12 / 64, "12 of 64 bits: 16 ppm of 1.9 million measured pairs.", _phash)
PDQ = BinaryHash("pdq", "1", 256, 31 / 256, "31 of 256 bits, Meta's; none of 1.9 million measured pairs.", _pdq)
PEERS = (DHASH, AHASH, PHASH, PDQ)
