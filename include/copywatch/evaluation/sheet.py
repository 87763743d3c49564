"""What was judged wrongly, as pages of picture pairs to look at, and as a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from copywatch.decode import decode
from copywatch.errors import EvaluationError, UnusableImage
from copywatch.evaluation.evaluate import Evaluation
from copywatch.evaluation.judge import Case, Wrong
from copywatch.hostile_text import plain
from copywatch.settings import Settings

PAIRS_A_PAGE = 40
MOST_PAGES = 25
"""What does not fit on these is in the table only."""

INDEX = "index.csv"
COLUMNS = ("page", "place", "wrong", "detected", "protected", "edit", "distance", "T", "threshold", "why")

_PAIRS_ACROSS = 4
_PICTURE, _GAP, _MARGIN = 176, 4, 12
_LINE, _LINES = 17, 4
_HEAD = 44
_CELL_WIDTH = 2 * _PICTURE + _GAP + _MARGIN
_CELL_HEIGHT = _PICTURE + _LINE * _LINES + _MARGIN + 6
_PAPER, _INK, _FAINT, _GROUND = (255, 255, 255), (25, 25, 25), (110, 110, 110), (228, 228, 228)
_COLOURS = {Wrong.MISSED: (170, 90, 0), Wrong.REVIEW: (160, 30, 90), Wrong.CERTAIN: (190, 0, 0)}
_PAGE_NAME = "page-{:02d}.png"
_FORMULA_SIGNS = ("=", "+", "-", "@")


def claim_folder(folder: Path, *, apart_from: Sequence[Path]) -> None:
    """Make the folder, or take over one that an earlier evaluation wrote.

    Args:
        folder: where pages will be written.
        apart_from: folders of images that it must not lie in, where its pages would be read as images next time.

    Raises:
        EvaluationError: it holds other files, lies in one of those folders, or cannot be made.
    """
    for other in apart_from:
        if folder.resolve().is_relative_to(other.resolve()):
            raise EvaluationError(f"{folder} lies in {other}, whose images are evaluated; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not _is_ours(folder / INDEX):
            raise EvaluationError(f"{folder} holds other files; name a new folder")
    except OSError as error:
        raise EvaluationError(f"{folder}: {error.strerror}") from None


def write_misses(evaluation: Evaluation, folder: Path, *, protected: Path, detected: Path, config: Settings) -> int:
    """Write the pages and `index.csv`; pages of an earlier evaluation are replaced.

    Args:
        evaluation: what was measured.
        folder: as `claim_folder` left it.
        protected: folder of the protected images.
        detected: folder of the detected images.
        config: the size limits.

    Returns:
        How many pages.
    """
    for number in range(1, MOST_PAGES + 1):
        (folder / _PAGE_NAME.format(number)).unlink(missing_ok=True)
    pages = -(-len(evaluation.cases) // PAIRS_A_PAGE)
    drawn = min(pages, MOST_PAGES)
    _write_index(evaluation, folder / INDEX, drawn)
    for number in range(1, drawn + 1):
        cases = evaluation.cases[(number - 1) * PAIRS_A_PAGE : number * PAIRS_A_PAGE]
        title = f"page {number} of {pages}: detected | protected, threshold {evaluation.threshold.value:.4f}"
        if pages > drawn:
            title += f" ({pages - drawn} pages are not drawn, see {INDEX})"
        page = _page(title, cases, protected, detected, config)
        page.save(folder / _PAGE_NAME.format(number), optimize=True)
    return drawn


def _is_ours(index: Path) -> bool:
    try:
        with index.open(encoding="utf-8", newline="") as text:
            return text.readline(1024).rstrip("\r\n") == ",".join(COLUMNS)
    except (OSError, UnicodeDecodeError):
        return False


def _write_index(evaluation: Evaluation, file: Path, pages: int) -> None:
    # A name that is no UTF-8 must not end the table.
    with file.open("w", encoding="utf-8", errors="backslashreplace", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for number, case in enumerate(evaluation.cases):
            page, place = divmod(number, PAIRS_A_PAGE)
            writer.writerow(
                (
                    _PAGE_NAME.format(page + 1) if page < pages else "",
                    place + 1,
                    case.wrong.value,
                    _as_cell(case.detected),
                    _as_cell(case.protected),
                    _as_cell(case.edit),
                    "" if case.distance is None else round(case.distance, 6),
                    int(case.verdict),
                    round(evaluation.threshold.value, 6),
                    case.why,
                )
            )


def _as_cell(text: str) -> str:
    """A name that a spreadsheet does not take for a formula; with ./ before it, it still names the file."""
    return f"./{text}" if text.startswith(_FORMULA_SIGNS) else text


def _page(title: str, cases: Sequence[Case], protected: Path, detected: Path, config: Settings) -> Image.Image:
    rows = -(-len(cases) // _PAIRS_ACROSS)
    page = Image.new("RGB", (_PAIRS_ACROSS * _CELL_WIDTH + _MARGIN, _HEAD + rows * _CELL_HEIGHT + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, 12), title, font=_font(17), fill=_INK)
    for number, case in enumerate(cases):
        left = _MARGIN + number % _PAIRS_ACROSS * _CELL_WIDTH
        top = _HEAD + number // _PAIRS_ACROSS * _CELL_HEIGHT
        page.paste(_thumbnail(detected / case.detected, config), (left, top))
        page.paste(_thumbnail(protected / case.protected, config), (left + _PICTURE + _GAP, top))
        distance = "no distance" if case.distance is None else f"{case.distance:.4f}, T = {int(case.verdict)}"
        lines = (
            (f"{case.wrong.value}: {distance}", _COLOURS[case.wrong]),
            (" – ".join(filter(None, (plain(case.edit), case.why))) or " ", _FAINT),
            (plain(case.detected), _INK),
            (plain(case.protected), _INK),
        )
        for line, (text, colour) in enumerate(lines):
            draw.text((left, top + _PICTURE + 3 + line * _LINE), _fitting(text), font=_font(13), fill=colour)
    return page


def _thumbnail(file: Path, config: Settings) -> Image.Image:
    tile = Image.new("RGB", (_PICTURE, _PICTURE), _GROUND)
    try:
        if file.stat().st_size > config.max_image_bytes:
            return tile
        picture = decode(file.read_bytes(), max_pixels=config.max_image_pixels, max_bytes=config.max_image_bytes).rgb
    except (OSError, UnusableImage):
        return tile
    picture.thumbnail((_PICTURE, _PICTURE))
    tile.paste(picture, ((_PICTURE - picture.width) // 2, (_PICTURE - picture.height) // 2))
    return tile


def _fitting(text: str) -> str:
    """The text, cut in the middle to a pair's width: names differ at their ends."""
    width = 2 * _PICTURE + _GAP
    if _font(13).getlength(text) <= width:
        return text
    kept = len(text)
    while kept > 2:
        kept -= 1
        cut = f"{text[: kept // 2]}…{text[-(kept - kept // 2) :]}"
        if _font(13).getlength(cut) <= width:
            return cut
    return text[:1]


@lru_cache(maxsize=2)
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Pillow's own font has Latin letters only.
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
