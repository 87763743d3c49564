"""Descriptors to binary codes: iterative quantisation (ITQ).

Gong and Lazebnik, "Iterative Quantization: A Procrustean Approach to Learning Binary Codes", CVPR 2011: centre,
principal components, and the rotation of these that brings the vectors closest to the corners of the hypercube; a code
is the signs. Here all 128 dimensions become 128 bits.

The shipped model is kept in whole numbers. Descriptors are whole numbers too, so every product and sum is exact in
float64, in whichever order a machine adds: one descriptor has one code everywhere. `benchmarks/train_itq.py` made it,
and docs/results/train_itq.md says of what.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from copywatch.features.shipped import shipped

IDENTITY = "sift-itq/1"
"""Name and version of the whole chain from pixels to codes; codes of different versions are never compared."""

MODEL_FILE = "sift-itq-1.npz"
MODEL_SHA256 = "88925128a91574424ac1791b9516872c136e91d2fd8278227ec3a65e51f8284f"

DIMENSIONS = 128
VECTOR_UNIT = 4096
"""A vector's whole steps in a length of one."""
ROTATION_UNIT = 1 << 14
"""A rotation's whole steps in one. With both units, sums stay far below 2^53."""


@dataclass(frozen=True)
class Itq:
    """A learned rotation.

    Attributes:
        rotation: int16 (128, 128), orthogonal, in steps of 1 / `ROTATION_UNIT`; a column for each bit.
        offsets: int64 (128,), the centre, rotated: a bit is 1 where the rotated vector is larger.
    """

    rotation: NDArray[np.int16]
    offsets: NDArray[np.int64]

    def codes(self, vectors: NDArray[np.int16]) -> NDArray[np.uint8]:
        """Codes of vectors, int16 (N, 128) in steps of 1 / `VECTOR_UNIT`: uint8 (N, 16), the first bit highest."""
        rotated = vectors.astype(np.float64) @ self.rotation.astype(np.float64)
        return np.packbits(rotated > self.offsets, axis=1)

    def written(self) -> bytes:
        """The model as a file."""
        file = BytesIO()
        np.savez(file, rotation=self.rotation, offsets=self.offsets)
        return file.getvalue()


def read_model(data: bytes) -> Itq:
    """What `Itq.written` wrote.

    Raises:
        ValueError: the bytes are no such file, or hold arrays of another type or shape.
    """
    try:
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            rotation, offsets = arrays["rotation"], arrays["offsets"]
    except Exception as error:
        # NumPy and zipfile answer broken bytes with many kinds of exceptions.
        raise ValueError(f"not a file of ITQ's rotation and offsets ({type(error).__name__}: {error})") from error
    if rotation.shape != (DIMENSIONS, DIMENSIONS) or rotation.dtype != np.int16:
        raise ValueError(f"rotation must be int16 (128, 128), not {rotation.dtype} {rotation.shape}")
    if offsets.shape != (DIMENSIONS,) or offsets.dtype != np.int64:
        raise ValueError(f"offsets must be int64 (128,), not {offsets.dtype} {offsets.shape}")
    return Itq(rotation, offsets)


@lru_cache(maxsize=1)
def model() -> Itq:
    """The shipped model of `IDENTITY`.

    Raises:
        MachineError: the file is missing or is not the one that was shipped.
    """
    return read_model(shipped(MODEL_FILE, MODEL_SHA256, IDENTITY))


@dataclass(frozen=True)
class Learned:
    """What `learn` found.

    Attributes:
        itq: the model.
        errors: the quantisation error before each round and after the last, see `learn`; float64 (rounds + 1,).
    """

    itq: Itq
    errors: NDArray[np.float64]


def learn(vectors: NDArray[np.int16], *, seed: int, rounds: int) -> Learned:
    """Section 2.2 of the paper: from a random rotation, signs and the best rotation for them in turn.

    With V the centred vectors in their principal components and B the signs of V R, each round takes the R that
    minimises |B - V R|: with S and S' from the singular value decomposition B^T V = S W S'^T, it is S' S^T. The error
    reported is the share of |B|^2 that is left when V R is scaled best, so that it does not depend on the vectors'
    unit: 0 at the corners, 1 - 2/pi = .363 for normally distributed values; no round raises it.

    Args:
        vectors: int16 (N, 128) in steps of 1 / `VECTOR_UNIT`, N >= 128.
        seed: of the first rotation.
        rounds: how often; the paper takes 50.

    Raises:
        ValueError: fewer vectors than dimensions, or all of them the same.
    """
    if vectors.ndim != 2 or vectors.shape[1] != DIMENSIONS or len(vectors) < DIMENSIONS:
        raise ValueError(f"vectors must be (N, {DIMENSIONS}) with N >= {DIMENSIONS}, not {vectors.shape}")
    values = vectors.astype(np.float64)
    centre = values.mean(axis=0)
    values -= centre
    length = float((values**2).sum())
    if length == 0:
        raise ValueError("all vectors are the same: there is nothing to learn")
    _variances, components = np.linalg.eigh(values.T @ values)
    components = components[:, ::-1]
    values = values @ components
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((DIMENSIONS, DIMENSIONS)))[0]
    errors = []
    for _ in range(rounds):
        rotated = values @ rotation
        errors.append(_quantisation_error(rotated, length))
        left, _, right = np.linalg.svd(np.where(rotated > 0, 1.0, -1.0).T @ values)
        rotation = right.T @ left.T
    errors.append(_quantisation_error(values @ rotation, length))
    whole = np.rint(components @ rotation * ROTATION_UNIT).astype(np.int16)
    return Learned(Itq(whole, np.rint(centre @ whole).astype(np.int64)), np.array(errors))


def _quantisation_error(rotated: NDArray[np.float64], length: float) -> float:
    return 1 - float(np.abs(rotated).sum()) ** 2 / (rotated.size * length)
