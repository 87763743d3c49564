"""Chamoso et al.'s hash against a plain transcription of its algorithms, by properties, and by golden fingerprints."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from math import cos, pi, sqrt

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from copywatch.fingerprint import fingerprint_of, identity
from copywatch.fingerprint.chamoso import COSINE_SCALE, LEVEL_FRACTIONS, Chamoso, lowest_frequencies, reduced, upright
from copywatch.fingerprint.frame import frame_box
from copywatch.settings import PROJECT_DIR
from tests.fingerprint.pictures import encoded, gradient, scene

CHAMOSO = Chamoso()
PHOTOS = sorted((PROJECT_DIR / "include" / "copywatch" / "demo" / "photos").glob("*.jpg"))
UNIT = LEVEL_FRACTIONS * COSINE_SCALE**2 * 16
"""What whole coefficients have to be divided by; 16 is N / 2."""


def photo(number: int) -> Image.Image:
    with Image.open(PHOTOS[number]) as file:
        return file.convert("RGB")


def areas(grey: NDArray[np.uint8]) -> list[list[Fraction]]:
    """Means of 32 x 32 equal parts, pixel by pixel, in fractions."""
    rows, columns = grey.shape

    def share(pixel: int, part: int, length: int) -> Fraction:
        begin, end = Fraction(part * length, 32), Fraction((part + 1) * length, 32)
        return max(Fraction(0), min(end, Fraction(pixel + 1)) - max(begin, Fraction(pixel))) / Fraction(length, 32)

    def parts(length: int) -> list[list[tuple[int, Fraction]]]:
        every = [[(pixel, share(pixel, part, length)) for pixel in range(length)] for part in range(32)]
        return [[(pixel, weight) for pixel, weight in line if weight] for line in every]

    down, across = parts(rows), parts(columns)
    return [
        [sum((v * h * int(grey[y, x]) for y, v in down[i] for x, h in across[j]), Fraction(0)) for j in range(32)]
        for i in range(32)
    ]


def turned(small: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """Algorithm 2 line by line, with Pillow's counter-clockwise `rotate`; squares are those with equal sides."""

    def rotate(levels: NDArray[np.float64], degrees: int) -> NDArray[np.float64]:
        return np.asarray(Image.fromarray(levels.astype(np.float32)).rotate(degrees), dtype=float)

    if width == height:
        means = {
            "north": small[:16, :].mean(),
            "south": small[16:, :].mean(),
            "west": small[:, :16].mean(),
            "east": small[:, 16:].mean(),
        }
        highest = max(means, key=lambda side: means[side])
        return rotate(small, {"north": 0, "south": 180, "west": 270, "east": 90}[highest])
    if width < height:
        small = rotate(small, 90)
    return rotate(small, 180) if small[:16].mean() < small[16:].mean() else small


def equations_13_and_14(f: NDArray[np.float64], u: int, v: int) -> float:
    """One coefficient, by the double sum."""
    n = len(f)

    def c(x: int) -> float:
        return 1 / sqrt(2) if x == 0 else 1.0

    total = 0.0
    for x in range(n):
        for y in range(n):
            total += f[x, y] * cos((2 * x + 1) * u * pi / (2 * n)) * cos((2 * y + 1) * v * pi / (2 * n))
    return 2 / n * c(u) * c(v) * total


def algorithm_3(image: Image.Image) -> list[int]:
    """The bits in floating point, with OpenCV's transform."""
    box = frame_box(image)
    grey = (image if box is None else image.crop(box)).convert("L")
    means = np.array([[float(mean) for mean in line] for line in areas(np.asarray(grey))])
    low = cv2.dct(turned(means, *grey.size))[:12, :12]
    return [1 if value > low.mean() else 0 for value in low.ravel()]


@pytest.mark.parametrize(
    "image",
    [
        scene(96, 64, seed=1),
        scene(61, 97, seed=2),
        scene(80, 80, seed=3),
        gradient(70, 45),
        ImageOps.expand(scene(70, 50, seed=4), 9, (245, 245, 245)),
        photo(0).resize((120, 80)),
        photo(3).resize((64, 96)),
        photo(7).resize((90, 60)).rotate(180),
    ],
)
def test_equals_the_transcription(image: Image.Image) -> None:
    assert CHAMOSO.fingerprint(image).tolist() == algorithm_3(image)


