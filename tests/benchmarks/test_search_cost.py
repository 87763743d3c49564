"""The experiment about the cost of a search, and the learning of its lists, on made-up pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from photo_folder import folder_of

from benchmarks import search_cost, train_centroids
from benchmarks.photos import half, read_photos
from benchmarks.search_cost import Material, QuickLists, made_up, real_distractors
from copywatch.features.centroids import centroids, learn, read_centroids
from copywatch.features.shards import Shard
from tests.features.index_data import some_codes


def material(**changed: object) -> Material:
    one: dict[str, object] = {
        "protected": {"a": some_codes(30, 1)},
        "further": [some_codes(450, 2), some_codes(199, 3), some_codes(200, 4)],
        "differences": some_codes(3, 5),
        "copies": [],
        "edits": [],
        "unrelated": [],
        "extraction_ms": 1.0,
    }
    return Material(**{**one, **changed})  # type: ignore[arg-type]


def rows(codes: object) -> set[bytes]:
    return {bytes(code) for code in codes}  # type: ignore[attr-defined]


def test_real_distractors_are_points_of_one_photo_each_and_none_twice() -> None:
    given = material()
    images = real_distractors(given)
    assert [len(image) for image in images] == [200] * 3
    sources = [rows(part) for part in given.further]
    of = [next(n for n, source in enumerate(sources) if rows(image) <= source) for image in images]
    assert sorted(of) == [0, 0, 2]
    assert len(rows(np.concatenate(images))) == 600


def test_made_up_codes_are_real_ones_with_differences_of_neighbours() -> None:
    given = material(further=[some_codes(20, 2), some_codes(30, 3)])
    codes = made_up(given, 5, seed=1).reshape(5, 200, 16)
    possible = [rows(code ^ one for code in part for one in given.differences) for part in given.further]
    of = [next(n for n, source in enumerate(possible) if rows(image) <= source) for image in codes]
    assert set(of) == {0, 1}
    assert made_up(given, 5, seed=1).tobytes() == codes.tobytes() != made_up(given, 5, seed=2).tobytes()


def test_differences_are_those_of_nearest_neighbours_in_other_pictures() -> None:
    pictures = [some_codes(6, 10), some_codes(6, 11)]
    apart = np.bitwise_count(pictures[0][:, np.newaxis] ^ pictures[1]).sum(axis=2)
    found = np.bitwise_count(search_cost._differences(pictures)).sum(axis=1)
    assert sorted(found) == sorted([*apart.min(axis=0), *apart.min(axis=1)])


def test_quick_lists_fill_a_shard_as_adding_does() -> None:
    """Where the quick list is the nearest: adding puts codes there too, of the same images."""
    lists, codes = QuickLists(), some_codes(600, 6)
    quick, plain = Shard.empty(), Shard.empty()
    lists.fill(quick, codes, "x")
    plain.add(quick.protected_ids, [codes[n : n + 200].tobytes() for n in (0, 200, 400)])  # type: ignore[arg-type]
    assert quick.protected_ids == ["x-0", "x-1", "x-2"]
    assert (quick.images, quick.points) == (3, 600)
    nearest = np.bitwise_count(centroids()[lists.of(codes)] ^ codes).sum(axis=1)
    exact = np.array([np.bitwise_count(centroids() ^ code).sum(axis=1).min() for code in codes])
    assert lists.agreement(codes) == np.mean(nearest == exact) > 0.3
    sure = codes[nearest == exact]
    for shard in (quick, plain):
        shard.index.nprobe = 64
        distances, places = shard.index.search(sure, 1)
        assert (distances[:, 0] == 0).all()
        np.testing.assert_array_equal(places[:, 0], np.flatnonzero(nearest == exact) // 200)


def test_the_page_is_written_without_a_path_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_cost, "LOOKED_UP", ("jpeg 30",))
    folder = folder_of(tmp_path / "photos", 14)
    search_cost.main(["--photos", str(folder), "--results", str(tmp_path / "out")])
    text = (tmp_path / "out" / "search_cost.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    cells = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("|")]
    assert [row[1] for row in cells if row[2] in {"2", "16"} and len(row) == 11] == ["300", "300", "600", "600"]
    sizes = [row for row in cells if row[1] in {"300", "600"} and len(row) == 8]
    assert [row[2] for row in sizes] == ["1", "2"]


# --- train_centroids --------------------------------------------------------------------------------------------------


def test_the_lists_are_learned_from_the_half_that_chooses_and_again_the_same(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", 10)
    files = []
    for name in ("one", "other"):
        target = tmp_path / name
        train_centroids.main(
            ["--photos", str(folder), "--lists", "40", "--centroids", str(target), "--results", str(tmp_path / "out")]
        )
        files.append(target.read_bytes())
    assert files[0] == files[1]
    assert read_centroids(files[0]).shape == (40, 16)
    codes = np.concatenate([train_centroids.codes_of(photo) for photo in half(read_photos(folder), "choose")])
    expected = learn(train_centroids.drawn(codes, 2400, 1), 40, seed=1, rounds=10).centroids
    np.testing.assert_array_equal(read_centroids(files[0]), expected)
    text = (tmp_path / "out" / "train_centroids.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert "40" in text


def test_unevenness_of_equal_and_of_unequal_lists() -> None:
    learned = learn(some_codes(8, 1), 2, seed=1, rounds=1)
    even = type(learned)(learned.centroids, learned.distances, np.array([0, 1] * 4))
    uneven = type(learned)(learned.centroids, learned.distances, np.zeros(8, dtype=np.int64))
    assert train_centroids.unevenness(even) == 1
    assert train_centroids.unevenness(uneven) == 2
