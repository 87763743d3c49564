"""The edits that a second stage is for, beyond those of `benchmarks/edits.py`: what is left of a picture in a crop, a
collage, a meme, a screenshot, on another photo, turned by any angle, or after two edits at once.

Made like the grid's: AugLy's where AugLy has them, else Pillow's, posted as JPEG of quality 85. AugLy's memes ask
Pillow for a measure of text that it no longer has, so those are Pillow's. AugLy's screenshots show a photo at 6 to 33 %
of their area, most of them below 30 %; here they are cut, as people cut them, until it is 30 %.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from math import sqrt
from types import MappingProxyType
from typing import Literal

# Imported first: it brings libmagic, which AugLy needs.
from benchmarks.edits import EDITS, LIGHT, MILD, Edit  # isort: skip
import augly.image as augly
import numpy as np
from augly.image.utils.utils import get_template_and_bbox
from augly.utils import MEME_DEFAULT_FONT, SCREENSHOT_TEMPLATES_DIR
from PIL import Image, ImageDraw, ImageFont, ImageOps

SCREENSHOT_SHARE = 0.3
"""Of a screenshot's area, taken by the photo."""
GUTTER = 0.02
"""Between the cells of a collage that are cut to fit: share of a cell's side."""

_WORDS = tuple("when you find that picture again on a page of which nobody had told me before today".split())  # noqa: SIM905
_BOXES = str(inspect.signature(augly.overlay_onto_screenshot).parameters["template_bboxes_filepath"].default)
_GRID = {edit.name: edit for edit in EDITS}


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(level) for level in rng.integers(0, 256, 3))
    return red, green, blue


# --- geometry -------------------------------------------------------------------------------------------------------


