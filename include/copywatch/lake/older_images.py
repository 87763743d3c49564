"""Local features of images that were protected before there were any: made from the stored originals."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from copywatch.decode import decode
from copywatch.errors import CopywatchError, MachineError
from copywatch.features.itq import IDENTITY
from copywatch.features.shards import SHARD_IMAGES
from copywatch.fingerprint.rows import local_features
from copywatch.images import ImageStore
from copywatch.lake.schemas import FEATURES, PROTECTED
from copywatch.lake.tables import read_table, table_url
from copywatch.settings import Settings

log = logging.getLogger(__name__)

_IMAGES_A_WRITE = 200
"""Rows of some 3 MB together. What was written stays, should the next image end it all."""


@dataclass(frozen=True)
class Added:
    """What `add_features` did.

    Attributes:
        images: that have local features now.
        unreadable: whose original cannot be read; each is told of in the log.
    """

    images: int
    unreadable: int


def add_features(config: Settings, store: ImageStore, *, shard_images: int = SHARD_IMAGES) -> Added:
    """Write rows of `features` for active protected images that have none of the present version.

    They go on in the newest shard, in the order of their ids. Run twice, the second time adds nothing. The search index
    takes them in with the next run of `protect_images`.

    Args:
        config: where the tables are, and the limits of images.
        store: where the originals are.
        shard_images: how many images fill a shard.

    Raises:
        LakeError: a table is missing.
        MachineError: the model of the codes is missing or damaged.
    """
    known = read_table(config.warehouse, FEATURES, columns=["protected_id", "shard", "model"])
    present = {row["protected_id"] for row in known.to_pylist() if row["model"] == IDENTITY}
    columns = ["protected_id", "storage_address", "run", "status"]
    rows = read_table(config.warehouse, PROTECTED, columns=columns).to_pylist()
    missing = {row["protected_id"]: row for row in rows if row["status"] == "active"}
    shards = _shards(known, shard_images)
    written: list[dict[str, Any]] = []
    added = unreadable = 0
    for protected_id in sorted(missing.keys() - present):
        features = _features(missing[protected_id], config, store)
        if features is None:
            unreadable += 1
            continue
        written.append(
            {**features, "protected_id": protected_id, "shard": next(shards), "run": missing[protected_id]["run"]}
        )
        added += 1
        if len(written) == _IMAGES_A_WRITE:
            _write(written, config)
    _write(written, config)
    return Added(added, unreadable)


def _shards(known: pa.Table, shard_images: int) -> Iterator[int]:
    """The shard of each further image."""
    taken = known.column("shard").to_pylist()
    newest = max(taken, default=0)
    filled = len({row["protected_id"] for row in known.to_pylist() if row["shard"] == newest})
    return (newest + place // shard_images for place in count(filled))


def _features(row: Mapping[str, Any], config: Settings, store: ImageStore) -> dict[str, Any] | None:
    try:
        data = store.get(row["storage_address"])
        return local_features(decode(data, max_pixels=config.max_image_pixels, max_bytes=config.max_image_bytes).rgb)
    except MachineError:
        raise
    except (CopywatchError, OSError) as error:
        log.warning("no local features of %s: %s", row["protected_id"], error)
        return None


def _write(rows: list[dict[str, Any]], config: Settings) -> None:
    if rows:
        table = pa.Table.from_pylist(rows, schema=FEATURES.columns)
        write_deltalake(table_url(config.warehouse, FEATURES), table, mode="append")
        rows.clear()
