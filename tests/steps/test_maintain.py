"""Keeping the lake small: what is deleted is what is old, and nothing else."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from copywatch.lake import landing
from copywatch.lake.landing import ShardWriter
from copywatch.lake.schemas import SEEN, TABLES
from copywatch.lake.tables import create_tables, open_table, read_table, table_url
from copywatch.settings import Settings
from copywatch.steps import maintain

NOW = datetime.now(UTC)


@pytest.fixture
def config(config: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    made = config.model_copy(update={"seen_days": 30})
    monkeypatch.setattr(maintain, "settings", lambda: made)
    return made


def see(config: Settings, *ages: timedelta | None) -> None:
    """One sighting of each age, each in a file of its own; None: without a date."""
    for number, age in enumerate(ages):
        row = dict.fromkeys(SEEN.columns.names) | {
            "sighting_id": str(number), "tag": "animal", "crawled_at": None if age is None else NOW - age,
        }  # fmt: skip
        write_deltalake(
            table_url(config.warehouse, SEEN), pa.Table.from_pylist([row], schema=SEEN.columns), mode="append"
        )


def seen(config: Settings) -> list[str]:
    return sorted(read_table(config.warehouse, SEEN).column("sighting_id").to_pylist())


def test_only_what_is_older_than_the_set_time_is_forgotten(config: Settings):
    see(config, timedelta(days=29), timedelta(days=31), timedelta(0), timedelta(days=400), None)
    assert maintain.expire_seen() == 2
    assert seen(config) == ["0", "2", "4"]
    assert maintain.expire_seen() == 0


def test_compacting_keeps_every_row(config: Settings):
    see(config, *[timedelta(0)] * 5)
    before = read_table(config.warehouse, SEEN).sort_by("sighting_id")
    done = {row["table"]: row for row in maintain.compact_tables()}
    assert set(done) == set(TABLES)
    assert (done["seen"]["files joined"], done["seen"]["into"]) == (5, 1)
    assert len(open_table(config.warehouse, SEEN).file_uris()) == 1
    assert read_table(config.warehouse, SEEN).sort_by("sighting_id").equals(before)
    assert {row["table"]: row["files joined"] for row in maintain.compact_tables()}["seen"] == 0


def test_a_fresh_house_has_nothing_to_do(config: Settings):
    create_tables(config.warehouse)
    assert maintain.expire_seen() == 0
    assert maintain.clear_landing() == 0


def test_only_runs_released_long_ago_are_cleared(config: Settings):
    def run(name: str, released_days: int | None) -> None:
        with ShardWriter(config.landing, name, "a", shard_bytes=100) as writer:
            writer.finish({})
        if released_days is not None:
            landing.release(config.landing, name)
            marker: Any = landing.run_folder(config.landing, name) / landing.RELEASED_FILE
            then = (NOW - timedelta(days=released_days)).timestamp()
            os.utime(marker, (then, then))

    for name, days in (("old", 8), ("fresh", 6), ("unfinished", None)):
        run(name, days)
    assert maintain.clear_landing("run-1") == 1
    assert sorted(path.name for path in config.landing.iterdir()) == ["fresh", "unfinished"]
