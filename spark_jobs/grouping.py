"""Which newly protected images show a photo that is protected already: their groups.

Two owners may register the same photo, and one owner two versions of it. A sighting's nearest image would hide the
others, so its group is looked at instead (`comparing.told`).

An image joins the group of the nearest image that was registered before it, if that lies within Th; else it begins its
own. So a group may grow link by link, and its ends need not be alike. That costs nothing but a look: an owner is told
of a copy only if an image of theirs lies within Th of the copy itself. And no image is ever in two groups, or changes
its group, so a retry finds the same ones.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as f

from copywatch.matching.pairs import OF_SIGHTING, Terms
from spark_jobs.comparing import compared, pairs_with_newcomers

_SINCE = ("registered_at", "application_id")
"""The order of registration; of one intake all have one time."""


def grouped(rows: DataFrame, others: DataFrame, terms: Terms, coverage: float) -> DataFrame:
    """The rows with `group_id`.

    Collected are the run's own images, a pass's at a time, and one line for each that has a group; never `others`.

    Args:
        rows: one run's rows of `protected` but `group_id`; read several times.
        others: rows of `protected` of all other runs, of the same algorithm and version.
        terms: what pairs are judged by.
        coverage: tau.
    """
    begun = rows.withColumn("group_id", f.lit(None).cast("string"))
    every = others.unionByName(begun)
    # An older image stands for a sighting: is it a copy of the new one?
    sightings = every.withColumn("sighting_id", f.col("protected_id")).select(*OF_SIGHTING)
    pairs = (
        pairs_with_newcomers(sightings, compared(begun), terms, coverage)
        .where("sighting_id <> protected_id")
        .select("sighting_id", "protected_id", "verdict", "rule", "distance")
        .localCheckpoint()
    )
    if pairs.isEmpty():
        return rows.withColumn("group_id", f.col("protected_id"))
    groups = _resolved(_nearest_older(pairs, every, begun))
    known = rows.sparkSession.createDataFrame(list(groups.items()), "protected_id string, group_id string")
    joined = rows.join(f.broadcast(known), "protected_id", "left")
    return joined.withColumn("group_id", f.coalesce("group_id", "protected_id"))


def _nearest_older(pairs: DataFrame, every: DataFrame, rows: DataFrame) -> DataFrame:
    """Of each new image that has one the nearest older image, `older_id`, and its group; null: it is of the run too."""
    older = every.select(
        f.col("protected_id").alias("sighting_id"),
        f.struct(*_SINCE).alias("older_since"),
        f.coalesce("group_id", "protected_id").alias("older_group"),
    )
    new = rows.select("protected_id", f.struct(*_SINCE).alias("since"))
    order = Window.partitionBy("protected_id").orderBy(
        "verdict", f.col("rule") == "paper", "distance", "older_since", "sighting_id"
    )
    return (
        pairs.join(older, "sighting_id")
        .join(new, "protected_id")
        .where("older_since < since")
        .withColumn("rank", f.row_number().over(order))
        .where("rank = 1")
        .select("protected_id", "since", f.col("sighting_id").alias("older_id"), "older_group")
    )


def _resolved(links: DataFrame) -> dict[str, str]:
    """The group of each image that has a link; what it is linked to comes before it."""
    groups: dict[str, str] = {}
    for row in links.orderBy("since").collect():
        groups[row["protected_id"]] = groups.get(row["older_id"], row["older_group"])
    return groups
