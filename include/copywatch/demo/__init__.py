"""The demo's stage: photos with known owners, a web site that posts copies of them, and a local mail inbox.

The demo knows what it planted (`planting`), so it can say what was found, what was missed and what was false.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uvicorn

LOOPBACK = "127.0.0.1"
_LOOK_EVERY_SECONDS = 0.5


def listen_on(port: int, host: str = LOOPBACK) -> socket.socket:
    """A TCP socket bound to the address, so that a taken port is known before anything is rendered.

    Raises:
        OSError: the port is taken, or not ours to take.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.set_inheritable(False)
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listening


async def serve_until_told(server: uvicorn.Server, sockets: Sequence[socket.socket], parent: int) -> None:
    """Serve until SIGTERM, SIGINT, or until the process that started us (`parent`, its id) is gone.

    A demo that is killed outright cannot stop its servers; so they watch it themselves.
    """

    async def stop_with_parent() -> None:
        while os.getppid() == parent:
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
        server.should_exit = True

    watch = asyncio.create_task(stop_with_parent())
    try:
        await server.serve(sockets=list(sockets))
    finally:
        watch.cancel()
