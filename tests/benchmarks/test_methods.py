"""The plain method against the algorithm's own distance, and thresholds against a count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from photo_folder import folder_of

from benchmarks.methods import PlainHamming, least_beyond, methods, pair_values
from benchmarks.photos import Pictures, read_photos
from copywatch.fingerprint import ALGORITHMS


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_distances_are_the_algorithms_own(name: str, tmp_path: Path) -> None:
    algorithm = ALGORITHMS[name]
    photos = read_photos(folder_of(tmp_path, 7))
    method = PlainHamming(algorithm)
    protected, queries = method.describe(Pictures(photos[:4])), method.describe(Pictures(photos[2:]))
    symbols = [algorithm.fingerprint(photo.image()) for photo in photos]
    wanted = [[algorithm.distance(query, known) for known in symbols[:4]] for query in symbols[2:]]
    found = method.distances(queries, protected)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.35])
def test_a_threshold_lets_in_no_more_than_its_rate_and_the_next_one_does(rate: float, tmp_path: Path) -> None:
    method = methods()["dhash"]
    described = method.describe(Pictures(read_photos(folder_of(tmp_path, 12))))
    values = pair_values(method.distances(described, described))
    threshold = method.threshold_at(rate, described)
    assert (values <= np.float32(threshold)).mean() <= rate < (values <= np.float32(threshold + 1 / 64)).mean()


def test_identical_fingerprints_of_different_images_leave_no_threshold(tmp_path: Path) -> None:
    method = methods()["dhash"]
    picture = read_photos(folder_of(tmp_path, 1))[0].image()
    assert method.threshold_at(0.5, method.describe([picture, picture, picture])) == -1 / 64


def test_a_pair_counts_once_and_by_its_lesser_distance() -> None:
    distances = np.array([[0, 0.5, 0.9], [0.4, 0, 0.8], [0.7, 0.95, 0]], dtype=np.float32)
    assert sorted(pair_values(distances).tolist()) == pytest.approx([0.4, 0.7, 0.8])


def test_least_beyond() -> None:
    values = np.array([0.4, 0.1, 0.3, 0.2], dtype=np.float32)
    assert [least_beyond(values, rate) for rate in (0, 0.24, 0.25, 0.5)] == pytest.approx([0.1, 0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="two images at least"):
        least_beyond(values[:0], 0.1)
