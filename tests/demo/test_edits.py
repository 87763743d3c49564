"""The edits give what they say, and the same each time."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps, UnidentifiedImageError

from copywatch.demo.edits import BROKEN, COPIES, EVERY_EDIT, ODD_FORMATS, Edit
from copywatch.demo.planting import photo_bytes
from copywatch.errors import Reason

PHOTO = photo_bytes("18.jpg")  # portrait, 512 x 768


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(opened(content)).convert("RGB"), dtype=float)


def test_names_are_unique() -> None:
    assert len(EVERY_EDIT) == 1 + len(COPIES) + len(ODD_FORMATS) + len(BROKEN)


@pytest.mark.parametrize("edit", EVERY_EDIT.values(), ids=lambda edit: edit.name)
def test_same_bytes_each_time(edit: Edit) -> None:
    assert edit.apply(PHOTO) == edit.apply(PHOTO)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("re-encoded", (512, 768)),
        ("resized", (256, 384)),
        ("watermarked", (512, 768)),
        ("sepia", (512, 768)),
        ("warm-tint", (512, 768)),
        ("cropped-2", (502, 753)),
        ("cropped-5", (486, 730)),
    ],
)
def test_copies_have_the_size_they_should(name: str, size: tuple[int, int]) -> None:
    copy = EVERY_EDIT[name].apply(PHOTO)
    assert opened(copy).size == size
    assert opened(copy).format == "JPEG"
    assert copy != PHOTO


@pytest.mark.parametrize("name", ["renamed", "byte-identical", "hot-linked", "untouched"])
def test_these_keep_the_bytes(name: str) -> None:
    assert EVERY_EDIT[name].apply(PHOTO) == PHOTO


def test_re_encoding_is_coarser() -> None:
    assert len(EVERY_EDIT["re-encoded"].apply(PHOTO)) < len(PHOTO)


def test_crops_are_of_the_middle() -> None:
    crop, whole = pixels(EVERY_EDIT["cropped-5"].apply(PHOTO)), pixels(PHOTO)
    assert abs(crop - whole[19:749, 13:499]).mean() < 4  # half of 38 rows and of 26 columns at either end


def test_watermark_is_seen_and_local() -> None:
    change = abs(pixels(EVERY_EDIT["watermarked"].apply(PHOTO)) - pixels(PHOTO)).mean(axis=2)
    assert (change > 25).mean() > 0.005
    assert change[:384].mean() < 4


def test_filters_change_the_colour() -> None:
    sepia, warm, plain = (pixels(EVERY_EDIT[name].apply(PHOTO)) for name in ("sepia", "warm-tint", "untouched"))
    assert (sepia.mean(axis=(0, 1))[0] - sepia.mean(axis=(0, 1))[2]) > 20
    assert warm[..., 0].mean() > plain[..., 0].mean()
    assert warm[..., 2].mean() < plain[..., 2].mean()


@pytest.mark.parametrize(
    ("name", "image_format", "mode"),
    [
        ("animated", "GIF", "P"),
        ("cmyk", "JPEG", "CMYK"),
        ("sixteen-bit", "PNG", "I;16"),
        ("palette", "PNG", "P"),
        ("exif-rotated", "JPEG", "RGB"),
        ("avif", "AVIF", "RGB"),
    ],
)
def test_odd_formats_are_what_they_say(name: str, image_format: str, mode: str) -> None:
    image = opened(EVERY_EDIT[name].apply(PHOTO))
    assert (image.format, image.mode) == (image_format, mode)
    image.load()


def test_animation_moves() -> None:
    assert getattr(opened(EVERY_EDIT["animated"].apply(PHOTO)), "n_frames", 1) == 3


def test_sixteen_bits_are_used() -> None:
    assert np.asarray(opened(EVERY_EDIT["sixteen-bit"].apply(PHOTO))).max() > 60_000


def test_exif_rotated_is_upright_once_turned() -> None:
    rotated = EVERY_EDIT["exif-rotated"].apply(PHOTO)
    assert opened(rotated).size == (768, 512)
    assert abs(pixels(rotated) - pixels(PHOTO)).mean() < 4


@pytest.mark.parametrize("edit", BROKEN, ids=lambda edit: edit.name)
def test_broken_ones_cannot_be_used(edit: Edit) -> None:
    content = edit.apply(PHOTO)
    match edit.reason:
        case Reason.EMPTY:
            assert content == b""
        case Reason.HTML | Reason.SVG:
            with pytest.raises(UnidentifiedImageError):
                opened(content)
        case Reason.TRUNCATED:
            with pytest.raises(OSError, match="truncated"):
                opened(content).load()
        case Reason.CORRUPT:
            image = opened(content)
            assert image.format == "PNG"
            with pytest.raises((OSError, SyntaxError)) as raised:
                image.load()
            assert "truncated" not in str(raised.value)
        case Reason.TOO_MANY_PIXELS:
            assert len(content) < 100_000
            with pytest.warns(Image.DecompressionBombWarning):
                assert opened(content).size == (10_000, 10_000)
        case Reason.TOO_SMALL:
            assert opened(content).size == (1, 1)
        case other:
            pytest.fail(f"no expectation for {other}")
