"""The experiment about local features, and the learning of their codes, on made-up pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from photo_folder import folder_of

from benchmarks import local_features, train_itq
from benchmarks.local_features import CodeIndex
from benchmarks.photos import half, read_photos
from copywatch.features.itq import read_model
from copywatch.features.points import Points


def points(codes: NDArray[np.uint8]) -> Points:
    ones = np.ones(len(codes), dtype=np.float32)
    return Points((9, 9), np.ones((len(codes), 2), dtype=np.float32), ones, ones, codes)


def codes_of(pictures: int, seed: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (int(rng.integers(3, 9)), 16), dtype=np.uint8) for _ in range(pictures)]


def test_hits_are_those_of_a_plain_search_and_a_picture_can_be_added() -> None:
    pictures, queries = codes_of(30, 1), codes_of(1, 2)[0]
    index = CodeIndex(pictures[:-1], exact=True)
    assert index.add(pictures[-1]) == 29
    owner = np.repeat(np.arange(30), [len(one) for one in pictures])
    every = np.bitwise_count(queries[:, np.newaxis] ^ np.concatenate(pictures)[np.newaxis]).sum(axis=2)
    hits = index.hits(points(queries))
    np.testing.assert_array_equal(hits.distances, np.sort(every, axis=1)[:, :10])
    for row, (images, distances) in enumerate(zip(hits.images, hits.distances, strict=True)):
        for image, distance in zip(images, distances, strict=True):
            assert distance in every[row, owner == image]


def test_a_picture_without_points_hits_nothing() -> None:
    index = CodeIndex(codes_of(3, 1), exact=True)
    assert index.hits(points(np.empty((0, 16), dtype=np.uint8))).images.shape == (0, 10)


def test_a_small_index_says_which_hits_it_has_not() -> None:
    index = CodeIndex([np.zeros((2, 16), dtype=np.uint8)], exact=True)
    np.testing.assert_array_equal(index.hits(points(np.zeros((1, 16), np.uint8))).images, [[0, 0] + [-1] * 8])


def test_the_page_is_written_without_a_path_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_features, "EDITS", local_features.EDITS[:2])
    folder = folder_of(tmp_path / "photos", 12)
    local_features.main(["--photos", str(folder), "--results", str(tmp_path / "out")])
    text = (tmp_path / "out" / "local_features.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    sources = len(half(read_photos(folder), "report"))
    total = next(line for line in text.splitlines() if line.startswith("| all  "))
    assert [cell.strip() for cell in total.split("|")][2] == str(2 * sources)


def test_codes_are_learned_from_one_half_only(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", 40)
    chosen = half(read_photos(folder), "choose")
    vectors = train_itq.vectors_of(chosen, train_itq.SEED)
    assert 128 <= len(vectors) <= train_itq.POINTS_A_PHOTO * len(chosen)
    assert half(read_photos(folder), "report")
    model = tmp_path / "model.npz"
    train_itq.main(["--photos", str(folder), "--model", str(model), "--results", str(tmp_path / "out")])
    learned = train_itq.learn(vectors, seed=train_itq.SEED, rounds=train_itq.ROUNDS)
    assert model.read_bytes() == learned.itq.written()
    assert read_model(model.read_bytes()).rotation.shape == (128, 128)
    assert str(tmp_path) not in (tmp_path / "out" / "train_itq.md").read_text(encoding="utf-8")
