"""`protected`, and `seen` and `detected` to fill up -> distances of different images -> two rows of `thresholds`.

SRPITP, section 4.1. The images and what is computed of them depend on the tables and the run's name only, and the run's
rows are replaced, so the job may die at any line and run again.

    spark-submit calibrate_threshold.py --run RUN --images 2000 --rate 1e-6
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql.pandas.types import from_arrow_schema

from copywatch.errors import CopywatchError
from copywatch.fingerprint import algorithm_named, identity
from copywatch.lake import delta
from copywatch.lake.identity import run_key
from copywatch.lake.schemas import DETECTED, MATCHES, PROTECTED, SEEN, THRESHOLDS
from copywatch.lake.tables import create_tables, replace_rows
from copywatch.logs import log_context, log_to_stderr, table
from copywatch.matching.calibration import (
    FEWEST_IMAGES,
    Calibration,
    Part,
    Pictures,
    block_pairs,
    calibrated,
    measured,
    numbered,
)
from copywatch.matching.calibration_rows import Measured, rows_of_calibration
from copywatch.matching.pair_distances import PairDistances, distances_of
from copywatch.rule import Rule
from copywatch.settings import Settings, settings
from copywatch.threshold import rule_for
from spark_jobs.comparing import HAS_VIEWS

log = logging.getLogger("spark_jobs.calibrate_threshold")

MOST_IMAGES = 10_000
"""Their views are 67 MB on the driver and on every worker; their 50 million pairs take 17 minutes of one core."""

IMAGES = "id string, protected boolean, address string, sha256 string, group_id string, described binary"
"""An image that may be measured; `described`: what is compared, views or a fingerprint."""

PARTS = pa.schema(
    [
        pa.field("values", pa.list_(pa.int64())),
        pa.field("counts", pa.list_(pa.int64())),
        pa.field("unjudged", pa.list_(pa.int64())),
        pa.field("closest", pa.list_(pa.list_(pa.int64()))),
    ]
)
"""`copywatch.matching.calibration.Part`."""


@dataclass(frozen=True)
class Sample:
    """The images of a calibration, in one order.

    Attributes:
        images: what people may want to know of each.
        pictures: which of them show the same picture.
        distances: of their pairs.
    """

    images: Sequence[Measured]
    pictures: Pictures
    distances: PairDistances


def described(rows: DataFrame, version: str, rule: Rule) -> Column:
    """What is compared of each row; null: it has no such thing, as it is of another algorithm or older."""
    own = f.when(f.col("algorithm") == version, f.col("views" if rule is Rule.RESCORED else "fingerprint"))
    if rule is Rule.RESCORED:
        return f.when(f.expr(HAS_VIEWS), own)
    return f.coalesce(own, f.col("other_fingerprints")[version]) if "other_fingerprints" in rows.columns else own


def protected_images(protected: DataFrame, version: str, rule: Rule) -> DataFrame:
    """Active protected images, as `IMAGES`."""
    return protected.where("status = 'active'").select(
        f.col("protected_id").alias("id"),
        f.lit(True).alias("protected"),
        f.col("storage_address").alias("address"),
        "sha256",
        "group_id",
        described(protected, version, rule).alias("described"),
    )


def sighted_images(sightings: DataFrame, version: str, rule: Rule) -> DataFrame:
    """Sightings, as `IMAGES`."""
    return sightings.select(
        f.col("sighting_id").alias("id"),
        f.lit(False).alias("protected"),
        f.col("image_url").alias("address"),
        "sha256",
        f.lit(None).cast("string").alias("group_id"),
        described(sightings, version, rule).alias("described"),
    )


def sampled(images: DataFrame, run: str, count: int) -> DataFrame:
    """`count` images of different bytes: protected ones first, each kind at random, and in that order.

    At random means by a hash of image and run: proportionally to what each tag holds, as the pairs of an ordinary run
    are, and the same images when the run is tried again.

    Args:
        images: `IMAGES`.
        run: the run's name.
        count: how many at most.
    """
    usable = images.where("described IS NOT NULL")
    # The order is found without what is compared, which is 6.5 kB an image and would be shuffled with it.
    first = usable.groupBy("sha256").agg(f.min_by("id", f.struct(~f.col("protected"), f.col("id"))).alias("id"))
    order = (~f.col("protected"), f.xxhash64(f.col("id"), f.lit(run)), f.col("id"))
    kept = usable.select("id", "protected", "sha256").join(first, ["id", "sha256"], "left_semi")
    chosen = kept.dropDuplicates(["id"]).orderBy(*order).limit(count).select("id", "sha256")
    return usable.join(f.broadcast(chosen), ["id", "sha256"], "left_semi").dropDuplicates(["id"]).orderBy(*order)


def sample_of(images: DataFrame, matches: DataFrame, algorithm: str, rule: Rule) -> Sample:
    """Collect a sample, and find out what is known of its pictures.

    Args:
        images: `IMAGES`; all are collected, in their order.
        matches: rows of the table `matches`.
        algorithm: name of the algorithm.
        rule: how a distance is measured.

    Raises:
        CopywatchError: there are fewer than 50 images.
    """
    rows = images.collect()
    protected = [row["id"] for row in rows if row["protected"]]
    links = (
        matches.where(f.col("state").isin("certain", "accepted", "doubtful"))
        .select("sighting_id", "sha256", "protected_id", (f.col("state") != "doubtful").alias("judged"))
        .join(f.broadcast(images.select(f.col("id").alias("protected_id"))), "protected_id", "left_semi")
        .collect()
        if protected
        else []
    )
    pictures = Pictures(
        known=numbered(
            [(row["id"], row["sha256"]) for row in rows],
            [(row["sha256"], row["protected_id"]) for row in links if row["judged"]],
        ),
        supposed=numbered(
            [(row["id"], row["sha256"], row["group_id"] or row["id"]) for row in rows],
            [(row["sha256"], row["protected_id"]) for row in links],
        ),
    )
    different = len(set(pictures.known.tolist()))
    if different < FEWEST_IMAGES or not protected:
        raise CopywatchError(
            f"{different} different images, {len(protected)} of the rows protected, can be compared by {algorithm}, "
            f"{rule}; a calibration takes {FEWEST_IMAGES} at least, and protected ones among them. Protect more, or "
            "crawl more sites, and try again."
        )
    return Sample(
        images=[Measured(row["id"], row["protected"], row["address"] or "") for row in rows],
        pictures=pictures,
        distances=distances_of([bytes(row["described"]) for row in rows], [row["protected"] for row in rows],
                               algorithm, rule),
    )  # fmt: skip


def measured_parts(spark: SparkSession, sample: Sample) -> DataFrame:
    """The distances of all pairs, a row of `PARTS` for each pair of blocks; each is a task, and takes 200 MB."""
    tiles = block_pairs(len(sample.images))
    # Not the sample itself: its class is of the script that was submitted, which workers cannot import.
    shared = spark.sparkContext.broadcast((sample.distances, sample.pictures))

    def measure(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        distances, pictures = shared.value
        for batch in batches:
            for tile in batch.column("id").to_pylist():
                part = measured(distances, pictures, *tiles[tile])
                row = {name: getattr(part, name).tolist() for name in ("values", "counts", "unjudged")}
                row["closest"] = [[int(value) for value in pair] for pair in part.closest]
                yield pa.RecordBatch.from_pylist([row], schema=PARTS)

    return spark.range(len(tiles), numPartitions=len(tiles)).mapInArrow(measure, from_arrow_schema(PARTS))


def calibration_of(parts: DataFrame, sample: Sample, rate: float) -> Calibration:
    """Collect the parts, some 300 kB each, one after another."""
    collected = (
        Part(
            *(np.array(row[name], dtype=np.int64) for name in ("values", "counts", "unjudged")),
            closest=tuple((step, one, other, bool(unjudged)) for step, one, other, unjudged in row["closest"]),
        )
        # Measured first, all at once: the iterator would start each task when the one before it is done.
        for row in parts.localCheckpoint().toLocalIterator()
    )
    return calibrated(collected, images=len(sample.images), steps=sample.distances.steps, rate=rate)


def calibrate_run(
    spark: SparkSession, run: str, *, algorithm: str, rule: Rule, images: int, rate: float, config: Settings
) -> list[dict[str, object]]:
    """Calibrate, and replace the run's rows of `thresholds`; returns a table of what was found.

    Raises:
        CopywatchError: there are fewer than 50 images.
        ValueError: the rate is not above 0 and below 1.
    """
    version = identity(algorithm_named(algorithm))
    sightings = delta.read(spark, config.warehouse, SEEN).unionByName(delta.read(spark, config.warehouse, DETECTED))
    every = protected_images(delta.read(spark, config.warehouse, PROTECTED), version, rule).unionByName(
        sighted_images(sightings, version, rule)
    )
    chosen = sampled(every, run, images).localCheckpoint()
    sample = sample_of(chosen, delta.read(spark, config.warehouse, MATCHES), algorithm, rule)
    found = calibration_of(measured_parts(spark, sample), sample, rate)
    rows = rows_of_calibration(found, sample.images, algorithm=version, rule=rule.value, at=datetime.now(UTC))
    replace_rows(config.warehouse, THRESHOLDS, rows, run=run)
    if found.note:
        log.info("%s", found.note)
    return [_shown(row) for row in rows]


def _shown(row: dict[str, Any]) -> dict[str, object]:
    columns = ("method", "threshold", "within", "unjudged", "images", "pairs", "mean", "deviation")
    return {name: row[name] for name in columns} | {"needs a person": row["needs_a_person"]}


def rule_or_none(text: str) -> Rule | None:
    """A rule of a trigger form, where `as set` is the settings'."""
    return None if text in {"", "as set"} else Rule(text)


