"""The pictures of a pair, always made anew: no byte that a crawl fetched reaches a browser.

An explanation is drawn by Copywatch itself, and shown as it is.
"""

from __future__ import annotations

import hashlib
import io
import threading
from functools import lru_cache

from fastapi import HTTPException, Request, status
from starlette.responses import Response

from copywatch.decode import decode
from copywatch.errors import CopywatchError
from copywatch.images import image_store
from copywatch.settings import settings

LONGEST_SIDE = 640
"""Pixels."""

_QUALITY = 85
_KEPT = 256
"""Pictures kept in memory, some 60 KB each."""

# A page asks for forty pictures at once, and each may be an image of the largest size that is let in.
_decoding = threading.BoundedSemaphore(2)


def etag(address: str) -> str:
    """What a browser asks again by: the same for as long as the picture is made of the same bytes in the same way."""
    return f'"{hashlib.sha256(f"{address} {LONGEST_SIDE} {_QUALITY}".encode()).hexdigest()[:32]}"'


@lru_cache(maxsize=_KEPT)
def picture(address: str) -> bytes:
    """A JPEG of the image kept at `address`, at most 640 pixels a side.

    Raises:
        CopywatchError: nothing is kept there, or it is no usable image.
    """
    from PIL import Image

    config = settings()
    with _decoding:
        decoded = decode(
            image_store().get(address), max_pixels=config.max_image_pixels, max_bytes=config.max_image_bytes
        )
        image = decoded.rgb
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=_QUALITY)
        return out.getvalue()


def answer(request: Request, address: str, *, as_kept: bool = False) -> Response:
    """The picture of the image kept at `address`, or that the browser has it still.

    Args:
        request: asks for it.
        address: in the image store.
        as_kept: it is a JPEG that Copywatch drew itself, to be shown as it is.

    Raises:
        HTTPException: 404: nothing is kept there, or it is no usable image.
    """
    # no-cache: kept by the browser, but shown only after we have been asked, so a log-out ends it.
    headers = {"ETag": etag(address), "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    try:
        data = image_store().get(address) if as_kept else picture(address)
        return Response(data, media_type="image/jpeg", headers=headers)
    except CopywatchError as error:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"no picture: {error}") from error
