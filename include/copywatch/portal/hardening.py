"""What holds for every answer and every request, whichever route takes it."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.status import HTTP_400_BAD_REQUEST, HTTP_413_CONTENT_TOO_LARGE
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_HEADERS = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        # Not no-referrer: with it browsers hide the origin of our own forms from us.
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Robots-Tag": "noindex",
    }
)


class Hardened:
    """Adds `SAFE_HEADERS` to every answer, save those that the route set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and see to the answer's headers."""

        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_hardened)


class BoundedBodies:
    """Ends reading a request's body where it grows too large, whatever its headers promise.

    Nothing is read, and so nothing refused, before a route asks for the body: who may not send one is told that first.
    """

    def __init__(self, app: ASGIApp, largest: Callable[[str], int]) -> None:
        """Bound the bodies of `app`.

        Args:
            app: the application.
            largest: path of a request -> most bytes of its body.
        """
        self.app = app
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a bounded body; 413 ends it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        largest = self._largest(scope["path"])
        promised = Headers(scope=scope).get("content-length", "0")
        taken = 0

        async def receive_bounded() -> Message:
            nonlocal taken
            if not promised.isdecimal():
                raise HTTPException(HTTP_400_BAD_REQUEST, "Content-Length is no number")
            if int(promised[:20]) > largest:
                raise _too_large(largest)
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > largest:
                raise _too_large(largest)
            return message

        await self.app(scope, receive_bounded, send)


def _too_large(largest: int) -> HTTPException:
    return HTTPException(
        HTTP_413_CONTENT_TOO_LARGE,
        f"too many bytes: at most {largest:,} are taken here; send a smaller file",
        # What is still on its way is not read, so the connection is of no further use.
        headers={"Connection": "close"},
    )