def test_coefficients_equal_the_equations() -> None:
    small = np.random.default_rng(1).integers(0, 255 * LEVEL_FRACTIONS + 1, (32, 32))
    wanted = [[equations_13_and_14(small / LEVEL_FRACTIONS, u, v) for v in range(12)] for u in range(12)]
    low = lowest_frequencies(small)
    assert low.dtype == np.int64
    # The whole cosines are off by half of 2^-15 at most.
    np.testing.assert_allclose(low / UNIT, wanted, rtol=1e-4, atol=0.02)
    np.testing.assert_allclose(cv2.dct(small / LEVEL_FRACTIONS)[:12, :12], wanted, atol=1e-9)


def test_the_largest_sums_fit() -> None:
    bound = 255 * LEVEL_FRACTIONS * (32 * COSINE_SCALE) ** 2 * 144
    assert bound < 2**63
    white = lowest_frequencies(np.full((32, 32), 255 * LEVEL_FRACTIONS))
    assert white[0, 0] / UNIT == pytest.approx(255 * 32, rel=1e-4)
    assert np.abs(white[1:, 1:]).max() / UNIT < 0.1


@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=20, deadline=None)
def test_reduction_means_equal_areas(size: tuple[int, int], seed: int) -> None:
    grey = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    small = reduced(grey)
    for line, wanted in zip(small.tolist(), areas(grey), strict=True):
        for value, mean in zip(line, wanted, strict=True):
            assert abs(Fraction(value, LEVEL_FRACTIONS) - mean) * 2 * LEVEL_FRACTIONS <= 1


def test_reduction_is_pillow_s_box_filter() -> None:
    grey = photo(2).convert("L")
    theirs = np.asarray(grey.resize((32, 32), Image.Resampling.BOX), dtype=float)
    assert np.abs(reduced(np.asarray(grey)) / LEVEL_FRACTIONS - theirs).max() < 1.05


def test_reduction_of_many_rows_is_that_of_its_strips() -> None:
    grey = np.random.default_rng(4).integers(0, 256, (3 * 512 + 32, 40), dtype=np.uint8)
    rows = grey.reshape(32, -1, 40).astype(np.int64).sum(axis=1)
    tall = np.repeat(rows, 32, axis=0).reshape(32, 32, 40).sum(axis=1)
    cells = np.repeat(tall, 32, axis=1).reshape(32, 32, 40).sum(axis=2) / (grey.size)
    np.testing.assert_allclose(reduced(grey) / LEVEL_FRACTIONS, cells, atol=0.5 / LEVEL_FRACTIONS + 1e-9)


@given(
    size=st.tuples(st.integers(20, 240), st.integers(20, 240)),
    seed=st.integers(0, 40),
    margin=st.integers(0, 12),
    quarters=st.integers(1, 3),
)
@settings(max_examples=80, deadline=None)
def test_all_orientations_have_one_fingerprint(size: tuple[int, int], seed: int, margin: int, quarters: int) -> None:
    image = ImageOps.expand(scene(*size, seed), margin, (250, 250, 250))
    box = frame_box(image) or (0, 0, *image.size)
    grey = np.asarray(image.crop(box).convert("L"))
    small = np.sort([part.sum() for part in halves(reduced(grey), grey.shape)])
    # Equally bright halves leave it open which way is up.
    assume(small[-1] > small[-2])
    other = Image.fromarray(np.rot90(np.asarray(image), quarters))
    assert np.array_equal(CHAMOSO.fingerprint(other), CHAMOSO.fingerprint(image))


