"""`detected` x `protected` -> verdicts -> `matches`; sightings found different move to `seen`.

SRPITP, Algorithm 2. A sighting is compared with the protected images of its tags, best tag first, until the tags'
probabilities reach tau. The job recomputes the run's sightings from `detected` and `seen` together, so it may die at
any line and run again: no row is lost or doubled.

    spark-submit match_images.py --run RUN
"""

from __future__ import annotations

import argparse
import logging
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as f

from copywatch.fingerprint import algorithm_named, identity
from copywatch.lake import delta
from copywatch.lake.identity import run_key
from copywatch.lake.schemas import DETECTED, MATCHES, PROTECTED, SEEN
from copywatch.lake.tables import create_tables, table_url
from copywatch.logs import log_context, log_to_stderr, table
from copywatch.matching import FlatIndex, Verdict, search_code_of, tags_to_search
from copywatch.settings import Settings, settings

log = logging.getLogger("spark_jobs.match_images")

_SHARD_ROWS = 200_000
"""Protected images of one tag that one task holds: 54 MB of search codes."""
_PAIRS = "sighting_id string, protected_id string, registered_at timestamp, distance double"


def in_force(protected: DataFrame, algorithm: str, now: datetime) -> DataFrame:
    """Protected images that are compared: active, not expired, and of the same algorithm and version."""
    return protected.where(
        (f.col("status") == "active")
        & (f.col("algorithm") == algorithm)
        & (f.col("protected_until").isNull() | (f.col("protected_until") > f.lit(now)))
    )


def looked_up(sightings: DataFrame, coverage: float) -> DataFrame:
    """One row per sighting and tag that it is looked up under: column `search_tag`."""
    tags = f.udf(lambda probabilities: tags_to_search(probabilities, coverage), "array<string>")
    return sightings.select("sighting_id", "fingerprint", f.explode(tags("tags")).alias("search_tag"))


def nearest_in_tags(queries: DataFrame, protected: DataFrame, algorithm: str, shards: int = 1) -> DataFrame:
    """For each (sighting, search tag, shard) the nearest protected image: columns of `_PAIRS`.

    Args:
        queries: `sighting_id`, `fingerprint`, `search_tag`.
        protected: rows of the `protected` table.
        algorithm: name of the algorithm of both fingerprints.
        shards: parts that a tag's protected images are split into; every query meets each part.
    """
    code = search_code_of(algorithm_named(algorithm))
    parts = f.explode(f.array(*(f.lit(part) for part in range(shards))))
    left = queries.withColumn("shard", parts)
    right = protected.select("protected_id", "registered_at", "fingerprint", "tag").withColumn(
        "shard", f.pmod(f.xxhash64("protected_id"), f.lit(shards)).cast("int")
    )

    def compare(sightings: pd.DataFrame, originals: pd.DataFrame) -> pd.DataFrame:
        if sightings.empty or originals.empty:
            return pd.DataFrame(columns=["sighting_id", "protected_id", "registered_at", "distance"])
        # Equal distances fall to the image that was protected first, whichever row order Spark brings.
        originals = originals.sort_values(["registered_at", "protected_id"], ignore_index=True)
        found = FlatIndex(_matrix(originals["fingerprint"]), code).nearest(_matrix(sightings["fingerprint"]))
        chosen = originals.iloc[found.positions]
        return pd.DataFrame(
            {
                "sighting_id": sightings["sighting_id"].to_numpy(),
                "protected_id": chosen["protected_id"].to_numpy(),
                "registered_at": chosen["registered_at"].to_numpy(),
                "distance": found.distances,
            }
        )

    return (
        left.groupBy("search_tag", "shard").cogroup(right.groupBy("tag", "shard")).applyInPandas(compare, schema=_PAIRS)
    )


