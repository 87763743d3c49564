"""Creating the Delta tables and reading them without a JVM."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, Field, QueryBuilder, Schema, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from copywatch.errors import LakeError
from copywatch.lake.schemas import MATCHES, TABLES, Table

log = logging.getLogger(__name__)


def table_url(warehouse: str, table: Table) -> str:
    """Where a table is."""
    return f"{warehouse}/{table.name}"


def create_tables(warehouse: str) -> None:
    """Create every table that is missing, and add the columns that an older one lacks; rows are left as they are."""
    for table in TABLES.values():
        if DeltaTable.is_deltatable(table_url(warehouse, table)):
            _add_columns(warehouse, table)
            continue
        if "://" not in warehouse:
            Path(table_url(warehouse, table)).mkdir(parents=True, exist_ok=True)
        DeltaTable.create(
            table_url(warehouse, table),
            schema=table.columns,
            mode="ignore",
            partition_by=list(table.partition_by) or None,
            name=table.name,
            description=table.comment,
        )


def _add_columns(warehouse: str, table: Table) -> None:
    """Add the planned columns that an existing table lacks; its rows have nulls there."""
    opened = DeltaTable(table_url(warehouse, table))
    planned = Schema.from_arrow(table.columns).fields
    if not (missing := _missing(opened, planned)):
        return
    try:
        opened.alter.add_columns(missing)
    except DeltaError:
        # Every task of a run begins here: another one may have added them meanwhile.
        if _missing(DeltaTable(table_url(warehouse, table)), planned):
            raise
    else:
        log.info("%s: new columns %s", table_url(warehouse, table), ", ".join(field.name for field in missing))


def _missing(opened: DeltaTable, planned: list[Field]) -> list[Field]:
    present = {field.name for field in opened.schema().fields}
    return [field for field in planned if field.name not in present]


def open_table(warehouse: str, table: Table) -> DeltaTable:
    """The newest version of a table.

    Raises:
        LakeError: there is none.
    """
    try:
        return DeltaTable(table_url(warehouse, table))
    except TableNotFoundError as error:
        raise LakeError(f"{table_url(warehouse, table)} is no Delta table; 'copywatch lake create' makes it") from error


def read_table(
    warehouse: str,
    table: Table,
    *,
    run: str | None = None,
    tags: Sequence[str] | None = None,
    protected_ids: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """A table's rows: those of one run, some tags or some protected images if they are given.

    Of tags only their partitions are read.

    Raises:
        LakeError: there is no such table.
    """
    opened = open_table(warehouse, table)
    return rows_of(opened, table, run=run, tags=tags, protected_ids=protected_ids, columns=columns)


def rows_of(
    opened: DeltaTable,
    table: Table,
    *,
    run: str | None = None,
    tags: Sequence[str] | None = None,
    protected_ids: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """`read_table` for one version that is open already: what is read twice is then read of the same version."""
    # delta-rs's own engine: a pyarrow dataset over its storage handler can abort the interpreter at exit.
    chosen = ", ".join(f'"{column}"' for column in columns) if columns else "*"
    conditions = [] if run is None else [f"run = {_quoted(run)}"]
    for column, values in (("tag", tags), ("protected_id", protected_ids)):
        if values is not None:
            conditions.append(f"{column} IN ({', '.join(map(_quoted, values))})" if values else "false")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    query = QueryBuilder().register(table.name, opened)
    rows = pa.table(query.execute(f'SELECT {chosen} FROM "{table.name}"{where}').read_all())  # noqa: S608 (values are quoted)
    wanted = pa.schema([table.columns.field(name) for name in (columns or table.columns.names)])
    return rows.select(wanted.names).cast(wanted)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def mirror_decisions(warehouse: str, decisions: Sequence[Mapping[str, Any]]) -> int:
    """Write people's decisions into `matches`; returns the rows changed. Doing it again changes nothing more.

    Args:
        warehouse: URL of the folder of the tables.
        decisions: each with sighting_id, protected_id, state, decided_by, decided_at (aware datetime).

    Raises:
        LakeError: there is no such table.
    """
    return _mirror(
        warehouse, decisions, ("state", "decided_by", "decided_at"), "t.state <> s.state OR t.decided_by IS NULL"
    )


def mirror_verifications(warehouse: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write what was verified later into `matches`; returns the rows changed. What a person decided stays.

    Args:
        warehouse: URL of the folder of the tables.
        rows: each with sighting_id, protected_id, and those columns of `matches` that changed, all rows the same.

    Raises:
        LakeError: there is no such table.
    """
    changed = [name for name in rows[0] if name not in ("sighting_id", "protected_id")] if rows else []
    return _mirror(warehouse, rows, changed, "t.decided_by IS NULL")


def _mirror(warehouse: str, rows: Sequence[Mapping[str, Any]], changed: Sequence[str], where: str) -> int:
    """Update columns of the rows of `matches` that are of the same pairs, where a condition on them holds."""
    if not rows:
        return 0
    columns = {name: [row[name] for row in rows] for name in ("sighting_id", "protected_id", *changed)}
    source = pa.table(columns, schema=pa.schema([MATCHES.columns.field(name).remove_metadata() for name in columns]))
    result = (
        open_table(warehouse, MATCHES)
        .merge(
            source,
            predicate="t.sighting_id = s.sighting_id AND t.protected_id = s.protected_id",
            source_alias="s",
            target_alias="t",
        )
        .when_matched_update(
            {name: f"s.{name}" for name in changed},
            predicate=where,
        )
        .execute()
    )
    return int(result["num_target_rows_updated"])


def replace_rows(warehouse: str, table: Table, rows: Sequence[dict[str, Any]], *, run: str) -> None:
    """Replace a run's rows of a small table that no Spark job writes (crawl_stats, thresholds).

    Raises:
        LakeError: there is no such table, or a row lacks a column.
    """
    open_table(warehouse, table)
    complete = [{**row, "run": run} for row in rows]
    missing = {name for row in complete for name in table.columns.names if name not in row}
    if missing:
        raise LakeError(f"{table.name}: rows without {', '.join(sorted(missing))}")
    write_deltalake(
        table_url(warehouse, table),
        pa.Table.from_pylist(complete, schema=table.columns),
        mode="overwrite",
        predicate=f"run = {_quoted(run)}",
    )
