"""Drawing the explanations of a run's matches, and keeping them. What cannot be drawn keeps nothing back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from PIL import Image

from copywatch.decode import decode
from copywatch.images import ImageStore
from copywatch.settings import settings

log = logging.getLogger(__name__)

_LONGEST_SIDE = 1600
"""Pixels of what is drawn from: more than an explanation shows, and little enough to keep some in memory."""
_PICTURES_IN_MEMORY = 16
"""Many sightings show one image, and one sighting may show several."""


class Explanations:
    """Draws explanations of pairs whose pictures are kept.

    Args:
        store: where originals and evidence are, and explanations are put.
    """

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._picture = lru_cache(maxsize=_PICTURES_IN_MEMORY)(self._read)

    def address(self, match: Mapping[str, Any], original: str | None, found: str | None) -> str | None:
        """Where the explanation of a row of `matches` is kept; None: there is no alignment, or nothing can be drawn.

        Args:
            match: the row; its `alignment` says how the pictures lie.
            original: address of the protected picture.
            found: address of the found one; None: its bytes were not to be had.
        """
        alignment = match.get("alignment")
        if alignment is None or original is None or found is None:
            return None
        # OpenCV, which the many that only read the ledger do not need.
        from copywatch.verification.explanation import as_jpeg, explained

        try:
            picture = explained(self._picture(original), self._picture(found), alignment)
            if picture is not None:
                return self._store.put(as_jpeg(picture), "explanations")
            log.warning("no explanation of %s: the alignment %s makes no sense", match["image_url"], alignment)
        except Exception as error:
            # No alert waits for a drawing, whatever the bytes do to a decoder.
            log.warning("no explanation of %s: %s: %s", match["image_url"], type(error).__name__, error)
        return None

    def _read(self, address: str) -> Image.Image:
        config = settings()
        picture = decode(
            self._store.get(address), max_pixels=config.max_image_pixels, max_bytes=config.max_image_bytes
        ).rgb
        picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        return picture
