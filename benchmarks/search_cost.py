"""What it costs to search local features among 10^4, 10^5 and 10^6 protected images, and what is still found there.

Copies of photos of the half "report", and photos that are not protected, are looked up by the product's own code
(`copywatch.features.lookup`), shard by shard, in one core's time. Among how many images the photos themselves say:
all are protected, with 200 points each. The rest are distractors. The first are real too: further points of the photos
that are not looked for, and of their mirror images, 200 of one photo together. When these run out, the same points are
taken again with other bits: each code is given the differences that some point has from its nearest neighbour in
another photo. So they are as far from real points as different pictures' points are from each other, but they are no
more varied than the photos are. How near chance comes is compared below, among as many real and made-up codes: made-up
ones are some bits farther away, so they compete less than as many real ones would.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.copies import Copy, CopyCache
from benchmarks.edits import EDITS
from benchmarks.experiment import Experiment, edited_sources, some, started
from benchmarks.photos import Photo, half
from benchmarks.report import Result, Row, Table, publish
from copywatch.features.centroids import centroids, quantiser
from copywatch.features.extract import PROTECTED_POINTS, DetectedPoints, detected_points, kept, keypoints
from copywatch.features.lookup import PROBES, Coarse, Queries, ShardHits, merged, shard_hits
from copywatch.features.points import CODE_BYTES
from copywatch.features.shards import SHARD_IMAGES, Shard
from copywatch.features.votes import LEAST_VOTES, MOST_CANDIDATES

SIZES = (10_000, 100_000, 1_000_000)
QUICK_SIZES = (300, 600)
QUICK_SHARD_IMAGES = 300
FEWEST_PHOTOS = 500
"""Of fewer a million images cannot be made up."""
SOURCES = 10
EDITED = 360
UNRELATED = 30
LOOKED_UP = (
    "jpeg 30", "resize 0.3", "text", "crop 50 %", "border 20 % dark", "rotate 5", "flip horizontal", "screenshot",
    "collage of 2", "collage of 4",
)  # fmt: skip
ALL_PROBES = (2, 4, 8, 16)
DIFFERENCES = 5_000
"""Pairs of nearest neighbours whose differences are given to made-up codes."""
GROUPS = 128
GROUP_PROBES = 4
VERIFICATION_MS = 5.0
"""A candidate; the bound that verification keeps to."""
DETECTED_A_DAY = 100_000
CORE_HOURS = 10.0


@dataclass(frozen=True)
class Material:
    """What is looked up, and among what.

    Attributes:
        protected: codes of each protected photo, uint8 (N, 16), by its id.
        further: of other photos, all other codes and all mirrored ones, a table for each photo and hand.
        differences: uint8 (D, 16), bits between nearest neighbours of different photos.
        copies: id of the original and points; edits: their names.
        unrelated: points of photos that are not protected.
        extraction_ms: of a looked-up picture's points.
    """

    protected: dict[str, NDArray[np.uint8]]
    further: list[NDArray[np.uint8]]
    differences: NDArray[np.uint8]
    copies: list[tuple[str, DetectedPoints]]
    edits: list[str]
    unrelated: list[DetectedPoints]
    extraction_ms: float

    @property
    def looked_up(self) -> list[DetectedPoints]:
        """All pictures: the copies first."""
        return [points for _, points in self.copies] + self.unrelated


@dataclass(frozen=True)
class Searched:
    """One shard's share.

    Attributes:
        images: in it.
        points: codes of them.
        bytes: of its inverted lists.
        hits: by the number of probes; seconds: of one core, likewise.
    """

    images: int
    points: int
    bytes: int
    hits: dict[int, ShardHits]
    seconds: dict[int, float]


def _single_thread() -> None:
    cv2.setNumThreads(1)
    faiss.omp_set_num_threads(1)


def _codes(photo: Photo) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Codes of a photo's protected points, of its others, and of all mirrored."""
    found = keypoints(photo.image())
    chosen = kept(found.scale)
    codes = found.points().codes
    return codes[chosen], np.delete(codes, chosen, axis=0), found.mirrored().points().codes


def _copies(task: tuple[Photo, tuple[Photo, ...], CopyCache]) -> list[tuple[DetectedPoints, float]]:
    photo, fillers, cache = task
    edits = [edit for edit in EDITS if edit.name in LOOKED_UP]
    return [_timed(cache.picture(Copy(photo, edit, seed=0, fillers=fillers))) for edit in edits]


def _timed(picture: object) -> tuple[DetectedPoints, float]:
    begin = time.thread_time()
    points = detected_points(picture)  # type: ignore[arg-type]
    return points, time.thread_time() - begin


def _picture(photo: Photo) -> tuple[DetectedPoints, float]:
    return _timed(photo.image())


