"""Shards and the manifest: what is taken in and out, versions beside each other, damage."""

from __future__ import annotations

import json
import os
from pathlib import Path

import faiss
import numpy as np
import pytest

from copywatch.errors import LakeError
from copywatch.features.manifest import KEPT_SECONDS, MANIFEST_FILE, Manifest, ShardFile, clear, read_manifest, switch
from copywatch.features.shards import Shard
from tests.features.index_data import some_codes

TABLE = some_codes(6, 100)
A, B, C = (some_codes(count, seed) for seed, count in enumerate((7, 0, 12)))


def contents(shard: Shard) -> dict[str, list[bytes]]:
    """Every image's codes, out of the inverted lists themselves."""
    found: dict[str, list[bytes]] = {one: [] for one in shard.protected_ids if one is not None}
    for number in range(shard.index.nlist):
        size = shard.index.get_list_size(number)
        if not size:
            continue
        codes = faiss.rev_swig_ptr(shard.index.invlists.get_codes(number), size * 16).reshape(size, 16)
        for code, place in zip(codes, faiss.rev_swig_ptr(shard.index.invlists.get_ids(number), size), strict=True):
            distances = np.bitwise_count(TABLE ^ code).sum(axis=1)
            assert distances[number] == distances.min(), "a code is not in its list"
            found[shard.protected_ids[place] or "nobody"].append(bytes(code))
    return {name: sorted(codes) for name, codes in found.items()}


def rows(codes: object) -> list[bytes]:
    return sorted(bytes(code) for code in codes)  # type: ignore[attr-defined]


@pytest.fixture
def shard() -> Shard:
    one = Shard.empty(TABLE)
    one.add(["a", "b"], [A.tobytes(), B.tobytes()])
    return one


def test_images_are_added_and_taken_out(shard: Shard) -> None:
    shard.add(["c"], [C.tobytes()])
    assert contents(shard) == {"a": rows(A), "b": [], "c": rows(C)}
    assert (shard.images, shard.points) == (3, 19)
    shard.remove(["a", "unknown"])
    assert contents(shard) == {"b": [], "c": rows(C)}
    assert (shard.images, shard.points, shard.protected_ids) == (2, 12, [None, "b", "c"])
    shard.add(["a"], [A.tobytes()])
    assert contents(shard) == {"a": rows(A), "b": [], "c": rows(C)}


def test_an_image_is_there_once(shard: Shard) -> None:
    shard.add(["a", "c", "c"], [C.tobytes(), C.tobytes(), C.tobytes()])
    assert contents(shard) == {"a": rows(A), "b": [], "c": rows(C)}


def test_all_taken_out_is_empty(shard: Shard) -> None:
    shard.remove(["a", "b"])
    assert (contents(shard), shard.images, shard.points) == ({}, 0, 0)


def test_bytes_that_are_no_codes_are_refused(shard: Shard) -> None:
    with pytest.raises(ValueError, match="codes of 16 bytes"):
        shard.add(["x"], [b"123"])


@pytest.mark.parametrize("mapped", [False, True])
def test_a_shard_is_read_as_it_was_written(shard: Shard, tmp_path: Path, mapped: bool) -> None:
    shard.remove(["b"])
    shard.add(["c"], [C.tobytes()])
    back = Shard.read(tmp_path / "new", shard.write(tmp_path / "new", 3), mapped=mapped)
    assert contents(back) == contents(shard)
    assert back.protected_ids == ["a", None, "c"]


def test_a_shard_read_can_be_changed_and_written_beside_itself(shard: Shard, tmp_path: Path) -> None:
    first = shard.write(tmp_path, 0)
    mapped = Shard.read(tmp_path, first, mapped=True)
    again = Shard.read(tmp_path, first)
    again.add(["c"], [C.tobytes()])
    again.remove(["a"])
    second = again.write(tmp_path, 0)
    assert first != second
    assert contents(Shard.read(tmp_path, first)) == contents(mapped) == {"a": rows(A), "b": []}
    assert contents(Shard.read(tmp_path, second)) == {"b": [], "c": rows(C)}


