"""The photos that experiments run on: any folder of them, or the demo's 24.

A folder may say more about its photos, in files beside them:

- `manifest.csv`, columns split,path,width,height,fine,tags: then its rows are the photos, and no other file is. Rows
  of the split "hardneg" are look-alikes: other objects in the same pose on the same ground.
- `same_photos.csv`, columns a,b: two files that show one scene, so that they do not count as different: a retouched or
  a mirrored copy, two shots a moment apart. Where there is none, `benchmarks/same_photos.csv` is read; its names are
  those of Corel-1000 and Caltech-101 and say nothing about other folders.
- `real_copies.csv`, columns label,a,b: pairs that strangers made.
"""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

from PIL import Image

from copywatch.decode import decode
from copywatch.errors import UnusableImage

log = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parents[1]
DEMO_PHOTOS = PROJECT / "include" / "copywatch" / "demo" / "photos"
SAME_PHOTOS = Path(__file__).with_name("same_photos.csv")

MOST_PIXELS = 178_000_000
MOST_BYTES = 1 << 30

Group = Literal["photo", "look-alike"]
Half = Literal["choose", "report"]

_LOOK_ALIKE_SPLIT = "hardneg"
_ABOUT_THE_PHOTOS = (".csv", ".md", ".txt")


@dataclass(frozen=True)
class Photo:
    """A usable picture of the folder.

    Attributes:
        name: path inside the folder, with slashes.
        path: the file.
        digest: SHA-256 of its bytes, hexadecimal.
        group: "look-alike" if the manifest says that it is a hard negative.
        scene: name of the first photo of what it shows; two photos of one scene are not different photos.
    """

    name: str
    path: Path
    digest: str
    group: Group
    scene: str

    def image(self) -> Image.Image:
        """The pixels, RGB, upright; decoded anew each time, as the product decodes."""
        return decode(self.path.read_bytes(), max_pixels=MOST_PIXELS, max_bytes=MOST_BYTES).rgb

    @property
    def half(self) -> Half:
        """Where thresholds and parameters are chosen, or where figures are reported.

        By a hash of the scene, not of the name: else a photo and its twin could stand on both sides.
        """
        return "choose" if hashlib.sha256(self.scene.encode()).digest()[0] % 2 == 0 else "report"


@dataclass(frozen=True)
class RealPair:
    """Two files of which somebody said what they are to each other.

    Attributes:
        label: "copy", "crop_copy", "graphic" (the same drawing or logo), "hardneg" (different, but alike).
        a: a file.
        b: another.
    """

    label: str
    a: Path
    b: Path


def read_photos(folder: Path = DEMO_PHOTOS, same: Path | None = None) -> list[Photo]:
    """Every usable picture below `folder`, by name. What is unusable is left out and named in one log line.

    Args:
        folder: see the module.
        same: file of pairs that show one scene; by default the folder's own, else the project's.

    Raises:
        FileNotFoundError: there is no such folder, or the manifest names a file that is not there.
        ValueError: the folder has no usable picture, or a table lacks a column.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder of photos")
    groups = _manifest(folder)
    own_same = folder / SAME_PHOTOS.name
    scenes = _scenes(same or (own_same if own_same.exists() else SAME_PHOTOS), set(groups))
    photos: list[Photo] = []
    left_out: list[str] = []
    for name in sorted(groups):
        data = (folder / name).read_bytes()
        try:
            decode(data, max_pixels=MOST_PIXELS, max_bytes=MOST_BYTES)
        except UnusableImage as error:
            left_out.append(f"{name} ({error})")
            continue
        digest = hashlib.sha256(data).hexdigest()
        photos.append(Photo(name, folder / name, digest, groups[name], scenes.get(name, name)))
    if left_out:
        log.warning("%s: %d of %d files left out: %s", folder.name, len(left_out), len(groups), "; ".join(left_out))
    if not photos:
        raise ValueError(f"{folder} holds no usable picture")
    return photos


class Pictures(Sequence[Image.Image]):
    """Photos as a sequence of images, decoded when they are asked for: two thousand at once would fill the memory."""

    def __init__(self, photos: Sequence[Photo]) -> None:
        self._photos = photos

    def __len__(self) -> int:
        return len(self._photos)

    @overload
    def __getitem__(self, place: int) -> Image.Image: ...
    @overload
    def __getitem__(self, place: slice) -> Pictures: ...
    def __getitem__(self, place: int | slice) -> Image.Image | Pictures:
        return Pictures(self._photos[place]) if isinstance(place, slice) else self._photos[place].image()


def different(photos: Iterable[Photo]) -> list[Photo]:
    """The first photo of each scene: any two of these are different photos."""
    first: dict[str, Photo] = {}
    for photo in photos:
        first.setdefault(photo.scene, photo)
    return list(first.values())


def half(photos: Iterable[Photo], which: Half) -> list[Photo]:
    """The photos of one half, in their order."""
    return [photo for photo in photos if photo.half == which]


def read_real_copies(folder: Path) -> list[RealPair]:
    """The pairs of the folder's `real_copies.csv`; none if it has no such file.

    Raises:
        ValueError: the table lacks a column.
    """
    table = folder / "real_copies.csv"
    if not table.exists():
        return []
    return [RealPair(row["label"], folder / row["a"], folder / row["b"]) for row in _rows(table, ("label", "a", "b"))]


def _manifest(folder: Path) -> dict[str, Group]:
    """Name of each photo -> its group."""
    manifest = folder / "manifest.csv"
    if manifest.exists():
        rows = _rows(manifest, ("split", "path"))
        return {row["path"]: "look-alike" if row["split"] == _LOOK_ALIKE_SPLIT else "photo" for row in rows}
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() not in _ABOUT_THE_PHOTOS)
    return {path.relative_to(folder).as_posix(): "photo" for path in files}


def _scenes(table: Path, names: set[str]) -> dict[str, str]:
    """Name -> first name of its scene, for the photos that share one. Pairs are joined: a = b and b = c make a = c."""
    scenes: dict[str, set[str]] = {}
    for row in _rows(table, ("a", "b")):
        if row["a"] in names and row["b"] in names:
            joined = scenes.get(row["a"], {row["a"]}) | scenes.get(row["b"], {row["b"]})
            for name in joined:
                scenes[name] = joined
    return {name: min(scene) for name, scene in scenes.items()}


def _rows(table: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        missing = [column for column in columns if column not in (reader.fieldnames or [])]
        if missing:
            raise ValueError(f"{table} lacks the column {missing[0]!r}; it has {reader.fieldnames}")
        return list(reader)