def _matrix(codes: pd.Series[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(codes), dtype=np.uint8).reshape(len(codes), -1)


def nearest(pairs: DataFrame) -> DataFrame:
    """The nearest protected image of each sighting over all its tags."""
    order = Window.partitionBy("sighting_id").orderBy("distance", "registered_at", "protected_id")
    return pairs.withColumn("rank", f.row_number().over(order)).where("rank = 1").drop("rank")


def judged(pairs: DataFrame, threshold: float, identical_bound: float) -> DataFrame:
    """Adds `verdict`, the paper's T (Formula 2), and leaves out T = 2."""
    verdict = f.when(f.col("distance") <= identical_bound, int(Verdict.IDENTICAL)).otherwise(int(Verdict.SIMILAR))
    return pairs.where(f.col("distance") <= max(threshold, identical_bound)).withColumn("verdict", verdict)


def matches(sightings: DataFrame, protected: DataFrame, pairs: DataFrame, threshold: float, now: datetime) -> DataFrame:
    """Rows of the `matches` table."""
    state = f.when(f.col("verdict") == int(Verdict.IDENTICAL), "certain").otherwise("doubtful")
    return (
        sightings.join(f.broadcast(pairs.drop("registered_at")), "sighting_id")
        .join(protected.select("protected_id", "owner"), "protected_id")
        .withColumn("threshold", f.lit(threshold))
        .withColumn("state", state)
        .withColumn("decided_by", f.lit(None))
        .withColumn("decided_at", f.lit(None))
        .withColumn("matched_at", f.lit(now))
    )


def write_matches(spark: SparkSession, rows: DataFrame, warehouse: str, run: str, algorithm: str) -> None:
    """Bring the run's rows of `matches` up to date; what a person decided stays as it is.

    A pair that an earlier run found becomes this run's: that run may have died before anybody was told of it.

    Args:
        spark: the session.
        rows: rows of the `matches` table.
        warehouse: URL of the folder of the tables.
        run: the run; its undecided pairs that `rows` lacks are deleted.
        algorithm: identity of the algorithm; rows of others are left alone.
    """
    table_ = DeltaTable.forPath(spark, table_url(warehouse, MATCHES))
    stale = f"t.run = '{run}' AND t.algorithm = '{algorithm}' AND t.decided_by IS NULL"
    (
        table_.alias("t")
        .merge(
            delta.conform(rows, MATCHES).alias("s"),
            "t.sighting_id = s.sighting_id AND t.protected_id = s.protected_id",
        )
        .whenMatchedUpdateAll(condition="t.decided_by IS NULL")
        .whenNotMatchedInsertAll()
        .whenNotMatchedBySourceDelete(condition=stale)
        .execute()
    )


def match_run(
    spark: SparkSession, run: str, algorithm: str, threshold: float, config: Settings
) -> list[dict[str, object]]:
    """Match a run's sightings; returns a table of what was found."""
    now = datetime.now(UTC)
    version = identity(algorithm_named(algorithm))
    # Rows of another version are neither compared nor replaced: they are all that is left of their sightings.
    comparable = (f.col("run") == run) & (f.col("algorithm") == version)
    only = f"algorithm = '{version}'"
    seen = delta.read(spark, config.warehouse, SEEN).where(comparable)
    # Checkpoints, not caches: Spark computes a cached table anew when one of the tables it came from is written to.
    sightings = (
        delta.read(spark, config.warehouse, DETECTED)
        .where(comparable)
        .unionByName(seen)
        .dropDuplicates(["sighting_id"])
        .localCheckpoint()
    )
    protected = in_force(delta.read(spark, config.warehouse, PROTECTED), version, now)
    shards = 1 + protected.count() // _SHARD_ROWS
    pairs = nearest_in_tags(looked_up(sightings, config.tag_coverage), protected, algorithm, shards)
    found = judged(nearest(pairs), threshold, config.identical_bound).localCheckpoint()
    write_matches(spark, matches(sightings, protected, found, threshold, now), config.warehouse, run, version)
    different = sightings.join(found.select("sighting_id"), "sighting_id", "left_anti")
    playing = sightings.join(found.select("sighting_id"), "sighting_id", "left_semi")
    returning = seen.join(found.select("sighting_id"), "sighting_id", "left_semi").localCheckpoint()
    moves_back = not returning.isEmpty()
    # Order matters: a sighting stands in the one table before it leaves the other, whichever way it goes.
    delta.replace_run(
        different.unionByName(returning) if moves_back else different, config.warehouse, SEEN, run, only=only
    )
    delta.replace_run(playing, config.warehouse, DETECTED, run, only=only)
    if moves_back:
        delta.replace_run(different, config.warehouse, SEEN, run, only=only)
    total = sightings.count()
    counts = {row["verdict"]: row["count"] for row in found.groupBy("verdict").count().collect()}
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
    parser.add_argument("--threshold", type=threshold_or_none, help="Th; default: the settings', else the algorithm's")
    arguments = parser.parse_args()
    log_to_stderr()
    config = settings()
    run = run_key(arguments.run)
    algorithm = algorithm_named(arguments.algorithm)
    chosen = arguments.threshold if arguments.threshold is not None else config.threshold
    threshold = chosen if chosen is not None else algorithm.threshold
    create_tables(config.warehouse)
    with log_context(run=run):
        spark = SparkSession.builder.appName(f"match_images {run}").getOrCreate()
        done = match_run(spark, run, algorithm.name, threshold, config)
        log.info("done\n%s", table(done, title=f"match_images, {identity(algorithm)}, Th = {threshold:.4f}"))
        spark.stop()


if __name__ == "__main__":
    main()
