"""From two sides to a verdict: edited demo photos, strangers, hostile pictures, rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from copywatch.features.extract import protected_points
from copywatch.features.points import packed
from copywatch.features.thumbnail import thumbnail
from copywatch.verification.sides import Original
from copywatch.verification.verdict import Judgement
from copywatch.verification.verify import TOO_FEW_POINTS, found_of, original_of, verify

Side = Callable[[Image.Image], Original]


def box(photo: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    return photo.crop(
        (round(left * photo.width), round(top * photo.height), round(right * photo.width), round(bottom * photo.height))
    )


def quarter_of_four(photos: list[Image.Image]) -> Image.Image:
    width, height = photos[0].size
    sheet = Image.new("RGB", (2 * width, 2 * height))
    for place, photo in enumerate([photos[3], photos[1], photos[0], photos[2]]):
        sheet.paste(ImageOps.fit(photo, (width, height)), (place % 2 * width, place // 2 * height))
    return sheet


EDITS: list[tuple[str, Callable[[list[Image.Image]], Image.Image], str]] = [
    ("itself", lambda photos: photos[0], ""),
    ("half the size", lambda photos: photos[0].reduce(2), ""),
    ("blurred", lambda photos: photos[0].filter(ImageFilter.GaussianBlur(2)), ""),
    ("cropped", lambda photos: box(photos[0], 0.1, 0.2, 0.8, 0.9), "crop, 49 % of the original"),
    ("mirrored", lambda photos: ImageOps.mirror(photos[0]), "mirrored"),
    ("turned", lambda photos: photos[0].transpose(Image.Transpose.ROTATE_270), "turned by 90 degrees"),
    ("grey", lambda photos: ImageOps.grayscale(photos[0]).convert("RGB"), "grey or of one tint"),
    (
        "framed",
        lambda photos: ImageOps.expand(photos[0], photos[0].height // 10, "white"),
        "inset, 73 % of the picture",
    ),
    ("in a collage", quarter_of_four, "inset, 25 % of the picture"),
    (
        "mirrored, cropped",
        lambda photos: ImageOps.mirror(box(photos[0], 0, 0, 0.7, 1)),
        "crop, 70 % of the original, mirrored",
    ),
]


@pytest.mark.parametrize(("name", "edit", "expected"), EDITS, ids=[name for name, _, _ in EDITS])
def test_an_edited_copy_is_certain_and_the_edit_told(
    photos: list[Image.Image],
    original_side: Side,
    name: str,
    edit: Callable[[list[Image.Image]], Image.Image],
    expected: str,
) -> None:
    said = verify(original_side(photos[0]), found_of(edit(photos)))
    assert said.judgement is Judgement.CERTAIN
    assert said.mirrored == ("mirrored" in name)
    assert said.measures is not None
    assert said.measures.inliers >= 10
    assert said.probability is not None
    assert said.probability > 0.5
    told, wanted = said.edit.split(" %"), expected.split(" %")
    assert [part.rstrip("0123456789") for part in told] == [part.rstrip("0123456789") for part in wanted]
    for part, other in zip(told[:-1], wanted[:-1], strict=True):
        assert int(part.split()[-1]) == pytest.approx(int(other.split()[-1]), abs=3)


def test_the_alignment_is_in_shares(photos: list[Image.Image], original_side: Side) -> None:
    said = verify(original_side(photos[1]), found_of(box(photos[1], 0.25, 0.1, 0.75, 0.8)))
    assert said.alignment == pytest.approx((0.5, 0, 0.25, 0, 0.7, 0.1), abs=0.01)


def test_other_photos_are_different(photos: list[Image.Image], original_side: Side) -> None:
    for place, photo in enumerate(photos):
        for other in photos[:place]:
            said = verify(original_side(photo), found_of(other))
            assert said.judgement is Judgement.DIFFERENT
            assert said.edit == ""
            assert said.probability is not None
            assert said.probability < 0.05


def test_a_recoloured_part_is_not_certain(photos: list[Image.Image], original_side: Side) -> None:
    """The middle of the photo with its red and blue exchanged: every edge is where it was."""
    pixels = np.asarray(photos[0]).copy()
    height, width = pixels.shape[:2]
    middle = np.s_[height // 5 : height * 4 // 5, width // 5 : width * 4 // 5]
    vivid = pixels[middle].astype(float) @ np.array([[1, 0.1, 0], [0.1, 0.6, 0.1], [0, 0.1, 0.4]])
    first, other = pixels.copy(), pixels.copy()
    first[middle] = np.clip(vivid, 0, 255)
    other[middle] = np.clip(vivid[..., ::-1], 0, 255)
    said = verify(original_side(Image.fromarray(first)), found_of(Image.fromarray(other)))
    assert said.judgement is not Judgement.CERTAIN
    assert said.measures is not None
    assert said.measures.colour > 20


def test_a_verdict_is_the_same_twice(photos: list[Image.Image], original_side: Side) -> None:
    sides = original_side(photos[2]), found_of(photos[2].rotate(11))
    assert verify(*sides) == verify(*sides)


def test_a_row_gives_the_side_that_was_stored(photos: list[Image.Image]) -> None:
    points = protected_points(photos[0])
    kept = packed(points)
    row = {
        "codes": kept.codes,
        "positions": kept.positions,
        "scaled_width": points.size[0],
        "scaled_height": points.size[1],
        "thumbnail": thumbnail(photos[0]),
        "shard": 3,
    }
    side = original_of(row)
    np.testing.assert_array_equal(side.points.codes, points.codes)
    assert max(side.thumbnail.size) == 256
    assert verify(side, found_of(photos[0])).judgement is Judgement.CERTAIN
    with pytest.raises(ValueError, match="thumbnail"):
        original_of({**row, "thumbnail": b"no JPEG"})
    with pytest.raises(ValueError, match="points"):
        original_of({**row, "positions": kept.positions[:-1]})


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3)).astype(np.uint8))


def text() -> Image.Image:
    page = Image.new("RGB", (800, 1000), "white")
    for row in range(40):
        ImageDraw.Draw(page).text((20, 25 * row), "all work and no play makes a dull page " * 3, fill="black")
    return page


def dots() -> Image.Image:
    pixels = np.full((512, 512, 3), 255, dtype=np.uint8)
    pixels[::6, ::6] = 0
    return Image.fromarray(pixels)


HOSTILE: dict[str, Callable[[], Image.Image]] = {
    "one colour": lambda: Image.new("RGB", (500, 400), (1, 2, 3)),
    "16 pixels": lambda: Image.new("RGB", (16, 16), "red"),
    "16 pixels of noise": lambda: noise(16, 16),
    "a line": lambda: noise(2000, 2),
    "a narrow line": lambda: noise(3, 3000),
    "noise": lambda: noise(600, 600),
    "text": text,
    "dots": dots,
    "a ramp": lambda: Image.linear_gradient("L").convert("RGB"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_picture_raises_on_either_side(name: str, photos: list[Image.Image], original_side: Side) -> None:
    picture = HOSTILE[name]()
    for one, other in ((picture, picture), (photos[0], picture), (picture, photos[0])):
        said = verify(original_side(one), found_of(other))
        assert bool(said.reason) == (said.judgement is None)
        assert (said.probability is None) == (said.judgement is None)
        if one is not other:
            assert said.judgement in (Judgement.DIFFERENT, None)


def test_a_plain_picture_cannot_be_verified_and_says_so(photos: list[Image.Image], original_side: Side) -> None:
    plain = HOSTILE["one colour"]()
    for one, other in ((plain, plain), (photos[0], plain), (plain, photos[0])):
        said = verify(original_side(one), found_of(other))
        assert said.judgement is None
        assert said.reason == TOO_FEW_POINTS
        assert (said.alignment, said.measures) == (None, None)


@pytest.mark.parametrize("turn", [None, *Image.Transpose])
def test_a_picture_without_points_is_laid_over_as_a_whole(turn: Image.Transpose | None, original_side: Side) -> None:
    """A few soft spots: texture, but no points that a copy saved small would share."""
    spots = Image.new("RGB", (240, 160), (90, 110, 100))
    drawing = ImageDraw.Draw(spots)
    for x, y, radius in ((50, 50, 40), (170, 40, 25), (190, 120, 30)):
        drawing.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(220, 180, 40))
    soft = spots.filter(ImageFilter.GaussianBlur(7))
    found = soft if turn is None else soft.transpose(turn)
    said = verify(original_side(soft), found_of(found.resize((found.width // 3, found.height // 3))))
    assert said.judgement is Judgement.DOUBTFUL
    assert said.alignment is not None
    # The orientation is the right one: the upper left corner of the found picture lies where it was turned from.
    corner = np.zeros((160, 240, 3), dtype=np.uint8)
    corner[0, 0], corner[0, -1], corner[-1, 0], corner[-1, -1] = 1, 2, 3, 4
    seen = np.asarray(Image.fromarray(corner) if turn is None else Image.fromarray(corner).transpose(turn))[0, 0, 0]
    _, _, c, _, _, f = said.alignment
    assert (round(c), round(f)) == {1: (0, 0), 2: (1, 0), 3: (0, 1), 4: (1, 1)}[int(seen)]
