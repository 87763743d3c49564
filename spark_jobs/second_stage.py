"""Pairs of the first stage -> the same, verified, and the pairs that the second stage alone finds.

What the first stage is not sure of (no pair with T = 0) is looked up by its local features; candidates of both stages
are verified. T stays the first stage's. A pair that only the second finds is "similar" (T = 1) by the codes' own name,
at the distance 1 - probability.

Bytes are needed for that, and a run's landing shards are released once its matches are recorded. A re-run after that
keeps what was found when they were there.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as f
from pyspark.sql.pandas.types import from_arrow_schema

from copywatch.features.itq import IDENTITY as CODES
from copywatch.lake import delta, landing
from copywatch.lake.schemas import FEATURES
from copywatch.matching.pairs import PAIRS
from copywatch.matching.verdict import Verdict
from copywatch.settings import Settings
from copywatch.verification.candidate import MOST_FIRST, NO_BYTES
from copywatch.verification.model import model
from copywatch.verification.rows import VERIFICATION, VERIFICATION_COLUMNS
from copywatch.verification.verdict import FOUND_BY_RULE, Judgement
from spark_jobs.comparing import PAIR, nearness
from spark_jobs.looking_up import candidates
from spark_jobs.verifying import Limits, found_pictures, landed_images, verified

log = logging.getLogger("spark_jobs.second_stage")

_FOUND = (Judgement.CERTAIN.value, Judgement.DOUBTFUL.value)


@dataclass(frozen=True)
class Run:
    """What the second stage of one run works on.

    Attributes:
        sightings: columns `sighting_id` and `sha256`; read several times.
        pairs: rows of `PAIRS`, each pair once; read several times.
        protected: rows of `comparing.compared` that are in force.
        standing: rows of `matches` of this run.
    """

    sightings: DataFrame
    pairs: DataFrame
    protected: DataFrame
    standing: DataFrame


def unverified(pairs: DataFrame) -> DataFrame:
    """The pairs with empty columns of verification: for a chain without a second stage."""
    return _with_nulls(pairs, [name for name in VERIFICATION_COLUMNS if name != "verification"])


def second_stage(spark: SparkSession, run: str, work: Run, config: Settings) -> DataFrame:
    """Rows of `PAIRS` with the further columns of `VERIFICATION`: the run's pairs, and those found here alone."""
    shards = landing.shards(config.landing, run)
    if not shards:
        return with_verifications(work, kept_verifications(work.standing))
    images = landed_images(spark, shards, work.sightings)
    limits = Limits(config.max_image_pixels, config.max_image_bytes)
    # Checkpoints: each is read several times, and costs tens of milliseconds an image.
    pictures = found_pictures(images, limits).localCheckpoint()
    features = delta.read(spark, config.warehouse, FEATURES).where(f.col("model") == CODES)
    bytes_there = work.sightings.join(pictures.select("sha256"), "sha256", "left_semi").select("sighting_id")
    work = replace(work, pairs=nearest_pairs(work.pairs, bytes_there).localCheckpoint())
    sure = work.pairs.where(f.col("verdict") == int(Verdict.IDENTICAL)).select("sighting_id")
    unsure = work.sightings.join(sure, "sighting_id", "left_anti").select("sha256").distinct()
    looked_up = candidates(pictures.join(unsure, "sha256", "left_semi"), config.index)
    wanted = wanted_pairs(work, looked_up).localCheckpoint()
    of_pictures = verified(wanted, pictures, features).localCheckpoint()
    fresh = work.sightings.select("sighting_id", "sha256").join(of_pictures, "sha256").drop("sha256")
    kept = kept_verifications(work.standing.join(bytes_there, "sighting_id", "left_anti"))
    return with_verifications(work, fresh.unionByName(kept))


