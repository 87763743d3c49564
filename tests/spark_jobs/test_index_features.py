"""The search index: what is in force is in it, what is not is gone, and only shards with a change are written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from copywatch.errors import LakeError
from copywatch.features import itq
from copywatch.features.lookup import Lookup
from copywatch.features.manifest import MANIFEST_FILE, read_manifest
from copywatch.features.shards import Shard
from copywatch.lake.schemas import FEATURES, PROTECTED
from copywatch.lake.tables import table_url
from copywatch.settings import Settings
from spark_jobs import index_features as job
from tests.features.index_data import detected, flipped, some_codes
from tests.spark_jobs.death import Death
from tests.spark_jobs.made_up import NOW, original

pytestmark = pytest.mark.integration

Put = Callable[..., None]
Index = Callable[[], list[dict[str, object]]]


def name_of(number: int) -> str:
    return str(original(number)["protected_id"])


def codes_of(number: int) -> NDArray[np.uint8]:
    return some_codes(60, number)


def features(number: int, shard: int, **changed: Any) -> dict[str, Any]:
    row = {"protected_id": name_of(number), "shard": shard, "model": itq.IDENTITY, "points": 60,
           "codes": codes_of(number).tobytes(), "run": "intake"}  # fmt: skip
    return row | changed


@pytest.fixture
def index(spark: SparkSession, config: Settings) -> Index:
    """The job, its table by shard."""
    return lambda: job.index_features(spark, "mao", config)


@pytest.fixture
def put(put_rows: Put) -> Callable[[dict[int, int]], None]:
    """Protect images, in the shards that are said."""

    def both(shards: dict[int, int]) -> None:
        put_rows(PROTECTED, *(original(number) for number in shards))
        put_rows(FEATURES, *(features(number, shard) for number, shard in shards.items()))

    return both


def found(config: Settings, *numbers: int) -> list[int]:
    """Which of these images are found by a copy of them."""
    copies = [detected(flipped(codes_of(number), 2, 1), some_codes(60, 900)) for number in numbers]
    proposals = Lookup(config.index).proposals(copies)
    for number, of_copy in zip(numbers, proposals, strict=True):
        assert {one.protected_id for one in of_copy} <= {name_of(number)}
    return [number for number, of_copy in zip(numbers, proposals, strict=True) if of_copy]


def contents(config: Settings) -> dict[int, set[str]]:
    manifest = read_manifest(config.index)
    shards = {number: Shard.read(config.index, one.name) for number, one in manifest.shards.items()}
    for number, shard in shards.items():
        assert (shard.images, shard.points) == (manifest.shards[number].images, manifest.shards[number].points)
        assert shard.points == 60 * shard.images
    return {number: {one for one in shard.protected_ids if one} for number, shard in shards.items()}


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_nothing_is_protected(index: Index, config: Settings):
    assert index() == []
    assert found(config, 1) == []


def test_what_is_in_force_is_found(index: Index, put: Any, put_rows: Put, config: Settings):
    """Not in force: withdrawn, expired, of another algorithm; of another model; protected without features."""
    put({1: 0, 2: 0, 3: 1})
    others = {4: {"status": "withdrawn"}, 5: {"protected_until": NOW - timedelta(days=400)}, 6: {"algorithm": "mao/0"}}
    put_rows(PROTECTED, *(original(number, **changed) for number, changed in others.items()), original(7), original(8))
    put_rows(FEATURES, *(features(number, 0) for number in others), features(7, 0, model="sift-itq/0"))
    done = index()
    assert [(row["shard"], row["images"], row["points"], row["added"], row["removed"]) for row in done] == [
        (0, 2, 120, 2, 0),
        (1, 1, 60, 1, 0),
    ]
    assert contents(config) == {0: {name_of(1), name_of(2)}, 1: {name_of(3)}}
    assert found(config, *range(1, 9)) == [1, 2, 3]


def test_images_without_features_are_told_of(
    index: Index, put: Any, put_rows: Put, caplog: pytest.LogCaptureFixture, config: Settings
):
    put({1: 0})
    with caplog.at_level("WARNING"):
        index()
        assert not caplog.messages
        put_rows(PROTECTED, original(7), original(8, status="withdrawn"))
        index()
    assert [message for message in caplog.messages if message.startswith("1 protected images have no local features")]


def test_an_image_without_a_point_is_no_trouble(index: Index, put: Any, put_rows: Put, config: Settings):
    put_rows(PROTECTED, original(1))
    put_rows(FEATURES, features(1, 0, points=0, codes=b""))
    index()
    assert read_manifest(config.index).shards[0].points == 0
    put({2: 0})
    index()
    assert found(config, 1, 2) == [2]


def test_again_writes_nothing(index: Index, put: Any, config: Settings):
    put({1: 0, 2: 3})
    assert len(index()) == 2
    before = files(config.index)
    assert index() == []
    assert files(config.index) == before


def test_only_what_changed_is_written(index: Index, put: Any, config: Settings):
    put({1: 0, 2: 0, 3: 1})
    index()
    before = files(config.index)
    put({4: 1, 5: 2})
    done = index()
    assert [(row["shard"], row["images"], row["added"], row["removed"]) for row in done] == [(1, 2, 1, 0), (2, 1, 1, 0)]
    assert found(config, 1, 2, 3, 4, 5) == [1, 2, 3, 4, 5]
    after = files(config.index)
    first = read_manifest(config.index).shards[0].name
    assert {name: after[name] for name in (f"{first}.ivf", f"{first}.parquet")}.items() <= before.items()
    # The shard's version before stays for searches that began before.
    assert before.keys() < after.keys()


def test_withdrawn_expired_and_renewed(index: Index, put: Any, config: Settings):
    put({1: 0, 2: 0, 3: 0, 4: 1})
    index()
    protected = DeltaTable(table_url(config.warehouse, PROTECTED))
    protected.update(updates={"status": "'withdrawn'"}, predicate=f"protected_id IN ('{name_of(1)}', '{name_of(4)}')")
    protected.update(updates={"protected_until": "'2020-01-01T00:00:00Z'"}, predicate=f"protected_id = '{name_of(2)}'")
    done = index()
    assert [(row["shard"], row["images"], row["removed"]) for row in done] == [(0, 1, 2), (1, 0, 1)]
    assert contents(config) == {0: {name_of(3)}}
    assert found(config, 1, 2, 3, 4) == [3]
    protected.update(updates={"status": "'active'"}, predicate=f"protected_id IN ('{name_of(1)}', '{name_of(4)}')")
    index()
    assert found(config, 1, 2, 3, 4) == [1, 3, 4]


@pytest.mark.parametrize("writes", range(2))
def test_a_death_leaves_the_old_version_or_the_new(
    index: Index, put: Any, config: Settings, monkeypatch: pytest.MonkeyPatch, writes: int
):
    """Before the manifest is replaced: the shards are there, and not seen. After it: all is seen."""
    put({1: 0, 2: 1})
    index()
    before = read_manifest(config.index)
    put({3: 1, 4: 2})
    protected = DeltaTable(table_url(config.warehouse, PROTECTED))
    protected.update(updates={"status": "'withdrawn'"}, predicate=f"protected_id = '{name_of(1)}'")
    death = Death(writes)
    with monkeypatch.context() as patched:
        patched.setattr(job, "switch", death.after(job.switch))
        patched.setattr(job, "clear", death.after(job.clear))
        with pytest.raises(KeyboardInterrupt):
            index()
    assert found(config, 1, 2, 3, 4) == ([1, 2] if writes == 0 else [2, 3, 4])
    assert (read_manifest(config.index) == before) == (writes == 0)
    index()
    assert found(config, 1, 2, 3, 4) == [2, 3, 4]
    assert index() == []


@pytest.mark.parametrize("left", ["hidden", "index", "index and ids"])
def test_files_of_a_task_that_died_are_written_over(index: Index, put: Any, config: Settings, left: str):
    put({1: 0})
    index()
    name = read_manifest(config.index).shards[0].name
    (config.index / MANIFEST_FILE).unlink()
    if left != "index and ids":
        (config.index / f"{name}.parquet").unlink()
    if left == "hidden":
        (config.index / f"{name}.ivf").rename(config.index / f".{name}.4711")
    else:
        (config.index / f"{name}.ivf").write_bytes(b"half of it")
    assert found(config, 1) == []
    index()
    assert found(config, 1) == [1]


def test_what_is_missing_is_built_anew(index: Index, put: Any, config: Settings):
    put({1: 0, 2: 1})
    index()
    (config.index / f"{read_manifest(config.index).shards[1].name}.parquet").unlink()
    assert [row["shard"] for row in index()] == [1]
    assert found(config, 1, 2) == [1, 2]


def test_a_damaged_manifest_is_an_error(index: Index, put: Any, config: Settings):
    put({1: 0})
    index()
    (config.index / MANIFEST_FILE).write_text("{")
    with pytest.raises(LakeError, match="delete the index folder"):
        index()
