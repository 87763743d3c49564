"""The sides of the pairs that `benchmarks/verification_pairs.py` measures, made in processes and kept on disk."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import faiss
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from benchmarks import edits, strong_edits
from benchmarks.copies import CopyCache
from benchmarks.edits import posted
from benchmarks.local_features import CodeIndex
from benchmarks.photos import MOST_BYTES, MOST_PIXELS, Photo
from benchmarks.strong_edits import KINDS
from copywatch.decode import decode
from copywatch.features import extract, itq, points
from copywatch.features import thumbnail as thumbnails
from copywatch.features.extract import DetectedPoints, detected_points, protected_points
from copywatch.features.points import packed
from copywatch.features.thumbnail import thumbnail
from copywatch.fingerprint import views
from copywatch.fingerprint.views import protected_views, sighting_views
from copywatch.matching.candidates import CandidateIndex
from copywatch.verification import agreement, align, colours, verify, whole_frame
from copywatch.verification.sides import LONGEST_SIDE, Found, Original

# Processes are forked; a library's pool of threads, once begun, does not survive that.
cv2.setNumThreads(1)
faiss.omp_set_num_threads(1)

PROCESSES = 2
NICE = 10

_BY_NAME = {edit.name: edit for kind in KINDS.values() for edit in kind}


@dataclass(frozen=True)
class Seen:
    """A picture that somebody posts, as the product's first steps leave it.

    Attributes:
        file: its bytes.
        points: its local features.
        views: of its fingerprint, `VIEW` (V,).
    """

    file: bytes
    points: DetectedPoints
    views: NDArray[np.void]

    def found(self) -> Found:
        """Verification's side of it, as `copywatch.verification.verify.found_of` makes it."""
        picture = decoded(self.file)
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        return Found(self.points, picture)


@dataclass(frozen=True)
class Protected:
    """A photo as the lake keeps it.

    Attributes:
        row: columns of the table `features`.
        views: of its fingerprint, `VIEW` (V,).
    """

    row: Mapping[str, Any]
    views: NDArray[np.void]


@dataclass(frozen=True)
class Registered:
    """The protected photos, with both stages' indexes."""

    photos: Sequence[Photo]
    originals: list[Original]
    codes: CodeIndex
    first_stage: CandidateIndex

    @property
    def digest(self) -> str:
        """Of which photos."""
        return digest_of(self.photos)


@dataclass(frozen=True)
class Posted:
    """What is looked up: a photo, and what is made of it.

    Attributes:
        photo: what it shows.
        edits: names; each makes one picture; None: the photo's own file.
        fillers: other photos.
        kind: of all of them; None: as `KINDS` has them.
    """

    photo: Photo
    edits: tuple[str | None, ...]
    fillers: tuple[Photo, ...]
    kind: str | None = None

    @property
    def seed(self) -> int:
        """Another one for each photo, else all would be turned by one angle."""
        return int(self.photo.digest[:8], 16)


@dataclass(frozen=True)
class Worker:
    """What a process of the pool has; forked, so it is not sent."""

    folder: Path | None = None
    registered: Registered | None = None
    originals: Sequence[Original] = ()
    names: Sequence[Photo] = ()


_WORKER = Worker()


def digest_of(photos: Sequence[Photo]) -> str:
    """Of which photos, in which order."""
    return hashlib.sha256("\n".join(photo.digest for photo in photos).encode()).hexdigest()


def _digest(*modules: ModuleType) -> str:
    every = b"".join(Path(str(module.__file__)).read_bytes() for module in modules)
    return hashlib.sha256(every + PIL.__version__.encode() + cv2.__version__.encode()).hexdigest()


FEATURES = f"{itq.IDENTITY} {_digest(extract, points, thumbnails, views)}"
COPIES = _digest(edits, strong_edits) + FEATURES
MEASURED = _digest(align, agreement, colours, verify, whole_frame) + COPIES
"""Of the sources that a kept result was made by."""


def remembered(function: Callable[..., Any], argument: Photo | Posted | list[Any], maker: str) -> Any:
    """The function's result, from the cache if it is there.

    Args:
        function: of one argument.
        argument: what its text says is all that the result depends on, beside `maker`.
        maker: a digest of the sources that it is made by.
    """
    folder = _WORKER.folder
    if folder is None:
        return function(argument)
    key = hashlib.sha256(f"{function.__name__}\n{maker}\n{argument}".encode()).hexdigest()
    file = folder / key[:2] / key[2:]
    with suppress(FileNotFoundError):
        # Only what this very function wrote there: the cache is this user's own folder.
        return pickle.loads(file.read_bytes())
    result = function(argument)
    CopyCache.keep(file, pickle.dumps(result))
    return result


def _begin(begun: Worker) -> None:
    global _WORKER
    _WORKER = begun
    os.nice(NICE)
    cv2.setNumThreads(1)
    faiss.omp_set_num_threads(1)


def pool_of(begun: Worker) -> ProcessPoolExecutor:
    """Processes that have this, with one thread each."""
    return ProcessPoolExecutor(PROCESSES, initializer=_begin, initargs=(begun,))


def decoded(data: bytes) -> Image.Image:
    """A file as the product decodes it, RGB."""
    return decode(data, max_pixels=MOST_PIXELS, max_bytes=MOST_BYTES).rgb


def protected_of(rgb: Image.Image) -> Protected:
    """A picture from `copywatch.decode` as the lake keeps it."""
    kept = protected_points(rgb)
    width, height = kept.size
    row = {**packed(kept)._asdict(), "scaled_width": width, "scaled_height": height, "thumbnail": thumbnail(rgb)}
    return Protected(row, protected_views(rgb))


def seen_of(file: bytes) -> Seen:
    """A posted file as the product sees it."""
    rgb = decoded(file)
    return Seen(file, detected_points(rgb), sighting_views(rgb))


def protected_photo(photo: Photo) -> Protected:
    """A photo as the lake keeps it."""
    return protected_of(photo.image())


def points_of_photo(photo: Photo) -> DetectedPoints:
    """Of the photo itself, detected."""
    return detected_points(photo.image())


def copies_of(post: Posted) -> list[Seen]:
    """What is made of a photo, posted."""
    image, others = post.photo.image(), [filler.image() for filler in post.fillers]
    return [
        seen_of(post.photo.path.read_bytes() if name is None else posted(_BY_NAME[name], image, others, post.seed))
        for name in post.edits
    ]


def worker() -> Worker:
    """What this process has."""
    return _WORKER
