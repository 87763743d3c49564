"""What it costs to match new registrations with all that was seen before, per million sightings.

    python -m benchmarks.seen_cost --photos DIR

An image that is registered today is looked for among the sightings of all earlier crawls (the job `match_seen`). Here
the table `seen` is filled with made-up sightings, and the job's own functions match 1, 10 and 100 new images with it:
reading, streaming the rows past the images in Spark's Python workers, and keeping the best pairs. A made-up sighting is
put together from real photos: every row of twelve blocks (their A, their D, their mask) is that of a photo drawn at
random, at its place; of PDQ every row of sixteen bits; tags are those of a photo drawn at random. So symbols, flat
blocks and tags are as frequent as in photos, and neighbours agree as they do there, but no sighting is a copy of a new
image. The new images are photos that no sighting was made of.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from pyspark.sql import functions as f

from benchmarks.experiment import Experiment, some, started
from benchmarks.extraction_and_matching import ALGORITHM, append
from benchmarks.photos import Photo
from benchmarks.report import Result, Row, Table, publish
from benchmarks.spark_runs import MASTER, Cost, measured, spark_session
from copywatch.fingerprint import identity
from copywatch.fingerprint.mao import BLOCKS, BLOCKS_A_SIDE, unpacked
from copywatch.fingerprint.registry import algorithm_named
from copywatch.fingerprint.views import VIEW, Kind, protected_views, sighting_views
from copywatch.lake import delta
from copywatch.lake.schemas import DETECTED, PROTECTED, SEEN
from copywatch.lake.tables import create_tables, table_url
from copywatch.matching.pairs import OF_SIGHTING
from copywatch.settings import Settings, load_settings
from copywatch.tagging.tagger import TAGS as TAG_NAMES
from copywatch.tagging.tagger import Tagger
from copywatch.threshold import built_in_threshold
from spark_jobs.comparing import compared, distinct_pairs, in_force, pairs_with_newcomers, terms_of

log = logging.getLogger(__name__)

SIZES = (100_000, 1_000_000)
QUICK_SIZES = (2_000, 4_000)
NEW_IMAGES = (1, 10, 100)
ROUNDS = 3
MATERIAL = 600
"""Photos that sightings are made of, at most."""
EXTRAPOLATED = (10_000_000, 100_000_000)

_CHUNK = 50_000
_VERSION = identity(algorithm_named(ALGORITHM))
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_PDQ_ROWS = 16


@dataclass(frozen=True)
class Stuff:
    """What sightings are made of.

    Attributes:
        averages: symbols of A, uint8 (P, 12, 12): photo, row of blocks, block.
        differences: symbols of D, uint8 (P, 12, 48).
        mask: uint8 (P, 12, 12), 0 or 1.
        pdq: uint8 (P, 16, 2), 16 rows of 16 bits.
        tags: float64 (P, tags), in the order of `TAG_NAMES`.
        framed: share of photos that have a second view.
    """

    averages: NDArray[np.uint8]
    differences: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    pdq: NDArray[np.uint8]
    tags: NDArray[np.float64]
    framed: float

    @classmethod
    def of(cls, views: Sequence[NDArray[np.void]], tags: NDArray[np.float64]) -> Stuff:
        """Of photos' views as sightings (`VIEW`, (1,) or (2,) each) and their tags (P, tags)."""
        upright = np.concatenate([one[:1] for one in views])
        symbols = unpacked(np.ascontiguousarray(upright["fingerprint"]))
        side = BLOCKS_A_SIDE
        return cls(
            averages=symbols[:, :BLOCKS].reshape(-1, side, side),
            differences=symbols[:, BLOCKS:].reshape(-1, side, 4 * side),
            mask=np.unpackbits(upright["mask"], axis=1).reshape(-1, side, side),
            pdq=upright["pdq"].reshape(-1, _PDQ_ROWS, 2),
            tags=tags,
            framed=float(np.mean([len(one) > 1 for one in views])),
        )

    def views(self, count: int, rng: np.random.Generator) -> NDArray[np.void]:
        """Made-up upright views, `VIEW` (count,)."""
        rows = np.arange(BLOCKS_A_SIDE)
        photo = rng.integers(0, len(self.mask), (count, BLOCKS_A_SIDE))
        averages = self.averages[photo, rows].reshape(count, BLOCKS)
        differences = self.differences[photo, rows].reshape(count, 4 * BLOCKS)
        quads = np.concatenate([averages, differences], axis=1).reshape(count, -1, 4)
        made = np.zeros(count, dtype=VIEW)
        made["kind"] = Kind.UPRIGHT
        made["fingerprint"] = np.bitwise_or.reduce(quads << np.array([6, 4, 2, 0], dtype=np.uint8), axis=2)
        made["mask"] = np.packbits(self.mask[photo, rows].reshape(count, BLOCKS), axis=1)
        of_pdq = rng.integers(0, len(self.pdq), (count, _PDQ_ROWS))
        made["pdq"] = self.pdq[of_pdq, np.arange(_PDQ_ROWS)].reshape(count, 2 * _PDQ_ROWS)
        return made


