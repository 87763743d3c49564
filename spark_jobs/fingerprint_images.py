"""Landing shards -> fingerprints and tags -> `detected` and `rejected`, or `protected` and `features`.

SRPITP, section 3, steps (2), (3), (6) and (7). Protected images are also put into groups that show one photo, and their
local features into shards of the search index. A run's rows are replaced, so the job may die at any line and run again.

    spark-submit fingerprint_images.py --run RUN --into detected
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql.pandas.types import from_arrow_schema

from copywatch.errors import Reason
from copywatch.features.shards import SHARD_IMAGES
from copywatch.features.votes import LEAST_POINTS
from copywatch.fingerprint import algorithm_named, identity
from copywatch.fingerprint.rows import ADDED, Extraction
from copywatch.lake import delta, landing
from copywatch.lake.identity import protected_id, run_key, sighting_id
from copywatch.lake.schemas import CRAWL_STATS, DETECTED, FEATURES, INTAKE, LANDING, PROTECTED, REJECTED, SEEN
from copywatch.lake.tables import create_tables, replace_rows
from copywatch.logs import log_context, log_to_stderr, table
from copywatch.settings import Settings, settings
from copywatch.threshold import threshold_in_force
from spark_jobs.comparing import terms_of
from spark_jobs.grouping import grouped

log = logging.getLogger("spark_jobs.fingerprint_images")

OTHER_FINGERPRINTS = ("dhash", "pdq")
"""Kept beside a protected image's own, for comparisons of a later stage."""

_MADE = [name for name in ADDED.names if name != "other_fingerprints"]
"""Columns of a sighting that are made of its bytes alone."""


