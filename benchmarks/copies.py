"""Edited copies of photos, made once and kept in a cache folder as the files that a site would show."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import PIL
from PIL import Image

from benchmarks import edits
from benchmarks.edits import Edit
from benchmarks.photos import MOST_BYTES, MOST_PIXELS, Photo
from copywatch.decode import decode

BATCH = 250
"""Pictures held decoded at once: about 100 MB of photos of half a megapixel."""


@dataclass(frozen=True)
class Copy:
    """A picture that somebody posts.

    Attributes:
        photo: of what.
        edit: how it was edited; None for the photo's own file.
        seed: of the edit's chance.
        fillers: other photos, for collages.
    """

    photo: Photo
    edit: Edit | None = None
    seed: int = 0
    fillers: tuple[Photo, ...] = ()


class CopyCache:
    """Makes copies, or finds them in its folder.

    A copy's key holds the photo's bytes, the edit, the seed, the fillers, the source text of the edits and Pillow's
    version: what is found is what would be made.
    """

    def __init__(self, folder: Path) -> None:
        """Keep copies in `folder`, which is made if it is not there."""
        self.folder = folder
        self._maker = hashlib.sha256(Path(edits.__file__).read_bytes() + PIL.__version__.encode()).hexdigest()

    def picture(self, copy: Copy) -> Image.Image:
        """The copy as the product decodes it, RGB.

        Raises:
            UnusableImage: the edit left fewer than 16 pixels on a side.
        """
        if copy.edit is None:
            return copy.photo.image()
        file = self._file(copy, copy.edit)
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            fillers = [filler.image() for filler in copy.fillers]
            data = edits.posted(copy.edit, copy.photo.image(), fillers, copy.seed)
            self.keep(file, data)
        return decode(data, max_pixels=MOST_PIXELS, max_bytes=MOST_BYTES).rgb

    def batches(self, copies: Sequence[Copy]) -> Iterator[tuple[slice, list[Image.Image]]]:
        """The pictures in their order, some at a time, each batch with its place among `copies`."""
        for start in range(0, len(copies), BATCH):
            place = slice(start, min(start + BATCH, len(copies)))
            yield place, [self.picture(copy) for copy in copies[place]]

    @staticmethod
    def keep(file: Path, data: bytes) -> None:
        """Write a file of the cache.

        Aside, then renamed, so that nobody finds half of it; under a name of its own, since several processes may make
        one copy at the same time.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as aside:
            aside.write(data)
        Path(aside.name).replace(file)

    def _file(self, copy: Copy, edit: Edit) -> Path:
        parts = (self._maker, copy.photo.digest, edit.name, str(copy.seed), *(photo.digest for photo in copy.fillers))
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        return self.folder / key[:2] / key[2:]
