"""The Delta tables without a JVM: made, read, mirrored into, replaced."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from copywatch.errors import LakeError
from copywatch.lake import tables
from copywatch.lake.schemas import CRAWL_STATS, MATCHES, PROTECTED, SEEN, TABLES
from copywatch.lake.tables import (
    create_tables,
    mirror_decisions,
    mirror_verifications,
    open_table,
    read_table,
    replace_rows,
    table_url,
)
from copywatch.settings import Settings

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def match_row(number: int, **changed: Any) -> dict[str, Any]:
    row = dict.fromkeys(MATCHES.columns.names)
    row |= {"sighting_id": f"s{number}", "protected_id": f"p{number}", "site": "lumen", "verdict": 1, "distance": 0.25}
    row |= {"state": "doubtful", "tag": "animal", "run": "run-1", "crawled_at": NOW, "image_url": f"http://a/{number}"}
    return row | changed


def write(config: Settings, rows: list[dict[str, Any]]) -> None:
    write_deltalake(
        table_url(config.warehouse, MATCHES), pa.Table.from_pylist(rows, schema=MATCHES.columns), mode="append"
    )


def states(config: Settings) -> dict[str, tuple[Any, ...]]:
    rows = read_table(config.warehouse, MATCHES).to_pylist()
    assert len({row["sighting_id"] for row in rows}) == len(rows)
    return {row["sighting_id"]: (row["state"], row["decided_by"], row["decided_at"]) for row in rows}


def decision(number: int, state: str = "accepted", by: str = "rita", at: datetime = NOW) -> dict[str, Any]:
    return {
        "sighting_id": f"s{number}", "protected_id": f"p{number}", "state": state, "decided_by": by, "decided_at": at,
    }  # fmt: skip


class TestCreate:
    def test_makes_every_table_as_planned(self, config: Settings):
        for table in TABLES.values():
            made = DeltaTable(table_url(config.warehouse, table))
            assert pa.schema(made.schema().to_arrow()).names == table.columns.names
            assert tuple(made.metadata().partition_columns) == table.partition_by
            assert made.metadata().description == table.comment

    def test_columns_carry_their_comments(self, config: Settings):
        fields = {field.name: field for field in open_table(config.warehouse, SEEN).schema().fields}
        assert fields["page_url"].metadata["comment"] == "page that shows the image"

    def test_a_second_time_changes_nothing(self, config: Settings):
        write(config, [match_row(1)])
        before = {name: open_table(config.warehouse, table).version() for name, table in TABLES.items()}
        create_tables(config.warehouse)
        assert {name: open_table(config.warehouse, table).version() for name, table in TABLES.items()} == before
        assert read_table(config.warehouse, MATCHES).num_rows == 1

    def test_two_at_once_is_harmless(self, tmp_path: Path):
        warehouse = str(tmp_path / "lake")
        gate, troubles = threading.Barrier(2), []

        def make() -> None:
            gate.wait()
            try:
                create_tables(warehouse)
            except Exception as error:
                troubles.append(error)

        threads = [threading.Thread(target=make) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert troubles == []
        # The later one may leave a second version; what counts is one schema, and that rows can be written.
        write_deltalake(
            table_url(warehouse, MATCHES), pa.Table.from_pylist([match_row(1)], schema=MATCHES.columns), mode="append"
        )
        assert read_table(warehouse, MATCHES).to_pylist() == [match_row(1)]


class TestOlderTables:
    """Tables of an earlier version, which lack columns."""

    LATER = frozenset(
        [
            "mask", "views", "group_id", "rule", "plain_distance", "view", "histogram", "closest", "plot",
            "uploader_url", "uploaded_at_source", "caption", "licence",
            "source", "requests", "bytes_received", "not_modified", "images_repeated", "robots_refused", "errors",
            "rejected", "seconds",
        ]
    )  # fmt: skip

    @pytest.fixture
    def older(self, tmp_path: Path) -> str:
        warehouse = str(tmp_path / "older")
        for table in TABLES.values():
            fields = [field for field in table.columns if field.name not in self.LATER]
            partitions = list(table.partition_by) or None
            DeltaTable.create(table_url(warehouse, table), schema=pa.schema(fields), partition_by=partitions)
        known = [name for name in MATCHES.columns.names if name not in self.LATER]
        row = {name: match_row(1)[name] for name in known}
        schema = pa.schema([MATCHES.columns.field(name) for name in known])
        write_deltalake(table_url(warehouse, MATCHES), pa.Table.from_pylist([row], schema=schema), mode="append")
        return warehouse

    def test_get_the_columns_they_lack_and_keep_their_rows(self, older: str):
        create_tables(older)
        assert read_table(older, MATCHES).to_pylist() == [match_row(1)]
        for table in TABLES.values():
            fields = {field.name: field for field in open_table(older, table).schema().fields}
            assert set(fields) == set(table.columns.names), table.name
            assert read_table(older, table).schema.equals(table.columns)
        assert "231 bytes" in {f.name: f for f in open_table(older, SEEN).schema().fields}["views"].metadata["comment"]

    def test_a_second_time_changes_nothing(self, older: str):
        create_tables(older)
        before = {name: open_table(older, table).version() for name, table in TABLES.items()}
        create_tables(older)
        assert {name: open_table(older, table).version() for name, table in TABLES.items()} == before

    def test_take_rows_of_both_versions(self, older: str):
        create_tables(older)
        row = match_row(2, rule="rescored", view="mirrored", plain_distance=0.5)
        write_deltalake(table_url(older, MATCHES), pa.Table.from_pylist([row], schema=MATCHES.columns), mode="append")
        found = read_table(older, MATCHES).to_pylist()
        assert sorted(found, key=lambda one: one["sighting_id"]) == [match_row(1), row]

    def test_two_that_begin_at_once(self, older: str, monkeypatch: pytest.MonkeyPatch):
        """Another task adds the columns after this one saw that they lack."""
        missing = tables._missing
        looked: list[str] = []

        def slow(opened: DeltaTable, planned: Any) -> Any:
            found = missing(opened, planned)
            if not looked:
                looked.append(opened.table_uri)
                create_tables(older)
            return found

        monkeypatch.setattr(tables, "_missing", slow)
        create_tables(older)
        assert len(looked) == 1
        assert set(read_table(older, PROTECTED).column_names) == set(PROTECTED.columns.names)

    def test_an_error_that_is_no_race_is_raised(self, older: str, monkeypatch: pytest.MonkeyPatch):
        def fails(*_: Any) -> None:
            raise DeltaError("the disk is full")

        monkeypatch.setattr("deltalake.table.TableAlterer.add_columns", fails)
        with pytest.raises(DeltaError, match="disk is full"):
            create_tables(older)

    @pytest.mark.integration
    def test_spark_writes_them(self, older: str, spark):
        from copywatch.lake import delta

        create_tables(older)
        row = dict.fromkeys(SEEN.columns.names) | {"sighting_id": "s", "tag": "animal", "run": "r", "views": b"v"}
        for _ in range(2):
            delta.replace_run(spark.createDataFrame([row], delta.spark_schema(SEEN)), older, SEEN, "r")
        assert read_table(older, SEEN).to_pylist() == [row]


class TestRead:
    def test_gives_the_planned_columns_and_types(self, config: Settings):
        write(config, [match_row(1)])
        rows = read_table(config.warehouse, MATCHES)
        assert rows.schema.equals(MATCHES.columns)
        assert rows.to_pylist() == [match_row(1)]

    def test_an_empty_table_has_its_columns(self, config: Settings):
        assert read_table(config.warehouse, PROTECTED).schema.equals(PROTECTED.columns)

    def test_one_run_only(self, config: Settings):
        write(config, [match_row(1), match_row(2, run="it's"), match_row(3, run="run-10")])
        assert read_table(config.warehouse, MATCHES, run="run-1").column("sighting_id").to_pylist() == ["s1"]
        assert read_table(config.warehouse, MATCHES, run="it's").column("sighting_id").to_pylist() == ["s2"]
        assert read_table(config.warehouse, MATCHES, run="' OR '1'='1").num_rows == 0

    def test_some_protected_images_only(self, config: Settings):
        write(config, [match_row(number) for number in range(4)])
        rows = read_table(config.warehouse, MATCHES, protected_ids=["p1", "p3", "x' OR '1'='1"]).to_pylist()
        assert sorted(row["protected_id"] for row in rows) == ["p1", "p3"]
        assert read_table(config.warehouse, MATCHES, protected_ids=[]).num_rows == 0

    def test_chosen_columns_in_the_order_asked(self, config: Settings):
        write(config, [match_row(1)])
        rows = read_table(config.warehouse, MATCHES, columns=["run", "sighting_id"])
        assert rows.to_pydict() == {"run": ["run-1"], "sighting_id": ["s1"]}

    def test_a_missing_table_is_named(self, tmp_path: Path):
        with pytest.raises(LakeError, match="matches is no Delta table"):
            read_table(str(tmp_path), MATCHES)

    def test_duckdb_reads_the_same(self, config: Settings):
        """A second library's reading of the files that the table names."""
        write(config, [match_row(number, distance=number / 10) for number in range(5)])
        files = open_table(config.warehouse, MATCHES).file_uris()
        by_duckdb = duckdb.execute(
            "SELECT sighting_id, distance FROM read_parquet(?) ORDER BY sighting_id", [files]
        ).fetchall()
        ours = read_table(config.warehouse, MATCHES, columns=["sighting_id", "distance"]).to_pylist()
        assert by_duckdb == sorted((row["sighting_id"], row["distance"]) for row in ours)