def fingerprinted(images: DataFrame, extraction: Extraction) -> DataFrame:
    """Rows with `bytes` -> the same rows without them, and with the columns `extraction.added`."""
    kept = [name for name in images.columns if name not in {"bytes", "reason", "detail"}]
    schema = images.select(*kept).schema
    for field in from_arrow_schema(extraction.added):
        schema = schema.add(field)

    def extract(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return extraction.batches(batches, kept)

    return images.mapInArrow(extract, schema)


def detected(images: DataFrame) -> DataFrame:
    """Rows of the `detected` table: those with a fingerprint, one per sighting."""
    identify = f.udf(sighting_id, "string")
    return (
        images.where(f.col("reason").isNull())
        .withColumn("sighting_id", identify("site", "page_url", "image_url", "sha256"))
        .dropDuplicates(["sighting_id"])
    )


def rejected(images: DataFrame) -> DataFrame:
    """Rows of the `rejected` table: those without a fingerprint, with the reason."""
    return images.where(f.col("reason").isNotNull())


def of_known_bytes(repeated: DataFrame, earlier: DataFrame) -> DataFrame:
    """Rows whose bytes were fetched before, with what was made of those bytes then, or why they gave no fingerprint.

    Args:
        repeated: rows of `fingerprinted` that have a SHA-256, and neither a fingerprint nor a reason.
        earlier: `made_of_bytes` of any sites and runs; where it has nothing of a SHA-256, the row gets a reason.
    """
    wanted = f.broadcast(repeated.select("sha256").distinct())
    # Rows of an earlier Copywatch may lack views; what has most is as a download now would give it.
    fullest = f.struct(f.col("made.fingerprint").isNotNull(), f.col("made.views").isNotNull())
    known = earlier.join(wanted, "sha256", "left_semi").groupBy("sha256").agg(f.max_by("made", fullest).alias("made"))
    gone = f.when(f.col("made").isNull(), f.lit(Reason.GONE.value))
    passed_on = [name for name in repeated.columns if name not in ADDED.names]
    made = {name: f.col(f"made.{name}") for name in _MADE} | {"reason": f.coalesce("made.reason", gone)}
    return repeated.join(known, "sha256", "left").select(
        *passed_on, *(column.alias(name) for name, column in made.items())
    )


def made_of_bytes(rows: DataFrame) -> DataFrame:
    """`sha256`, and what was made of those bytes as the struct `made`; columns that the rows lack are null there."""
    kinds = from_arrow_schema(ADDED)
    columns = [
        (f.col(name) if name in rows.columns else f.lit(None)).cast(kinds[name].dataType).alias(name) for name in _MADE
    ]
    return rows.where("sha256 IS NOT NULL").select("sha256", f.struct(*columns).alias("made"))


def with_known_bytes(spark: SparkSession, images: DataFrame, extraction: Extraction, config: Settings) -> DataFrame:
    """A crawl's rows of `fingerprinted` (persisted), made whole by `of_known_bytes` where they had no bytes."""
    lacks = f.col("fingerprint").isNull() & f.col("reason").isNull()
    repeated, own = images.where(lacks), images.where(~lacks)
    if not repeated.count():
        return images
    version = identity(algorithm_named(extraction.algorithm))
    earlier = made_of_bytes(own)
    for one in (DETECTED, SEEN):
        rows = delta.read(spark, config.warehouse, one).where(f.col("algorithm") == version)
        earlier = earlier.unionByName(made_of_bytes(rows))
    unusable = delta.read(spark, config.warehouse, REJECTED).where(f.col("reason") != Reason.GONE.value)
    earlier = earlier.unionByName(made_of_bytes(unusable))
    # Of these tables two are written next.
    whole = of_known_bytes(repeated, earlier).localCheckpoint()
    return own.unionByName(whole, allowMissingColumns=True)


def protected(images: DataFrame) -> DataFrame:
    """Rows of the `protected` table but `group_id`: an intake's images with a fingerprint."""
    identify = f.udf(protected_id, "string")
    return (
        images.where(f.col("reason").isNull())
        .withColumn("protected_id", identify("owner", "sha256"))
        .withColumn("status", f.lit("active"))
    )


def sharded(images: DataFrame, features: DataFrame, shard_images: int = SHARD_IMAGES) -> DataFrame:
    """Rows of the `features` table: those of `protected` with the column `shard`.

    An image that has a shard keeps it, so that a retry moves none. The others go on in the newest shard, by their ids,
    and in new ones when it is full. A line for each of the images is collected.

    Args:
        images: rows of `protected`, the function.
        features: rows of the table `features`, of all runs.
        shard_images: how many images fill a shard.
    """
    ids = images.select("protected_id").distinct()
    own = features.join(ids, "protected_id", "left_semi").groupBy("protected_id").agg(f.max("shard").alias("shard"))
    known = {row["protected_id"]: row["shard"] for row in own.collect()}
    newest = features.agg(f.max("shard")).first()[0] or 0
    filled = features.where(f.col("shard") == newest).select("protected_id").distinct().count()
    fresh = sorted(row["protected_id"] for row in ids.collect() if row["protected_id"] not in known)
    given = {one: newest + (filled + place) // shard_images for place, one in enumerate(fresh)}
    shards = images.sparkSession.createDataFrame(list((known | given).items()), "protected_id string, shard int")
    return images.join(f.broadcast(shards), "protected_id")


def outcome() -> Column:
    """What became of an image to be protected, in words."""
    few = f.when(
        f.col("points") < LEAST_POINTS, f"protected, covered by the fingerprint alone (under {LEAST_POINTS} points)"
    )
    return f.coalesce("reason", few, f.lit("protected")).alias("outcome")


def read_shards(spark: SparkSession, paths: Sequence[Path], schema: pa.Schema) -> DataFrame:
    """The rows of landing shards; no shard gives no row."""
    columns = from_arrow_schema(schema)
    if not paths:
        return spark.createDataFrame([], columns)
    return spark.read.schema(columns).parquet(*(str(path) for path in paths))


def fingerprint_crawl(
    spark: SparkSession, run: str, extraction: Extraction, config: Settings
) -> list[dict[str, object]]:
    """Write a crawl's rows of `detected`, `rejected` and `crawl_stats`; returns a table of what was done.

    A row without bytes whose SHA-256 is that of bytes fetched before becomes a sighting like the others.
    """
    shards = landing.shards(config.landing, run)
    # Parts without shards any more were released after matching: their rows stand, and are not replaced by nothing.
    released = landing.is_released(config.landing, run)
    sites = {path.parent.name for path in shards} if released else set(landing.complete_parts(config.landing, run))
    stats = landing.read_stats(config.landing, run)
    if stats:
        columns = [name for name in CRAWL_STATS.columns.names if name not in {"run", "site"}]
        rows = [{"site": site} | {name: one.get(name) for name in columns} for site, one in stats.items()]
        replace_rows(config.warehouse, CRAWL_STATS, rows, run=run)
    if not sites:
        return []
    images = fingerprinted(read_shards(spark, shards, LANDING), extraction).persist()
    images = with_known_bytes(spark, images, extraction, config)
    only = f"site IN ({', '.join(repr(site) for site in sorted(sites))})"
    delta.replace_run(detected(images), config.warehouse, DETECTED, run, only=only)
    delta.replace_run(rejected(images), config.warehouse, REJECTED, run, only=only)
    counts = images.groupBy("site", f.coalesce("reason", f.lit("fingerprinted")).alias("outcome")).count()
    return [row.asDict() for row in counts.orderBy("site", "outcome").collect()]


def fingerprint_intake(
    spark: SparkSession, run: str, extraction: Extraction, threshold: float, config: Settings
) -> list[dict[str, object]]:
    """Write an intake's rows of `features`, and of `protected`, grouped by Th = `threshold`.

    Returns:
        A table of what was done.
    """
    shards = landing.shards(config.landing, run)
    if not shards:
        return []
    extraction = replace(extraction, of_protected=True)
    images = fingerprinted(read_shards(spark, shards, INTAKE), extraction).persist()
    algorithm = algorithm_named(extraction.algorithm)
    others = delta.read(spark, config.warehouse, PROTECTED).where(
        (f.col("run") != run) & (f.col("algorithm") == identity(algorithm))
    )
    terms = terms_of(algorithm.name, threshold, config)
    usable = protected(images)
    # Of the same images, so as many rows as in `protected`; written first, so that none there lacks them.
    features = delta.read(spark, config.warehouse, FEATURES)
    columns = [name for name in FEATURES.columns.names if name != "shard"]
    delta.replace_run(sharded(usable.select(*columns), features), config.warehouse, FEATURES, run)
    columns = [name for name in PROTECTED.columns.names if name != "group_id"]
    rows = usable.select(*columns).localCheckpoint()
    delta.replace_run(grouped(rows, others, terms, config.tag_coverage), config.warehouse, PROTECTED, run)
    counts = images.groupBy("tag", outcome()).count()
    return [row.asDict() for row in counts.orderBy("tag", "outcome").collect()]


def main() -> None:
    """Command line of the job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="Airflow run whose shards are read")
    parser.add_argument("--into", choices=("detected", "protected"), required=True)
    parser.add_argument("--algorithm", default=settings().algorithm)
    arguments = parser.parse_args()
    log_to_stderr()
    config = settings()
    run = run_key(arguments.run)
    create_tables(config.warehouse)
    extraction = Extraction(
        algorithm=arguments.algorithm,
        max_pixels=config.max_image_pixels,
        max_bytes=config.max_image_bytes,
        models=config.prepared_dir / "models",
        others=OTHER_FINGERPRINTS if arguments.into == "protected" else (),
    )
    with log_context(run=run):
        spark = SparkSession.builder.appName(f"fingerprint_images {run}").getOrCreate()
        if arguments.into == "detected":
            done = fingerprint_crawl(spark, run, extraction, config)
        else:
            threshold = threshold_in_force(config, arguments.algorithm).value
            done = fingerprint_intake(spark, run, extraction, threshold, config)
        log.info("done\n%s", table(done, title=f"fingerprint_images into {arguments.into}"))
        spark.stop()


if __name__ == "__main__":
    main()
