"""`features` of the protected images in force -> shards of the search index (`copywatch.features.shards`).

Only what changed since the index was built travels: codes of images that are new, ids of those that are no longer in
force. Each shard that has such an image is written anew beside its old version, by one task; then the manifest is
replaced, and from that moment searches see all of it. The job may die at any line and run again: until the manifest is
replaced the old version holds. Without a change nothing is written.

    spark-submit index_features.py --run RUN
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from copywatch.features import itq
from copywatch.features.manifest import Manifest, ShardFile, clear, read_manifest, switch
from copywatch.features.shards import IDS_SUFFIX, Shard
from copywatch.fingerprint import algorithm_named, identity
from copywatch.lake import delta
from copywatch.lake.identity import run_key
from copywatch.lake.schemas import FEATURES, PROTECTED
from copywatch.lake.tables import create_tables
from copywatch.logs import log_context, log_to_stderr, table
from copywatch.settings import Settings, settings
from spark_jobs.comparing import in_force

log = logging.getLogger("spark_jobs.index_features")

_PLACES = "protected_id string, shard int"
_BUILT = "shard int, name string, images int, points long, added int, removed int"


def wanted(features: DataFrame, in_force: DataFrame) -> DataFrame:
    """Which image belongs into which shard: `protected_id` and `shard`, one row an image.

    Args:
        features: rows of `features`; those of another version of the codes are left out.
        in_force: rows of `protected`.
    """
    comparable = features.where(f.col("model") == itq.IDENTITY)
    return (
        comparable.join(in_force.select("protected_id"), "protected_id", "left_semi")
        .groupBy("protected_id")
        .agg(f.max("shard").alias("shard"))
    )


def indexed(spark: SparkSession, folder: Path, manifest: Manifest) -> DataFrame:
    """The same two columns, of the images that are in the index."""
    found = spark.createDataFrame([], _PLACES)
    for number, shard in manifest.shards.items():
        ids = spark.read.schema("protected_id string").parquet(str(folder / (shard.name + IDS_SUFFIX)))
        found = found.union(ids.where("protected_id IS NOT NULL").withColumn("shard", f.lit(number)))
    return found


def changes(wanted: DataFrame, indexed: DataFrame) -> DataFrame:
    """What to do: `protected_id`, `shard`, and `is_new`, false where the image is to be taken out."""
    keys = ["protected_id", "shard"]
    new = wanted.join(indexed, keys, "left_anti").withColumn("is_new", f.lit(True))
    return new.union(indexed.join(wanted, keys, "left_anti").withColumn("is_new", f.lit(False)))


def built(changes: DataFrame, features: DataFrame, folder: Path, manifest: Manifest) -> DataFrame:
    """Write a new version of each shard that has a change: its number, name and size, and how much changed.

    Args:
        changes: rows of `changes`, the function.
        features: rows of `features`.
        folder: of the index.
        manifest: the version that holds.
    """
    codes = features.where(f.col("model") == itq.IDENTITY).select("protected_id", "shard", "codes")
    new = changes.where("is_new").join(codes, ["protected_id", "shard"]).dropDuplicates(["protected_id"])
    gone = changes.where("NOT is_new").withColumn("codes", f.lit(None).cast("binary"))
    names = {number: shard.name for number, shard in manifest.shards.items()}

    def build(key: tuple[pa.Scalar, ...], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        number = int(key[0].as_py())
        shard = Shard.read(folder, names[number]) if number in names else Shard.empty()
        added = removed = 0
        for batch in batches:
            rows = pa.Table.from_batches([batch])
            fresh, expired = rows.filter(rows["is_new"]), rows.filter(pa.compute.invert(rows["is_new"]))
            shard.remove(expired["protected_id"].to_pylist())
            shard.add(fresh["protected_id"].to_pylist(), fresh["codes"].to_pylist())
            added, removed = added + fresh.num_rows, removed + expired.num_rows
        done = (number, shard.write(folder, number), shard.images, shard.points, added, removed)
        names_of_columns = [column.split()[0] for column in _BUILT.split(", ")]
        kinds = [pa.int32(), pa.string(), pa.int32(), pa.int64(), pa.int32(), pa.int32()]
        yield pa.RecordBatch.from_arrays(
            [pa.array([one], kind) for one, kind in zip(done, kinds, strict=True)], names_of_columns
        )

    columns = ("protected_id", "shard", "is_new", "codes")
    return new.select(*columns).union(gone.select(*columns)).groupBy("shard").applyInArrow(build, _BUILT)


def index_features(spark: SparkSession, algorithm: str, config: Settings) -> list[dict[str, object]]:
    """Bring the index up to date; returns a table of the shards that were written."""
    manifest = read_manifest(config.index).usable(config.index)
    features = delta.read(spark, config.warehouse, FEATURES)
    protected = delta.read(spark, config.warehouse, PROTECTED)
    alive = in_force(protected, identity(algorithm_named(algorithm)), datetime.now(UTC))
    places = wanted(features, alive).localCheckpoint()
    changed = changes(places, indexed(spark, config.index, manifest)).localCheckpoint()
    rows = built(changed, features, config.index, manifest).orderBy("shard").collect()
    if rows:
        files = {row["shard"]: ShardFile(row["name"], row["images"], row["points"]) for row in rows}
        manifest = manifest.with_shards(files)
        switch(config.index, manifest)
    clear(config.index, manifest)
    without = alive.select("protected_id").distinct().count() - places.count()
    if without:
        log.warning(
            "%d protected images have no local features of %s: they were protected before there were any, and are "
            "covered by the fingerprint alone",
            without,
            itq.IDENTITY,
        )
    return [row.asDict() for row in rows]


def main() -> None:
    """Command line of the job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="Airflow run; for the log, the index is of all runs")
    parser.add_argument("--algorithm", default=settings().algorithm)
    arguments = parser.parse_args()
    log_to_stderr()
    config = settings()
    run = run_key(arguments.run)
    create_tables(config.warehouse)
    with log_context(run=run):
        spark = SparkSession.builder.appName(f"index_features {run}").getOrCreate()
        done = index_features(spark, arguments.algorithm, config)
        log.info("done\n%s", table(done, title="index_features"))
        spark.stop()


if __name__ == "__main__":
    main()
