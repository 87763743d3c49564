"""The binary hashes against their own libraries, and the registry's refusals."""

from __future__ import annotations

import imagehash
import numpy as np
import pdqhash
import pytest
from PIL import Image

from copywatch.errors import Reason, SettingsError, UnusableImage
from copywatch.fingerprint import algorithm_named, fingerprint_of
from tests.fingerprint.pictures import encoded, scene

PICTURE = scene(320, 240, seed=1)


@pytest.mark.parametrize(("name", "theirs"), [("dhash", "dhash"), ("ahash", "average_hash"), ("phash", "phash")])
def test_bytes_are_imagehash_s(name: str, theirs: str) -> None:
    assert fingerprint_of(encoded(PICTURE, "PNG"), name).hex() == str(getattr(imagehash, theirs)(PICTURE))


def test_dhash_compares_neighbours_of_nine_by_eight() -> None:
    small = np.asarray(PICTURE.convert("L").resize((9, 8), Image.Resampling.LANCZOS))
    wanted = [int(small[row, column + 1] > small[row, column]) for row in range(8) for column in range(8)]
    assert algorithm_named("dhash").fingerprint(PICTURE).tolist() == wanted


def test_pdq_is_pdqhash_s() -> None:
    assert np.array_equal(algorithm_named("pdq").fingerprint(PICTURE), pdqhash.compute(np.asarray(PICTURE))[0])


def test_unknown_algorithms_are_named_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"'sift'.*ahash, chamoso, dhash, mao, pdq, phash"):
        algorithm_named("sift")


def test_fingerprint_of_refuses_what_is_no_image() -> None:
    with pytest.raises(UnusableImage) as caught:
        fingerprint_of(b"<html>")
    assert caught.value.reason is Reason.HTML
