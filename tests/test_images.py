"""The store of originals and evidence."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from copywatch.errors import CopywatchError
from copywatch.images import ImageStore


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(str(tmp_path / "images"))


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_is_put_is_got_back_by_its_address(store: ImageStore):
    address = store.put(b"picture", "originals")
    digest = hashlib.sha256(b"picture").hexdigest()
    assert address == f"originals/{digest[:2]}/{digest}"
    assert store.get(address) == b"picture"


def test_the_same_twice_is_kept_once(store: ImageStore, tmp_path: Path):
    first = store.put(b"picture", "evidence")
    kept = tmp_path / "images" / first
    written = kept.stat().st_mtime_ns
    assert store.put(b"picture", "evidence") == first
    assert kept.stat().st_mtime_ns == written
    assert files_below(tmp_path) == [kept]


def test_kinds_are_kept_apart(store: ImageStore):
    assert store.put(b"picture", "originals") != store.put(b"picture", "evidence")


def test_a_death_half_way_leaves_no_short_object(store: ImageStore, monkeypatch: pytest.MonkeyPatch):
    digest = hashlib.sha256(b"picture").hexdigest()
    address = f"evidence/{digest[:2]}/{digest}"
    honest = type(store._files).pipe_file

    def write_half(self, path, value, **options):
        honest(self, path, value[: len(value) // 2], **options)
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(type(store._files), "pipe_file", write_half)
        with pytest.raises(OSError, match="disk full"):
            store.put(b"picture", "evidence")
    with pytest.raises(CopywatchError, match="nothing is kept"):
        store.get(address)
    assert store.put(b"picture", "evidence") == address
    assert store.get(address) == b"picture"


def test_many_at_once_put_the_same(store: ImageStore, tmp_path: Path):
    data = b"x" * 200_000
    gate = threading.Barrier(8)
    addresses: list[str] = []

    def put() -> None:
        gate.wait()
        addresses.append(store.put(data, "evidence"))

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(addresses) == 8
    assert len(set(addresses)) == 1
    assert store.get(addresses[0]) == data
    assert len(files_below(tmp_path)) == 1


@pytest.mark.parametrize(
    "address",
    [
        "",
        "originals",
        "../secrets",
        "/etc/passwd",
        "originals/../../etc/passwd",
        "elsewhere/ab/" + "ab" * 32,
        "originals/ab/" + "ab" * 32 + "\n",
        "originals/ab/" + "AB" * 32,
        "originals/ab/" + "ab" * 31,
        "evidence/ab/../../originals/ab/" + "ab" * 32,
    ],
)
def test_an_address_that_leads_elsewhere_is_refused(store: ImageStore, tmp_path: Path, address: str):
    (tmp_path / "secrets").write_bytes(b"secret")
    with pytest.raises(CopywatchError, match="no address of a kept image"):
        store.get(address)


def test_an_address_of_nothing_says_where_it_looked(store: ImageStore):
    with pytest.raises(CopywatchError, match=r"nothing is kept at originals/ab/.*images"):
        store.get("originals/ab/" + "ab" * 32)


def test_any_fsspec_url_does():
    import fsspec

    memory = ImageStore("memory://copywatch-test")
    address = memory.put(b"picture", "originals")
    assert memory.get(address) == b"picture"
    assert fsspec.filesystem("memory").exists(f"/copywatch-test/{address}")


def test_says_whether_an_image_is_kept(tmp_path: Path) -> None:
    """Without reading it."""
    store = ImageStore(str(tmp_path / "images"))
    address = store.put(b"found", "evidence")
    assert store.holds(address)
    assert not store.holds(address.replace("evidence", "originals"))
    with pytest.raises(CopywatchError, match="is no address"):
        store.holds("evidence/../secret")
