"""The edits of the robustness grid: what people do to a picture before they post it.

They are AugLy's wherever AugLy has them: it made the Image Similarity Challenge's copies (Papakipos and Bitton, "AugLy:
Data Augmentations for Robustness", 2022; Douze et al., "The 2021 Image Similarity Dataset and Challenge", section 4).
It has not: gamma, equalisation, collages, and rotations that keep the picture's size (its own cuts to the largest
rectangle inside). By right angles its rotation loses a row or a column of pixels to a rounding, and its text comes out
opaque whatever its opacity, so those two are Pillow's as well. Each edit's `source` says whose it is.

AugLy 1.0 names Pillow below 9 for its images; all that is used here runs on Pillow 13 and numpy 2 unchanged.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Literal

# AugLy loads libmagic when it is imported, and not every machine has it; this import brings its own.
import pylibmagic  # noqa: F401  # isort: skip
import augly.image as augly
import numpy as np
from augly.utils import MEME_DEFAULT_FONT, SCREENSHOT_TEMPLATES_DIR
from PIL import Image, ImageDraw, ImageFont, ImageOps

from benchmarks.photos import MOST_BYTES, MOST_PIXELS
from copywatch.decode import decode

Kind = Literal["mild", "strong", "orientation", "overlay", "collage"]
Apply = Callable[[Image.Image, Sequence[Image.Image], np.random.Generator], Image.Image]

SITE_QUALITY = 85
"""JPEG quality at which a site saves what is uploaded."""

LIGHT, DARK = (245, 245, 245), (10, 10, 10)
NOISE_VARIANCE = 0.002
"""Of a channel in [0, 1]: a standard deviation of 11 of 255 levels. AugLy's default, .01, is 25."""

WATERMARK = "photos.example"
CHAMOSO_LONGEST_SIDE = 450
"""Pixels (Chamoso et al., section Results)."""

_SEPIA = (0.393, 0.769, 0.189, 0.0, 0.349, 0.686, 0.168, 0.0, 0.272, 0.534, 0.131, 0.0)
_QUARTER_TURNS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}
_GLOBAL_GENERATOR = Lock()
_TEMPLATES = tuple(str(Path(SCREENSHOT_TEMPLATES_DIR) / name) for name in ("mobile.png", "web.png"))


@dataclass(frozen=True)
class Edit:
    """One edit of the grid.

    Attributes:
        name: how tables call it, "crop 5 %".
        kind: "mild" leaves the whole picture upright and in its place; the others are named by what they do to that.
        source: whose code makes it.
        apply: an RGB photo, other photos (what a collage is filled with), a generator -> the edited RGB picture.
        encodes: it is itself a JPEG coding, so it is not coded once more.
    """

    name: str
    kind: Kind
    source: str
    apply: Apply
    encodes: bool = False


def edited(edit: Edit, photo: Image.Image, fillers: Sequence[Image.Image], seed: int) -> Image.Image:
    """The copy as the product sees it: edited, saved by a site as JPEG of quality 85, decoded by `copywatch.decode`.

    Args:
        edit: what is done.
        photo: RGB.
        fillers: other photos, RGB; a collage of n needs n - 1.
        seed: the same seed gives the same pixels; edits draw independently of each other.

    Raises:
        ValueError: too few fillers.
        UnusableImage: the result has fewer than 16 pixels on a side.
    """
    return decode(posted(edit, photo, fillers, seed), max_pixels=MOST_PIXELS, max_bytes=MOST_BYTES).rgb


def posted(edit: Edit, photo: Image.Image, fillers: Sequence[Image.Image], seed: int) -> bytes:
    """The file that a site would show, before it is decoded; for the rest see `edited`.

    Raises:
        ValueError: too few fillers.
    """
    result = edit.apply(photo, fillers, np.random.default_rng([seed, zlib.crc32(edit.name.encode())]))
    buffer = BytesIO()
    if edit.encodes:
        # Without loss: only so that these pixels, too, come through the product's decoding.
        result.save(buffer, "PNG", compress_level=1)
    else:
        result.save(buffer, "JPEG", quality=SITE_QUALITY)
    return buffer.getvalue()


def _alone(function: Callable[[Image.Image], Image.Image]) -> Apply:
    """An edit that needs neither other photos nor chance."""
    return lambda photo, _fillers, _rng: function(photo)


# --- quality, size, tone --------------------------------------------------------------------------------------------


def _jpeg(quality: int) -> Edit:
    apply = _alone(lambda photo: augly.encoding_quality(photo, quality=quality))
    return Edit(f"jpeg {quality}", "mild", "AugLy encoding_quality", apply, encodes=True)


def _resize(factor: float) -> Edit:
    return Edit(f"resize {factor:g}", "mild", "AugLy scale", _alone(lambda photo: augly.scale(photo, factor=factor)))


def _aspect(percent: int) -> Edit:
    def wider(photo: Image.Image) -> Image.Image:
        return augly.change_aspect_ratio(photo, ratio=photo.width / photo.height * (1 + percent / 100))

    return Edit(f"aspect ratio {percent} %", "mild", "AugLy change_aspect_ratio", _alone(wider))