def sightings(stuff: Stuff, first: int, count: int, rng: np.random.Generator) -> pa.Table:
    """Made-up rows of `seen`, numbered from `first` on."""
    upright = stuff.views(count, rng)
    second = stuff.views(count, rng)
    second["kind"] = Kind.UNFRAMED
    framed = rng.random(count) < stuff.framed
    views = [
        one.tobytes() + (other.tobytes() if has else b"")
        for one, other, has in zip(upright, second, framed.tolist(), strict=True)
    ]
    shares = stuff.tags[rng.integers(0, len(stuff.tags), count)]
    hashes = [rng.bytes(32).hex() for _ in range(count)]
    numbers = range(first, first + count)
    columns: dict[str, object] = {
        "sighting_id": [rng.bytes(16).hex() for _ in range(count)],
        "site": [f"site-{number % 20}" for number in numbers],
        "page_url": [f"https://site-{number % 20}.example/gallery/{number // 12}" for number in numbers],
        "image_url": [f"https://site-{number % 20}.example/pictures/{one[:16]}.jpg"
                      for number, one in zip(numbers, hashes, strict=True)],
        "uploader": [f"user-{number % 5000}" for number in numbers],
        "crawled_at": [_NOW + timedelta(seconds=number) for number in numbers],
        "sha256": hashes,
        "fingerprint": [one.tobytes() for one in upright["fingerprint"]],
        "mask": [one.tobytes() for one in upright["mask"]],
        "views": views,
        "algorithm": [_VERSION] * count,
        "tag": [TAG_NAMES[place] for place in shares.argmax(axis=1)],
        "tags": [list(zip(TAG_NAMES, row, strict=True)) for row in shares.tolist()],
        "width": [640] * count,
        "height": [480] * count,
        "run": [f"run-{number // 5000}" for number in numbers],
    }  # fmt: skip
    arrays = [
        pa.array(columns[field.name], type=field.type) if field.name in columns else pa.nulls(count, field.type)
        for field in SEEN.columns
    ]
    return pa.Table.from_arrays(arrays, schema=SEEN.columns)


def fill(config: Settings, stuff: Stuff, count: int) -> float:
    """Write `count` sightings into `seen`, in files of a run's size; returns bytes a row on the disk."""
    create_tables(config.warehouse)
    rng = np.random.default_rng(count)
    url = table_url(config.warehouse, SEEN)
    for first in range(0, count, _CHUNK):
        rows = sightings(stuff, first, min(_CHUNK, count - first), rng)
        write_deltalake(url, rows, mode="append", partition_by=list(SEEN.partition_by))
    return sum(file.stat().st_size for file in Path(url).rglob("*.parquet")) / count


def register(config: Settings, photos: Sequence[Photo], tagger: Tagger, counts: Sequence[int]) -> None:
    """Protect the first photos, in one run for each of `counts`, named by it."""
    described = []
    for photo in photos[: max(counts)]:
        picture = photo.image()
        views, tags = protected_views(picture), tagger.probabilities(picture)
        described.append(
            {"fingerprint": views["fingerprint"][0].tobytes(), "views": views.tobytes(), "sha256": photo.digest,
             "tag": max(sorted(tags), key=lambda tag: tags[tag]), "tags": list(tags.items())}
        )  # fmt: skip
    for count in counts:
        append(config, PROTECTED, [
            {"protected_id": f"{count}-{number}", "group_id": f"{count}-{number}", "owner": "1", "registered_at": _NOW,
             "status": "active", "algorithm": _VERSION, "run": f"new-{count}"} | row
            for number, row in enumerate(described[:count])
        ])  # fmt: skip