def arguments_of(given: Sequence[str] | None, algorithm: str) -> argparse.Namespace:
    """The job's arguments; `given` None: the command line's. Ends the process where they make no sense."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="Airflow run that calibrates")
    parser.add_argument("--images", type=int, default=2000, help=f"how many, {FEWEST_IMAGES} to {MOST_IMAGES}")
    parser.add_argument("--rate", type=float, default=1e-6, help="false-alarm rate wished")
    parser.add_argument("--algorithm", default=algorithm)
    parser.add_argument("--rule", type=rule_or_none, help=f"{', '.join(Rule)} or, by default, 'as set'")
    arguments = parser.parse_args(given)
    if not FEWEST_IMAGES <= arguments.images <= MOST_IMAGES:
        parser.error(f"--images is {FEWEST_IMAGES} to {MOST_IMAGES}, not {arguments.images}")
    if not 0 < arguments.rate < 1:
        parser.error(f"--rate is above 0 and below 1, not {arguments.rate}")
    return arguments


def main() -> None:
    """Command line of the job."""
    config = settings()
    arguments = arguments_of(None, config.algorithm)
    log_to_stderr()
    run = run_key(arguments.run)
    algorithm = algorithm_named(arguments.algorithm)
    # Only mao's fingerprints have views: of any other there is one rule.
    rule = rule_for(algorithm.name, config.model_copy(update={"rule": arguments.rule or config.rule}))
    create_tables(config.warehouse)
    with log_context(run=run):
        spark = SparkSession.builder.appName(f"calibrate_threshold {run}").getOrCreate()
        done = calibrate_run(
            spark, run, algorithm=algorithm.name, rule=rule, images=arguments.images, rate=arguments.rate, config=config
        )
        title = f"calibrate_threshold, {identity(algorithm)}, {rule}, rate {arguments.rate:g}"
        log.info("done\n%s", table(done, title=title))
        spark.stop()


if __name__ == "__main__":
    main()
