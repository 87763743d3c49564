"""Reading and writing the Delta tables from a Spark job."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from copywatch.errors import LakeError
from copywatch.lake.schemas import Table
from copywatch.lake.tables import table_url


def spark_schema(table: Table) -> StructType:
    """The table's columns as Spark types."""
    return from_arrow_schema(table.columns)


def read(spark: SparkSession, warehouse: str, table: Table) -> DataFrame:
    """The newest version of a table."""
    return spark.read.format("delta").load(table_url(warehouse, table))


def conform(rows: DataFrame, table: Table, *further: str) -> DataFrame:
    """The table's columns in the table's order and types, and then those of `rows` that are named.

    Raises:
        LakeError: a column is missing.
    """
    missing = set(table.columns.names) - set(rows.columns)
    if missing:
        raise LakeError(f"{table.name}: rows without {', '.join(sorted(missing))}")
    return rows.select(*(rows[field.name].cast(field.dataType) for field in spark_schema(table)), *further)


def replace_run(rows: DataFrame, warehouse: str, table: Table, run: str, *, only: str = "true") -> None:
    """Replace a run's rows of a table by `rows`, in one commit: a retry leaves the same rows and no others.

    `only` narrows which of the run's rows are replaced (SQL); `rows` has none outside of it.

    Raises:
        LakeError: a column is missing.
    """
    conformed = conform(rows, table)
    if table.partition_by:
        # Otherwise every task would write a file of its own into every partition.
        conformed = conformed.repartition(*table.partition_by)
    (
        conformed.write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", f"run = '{run}' AND {only}" if only != "true" else f"run = '{run}'")
        .save(table_url(warehouse, table))
    )