def matched(spark: SparkSession, config: Settings, run: str) -> int:
    """What the job `match_seen` does until it knows the pairs; how many there are."""
    terms = terms_of(ALGORITHM, built_in_threshold(ALGORITHM, config).value, config)
    of_version = [delta.read(spark, config.warehouse, one).where(f.col("algorithm") == _VERSION)
                  for one in (DETECTED, SEEN)]  # fmt: skip
    every = of_version[0].unionByName(of_version[1])
    protected = compared(in_force(delta.read(spark, config.warehouse, PROTECTED), _VERSION, datetime.now(UTC)))
    newcomers = protected.where(f.col("run") == run)
    streamed = pairs_with_newcomers(every.select(*OF_SIGHTING), newcomers, terms, config.tag_coverage)
    return distinct_pairs(streamed).localCheckpoint().count()


@dataclass(frozen=True)
class Measurement:
    """One size of the table and one number of new images.

    Attributes:
        rows: sightings.
        images: new protected images.
        costs: of each round.
        pairs: found within Th.
    """

    rows: int
    images: int
    costs: Sequence[Cost]
    pairs: int

    @property
    def seconds(self) -> float:
        """By the clock, the median."""
        return median(cost.seconds for cost in self.costs)

    @property
    def processor(self) -> float:
        """Seconds of all processes, the median."""
        return median(cost.processor for cost in self.costs)

    def row(self) -> Row:
        """A row of the table."""
        return {
            "sightings": f"{self.rows:,}",
            "new images": self.images,
            "seconds": self.seconds,
            "processor s": self.processor,
            "pairs within Th": self.pairs,
            "workers, MB": max(cost.worker_megabytes for cost in self.costs),
            "JVM, MB": max(cost.jvm_megabytes for cost in self.costs),
        }


def line(measurements: Sequence[Measurement], of: Callable[[Measurement], float]) -> tuple[float, float]:
    """What any table costs, and what each million sightings adds: the line through the smallest and the largest table.

    Raises:
        ValueError: they are of one size.
    """
    least, most = (choose(measurements, key=lambda one: one.rows) for choose in (min, max))
    if least.rows == most.rows:
        raise ValueError("a line needs two sizes of the table")
    slope = (of(most) - of(least)) / (most.rows - least.rows)
    return of(least) - slope * least.rows, slope * 1e6


def per_million(measurements: Sequence[Measurement]) -> list[Row]:
    """A row for each number of new images: the line, and where it leads."""
    rows: list[Row] = []
    for images in sorted({one.images for one in measurements}):
        own = [one for one in measurements if one.images == images]
        fixed, million = line(own, lambda one: one.seconds)
        _, processor = line(own, lambda one: one.processor)
        rows.append(
            {"new images": images, "any table, s": fixed, "each million, s": million,
             "each million, processor s": processor}
            | {f"{size // 1_000_000} million, s": fixed + million * size / 1e6 for size in EXTRAPOLATED}
        )  # fmt: skip
    return rows


def batches(spark: SparkSession, config: Settings, run: str, count: int) -> list[Row]:
    """The same work with rows handed to Python in batches of the jobs' default and in larger ones, in turns."""
    setting = "spark.sql.execution.arrow.maxRecordsPerBatch"
    usual = spark.conf.get(setting)
    costs: dict[str, list[Cost]] = {str(usual): [], "8192": []}
    try:
        for _ in range(count):
            for rows, taken in costs.items():
                spark.conf.set(setting, rows)
                taken.append(measured(partial(matched, spark, config, run))[1])
    finally:
        spark.conf.set(setting, str(usual))
    return [
        {
            "rows a batch": rows,
            "seconds": median(one.seconds for one in taken),
            "processor s": median(one.processor for one in taken),
            "workers, MB": max(one.worker_megabytes for one in taken),
        }
        for rows, taken in costs.items()
    ]


