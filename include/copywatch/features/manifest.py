"""Which files are the search index: one small file that is replaced as a whole, so that a reader sees one version.

```
index/manifest.json            the version that holds
index/00003-<digest>.ivf       a shard (`copywatch.features.shards`); of earlier versions too, for a day
index/00003-<digest>.parquet
```
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from copywatch.errors import LakeError
from copywatch.features import centroids, itq
from copywatch.features.shards import IDS_SUFFIX, INDEX_SUFFIX

MANIFEST_FILE = "manifest.json"
KEPT_SECONDS = 24 * 3600
"""A search that began before a switch may still open the shards of the version before."""

_OURS = re.compile(r"\.?\d{5}-[0-9a-f]{16}\..+|\.manifest\.json\.\d+")


@dataclass(frozen=True)
class ShardFile:
    """A version of a shard.

    Attributes:
        name: of its files, without suffix.
        images: how many.
        points: codes of all of them.
    """

    name: str
    images: int
    points: int


@dataclass(frozen=True)
class Manifest:
    """A version of the search index.

    Attributes:
        shards: the files of each shard, by its number.
        model: version of the codes.
        lists: version of the centroids.
    """

    shards: Mapping[int, ShardFile] = field(default_factory=dict)
    model: str = itq.IDENTITY
    lists: str = centroids.IDENTITY

    def usable(self, folder: Path) -> Manifest:
        """Without shards whose files are gone; without any if they are of another model or other centroids.

        What is left out is built anew.
        """
        if (self.model, self.lists) != (itq.IDENTITY, centroids.IDENTITY):
            return Manifest()
        return Manifest(
            {
                number: one
                for number, one in self.shards.items()
                if all((folder / (one.name + suffix)).is_file() for suffix in (INDEX_SUFFIX, IDS_SUFFIX))
            }
        )

    def with_shards(self, built: Mapping[int, ShardFile]) -> Manifest:
        """With new versions of some shards; one that has no images any more is left out."""
        shards = {**self.shards, **built}
        return Manifest({number: shards[number] for number in sorted(shards) if shards[number].images})


def read_manifest(folder: Path) -> Manifest:
    """The version that holds; an empty one if nothing was indexed yet.

    Raises:
        LakeError: the file is damaged.
    """
    path = folder / MANIFEST_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        shards = {int(number): ShardFile(**one) for number, one in data["shards"].items()}
        return Manifest(shards, data["model"], data["lists"])
    except FileNotFoundError:
        return Manifest()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise LakeError(
            f"{path}: not the search index's manifest ({type(error).__name__}: {error}); delete the index folder, "
            "index_features builds it anew"
        ) from error


def switch(folder: Path, manifest: Manifest) -> None:
    """Make this the version that holds; its shards' files must be there.

    Raises:
        LakeError: the manifest that is there is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    replaced = {one.name for one in read_manifest(folder).shards.values()} - {
        one.name for one in manifest.shards.values()
    }
    for path in (path for name in replaced for path in folder.glob(f"{name}.*")):
        # From now on `clear` counts the time that it is kept.
        path.touch()
    hidden = folder / f".{MANIFEST_FILE}.{os.getpid()}"
    with hidden.open("w", encoding="utf-8") as file:
        json.dump(asdict(manifest), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    hidden.replace(folder / MANIFEST_FILE)


def clear(folder: Path, manifest: Manifest, *, now: float | None = None) -> int:
    """Delete files of shards that hold no more since a day, or that were never finished; returns how many.

    Args:
        folder: of the index.
        manifest: the version that holds.
        now: seconds since the epoch; default: by the clock.
    """
    names = {one.name for one in manifest.shards.values()}
    before = (time.time() if now is None else now) - KEPT_SECONDS
    cleared = 0
    for path in folder.glob("*"):
        if not _OURS.fullmatch(path.name) or path.name.split(".")[0] in names:
            continue
        if path.stat().st_mtime < before:
            path.unlink(missing_ok=True)
            cleared += 1
    return cleared