class TestMirror:
    def test_writes_what_was_decided_and_nothing_else(self, config: Settings):
        write(config, [match_row(1), match_row(2), match_row(3)])
        assert mirror_decisions(config.warehouse, [decision(1), decision(2, "refused", "otto")]) == 2
        assert states(config) == {
            "s1": ("accepted", "rita", NOW), "s2": ("refused", "otto", NOW), "s3": ("doubtful", None, None),
        }  # fmt: skip

    def test_again_changes_nothing(self, config: Settings):
        write(config, [match_row(1), match_row(2)])
        mirror_decisions(config.warehouse, [decision(1)])
        before = states(config)
        assert mirror_decisions(config.warehouse, [decision(1), decision(1, by="x", at=NOW + timedelta(1))][:1]) == 0
        assert states(config) == before

    def test_nothing_decided_writes_no_version(self, config: Settings):
        version = open_table(config.warehouse, MATCHES).version()
        assert mirror_decisions(config.warehouse, []) == 0
        assert open_table(config.warehouse, MATCHES).version() == version

    def test_both_ids_must_agree(self, config: Settings):
        write(config, [match_row(1, protected_id="another")])
        assert mirror_decisions(config.warehouse, [decision(1)]) == 0
        assert states(config)["s1"] == ("doubtful", None, None)

    def test_a_decision_without_its_row_is_no_row(self, config: Settings):
        assert mirror_decisions(config.warehouse, [decision(9)]) == 0
        assert read_table(config.warehouse, MATCHES).num_rows == 0

    def test_the_other_columns_stay(self, config: Settings):
        write(config, [match_row(1)])
        mirror_decisions(config.warehouse, [decision(1)])
        (row,) = read_table(config.warehouse, MATCHES).to_pylist()
        assert row == match_row(1, state="accepted", decided_by="rita", decided_at=NOW)

    @pytest.mark.integration
    def test_what_was_verified_later_is_written_unless_a_person_decided(self, config: Settings):
        write(config, [match_row(1), match_row(2), match_row(3, state="certain", verdict=0)])
        mirror_decisions(config.warehouse, [decision(2)])
        before = {row["sighting_id"]: row for row in read_table(config.warehouse, MATCHES).to_pylist()}
        new = {
            "verification": "different", "probability": 0.01, "unverified": None, "edit": None, "verifier": "align/1",
            "alignment": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "measures": [("blocks", 9.0)], "state": "different",
        }  # fmt: skip
        rows = [{"sighting_id": f"s{n}", "protected_id": f"p{n}", **new} for n in (1, 2)]
        assert mirror_verifications(config.warehouse, rows) == 1
        after = {row["sighting_id"]: row for row in read_table(config.warehouse, MATCHES).to_pylist()}
        assert after == before | {"s1": before["s1"] | new}
        version = open_table(config.warehouse, MATCHES).version()
        assert mirror_verifications(config.warehouse, []) == 0
        assert open_table(config.warehouse, MATCHES).version() == version

    def test_spark_reads_it(self, config: Settings, spark):
        write(config, [match_row(1), match_row(2)])
        mirror_decisions(config.warehouse, [decision(1)])
        rows = spark.read.format("delta").load(table_url(config.warehouse, MATCHES)).collect()
        assert {(row["sighting_id"], row["state"], row["decided_by"]) for row in rows} == {
            ("s1", "accepted", "rita"), ("s2", "doubtful", None),
        }  # fmt: skip
        assert {row["sighting_id"]: row["distance"] for row in rows} == {"s1": 0.25, "s2": 0.25}


