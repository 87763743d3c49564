"""SRPITP's Figures 5 and 6: extraction and matching, a stand-alone loop against Spark.

    python -m benchmarks.extraction_and_matching --photos DIR

Both sides do the product's work with the product's functions. Extraction reads landing shards and makes of every image
its fingerprint, its views and its tags (`copywatch.fingerprint.rows.Extraction`); Spark runs it as the job
`fingerprint_images` does. Matching reads the tables `detected` and `protected` and makes the pairs with T < 2, by the
rule "rescored", which is the product's, and by the paper's; Spark runs it as the job `match_images` does. Stand-alone
is one process with one thread, which goes through the same images batch by batch. Spark's answers and the loop's are
compared in every run, and must be the same. Times are by the clock, medians of runs in turns. The paper had two worker
nodes of four cores; this is one machine, so what Spark can save is bounded by its cores.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import write_deltalake
from matplotlib.figure import Figure
from PIL import Image
from pyspark.sql import SparkSession

from benchmarks.copies import Copy, CopyCache
from benchmarks.edits import MILD
from benchmarks.experiment import Experiment, started
from benchmarks.matching_accuracy import trial
from benchmarks.photos import PROJECT, Photo
from benchmarks.report import Result, Row, Table, beside_paper, publish
from benchmarks.spark_runs import CORES, MASTER, Cost, measured, spark_session
from benchmarks.tag_pruning import protected_of
from copywatch.fingerprint import identity
from copywatch.fingerprint.registry import algorithm_named
from copywatch.fingerprint.rows import Extraction
from copywatch.fingerprint.views import protected_views, sighting_views
from copywatch.lake import delta, landing
from copywatch.lake.schemas import DETECTED, LANDING, PROTECTED
from copywatch.lake.schemas import Table as LakeTable
from copywatch.lake.tables import create_tables, read_table, table_url
from copywatch.matching.pairs import OF_PROTECTED, OF_SIGHTING, Newcomers
from copywatch.rule import Rule
from copywatch.settings import Settings, load_settings
from copywatch.tagging.tagger import Tagger
from copywatch.threshold import built_in_threshold
from spark_jobs.comparing import all_pairs, compared, distinct_pairs, in_force, nearest, terms_of
from spark_jobs.fingerprint_images import fingerprinted, read_shards

log = logging.getLogger(__name__)

ROUNDS = 3
IMAGES_A_SIZE = 3000
"""Images of one size that are extracted in all rounds together, more or less: the largest size takes minutes."""
EXTRACTED = {500: 57.88, 1000: 59.92, 2000: 58.55}
"""Images -> percent of the time that the paper saves (section 4.2.3); on average 58.78."""
PROTECTED_IMAGES = 2000
MATCHED = {2000: 62.62, 4000: 60.82}
"""Detected images -> percent of the time that the paper saves (section 4.2.4); on average 61.72."""

_MILD_BY_NAME = {edit.name: edit for edit in MILD}

ALGORITHM = "mao"
SITE = "photos"
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_BATCH = 64
"""Images a batch, as the jobs' defaults have it."""


@dataclass(frozen=True)
class Run:
    """One round: the loop, and Spark."""

    alone: Cost
    spark: Cost


@dataclass(frozen=True)
class Comparison:
    """The rounds of one size.

    Attributes:
        images: how many were extracted, or matched.
        runs: at least one.
        start_up: seconds until Spark is there.
    """

    images: int
    runs: Sequence[Run]
    start_up: float

    def row(self, paper: float | None) -> Row:
        """A row of a table; "ours" is what Spark saves without its start."""
        alone, spark = (median(getattr(run, side).seconds for run in self.runs) for side in ("alone", "spark"))
        alone_processor, spark_processor = (
            median(getattr(run, side).processor for run in self.runs) for side in ("alone", "spark")
        )
        return {
            "images": self.images,
            "runs": len(self.runs),
            "stand-alone, s": alone,
            "Spark, s": spark,
            **beside_paper(paper, saved(alone, spark)),
            "saved with the start": saved(alone, spark + self.start_up),
            "stand-alone, processor s": alone_processor,
            "Spark, processor s": spark_processor,
            "saved at best": saved(alone_processor, spark_processor / CORES),
        }


def saved(before: float, after: float) -> float:
    """Percent of the time."""
    return 100 * (1 - after / before)


