"""Local features of images that were protected by a release without them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from copywatch.demo.planting import photo_bytes
from copywatch.features.itq import IDENTITY
from copywatch.images import ImageStore
from copywatch.lake.older_images import Added, add_features
from copywatch.lake.schemas import FEATURES, PROTECTED, Table
from copywatch.lake.tables import create_tables, read_table, table_url
from copywatch.settings import Settings
from copywatch.verification.verify import original_of

Put = Callable[..., None]


@pytest.fixture
def store(config: Settings) -> ImageStore:
    create_tables(config.warehouse)
    return ImageStore(config.image_store)


@pytest.fixture
def put(config: Settings, store: ImageStore) -> Put:
    def append(table: Table, **row: Any) -> None:
        complete = dict.fromkeys(table.columns.names) | row
        write_deltalake(
            table_url(config.warehouse, table), pa.Table.from_pylist([complete], schema=table.columns), mode="append"
        )

    return append


def protect(put: Put, store: ImageStore, name: str, data: bytes, **changed: Any) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    row = {"protected_id": sha256[:32], "storage_address": store.put(data, "originals"), "tag": "nature",
           "status": "active", "run": f"run-of-{name}"}  # fmt: skip
    put(PROTECTED, **(row | changed))
    return sha256[:32]


def features(config: Settings) -> dict[str, dict[str, Any]]:
    return {row["protected_id"]: row for row in read_table(config.warehouse, FEATURES).to_pylist()}


def test_images_without_features_get_them_once(config: Settings, store: ImageStore, put: Put) -> None:
    one, other = (protect(put, store, name, photo_bytes(name)) for name in ("03.jpg", "07.jpg"))
    protect(put, store, "05.jpg", photo_bytes("05.jpg"), status="withdrawn")
    put(FEATURES, protected_id=other, shard=0, model="sift-itq/0", run="old")
    assert add_features(config, store) == Added(2, 0)
    rows = [row for row in read_table(config.warehouse, FEATURES).to_pylist() if row["model"] == IDENTITY]
    assert {row["protected_id"]: row["run"] for row in rows} == {one: "run-of-03.jpg", other: "run-of-07.jpg"}
    for row in rows:
        assert len(original_of(row).points) == row["points"] == 200
    assert add_features(config, store) == Added(0, 0)


def test_an_original_that_cannot_be_read_is_counted_and_keeps_nobody_else_waiting(
    config: Settings, store: ImageStore, put: Put
) -> None:
    protect(put, store, "gone", b"no image at all")
    protect(put, store, "lost", b"", storage_address="originals/00/" + "0" * 64)
    whole = protect(put, store, "03.jpg", photo_bytes("03.jpg"))
    assert add_features(config, store) == Added(1, 2)
    assert features(config).keys() == {whole}


def test_shards_are_filled_where_they_end(config: Settings, store: ImageStore, put: Put) -> None:
    put(FEATURES, protected_id="a" * 32, shard=4, model=IDENTITY, run="earlier")
    ids = sorted(protect(put, store, name, photo_bytes(name)) for name in ("03.jpg", "07.jpg", "08.jpg"))
    add_features(config, store, shard_images=2)
    rows = features(config)
    assert [rows[one]["shard"] for one in ids] == [4, 5, 5]
