"""Blocks of aligned pictures, against NumPy's own correlation."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from copywatch.verification.agreement import BLOCK, agreement, block_correlation, overlaid

WHOLE = np.array([[1.0, 0, 0], [0, 1, 0]])


def test_a_blocks_correlation_is_pearsons() -> None:
    rng = np.random.default_rng(0)
    a = (255 * rng.random((48, 64))).astype(np.float32)
    b = (0.4 * a + 90 * rng.random((48, 64))).astype(np.float32)
    correlation, textured = block_correlation(a, b)
    assert textured.all()
    for row in range(3):
        for column in range(4):
            place = np.s_[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK]
            expected = np.corrcoef(a[place].ravel(), b[place].ravel())[0, 1]
            assert correlation[row, column] == pytest.approx(expected, abs=2e-3)


def test_a_plain_block_has_no_texture_and_its_noise_does_not_agree() -> None:
    rng = np.random.default_rng(1)
    a = (100 + rng.random((16, 16))).astype(np.float32)
    correlation, textured = block_correlation(a, a)
    assert not textured.any()
    assert abs(correlation[0, 0]) < 0.2


def test_the_same_picture_agrees_everywhere(photos: list[Image.Image]) -> None:
    small = photos[0].copy()
    small.thumbnail((256, 256))
    said = agreement(overlaid(small, small, WHOLE), None)
    assert (said.agreement, said.overlap_agreement, said.part_agreement, said.hole) == (1, 1, 1, 0)
    assert said.weakest > 0.95
    assert (said.shown, said.covered) == (1, 1)


def test_a_large_found_picture_is_averaged_not_sampled() -> None:
    """Stripes of one pixel are even grey at half the size; sampled, they would be stripes or black."""
    stripes = np.zeros((512, 512, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    overlay = overlaid(Image.new("RGB", (256, 256)), Image.fromarray(stripes), WHOLE)
    np.testing.assert_array_equal(overlay.found, 100)


@pytest.mark.parametrize("size", [(256, 192), (192, 256), (100, 80), (37, 211)])
def test_the_overlay_is_where_the_matrix_says(size: tuple[int, int]) -> None:
    """The oracle: the found picture is the middle half of a ramp, so that its colours say where each pixel belongs."""
    width, height = size
    ramp = np.zeros((height, width, 3), dtype=np.uint8)
    ramp[..., 0] = np.linspace(0, 255, width)[None, :]
    ramp[..., 1] = np.linspace(0, 255, height)[:, None]
    whole = Image.fromarray(ramp)
    middle = whole.resize(
        (400, 300), Image.Resampling.BILINEAR, box=(width / 4, height / 4, width * 0.75, height * 0.75)
    )
    overlay = overlaid(whole, middle, np.array([[0.5, 0, 0.25], [0, 0.5, 0.25]]))
    assert overlay.overlap.mean() == pytest.approx(0.25, abs=0.02)
    off = np.abs(overlay.found.astype(int) - overlay.original)[overlay.overlap]
    # Half a pixel of the ramp, and the edges.
    assert np.percentile(off, 95) <= 1 + 128 / min(size)


def test_a_collages_neighbour_is_not_part_of_the_picture(photos: list[Image.Image]) -> None:
    """The left half of the frame shows the photo, the right half another one."""
    one, other = (np.asarray(photo.resize((256, 256))) for photo in photos[:2])
    mixed = Image.fromarray(np.hstack([one[:, :128], other[:, 128:]]))
    said = agreement(overlaid(Image.fromarray(one), mixed, WHOLE), None)
    assert said.overlap_agreement < 0.75
    assert said.part_agreement > 0.95
    assert said.shown == pytest.approx(0.5, abs=0.07)
    assert said.covered == pytest.approx(0.5, abs=0.07)
    assert not said.part[:, 9:].any()


def test_a_hole_is_the_largest_patch_that_disagrees(photos: list[Image.Image]) -> None:
    one = np.asarray(photos[0].resize((256, 256)))
    patched = one.copy()
    patched[64:128, 96:144] = np.random.default_rng(0).integers(0, 256, (64, 48, 3))
    patched[208:224, 16:32] = 255 - patched[208:224, 16:32]
    said = agreement(overlaid(Image.fromarray(one), Image.fromarray(patched), WHOLE), None)
    assert said.hole == pytest.approx(12 / said.part_blocks, abs=3 / said.part_blocks)


@pytest.mark.parametrize("size", [(1, 256), (256, 1), (1, 1), (16, 16), (256, 3)])
def test_the_narrowest_pictures_can_be_compared(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, (200, 10, 10))
    said = agreement(overlaid(picture, picture, WHOLE), None)
    assert said.blocks == 0
    assert said.shown == 1
