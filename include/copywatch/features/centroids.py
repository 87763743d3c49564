"""Centroids of the binary codes: which list of the search index a code is in.

Learned as in Grana, Borghesani, Manfredi and Cucchiara, "A fast approach for integrating ORB descriptors in the bag of
words model", SPIE 2013, section 3 (k-majority): k-means under the Hamming distance, where a cluster's centroid has the
bit that most of its codes have. faiss assigns the codes.

The shipped centroids are shared by all shards of the index, so a code's nearest lists are looked for once, however many
shards there are. `benchmarks/train_centroids.py` made them, and docs/results/train_centroids.md says of what.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import faiss
import numpy as np
from numpy.typing import NDArray

from copywatch.features.points import CODE_BYTES
from copywatch.features.shipped import shipped

IDENTITY = "sift-itq/1-lists/1"
"""Name and version of the centroids; an index that was built by others is built anew."""

CENTROIDS_FILE = "sift-itq-1-lists.npz"
CENTROIDS_SHA256 = "858c206b7ad6855dfa00ac8926e635670d8475cc2e342f0a6d7f29b03cbe3131"


@lru_cache(maxsize=1)
def centroids() -> NDArray[np.uint8]:
    """The shipped centroids of `IDENTITY`: uint8 (lists, 16), read-only.

    Raises:
        MachineError: the file is missing or is not the one that was shipped.
    """
    return read_centroids(shipped(CENTROIDS_FILE, CENTROIDS_SHA256, IDENTITY))


def written(table: NDArray[np.uint8]) -> bytes:
    """Centroids, uint8 (lists, 16), as a file; the same ones give the same bytes."""
    file = BytesIO()
    np.savez(file, centroids=table)
    return file.getvalue()


def read_centroids(data: bytes) -> NDArray[np.uint8]:
    """What `written` wrote, read-only.

    Raises:
        ValueError: the bytes are no such file, or hold an array of another type or shape.
    """
    try:
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            table: NDArray[np.uint8] = arrays["centroids"]
    except Exception as error:
        # NumPy and zipfile answer broken bytes with many kinds of exceptions.
        raise ValueError(f"not a file of centroids ({type(error).__name__}: {error})") from error
    if table.ndim != 2 or table.shape[1] != CODE_BYTES or not len(table) or table.dtype != np.uint8:
        raise ValueError(f"centroids must be uint8 (lists, {CODE_BYTES}), not {table.dtype} {table.shape}")
    table.flags.writeable = False
    return table


def quantiser(table: NDArray[np.uint8]) -> faiss.IndexBinaryFlat:
    """An exact index of centroids, uint8 (lists, 16)."""
    flat = faiss.IndexBinaryFlat(CODE_BYTES * 8)
    flat.add(table)
    return flat


@dataclass(frozen=True)
class Learned:
    """What `learn` found.

    Attributes:
        centroids: uint8 (lists, 16).
        distances: mean bits between a code and its centroid, before each round and after the last; float64
            (rounds + 1,).
        assigned: int64 (N,), the list of each code, after the last round.
    """

    centroids: NDArray[np.uint8]
    distances: NDArray[np.float64]
    assigned: NDArray[np.int64]


def learn(codes: NDArray[np.uint8], lists: int, *, seed: int, rounds: int) -> Learned:
    """k-majority: from codes drawn at random, assignment and majority in turn.

    A list that no code is assigned to is given the code that is farthest from its own centroid. A bit that as many
    codes have as have not is 0.

    Args:
        codes: uint8 (N, 16), N >= lists.
        lists: how many centroids.
        seed: of the first draw.
        rounds: how often.

    Raises:
        ValueError: there are fewer codes than lists.
    """
    if codes.ndim != 2 or codes.shape[1] != CODE_BYTES or len(codes) < lists or lists < 1:
        raise ValueError(f"{lists} lists cannot be learned of codes of shape {codes.shape}")
    drawn = np.random.default_rng(seed).permutation(len(codes))[:lists]
    table = codes[np.sort(drawn)]
    means = []
    for _ in range(rounds):
        apart, assigned = _assigned(codes, table)
        means.append(float(apart.mean()))
        table = _majorities(codes, assigned, apart, lists)
    apart, assigned = _assigned(codes, table)
    return Learned(table, np.array([*means, float(apart.mean())]), assigned)


def _assigned(codes: NDArray[np.uint8], table: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    apart, assigned = quantiser(table).search(codes, 1)
    return apart[:, 0], assigned[:, 0]


def _majorities(
    codes: NDArray[np.uint8], assigned: NDArray[np.int64], apart: NDArray[np.int32], lists: int
) -> NDArray[np.uint8]:
    order = np.argsort(assigned, kind="stable")
    present, starts, counts = np.unique(assigned[order], return_index=True, return_counts=True)
    table = np.empty((lists, CODE_BYTES), dtype=np.uint8)
    # A byte at a time: all bits of all codes at once would be eight times the codes' size.
    for byte in range(CODE_BYTES):
        ones = np.add.reduceat(np.unpackbits(codes[order, byte][:, np.newaxis], axis=1), starts, axis=0, dtype=np.int64)
        table[present, byte] = np.packbits(2 * ones > counts[:, np.newaxis], axis=1)[:, 0]
    empty = np.setdiff1d(np.arange(lists), present)
    table[empty] = codes[np.argsort(-apart, kind="stable")[: len(empty)]]
    return table
