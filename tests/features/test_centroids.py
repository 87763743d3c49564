"""The centroids of the search index: the learning, the shipped ones."""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from copywatch.errors import MachineError
from copywatch.features import centroids as module
from copywatch.features.centroids import centroids, learn, read_centroids, written
from tests.features.index_data import flipped, some_codes


@pytest.fixture
def forgotten() -> Iterator[None]:
    """The shipped file is read anew, before and after."""
    centroids.cache_clear()
    yield
    centroids.cache_clear()


def plain_round(codes: NDArray[np.uint8], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Assignment and majority with plain lists of bits."""
    bits, rows = np.unpackbits(codes, axis=1).tolist(), np.unpackbits(table, axis=1).tolist()
    members: list[list[list[int]]] = [[] for _ in rows]
    apart = []
    for code in bits:
        distances = [sum(a != b for a, b in zip(code, row, strict=True)) for row in rows]
        members[distances.index(min(distances))].append(code)
        apart.append(min(distances))
    majorities = [[int(2 * sum(column) > len(of)) for column in zip(*of, strict=True)] for of in members]
    farthest = iter(sorted(range(len(bits)), key=lambda place: -apart[place]))
    filled = [majority or bits[next(farthest)] for majority in majorities]
    return np.packbits(np.array(filled, dtype=np.uint8), axis=1)


def test_a_round_is_assignment_and_majority() -> None:
    codes = some_codes(60, 1)
    first = codes[np.sort(np.random.default_rng(7).permutation(60)[:5])]
    np.testing.assert_array_equal(learn(codes, 5, seed=7, rounds=0).centroids, first)
    np.testing.assert_array_equal(learn(codes, 5, seed=7, rounds=1).centroids, plain_round(codes, first))


def test_lists_that_are_left_empty_get_the_farthest_codes() -> None:
    """Of eight codes seven are one, so that at least two of four lists begin with the same centroid."""
    codes = np.repeat(some_codes(1, 3), 8, axis=0)
    codes[5] ^= 0xFF
    learned = learn(codes, 4, seed=0, rounds=1)
    first = codes[np.sort(np.random.default_rng(0).permutation(8)[:4])]
    np.testing.assert_array_equal(learned.centroids, plain_round(codes, first))


def test_clusters_are_found() -> None:
    """Codes within eight bits of one of six. The seed draws one of each; from elsewhere it may end in fewer."""
    ground = some_codes(6, 5)
    codes = np.concatenate([flipped(np.repeat(ground[n : n + 1], 100, axis=0), 8, n) for n in range(6)])
    learned = learn(codes, 6, seed=79, rounds=2)
    assert {bytes(one) for one in learned.centroids} == {bytes(one) for one in ground}
    assert learned.distances[-1] == 8
    assert learned.distances[0] > 8
    assert np.bincount(learned.assigned).tolist() == [100] * 6


def test_no_round_makes_it_worse() -> None:
    distances = learn(some_codes(2000, 11), 30, seed=5, rounds=9).distances
    assert len(distances) == 10
    assert (np.diff(distances) <= 0).all()
    assert distances[-1] < distances[0] - 2


def test_learning_again_gives_the_same() -> None:
    codes = some_codes(500, 9)
    one, other = (learn(codes, 20, seed=3, rounds=4) for _ in range(2))
    assert written(one.centroids) == written(other.centroids)
    assert written(learn(codes, 20, seed=4, rounds=4).centroids) != written(one.centroids)


@pytest.mark.parametrize(("count", "lists"), [(3, 4), (0, 1), (3, 0)])
def test_too_few_codes_are_refused(count: int, lists: int) -> None:
    with pytest.raises(ValueError, match="cannot be learned"):
        learn(some_codes(count, 0), lists, seed=0, rounds=1)


def test_the_shipped_file_is_the_named_one() -> None:
    data = importlib.resources.files("copywatch.features").joinpath(module.CENTROIDS_FILE).read_bytes()
    assert hashlib.sha256(data).hexdigest() == module.CENTROIDS_SHA256
    table = centroids()
    assert table.shape == (16_384, 16)
    assert written(table) == data
    assert len(np.unique(table, axis=0)) > 0.99 * len(table)
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0] = 1


def test_another_file_is_refused(forgotten: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.resources, "files", lambda _package: tmp_path)
    with pytest.raises(MachineError, match="missing from"):
        centroids()
    (tmp_path / module.CENTROIDS_FILE).write_bytes(written(some_codes(16_384, 0)))
    with pytest.raises(MachineError, match="is not the one of"):
        centroids()


def _npz(**arrays: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04 cut off", _npz(rotation=some_codes(4, 0)), _npz(centroids=some_codes(4, 0)[:, :15]),
     _npz(centroids=some_codes(0, 0)), _npz(centroids=some_codes(4, 0).astype(np.int8))],
)  # fmt: skip
def test_bytes_that_are_no_centroids_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="centroids"):
        read_centroids(data)
