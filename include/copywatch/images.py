"""Where originals and evidence are kept: one object per content, named by its SHA-256.

Any fsspec URL does: a folder, S3, Azure, GCS. An object is written once and never changed, so a retry writes the same.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import uuid
from functools import lru_cache

from fsspec.core import url_to_fs

from copywatch.errors import CopywatchError
from copywatch.settings import settings


class ImageStore:
    """Objects below one URL.

    Args:
        url: any fsspec URL, or a path.
    """

    def __init__(self, url: str) -> None:
        self._files, self._root = url_to_fs(url)

    def put(self, data: bytes, kind: str) -> str:
        """Keep `data`; returns its address, such as `originals/ab/abcd...`.

        Args:
            data: the bytes.
            kind: `originals` (of owners), `evidence` (of sightings) or `explanations` (drawn of both): kept apart,
                since their rules of keeping differ.
        """
        digest = hashlib.sha256(data).hexdigest()
        address = f"{kind}/{digest[:2]}/{digest}"
        path = self._path(address)
        if not self._files.exists(path):
            # A crash half-way must not leave a short object under the final name.
            self._files.makedirs(posixpath.dirname(path), exist_ok=True)
            partial = f"{path}.{uuid.uuid4().hex}.part"
            self._files.pipe_file(partial, data)
            self._files.mv(partial, path)
        return address

    def get(self, address: str) -> bytes:
        """The bytes kept at `address`.

        Raises:
            CopywatchError: nothing is kept there, or it is no address of this store.
        """
        try:
            return bytes(self._files.cat_file(self._path(address)))
        except FileNotFoundError as error:
            raise CopywatchError(f"image store: nothing is kept at {address} below {self._root}") from error

    def holds(self, address: str) -> bool:
        """Whether anything is kept at `address`.

        Raises:
            CopywatchError: it is no address of this store.
        """
        return bool(self._files.exists(self._path(address)))

    def _path(self, address: str) -> str:
        if not re.fullmatch(r"(originals|evidence|explanations)/[0-9a-f]{2}/[0-9a-f]{64}", address):
            raise CopywatchError(f"image store: {address!r} is no address of a kept image")
        return posixpath.join(self._root, address)


@lru_cache(maxsize=4)
def _store(url: str) -> ImageStore:
    return ImageStore(url)


def image_store() -> ImageStore:
    """The store of the settings in force."""
    return _store(settings().image_store)