def halves(small: NDArray[np.int64], shape: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """Those that decide: all four of a square, else the two long ones."""
    down, across = [small[:16], small[16:]], [small[:, :16], small[:, 16:]]
    rows, columns = shape
    if max(shape) < 1.05 * min(shape):
        return down + across
    return down if columns > rows else across


@pytest.mark.parametrize("number", [0, 3, 9, 12])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turned_photos_have_one_fingerprint(number: int, quarters: int) -> None:
    image = photo(number)
    other = Image.fromarray(np.rot90(np.asarray(image), quarters))
    assert np.array_equal(CHAMOSO.fingerprint(other), CHAMOSO.fingerprint(image))


@pytest.mark.parametrize("brightest", range(4))
def test_the_brightest_half_of_a_square_comes_on_top(brightest: int) -> None:
    small = np.arange(32 * 32).reshape(32, 32) % 97
    small[:16] += 5000
    wanted = small.copy()
    assert np.array_equal(upright(np.rot90(small, brightest), width=100, height=100), wanted)


def test_an_almost_square_picture_is_turned_like_a_square() -> None:
    small = np.zeros((32, 32), dtype=np.int64)
    small[:, :16] = 100
    assert (upright(small, width=104, height=100)[:16] == 100).all()
    assert np.array_equal(upright(small, width=106, height=100), small)


def test_a_square_in_an_imprecise_frame_is_turned_like_its_original() -> None:
    square = photo(5).crop((100, 50, 500, 450))
    copy = Image.open(BytesIO(encoded(ImageOps.expand(square, 25, (245, 245, 245)), "JPEG", quality=50)))
    assert CHAMOSO.distance(CHAMOSO.fingerprint(copy), CHAMOSO.fingerprint(square)) <= 3 / 144
    trimmed = square.crop((0, 0, 400, 398))
    assert CHAMOSO.distance(CHAMOSO.fingerprint(trimmed), CHAMOSO.fingerprint(square)) <= 8 / 144


def light_frame(image: Image.Image) -> Image.Image:
    return ImageOps.expand(image, 30, (245, 245, 245))


def dark_frame(image: Image.Image) -> Image.Image:
    return ImageOps.expand(image, 60, (10, 10, 10))


def jpeg_50(image: Image.Image) -> Image.Image:
    return Image.open(BytesIO(encoded(image, "JPEG", quality=50)))


def half_size(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def framed_turned_and_saved(image: Image.Image) -> Image.Image:
    return jpeg_50(light_frame(image).rotate(90, expand=True))


@pytest.mark.parametrize(
    ("edit", "share"),
    [(light_frame, 0.9), (dark_frame, 0.9), (jpeg_50, 0.6), (half_size, 0.45), (framed_turned_and_saved, 0.55)],
)
def test_what_the_paper_undoes_stays_close(edit: Callable[[Image.Image], Image.Image], share: float) -> None:
    # These scans have dark edges of a few pixels, which come off as frames a pixel sooner or later: a few bits.
    distances = [
        CHAMOSO.distance(CHAMOSO.fingerprint(edit(photo(number))), CHAMOSO.fingerprint(photo(number)))
        for number in range(len(PHOTOS))
    ]
    assert np.mean(np.array(distances) <= CHAMOSO.threshold) >= share
    assert np.mean(np.array(distances) <= 5 / 144) >= 0.9


def test_different_photos_are_not() -> None:
    symbols = [CHAMOSO.fingerprint(photo(number)) for number in range(len(PHOTOS))]
    least = min(CHAMOSO.distance(a, b) for i, a in enumerate(symbols) for b in symbols[:i])
    assert least > 20 * CHAMOSO.threshold


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3), (31, 33), (16, 16)])
def test_hostile_sizes(size: tuple[int, int]) -> None:
    y, x = np.mgrid[: size[1], : size[0]]
    image = Image.fromarray(((x * 7 + y * 13) % 256).astype(np.uint8)).convert("RGB")
    assert CHAMOSO.fingerprint(image).tolist() == algorithm_3(image)


@pytest.mark.parametrize("tone", [0, 90, 255])
def test_a_blank_picture_has_no_frequency_but_the_first(tone: int) -> None:
    bits = CHAMOSO.fingerprint(Image.new("RGB", (50, 40), (tone, tone, tone)))
    assert bits.tolist() == [1 if tone else 0] + [0] * 143


@given(st.lists(st.integers(0, 1), min_size=144, max_size=144))
@settings(max_examples=50)
def test_encoding_is_reversible(symbols: list[int]) -> None:
    code = CHAMOSO.encode(np.array(symbols, dtype=np.uint8))
    assert code == int("".join(map(str, symbols)), 2).to_bytes(18, "big")
    assert CHAMOSO.decode(code).tolist() == symbols


def test_one_bit_is_similar_and_two_are_not() -> None:
    a, b = np.zeros(144, np.uint8), np.zeros(144, np.uint8)
    b[5] = 1
    assert CHAMOSO.distance(a, b) == 1 / 144 <= CHAMOSO.threshold
    b[6] = 1
    assert CHAMOSO.distance(a, b) == 2 / 144 > CHAMOSO.threshold


# What follows must never change while the version is 1: stored fingerprints would no longer compare.

GOLDEN = {
    "01.jpg": "80e86002040e4b0b90482000000061904000",
    "09.jpg": "8749c11c926618766000083800000c060988",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_fingerprints_of_photos(name: str) -> None:
    assert identity(CHAMOSO) == "chamoso/1"
    path = next(path for path in PHOTOS if path.name == name)
    assert fingerprint_of(path.read_bytes(), "chamoso").hex() == GOLDEN[name]
