"""Solid frames: against OpenCV's bounding rectangle, on photos with frames put on, and on all that is no frame."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from copywatch.fingerprint.frame import KEPT_SHARE, MIN_SIDE, REACH, TOLERANCE, WORKING_SIDE, Box, frame_box
from copywatch.settings import PROJECT_DIR
from tests.fingerprint.pictures import encoded, scene

PHOTOS = sorted((PROJECT_DIR / "include" / "copywatch" / "demo" / "photos").glob("*.jpg"))
SCENE = scene(300, 200, seed=2)


def grey(levels: NDArray[np.int64]) -> Image.Image:
    return Image.fromarray(levels.astype(np.uint8))


def framed(image: Image.Image, tone: int, *, across: float, down: float) -> tuple[Image.Image, int, int]:
    """The image inside borders that are shares of its sides, at each edge; and their widths in pixels."""
    x, y = round(image.width * across), round(image.height * down)
    return ImageOps.expand(image, (x, y), (tone, tone, tone)), x, y


def checkered(rows: int, columns: int) -> NDArray[np.int64]:
    """Neither of its two tones makes a line uniform, and both are far from those between 60 and 190."""
    y, x = np.mgrid[:rows, :columns]
    return np.where((x + y) % 2 == 0, 20, 230)


def bounding_rectangle(image: Image.Image, tone: int) -> Box:
    """Algorithm 1, lines 5 to 7, by OpenCV."""
    levels = np.asarray(image.convert("L"), dtype=np.int64)
    binary = (np.abs(levels - tone) > TOLERANCE).astype(np.uint8)
    x, y, width, height = cv2.boundingRect(cv2.findNonZero(binary))
    return x, y, x + width, y + height


@given(
    tone=st.integers(60, 190),
    margins=st.tuples(*[st.integers(1, 60)] * 4),
    size=st.tuples(st.integers(80, 200), st.integers(80, 200)),
)
@settings(max_examples=60, deadline=None)
def test_a_frame_leaves_the_bounding_rectangle(tone: int, margins: tuple[int, ...], size: tuple[int, int]) -> None:
    left, upper, right, lower = margins
    picture = np.full((upper + size[1] + lower, left + size[0] + right), tone)
    picture[upper : upper + size[1], left : left + size[0]] = checkered(size[1], size[0])
    image = grey(picture)
    assert frame_box(image) == bounding_rectangle(image, tone) == (left, upper, left + size[0], upper + size[1])


@given(
    tone=st.integers(60, 190),
    objects=st.lists(
        st.tuples(st.integers(20, 120), st.integers(20, 150), st.integers(30, 60), st.integers(30, 60)),
        min_size=2,
        max_size=2,
    ),
)
@settings(max_examples=60, deadline=None)
def test_objects_on_a_ground_leave_the_bounding_rectangle(tone: int, objects: list[tuple[int, int, int, int]]) -> None:
    picture = np.full((240, 200), tone)
    for x, y, width, height in objects:
        picture[y : y + height, x : x + width] = checkered(height, width)
    image = grey(picture)
    box = frame_box(image)
    assert box is not None
    left, upper, right, lower = bounding_rectangle(image, tone)
    # Where both objects together make an edge straight, it is looked for up to a block of JPEG further in.
    assert left <= box[0] < left + REACH
    assert upper <= box[1] < upper + REACH
    assert right - REACH < box[2] <= right
    assert lower - REACH < box[3] <= lower


def jpeg_50(image: Image.Image) -> Image.Image:
    return Image.open(BytesIO(encoded(image, "JPEG", quality=50)))


def three_tenths(image: Image.Image) -> Image.Image:
    return image.resize((image.width * 3 // 10, image.height * 3 // 10), Image.Resampling.LANCZOS)


def largest_error(found: Box | None, copy: Image.Image, own: Box, original: tuple[int, int], x: int, y: int) -> float:
    """How far the copy's box is from its original's own, as a share of the original's sides."""
    width, height = original
    across, down = (width + 2 * x) / copy.width, (height + 2 * y) / copy.height
    left, upper, right, lower = found or (0, 0, *copy.size)
    return max(
        abs(left * across - x - own[0]) / width,
        abs(upper * down - y - own[1]) / height,
        abs(right * across - x - own[2]) / width,
        abs(lower * down - y - own[3]) / height,
    )


@pytest.mark.parametrize("tone", [245, 10])
@pytest.mark.parametrize("edit", [jpeg_50, three_tenths])
def test_frames_around_photos_are_found(tone: int, edit: Callable[[Image.Image], Image.Image]) -> None:
    errors = []
    for number, path in enumerate(PHOTOS):
        with Image.open(path) as file:
            photo = file.convert("RGB")
        # These scans have dark edges of a few pixels: their own box is what must come back.
        own = frame_box(photo) or (0, 0, *photo.size)
        for share in ((0.025, 0.1), (0.05, 0.2))[number % 2]:
            copy, x, y = framed(photo, tone, across=share, down=share)
            copy = edit(copy)
            errors.append(largest_error(frame_box(copy), copy, own, photo.size, x, y))
    assert np.mean(np.array(errors) <= 0.02) >= 0.9
    assert max(errors) <= 0.05


def test_photos_lose_no_more_than_the_edges_of_their_scan() -> None:
    for path in PHOTOS:
        with Image.open(path) as photo:
            left, upper, right, lower = frame_box(photo) or (0, 0, *photo.size)
            assert max(left, upper, photo.width - right, photo.height - lower) <= 13


