"""How far a sighting is from a protected image, when flat blocks are no evidence: the rule "rescored".

SRPITP's distance (Formula 1) counts the agreement of flat blocks, which any two pictures on plain grounds share: at one
false pair in a million it finds 64 % of mildly edited copies. Here a block counts by what it shows:

    d     = (k + .75 h + .65 b) / 720
    score = .4 d + .6 p

k: differing symbols in blocks with detail in both images; h: symbols of blocks flat in one image only; b: of blocks
flat in both; p: PDQ's normalised distance. Two unrelated symbols differ with probability .75. So h is charged as
ignorance, and b slightly less: shared emptiness is weak evidence. The score is the least over the views of both images
(`copywatch.fingerprint.views`), d and p of the same pair of views.

T = 1 up to Th; T = 0 where d = 0 in a pair of views with enough detail (`identical`), as the paper has it.

The parameters were chosen on one half of the photos and are reported on the other: docs/results/rescoring.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from copywatch.fingerprint.algorithm import identity
from copywatch.fingerprint.mao import BLOCKS, SYMBOLS, Mao
from copywatch.fingerprint.views import VIEW
from copywatch.matching.codes import search_code_of

HALF_FLAT_CHARGE = 0.75
BOTH_FLAT_CHARGE = 0.65
PDQ_SHARE = 0.6

DETAILED_BLOCKS = 8
"""Of 144: 40 symbols that agree by chance once in 4^40 pictures."""

RESCORED_THRESHOLD = 0.2275
RESCORED_SOURCE = (
    "7 of 2.7 million pairs of different photos lie within it, look-alikes included; see docs/results/rescoring.md."
)

_PDQ_BITS = 256
_SYMBOLS_A_BLOCK = SYMBOLS // BLOCKS
_WORD = 8
_CODE = search_code_of(Mao())
_CODE_BYTES = -(-_CODE.search_bytes // _WORD) * _WORD
_MASK_BYTES = -(-BLOCKS // (8 * _WORD)) * _WORD

RESCORED_ALGORITHM = identity(Mao())
"""Views hold fingerprints of this identity."""


@dataclass(frozen=True)
class Operands:
    """Views in the form that pairs are scored in: bits in 64-bit words.

    Attributes:
        codes: search codes, uint64 (V, 34).
        masks: the masks spread over the codes' bits, uint64 (V, 34).
        blocks: the masks, uint64 (V, 3).
        pdqs: uint64 (V, 4).
        kinds: uint8 (V,).
    """

    codes: NDArray[np.uint64]
    masks: NDArray[np.uint64]
    blocks: NDArray[np.uint64]
    pdqs: NDArray[np.uint64]
    kinds: NDArray[np.uint8]

    @classmethod
    def of(cls, views: NDArray[np.void]) -> Operands:
        """Of views, `VIEW` (V,).

        Raises:
            ValueError: the array is no `VIEW` array of one dimension.
        """
        if views.dtype != VIEW or views.ndim != 1:
            raise ValueError(f"an array of views is wanted, not {views.dtype} of {views.shape}")
        blocks = np.unpackbits(np.ascontiguousarray(views["mask"]), axis=1, count=BLOCKS)
        # A's 144 symbols come first, then four D a block; three bits a symbol.
        symbols = np.concatenate([blocks, np.repeat(blocks, _SYMBOLS_A_BLOCK - 1, axis=1)], axis=1)
        return cls(
            codes=_words(_CODE.expanded(np.ascontiguousarray(views["fingerprint"])), _CODE_BYTES),
            masks=_words(np.packbits(np.repeat(symbols, 3, axis=1), axis=1), _CODE_BYTES),
            blocks=_words(np.ascontiguousarray(views["mask"]), _MASK_BYTES),
            pdqs=_words(np.ascontiguousarray(views["pdq"]), _PDQ_BITS // 8),
            kinds=np.ascontiguousarray(views["kind"]),
        )

    def __len__(self) -> int:
        return len(self.kinds)


@dataclass(frozen=True)
class Evidence:
    """What a pair of views agrees and differs in; each int64 (P,).

    Attributes:
        differing: symbols that differ in blocks with detail in both.
        half_flat: blocks that are flat in one only.
        both_flat: blocks that are flat in both.
        pdq_bits: bits of PDQ that differ.
    """

    differing: NDArray[np.int64]
    half_flat: NDArray[np.int64]
    both_flat: NDArray[np.int64]
    pdq_bits: NDArray[np.int64]

    def scores(
        self,
        half_flat_charge: float = HALF_FLAT_CHARGE,
        both_flat_charge: float = BOTH_FLAT_CHARGE,
        pdq_share: float = PDQ_SHARE,
    ) -> NDArray[np.float64]:
        """The score of each pair by this module's formula; float64 (P,), in [0, 1]."""
        charged = half_flat_charge * self.half_flat + both_flat_charge * self.both_flat
        distance = (self.differing + _SYMBOLS_A_BLOCK * charged) / SYMBOLS
        result: NDArray[np.float64] = (1 - pdq_share) * distance + pdq_share * self.pdq_bits / _PDQ_BITS
        return result


def evidence(sightings: Operands, rows: NDArray[np.int64], protected: Operands, columns: NDArray[np.int64]) -> Evidence:
    """Of each pair (rows[i] of the sightings' views, columns[i] of the protected views)."""
    both_masks = sightings.masks[rows] & protected.masks[columns]
    bits = _ones((sightings.codes[rows] ^ protected.codes[columns]) & both_masks)
    one, other = sightings.blocks[rows], protected.blocks[columns]
    both_flat = BLOCKS - _ones(one | other)
    return Evidence(
        differing=bits // _CODE.bits_per_difference,
        half_flat=BLOCKS - both_flat - _ones(one & other),
        both_flat=both_flat,
        pdq_bits=_ones(sightings.pdqs[rows] ^ protected.pdqs[columns]),
    )


def scores(
    sightings: Operands, rows: NDArray[np.int64], protected: Operands, columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The score of each pair (rows[i] of the sightings' views, columns[i] of the protected views); float64 (P,)."""
    return evidence(sightings, rows, protected, columns).scores()


def plain_distances(
    sightings: Operands, rows: NDArray[np.int64], protected: Operands, columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """SRPITP's distance (Formula 1) of each pair of views, as `scores` takes them; float64 (P,)."""
    bits = _ones(sightings.codes[rows] ^ protected.codes[columns])
    return _CODE.normalised(bits)


def identical(
    sightings: Operands, rows: NDArray[np.int64], protected: Operands, columns: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether d = 0 (SRPITP, T = 0) in a pair of views with `DETAILED_BLOCKS` detailed blocks or more; bool (P,).

    All pictures of one flat colour have the same fingerprint; equality of those says nothing.
    """
    same = (sightings.codes[rows] == protected.codes[columns]).all(axis=1)
    detailed = _ones(sightings.blocks[rows] & protected.blocks[columns])
    result: NDArray[np.bool_] = same & (detailed >= DETAILED_BLOCKS)
    return result


def _ones(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    counted: NDArray[np.int64] = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    return counted


def _words(packed: NDArray[np.uint8], width: int) -> NDArray[np.uint64]:
    padded = np.zeros((packed.shape[0], width), dtype=np.uint8)
    padded[:, : packed.shape[1]] = packed
    return padded.view(np.uint64)
