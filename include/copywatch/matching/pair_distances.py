"""The distance of every pair of some images, exactly, by matrix products.

A first stage would be of no use here: a calibration wants the body of the distribution as well as its tail. Distances
are whole numbers of steps, and so are all numbers on the way to them, below 2^24: float32 products are exact.

A symbol of four levels is a corner of a tetrahedron, three times +-1: equal symbols have the product 3, different ones
-1. With 0 for the symbols of flat blocks the masked distance of `copywatch.matching.score` is

    d = .75 - product / 2880 - .10 x (blocks flat in both) / 144

as .75 of each symbol that is not compared, and .65 where both are flat. PDQ's bits are +-1 likewise. One product of
2,560 numbers a view is therefore the score of a pair of views: some 3 x 10^11 multiplications for 2,000 images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

import numpy as np
from numpy.typing import NDArray

from copywatch.errors import CopywatchError
from copywatch.fingerprint.mao import BLOCKS, SYMBOLS, unpacked
from copywatch.fingerprint.registry import algorithm_named
from copywatch.fingerprint.views import VIEW, Kind, views_of
from copywatch.matching.candidates import Images
from copywatch.matching.codes import EVEN_WEIGHT_WORDS, SearchCode, search_code_of
from copywatch.matching.score import BOTH_FLAT_CHARGE, HALF_FLAT_CHARGE, PDQ_SHARE
from copywatch.rule import Rule

UNMEASURED = -1
"""Instead of a distance: nothing of the pair can be compared."""

BLOCK = 256
"""Images of a block: their 7,200 views are 74 MB as float32, and a pair of blocks takes some 200 MB."""

_PDQ_BITS = 256
_CORNERS = 1 - 2 * EVEN_WEIGHT_WORDS.astype(np.float32)
"""Symbol -> +-1, (4, 3)."""


@dataclass(frozen=True)
class Vectors:
    """What a side of some pairs is in the products.

    Attributes:
        values: float32 (V, D), a row for each view.
        starts: int64 (R + 1,), where each image's rows begin, and the end.
    """

    values: NDArray[np.float32]
    starts: NDArray[np.int64]


class PairDistances(ABC):
    """Distances of the pairs of `len(self)` images, in steps of 1 / `steps`; a pair has two sides, either way round."""

    steps: int

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _sightings(self, images: range) -> Vectors:
        """The images as sightings."""

    @abstractmethod
    def _protected(self, images: range) -> Vectors:
        """The images as protected ones."""

    @abstractmethod
    def _in_steps(self, products: NDArray[np.float32]) -> NDArray[np.int64]:
        """Products -> distances."""

    def between(self, rows: range, columns: range) -> NDArray[np.int64]:
        """The distance of each pair, int64 (rows, columns): the least over views and over which of the two was found.

        `UNMEASURED` where neither is protected: two sightings are never compared, and may well be the same picture.
        """
        there = _largest_products(self._sightings(rows), self._protected(columns))
        back = there if rows == columns else _largest_products(self._sightings(columns), self._protected(rows))
        largest = np.maximum(there, back.T)
        comparable = np.isfinite(largest)
        return np.where(comparable, self._in_steps(np.where(comparable, largest, 0)), UNMEASURED)


class ScoreDistances(PairDistances):
    """By the rule "rescored": `copywatch.matching.score`, the least over the views of both images."""

    def __init__(self, views: Sequence[NDArray[np.void]], is_protected: Sequence[bool]) -> None:
        """Take each image's views as its row has them, and whether it is a protected one.

        A protected image is a sighting by its upright and its unframed view.

        Raises:
            ValueError: not as many answers as images.
        """
        if len(views) != len(is_protected):
            raise ValueError(f"{len(views)} images, but {len(is_protected)} say whether they are protected")
        nothing = np.empty(0, dtype=VIEW)
        upright = [one[(one["kind"] == Kind.UPRIGHT) | (one["kind"] == Kind.UNFRAMED)] for one in views]
        self._as_sightings = Images(upright)
        self._as_protected = Images(
            [one if protected else nothing for one, protected in zip(views, is_protected, strict=True)]
        )
        self.steps, self._symbol, self._flat, self._pdq = _whole_weights()

    def __len__(self) -> int:
        return len(self._as_sightings)

    def _sightings(self, images: range) -> Vectors:
        return self._vectors(self._as_sightings, images, weighted=False)

    def _protected(self, images: range) -> Vectors:
        return self._vectors(self._as_protected, images, weighted=True)

    def _vectors(self, of: Images, images: range, *, weighted: bool) -> Vectors:
        starts = of.starts[images.start : images.stop + 1]
        views = of.views[starts[0] : starts[-1]]
        symbol, flat, pdq = (self._symbol, self._flat, self._pdq) if weighted else (1, 1, 1)
        blocks = np.unpackbits(np.ascontiguousarray(views["mask"]), axis=1, count=BLOCKS).astype(np.float32)
        detailed = np.concatenate([blocks, np.repeat(blocks, SYMBOLS // BLOCKS - 1, axis=1)], axis=1)
        values = np.empty((len(views), 3 * SYMBOLS + BLOCKS + _PDQ_BITS), dtype=np.float32)
        corners = values[:, : 3 * SYMBOLS].reshape(len(views), SYMBOLS, 3)
        np.take(symbol * _CORNERS, unpacked(np.ascontiguousarray(views["fingerprint"])), axis=0, out=corners)
        corners *= detailed[:, :, np.newaxis]
        values[:, 3 * SYMBOLS : -_PDQ_BITS] = flat * (1 - blocks)
        values[:, -_PDQ_BITS:] = pdq * _signs(np.ascontiguousarray(views["pdq"]))
        return Vectors(values, starts - starts[0])

    def _in_steps(self, products: NDArray[np.float32]) -> NDArray[np.int64]:
        unrelated = (1 - _exactly(PDQ_SHARE)) * _exactly(HALF_FLAT_CHARGE) + _exactly(PDQ_SHARE) / 2
        return int(unrelated * self.steps) - products.astype(np.int64)


class CodeDistances(PairDistances):
    """By SRPITP's Formula (1), for the fingerprints of any algorithm: the share of symbols that differ."""

    def __init__(self, codes: NDArray[np.uint8], code: SearchCode, is_protected: Sequence[bool] | None = None) -> None:
        """Take encoded fingerprints, uint8 (N, code.code_bytes), and whether each is a protected image's; None: all.

        Raises:
            ValueError: the array has another shape or dtype, or not as many answers as images.
        """
        self._search_codes = code.expanded(codes)
        self._is_protected = np.array([True] * len(codes) if is_protected is None else is_protected, dtype=np.bool_)
        if len(self._is_protected) != len(codes):
            raise ValueError(f"{len(codes)} images, but {len(self._is_protected)} say whether they are protected")
        self._bits = 2 * code.bits_per_difference
        self.steps = code.symbols

    def __len__(self) -> int:
        return len(self._search_codes)

    def _sightings(self, images: range) -> Vectors:
        values = _signs(self._search_codes[images.start : images.stop])
        return Vectors(values, np.arange(len(values) + 1, dtype=np.int64))

    def _protected(self, images: range) -> Vectors:
        there = self._is_protected[images.start : images.stop]
        values = _signs(self._search_codes[images.start : images.stop][there])
        return Vectors(values, np.concatenate([[0], np.cumsum(there)]).astype(np.int64))

    def _in_steps(self, products: NDArray[np.float32]) -> NDArray[np.int64]:
        # A differing bit turns a product of +1 into -1.
        differing: NDArray[np.int64] = (self._search_codes.shape[1] * 8 - products.astype(np.int64)) // self._bits
        return differing