def _blur(radius: int) -> Edit:
    return Edit(f"blur {radius}", "mild", "AugLy blur", _alone(lambda photo: augly.blur(photo, radius=float(radius))))


def _noisy(photo: Image.Image, _: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
    # AugLy seeds numpy's global generator and then draws from it; nobody may draw in between.
    seed = int(rng.integers(1 << 31))
    with _GLOBAL_GENERATOR:
        return augly.random_noise(photo, var=NOISE_VARIANCE, seed=seed)


def _brightness(factor: float) -> Edit:
    apply = _alone(lambda photo: augly.brightness(photo, factor=factor))
    return Edit(f"brightness {factor:g}", "mild", "AugLy brightness", apply)


def _contrast(factor: float) -> Edit:
    apply = _alone(lambda photo: augly.contrast(photo, factor=factor))
    return Edit(f"contrast {factor:g}", "mild", "AugLy contrast", apply)


def _gamma(exponent: float) -> Edit:
    table = [round(255 * (level / 255) ** exponent) for level in range(256)] * 3
    return Edit(f"gamma {exponent:g}", "mild", "Pillow point", _alone(lambda photo: photo.point(table)))


# --- what is laid over a picture ------------------------------------------------------------------------------------


def _marked(photo: Image.Image, width: float, right: float, bottom: float) -> Image.Image:
    """The watermark as wide as `width` of the photo, its lower right corner at these shares of the photo's sides.

    Pillow draws it onto a transparent picture and AugLy lays that over the photo: AugLy's overlay_text writes its
    opacity into the alpha channel, which is then dropped.
    """
    layer = Image.new("RGBA", photo.size, (255, 255, 255, 0))
    size = max(8, round(100 * width * photo.width / ImageFont.truetype(MEME_DEFAULT_FONT, 100).getlength(WATERMARK)))
    ImageDraw.Draw(layer).text(
        (right * photo.width, bottom * photo.height),
        WATERMARK,
        font=ImageFont.truetype(MEME_DEFAULT_FONT, size),
        fill=(255, 255, 255, 255),
        anchor="rd",
        stroke_width=max(1, size // 25),
        stroke_fill=(40, 40, 40, 255),
    )
    return augly.overlay_image(photo, layer, opacity=0.5, overlay_size=1.0, x_pos=0.0, y_pos=0.0)


def _watermarked_across(photo: Image.Image) -> Image.Image:
    return _marked(photo, 0.8, 0.9, 0.56)


def _texted(photo: Image.Image, _: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
    return augly.overlay_text(
        photo,
        text=[int(index) for index in rng.integers(0, 1000, 12)],
        font_file=MEME_DEFAULT_FONT,
        font_size=0.1,
        color=tuple(int(level) for level in rng.integers(0, 256, 3)),
        x_pos=0.05,
        y_pos=float(rng.uniform(0.05, 0.8)),
    )


def _emojied(photo: Image.Image, _: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
    # AugLy's size is a share of the height.
    side = 0.15 * min(photo.size)
    return augly.overlay_emoji(
        photo,
        emoji_size=side / photo.height,
        x_pos=float(rng.uniform(0, 1 - side / photo.width)),
        y_pos=float(rng.uniform(0, 1 - side / photo.height)),
    )


def _screenshot(photo: Image.Image, _: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
    return augly.overlay_onto_screenshot(photo, template_filepath=_TEMPLATES[int(rng.integers(len(_TEMPLATES)))])


# --- geometry -------------------------------------------------------------------------------------------------------


def _crop(percent: int) -> Edit:
    cut = percent / 200
    apply = _alone(lambda photo: augly.crop(photo, x1=cut, y1=cut, x2=1 - cut, y2=1 - cut))
    return Edit(f"crop {percent} %", "strong" if percent >= 10 else "mild", "AugLy crop", apply)


def _border(percent: int, tone: Literal["light", "dark"]) -> Edit:
    def framed(photo: Image.Image) -> Image.Image:
        return augly.pad(
            photo, w_factor=percent / 200, h_factor=percent / 200, color=LIGHT if tone == "light" else DARK
        )

    return Edit(f"border {percent} % {tone}", "strong" if percent >= 10 else "mild", "AugLy pad", _alone(framed))


def _tilt(degrees: int) -> Edit:
    apply = _alone(lambda photo: photo.rotate(degrees, Image.Resampling.BICUBIC))
    return Edit(f"rotate {degrees}", "mild", "Pillow rotate, size kept, black corners", apply)


def _quarter_turn(degrees: int) -> Edit:
    apply = _alone(lambda photo: photo.transpose(_QUARTER_TURNS[degrees]))
    return Edit(f"rotate {degrees}", "orientation", "Pillow transpose", apply)


def _collage(pictures: Literal[2, 4]) -> Edit:
    columns, rows = 2, pictures // 2

    def collaged(photo: Image.Image, fillers: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
        if len(fillers) < pictures - 1:
            raise ValueError(f"a collage of {pictures} needs {pictures - 1} other photos, not {len(fillers)}")
        cells = [ImageOps.fit(filler, photo.size) for filler in fillers[: pictures - 1]]
        cells.insert(int(rng.integers(pictures)), photo)
        sheet = Image.new("RGB", (columns * photo.width, rows * photo.height))
        for place, cell in enumerate(cells):
            sheet.paste(cell, (place % columns * photo.width, place // columns * photo.height))
        return sheet

    return Edit(f"collage of {pictures}", "collage", "Pillow paste, cells as large as the photo", collaged)


EDITS: tuple[Edit, ...] = (
    *(_jpeg(quality) for quality in (10, 30, 50, 70, 90)),
    *(_resize(factor) for factor in (0.3, 0.5, 2.0)),
    *(_aspect(percent) for percent in (10, 25)),
    *(_blur(radius) for radius in (1, 2)),
    Edit("noise", "mild", f"AugLy random_noise, variance {NOISE_VARIANCE}", _noisy),
    *(_brightness(factor) for factor in (0.5, 0.8, 1.25, 1.5)),
    *(_contrast(factor) for factor in (0.7, 1.3)),
    *(_gamma(exponent) for exponent in (0.7, 1.4)),
    Edit("grey", "mild", "AugLy grayscale", _alone(augly.grayscale)),
    Edit("sepia", "mild", "AugLy convert_color", _alone(lambda photo: augly.convert_color(photo, None, "RGB", _SEPIA))),
    Edit("equalise", "mild", "Pillow equalize, each channel by itself", _alone(ImageOps.equalize)),
    Edit("watermark", "mild", "AugLy overlay_image of a text drawn by Pillow", _alone(_watermarked_across)),
    Edit("text", "mild", "AugLy overlay_text", _texted),
    Edit("emoji", "mild", "AugLy overlay_emoji, 15 % of the short side", _emojied),
    *(_crop(percent) for percent in (2, 5, 10, 20, 50)),
    Edit(
        "crop 5 % off-centre",
        "mild",
        "AugLy crop",
        _alone(lambda photo: augly.crop(photo, x1=0.05, y1=0.05, x2=1.0, y2=1.0)),
    ),
    *(_border(percent, "light") for percent in (5, 10, 20)),
    *(_border(percent, "dark") for percent in (5, 10, 20)),
    *(_tilt(degrees) for degrees in (2, 5)),
    *(_quarter_turn(degrees) for degrees in (90, 180, 270)),
    Edit("flip horizontal", "orientation", "AugLy hflip", _alone(augly.hflip)),
    Edit("flip vertical", "orientation", "AugLy vflip", _alone(augly.vflip)),
    Edit("screenshot", "overlay", "AugLy overlay_onto_screenshot, its web or its mobile template", _screenshot),
    _collage(2),
    _collage(4),
)
"""Percentages of crops and borders are of each side in total, half of them on each edge."""

MILD: tuple[Edit, ...] = tuple(edit for edit in EDITS if edit.kind == "mild")


# --- the kinds of Chamoso et al. ------------------------------------------------------------------------------------


def _chamoso_kind(degrees: int, watermark: bool, frame: bool) -> Edit:
    def apply(photo: Image.Image, _: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
        # The rotated images were watermarked and framed, so the watermark is upright and the frame is the outermost.
        picture = photo.transpose(_QUARTER_TURNS[degrees]) if degrees else photo
        if watermark:
            picture = _marked(picture, 0.4, 0.97, 0.97)
        if frame:
            colour = tuple(int(level) for level in rng.integers(0, 256, 3))
            picture = ImageOps.expand(picture, round(0.05 * min(picture.size)), colour)
        shrink = CHAMOSO_LONGEST_SIDE / max(picture.size)
        return picture.resize((round(picture.width * shrink), round(picture.height * shrink)), Image.Resampling.LANCZOS)

    steps = [f"rotation {degrees}"] * bool(degrees) + ["watermark"] * watermark + ["frame"] * frame
    kind: Kind = "orientation" if degrees else "mild"
    return Edit(" + ".join(steps) or "original", kind, "Pillow transpose, expand; AugLy overlay_image", apply)


CHAMOSO_KINDS: tuple[Edit, ...] = tuple(
    _chamoso_kind(degrees, watermark, frame)
    for watermark, frame in ((False, False), (True, False), (False, True), (True, True))
    for degrees in (0, 90, 180, 270)
)
"""The 16 kinds of test images of Chamoso et al. (section Results): 1,000 of each make their 16,000.

Four orientations x (plain, watermark, frame, watermark and frame). Their data set has 16 kinds more, each of these with
a colour mask, which "have not been included in the final test dataset". They name no sizes of watermark and frame:
here the watermark is half-transparent, in the lower right corner (their Figure 8), 40 % of the width; the frame is
uniform, of any colour, 5 % of the short side on each edge. All are rescaled to a longest side of 450 pixels, theirs.
"""