def rounds(count: int, alone: Callable[[], pa.Table], spark: Callable[[], pa.Table]) -> list[Run]:
    """Do both in turns, `count` times.

    Raises:
        AssertionError: they answer differently.
    """
    runs = []
    for _ in range(count):
        one, of_alone = measured(alone)
        other, of_spark = measured(spark)
        if sorted_rows(one) != sorted_rows(other):
            raise AssertionError(f"stand-alone has {one.num_rows} rows and Spark {other.num_rows}, and they differ")
        runs.append(Run(of_alone, of_spark))
        log.info("%d rows: stand-alone %.1f s, Spark %.1f s", one.num_rows, of_alone.seconds, of_spark.seconds)
    return runs


def sorted_rows(rows: pa.Table) -> list[tuple[object, ...]]:
    """The rows without their order."""
    return sorted(zip(*(column.to_pylist() for column in rows.columns), strict=True), key=repr)


# --- extraction ------------------------------------------------------------------------------------------------------


def land(photos: Sequence[Photo], config: Settings, run: str) -> list[Path]:
    """Photos as a crawl would land them; the shards."""
    with landing.ShardWriter(config.landing, run, SITE, shard_bytes=config.shard_bytes, schema=LANDING) as writer:
        for photo in photos:
            writer.write(
                {"run": run, "site": SITE, "image_url": photo.name, "crawled_at": _NOW, "sha256": photo.digest,
                 "bytes": photo.path.read_bytes()}
            )  # fmt: skip
        writer.finish({})
    return landing.shards(config.landing, run)


_EXTRACTED_COLUMNS = ["image_url", "fingerprint", "views", "tag", "reason"]


def extracted_alone(shards: Sequence[Path], extraction: Extraction) -> pa.Table:
    """The columns that extraction adds, by one loop over the shards."""
    batches = (batch for shard in shards for batch in pq.ParquetFile(shard).iter_batches(batch_size=_BATCH))
    done = pa.Table.from_batches(extraction.batches(batches, ["image_url"]))
    return done.select(_EXTRACTED_COLUMNS)


def extracted_by_spark(spark: SparkSession, shards: Sequence[Path], extraction: Extraction) -> pa.Table:
    """The same by the functions of the job `fingerprint_images`."""
    done = fingerprinted(read_shards(spark, shards, LANDING), extraction)
    return done.select(*_EXTRACTED_COLUMNS).toArrow()


def extraction_of(config: Settings) -> Extraction:
    """What the job extracts of a crawl's images."""
    models = load_settings().prepared_dir / "models"
    return Extraction(ALGORITHM, config.max_image_pixels, config.max_image_bytes, models)


# --- matching --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Describe:
    """What a row of the lake needs of an image. Plain values: it is sent to other processes."""

    cache: CopyCache
    models: Path

    def protected(self, photo: Photo) -> dict[str, object]:
        """Of a protected photo."""
        return self._described(photo.image(), True)

    def sighting(self, photo: Photo, edit: str, seed: int) -> dict[str, object]:
        """Of a photo that was edited; by the edit's name, since an edit cannot be sent."""
        return self._described(self.cache.picture(Copy(photo, _MILD_BY_NAME[edit], seed)), False)

    def _described(self, picture: Image.Image, of_protected: bool) -> dict[str, object]:
        views = protected_views(picture) if of_protected else sighting_views(picture)
        tags = _tagger(self.models).probabilities(picture)
        return {
            "fingerprint": views["fingerprint"][0].tobytes(),
            "mask": views["mask"][0].tobytes(),
            "views": views.tobytes(),
            "algorithm": identity(algorithm_named(ALGORITHM)),
            "tag": max(sorted(tags), key=lambda tag: tags[tag]),
            "tags": list(tags.items()),
        }


@cache
def _tagger(models: Path) -> Tagger:
    return Tagger(models)


def lay(experiment: Experiment, config: Settings, protected: int, detected: Mapping[str, int]) -> None:
    """Fill `protected`, and `detected` with one run for each of `detected` (run -> images), half of them copies."""
    drawn = trial(experiment.photos, protected, max(detected.values()), seed=0)
    describe = Describe(experiment.cache, load_settings().prepared_dir / "models")
    copies = [(one.photo, one.edit.name, one.seed) for one in drawn.found if one.edit]
    # Not by fork: the children would share this process's connection to the JVM.
    with ProcessPoolExecutor(CORES, mp_context=get_context("spawn")) as pool:
        originals = list(pool.map(describe.protected, drawn.protected, chunksize=16))
        sightings = list(pool.map(describe.sighting, *zip(*copies, strict=True), chunksize=16))
    create_tables(config.warehouse)
    rows = []
    for number, (photo, described) in enumerate(zip(drawn.protected, originals, strict=True)):
        rows.append(
            {"protected_id": f"p{number:05}", "owner": "1", "group_id": f"p{number:05}", "registered_at": _NOW,
             "status": "active", "run": "intake", "sha256": photo.digest} | described
        )  # fmt: skip
    append(config, PROTECTED, rows)
    for run, count in detected.items():
        append(
            config,
            DETECTED,
            [
                {"sighting_id": f"s{number:05}", "site": SITE, "run": run, "crawled_at": _NOW, "sha256": f"{number}"}
                | described
                for number, described in enumerate(sightings[:count])
            ],
        )


