"""Shards of the search index: the codes of some tens of thousands of protected images in faiss's inverted lists.

A shard is two files of one name. `NAME.ivf` is a `faiss.IndexBinaryIVF` over the shipped centroids, in which a code's
id is its image's place in the shard. `NAME.parquet` has column `protected_id`, a row for each place; null where the
image was taken out. Files are never changed: a new version has another name, and `copywatch.features.manifest` says
which one holds.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from copywatch.errors import LakeError
from copywatch.features import itq
from copywatch.features.centroids import IDENTITY, centroids, quantiser
from copywatch.features.points import CODE_BYTES, unpacked_codes

SHARD_IMAGES = 50_000
"""Images that fill a shard: 10 million codes, 240 MB."""

INDEX_SUFFIX = ".ivf"
IDS_SUFFIX = ".parquet"
_IDS = pa.schema([pa.field("protected_id", pa.string())])


@dataclass
class Shard:
    """Codes of protected images.

    Attributes:
        index: ids are places in `protected_ids`.
        protected_ids: None where an image was taken out.
    """

    index: faiss.IndexBinaryIVF
    protected_ids: list[str | None]

    @classmethod
    def empty(cls, table: NDArray[np.uint8] | None = None) -> Shard:
        """A shard without images, over the shipped centroids or others, uint8 (lists, 16)."""
        table = centroids() if table is None else table
        flat = quantiser(table)
        index = faiss.IndexBinaryIVF(flat, CODE_BYTES * 8, len(table))
        # The index must own its quantiser, which Python would free.
        flat.this.disown()  # type: ignore[attr-defined]
        index.own_fields = True
        index.is_trained = True
        return cls(index, [])

    @classmethod
    def read(cls, folder: Path, name: str, *, mapped: bool = False) -> Shard:
        """What `write` wrote.

        Args:
            folder: of the index.
            name: of the shard's version.
            mapped: only to search: codes stay in the file, and processes share the pages they read of it.

        Raises:
            LakeError: a file is missing or damaged.
        """
        path = folder / (name + INDEX_SUFFIX)
        try:
            index = faiss.read_index_binary(str(path), faiss.IO_FLAG_MMAP if mapped else 0)
            ids = pq.read_table(folder / (name + IDS_SUFFIX), schema=_IDS).column("protected_id").to_pylist()
        except (RuntimeError, OSError, pa.ArrowException) as error:
            raise LakeError(
                f"{path}: the shard cannot be read ({error}); delete the index folder, index_features builds it anew"
            ) from error
        if not isinstance(index, faiss.IndexBinaryIVF) or index.d != CODE_BYTES * 8:
            raise LakeError(f"{path} is no shard of 128-bit codes; delete the index folder")
        return cls(index, ids)

    @property
    def images(self) -> int:
        """How many there are."""
        return sum(one is not None for one in self.protected_ids)

    @property
    def points(self) -> int:
        """Codes of all images."""
        return int(self.index.ntotal)

    def add(self, protected_ids: Iterable[str], codes: Iterable[bytes]) -> None:
        """Take images in; one that is there already stays as it is.

        Args:
            protected_ids: of the images.
            codes: of each, as `copywatch.features.points.packed` has them.

        Raises:
            ValueError: bytes are no codes.
        """
        present = set(self.protected_ids)
        fresh = {one: data for one, data in zip(protected_ids, codes, strict=True) if one not in present}
        tables = [unpacked_codes(data) for data in fresh.values()]
        places = np.arange(len(self.protected_ids), len(self.protected_ids) + len(fresh), dtype=np.int64)
        self.protected_ids += fresh
        if sum(map(len, tables)):
            self.index.add_with_ids(np.concatenate(tables), np.repeat(places, [len(one) for one in tables]))

    def remove(self, protected_ids: Iterable[str]) -> None:
        """Take images out; one that is not there is no trouble."""
        gone = set(protected_ids)
        places = [place for place, one in enumerate(self.protected_ids) if one in gone]
        for place in places:
            self.protected_ids[place] = None
        if places and self.points:
            self.index.remove_ids(np.array(places, dtype=np.int64))

    def write(self, folder: Path, number: int) -> str:
        """Write the shard as a version of its own; other versions stay. The same images give the same name.

        Args:
            folder: of the index; made if it is missing.
            number: of the shard.

        Returns:
            The name for `read`. Both files are whole and on the disk.
        """
        content = [itq.IDENTITY, IDENTITY, *(one or "" for one in self.protected_ids)]
        digest = hashlib.sha256("\n".join(content).encode()).hexdigest()
        name = f"{number:05d}-{digest[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        hidden = folder / f".{name}.{os.getpid()}"
        faiss.write_index_binary(self.index, str(hidden))
        _settle(hidden, folder / (name + INDEX_SUFFIX))
        pq.write_table(pa.table({"protected_id": self.protected_ids}, schema=_IDS), hidden)
        _settle(hidden, folder / (name + IDS_SUFFIX))
        return name


def _settle(hidden: Path, target: Path) -> None:
    with hidden.open("rb") as file:
        os.fsync(file.fileno())
    hidden.replace(target)
