"""Sightings x protected images -> pairs within Th -> which owners are told; DataFrames in, DataFrames out.

What the jobs `match_images`, `match_seen` and `fingerprint_images` share. `pairs` are rows of
`copywatch.matching.pairs.PAIRS`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime

import pyarrow as pa
from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as f
from pyspark.sql.pandas.types import from_arrow_schema

from copywatch.features.itq import IDENTITY as CODES
from copywatch.fingerprint.views import VIEW
from copywatch.lake import delta
from copywatch.lake.schemas import MATCHES
from copywatch.lake.tables import table_url
from copywatch.matching.pairs import (
    OF_PROTECTED,
    OF_SIGHTING,
    PAIRS,
    Newcomers,
    PlainIndex,
    RescoredIndex,
    Terms,
    plain_pairs,
    rescored_pairs,
    same_file_pairs,
)
from copywatch.matching.tags import tags_to_search
from copywatch.matching.verdict import Verdict
from copywatch.rule import Rule
from copywatch.settings import Settings
from copywatch.threshold import rule_for
from copywatch.verification.verdict import FOUND_BY_RULE, Judgement

log = logging.getLogger("spark_jobs.comparing")

SHARD_ROWS = {Rule.RESCORED: 15_000, Rule.PAPER: 200_000}
"""Protected images of one tag that one task holds: 115 MB of views and index, or 54 MB of search codes."""

PASS_IMAGES = 5_000
"""Newly protected images that are collected, and sent to every task, at once: 33 MB of views, 5 MB of index."""

_PAIRS = from_arrow_schema(PAIRS)
PAIR = ["sighting_id", "protected_id"]
"""What names a pair, in joins."""

HAS_VIEWS = f"coalesce(length(views) > 0 AND length(views) % {VIEW.itemsize} = 0, false)"
"""SQL: whether a row's views are whole records; rows of an earlier version have none."""


def terms_of(algorithm: str, threshold: float, config: Settings) -> Terms:
    """What pairs of an algorithm's fingerprints are judged by, under the rule of the settings.

    Raises:
        SettingsError: no algorithm has that name.
    """
    return Terms.of(algorithm, rule_for(algorithm, config), threshold, config.identical_bound)


def in_force(protected: DataFrame, algorithm: str, now: datetime) -> DataFrame:
    """Protected images that are compared: active, not expired, and of the same algorithm and version."""
    return protected.where(
        (f.col("status") == "active")
        & (f.col("algorithm") == algorithm)
        & (f.col("protected_until").isNull() | (f.col("protected_until") > f.lit(now)))
    )


def compared(protected: DataFrame) -> DataFrame:
    """The columns `OF_PROTECTED`; an image without a group, written before there were groups, is its own."""
    return protected.withColumn("group_id", f.coalesce("group_id", "protected_id")).select(*OF_PROTECTED)


def looked_up(sightings: DataFrame, coverage: float) -> DataFrame:
    """One row per sighting and tag that it is looked up under: `OF_SIGHTING` and column `search_tag`."""
    tags = f.udf(lambda probabilities: tags_to_search(probabilities, coverage), "array<string>")
    return sightings.select(*OF_SIGHTING, f.explode(tags("tags")).alias("search_tag"))


def images_of_tags(protected: DataFrame) -> tuple[Counter[str], Counter[str]]:
    """How many protected images each tag has, with views and without: two rows a tag are collected, at most."""
    counts = protected.groupBy("tag", f.expr(HAS_VIEWS).alias("seeing")).count().collect()
    seeing, blind = (
        Counter({row["tag"]: row["count"] for row in counts if row["seeing"] is one}) for one in (True, False)
    )
    return seeing, blind


