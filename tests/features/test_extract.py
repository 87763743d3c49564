"""Points out of pictures: selection, mirroring, and pictures that have hardly any or far too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from copywatch.features.extract import (
    CELL_POINTS,
    COARSE_POINTS,
    COARSE_SCALE,
    DESCRIBED_POINTS,
    DETECTED_POINTS,
    GRID,
    LONGEST_SIDE,
    PROTECTED_POINTS,
    Keypoints,
    detected_points,
    kept,
    keypoints,
    protected_points,
    root_sift,
    spread,
)
from copywatch.features.itq import VECTOR_UNIT
from copywatch.features.points import Points, packed, unpacked


def same(one: Points, other: Points) -> bool:
    return one.size == other.size and packed(one) == packed(other)


def bits_apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.bitwise_count(one ^ other).sum(axis=-1).astype(np.int64)


def cells(xy: NDArray[np.float32], size: tuple[int, int]) -> list[tuple[int, int]]:
    return [(min(int(x * GRID // size[0]), GRID - 1), min(int(y * GRID // size[1]), GRID - 1)) for x, y in xy.tolist()]


# --- which points ---------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([1.8, 4.9, 5.0, 30.0]), max_size=700))
def test_half_of_what_is_kept_is_coarse_if_there_is_as_much(scales: list[float]) -> None:
    """The oracle walks through the points, strongest first, twice."""
    rows = kept(np.array(scales, dtype=np.float32)).tolist()
    expected = [row for row, scale in enumerate(scales) if scale >= COARSE_SCALE][:COARSE_POINTS]
    for row in range(len(scales)):
        if len(expected) < PROTECTED_POINTS and row not in expected:
            expected.append(row)
    assert rows == sorted(expected)


def test_a_protected_photo_keeps_the_strongest_of_both_scales(photos: dict[str, Image.Image]) -> None:
    for photo in photos.values():
        found, points = keypoints(photo), protected_points(photo)
        assert len(points) == min(PROTECTED_POINTS, len(found.xy))
        coarse = found.xy[found.scale >= COARSE_SCALE][:COARSE_POINTS]
        assert {tuple(place) for place in coarse.tolist()} <= {tuple(place) for place in points.xy.tolist()}
        np.testing.assert_array_equal(points.xy[:10], found.xy[kept(found.scale)[:10]])


def test_points_stand_by_strength(photos: dict[str, Image.Image]) -> None:
    """The oracle: OpenCV's own points of the same grey picture."""
    photo = photos["01.jpg"]
    grey = photo.convert("L")
    grey.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    own = cv2.SIFT.create(DESCRIBED_POINTS).detect(np.asarray(grey), None)
    strength = {(point.pt, point.angle): point.response for point in own}
    found = keypoints(photo)
    degrees = {(round(x, 3), round(y, 3)): [] for x, y in found.xy.tolist()}
    for (place, angle), response in strength.items():
        degrees[round(place[0], 3), round(place[1], 3)].append((angle, response))
    responses = [
        min(degrees[round(x, 3), round(y, 3)], key=lambda one: abs(np.deg2rad(one[0]) - turn))[1]
        for (x, y), turn in zip(found.xy.tolist(), found.angle.tolist(), strict=True)
    ]
    assert len(responses) == len(own)
    assert responses == sorted(responses, reverse=True)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)), max_size=900), st.integers(1, 512))
def test_the_grid_takes_in_turns(places: list[tuple[float, float]], width: int) -> None:
    """The oracle goes round the cells with lists."""
    size = (width, 300)
    xy = (np.array(places, dtype=np.float32).reshape(-1, 2) * np.array(size)).astype(np.float32)
    taken = spread(xy, size).tolist()
    waiting: dict[tuple[int, int], list[int]] = {}
    for row, cell in enumerate(cells(xy, size)):
        waiting.setdefault(cell, []).append(row)
    expected: list[int] = []
    for place in range(CELL_POINTS):
        expected += sorted(rows[place] for rows in waiting.values() if len(rows) > place)
    assert taken == sorted(expected[:DETECTED_POINTS])


