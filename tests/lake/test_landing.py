"""Shards: whole or not there, and replaced by a retry."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from copywatch.errors import LakeError
from copywatch.lake import landing as shelf
from copywatch.lake.landing import (
    ShardWriter,
    complete_parts,
    forget,
    is_interrupted,
    is_released,
    part_folder,
    read_stats,
    release,
    shards,
    state_file,
)
from copywatch.lake.schemas import INTAKE, LANDING

RUN = "scheduled__2026-11-21T08:00:00+00:00"
AT = datetime(2026, 11, 21, 8, tzinfo=UTC)


def land(landing: Path, part: str, count: int, *, size: int = 100, run: str = RUN, shard_bytes: int = 1000) -> None:
    with ShardWriter(landing, run, part, shard_bytes=shard_bytes) as writer:
        for number in range(count):
            writer.write({"run": run, "site": part, "image_url": f"http://a/{number}", "bytes": bytes(size)})
        writer.finish({"outcome": "finished", "pages": 1, "started_at": AT})


def urls(landing: Path, run: str = RUN, part: str | None = None) -> list[str]:
    return [url for path in shards(landing, run, part) for url in pq.read_table(path)["image_url"].to_pylist()]


def test_rows_come_back_in_shards_of_the_size(tmp_path: Path) -> None:
    land(tmp_path, "a-site", 50)
    land(tmp_path, "b-site", 3)
    assert urls(tmp_path) == [f"http://a/{n}" for n in range(50)] + [f"http://a/{n}" for n in range(3)]
    paths = shards(tmp_path, RUN)
    assert [path.name for path in paths][:2] == ["00000.parquet", "00001.parquet"]
    assert paths[0].parent == tmp_path / "scheduled__2026-11-21T08_00_00_00_00" / "a-site"
    assert len(shards(tmp_path, RUN, "a-site")) > 3
    assert pq.read_schema(paths[0]).equals(LANDING)
    assert complete_parts(tmp_path, RUN) == ["a-site", "b-site"]
    assert read_stats(tmp_path, RUN)["b-site"] == {"outcome": "finished", "pages": 1, "started_at": AT}


def test_a_shard_has_row_groups_that_several_tasks_can_read(tmp_path: Path) -> None:
    land(tmp_path, "site", 60, size=200_000, shard_bytes=100 * 2**20)
    (path,) = shards(tmp_path, RUN)
    groups = [pq.read_metadata(path).row_group(number) for number in range(pq.read_metadata(path).num_row_groups)]
    assert len(groups) == 3
    assert max(group.total_byte_size for group in groups) <= shelf.ROW_GROUP_BYTES * 1.1
    assert urls(tmp_path) == [f"http://a/{n}" for n in range(60)]


def test_a_retry_replaces(tmp_path: Path) -> None:
    land(tmp_path, "site", 50)
    land(tmp_path, "site", 2)
    assert urls(tmp_path) == ["http://a/0", "http://a/1"]
    assert [path.name for path in part_folder(tmp_path, RUN, "site").glob("*.parquet")] == ["00000.parquet"]


def test_a_crawl_that_was_interrupted_is_gone_on_with(tmp_path: Path) -> None:
    safe: list[int] = []

    def write(*names: str, outcome: str | None = None, resume: bool = True) -> None:
        writer = ShardWriter(
            tmp_path, RUN, "site", shard_bytes=10**6, rows=2, resume=resume, committed=lambda: safe.append(1)
        )
        with writer:
            for name in names:
                writer.write({"image_url": name})
            if outcome:
                writer.finish({"outcome": outcome})

    state = state_file(tmp_path, RUN, "site")
    write("a", "b", "c", "d", "e", resume=False)
    assert not is_interrupted(tmp_path, RUN, "site"), "nothing says how far it came"
    state.parent.mkdir()
    state.touch()
    assert is_interrupted(tmp_path, RUN, "site")
    assert len(safe) == 2
    write("e", outcome="failed")
    assert urls(tmp_path) == ["a", "b", "c", "d", "e"]
    assert is_interrupted(tmp_path, RUN, "site"), "what failed is gone on with as well"
    write(outcome="limited")
    assert not is_interrupted(tmp_path, RUN, "site")
    assert len(safe) == 3
    assert urls(tmp_path) == ["a", "b", "c", "d", "e"]
    release(tmp_path, RUN)
    assert not state.exists()


def test_a_part_that_is_not_finished_is_not_read(tmp_path: Path) -> None:
    land(tmp_path, "site", 3)

    def give_up() -> None:
        with ShardWriter(tmp_path, RUN, "site", shard_bytes=200) as writer:
            writer.write({"image_url": "http://a/x", "bytes": bytes(500)})
            assert list(writer.folder.glob("0*.parquet"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        give_up()
    assert shards(tmp_path, RUN) == []
    assert complete_parts(tmp_path, RUN) == []
    assert complete_parts(tmp_path, "no-such-run") == shards(tmp_path, "no-such-run") == []


def test_a_crash_while_writing_leaves_no_half_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(table: object, where: Path, **options: object) -> None:
        where.write_bytes(b"PAR1half")
        raise OSError("no space left on device")

    monkeypatch.setattr(shelf.pq, "write_table", crash)
    with pytest.raises(OSError, match="no space"):
        land(tmp_path, "site", 50)
    assert list(part_folder(tmp_path, RUN, "site").iterdir()) == []


def test_an_empty_part_is_complete_without_shards(tmp_path: Path) -> None:
    land(tmp_path, "site", 0)
    assert complete_parts(tmp_path, RUN) == ["site"]
    assert shards(tmp_path, RUN) == []


def test_a_row_that_does_not_fit_harms_no_other(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, RUN, "site", shard_bytes=10**6) as writer:
        writer.write({"image_url": "http://a/0"})
        for bad in ({"image_url": "\ud800"}, {"http_status": "many"}, {"http_status": 2**40}, {"nonsense": 1}):
            with pytest.raises(LakeError):
                writer.write(bad)
        writer.finish({})
    assert urls(tmp_path) == ["http://a/0"]


def test_an_intake(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, RUN, "intake", shard_bytes=10**6, schema=INTAKE) as writer:
        writer.write({"run": RUN, "application_id": 7, "owner": "o", "registered_at": AT, "bytes": b"x"})
        writer.finish({})
    (row,) = pq.read_table(shards(tmp_path, RUN)[0]).to_pylist()
    assert (row["application_id"], row["registered_at"], row["protected_until"], row["bytes"]) == (7, AT, None, b"x")


def test_release(tmp_path: Path) -> None:
    land(tmp_path, "site", 20)
    assert not is_released(tmp_path, RUN)
    assert release(tmp_path, RUN) > 2000
    assert is_released(tmp_path, RUN)
    assert shards(tmp_path, RUN) == []
    assert read_stats(tmp_path, RUN)["site"]["outcome"] == "finished"
    assert release(tmp_path, RUN) == 0
    land(tmp_path, "site", 1)
    assert is_released(tmp_path, RUN), "the other parts' bytes are still gone"
    assert len(shards(tmp_path, RUN)) == 1
    forget(tmp_path, RUN)
    assert not is_released(tmp_path, RUN)
    forget(tmp_path, RUN)


def test_damaged_statistics(tmp_path: Path) -> None:
    land(tmp_path, "site", 1)
    for text in ("{", "[]", '{"started_at": 5}', '{"started_at": "x"}'):
        (part_folder(tmp_path, RUN, "site") / "_stats.json").write_text(text)
        with pytest.raises(LakeError, match=r"_stats\.json: is damaged"):
            read_stats(tmp_path, RUN)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", "_x", ".x", "a\x00b", "a\n", "a" * 300])
def test_names_of_parts_that_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LakeError):
        ShardWriter(tmp_path, RUN, name, shard_bytes=1)


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_name_leaves_the_folder(run: str, part: str) -> None:
    landing = Path("/landing")
    for name_run, name_part in ((run, part), (f"../{run}", f"../{part}"), (f"/{run}", f"/{part}")):
        try:
            folder = part_folder(landing, name_run, name_part)
        except LakeError:
            continue
        assert folder.parts[:2] == ("/", "landing")
        assert len(folder.parts) == 4
        assert not {"..", "."} & set(folder.parts)


@given(st.lists(st.integers(0, 400), max_size=30), st.integers(1, 1500))
def test_every_row_is_there_once(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], shard_bytes: int) -> None:
    landing = tmp_path_factory.mktemp("landing")
    with ShardWriter(landing, "r", "p", shard_bytes=shard_bytes, schema=LANDING) as writer:
        for size in sizes:
            writer.write({"size": size, "bytes": bytes(size)})
        writer.finish({})
    tables = [pq.read_table(path) for path in shards(landing, "r")]
    landed = pa.concat_tables(tables).to_pylist() if tables else []
    assert [(row["size"], len(row["bytes"])) for row in landed] == [(size, size) for size in sizes]
