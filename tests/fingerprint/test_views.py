"""An image's views: which there are, that they agree with the fingerprint they come from, and golden ones."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from copywatch.fingerprint import Mao
from copywatch.fingerprint.mao import elements, informative_blocks, smoothed
from copywatch.fingerprint.views import (
    ROTATIONS,
    TURNS,
    VIEW,
    ZOOMS,
    Kind,
    protected_views,
    sighting_views,
    views_of,
)
from tests.fingerprint.pictures import scene

GOLDEN = {
    "sighting": "d4a0403a8be74197",
    "protected": "96246d8a713af999",
}


def test_a_sighting_is_its_fingerprint_and_mask() -> None:
    picture = scene(300, 200)
    (view,) = sighting_views(picture)
    algorithm = Mao()
    assert bytes(view["fingerprint"]) == algorithm.encode(algorithm.fingerprint(picture))
    _averages, differences = elements(smoothed(picture))
    assert np.unpackbits(view["mask"])[:144].astype(bool).tolist() == informative_blocks(differences).tolist()
    assert view["kind"] == Kind.UPRIGHT


def test_a_protected_image_has_every_view() -> None:
    kinds = protected_views(scene(300, 200))["kind"].tolist()
    aligned = len(ZOOMS) + 1 + len(ROTATIONS)
    assert kinds == [
        Kind.UPRIGHT,
        *(kind for kind, _ in TURNS),
        *[Kind.ALIGNED] * aligned,
        Kind.TONED,
        Kind.TONED,
    ]


@pytest.mark.parametrize(("kind", "turn"), TURNS)
def test_a_turned_copy_is_the_turned_view(kind: Kind, turn: Image.Transpose) -> None:
    picture = scene(300, 200)
    views = protected_views(picture)
    (copy,) = sighting_views(picture.transpose(turn))
    (view,) = views[views["kind"] == kind]
    assert (view["fingerprint"] == copy["fingerprint"]).mean() > 0.95
    assert np.bitwise_count(view["pdq"] ^ copy["pdq"]).sum() <= 8


def test_turns_are_all_orientations_but_upright() -> None:
    picture = scene(30, 20)
    turned = {picture.transpose(turn).tobytes() for _, turn in TURNS} | {picture.tobytes()}
    assert len(turned) == 8


@pytest.mark.parametrize("level", [10, 245])
def test_a_frame_gives_a_view_without_it(level: int) -> None:
    picture = scene(300, 200)
    framed = ImageOps.expand(picture, 20, (level, level, level))
    kinds = sighting_views(framed)["kind"].tolist()
    assert kinds == [Kind.UPRIGHT, Kind.UNFRAMED]
    assert protected_views(framed)["kind"].tolist()[-1] == Kind.UNFRAMED
    inside = sighting_views(framed)[1]
    (plain,) = sighting_views(picture)
    assert (inside["fingerprint"] == plain["fingerprint"]).mean() > 0.9


def test_flat_pictures_have_no_detail() -> None:
    (view,) = sighting_views(Image.new("RGB", (200, 200), (200, 180, 160)))
    assert not view["mask"].any()


@pytest.mark.parametrize("levels", [0, 1, 2, 4, 8])
def test_the_mask_is_detail_of_two_grey_levels(levels: int) -> None:
    pixels = np.full((108, 132), 100, dtype=np.uint8)
    # An edge between pieces 3 and 4 of the seventh column of blocks; the Gaussian takes a fifth of it.
    pixels[:, :74] += np.uint8(levels)
    blocks = np.unpackbits(sighting_views(Image.fromarray(pixels).convert("RGB"))[0]["mask"])[:144]
    assert blocks.any() == (levels >= 4)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 2), (17, 900)])
def test_odd_sizes_have_views(size: tuple[int, int]) -> None:
    picture = scene(*size)
    assert len(protected_views(picture)) >= 1 + len(TURNS) + len(ZOOMS) + 1 + len(ROTATIONS) + 2
    assert len(sighting_views(picture)) >= 1


def test_packed_views_come_back() -> None:
    views = protected_views(scene(64, 48))
    assert views_of(views.tobytes()).tobytes() == views.tobytes()
    for wrong in (b"", b"x" * 230, b"x" * (VIEW.itemsize + 1)):
        with pytest.raises(ValueError, match="231 bytes"):
            views_of(wrong)


def test_words_say_what_was_done() -> None:
    assert Kind.UPRIGHT.words == ""
    assert all(kind.words for kind in Kind if kind is not Kind.UPRIGHT)
    assert len({kind.words for kind in Kind}) == len(Kind)


def test_golden() -> None:
    """Fingerprints and masks are the same bits on every machine; PDQ computes in floating point and stays out."""
    picture = scene(640, 425, seed=3)
    for name, views in (("sighting", sighting_views(picture)), ("protected", protected_views(picture))):
        exact = views["fingerprint"].tobytes() + views["mask"].tobytes()
        assert hashlib.sha256(exact).hexdigest()[:16] == GOLDEN[name], name
