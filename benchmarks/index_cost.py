"""What the BK-tree costs beside the flat scan: building, memory, searches; both on one core, in one run.

    python benchmarks/index_cost.py [--photos DIR] [--quick] [--out docs/results/index_cost.md]

Needs the library on the path, as `pip install -e .` puts it there.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from copywatch.demo.edits import EVERY_EDIT
from copywatch.errors import UnusableImage
from copywatch.fingerprint import Algorithm, algorithm_named, decode_within_limits
from copywatch.matching import FlatIndex, search_code_of
from copywatch.matching.bk_tree import BkTree

PROJECT = Path(__file__).resolve().parents[1]
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}

PROTECTED_EDITS = ("re-encoded", "resized", "sepia", "cropped-2")
"""Copies of photos that the index holds beside the photos."""

QUERY_EDITS = ("watermarked", "warm-tint")
"""Copies that are looked for; the index does not hold them."""

STRANGERS_SHARE = 4
"""One photo in so many is kept out of the index, and looked for."""

RUN = 12
"""Symbols in a row that a shuffled fingerprint takes from one photo."""

SEARCHES: dict[str, tuple[tuple[str, float | None], ...]] = {
    "chamoso": (("within 1 bit (.01)", 0.01), ("nearest", None)),
    "mao": (("within .1", 0.1), ("within .47", 0.47), ("nearest", None)),
}
REPEATS = 5
SHORTEST = 0.1
"""Seconds that a run takes at least."""


@dataclass(frozen=True)
class Fingerprints:
    """Of one algorithm, encoded, uint8 (count, code_bytes) each."""

    photos: NDArray[np.uint8]
    copies: NDArray[np.uint8]
    queried_copies: NDArray[np.uint8]
    strangers: NDArray[np.uint8]


def photos_in(folder: Path) -> list[bytes]:
    """The usable images below a folder, in an order that a seed shuffles."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    found = []
    for place in np.random.default_rng(1).permutation(len(paths)):
        data = paths[place].read_bytes()
        try:
            decode_within_limits(data)
        except UnusableImage:
            continue
        found.append(data)
    return found


