"""Fingerprints as bits whose binary Hamming distance is the symbols' distance, exactly.

Binary search hardware and libraries count differing bits. Symbols of four levels in two bits each do not fit that: 0
and 3 would be twice as far apart as 0 and 1, where Formula (1) of SRPITP only asks whether they differ. In the 3-bit
even-weight code any two different words differ in exactly two bits, so quaternary distance = binary distance / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from copywatch.fingerprint.algorithm import Algorithm

EVEN_WEIGHT_WORDS = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=np.uint8)
"""Three bits for each of the symbols 0 to 3."""

_BITS_OF_A_BYTE = 8


@dataclass(frozen=True)
class SearchCode:
    """How encoded fingerprints of one kind become bits for the search.

    Attributes:
        symbols: length of a fingerprint, in symbols; a multiple of 8.
        levels: 4 (mao) or 2 (binary hashes, whose bytes are searched as they are).
    """

    symbols: int
    levels: Literal[2, 4]

    @property
    def code_bytes(self) -> int:
        """Bytes of an encoded fingerprint: 180 for mao."""
        return self.symbols * (self.levels // 2) // _BITS_OF_A_BYTE

    @property
    def search_bytes(self) -> int:
        """Bytes of its search code: 270 for mao."""
        return self.symbols * (3 if self.levels == 4 else 1) // _BITS_OF_A_BYTE

    @property
    def bits_per_difference(self) -> int:
        """Bits that one differing symbol makes differ."""
        return 2 if self.levels == 4 else 1

    def expanded(self, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Encoded fingerprints (N, code_bytes) -> search codes (N, search_bytes), both uint8.

        Raises:
            ValueError: the array has another shape or dtype.
        """
        if codes.ndim != 2 or codes.shape[1] != self.code_bytes or codes.dtype != np.uint8:
            raise ValueError(
                f"fingerprints are uint8 of shape (N, {self.code_bytes}), not {codes.dtype} of {codes.shape}"
            )
        if self.levels == 2:
            return np.ascontiguousarray(codes)
        # Three bits for each of a byte's four symbols are 12 bits, so two bytes' make three: one look-up for both.
        pairs = np.ascontiguousarray(codes).view(">u2")
        words: NDArray[np.uint8] = _WORDS_OF_BYTE_PAIRS[pairs]
        return words.reshape(codes.shape[0], self.search_bytes)

    def normalised(self, bits: NDArray[np.integer]) -> NDArray[np.float64]:
        """Binary distances of search codes -> share of symbols that differ (SRPITP, Formula 1), float64."""
        return (bits // self.bits_per_difference) / np.float64(self.symbols)

    def most_bits(self, threshold: float) -> int:
        """The largest binary distance whose normalised distance is <= `threshold`; -1 when there is none.

        Counted in whole symbols, so that a search and a comparison of normalised distances never disagree by a
        rounding.
        """
        differing = min(floor(threshold * self.symbols) + 1, self.symbols)
        while differing >= 0 and differing / self.symbols > threshold:
            differing -= 1
        return differing * self.bits_per_difference if differing >= 0 else -1


def search_code_of(algorithm: Algorithm) -> SearchCode:
    """The search code of an algorithm's encoded fingerprints.

    Raises:
        ValueError: its symbols have neither two nor four levels, or do not fill whole bytes.
    """
    if algorithm.symbols % _BITS_OF_A_BYTE:
        raise ValueError(f"{algorithm.name}: {algorithm.symbols} symbols do not fill whole bytes")
    if algorithm.levels == 4:
        return SearchCode(algorithm.symbols, 4)
    if algorithm.levels == 2:
        return SearchCode(algorithm.symbols, 2)
    raise ValueError(f"{algorithm.name}: no search code for symbols of {algorithm.levels} levels")


def _words_of_byte_pairs() -> NDArray[np.uint8]:
    """For each of the 65,536 values of two bytes, eight symbols: their three bytes of search code; (65536, 3)."""
    values = np.arange(1 << 16, dtype=np.uint32)
    symbols = (values[:, np.newaxis] >> np.arange(14, -1, -2, dtype=np.uint32)) & 3
    return np.packbits(EVEN_WEIGHT_WORDS[symbols].reshape(len(values), -1), axis=1)


_WORDS_OF_BYTE_PAIRS = _words_of_byte_pairs()
