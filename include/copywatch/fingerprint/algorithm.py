"""What every fingerprint algorithm offers, whichever it is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@runtime_checkable
class Algorithm(Protocol):
    """Image -> symbols -> bytes, and the distance between two of them.

    Attributes:
        name: what settings and the registry call it, "mao".
        version: changes whenever the same image would give other symbols.
        symbols: length of a fingerprint, in symbols.
        levels: how many values a symbol has: 2 or 4.
        code_bytes: length of an encoded fingerprint, in bytes.
        threshold: default Th of the verdict (SRPITP, Formula 2): normalised distances up to it are similar.
        threshold_source: where that number comes from, one or two sentences for the person who must trust it.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def symbols(self) -> int: ...
    @property
    def levels(self) -> int: ...
    @property
    def code_bytes(self) -> int: ...
    @property
    def threshold(self) -> float: ...
    @property
    def threshold_source(self) -> str: ...

    def fingerprint(self, image: Image.Image) -> NDArray[np.uint8]:
        """The symbols of an RGB image from `copywatch.decode`: uint8, (symbols,), each below `levels`."""

    def encode(self, symbols: NDArray[np.uint8]) -> bytes:
        """Pack symbols into `code_bytes` bytes, the form in which rows hold them.

        Raises:
            ValueError: the length is not `symbols`, or a symbol is not below `levels`.
        """

    def decode(self, code: bytes) -> NDArray[np.uint8]:
        """Unpack what `encode` packed: uint8, (symbols,).

        Raises:
            ValueError: the length is not `code_bytes`.
        """

    def distance(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
        """Share of symbols that differ, in [0, 1] (SRPITP, Formula 1)."""


def identity(algorithm: Algorithm) -> str:
    """The algorithm as rows name it, "mao/1". Rows of different identities are never compared."""
    return f"{algorithm.name}/{algorithm.version}"


def normalised_hamming(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Share of positions at which two equally long symbol arrays differ (SRPITP, Formula 1).

    Raises:
        ValueError: the lengths differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"fingerprints of {a.shape} and {b.shape} symbols cannot be compared")
    return float(np.count_nonzero(a != b)) / a.size


def checked_symbols(symbols: NDArray[np.uint8], count: int, levels: int) -> NDArray[np.uint8]:
    """`symbols` as uint8 (count,).

    Raises:
        ValueError: another length, or a symbol that is not in 0 .. levels - 1.
    """
    array = np.asarray(symbols)
    if array.shape != (count,):
        raise ValueError(f"a fingerprint of {count} symbols is wanted, not an array of shape {array.shape}")
    if array.size and (array.min() < 0 or array.max() >= levels):
        raise ValueError(f"symbols are 0 to {levels - 1}, not {array.min()} to {array.max()}")
    return array.astype(np.uint8)


def checked_code(code: bytes, length: int) -> NDArray[np.uint8]:
    """`code` as uint8 (length,).

    Raises:
        ValueError: another length.
    """
    if len(code) != length:
        raise ValueError(f"an encoded fingerprint has {length} bytes, not {len(code)}")
    return np.frombuffer(code, dtype=np.uint8)