def gather(experiment: Experiment) -> Material:
    """Make the copies and extract all points."""
    edited, fillers = edited_sources(experiment.photos, EDITED)
    sources = some(half(edited, "report"), SOURCES)
    rest = [photo for photo in half(experiment.photos, "report") if photo not in edited and photo not in fillers]
    unrelated = some(rest, UNRELATED)
    kept_out = {photo.name for photo in (*unrelated, *fillers)} - {photo.name for photo in sources}
    protected = [photo for photo in experiment.photos if photo.name not in kept_out]
    with ProcessPoolExecutor(initializer=_single_thread) as pool:
        codes = dict(zip((photo.name for photo in protected), pool.map(_codes, protected, chunksize=16), strict=True))
        copies = list(pool.map(_copies, [(photo, fillers, experiment.cache) for photo in sources]))
        strangers = list(pool.map(_picture, unrelated))
    looked_for = {photo.name for photo in sources}
    others = [parts for name, parts in codes.items() if name not in looked_for] or list(codes.values())
    return Material(
        protected={name: parts[0] for name, parts in codes.items()},
        further=[part for parts in others for part in parts[1:] if len(part)],
        differences=_differences([parts[0] for parts in others]),
        copies=[(source.name, points) for source, made in zip(sources, copies, strict=True) for points, _ in made],
        edits=[edit.name for edit in EDITS if edit.name in LOOKED_UP] * len(sources),
        unrelated=[points for points, _ in strangers],
        extraction_ms=1000 * float(np.mean([seconds for made in (*copies, strangers) for _, seconds in made])),
    )