def nearest_pairs(pairs: DataFrame, verifiable: DataFrame) -> DataFrame:
    """The pairs, of the sightings in `verifiable` only the `MOST_FIRST` nearest."""
    ranked = pairs.withColumn("rank", f.row_number().over(Window.partitionBy("sighting_id").orderBy(*nearness())))
    farther = ranked.where(f.col("rank") > MOST_FIRST).join(verifiable, "sighting_id", "left_semi")
    return pairs.join(farther.select(*PAIR), PAIR, "left_anti")


def wanted_pairs(work: Run, looked_up: DataFrame) -> DataFrame:
    """What is to be verified: `sha256`, `protected_id`, `group_id` and `verdict`, each pair once.

    Args:
        work: the run.
        looked_up: columns `sha256` and `protected_id`; of images not in force the pairs are left out.
    """
    of_sightings = work.pairs.join(work.sightings.select("sighting_id", "sha256"), "sighting_id")
    first = of_sightings.select("sha256", "protected_id", "group_id", "verdict")
    known = work.protected.select("protected_id", "group_id")
    second = looked_up.select("sha256", "protected_id").join(known, "protected_id")
    second = second.select("sha256", "protected_id", "group_id", f.lit(None).cast("tinyint").alias("verdict"))
    every = first.union(second).groupBy("sha256", "protected_id")
    return every.agg(f.first("group_id").alias("group_id"), f.min("verdict").alias("verdict"))


def kept_verifications(standing: DataFrame) -> DataFrame:
    """What an earlier try found of sightings whose bytes are gone; what it found, it told of."""
    told = f.col("verification").isin(*_FOUND)
    return standing.where("verifier IS NOT NULL").select(*PAIR, *VERIFICATION_COLUMNS, told.alias("stands"))


def with_verifications(work: Run, verifications: DataFrame) -> DataFrame:
    """The run's pairs with their verifications, and pairs that have none, of what verification found.

    Args:
        work: the run.
        verifications: columns sighting_id, protected_id, those of `VERIFICATION`, and `stands`; each pair once.
    """
    of_first = work.pairs.drop("verification", "stands").join(verifications, PAIR, "left")
    of_first = of_first.withColumn(
        "unverified", f.when(f.col("verifier").isNull(), f.lit(NO_BYTES)).otherwise(f.col("unverified"))
    )
    alone = verifications.where(f.col("verification").isin(*_FOUND)).join(work.pairs.select(*PAIR), PAIR, "left_anti")
    known = work.protected.select(
        "protected_id", "owner", "group_id", "registered_at", f.col("run").alias("registered_run")
    )
    of_second = (
        alone.join(known.dropDuplicates(["protected_id"]), "protected_id")
        .withColumn("verdict", f.lit(int(Verdict.SIMILAR)).cast("tinyint"))
        .withColumn("distance", 1 - f.col("probability"))
        .withColumn("plain_distance", f.lit(None).cast("double"))
        .withColumn("rule", f.lit(FOUND_BY_RULE))
        .withColumn("threshold", f.lit(1 - model().doubtful))
        .withColumn("view", f.lit(None).cast("string"))
    )
    columns = [*PAIRS.names, *(name for name in VERIFICATION_COLUMNS if name != "verification")]
    return of_first.select(*columns).unionByName(of_second.select(*columns))


def verification_counts(found: DataFrame) -> list[dict[str, object]]:
    """How many of the pairs to tell of verification calls what."""
    said = f.coalesce("verification", f.lit("not verified"))
    alone = f.sum((f.col("rule") == FOUND_BY_RULE).cast("int"))
    rows = found.groupBy(said.alias("verification")).agg(f.count("*").alias("pairs"), alone.alias("second stage alone"))
    return sorted((row.asDict() for row in rows.collect()), key=lambda row: row["verification"])


def _with_nulls(rows: DataFrame, names: list[str]) -> DataFrame:
    kinds = from_arrow_schema(VERIFICATION)
    nulls: list[Column] = [f.lit(None).cast(kinds[name].dataType).alias(name) for name in names]
    return rows.select("*", *nulls)
