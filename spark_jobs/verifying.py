"""Found pictures x protected ones -> verifications; DataFrames in, DataFrames out.

The part of the second stage that looks at pixels: whatever found a candidate, the two pictures are laid over each other
(`copywatch.verification`). A found picture is decoded once for all its sightings and candidates.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from copywatch.verification.candidate import found_or_reason, verification_of
from copywatch.verification.explained import Verified, standing
from copywatch.verification.rows import FOUND, ORIGINAL, VERIFICATION, found_of_row, found_row, verification_row

log = logging.getLogger("spark_jobs.verifying")

PICTURES = pa.schema([pa.field("sha256", pa.string()), *FOUND, pa.field("trouble", pa.string())])
"""A found picture by its bytes' SHA-256; `trouble` says why there is none, and is null where there is one."""

VERIFIED = pa.schema(
    [
        pa.field("sha256", pa.string()),
        pa.field("protected_id", pa.string()),
        *VERIFICATION,
        pa.field("stands", pa.bool_()),
    ]
)
"""A verified pair; `stands`: `copywatch.verification.explained.standing`."""


@dataclass(frozen=True)
class Limits:
    """Bounds of `copywatch.decode`. Plain values: they are sent to Spark's Python workers."""

    max_pixels: int
    max_bytes: int


def landed_images(spark: SparkSession, shards: Sequence[Path], wanted: DataFrame) -> DataFrame:
    """`sha256` and `bytes` of the landed images that are wanted, each once.

    Args:
        spark: the session.
        shards: landing shards, at least one.
        wanted: column `sha256`.
    """
    rows = spark.read.parquet(*(str(path) for path in shards)).where("bytes IS NOT NULL").select("sha256", "bytes")
    return rows.join(wanted.select("sha256").distinct(), "sha256", "left_semi").dropDuplicates(["sha256"])


def found_pictures(images: DataFrame, limits: Limits) -> DataFrame:
    """Rows of `PICTURES`, one for each of `sha256` and `bytes`."""

    def describe(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in batch.to_pylist():
                described = {"sha256": row["sha256"], **_described(row["bytes"], limits)}
                yield pa.RecordBatch.from_pylist([described], schema=PICTURES)

    return images.select("sha256", "bytes").mapInArrow(describe, from_arrow_schema(PICTURES))


def verified(wanted: DataFrame, pictures: DataFrame, features: DataFrame) -> DataFrame:
    """Rows of `VERIFIED`, one for each wanted pair whose picture is there.

    Args:
        wanted: columns sha256, protected_id, group_id, and verdict: T of the first stage, or null. Each pair once.
        pictures: rows of `PICTURES`.
        features: rows of the table `features`.
    """
    known = features.select("protected_id", *ORIGINAL).dropDuplicates(["protected_id"])
    originals = wanted.join(known, "protected_id", "left")

    def judge(pairs: pa.Table, found: pa.Table) -> pa.Table:
        if not pairs.num_rows or not found.num_rows:
            return VERIFIED.empty_table()
        return pa.Table.from_pylist(_verified(pairs.to_pylist(), found.to_pylist()[0]), schema=VERIFIED)

    return (
        originals.groupBy("sha256")
        .cogroup(pictures.groupBy("sha256"))
        .applyInArrow(judge, schema=from_arrow_schema(VERIFIED))
    )


def _described(data: bytes, limits: Limits) -> dict[str, Any]:
    found = found_or_reason(data, max_pixels=limits.max_pixels, max_bytes=limits.max_bytes)
    return {"trouble": found} if isinstance(found, str) else found_row(found)


def _verified(pairs: list[dict[str, Any]], picture: dict[str, Any]) -> list[dict[str, Any]]:
    """The pairs of one found picture."""
    found = picture["trouble"] or found_of_row(picture)
    done = [
        Verified(
            pair["protected_id"],
            pair["group_id"],
            pair["verdict"],
            verification_of(None if pair["codes"] is None else pair, found),
        )
        for pair in pairs
    ]
    return [
        {
            "sha256": picture["sha256"],
            "protected_id": one.protected_id,
            "stands": stands,
            **verification_row(one.verification),
        }
        for one, stands in zip(done, standing(done), strict=True)
    ]