def _differences(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Bits in which codes differ from their nearest neighbour in another picture."""
    codes = np.concatenate(list(pictures))
    owner = np.repeat(np.arange(len(pictures)), [len(one) for one in pictures])
    drawn = np.random.default_rng(2).permutation(len(codes))[:DIFFERENCES]
    _, found = quantiser(codes).search(codes[drawn], min(10, len(codes)))
    other = owner[found] != owner[drawn, np.newaxis]
    first, has = other.argmax(axis=1), other.any(axis=1)
    nearest = found[np.arange(len(drawn)), first]
    return (codes[drawn] ^ codes[nearest])[has]


def real_distractors(material: Material) -> list[NDArray[np.uint8]]:
    """Further points of the photos, as they are, `PROTECTED_POINTS` of one photo and hand together."""
    rng = np.random.default_rng(3)
    images = []
    for part in material.further:
        shuffled = part[rng.permutation(len(part))]
        images += [
            shuffled[n : n + PROTECTED_POINTS] for n in range(0, len(part) - PROTECTED_POINTS + 1, PROTECTED_POINTS)
        ]
    return [images[n] for n in rng.permutation(len(images))]


def made_up(material: Material, count: int, seed: int) -> NDArray[np.uint8]:
    """`count` images of `PROTECTED_POINTS` codes each, uint8 (count * 200, 16): real ones with some bits changed."""
    rng = np.random.default_rng(seed)
    every = np.concatenate(material.further)
    lengths = np.array([len(part) for part in material.further])
    part = np.repeat(rng.integers(0, len(lengths), count), PROTECTED_POINTS)
    within = (rng.random(len(part)) * lengths[part]).astype(np.int64)
    begins = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    drawn = material.differences[rng.integers(0, len(material.differences), len(part))]
    return every[begins[part] + within] ^ drawn


class QuickLists:
    """The list of a code, found among the lists of the nearest groups of centroids alone.

    Many times as quick as the product's way; only made-up codes are put into lists by it.
    """

    def __init__(self) -> None:
        """Group the shipped centroids."""
        table = centroids()
        groups = max(1, min(GROUPS, len(table) // 40))
        self._flat = faiss.IndexBinaryFlat(CODE_BYTES * 8)
        self._lists = faiss.IndexBinaryIVF(self._flat, CODE_BYTES * 8, groups)
        self._lists.nprobe = min(GROUP_PROBES, groups)
        self._lists.train(table)
        self._lists.add(table)

    def of(self, codes: NDArray[np.uint8]) -> NDArray[np.int64]:
        """int64 (N,)."""
        lists: NDArray[np.int64] = self._lists.search(codes, 1)[1][:, 0]
        return lists

    def agreement(self, codes: NDArray[np.uint8]) -> float:
        """Share of codes whose list is the nearest."""
        exact = quantiser(centroids()).search(codes, 1)[0][:, 0]
        chosen = np.bitwise_count(centroids()[self.of(codes)] ^ codes).sum(axis=1)
        return float(np.mean(chosen == exact))

    def fill(self, shard: Shard, codes: NDArray[np.uint8], name: str) -> None:
        """Add images of `PROTECTED_POINTS` codes each, by their names `name`-0, `name`-1, ..."""
        count = len(codes) // PROTECTED_POINTS
        begin = len(shard.protected_ids)
        places = np.repeat(np.arange(begin, begin + count, dtype=np.int64), PROTECTED_POINTS)
        lists = self.of(codes)
        shard.index.add_core(len(codes), *map(faiss.swig_ptr, (codes, places, lists)))
        shard.protected_ids += [f"{name}-{n}" for n in range(count)]


def real_shard(material: Material, images: int) -> tuple[Shard, float]:
    """A shard of the protected photos and of real distractors, at most `images`, and the seconds a distractor took."""
    shard = Shard.empty()
    shard.add(material.protected, (codes.tobytes() for codes in material.protected.values()))
    distractors = real_distractors(material)[: max(0, images - len(material.protected))]
    begin = time.thread_time()
    shard.add((f"real-{n}" for n in range(len(distractors))), (codes.tobytes() for codes in distractors))
    return shard, (time.thread_time() - begin) / max(1, len(distractors))


def searched(shard: Shard, queries: dict[int, Queries]) -> Searched:
    """Search one shard with each number of probes."""
    hits, seconds = {}, {}
    for probes, one in queries.items():
        begin = time.thread_time()
        hits[probes] = shard_hits(shard, one)
        seconds[probes] = time.thread_time() - begin
    return Searched(shard.images, shard.points, shard.points * (CODE_BYTES + 8), hits, seconds)


def _made_up_shard(material: Material, queries: dict[int, Queries], images: int, number: int) -> Searched:
    _single_thread()
    shard, lists = Shard.empty(), QuickLists()
    step = max(1, images // 5)
    for part, begin in enumerate(range(0, images, step)):
        codes = made_up(material, min(step, images - begin), seed=1000 * number + part)
        lists.fill(shard, codes, f"{number}.{part}")
    return searched(shard, queries)


def shards_of(
    material: Material, queries: dict[int, Queries], sizes: Sequence[int], shard_images: int
) -> Iterator[tuple[int, list[Searched], float]]:
    """For each size the shards, searched; the first size is real as far as there are real points."""
    shard, seconds = real_shard(material, sizes[0])
    if (missing := sizes[0] - shard.images) > 0:
        QuickLists().fill(shard, made_up(material, missing, seed=1), "0")
    yield sizes[0], [searched(shard, queries)], seconds
    if (missing := shard_images - shard.images) > 0:
        QuickLists().fill(shard, made_up(material, missing, seed=2), "1")
    done = [searched(shard, queries)]
    del shard
    build = partial(_made_up_shard, material, queries, shard_images)
    with ProcessPoolExecutor(max_workers=2, initializer=_single_thread) as pool:
        for size in sizes[1:]:
            done += list(pool.map(build, range(len(done), -(-size // shard_images))))
            yield size, list(done), seconds


def size_rows(
    material: Material, queries: dict[int, Queries], coarse: dict[int, float], size: int, shards: list[Searched]
) -> list[Row]:
    """What was found among so many images, and what it cost, for each number of probes."""
    pictures = len(material.looked_up)
    rows: list[Row] = []
    for probes, one in queries.items():
        begin = time.thread_time()
        found = merged(one, [shard.hits[probes] for shard in shards])
        merging = time.thread_time() - begin
        ranks = [
            next((place for place, proposal in enumerate(proposals, 1) if proposal.protected_id == original), 0)
            for (original, _), proposals in zip(material.copies, found, strict=False)
        ]
        ms = 1000 * (coarse[probes] + merging + sum(shard.seconds[probes] for shard in shards)) / pictures
        strangers = [len(proposals) for proposals in found[len(ranks) :]]
        of_copies = [len(proposals) - (rank > 0) for rank, proposals in zip(ranks, found, strict=False)]
        candidates = float(np.mean(strangers or [0]))
        hours = (material.extraction_ms + ms + VERIFICATION_MS * candidates) * DETECTED_A_DAY / 3.6e6
        rows.append(
            {
                "protected images": size,
                "probes": probes,
                f"found, rank {MOST_CANDIDATES} %": round(100 * float(np.mean(np.array(ranks) > 0)), 1),
                "rank 1 %": round(100 * float(np.mean(np.array(ranks) == 1)), 1),
                "search, ms a picture": round(ms, 1),
                "of it coarse": round(1000 * coarse[probes] / pictures, 1),
                "candidates of an unrelated picture": round(candidates, 2),
                "wrong ones of a copy": round(float(np.mean(of_copies)), 2),
                "core-hours for 10^5 a day": round(hours, 1),
            }
        )
    return rows


def edit_rows(material: Material, queries: Queries, shards: list[Searched], probes: int) -> list[Row]:
    """What was found of each edit."""
    found = merged(queries, [shard.hits[probes] for shard in shards])
    by_edit: dict[str, list[bool]] = {}
    for (original, _), edit, proposals in zip(material.copies, material.edits, found, strict=False):
        by_edit.setdefault(edit, []).append(any(one.protected_id == original for one in proposals))
    return [{"edit": edit, "copies": len(hits), "found": sum(hits)} for edit, hits in by_edit.items()]


def chance_rows(material: Material) -> list[Row]:
    """How near the tenth code is to points of pictures that are not protected, among real and among made-up codes."""
    real = np.concatenate(material.further)
    count = len(real) // PROTECTED_POINTS
    points = np.concatenate([np.empty((0, CODE_BYTES), np.uint8), *(one.upright.codes for one in material.unrelated)])
    if not len(points):
        return []
    drawn = points[np.random.default_rng(5).permutation(len(points))[:2000]]
    rows: list[Row] = []
    for name, codes in (("real", real), ("made up", made_up(material, max(1, count), seed=6))):
        tenth = quantiser(codes).search(drawn, 10)[0][:, -1]
        shares = {
            f"{share:.0%} have fewer bits than": int(np.quantile(tenth, share)) for share in (0.01, 0.1, 0.5, 0.9)
        }
        rows.append({"codes": name, "how many": len(codes), **shares})
    return rows


def memory_row(size: int, shards: Sequence[Searched]) -> Row:
    """How large the index is."""
    every = sum(shard.bytes for shard in shards)
    return {
        "protected images": size,
        "shards": len(shards),
        "codes": sum(shard.points for shard in shards),
        "index, MB": round(every / 1e6, 1),
        "largest shard, MB": round(max(shard.bytes for shard in shards) / 1e6, 1),
        "bytes a protected image": round(every / size),
    }


def cost_table(material: Material, rows: Sequence[Row]) -> Table:
    """Rows of `size_rows`, explained."""
    return Table(
        "Cost and recall",
        list(rows),
        f"{len(material.copies)} copies ({len(LOOKED_UP)} edits of {SOURCES} photos) and {len(material.unrelated)} "
        f"unrelated photos are looked up. Found: the original is among the {MOST_CANDIDATES} images with most votes "
        f"and has {LEAST_VOTES:g} or more. Times are processor time of one core. Core-hours: "
        f"{material.extraction_ms:.1f} ms of extraction (measured here), the search, and {VERIFICATION_MS:g} ms for "
        f"each candidate of an unrelated picture, {DETECTED_A_DAY:,} times; the goal is {CORE_HOURS:g}. All shards "
        f"were built and searched. The product probes {PROBES} of {len(centroids()):,} lists.",
    )


def chance_table(material: Material) -> Table:
    """How alike real and made-up codes are."""
    agreement = QuickLists().agreement(made_up(material, 100, seed=4))
    return Table(
        "How near chance comes, among real and among made-up codes",
        chance_rows(material),
        "Bits to the tenth nearest code, of points of the unrelated photos, exactly. Real are "
        f"{len(material.protected):,} protected photos and {len(real_distractors(material)):,} images of further real "
        "points; all else is made up. Made-up codes are put into lists by a quicker search, which finds a nearest list "
        f"for {100 * agreement:.1f} % of them.",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment; the page is written anew after each size."""
    with started("benchmarks.search_cost", (__doc__ or "").splitlines()[0], arguments) as experiment:
        few = experiment.quick or len(experiment.photos) < FEWEST_PHOTOS
        sizes, shard_images = (QUICK_SIZES, QUICK_SHARD_IMAGES) if few else (SIZES, SHARD_IMAGES)
        _single_thread()
        material = gather(experiment)
        queries, coarse = {}, {}
        for probes in ALL_PROBES:
            begin = time.thread_time()
            queries[probes] = Coarse(probes=probes).queries(material.looked_up)
            coarse[probes] = time.thread_time() - begin
        chance = chance_table(material)
        rows: list[Row] = []
        memory: list[Row] = []
        for size, shards, building in shards_of(material, queries, sizes, shard_images):
            rows += size_rows(material, queries, coarse, size, shards)
            memory.append(memory_row(size, shards))
            tables = [
                cost_table(material, rows),
                Table(
                    f"Copies found among {size:,} images, {PROBES} probes",
                    edit_rows(material, queries[PROBES], shards, PROBES),
                ),
                Table(
                    "Size",
                    list(memory),
                    f"{CODE_BYTES} bytes a code and 8 of its image's place; a shard also has its lists' centroids. "
                    "Shards are mapped from their files: what a search needs of them is in the page cache, once for "
                    f"all processes of a machine. To take in one more image takes {1000 * building:.1f} ms of a core.",
                ),
                chance,
            ]
            publish(
                Result(
                    name="search_cost",
                    title="Searching local features among a million images",
                    question=" ".join((__doc__ or "").split()),
                    command=experiment.command,
                    photos=experiment.described_photos,
                    tables=tables,
                ),
                experiment.results,
            )


if __name__ == "__main__":
    main()
