"""Each method against its rule written out plainly, and thresholds against a count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from photo_folder import folder_of
from PIL import Image, ImageOps

from benchmarks.methods import BEYOND, PlainHamming, Rescored, least_beyond, methods, pair_values
from benchmarks.photos import Pictures, read_photos
from copywatch.fingerprint import ALGORITHMS, Mao
from copywatch.fingerprint.views import protected_views, sighting_views
from copywatch.matching.score import RESCORED_THRESHOLD


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_distances_are_the_algorithms_own(name: str, tmp_path: Path) -> None:
    algorithm = ALGORITHMS[name]
    photos = read_photos(folder_of(tmp_path, 7))
    method = PlainHamming(algorithm)
    protected, queries = method.describe_protected(Pictures(photos[:4])), method.describe(Pictures(photos[2:]))
    symbols = [algorithm.fingerprint(photo.image()) for photo in photos]
    wanted = [[algorithm.distance(query, known) for known in symbols[:4]] for query in symbols[2:]]
    found = method.distances(queries, protected)
    assert method.distances(method.chosen(queries, [3, 1]), protected).tolist() == found[[3, 1]].tolist()
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


def test_each_pair_counts_once() -> None:
    distances = np.array([[0, 0.4, 0.7], [0.4, 0, 0.8], [0.7, 0.8, 0]], dtype=np.float32)
    assert sorted(pair_values(distances).tolist()) == pytest.approx([0.4, 0.7, 0.8])


def test_least_beyond() -> None:
    values = np.array([0.4, 0.1, 0.3, 0.2], dtype=np.float32)
    assert [least_beyond(values, rate) for rate in (0, 0.24, 0.25, 0.5)] == pytest.approx([0.1, 0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="two images at least"):
        least_beyond(values[:0], 0.1)


def plain_score(found: Image.Image, original: Image.Image) -> float:
    """.4 of the masked distance and .6 of PDQ's, the least over the views of both."""
    symbols = Mao().decode
    scores = []
    for one in sighting_views(found):
        for other in protected_views(original):
            detailed = [np.unpackbits(view["mask"])[:144].astype(int) for view in (one, other)]
            both = np.concatenate([sum(detailed), np.repeat(sum(detailed), 4)])
            unequal = symbols(bytes(one["fingerprint"])) != symbols(bytes(other["fingerprint"]))
            charged = np.select([both == 2, both == 1], [unequal, 0.75], 0.65).mean()
            pdq = np.unpackbits(one["pdq"] ^ other["pdq"]).mean()
            scores.append(0.4 * charged + 0.6 * pdq)
    return min(scores)


def originals_and_copies(folder: Path) -> tuple[list[Image.Image], list[Image.Image]]:
    """Five pictures; a dimmed, a mirrored, a framed, a cropped and a turned copy of one each."""
    originals = [photo.image().resize((320, 240)) for photo in read_photos(folder_of(folder, 5))]
    one, two, three, four, five = originals
    copies = [
        one.point([level * 3 // 4 for level in range(256)] * 3),
        ImageOps.mirror(two),
        ImageOps.expand(three, 12, "white"),
        four.crop((4, 3, 316, 237)),
        five.transpose(Image.Transpose.ROTATE_90),
    ]
    return originals, copies


def oracle(found: list[Image.Image], originals: list[Image.Image]) -> NDArray[np.float64]:
    return np.array([[plain_score(one, other) for other in originals] for one in found])


def test_the_products_rule_finds_by_its_score_what_its_first_stage_lets_through(tmp_path: Path) -> None:
    originals, copies = originals_and_copies(tmp_path)
    method = Rescored()
    found = method.distances(method.describe(copies), method.describe_protected(originals))
    wanted = oracle(copies, originals)
    assert found.dtype == np.float32
    let_through = found < BEYOND
    assert let_through.diagonal().all()
    assert (wanted[~let_through] > RESCORED_THRESHOLD).all()
    # A turned copy has all the symbols of its view: that one is certain, so its distance is 0.
    assert found[4, 4] == 0
    found[4, 4] = wanted[4, 4]
    np.testing.assert_allclose(found[let_through], wanted[let_through], atol=1e-6)


def test_the_products_pairs_are_exact_and_the_lesser_of_both_ways(tmp_path: Path) -> None:
    originals, copies = originals_and_copies(tmp_path)
    images = [*originals[:2], copies[0], copies[2]]
    method = Rescored()
    described = method.describe_protected(images)
    wanted = oracle(images, images)
    wanted = np.minimum(wanted, wanted.T)
    pairs = method.pair_distances(described)
    np.testing.assert_allclose(pairs, wanted, atol=1e-6)
    # The nearest pair of the six is a picture and its copy; at a rate of nothing Th lies one step below it.
    assert method.threshold_at(0.0, described) == pytest.approx(pairs[0, 2] - 1 / method.steps, abs=1e-6)
    assert (pair_values(pairs) <= method.threshold_at(1 / 6, described)).sum() == 1
    of_some = method.pair_distances(method.chosen(described, [3, 0]))
    np.testing.assert_allclose(of_some, wanted[np.ix_([3, 0], [3, 0])], atol=1e-6)


def test_protected_images_can_stand_for_found_ones(tmp_path: Path) -> None:
    originals, copies = originals_and_copies(tmp_path)
    method = Rescored()
    protected = method.describe_protected(originals)
    as_found, as_protected = method.describe(copies), method.describe_protected(copies)
    np.testing.assert_array_equal(method.distances(as_found, protected), method.distances(as_protected, protected))
