"""Learn the centroids that share out the codes of local features into lists (`copywatch.features.centroids`).

From the half of the photos that things are chosen on; no photo of the half that figures are reported on takes part. All
of a photo's points are taken, as they are and mirrored; of those of all photos, 60 for each list are drawn at random.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.photos import DEMO_PHOTOS, PROJECT, Photo, different, half, read_photos
from benchmarks.report import RESULTS, Result, Table, publish
from copywatch.features.centroids import CENTROIDS_FILE, IDENTITY, Learned, learn, written
from copywatch.features.extract import keypoints

LISTS = 16_384
CODES_A_LIST = 60
SEED = 1
ROUNDS = 10
SHIPPED = PROJECT / "include" / "copywatch" / "features" / CENTROIDS_FILE


def codes_of(photo: Photo) -> NDArray[np.uint8]:
    """Codes of all points of a photo, then of its mirror image: uint8 (2 N, 16)."""
    cv2.setNumThreads(1)
    found = keypoints(photo.image())
    return np.concatenate([found.points().codes, found.mirrored().points().codes])


def drawn(codes: NDArray[np.uint8], count: int, seed: int) -> NDArray[np.uint8]:
    """At most `count` of the codes, in their order."""
    return codes[np.sort(np.random.default_rng(seed).permutation(len(codes))[:count])]


def unevenness(learned: Learned) -> float:
    """How many codes a search reads, of those it would read if all lists were equally long."""
    sizes = np.bincount(learned.assigned, minlength=len(learned.centroids)).astype(np.float64)
    return float((sizes**2).sum() * len(sizes) / sizes.sum() ** 2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Learn, write the centroids, print their checksum."""
    description = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_centroids", description=description)
    parser.add_argument("--photos", type=Path, default=DEMO_PHOTOS, help="a folder of photos; default: the demo's 24")
    parser.add_argument("--lists", type=int, help=f"how many; default: {LISTS:,}, or fewer if there are few codes")
    parser.add_argument("--centroids", type=Path, help="the file; default: the package's, none for the demo's photos")
    parser.add_argument("--results", type=Path, help="folder of the page; default: docs/results, none for the demo's")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    demo = chosen.photos == DEMO_PHOTOS
    photos = half(different(read_photos(chosen.photos)), "choose")
    with ProcessPoolExecutor() as pool:
        every = np.concatenate(list(pool.map(codes_of, photos, chunksize=8)))
    lists = chosen.lists or max(1, min(LISTS, len(every) // CODES_A_LIST))
    codes = drawn(every, lists * CODES_A_LIST, SEED)
    faiss.omp_set_num_threads(1)
    begin = time.process_time()
    learned = learn(codes, lists, seed=SEED, rounds=ROUNDS)
    seconds = time.process_time() - begin
    data = written(learned.centroids)
    if target := chosen.centroids or (None if demo else SHIPPED):
        target.write_bytes(data)
    figures = {
        "photos": len(photos),
        "codes found": len(every),
        "codes learned of": len(codes),
        "lists": lists,
        "seed": SEED,
        "codes that a search reads, beside equally long lists": f"{unevenness(learned):.2f} times",
        "codes in the longest list": int(np.bincount(learned.assigned).max()),
        "seconds of one core": round(seconds),
        "bytes of the file": len(data),
        "SHA-256 of the file": hashlib.sha256(data).hexdigest(),
    }
    rounds = [{"rounds": n, "bits": round(float(mean), 3)} for n, mean in enumerate(learned.distances)]
    publish(
        Result(
            name="train_centroids",
            title=f"How the lists {IDENTITY} were learned",
            question=" ".join((__doc__ or "").split()),
            command="python -m benchmarks.train_centroids" + ("" if demo else " --photos DIR"),
            photos=f"{len(photos):,} different photos",
            tables=[
                Table("The centroids", [{"what": what, "figure": figure} for what, figure in figures.items()]),
                Table("Bits between a code and its centroid, mean", rounds, "Of 128."),
            ],
        ),
        chosen.results or (None if demo else RESULTS),
    )


if __name__ == "__main__":
    main()
