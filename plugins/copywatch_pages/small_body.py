"""The few bytes that a decision is sent as."""

from __future__ import annotations

import json
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import HTTPException, Request, status
from pydantic import BaseModel, ValidationError

_LARGEST = 4096

M = TypeVar("M", bound=BaseModel)


async def small_body(request: Request, model: type[M], wanted: str) -> M:
    """What was sent, as JSON or as a form; read here, as FastAPI would read a body of any length before it asks who.

    Args:
        request: whose body has not been read.
        model: what it must be.
        wanted: a sentence that says what it must be.

    Raises:
        HTTPException: 413: it is larger than 4 KiB; 422: it is something else.
    """
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST:
            raise HTTPException(status.HTTP_413_CONTENT_TOO_LARGE, "a decision is a few bytes")
    try:
        if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            values: Any = dict(parse_qsl(body.decode("ascii")))
        else:
            values = json.loads(body)
        return model.model_validate(values)
    except (ValueError, ValidationError) as error:
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, wanted) from error