def append(config: Settings, table: LakeTable, rows: Sequence[Mapping[str, object]]) -> None:
    """Put rows into a table of the lake; columns that they lack are null."""
    complete = [dict.fromkeys(table.columns.names) | dict(row) for row in rows]
    write_deltalake(
        table_url(config.warehouse, table), pa.Table.from_pylist(complete, schema=table.columns), mode="append"
    )


_PAIR_COLUMNS = ["sighting_id", "protected_id", "verdict"]


def matched_alone(config: Settings, run: str) -> pa.Table:
    """The pairs of a run with T < 2 by one process; by the paper's rule each sighting's nearest alone."""
    protected = read_table(config.warehouse, PROTECTED, columns=OF_PROTECTED)
    sightings = read_table(config.warehouse, DETECTED, run=run, columns=OF_SIGHTING)
    terms = terms_of(ALGORITHM, built_in_threshold(ALGORITHM, config).value, config)
    newcomers = Newcomers(protected, terms, config.tag_coverage)
    found = pa.Table.from_batches(newcomers.pairs(iter(sightings.to_batches()))).to_pandas()
    found = found.sort_values(["verdict", "distance", "registered_at", "protected_id"])
    key = ["sighting_id"] if terms.rule is Rule.PAPER else ["sighting_id", "protected_id"]
    return pa.Table.from_pandas(found.drop_duplicates(key)[_PAIR_COLUMNS], preserve_index=False)


def matched_by_spark(spark: SparkSession, config: Settings, run: str) -> pa.Table:
    """The same by the functions of the job `match_images`."""
    version = identity(algorithm_named(ALGORITHM))
    terms = terms_of(ALGORITHM, built_in_threshold(ALGORITHM, config).value, config)
    sightings = delta.read(spark, config.warehouse, DETECTED).where(f"run = '{run}'").localCheckpoint()
    protected = compared(in_force(delta.read(spark, config.warehouse, PROTECTED), version, datetime.now(UTC)))
    pairs = distinct_pairs(all_pairs(sightings, protected, terms, config.tag_coverage))
    found = nearest(pairs) if terms.rule is Rule.PAPER else pairs
    return found.select(*_PAIR_COLUMNS).toArrow()


# --- Spark's start ---------------------------------------------------------------------------------------------------


def answer_once() -> None:
    """Start Spark, and let its Python workers pass two rows through the extraction; nothing is decoded."""
    with spark_session() as spark:
        rows = spark.createDataFrame([(b"", "not fetched", None)] * CORES, "bytes binary, reason string, detail string")
        fingerprinted(rows.repartition(CORES), extraction_of(load_settings())).toArrow()


def start_up(count: int) -> float:
    """Seconds that `answer_once` takes in a process of its own, with its imports; the median."""
    taken = []
    for _ in range(count):
        begun = time.perf_counter()
        code = "from benchmarks.extraction_and_matching import answer_once; answer_once()"
        subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, capture_output=True)
        taken.append(time.perf_counter() - begun)
    return median(taken)


# --- the whole -------------------------------------------------------------------------------------------------------


