"""Transforms from points: planted ones are found again, chance gives none."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from copywatch.features.extract import DetectedPoints, detected_points, protected_points
from copywatch.features.points import Points
from copywatch.verification.align import align, bits_apart, distinct

CORNERS = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], dtype=np.float64)


def planted(
    photo: Image.Image, degrees: float, scale: float, mirrored: bool
) -> tuple[Image.Image, NDArray[np.float64]]:
    """The photo turned, scaled and mirrored, and the matrix that takes shares of the result to shares of the photo."""
    width, height = photo.size
    turn = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), degrees, scale)
    if mirrored:
        turn = turn @ np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]])
    pixels = cv2.warpAffine(np.asarray(photo), turn, photo.size, flags=cv2.INTER_AREA)
    to_pixels = np.array([[width, 0, -0.5], [0, height, -0.5], [0, 0, 1]])
    back = np.linalg.inv(to_pixels) @ np.linalg.inv(np.vstack([turn, [0, 0, 1]])) @ to_pixels
    return Image.fromarray(pixels), back[:2]


def random_points(rng: np.random.Generator, count: int) -> Points:
    return Points(
        size=(512, 400),
        xy=(rng.random((count, 2)) * [512, 400]).astype(np.float32),
        scale=(2 + 10 * rng.random(count)).astype(np.float32),
        angle=(6.28 * rng.random(count)).astype(np.float32),
        codes=rng.integers(0, 256, (count, 16)).astype(np.uint8),
    )


@pytest.mark.parametrize(
    ("degrees", "scale", "mirrored"),
    [
        (0, 1, False),
        (0, 1, True),
        (7, 0.8, False),
        (30, 0.6, True),
        (90, 1.3, False),
        (180, 0.5, True),
        (-137, 1, False),
    ],
)
def test_a_planted_transform_is_found_again(
    photos: list[Image.Image], degrees: float, scale: float, mirrored: bool
) -> None:
    for photo in photos[:2]:
        picture, expected = planted(photo, degrees, scale, mirrored)
        found = align(protected_points(photo), detected_points(picture))
        assert found is not None
        assert found.mirrored == mirrored
        assert found.inliers >= 20
        # Of the photo's own area the corners' places, within .5 % of its sides for each that is shown larger.
        size = math.sqrt(abs(np.linalg.det(expected[:, :2])))
        np.testing.assert_allclose(CORNERS @ found.matrix.T, CORNERS @ expected.T, atol=0.006 * max(1, size))


@pytest.mark.parametrize("factor", [0.75, 1.25])
def test_a_stretched_picture_is_found_again(photos: list[Image.Image], factor: float) -> None:
    for photo in photos:
        picture = photo.resize((round(photo.width * factor), photo.height))
        found = align(protected_points(photo), detected_points(picture))
        assert found is not None
        np.testing.assert_allclose(found.matrix, [[1, 0, 0], [0, 1, 0]], atol=0.01)


def test_the_points_brought_together_are_where_the_matrix_says(photos: list[Image.Image]) -> None:
    picture, _ = planted(photos[2], 20, 0.9, True)
    found = align(protected_points(photos[2]), detected_points(picture))
    assert found is not None
    taken = np.column_stack([found.found_xy, np.ones(len(found.found_xy))]) @ found.matrix.T
    assert np.abs((taken - found.original_xy) * 512).max() <= 3.0 * 1.2
    assert 0 < found.inliers <= len(found.original_xy)
    assert found.inliers <= found.expected <= 200


def test_one_pair_has_one_answer(photos: list[Image.Image]) -> None:
    sides = protected_points(photos[0]), detected_points(planted(photos[0], 33, 0.7, False)[0])
    cv2.setRNGSeed(1)
    one = align(*sides)
    cv2.setRNGSeed(2)
    other = align(*sides)
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.matrix, other.matrix)
    assert one.inliers == other.inliers


def test_different_photos_have_few_points_in_common(photos: list[Image.Image]) -> None:
    for place, photo in enumerate(photos):
        for other in photos[:place] + photos[place + 1 :]:
            found = align(protected_points(photo), detected_points(other))
            assert found is None or found.inliers < 6


@pytest.mark.parametrize("counts", [(0, 0), (0, 400), (1, 1), (1, 400), (3, 400), (200, 2), (200, 400)])
def test_chance_and_emptiness_do_not_raise(counts: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(counts))
    one, other = (random_points(rng, count) for count in counts)
    found = align(one, DetectedPoints(other, random_points(rng, counts[1])))
    assert found is None or found.inliers < 6


def test_points_all_at_one_place_or_on_one_line_give_no_transform_worth_anything() -> None:
    rng = np.random.default_rng(5)
    points = random_points(rng, 200)
    for xy in (np.full((200, 2), 7.0), np.column_stack([np.arange(200.0), np.full(200, 9.0)])):
        placed = Points(points.size, xy.astype(np.float32), points.scale, points.angle, points.codes)
        found = align(placed, DetectedPoints(placed, placed))
        if found is not None:
            assert np.isfinite(found.matrix).all()
            assert found.inliers <= 50


def test_distances_are_those_of_the_single_bits() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (7, 16)).astype(np.uint8), rng.integers(0, 256, (9, 16)).astype(np.uint8)
    expected = (np.unpackbits(a, axis=1)[:, None] != np.unpackbits(b, axis=1)[None]).sum(axis=2)
    np.testing.assert_array_equal(bits_apart(a, b), expected)


def test_points_at_one_place_count_once() -> None:
    xy = np.array([[1, 1], [2, 3], [3.9, 0], [4, 0], [100, 7], [101, 5]], dtype=np.float32)
    assert distinct(xy) == 3