class TestReplaceRows:
    def stats(self, site: str, pages: int = 1) -> dict[str, Any]:
        row = dict.fromkeys(name for name in CRAWL_STATS.columns.names if name != "run")
        return row | {"site": site, "outcome": "finished", "pages": pages, "started_at": NOW}

    def rows(self, config: Settings) -> list[tuple[Any, ...]]:
        found = read_table(config.warehouse, CRAWL_STATS).to_pylist()
        return sorted((row["run"], row["site"], row["pages"]) for row in found)

    def test_replaces_the_runs_rows_and_no_others(self, config: Settings):
        replace_rows(config.warehouse, CRAWL_STATS, [self.stats("a")], run="run-1")
        replace_rows(config.warehouse, CRAWL_STATS, [self.stats("a", 2), self.stats("b", 3)], run="it's")
        replace_rows(config.warehouse, CRAWL_STATS, [self.stats("a", 7)], run="it's")
        assert self.rows(config) == [("it's", "a", 7), ("run-1", "a", 1)]

    def test_a_retry_leaves_the_same(self, config: Settings):
        for _ in range(3):
            replace_rows(config.warehouse, CRAWL_STATS, [self.stats("a"), self.stats("b")], run="run-1")
        assert self.rows(config) == [("run-1", "a", 1), ("run-1", "b", 1)]

    def test_a_row_without_a_column_is_refused(self, config: Settings):
        with pytest.raises(LakeError, match=r"rows without .*pages"):
            replace_rows(config.warehouse, CRAWL_STATS, [{"site": "a"}], run="run-1")
        assert self.rows(config) == []

    def test_a_missing_table_is_named(self, tmp_path: Path):
        with pytest.raises(LakeError, match="no Delta table"):
            replace_rows(str(tmp_path), CRAWL_STATS, [self.stats("a")], run="run-1")