def test_text_leaves_points_to_the_photo(photos: dict[str, Image.Image]) -> None:
    """Strong text over a pale photo's upper third: by strength it would take most points, on the grid it does not."""
    photo = photos["01.jpg"].copy()
    photo.thumbnail((512, 512))
    pale = Image.blend(photo, Image.new("RGB", photo.size, (128, 128, 128)), 0.6)
    draw = ImageDraw.Draw(pale)
    third = pale.height // 3
    for top in range(0, third - 12, 12):
        draw.text((2, top), "WHEN THE COPY IS NOT A COPY 0123456789 " * 3, fill=(255, 255, 255))
    found = keypoints(pale)
    strongest = float((found.xy[:DETECTED_POINTS, 1] > third + 5).mean())
    chosen = detected_points(pale).upright
    on_the_grid = float((chosen.xy[:, 1] > third + 5).mean())
    assert strongest < 0.15
    assert on_the_grid > 2 * strongest
    assert on_the_grid > 0.3
    assert max(Counter(cells(chosen.xy, chosen.size)).values()) <= CELL_POINTS


def test_points_of_one_photo_are_the_same_whatever_the_number_of_threads(photos: dict[str, Image.Image]) -> None:
    threads = cv2.getNumThreads()
    try:
        for photo in photos.values():
            results = []
            for count in (1, 4, 1):
                cv2.setNumThreads(count)
                detected = detected_points(photo)
                results.append((protected_points(photo), detected.upright, detected.mirrored))
            for others in results[1:]:
                assert all(same(one, other) for one, other in zip(results[0], others, strict=True))
    finally:
        cv2.setNumThreads(threads)


# --- scale and orientation ------------------------------------------------------------------------------------------


def test_large_photos_are_scaled_down_and_small_ones_are_not_enlarged(photos: dict[str, Image.Image]) -> None:
    photo = photos["07.jpg"]
    assert max(photo.size) > LONGEST_SIDE
    assert max(protected_points(photo).size) == LONGEST_SIDE
    small = photo.resize((120, 80))
    assert protected_points(small).size == (120, 80)


def test_a_turned_photo_has_its_points_turned(photos: dict[str, Image.Image]) -> None:
    """Says which way angles go: clockwise on the screen."""
    photo = photos["12.jpg"].resize((384, 256))
    upright, turned = keypoints(photo), keypoints(photo.transpose(Image.Transpose.ROTATE_270))
    # A quarter turn clockwise: what lay at (x, y) lies at (height - 1 - y, x).
    places = np.stack([256 - 1 - upright.xy[:, 1], upright.xy[:, 0]], axis=1)
    angles = upright.angle + np.pi / 2
    _, ours, theirs = matched(places, angles, turned)
    assert len(ours) > 0.8 * len(places)
    apart = bits_apart(upright.chosen(ours).points().codes, turned.chosen(theirs).points().codes)
    assert np.median(apart) <= 6