def _crop(percent: int) -> Edit:
    side = sqrt(percent / 100)

    def cropped(photo: Image.Image, _: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
        left, top = rng.uniform(0, 1 - side, 2)
        return augly.crop(photo, x1=float(left), y1=float(top), x2=float(left + side), y2=float(top + side))

    return Edit(f"crop to {percent} % of the area", "strong", "AugLy crop, anywhere", cropped)


def _border(percent: int) -> Edit:
    def framed(photo: Image.Image, _: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
        return augly.pad(photo, w_factor=percent / 100, h_factor=percent / 100, color=_colour(rng))

    return Edit(f"border {percent} % on each edge", "strong", "AugLy pad, any colour", framed)


def _turned(photo: Image.Image, _: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
    return photo.rotate(float(rng.uniform(5, 355)), Image.Resampling.BICUBIC, expand=True, fillcolor=_colour(rng))


def _turned_and_cut(photo: Image.Image, _: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
    return augly.rotate(photo, degrees=float(rng.choice([-1, 1]) * rng.uniform(5, 30)))


# --- text, screens, other photos ------------------------------------------------------------------------------------


def _fitting(text: str, width: float, height: float) -> ImageFont.FreeTypeFont:
    """AugLy's font, as large as a line may be."""
    measured = ImageFont.truetype(MEME_DEFAULT_FONT, 100)
    return ImageFont.truetype(MEME_DEFAULT_FONT, max(8, int(min(100 * width / measured.getlength(text), height))))


def _phrase(rng: np.random.Generator, words: int) -> str:
    return " ".join(_WORDS[int(place)] for place in rng.permutation(len(_WORDS))[:words])


def _banded(photo: Image.Image, _: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
    band = round(rng.uniform(0.2, 0.35) * photo.height)
    meme = Image.new("RGB", (photo.width, photo.height + band), LIGHT)
    meme.paste(photo, (0, band))
    draw = ImageDraw.Draw(meme)
    for line, text in enumerate((_phrase(rng, 5), _phrase(rng, 4))):
        font = _fitting(text, 0.94 * photo.width, 0.42 * band)
        draw.text((photo.width / 2, (0.3 + 0.43 * line) * band), text, font=font, fill=(0, 0, 0), anchor="mm")
    return meme


def _captioned(photo: Image.Image, _: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
    meme = photo.copy()
    draw = ImageDraw.Draw(meme)
    for place in (0.11, 0.89):
        text = _phrase(rng, 4).upper()
        font = _fitting(text, 0.94 * photo.width, 0.16 * photo.height)
        width = max(1, round(font.size / 12))
        middle = (photo.width / 2, place * photo.height)
        draw.text(middle, text, font=font, fill="white", anchor="mm", stroke_width=width, stroke_fill="black")
    return meme


def _screenshot(device: Literal["mobile", "web"]) -> Edit:
    template = f"{SCREENSHOT_TEMPLATES_DIR}/{device}.png"

    def shown(photo: Image.Image, _: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
        shot = augly.overlay_onto_screenshot(photo, template_filepath=template)
        _, (left, top, right, bottom) = get_template_and_bbox(template, _BOXES)
        # AugLy scales the photo into this box and centres it.
        fit = min((right - left) / photo.width, (bottom - top) / photo.height)
        width, height = fit * photo.width, fit * photo.height
        left, top = (left + right - width) / 2, (top + bottom - height) / 2
        area = width * height / SCREENSHOT_SHARE
        wide = min(shot.width, max(width, sqrt(area * shot.width / shot.height)))
        tall = min(shot.height, max(height, area / wide))
        window_left = rng.uniform(max(0, left + width - wide), min(left, shot.width - wide))
        window_top = rng.uniform(max(0, top + height - tall), min(top, shot.height - tall))
        window = (window_left, window_top, window_left + wide, window_top + tall)
        return shot.crop(tuple(round(side) for side in window))

    source = "AugLy overlay_onto_screenshot, cut until the photo is 30 % of it"
    return Edit(f"screenshot, {'phone' if device == 'mobile' else 'web'}", "overlay", source, shown)


def _inset(percent: int) -> Edit:
    side = sqrt(percent / 100)

    def laid(photo: Image.Image, fillers: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
        if not fillers:
            raise ValueError("a picture in a picture needs another photo")
        left, top = (float(place) for place in rng.uniform(0, 1 - side, 2))
        return augly.overlay_onto_background_image(
            photo, fillers[0], overlay_size=side, x_pos=left, y_pos=top, scale_bg=True
        )

    return Edit(f"inset, {percent} % of the area", "overlay", "AugLy overlay_onto_background_image", laid)


def _collage(pictures: Literal[2, 4]) -> Edit:
    def collaged(photo: Image.Image, fillers: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
        if len(fillers) < pictures - 1:
            raise ValueError(f"a collage of {pictures} needs {pictures - 1} other photos, not {len(fillers)}")
        cell = round(sqrt(photo.width * photo.height))
        step = cell + max(1, round(GUTTER * cell))
        cells = [ImageOps.fit(picture, (cell, cell)) for picture in fillers[: pictures - 1]]
        cells.insert(int(rng.integers(pictures)), ImageOps.fit(photo, (cell, cell)))
        # Two stand side by side or one above the other.
        columns = 2 if pictures == 4 else int(rng.integers(1, 3))
        sheet = Image.new("RGB", (columns * step, pictures // columns * step), LIGHT)
        for place, picture in enumerate(cells):
            sheet.paste(picture, (place % columns * step, place // columns * step))
        return sheet

    return Edit(f"collage of {pictures}, cut to fit", "collage", "Pillow fit and paste, square cells", collaged)


# --- all of them ----------------------------------------------------------------------------------------------------


def _jpeg_40(photo: Image.Image, _: Sequence[Image.Image], __: np.random.Generator) -> Image.Image:
    return augly.encoding_quality(photo, quality=40)


def _both(first: Edit, second: Edit) -> Edit:
    def applied(photo: Image.Image, fillers: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
        return second.apply(first.apply(photo, fillers, rng), fillers, rng)

    return Edit(f"{first.name} + {second.name}", second.kind, f"{first.source}; {second.source}", applied)


_CROPS = tuple(_crop(percent) for percent in (50, 40, 30))
_BORDERS = tuple(_border(percent) for percent in (15, 20))
_TURN = Edit("rotation by any angle, filled", "orientation", "Pillow rotate, expanded", _turned)
_TURN_AND_CUT = Edit("rotation to 30 degrees, cut", "orientation", "AugLy rotate", _turned_and_cut)
_MEME_BAND = Edit("meme with a band", "overlay", "Pillow text", _banded)
_MEME_TEXT = Edit("meme with text over it", "overlay", "Pillow text", _captioned)
_PHONE, _WEB = _screenshot("mobile"), _screenshot("web")
_INSETS = tuple(_inset(percent) for percent in (40, 30))
_COLLAGES = (_collage(2), _collage(4))
_JPEG = Edit("jpeg 40", "mild", "AugLy encoding_quality", _jpeg_40)
_FLIP, _GREY = _GRID["flip horizontal"], _GRID["grey"]

COMBINATIONS: tuple[Edit, ...] = (
    _both(_FLIP, _CROPS[0]),
    _both(_FLIP, _TURN),
    _both(_FLIP, _GRID["rotate 90"]),
    _both(_FLIP, _INSETS[0]),
    _both(_FLIP, _MEME_BAND),
    _both(_GREY, _TURN),
    _both(_GREY, _COLLAGES[0]),
    _both(_CROPS[0], _JPEG),
    _both(_CROPS[0], _GRID["aspect ratio 10 %"]),
    _both(_CROPS[1], _GRID["brightness 1.25"]),
    _both(_BORDERS[0], _MEME_TEXT),
    _both(_GRID["watermark"], _PHONE),
)

STRONG: Mapping[str, tuple[Edit, ...]] = MappingProxyType(
    {
        "crop": (_GRID["crop 10 %"], _GRID["crop 20 %"], *_CROPS),
        "border": (
            *(_GRID[f"border {percent} % {tone}"] for percent in (10, 20) for tone in ("light", "dark")),
            *_BORDERS,
        ),
        "rotation": (*(_GRID[f"rotate {degrees}"] for degrees in (90, 180, 270)), _TURN, _TURN_AND_CUT),
        "flip": (_FLIP, _GRID["flip vertical"]),
        "meme": (_MEME_BAND, _MEME_TEXT),
        "screenshot": (_PHONE, _WEB),
        "inset": _INSETS,
        "collage": (_GRID["collage of 2"], _GRID["collage of 4"], *_COLLAGES),
        "combination": COMBINATIONS,
        "beyond": (_GRID["crop 50 %"], _GRID["screenshot"]),
    }
)
"""Kind -> its edits, each once. "beyond": of each side half is left, a quarter of the area; AugLy's whole screenshot,
with the photo at 6 to 33 % of the area. Of both nothing is demanded."""

KINDS: Mapping[str, tuple[Edit, ...]] = MappingProxyType({"mild": MILD, **STRONG})
"""With the mild ones of the grid."""
