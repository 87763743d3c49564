"""What every experiment takes from its command line, and the photos and methods that this names."""

from __future__ import annotations

import argparse
import hashlib
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.copies import CopyCache
from benchmarks.methods import Described, Method, methods
from benchmarks.photos import DEMO_PHOTOS, Photo, Pictures, different, read_photos
from benchmarks.report import RESULTS

QUICK_PHOTOS = 300
FILLERS = 3
"""Other photos in a collage of four."""


@dataclass(frozen=True)
class Experiment:
    """One run of an experiment.

    Attributes:
        photos: pairwise different photos, by name; with --quick 300 of them.
        methods: by the names that select them.
        quick: a trial.
        cache: for edited copies.
        results: where the page goes; None when it is only printed.
        command: how to run it again.
        folder: of the photos, for what else lies in it.
        sizes: of samples, by name.
    """

    photos: list[Photo]
    methods: dict[str, Method]
    quick: bool
    cache: CopyCache
    results: Path | None
    command: str
    folder: Path
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def described_photos(self) -> str:
        """How many of what kind, for a page's head."""
        look_alikes = sum(photo.group == "look-alike" for photo in self.photos)
        more = f", {look_alikes} of them look-alikes" if look_alikes else ""
        return f"{len(self.photos):,} different photos{more}"

    def protected(self) -> dict[str, Described]:
        """For each method its descriptions of all photos, as protected ones."""
        return {name: method.describe_protected(Pictures(self.photos)) for name, method in self.methods.items()}

    def places(self, photos: Sequence[Photo]) -> list[int]:
        """Where each of these photos stands among all."""
        place = {photo.name: number for number, photo in enumerate(self.photos)}
        return [place[photo.name] for photo in photos]


@contextmanager
def started(
    module: str,
    description: str,
    arguments: Sequence[str] | None = None,
    sizes: Mapping[str, tuple[int, int]] | None = None,
) -> Iterator[Experiment]:
    """The experiment that a command line asks for; a temporary cache is gone at the end.

    Args:
        module: its `__spec__.name`, "benchmarks.chamoso_tables".
        description: for --help.
        arguments: of the command line; by default the process's own.
        sizes: options of the experiment's own: the name of a sample -> its size, and its size in a trial.
    """
    known = methods()
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--photos", type=Path, default=DEMO_PHOTOS, help="a folder of photos; default: the demo's 24")
    parser.add_argument("--same", type=Path, help="table a,b of files that show one scene")
    parser.add_argument("--method", action="append", choices=known, help="may be given again; default: every one")
    parser.add_argument("--cache", type=Path, help="folder to keep edited copies in; default: a temporary one")
    parser.add_argument("--quick", action="store_true", help=f"a trial on {QUICK_PHOTOS} photos")
    parser.add_argument(
        "--results",
        type=Path,
        help="folder of the page; default: docs/results, and none for a trial or for the demo's few photos",
    )
    for name, (whole, trial) in (sizes or {}).items():
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"default: {whole:,}; in a trial {trial:,}")
    chosen = parser.parse_args(arguments)
    given = {name: getattr(chosen, name) for name in sizes or {} if getattr(chosen, name) is not None}
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    photos = different(read_photos(chosen.photos, chosen.same))
    if chosen.quick:
        photos = some(photos, QUICK_PHOTOS)
    selected = chosen.method or list(known)
    kept = None if chosen.quick or chosen.photos == DEMO_PHOTOS else RESULTS
    # The folder's own path is nobody's business but this machine's.
    where = "" if chosen.photos == DEMO_PHOTOS else " --photos DIR"
    which = "".join(f" --method {name}" for name in chosen.method or [])
    which += "".join(f" --{name} {size}" for name, size in given.items())
    with tempfile.TemporaryDirectory(prefix="copywatch-copies-") as temporary:
        yield Experiment(
            photos=photos,
            methods={name: known[name] for name in selected},
            quick=chosen.quick,
            cache=CopyCache(chosen.cache or Path(temporary)),
            results=chosen.results or kept,
            command=f"python -m {module}{where}{which}",
            folder=chosen.photos,
            sizes={name: pair[chosen.quick] for name, pair in (sizes or {}).items()} | given,
        )


def some(photos: Sequence[Photo], count: int) -> list[Photo]:
    """At most `count` of the photos, the same ones every time, in their order: those whose names hash lowest."""
    kept = sorted(photos, key=lambda photo: hashlib.sha256(photo.name.encode()).digest())[:count]
    return sorted(kept, key=lambda photo: photo.name)


def edited_sources(photos: Sequence[Photo], count: int) -> tuple[list[Photo], tuple[Photo, ...]]:
    """Of which photos every edit is made, the same ones every time, and three others that fill the collages.

    A sixth of the sources are look-alikes, as about of all photos; with fewer photos than `count` all are sources, and
    with nothing left the fillers are sources too.
    """
    sources = some([photo for photo in photos if photo.group == "photo"], count * 5 // 6)
    sources += some([photo for photo in photos if photo.group == "look-alike"], count // 6)
    return sources, tuple(some([photo for photo in photos if photo not in sources] or photos, FILLERS))