def fingerprinted(algorithms: list[Algorithm], photos: list[bytes], queries: int) -> dict[str, Fingerprints]:
    """All that is real: photos, copies and strangers, by each algorithm."""

    def of(files: list[bytes]) -> dict[str, NDArray[np.uint8]]:
        codes: dict[str, list[bytes]] = {algorithm.name: [] for algorithm in algorithms}
        for data in files:
            image = decode_within_limits(data).rgb
            for algorithm in algorithms:
                codes[algorithm.name].append(algorithm.encode(algorithm.fingerprint(image)))
        return {
            algorithm.name: np.frombuffer(b"".join(codes[algorithm.name]), dtype=np.uint8).reshape(
                -1, algorithm.code_bytes
            )
            for algorithm in algorithms
        }

    kept = photos[: len(photos) - len(photos) // STRANGERS_SHARE]
    asked = kept[: queries // len(QUERY_EDITS)]
    photo_codes, stranger_codes = of(kept), of(photos[len(kept) :][:queries])
    copy_codes = of([EVERY_EDIT[edit].apply(photo) for edit in PROTECTED_EDITS for photo in kept])
    asked_codes = of([EVERY_EDIT[edit].apply(photo) for edit in QUERY_EDITS for photo in asked])
    return {
        name: Fingerprints(photo_codes[name], copy_codes[name], asked_codes[name], stranger_codes[name])
        for name in photo_codes
    }


def shuffled(algorithm: Algorithm, photos: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Made-up fingerprints: each run of `RUN` symbols is that of a photo drawn at random, at its place."""
    symbols = np.stack([algorithm.decode(code.tobytes()) for code in photos])
    runs = symbols.reshape(len(symbols), -1, RUN)
    rng = np.random.default_rng(2)
    made = bytearray()
    for _ in range(count):
        drawn = rng.integers(0, len(runs), runs.shape[1])
        made += algorithm.encode(runs[drawn, np.arange(runs.shape[1])].ravel())
    return np.frombuffer(bytes(made), dtype=np.uint8).reshape(-1, algorithm.code_bytes)


def spread(algorithm: Algorithm, codes: NDArray[np.uint8]) -> str:
    """Mean and standard deviation of the distances between random pairs."""
    symbols = np.stack([algorithm.decode(code.tobytes()) for code in codes[:1500]])
    left, right = np.random.default_rng(3).integers(0, len(symbols), (2, 20_000))
    distances = (symbols[left] != symbols[right]).mean(axis=1)[left != right]
    return f"{distances.mean():.3f} ({distances.std():.3f})"


def seconds(*works: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Of each piece of work the median of some runs, in turns; what is short is done many times a run."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(REPEATS):
        for place, work in enumerate(works):
            begun, times = clock(), 0
            while times == 0 or clock() - begun < SHORTEST:
                work()
                times += 1
            taken[place].append((clock() - begun) / times)
    return [median(runs) for runs in taken]


def visited(tree: BkTree, queries: NDArray[np.uint8], threshold: float | None) -> float:
    """Share of the nodes that a query compares itself with; nearest compares some of them twice."""
    before = tree.comparisons
    searched(tree, queries, threshold)
    return (tree.comparisons - before) / len(queries) / tree.nodes


def searched(index: FlatIndex | BkTree, queries: NDArray[np.uint8], threshold: float | None) -> Any:
    return index.nearest(queries) if threshold is None else index.within(queries, threshold)


def measured(
    algorithm: Algorithm, real: Fingerprints, made_up: NDArray[np.uint8], sizes: list[int]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the table of builds, and of that of searches."""
    code = search_code_of(algorithm)
    everything = np.concatenate([real.photos, real.copies, made_up])
    queries = np.concatenate([real.queried_copies, real.strangers])
    builds, searches = [], []
    for size in sizes:
        protected = everything[:size]
        tree, flat = BkTree(protected, code), FlatIndex(protected, code)
        flat_seconds, tree_seconds = seconds(*(partial(kind, protected, code) for kind in (FlatIndex, BkTree)))
        photos = min(size, len(real.photos))
        copies = min(size - photos, len(real.copies))
        builds.append(
            {
                "algorithm": algorithm.name,
                "fingerprints": size,
                "photos": photos,
                "copies": copies,
                "shuffled": size - photos - copies,
                "flat, ms": flat_seconds * 1e3,
                "tree, ms": tree_seconds * 1e3,
                "tree / flat": tree_seconds / flat_seconds,
                "flat, bytes each": code.search_bytes,
                "tree, bytes each": tree.nbytes / size,
                "nodes": tree.nodes,
            }
        )
        for name, threshold in SEARCHES[algorithm.name]:
            answers = [searched(index, queries, threshold) for index in (flat, tree)]
            if not all(
                np.array_equal(a, b) for a, b in zip(*(vars(answer).values() for answer in answers), strict=True)
            ):
                raise AssertionError(f"{algorithm.name}, {size}, {name}: the tree answers otherwise than the flat scan")
            flat_seconds, tree_seconds = seconds(
                *(partial(searched, index, queries, threshold) for index in (flat, tree))
            )
            searches.append(
                {
                    "algorithm": algorithm.name,
                    "fingerprints": size,
                    "search": name,
                    "flat, us": flat_seconds / len(queries) * 1e6,
                    "tree, us": tree_seconds / len(queries) * 1e6,
                    "tree / flat": tree_seconds / flat_seconds,
                    "visited by copies": f"{visited(tree, real.queried_copies, threshold):.2%}",
                    "visited by strangers": f"{visited(tree, real.strangers, threshold):.2%}",
                    "found a query": len(answers[0].positions) / len(queries),
                }
            )
    return builds, searches


def table(rows: list[dict[str, Any]]) -> str:
    """In Markdown: three digits of what was measured, all of what was counted."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    cells = [{name: cell(value) for name, value in row.items()} for row in rows]
    right = ["left" if isinstance(value, str) else "right" for value in rows[0].values()]
    return tabulate(cells, headers="keys", tablefmt="github", colalign=right, disable_numparse=True)


def report(
    arguments: argparse.Namespace, counts: str, spreads: list[dict[str, str]], tables: list[list[dict[str, Any]]]
) -> str:
    """The page."""
    builds, searches = tables
    won = [
        f"{row['algorithm']} {row['search']} among {row['fingerprints']:,}"
        for row in searches
        if row["tree / flat"] < 1
    ]
    command = "python benchmarks/index_cost.py" + (" --photos DIR" if arguments.photos != DEMO_PHOTOS else "")
    command += " --quick" if arguments.quick else ""
    machine = f"{os.cpu_count()} cores, of which one is used; Python {platform.python_version()}, {platform.system()}"
    return "\n\n".join(
        [
            "# BK-tree and flat scan",
            f"{datetime.now(UTC):%Y-%m-%d}, {machine}. To run: `{command}`.",
            "The flat scan is `matching/index.py` (faiss, exhaustive), the tree `matching/bk_tree.py` (Burkhard and "
            "Keller's, in NumPy). Both give the same answers, which each run checks. All queries are given at once; "
            f"times are the median of {REPEATS}, and the ratios are of this run. The shares of nodes visited do not "
            "depend on the machine.",
            f"{counts} The index takes photos first, then copies ({', '.join(PROTECTED_EDITS)}), and is filled up with "
            f"shuffled fingerprints: each run of {RUN} symbols is that of a photo drawn at random, at its place. These "
            "have each symbol's frequency and near symbols' correlation, but not that of far ones, so they are not "
            "what as many photos would be:",
            table(spreads),
            "## Building",
            table(builds),
            "## Searching, a query",
            table(searches),
            'A search for the nearest first takes one way down the tree for a bound, which "visited" counts too.',
            f"The tree is the faster one in {len(won)} of {len(searches)} rows{': ' if won else ''}{'; '.join(won)}.",
        ]
    )


DEMO_PHOTOS = PROJECT / "include" / "copywatch" / "demo" / "photos"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--photos", type=Path, default=DEMO_PHOTOS, help="a folder of images; the demo photos if absent"
    )
    parser.add_argument("--quick", action="store_true", help="the smallest index, few queries")
    parser.add_argument("--out", type=Path, default=PROJECT / "docs" / "results" / "index_cost.md")
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    sizes, queries = ([1_000], 20) if arguments.quick else ([1_000, 10_000, 100_000], 100)
    photos = photos_in(arguments.photos)
    if len(photos) < STRANGERS_SHARE:
        parser.error(f"{len(photos)} usable images in {arguments.photos}; at least {STRANGERS_SHARE} are needed")
    algorithms = [algorithm_named(name) for name in SEARCHES]
    real = fingerprinted(algorithms, photos, queries)
    spreads, tables = [], ([], [])
    for algorithm in algorithms:
        mine = real[algorithm.name]
        made_up = shuffled(algorithm, mine.photos, max(0, sizes[-1] - len(mine.photos) - len(mine.copies)))
        spreads.append(
            {
                "algorithm": algorithm.name,
                "distance of two photos: mean (sd)": spread(algorithm, mine.photos),
                "of two shuffled ones": spread(algorithm, made_up) if len(made_up) > 1 else "",
            }
        )
        for table, rows in zip(tables, measured(algorithm, mine, made_up, sizes), strict=True):
            table.extend(rows)
    asked = real[algorithms[0].name]
    counts = (
        f"{len(photos):,} photos, of which {len(photos) // STRANGERS_SHARE:,} are kept out of the index. Queries: "
        f"{len(asked.queried_copies)} copies of photos in it ({', '.join(QUERY_EDITS)}) and {len(asked.strangers)} of "
        "the photos kept out."
    )
    text = report(arguments, counts, spreads, list(tables))
    print(text)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
