"""`detected` x `protected` -> verdicts -> `matches`; sightings found different move to `seen`.

SRPITP, Algorithm 2. A sighting is compared with the protected images of its tags, best tag first, until the tags'
probabilities reach tau. What comes of that, and what local features find beside it, is verified (`second_stage`). The
job recomputes the run's sightings from `detected` and `seen` together, so it may die at
any line and run again: no row is lost or doubled.

    spark-submit match_images.py --run RUN
"""

from __future__ import annotations

import argparse
import logging
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as f

from copywatch.features.itq import IDENTITY as CODES
from copywatch.fingerprint import algorithm_named, identity
from copywatch.lake import delta
from copywatch.lake.identity import run_key
from copywatch.lake.schemas import DETECTED, MATCHES, PROTECTED, SEEN
from copywatch.lake.tables import create_tables
from copywatch.logs import log_context, log_to_stderr, table
from copywatch.matching import Verdict
from copywatch.rule import Rule
from copywatch.settings import Settings, settings
from copywatch.threshold import threshold_in_force
from spark_jobs.comparing import (
    all_pairs,
    compared,
    distinct_pairs,
    in_force,
    matches,
    nearest,
    terms_of,
    told,
    write_matches,
)
from spark_jobs.second_stage import Run, second_stage, unverified, verification_counts

log = logging.getLogger("spark_jobs.match_images")


def still_matches(pairs: DataFrame, standing: DataFrame) -> DataFrame:
    """Pairs that an earlier try reported and that lie within Th still: they stay, whatever is nearer meanwhile."""
    return pairs.join(standing.select("sighting_id", "protected_id"), ["sighting_id", "protected_id"], "left_semi")


def match_run(
    spark: SparkSession, run: str, algorithm: str, threshold: float, config: Settings
) -> list[dict[str, object]]:
    """Match a run's sightings; returns a table of what was found."""
    now = datetime.now(UTC)
    version = identity(algorithm_named(algorithm))
    terms = terms_of(algorithm, threshold, config)
    # Rows of another version are neither compared nor replaced: they are all that is left of their sightings.
    comparable = (f.col("run") == run) & (f.col("algorithm") == version)
    only = f"algorithm = '{version}'"
    detected, seen = (delta.read(spark, config.warehouse, one).where(comparable) for one in (DETECTED, SEEN))
    of_sighting = Window.partitionBy("sighting_id")
    # Checkpoints, not caches: Spark computes a cached table anew when one of the tables it came from is written to.
    sightings = (
        detected.withColumn("was_seen", f.lit(False))
        .unionByName(seen.withColumn("was_seen", f.lit(True)))
        .withColumn("rank", f.row_number().over(of_sighting.orderBy("was_seen")))
        .withColumn("was_seen", f.max("was_seen").over(of_sighting))
        .where("rank = 1")
        .drop("rank")
        .localCheckpoint()
    )
    protected = compared(in_force(delta.read(spark, config.warehouse, PROTECTED), version, now))
    standing = delta.read(spark, config.warehouse, MATCHES).where(f.col("algorithm").isin(version, CODES))
    pairs = distinct_pairs(all_pairs(sightings, protected, terms, config.tag_coverage)).localCheckpoint()
    own = standing.where(f.col("run") == run)
    if config.second_stage:
        pairs = second_stage(spark, run, Run(sightings, pairs, protected, own), config).localCheckpoint()
    else:
        pairs = unverified(pairs)
    if terms.rule is Rule.PAPER:
        found = nearest(pairs).localCheckpoint()
    else:
        undecided = own.where("decided_by IS NULL")
        found = distinct_pairs(told(pairs).union(still_matches(pairs, undecided))).localCheckpoint()
    # Found when an image was registered later: such a sighting is in play although this run may find it different.
    elsewhere = standing.where(f.col("run") != run).select("sighting_id")
    in_play = found.select("sighting_id").union(elsewhere).distinct().localCheckpoint()
    rows = matches(sightings, found, now, alert_certain=config.alert_certain)
    write_matches(spark, rows, config.warehouse, run, version)
    different = sightings.join(in_play, "sighting_id", "left_anti")
    playing = sightings.join(in_play, "sighting_id", "left_semi")
    returning = playing.where("was_seen")
    moves_back = not returning.isEmpty()
    # Order matters: a sighting stands in the one table before it leaves the other, whichever way it goes.
    delta.replace_run(
        different.unionByName(returning) if moves_back else different, config.warehouse, SEEN, run, only=only
    )
    delta.replace_run(playing, config.warehouse, DETECTED, run, only=only)
    if moves_back:
        delta.replace_run(different, config.warehouse, SEEN, run, only=only)
    log.info("verified\n%s", table(verification_counts(found), title="pairs to tell of, as the second stage has them"))
    return verdict_counts(found, sightings.count())


def verdict_counts(found: DataFrame, total: int) -> list[dict[str, object]]:
    """How many of `total` sightings have which T, by their best pair."""
    best = found.groupBy("sighting_id").agg(f.min("verdict").alias("verdict"))
    counts = {row["verdict"]: row["count"] for row in best.groupBy("verdict").count().collect()}
    counts[int(Verdict.DIFFERENT)] = total - sum(counts.values())
    return [
        {"T": int(verdict), "verdict": verdict.name.lower(), "sightings": counts.get(verdict, 0)} for verdict in Verdict
    ]


def threshold_or_none(text: str) -> float | None:
    """A threshold of a trigger form, where an empty field arrives as `None`."""
    return None if text in {"", "None"} else float(text)


def main() -> None:
    """Command line of the job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="Airflow run whose sightings are matched")
    parser.add_argument("--algorithm", default=settings().algorithm)
    parser.add_argument("--threshold", type=threshold_or_none, help="Th; default: the one in force")
    arguments = parser.parse_args()
    log_to_stderr()
    config = settings()
    run = run_key(arguments.run)
    algorithm = algorithm_named(arguments.algorithm)
    chosen = arguments.threshold
    create_tables(config.warehouse)
    threshold = chosen if chosen is not None else threshold_in_force(config, algorithm.name).value
    with log_context(run=run):
        spark = SparkSession.builder.appName(f"match_images {run}").getOrCreate()
        done = match_run(spark, run, algorithm.name, threshold, config)
        rule = terms_of(algorithm.name, threshold, config).rule
        log.info("done\n%s", table(done, title=f"match_images, {identity(algorithm)}, {rule}, Th = {threshold:.4f}"))
        spark.stop()


if __name__ == "__main__":
    main()
