"""Found pictures -> protected images that they may show, by local features; DataFrames in, DataFrames out.

Each task searches the whole index, one shard after the other (`copywatch.features.lookup`). Shards are mapped, not
loaded: a task holds the hits of a hundred pictures, and the machine as much of the index as it has memory for.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame

from copywatch.features.lookup import PICTURES_AT_ONCE, Lookup, use_one_core
from copywatch.verification.rows import points_of_row

CANDIDATES = "sha256 string, protected_id string"
_CANDIDATES = pa.schema([pa.field("sha256", pa.string()), pa.field("protected_id", pa.string())])
_POINTS = ("scaled_width", "scaled_height", "codes", "positions", "mirrored_codes", "mirrored_positions")


def candidates(pictures: DataFrame, index: Path) -> DataFrame:
    """`sha256` and `protected_id` of at most 20 candidates of each picture. They were in force when they were indexed.

    Args:
        pictures: rows of `verifying.PICTURES`; of those that cannot be read there are none.
        index: folder of the search index; without one nothing is found.
    """

    def look_up(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        use_one_core()
        lookup = Lookup(index)
        rows = chain.from_iterable(batch.to_pylist() for batch in batches)
        while some := list(islice(rows, PICTURES_AT_ONCE)):
            proposals = lookup.proposals([points_of_row(row) for row in some])
            found = [
                {"sha256": row["sha256"], "protected_id": one.protected_id}
                for row, ones in zip(some, proposals, strict=True)
                for one in ones
            ]
            yield pa.RecordBatch.from_pylist(found, schema=_CANDIDATES)

    return pictures.where("trouble IS NULL").select("sha256", *_POINTS).mapInArrow(look_up, CANDIDATES)
