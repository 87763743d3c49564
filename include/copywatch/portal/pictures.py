"""Pictures for owners, always made anew: no byte that a crawl fetched reaches a browser."""

from __future__ import annotations

import hashlib
import threading
from functools import lru_cache

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.status import HTTP_304_NOT_MODIFIED, HTTP_404_NOT_FOUND

from copywatch.alerts.message import thumbnail
from copywatch.errors import CopywatchError
from copywatch.images import image_store
from copywatch.settings import Settings, settings

_KEPT = 256
"""Thumbnails in memory, some 30 KB each."""

# A page asks for dozens at once, and each may be an image of the largest size that is let in.
_decoding = threading.BoundedSemaphore(2)


@lru_cache(maxsize=_KEPT)
def _thumbnail(address: str) -> bytes:
    config: Settings = settings()
    with _decoding:
        return thumbnail(image_store().get(address), config)


def picture(request: Request, address: str, *, as_kept: bool = False) -> Response:
    """A small JPEG of a kept image.

    Args:
        request: asks for it.
        address: in the image store.
        as_kept: it is a JPEG that Copywatch drew itself, to be shown as it is.

    Raises:
        HTTPException: 404: nothing is kept at the address, or it is no usable image.
    """
    etag = f'"{hashlib.sha256(address.encode()).hexdigest()[:32]}"'
    # no-cache: kept by the browser, but shown only after we have been asked, so a sign-out ends it.
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=HTTP_304_NOT_MODIFIED, headers=headers)
    try:
        data = image_store().get(address) if as_kept else _thumbnail(address)
        return Response(data, media_type="image/jpeg", headers=headers)
    except CopywatchError as error:
        raise HTTPException(HTTP_404_NOT_FOUND, "There is no picture here any more.") from error