def extraction(experiment: Experiment, spark: SparkSession, config: Settings, start: float) -> list[Row]:
    """Figure 5: a row for each number of images."""
    rows: list[Row] = []
    job = extraction_of(config)
    for count in sizes(EXTRACTED, len(experiment.photos)):
        shards = land(experiment.photos[:count], config, f"extract-{count}")
        times = min(_rounds(experiment), max(1, IMAGES_A_SIZE // count))
        runs = rounds(times, partial(extracted_alone, shards, job), partial(extracted_by_spark, spark, shards, job))
        rows.append({**Comparison(count, runs, start).row(EXTRACTED.get(count)), "shards": len(shards)})
    return rows


def matching(experiment: Experiment, spark: SparkSession, config: Settings, start: float) -> dict[Rule, list[Row]]:
    """Figure 6: for each rule a row for each number of detected images."""
    protected = protected_of(len(experiment.photos), PROTECTED_IMAGES)
    counts = sizes(MATCHED, 2 * protected)
    lay(experiment, config, protected, {f"match-{count}": count for count in counts})
    theirs = protected == PROTECTED_IMAGES
    rows: dict[Rule, list[Row]] = {}
    for rule in (Rule.RESCORED, Rule.PAPER):
        of_rule = config.model_copy(update={"rule": rule})
        rows[rule] = []
        for count in counts:
            run = f"match-{count}"
            runs = rounds(
                _rounds(experiment),
                partial(matched_alone, of_rule, run),
                partial(matched_by_spark, spark, of_rule, run),
            )
            rows[rule].append(Comparison(count, runs, start).row(MATCHED.get(count) if theirs else None))
    return rows


def sizes(wanted: Mapping[int, float], most: int) -> list[int]:
    """The paper's numbers of images as far as there are so many, else all there are."""
    return sorted({min(count, most) for count in wanted})


def _rounds(experiment: Experiment) -> int:
    return 1 if experiment.quick else ROUNDS


def drawn(panels: Mapping[str, Sequence[Row]]) -> Figure:
    """The times of both sides by number of images."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for panel, (title, rows) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        counts = np.array([float(str(row["images"])) for row in rows])
        for side, colour in (("stand-alone, s", "C3"), ("Spark, s", "C0")):
            panel.plot(counts, [float(str(row[side])) for row in rows], "o-", color=colour, label=side[:-3])
        panel.set(title=title, xlabel="images", ylabel="seconds", ylim=(0, None))
        panel.legend()
    return figure


def result(experiment: Experiment, spark: SparkSession, folder: Path) -> Result:
    """The whole experiment; tables of the lake and shards go below `folder`."""
    # One thread in the loop, as in each of Spark's workers.
    faiss.omp_set_num_threads(1)
    config = Settings(_env_file=None, data_dir=folder)
    start = start_up(_rounds(experiment))
    # Spark's workers start once, before anything is measured: their start is in `start`.
    fingerprinted(spark.createDataFrame([(b"", "", None)] * CORES, "bytes binary, reason string, detail string"),
                  extraction_of(config)).toArrow()  # fmt: skip
    of_extraction = extraction(experiment, spark, config, start)
    of_matching = matching(experiment, spark, config, start)
    memory = spark.sparkContext.getConf().get("spark.driver.memory")
    bound = 100 * (1 - 1 / CORES)
    load = " / ".join(f"{one:.1f}" for one in os.getloadavg())
    common = (
        f'"Ours" is the time that Spark saves, in percent, without its start: at most {bound:.0f} on {CORES} cores, '
        'where the paper\'s nodes had eight. Processor seconds are of all processes together; "saved at best" is what '
        f"they would leave to save if {CORES} cores shared Spark's evenly and did nothing else."
    )
    tables = [
        Table(
            "Figure 5: extraction",
            of_extraction,
            f"{common} The paper extracts the fingerprint alone, the product views and tags with it. A shard is read "
            f"by one task, so a single shard keeps a single core busy.",
        ),
        Table(f"Figure 6: matching, by the rule {Rule.RESCORED}", of_matching[Rule.RESCORED], common),
        Table(
            "Figure 6: matching, by the paper's rule",
            of_matching[Rule.PAPER],
            common,
        ),
        Table(
            "Spark's start",
            [{"start, s": start, "master": MASTER, "driver memory": memory}],
            "A process of its own until two of Spark's Python workers have answered, imports included: each job of "
            'the product pays it once. "Saved with the start" has it on the side of Spark. The '
            f"machine's load at the end, over 1 / 5 / 15 minutes: {load}. This run's own is about {CORES}; what is "
            "beyond that is other work, which lengthens the times by the clock on both sides.",
        ),
    ]
    return Result(
        name="extraction_and_matching",
        title="Extraction and matching, stand-alone and by Spark (SRPITP, Figures 5 and 6)",
        question=" ".join(__doc__.split("\n\n")[2].split()),
        command=experiment.command + (" --quick" if experiment.quick else ""),
        photos=experiment.described_photos,
        tables=tables,
        figure=drawn(
            {
                "Figure 5: extraction": of_extraction,
                "Figure 6: rescored": of_matching[Rule.RESCORED],
                "Figure 6: the paper's rule": of_matching[Rule.PAPER],
            }
        ),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    with (
        started("benchmarks.extraction_and_matching", __doc__.splitlines()[0], arguments) as experiment,
        tempfile.TemporaryDirectory(prefix="copywatch-matching-") as folder,
    ):
        with spark_session() as spark:
            measured_result = result(experiment, spark, Path(folder))
        publish(measured_result, experiment.results)


if __name__ == "__main__":
    main()