def drawn(measurements: Sequence[Measurement]) -> Figure:
    """Seconds by sightings, a line for each number of new images."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    panel = figure.subplots()
    for images in sorted({one.images for one in measurements}):
        own = sorted((one for one in measurements if one.images == images), key=lambda one: one.rows)
        panel.plot([one.rows for one in own], [one.seconds for one in own], "o-", label=f"{images} new")
    panel.set(xlabel="sightings in `seen`", ylabel="seconds", ylim=(0, None), xlim=(0, None))
    panel.legend()
    return figure


def result(experiment: Experiment, spark: SparkSession, folder: Path) -> Result:
    """The whole experiment; tables of the lake go below `folder`."""
    small = experiment.quick or experiment.results is None
    sizes, count = (QUICK_SIZES, 1) if small else (SIZES, ROUNDS)
    photos = some(experiment.photos, min(len(experiment.photos), MATERIAL + max(NEW_IMAGES)))
    held_out = min(max(NEW_IMAGES), len(photos) // 3)
    new, old = photos[:held_out], photos[held_out:]
    tagger = Tagger(load_settings().prepared_dir / "models")
    pictures = [photo.image() for photo in old]
    probabilities = [tagger.probabilities(picture) for picture in pictures]
    tags = np.array([[one[tag] for tag in TAG_NAMES] for one in probabilities])
    stuff = Stuff.of([sighting_views(picture) for picture in pictures], tags)
    images = sorted({min(one, len(new)) for one in NEW_IMAGES})
    bytes_a_row: list[float] = []
    configs = [Settings(_env_file=None, data_dir=folder / str(size)) for size in sizes]
    for size, config in zip(sizes, configs, strict=True):
        bytes_a_row.append(fill(config, stuff, size))
        register(config, new, tagger, images)
        # Once unmeasured: Spark's workers start, and the table's files come into the system's cache.
        matched(spark, config, f"new-{images[0]}")
    costs: dict[tuple[int, int], list[Cost]] = {}
    pairs: dict[tuple[int, int], int] = {}
    for _ in range(count):
        for size, config in zip(sizes, configs, strict=True):
            for number in images:
                key = (size, number)
                pairs[key], cost = measured(partial(matched, spark, config, f"new-{number}"))
                costs.setdefault(key, []).append(cost)
                log.info("%d sightings, %d new: %.1f s", size, number, cost.seconds)
    measurements = [Measurement(*key, taken, pairs[key]) for key, taken in costs.items()]
    load = " / ".join(f"{one:.1f}" for one in os.getloadavg())
    memory = spark.sparkContext.getConf().get("spark.driver.memory")
    tables = [
        Table(
            "Measured",
            [one.row() for one in measurements],
            f"Median of {count}, in turns; {MASTER}, driver memory {memory}; Spark's own start is not in it (see "
            "extraction_and_matching). Memory is the most that was resident; pages that "
            "two workers share count twice. The machine's load at the end, over "
            f"1 / 5 / 15 minutes: {load}; beyond about 2 it is other work, which lengthens the seconds, not the "
            "processor's.",
        ),
        Table(
            "Each million sightings",
            per_million(measurements),
            f"The line through {sizes[0]:,} and {sizes[-1]:,} sightings. The last columns extrapolate: nothing of that "
            "size was measured. How memory grows, the table above says.",
        ),
        Table(
            "Rows handed to Python at once",
            batches(spark, configs[-1], f"new-{images[-1]}", count),
            f"{sizes[-1]:,} sightings, {images[-1]} new images. The first row is the other jobs' default, meant for "
            "rows that carry image bytes, and all above is measured with it; `match_seen` itself uses the second.",
        ),
        Table(
            "On the disk",
            [{"sightings": f"{size:,}", "bytes each": one} for size, one in zip(sizes, bytes_a_row, strict=True)],
            f"Of these a view's record is {VIEW.itemsize}; {100 * stuff.framed:.1f} % have a second one. Addresses "
            "are made up, and about as long as real ones.",
        ),
    ]
    return Result(
        name="seen_cost",
        title="Matching new images with all that was seen",
        question=" ".join(__doc__.split("\n\n")[2].split()),
        command=experiment.command,
        photos=f"sightings made of {len(old):,} photos, {len(new)} others as new images",
        tables=tables,
        figure=drawn(measurements),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    with (
        started("benchmarks.seen_cost", __doc__.splitlines()[0], arguments) as experiment,
        tempfile.TemporaryDirectory(prefix="copywatch-seen-") as folder,
    ):
        with spark_session() as spark:
            done = result(experiment, spark, Path(folder))
        publish(done, experiment.results)


if __name__ == "__main__":
    main()
