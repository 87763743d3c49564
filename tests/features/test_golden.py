"""Points and codes that must stay the same: the tables keep them.

`golden/*.codes` and `*.positions` are `packed(protected_points(photo))` of the demo's photos, `golden/codes.txt` the
codes of descriptors that are computed here. Whole numbers make codes the same everywhere; points come out of OpenCV's
floating point, which may differ between machines.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from copywatch.features.extract import protected_points, root_sift
from copywatch.features.itq import model
from copywatch.features.points import unpacked

GOLDEN = Path(__file__).with_name("golden")
LEAST_FOUND = 0.95
MOST_BITS = 4
"""Of 128; that many codes of a point of the same place, scale and angle may differ on another machine."""


def test_codes_of_given_descriptors_are_the_same_everywhere() -> None:
    places = np.arange(64 * 128, dtype=np.int64)
    descriptors = (places * places // 7 * 31 % 251).reshape(64, 128).astype(np.float32)
    expected = (GOLDEN / "codes.txt").read_text(encoding="utf-8").split()
    assert [bytes(code).hex() for code in model().codes(root_sift(descriptors))] == expected


def test_points_of_the_demos_photos_are_the_golden_ones_within_a_few_bits(photos: dict[str, Image.Image]) -> None:
    for name, photo in photos.items():
        ours = protected_points(photo)
        golden = unpacked(*((GOLDEN / f"{name}.{column}").read_bytes() for column in ("codes", "positions")), ours.size)
        apart = np.abs(golden.xy[:, np.newaxis] - ours.xy).max(axis=2)
        turn = np.abs((golden.angle[:, np.newaxis] - ours.angle + np.pi) % (2 * np.pi) - np.pi)
        octaves = np.abs(np.log2(golden.scale[:, np.newaxis]) - np.log2(ours.scale))
        bits = np.bitwise_count(golden.codes[:, np.newaxis] ^ ours.codes).sum(axis=2)
        same = (apart < 0.1) & (turn < 0.03) & (octaves < 0.05) & (bits <= MOST_BITS)
        assert same.any(axis=1).mean() >= LEAST_FOUND, name
        assert abs(len(ours) - len(golden)) <= 0.05 * len(golden), name