def distances_of(
    described: Sequence[bytes], is_protected: Sequence[bool], algorithm: str, rule: Rule
) -> ScoreDistances | CodeDistances:
    """The distances that a rule compares with Th.

    Args:
        described: of each image its views, or its encoded fingerprint by the paper's rule.
        is_protected: of each image whether it is a protected one.
        algorithm: name of the algorithm.
        rule: the rule.

    Raises:
        SettingsError: no algorithm has that name.
        CopywatchError: a fingerprint has another length than the algorithm's.
        ValueError: views are no whole records, or not as many answers as images.
    """
    if rule is Rule.RESCORED:
        return ScoreDistances([views_of(one) for one in described], is_protected)
    code = search_code_of(algorithm_named(algorithm))
    wrong = next((len(one) for one in described if len(one) != code.code_bytes), None)
    if wrong is not None:
        raise CopywatchError(f"a fingerprint of {algorithm} has {wrong} bytes, not {code.code_bytes}")
    codes = np.frombuffer(b"".join(described), dtype=np.uint8).reshape(-1, code.code_bytes)
    return CodeDistances(codes, code, is_protected)


def _largest_products(sightings: Vectors, protected: Vectors) -> NDArray[np.float32]:
    """The largest product of each pair of images over their views, float32 (R, C); -inf where one has none."""
    largest = np.full((len(sightings.starts) - 1, len(protected.starts) - 1), -np.inf, dtype=np.float32)
    rows, columns = (np.flatnonzero(np.diff(side.starts)) for side in (sightings, protected))
    if len(rows) and len(columns):
        products = sightings.values @ protected.values.T
        of_columns = np.maximum.reduceat(products, protected.starts[columns], axis=1)
        largest[np.ix_(rows, columns)] = np.maximum.reduceat(of_columns, sightings.starts[rows], axis=0)
    return largest


def _signs(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bits as +1 (0) and -1 (1), float32."""
    return 1 - 2 * np.unpackbits(packed, axis=1).astype(np.float32)


def _exactly(share: float) -> Fraction:
    """A share as it is written: .6 is 3/5."""
    return Fraction(str(share))


def _whole_weights() -> tuple[int, int, int, int]:
    """Steps in a score of 1, and what a product of corners, a block flat in both and a bit of PDQ take off it."""
    of_distance = 1 - _exactly(PDQ_SHARE)
    symbol = of_distance / (4 * SYMBOLS)
    flat = of_distance * (_exactly(HALF_FLAT_CHARGE) - _exactly(BOTH_FLAT_CHARGE)) / BLOCKS
    pdq = _exactly(PDQ_SHARE) / (2 * _PDQ_BITS)
    unrelated = of_distance * _exactly(HALF_FLAT_CHARGE) + _exactly(PDQ_SHARE) / 2
    steps = lcm(*(weight.denominator for weight in (symbol, flat, pdq, unrelated)))
    return steps, int(symbol * steps), int(flat * steps), int(pdq * steps)