def test_the_same_images_have_the_same_name_and_bytes(shard: Shard, tmp_path: Path) -> None:
    name = shard.write(tmp_path, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 2
    assert shard.write(tmp_path, 1) == name
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert shard.write(tmp_path, 2) != name


@pytest.mark.parametrize("suffix", [".ivf", ".parquet"])
@pytest.mark.parametrize("data", [None, b"", b"IBwF and nothing more", b"x" * 5000])
def test_damaged_files_are_named(shard: Shard, tmp_path: Path, suffix: str, data: bytes | None) -> None:
    name = shard.write(tmp_path, 0)
    (tmp_path / (name + suffix)).unlink()
    if data is not None:
        (tmp_path / (name + suffix)).write_bytes(data)
    with pytest.raises(LakeError, match="delete the index folder"):
        Shard.read(tmp_path, name)


def test_another_index_is_no_shard(shard: Shard, tmp_path: Path) -> None:
    name = shard.write(tmp_path, 0)
    faiss.write_index_binary(faiss.IndexBinaryFlat(128), str(tmp_path / f"{name}.ivf"))
    with pytest.raises(LakeError, match="no shard of 128-bit codes"):
        Shard.read(tmp_path, name)


# --- manifest -------------------------------------------------------------------------------------------------------


def file_of(shard: Shard, folder: Path, number: int) -> ShardFile:
    return ShardFile(shard.write(folder, number), shard.images, shard.points)


def test_a_manifest_is_read_as_it_was_switched_to(shard: Shard, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    assert read_manifest(folder) == Manifest({})
    manifest = Manifest({0: file_of(shard, folder, 0), 12: file_of(shard, folder, 12)})
    switch(folder, manifest)
    assert read_manifest(folder) == manifest == manifest.usable(folder)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_shards_that_are_gone_or_of_another_version_are_left_out(shard: Shard, tmp_path: Path) -> None:
    files = {0: file_of(shard, tmp_path, 0), 1: file_of(shard, tmp_path, 1)}
    (tmp_path / f"{files[0].name}.parquet").unlink()
    assert Manifest(files).usable(tmp_path) == Manifest({1: files[1]})
    assert Manifest(files, model="sift-itq/0").usable(tmp_path) == Manifest({})
    assert Manifest(files, lists="other").usable(tmp_path) == Manifest({})


def test_new_versions_replace_and_empty_shards_leave() -> None:
    one, other, empty = ShardFile("a", 2, 7), ShardFile("b", 3, 9), ShardFile("c", 0, 0)
    manifest = Manifest({3: one, 1: one})
    assert manifest.with_shards({1: other, 3: empty, 0: other}) == Manifest({0: other, 1: other})


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"shards": {"x": {}}}', '{"shards": {"1": {"name": "a"}}}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_FILE).write_text(text)
    with pytest.raises(LakeError, match=r"manifest\.json: .*delete the index folder"):
        read_manifest(tmp_path)


def test_old_versions_are_kept_for_a_day_from_the_switch_on(shard: Shard, tmp_path: Path) -> None:
    old = Manifest({0: file_of(shard, tmp_path, 0)})
    switch(tmp_path, old)
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    (tmp_path / ".00000-0123456789abcdef.77").write_bytes(b"of a job that died")
    (tmp_path / "README").write_text("somebody else's")
    shard.add(["c"], [C.tobytes()])
    new = Manifest({0: file_of(shard, tmp_path, 0)})
    switch(tmp_path, new)
    assert clear(tmp_path, new) == 0
    assert contents(Shard.read(tmp_path, old.shards[0].name)) == {"a": rows(A), "b": []}
    now = max(path.stat().st_mtime for path in tmp_path.iterdir())
    assert clear(tmp_path, new, now=now + KEPT_SECONDS + 1) == 3
    name = new.shards[0].name
    assert {path.name for path in tmp_path.iterdir()} == {MANIFEST_FILE, "README", f"{name}.ivf", f"{name}.parquet"}
    assert json.loads((tmp_path / MANIFEST_FILE).read_text())["shards"]["0"]["images"] == 3
