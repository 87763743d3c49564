"""A run's newly protected images x `seen` and `detected` -> `matches`: copies that were crawled before they were known.

The new images are few and the sightings many, so the sightings are streamed past the images
(`comparing.pairs_with_newcomers`). Found are the pairs that `match_images` would have found, had the images been
registered before the crawl. A sighting that is found moves from `seen` to `detected` and keeps its own run; its rows of
`matches` have the registration's run. The job may die at any line and run again, and so may the crawl's `match_images`:
neither loses or doubles a row.

    spark-submit match_seen.py --run RUN
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as f

from copywatch.features.itq import IDENTITY as CODES
from copywatch.fingerprint import algorithm_named, identity
from copywatch.lake import delta
from copywatch.lake.identity import run_key
from copywatch.lake.schemas import DETECTED, MATCHES, PROTECTED, SEEN, Table
from copywatch.lake.tables import create_tables, table_url
from copywatch.logs import log_context, log_to_stderr, table
from copywatch.matching import Verdict
from copywatch.matching.pairs import OF_SIGHTING, PAIRS
from copywatch.settings import Settings, settings
from copywatch.threshold import threshold_in_force
from spark_jobs.comparing import (
    PAIR,
    compared,
    distinct_pairs,
    in_force,
    matches,
    pairs_with_newcomers,
    terms_of,
    told,
    write_matches,
)
from spark_jobs.second_stage import unverified

log = logging.getLogger("spark_jobs.match_seen")

ROWS_A_BATCH = 8192
"""Rows handed to Python at once: sightings carry no image bytes, which the usual number is meant for."""


def unheard(pairs: DataFrame, standing: DataFrame, protected: DataFrame, every_protected: DataFrame) -> DataFrame:
    """Of pairs with new images those that owners are to be told of, considering what was found before.

    A new image that is farther from a sighting than one of another photo is not told of, as in `match_images`; nor is
    one whose owner had a match of this sighting with the same photo. What a person refused makes no image the nearest.

    Args:
        pairs: each pair of a sighting and a new image once.
        standing: rows of `matches` of other runs.
        protected: rows of `compared` that are in force.
        every_protected: rows of `compared`, in force or not.
    """
    of_these = standing.join(pairs.select("sighting_id").distinct(), "sighting_id", "left_semi")
    photos = every_protected.select("protected_id", "group_id").distinct()
    told_of = of_these.where("state <> 'different'")
    heard = told_of.join(photos, "protected_id").select("sighting_id", "owner", "group_id").distinct()
    known = protected.select("protected_id", "group_id", "registered_at", f.col("run").alias("registered_run"))
    rivals = (
        told_of.where("state <> 'refused'")
        .join(known.dropDuplicates(["protected_id"]), "protected_id")
        .withColumn("rule", f.coalesce("rule", f.lit("paper")))
        # Nothing is verified of the new ones yet: by distance alone, as they are.
        .withColumn("verification", f.lit(None).cast("string"))
        .withColumn("stands", f.lit(None).cast("boolean"))
        .select(*PAIRS.names)
    )
    every = pairs.withColumn("is_new", f.lit(True)).unionByName(rivals.withColumn("is_new", f.lit(False)))
    fresh = told(every).where("is_new").drop("is_new")
    return fresh.join(heard, ["sighting_id", "owner", "group_id"], "left_anti").select(*PAIRS.names)


def bring_in(spark: SparkSession, rows: DataFrame, warehouse: str, target: Table) -> None:
    """Put sightings into a table, but for those that are there."""
    same = "t.sighting_id = s.sighting_id AND t.run = s.run AND t.algorithm = s.algorithm"
    merge = DeltaTable.forPath(spark, table_url(warehouse, target)).alias("t").merge(rows.alias("s"), same)
    merge.whenNotMatchedInsertAll().execute()


def take_out(spark: SparkSession, rows: DataFrame, warehouse: str, source: Table) -> None:
    """Take sightings out of a table."""
    same = "t.sighting_id = s.sighting_id AND t.algorithm = s.algorithm"
    tags = ", ".join(f"'{row['tag']}'" for row in rows.select("tag").distinct().collect())
    leaving = rows.select("sighting_id", "algorithm").distinct().alias("s")
    merge = DeltaTable.forPath(spark, table_url(warehouse, source)).alias("t")
    # Named tags: the files of the others are not read.
    merge.merge(leaving, f"t.tag IN ({tags}) AND {same}").whenMatchedDelete().execute()


def move(spark: SparkSession, ids: DataFrame, version: str, warehouse: str, source: Table, target: Table) -> int:
    """Move sightings from one table to the other; returns how many rows. They are in both before they leave the one."""
    if ids.isEmpty():
        return 0
    rows = (
        delta.read(spark, warehouse, source)
        .where(f.col("algorithm") == version)
        .join(f.broadcast(ids), "sighting_id", "left_semi")
        .dropDuplicates(["sighting_id", "run"])
        .localCheckpoint()
    )
    count = rows.count()
    if count:
        bring_in(spark, rows, warehouse, target)
        take_out(spark, rows, warehouse, source)
    return count


def match_seen(
    spark: SparkSession, run: str, algorithm: str, threshold: float, config: Settings
) -> list[dict[str, object]]:
    """Match a run's newly protected images with all sightings; returns a table of what was found."""
    now = datetime.now(UTC)
    version = identity(algorithm_named(algorithm))
    terms = terms_of(algorithm, threshold, config)
    every_protected = delta.read(spark, config.warehouse, PROTECTED)
    protected = compared(in_force(every_protected, version, now))
    # `detected` first: a crawl's job that runs meanwhile puts a sighting into `seen` before it takes it out here.
    of_version = [
        delta.read(spark, config.warehouse, one).where(f.col("algorithm") == version) for one in (DETECTED, SEEN)
    ]
    sightings = of_version[0].unionByName(of_version[1])
    # A checkpoint: few rows, which are counted and collected, of a table that holds all images.
    newcomers = protected.where(f.col("run") == run).localCheckpoint()
    streamed = pairs_with_newcomers(sightings.select(*OF_SIGHTING), newcomers, terms, config.tag_coverage)
    pairs = distinct_pairs(streamed).localCheckpoint()
    standing = delta.read(spark, config.warehouse, MATCHES).where(f.col("algorithm").isin(version, CODES))
    undecided = standing.where((f.col("run") == run) & f.col("decided_by").isNull()).select(*PAIR)
    if pairs.isEmpty() and undecided.isEmpty():
        return _summary(newcomers.count(), {}, 0)
    fresh = unheard(pairs, standing.where(f.col("run") != run), protected, compared(every_protected))
    # What an earlier try reported stays, as long as it lies within Th.
    found = distinct_pairs(fresh.union(pairs.join(undecided, PAIR, "left_semi"))).localCheckpoint()
    withdrawn = undecided.join(found, PAIR, "left_anti").localCheckpoint()
    remaining = standing.join(withdrawn, PAIR, "left_anti").select("sighting_id").union(found.select("sighting_id"))
    leaving = withdrawn.select("sighting_id").distinct().join(remaining, "sighting_id", "left_anti").localCheckpoint()
    coming = found.select("sighting_id").distinct()
    newest = Window.partitionBy("sighting_id").orderBy(f.col("crawled_at").desc(), "run")
    of_found = sightings.join(f.broadcast(coming), "sighting_id", "left_semi").withColumn(
        "rank", f.row_number().over(newest)
    )
    # Verified once the bytes were fetched again: none are kept of a sighting.
    rows = matches(of_found.where("rank = 1"), unverified(found), now).localCheckpoint()
    move(spark, leaving, version, config.warehouse, DETECTED, SEEN)
    moved = move(spark, coming, version, config.warehouse, SEEN, DETECTED)
    write_matches(spark, rows, config.warehouse, run, version)
    counts = {row["verdict"]: row["count"] for row in found.groupBy("verdict").count().collect()}
    return _summary(newcomers.count(), counts, moved)


def _summary(images: int, pairs: Mapping[int, int], moved: int) -> list[dict[str, object]]:
    return [
        {
            "new images": images,
            "found identical": pairs.get(Verdict.IDENTICAL, 0),
            "found similar": pairs.get(Verdict.SIMILAR, 0),
            "sightings back in play": moved,
        }
    ]


def main() -> None:
    """Command line of the job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="Airflow run whose protected images are matched")
    parser.add_argument("--algorithm", default=settings().algorithm)
    arguments = parser.parse_args()
    log_to_stderr()
    config = settings()
    run = run_key(arguments.run)
    algorithm = algorithm_named(arguments.algorithm)
    create_tables(config.warehouse)
    threshold = threshold_in_force(config, algorithm.name).value
    with log_context(run=run):
        spark = (
            SparkSession.builder.appName(f"match_seen {run}")
            .config("spark.sql.execution.arrow.maxRecordsPerBatch", ROWS_A_BATCH)
            .getOrCreate()
        )
        done = match_seen(spark, run, algorithm.name, threshold, config)
        log.info("done\n%s", table(done, title=f"match_seen, {identity(algorithm)}, Th = {threshold:.4f}"))
        spark.stop()


if __name__ == "__main__":
    main()