def matched(
    places: NDArray[np.float32], angles: NDArray[np.float32], found: Keypoints
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Pairs within 1.5 pixels and 10 degrees: their distances, rows of ours, rows of `found`."""
    apart = np.linalg.norm(places[:, np.newaxis] - found.xy[np.newaxis], axis=2)
    turn = np.abs((angles[:, np.newaxis] - found.angle[np.newaxis] + np.pi) % (2 * np.pi) - np.pi)
    apart[turn > np.deg2rad(10)] = np.inf
    nearest = apart.argmin(axis=1)
    distance = apart[np.arange(len(places)), nearest]
    ours = np.flatnonzero(distance < 1.5)
    return distance[ours], ours, nearest[ours]


def test_mirrored_points_are_those_of_the_mirror_image(photos: dict[str, Image.Image]) -> None:
    for name, photo in photos.items():
        ours, theirs = keypoints(photo).mirrored(), keypoints(ImageOps.mirror(photo))
        distance, one, other = matched(ours.xy, ours.angle, theirs)
        assert len(one) > 0.8 * len(ours.xy), name
        assert np.median(distance) < 0.6, name
        apart = bits_apart(ours.chosen(one).points().codes, theirs.chosen(other).points().codes)
        assert np.median(apart) <= 6, name
        unmirrored = keypoints(photo).chosen(one).points().codes
        assert np.median(bits_apart(unmirrored, theirs.chosen(other).points().codes)) > 25, name


def test_a_mirror_image_of_a_mirror_image_is_the_picture(photos: dict[str, Image.Image]) -> None:
    found = keypoints(photos["19.jpg"])
    back = found.mirrored().mirrored()
    np.testing.assert_allclose(back.xy, found.xy, atol=1e-3)
    np.testing.assert_array_equal(back.descriptors, found.descriptors)
    turn = np.abs(back.angle - found.angle)
    assert np.minimum(turn, 2 * np.pi - turn).max() < 1e-5


def test_detected_points_have_both_hands_in_one_order(photos: dict[str, Image.Image]) -> None:
    detected = detected_points(photos["07.jpg"])
    upright, mirrored = detected.upright, detected.mirrored
    assert len(upright) == len(mirrored) == DETECTED_POINTS
    np.testing.assert_allclose(mirrored.xy[:, 0], upright.size[0] - 1 - upright.xy[:, 0], atol=1e-3)
    np.testing.assert_array_equal(mirrored.xy[:, 1], upright.xy[:, 1])
    np.testing.assert_array_equal(mirrored.scale, upright.scale)
    assert (bits_apart(upright.codes, mirrored.codes) > 0).mean() > 0.99


# --- RootSIFT -------------------------------------------------------------------------------------------------------


def test_root_sift_is_the_square_root_of_shares() -> None:
    some = np.random.default_rng(0).integers(0, 256, (50, 128)).astype(np.float32)
    some[0] = 0
    vectors = root_sift(some)
    expected = np.sqrt(some[1:].astype(np.float64) / some[1:].sum(axis=1, keepdims=True))
    np.testing.assert_allclose(vectors[1:] / VECTOR_UNIT, expected, atol=0.51 / VECTOR_UNIT)
    np.testing.assert_allclose(np.linalg.norm(vectors[1:] / VECTOR_UNIT, axis=1), 1, atol=0.003)
    assert not vectors[0].any()


# --- pictures with hardly any points, or far too many ----------------------------------------------------------------


def _noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8))


def _text() -> Image.Image:
    page = Image.new("RGB", (900, 1200), "white")
    draw = ImageDraw.Draw(page)
    for top in range(0, 1200, 11):
        draw.text((0, top), "the quick brown fox jumps over the lazy dog " * 4, fill=(0, 0, 0))
    return page


def _dots() -> Image.Image:
    """Thousands of points that are all equally strong."""
    y, x = np.mgrid[:512, :512]
    near = (x % 8 - 4) ** 2 + (y % 8 - 4) ** 2
    return Image.fromarray(np.where(near <= 5, 255, 0).astype(np.uint8)).convert("RGB")


POINTLESS: dict[str, Callable[[], Image.Image]] = {
    "one colour": lambda: Image.new("RGB", (640, 480), (40, 90, 200)),
    "20 pixels": lambda: _noise(20, 20),
    "16 pixels": lambda: _noise(16, 16),
    "one pixel": lambda: _noise(1, 1),
    "a line": lambda: _noise(4000, 16),
    "a thread": lambda: _noise(1, 900),
    "noise too fine to see": lambda: _noise(3000, 2000),
    "a step": lambda: ImageOps.expand(Image.new("RGB", (200, 400), "white"), (0, 0, 200, 0), "black"),
}
CROWDED: dict[str, Callable[[], Image.Image]] = {
    "noise": lambda: _noise(512, 512),
    "much noise": lambda: _noise(512, 340).resize((3072, 2040), Image.Resampling.NEAREST),
    "text": _text,
    "dots": _dots,
}


@pytest.mark.parametrize("name", [*POINTLESS, *CROWDED])
def test_any_picture_has_a_bounded_number_of_points(name: str) -> None:
    picture = {**POINTLESS, **CROWDED}[name]()
    protected, detected = protected_points(picture), detected_points(picture)
    assert len(keypoints(picture).xy) <= DESCRIBED_POINTS
    assert len(protected) <= PROTECTED_POINTS
    assert len(detected.upright) == len(detected.mirrored) <= DETECTED_POINTS
    for points in (protected, detected.upright, detected.mirrored):
        assert packed(unpacked(*packed(points), points.size)) == packed(points)
    if name in CROWDED:
        assert len(detected.upright) > 100
    assert same(protected, protected_points(picture))


@pytest.mark.parametrize("name", ["one colour", "20 pixels", "one pixel", "a thread"])
def test_a_picture_may_have_no_point(name: str) -> None:
    picture = POINTLESS[name]()
    assert len(protected_points(picture)) == 0
    detected = detected_points(picture)
    assert len(detected.upright) == len(detected.mirrored) == 0
    assert packed(detected.upright) == (b"", b"")
    assert len(unpacked(b"", b"", detected.upright.size)) == 0


def test_the_picture_given_stays_as_it_is() -> None:
    picture = _noise(600, 300)
    before = picture.tobytes()
    protected_points(picture)
    assert picture.size == (600, 300)
    assert picture.tobytes() == before
