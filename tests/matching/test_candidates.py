"""The first stage and the scoring of several views, against the plain double loop."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

import copywatch.demo
from copywatch.decode import decode
from copywatch.fingerprint.views import TURNS, VIEW, Kind, protected_views, sighting_views
from copywatch.matching.candidates import (
    TURNED_BITS,
    UPRIGHT_BITS,
    CandidateIndex,
    Images,
    protected_code,
    sighting_code,
)
from copywatch.matching.score import RESCORED_THRESHOLD, Operands, scores
from tests.matching.test_score import near, random_views

PHOTOS = Path(copywatch.demo.__file__).parent / "photos"


def code_distance(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.bitwise_count(one ^ other).sum())


def views_of_images(seed: int, count: int, kinds: tuple[Kind, ...]) -> list[NDArray[np.void]]:
    """Made-up images with a view of each kind."""
    images = []
    for number in range(count):
        views = random_views(len(kinds), seed * 1000 + number)
        views["kind"] = kinds
        images.append(views)
    return images


PROTECTED_KINDS = (Kind.UPRIGHT, *(kind for kind, _ in TURNS), Kind.ALIGNED, Kind.TONED)


def crowd(seed: int) -> tuple[list[NDArray[np.void]], list[NDArray[np.void]]]:
    """Protected images, and sightings of which some are like one of their views, more or less."""
    protected = views_of_images(seed, 30, PROTECTED_KINDS)
    sightings = views_of_images(seed + 1, 10, (Kind.UPRIGHT,))
    rng = np.random.default_rng(seed)
    for number, share in enumerate((0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)):
        source = protected[int(rng.integers(30))]
        copy = near(source[int(rng.integers(len(source)))][np.newaxis], seed + number, share)
        copy["kind"] = Kind.UPRIGHT
        sightings.append(copy)
    return protected, sightings


def plainly(protected: list[NDArray[np.void]], sightings: list[NDArray[np.void]]) -> dict[tuple[int, int], float]:
    """The score of every pair that passes the first stage, by its definition."""
    found = {}
    for (row, seen), (column, original) in product(enumerate(sightings), enumerate(protected)):
        passes = any(
            code_distance(sighting_code(one[np.newaxis])[0], protected_code(other[np.newaxis])[0]) <= UPRIGHT_BITS
            if other["kind"] in {Kind.UPRIGHT, Kind.UNFRAMED}
            else Kind.UPRIGHT < other["kind"] < Kind.UNFRAMED and code_distance(one["pdq"], other["pdq"]) <= TURNED_BITS
            for one, other in product(seen, original)
        )
        if passes:
            rows = np.repeat(np.arange(len(seen)), len(original))
            columns = np.tile(np.arange(len(original)), len(seen))
            found[row, column] = float(scores(Operands.of(seen), rows, Operands.of(original), columns).min())
    return found


@pytest.mark.parametrize("seed", range(4))
def test_search_is_the_double_loop(seed: int) -> None:
    protected, sightings = crowd(seed)
    expected = plainly(protected, sightings)
    pairs = CandidateIndex(Images(protected)).within(Images(sightings), 1.0)
    found = dict(zip(zip(pairs.sightings.tolist(), pairs.protected.tolist(), strict=True), pairs.scores, strict=True))
    assert found == pytest.approx(expected, abs=1e-12)
    assert expected, "nothing passes the first stage: the test compares nothing"


def test_threshold_cuts_and_order_is_by_sighting_then_score() -> None:
    protected, sightings = crowd(7)
    index = CandidateIndex(Images(protected))
    every = index.within(Images(sightings), 1.0)
    bound = float(np.median(every.scores))
    some = index.within(Images(sightings), bound)
    assert len(some) == int(np.count_nonzero(every.scores <= bound))
    assert (np.lexsort((some.protected, some.scores, some.sightings)) == np.arange(len(some))).all()


def test_first_stage_code_is_the_masked_distance() -> None:
    one, other = random_views(50, 1), random_views(50, 2)
    # PDQ apart: its bits are repeated behind the symbols.
    rows = np.arange(50)
    pdq = np.bitwise_count(one["pdq"] ^ other["pdq"]).sum(axis=1) / 256
    masked = (scores(Operands.of(one), rows, Operands.of(other), rows) - 0.6 * pdq) / 0.4
    bits = np.bitwise_count(sighting_code(one) ^ protected_code(other)).sum(axis=1, dtype=int)
    assert (bits - 6 * 256 * pdq) / 2880 == pytest.approx(masked, abs=0.02)


def test_nearest_gives_as_many_as_asked_for() -> None:
    protected, sightings = crowd(3)
    index = CandidateIndex(Images(protected))
    for count in (1, 5, 30, 50):
        pairs = index.nearest(Images(sightings[:10]), count)
        assert np.bincount(pairs.sightings, minlength=10).min() >= min(count, 30)


def test_nothing_protected_or_nothing_seen() -> None:
    protected, sightings = crowd(5)
    assert len(CandidateIndex(Images([])).within(Images(sightings), 1.0)) == 0
    assert len(CandidateIndex(Images([])).nearest(Images(sightings), 3)) == 0
    assert len(CandidateIndex(Images(protected)).within(Images([]), 1.0)) == 0


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return [
        decode(path.read_bytes(), max_pixels=10**8, max_bytes=10**8).rgb.reduce(2)
        for path in sorted(PHOTOS.glob("*.jpg"))[:8]
    ]


@pytest.fixture(scope="module")
def index(photos: list[Image.Image]) -> CandidateIndex:
    return CandidateIndex(Images([protected_views(photo) for photo in photos]))


@pytest.mark.parametrize(("kind", "turn"), TURNS)
def test_turned_copies_are_found_and_named(
    kind: Kind, turn: Image.Transpose, photos: list[Image.Image], index: CandidateIndex
) -> None:
    sightings = Images([sighting_views(photo.transpose(turn)) for photo in photos])
    pairs = index.within(sightings, RESCORED_THRESHOLD)
    assert pairs.protected.tolist() == list(range(len(photos)))
    assert set(pairs.kinds.tolist()) == {int(kind)}


@pytest.mark.parametrize("level", [10, 245])
@pytest.mark.parametrize("share", [0.025, 0.05])
def test_framed_copies_are_found(level: int, share: float, photos: list[Image.Image], index: CandidateIndex) -> None:
    framed = [ImageOps.expand(photo, round(photo.width * share), (level, level, level)) for photo in photos]
    pairs = index.within(Images([sighting_views(copy) for copy in framed]), RESCORED_THRESHOLD)
    assert pairs.protected.tolist() == list(range(len(photos)))


def test_mild_edits_are_found(photos: list[Image.Image], index: CandidateIndex) -> None:
    width, height = photos[0].size
    edits = {
        "crop": lambda photo: photo.crop((0, 0, round(width * 0.95), round(height * 0.95))),
        "rotated": lambda photo: photo.rotate(4, Image.Resampling.BICUBIC),
        "equalised": ImageOps.equalize,
        "bright": lambda photo: ImageEnhance.Brightness(photo).enhance(1.5),
        "grey": lambda photo: photo.convert("L").convert("RGB"),
    }
    for name, edit in edits.items():
        copies = [photo for photo in photos if photo.size == (width, height)]
        positions = [number for number, photo in enumerate(photos) if photo.size == (width, height)]
        pairs = index.within(Images([sighting_views(edit(photo)) for photo in copies]), RESCORED_THRESHOLD)
        assert pairs.protected.tolist() == positions, name


def test_same_pixels_are_identical(photos: list[Image.Image], index: CandidateIndex) -> None:
    pairs = index.within(Images([sighting_views(photo) for photo in photos]), 0.0)
    assert pairs.identical.all()
    assert pairs.protected.tolist() == list(range(len(photos)))
    assert pairs.distances.tolist() == [0.0] * len(photos)


def test_views_are_one_record_type() -> None:
    assert VIEW.itemsize == 231