def shards_of_tags(images: Mapping[str, int], rule: Rule) -> dict[str, int]:
    """Into how many shards the protected images of each tag are split."""
    return {tag: -(-count // SHARD_ROWS[rule]) for tag, count in images.items()}


def pairs_in_tags(
    queries: DataFrame, protected: DataFrame, terms: Terms, rule: Rule, shards: Mapping[str, int]
) -> DataFrame:
    """Pairs of sightings and protected images that met under a tag.

    Under "rescored" all pairs with T < 2; under the paper's rule, for each (sighting, tag, shard), the nearest image
    alone, if its T < 2 (Algorithm 2).

    Args:
        queries: rows of `looked_up`.
        protected: rows of `compared`.
        terms: what pairs are judged by.
        rule: the rule; `queries` and `protected` have views if it is "rescored".
        shards: of `shards_of_tags`. Every query meets each shard of its tag; a tag without any meets nothing.
    """
    if not shards:
        return queries.sparkSession.createDataFrame([], _PAIRS)
    of_tag = f.create_map(*(f.lit(one) for tag, count in shards.items() for one in (tag, count)))
    split = f.pmod(f.xxhash64("protected_id"), f.element_at(of_tag, f.col("tag"))).cast("int")
    left = (
        queries.where(f.col("search_tag").isin(*shards))
        .withColumn("shard", f.explode(f.sequence(f.lit(0), f.element_at(of_tag, f.col("search_tag")) - 1)))
        .drop("tags")
    )
    right = protected.where(f.col("tag").isin(*shards)).withColumn("shard", split)

    def compare(sightings: pa.Table, originals: pa.Table) -> pa.Table:
        if not sightings.num_rows or not originals.num_rows:
            return PAIRS.empty_table()
        if rule is Rule.RESCORED:
            return rescored_pairs(RescoredIndex(originals), sightings, terms)
        return plain_pairs(PlainIndex(originals, terms.algorithm), sightings, terms, nearest_only=True)

    return (
        left.groupBy("search_tag", "shard").cogroup(right.groupBy("tag", "shard")).applyInArrow(compare, schema=_PAIRS)
    )


def pairs_of_same_files(sightings: DataFrame, protected: DataFrame, terms: Terms) -> DataFrame:
    """Pairs with the same bytes, under whatever tags: T = 0, whatever the picture shows."""
    of_protected = ("protected_id", "owner", "group_id", "registered_at", "run")
    rows = sightings.select("sighting_id", "sha256", "views").join(protected.select("sha256", *of_protected), "sha256")

    def judge(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            same = pa.Table.from_batches([batch])
            yield from same_file_pairs(same, same, terms).to_batches()

    return rows.mapInArrow(judge, _PAIRS)


def all_pairs(sightings: DataFrame, protected: DataFrame, terms: Terms, coverage: float) -> DataFrame:
    """Every pair of a sighting and a protected image with T < 2 that tags or equal bytes bring together.

    Under "rescored" rows that were written before there were views are compared by the paper's rule, and warned of.

    Args:
        sightings: rows with `OF_SIGHTING`; read several times.
        protected: rows of `compared`.
        terms: what pairs are judged by.
        coverage: tau.
    """
    queries = looked_up(sightings, coverage)
    found = pairs_of_same_files(sightings, protected, terms)
    images, images_without = images_of_tags(protected)
    every = shards_of_tags(images + images_without, Rule.PAPER)
    if terms.rule is Rule.PAPER:
        return found.union(pairs_in_tags(queries, protected, terms, Rule.PAPER, every))
    seeing, blind = protected.where(HAS_VIEWS), protected.where(f"NOT {HAS_VIEWS}")
    with_views = queries.where(HAS_VIEWS)
    found = found.union(pairs_in_tags(with_views, seeing, terms, Rule.RESCORED, shards_of_tags(images, Rule.RESCORED)))
    if shards := shards_of_tags(images_without, Rule.PAPER):
        log.warning(
            "protected images without views, of tags %s, fingerprinted by an earlier version: compared by the paper's "
            "rule, upright only",
            ", ".join(sorted(shards)),
        )
        found = found.union(pairs_in_tags(with_views, blind, terms, Rule.PAPER, shards))
    if not sightings.where(f"NOT {HAS_VIEWS}").isEmpty():
        log.warning("sightings without views, fingerprinted by an earlier version: compared by the paper's rule")
        without = queries.where(f"NOT {HAS_VIEWS}")
        found = found.union(pairs_in_tags(without, protected, terms, Rule.PAPER, every))
    return found


def pairs_with_newcomers(sightings: DataFrame, newcomers: DataFrame, terms: Terms, coverage: float) -> DataFrame:
    """The same pairs as `all_pairs`, for few protected images and however many sightings: these are streamed, each
    partition once for every `PASS_IMAGES` images, and neither shuffled nor collected.

    By the paper's rule all images within Th are paired, not the nearest alone.

    Args:
        sightings: rows with `OF_SIGHTING`.
        newcomers: rows of `compared`; they are collected, one pass's at a time.
        terms: what pairs are judged by.
        coverage: tau.
    """
    spark = sightings.sparkSession
    passes = -(-newcomers.count() // PASS_IMAGES)
    found = spark.createDataFrame([], _PAIRS)
    for number in range(passes):
        chosen = newcomers.where(f.pmod(f.xxhash64("protected_id"), f.lit(passes)) == number).toArrow()
        shared = spark.sparkContext.broadcast(chosen)

        def compare(batches: Iterator[pa.RecordBatch], shared: object = shared) -> Iterator[pa.RecordBatch]:
            yield from Newcomers(shared.value, terms, coverage).pairs(batches)  # type: ignore[attr-defined]

        found = found.union(sightings.select(*OF_SIGHTING).mapInArrow(compare, _PAIRS))
    return found


def nearness() -> list[Column]:
    """The order of a sighting's pairs: T, then verification, then distance.

    Distances of two rules do not compare: "rescored" is first, then the paper's, then what verification alone found.
    Equal ones fall to the image that was protected first.
    """
    verification = f.when(f.col("verification") == Judgement.CERTAIN.value, 0)
    verification = verification.when(f.col("verification") == Judgement.DIFFERENT.value, 2).otherwise(1)
    rule = f.when(f.col("rule") == Rule.PAPER.value, 1).when(f.col("rule") == FOUND_BY_RULE, 2).otherwise(0)
    return [f.col("verdict"), verification, rule, f.col("distance"), f.col("registered_at"), f.col("protected_id")]


def nearest(pairs: DataFrame) -> DataFrame:
    """Each sighting's nearest protected image alone, SRPITP's Algorithm 2; and with it what stands by verification."""
    return _first(pairs, "sighting_id").unionByName(told(pairs.where("stands"))).dropDuplicates(PAIR)


def told(pairs: DataFrame) -> DataFrame:
    """Each sighting's nearest image, and with it one pair for every other owner of the same photo; likewise of each
    further photo that the sighting shows by verification (`stands`).

    An owner is told if an image of theirs is in the group of the nearest one and within Th itself; of several the
    nearest. A group makes nobody's match: it only lets further owners hear of the copy.
    """
    of_sighting = Window.partitionBy("sighting_id").orderBy(*nearness())
    shown = (
        pairs.withColumn("photo", f.first("group_id").over(of_sighting))
        .where("group_id = photo OR coalesce(stands, false)")
        .drop("photo")
    )
    return _first(shown, "sighting_id", "owner", "group_id")


def distinct_pairs(pairs: DataFrame) -> DataFrame:
    """Each pair once, as its best comparison has it: one may be found under equal bytes and under a tag."""
    return _first(pairs, "sighting_id", "protected_id")


def _first(pairs: DataFrame, *keys: str) -> DataFrame:
    ranked = pairs.withColumn("rank", f.row_number().over(Window.partitionBy(*keys).orderBy(*nearness())))
    return ranked.where("rank = 1").drop("rank")


def matches(sightings: DataFrame, pairs: DataFrame, now: datetime, *, alert_certain: bool = False) -> DataFrame:
    """Rows of the `matches` table, and `registered_run`: the run that protected the image.

    Args:
        sightings: rows with the sightings' columns.
        pairs: the pairs to tell of, with the columns of verification.
        now: of `matched_at`.
        alert_certain: what verification is certain of is alerted at once, as what is identical.
    """
    at_once = f.col("verdict") == int(Verdict.IDENTICAL)
    if alert_certain:
        at_once |= f.coalesce(f.col("verification") == Judgement.CERTAIN.value, f.lit(False))
    state = f.when(at_once, "certain").when(f.col("verification") == Judgement.DIFFERENT.value, "different")
    algorithm = f.when(f.col("rule") == FOUND_BY_RULE, CODES).otherwise(f.col("algorithm"))
    return (
        sightings.join(f.broadcast(pairs.drop("registered_at", "group_id", "stands")), "sighting_id")
        .withColumn("state", state.otherwise("doubtful"))
        .withColumn("algorithm", algorithm)
        .withColumn("decided_by", f.lit(None))
        .withColumn("decided_at", f.lit(None))
        .withColumn("matched_at", f.lit(now))
    )


def write_matches(spark: SparkSession, rows: DataFrame, warehouse: str, run: str, algorithm: str) -> None:
    """Bring the run's rows of `matches` up to date; what a person decided stays as it is.

    A pair that an earlier crawl's run found becomes this run's: that run may have died before anybody was told of it.
    A pair that was found when its image was registered stays the registration's, which tells of it.

    Args:
        spark: the session.
        rows: rows of `matches`, the function.
        warehouse: URL of the folder of the tables.
        run: the run; its undecided pairs that `rows` lacks are deleted.
        algorithm: identity of the algorithm; rows of others are left alone, but for those of the second stage.
    """
    own = f"t.run = '{run}'"
    taken_over = f"(t.run <> s.registered_run AND s.registered_run <> '{run}')"
    columns = {name: f"s.{name}" for name in MATCHES.columns.names}
    source = rows.withColumn("run", f.lit(run))
    conformed = delta.conform(source, MATCHES, "registered_run")
    (
        DeltaTable.forPath(spark, table_url(warehouse, MATCHES))
        .alias("t")
        .merge(conformed.alias("s"), "t.sighting_id = s.sighting_id AND t.protected_id = s.protected_id")
        .whenMatchedUpdate(condition=f"t.decided_by IS NULL AND ({own} OR {taken_over})", set=columns)
        .whenNotMatchedInsert(values=columns)
        .whenNotMatchedBySourceDelete(
            condition=f"{own} AND t.algorithm IN ('{algorithm}', '{CODES}') AND t.decided_by IS NULL"
        )
        .execute()
    )
