"""Learn the rotation behind the binary codes of local features (`copywatch.features.itq`).

From the half of the photos that things are chosen on; no photo of the half that figures are reported on takes part.
Points are found and chosen as in a detected picture; of each photo's, 100 are drawn at random.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.photos import DEMO_PHOTOS, PROJECT, Photo, different, half, read_photos
from benchmarks.report import RESULTS, Result, Table, publish
from copywatch.features.extract import keypoints, root_sift, spread
from copywatch.features.itq import IDENTITY, MODEL_FILE, Itq, learn

POINTS_A_PHOTO = 100
SEED = 1
ROUNDS = 50
SHIPPED = PROJECT / "include" / "copywatch" / "features" / MODEL_FILE
SHOWN_ROUNDS = (0, 1, 5, 10, 20, 50)
COMPARED = 5000
"""Vectors, about, whose distances are compared pair by pair."""


def vectors_of(photos: Sequence[Photo], seed: int) -> NDArray[np.int16]:
    """RootSIFT of some points of each photo, int16 (N, 128)."""
    rng = np.random.default_rng(seed)
    parts = [np.empty((0, 128), dtype=np.int16)]
    for photo in photos:
        found = keypoints(photo.image())
        rows = spread(found.xy, found.size)
        drawn = np.sort(rng.permutation(rows)[:POINTS_A_PHOTO])
        parts.append(root_sift(found.descriptors[drawn]))
    return np.concatenate(parts)


def agreement(itq: Itq, vectors: NDArray[np.int16], seed: int) -> float:
    """Correlation (Pearson's) of the bits that differ with the angle between two vectors, pairs drawn at random."""
    rng = np.random.default_rng(seed)
    one, other = rng.permutation(len(vectors)), rng.permutation(len(vectors))
    apart = one != other
    left, right = vectors[one[apart]].astype(np.float64), vectors[other[apart]].astype(np.float64)
    cosine = (left * right).sum(axis=1) / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1))
    bits = np.bitwise_count(itq.codes(vectors)[one[apart]] ^ itq.codes(vectors)[other[apart]]).sum(axis=1)
    return float(np.corrcoef(np.arccos(np.clip(cosine, -1, 1)), bits)[0, 1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Learn, write the model, print its checksum."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_itq", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, default=DEMO_PHOTOS, help="a folder of photos; default: the demo's 24")
    parser.add_argument("--model", type=Path, help="where the model goes; default: the package, none for the demo's")
    parser.add_argument("--results", type=Path, help="folder of the page; default: docs/results, none for the demo's")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    demo = chosen.photos == DEMO_PHOTOS
    photos = half(different(read_photos(chosen.photos)), "choose")
    vectors = vectors_of(photos, SEED)
    learned = learn(vectors, seed=SEED, rounds=ROUNDS)
    data = learned.itq.written()
    if target := chosen.model or (None if demo else SHIPPED):
        target.write_bytes(data)
    ones = np.unpackbits(learned.itq.codes(vectors), axis=1).mean(axis=0)
    compared = vectors[:: max(1, len(vectors) // COMPARED)]
    figures = {
        "photos": len(photos),
        "points": len(vectors),
        "seed": SEED,
        "share of ones, the least and the most of a bit": f"{ones.min():.3f} to {ones.max():.3f}",
        "correlation of differing bits and angle": round(agreement(learned.itq, compared, SEED), 3),
        "bytes of the file": len(data),
        "SHA-256 of the file": hashlib.sha256(data).hexdigest(),
    }
    publish(
        Result(
            name="train_itq",
            title=f"How the codes {IDENTITY} were learned",
            question=" ".join((__doc__ or "").split()),
            command="python -m benchmarks.train_itq" + ("" if demo else " --photos DIR"),
            photos=f"{len(photos):,} different photos",
            tables=[
                Table("The model", [{"what": what, "figure": figure} for what, figure in figures.items()]),
                Table(
                    "Quantisation error",
                    [{"rounds": count, "error": round(float(learned.errors[count]), 4)} for count in SHOWN_ROUNDS],
                    "The share of the corners' squared length that is left when the rotated vectors are scaled best: "
                    "0 if all lay at corners of the hypercube, .363 for normally distributed values.",
                ),
            ],
        ),
        chosen.results or (None if demo else RESULTS),
    )


if __name__ == "__main__":
    main()