@pytest.mark.parametrize(
    ("across", "down"), [(0.1, 0.0), (0.0, 0.15), (0.025, 0.2)], ids=["pillars", "letterbox", "uneven"]
)
def test_frames_need_not_be_on_all_sides(across: float, down: float) -> None:
    copy, x, y = framed(SCENE, 10, across=across, down=down)
    assert frame_box(jpeg_50(copy)) == (x, y, x + SCENE.width, y + SCENE.height)


@pytest.mark.parametrize("side", range(4))
def test_a_flat_bar_on_one_side_is_a_frame_and_an_uneven_one_is_not(side: int) -> None:
    bar = [0, 0, 0, 0]
    bar[side] = 30
    image = ImageOps.expand(SCENE, tuple(bar), (235, 235, 235))
    wanted = (bar[0], bar[1], bar[0] + SCENE.width, bar[1] + SCENE.height)
    assert frame_box(image) == wanted
    levels = np.asarray(image.convert("L"), dtype=np.int64).copy()
    inside = np.zeros(levels.shape, dtype=bool)
    inside[wanted[1] : wanted[3], wanted[0] : wanted[2]] = True
    noise = np.random.default_rng(side).integers(-12, 13, levels.shape)
    assert frame_box(grey(np.where(inside, levels, 235 + noise))) is None


def test_a_sky_is_no_frame() -> None:
    picture = np.asarray(scene(300, 200, seed=2).convert("L"), dtype=np.int64).copy()
    picture[:90] = np.linspace(150, 230, 90).astype(np.int64)[:, np.newaxis]
    assert frame_box(grey(picture)) is None


def test_frames_inside_frames_come_off_too() -> None:
    inner = ImageOps.expand(SCENE, 12, (250, 250, 250))
    assert frame_box(ImageOps.expand(inner, 20, (8, 8, 8))) == (32, 32, 332, 232)


def test_the_blended_line_of_a_resize_counts_as_frame() -> None:
    picture = np.full((120, 160), 10)
    picture[20:100, 20:140] = 10 + checkered(80, 120) * 4 // 5
    picture[20] = 30
    assert frame_box(grey(picture)) == (20, 21, 140, 100)


@given(
    size=st.tuples(st.integers(40, 160), st.integers(40, 160)),
    margins=st.tuples(*[st.integers(0, 30)] * 4),
    tone=st.sampled_from([0, 10, 128, 245, 255]),
    quarters=st.integers(1, 3),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_a_turned_image_has_the_turned_box(
    size: tuple[int, int], margins: tuple[int, int, int, int], tone: int, quarters: int, seed: int
) -> None:
    image = ImageOps.expand(scene(*size, seed), margins, (tone, tone, tone)).convert("L")
    width, height = image.size
    left, upper, right, lower = frame_box(image) or (0, 0, width, height)
    mark = np.zeros((height, width), dtype=bool)
    mark[upper:lower, left:right] = True
    turned = np.rot90(np.asarray(image), quarters)
    left, upper, right, lower = frame_box(Image.fromarray(turned)) or (0, 0, *turned.shape[::-1])
    wanted = np.zeros(turned.shape, dtype=bool)
    wanted[upper:lower, left:right] = True
    assert np.array_equal(np.rot90(mark, quarters), wanted)


@pytest.mark.parametrize("tone", [0, 77, 255])
def test_one_tone_is_kept(tone: int) -> None:
    assert frame_box(Image.new("RGB", (300, 200), (tone, tone, tone))) is None


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 2), (MIN_SIDE - 1, 400)])
def test_hostile_sizes(size: tuple[int, int]) -> None:
    assert frame_box(Image.new("L", size, 255)) is None
    levels = np.full((size[1], size[0]), 255)
    levels[size[1] // 2, size[0] // 2] = 0
    assert frame_box(grey(levels)) is None


@given(
    canvas=st.tuples(st.integers(1, 250), st.integers(1, 250)),
    speck=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
@settings(max_examples=150, deadline=None)
def test_a_picture_is_never_cropped_to_nothing(
    canvas: tuple[int, int], speck: tuple[int, int], place: tuple[float, float]
) -> None:
    width, height = canvas
    left, upper = int(place[0] * (width - 1)), int(place[1] * (height - 1))
    levels = np.full((height, width), 250)
    patch = levels[upper : upper + speck[1], left : left + speck[0]]
    patch[:] = checkered(*patch.shape)
    box = frame_box(grey(levels))
    if box is not None:
        assert 0 <= box[0] < box[2] <= width
        assert 0 <= box[1] < box[3] <= height
        assert box != (0, 0, width, height)
        assert box[2] - box[0] >= max(MIN_SIDE, KEPT_SHARE * width)
        assert box[3] - box[1] >= max(MIN_SIDE, KEPT_SHARE * height)


def test_what_would_leave_too_little_is_kept_whole() -> None:
    for side, wanted in ((50, (100, 100, 150, 150)), (20, None)):
        levels = np.full((400, 400), 250)
        levels[100 : 100 + side, 100 : 100 + side] = checkered(side, side)
        assert frame_box(grey(levels)) == wanted


def test_large_images_are_measured_in_steps() -> None:
    photo = scene(2700, 1900, seed=1)
    copy, x, y = framed(photo, 245, across=0.05, down=0.05)
    factor = -(-copy.width // WORKING_SIDE)
    assert factor == 3
    box = frame_box(copy)
    assert box is not None
    for found, wanted in zip(box, (x, y, x + photo.width, y + photo.height), strict=True):
        assert abs(found - wanted) <= factor


def test_the_image_stays_as_it_was() -> None:
    copy, _, _ = framed(SCENE, 10, across=0.1, down=0.1)
    before = copy.tobytes()
    assert frame_box(copy) == frame_box(copy.convert("L"))
    assert copy.mode == "RGB"
    assert copy.tobytes() == before
