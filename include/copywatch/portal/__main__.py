"""Serve the portal: `python -m copywatch.portal`."""

from __future__ import annotations

import argparse
import ipaddress
import signal
import sys
from collections.abc import Sequence

import uvicorn

from copywatch.errors import SettingsError
from copywatch.logs import log_to_stderr
from copywatch.portal.application import create_portal
from copywatch.settings import settings

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8090
_END_WITHIN_SECONDS = 10


def is_loopback(host: str) -> bool:
    """Is it reached from this machine only?"""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; 2: the settings do not allow it."""
    parser = argparse.ArgumentParser(prog="python -m copywatch.portal", description="The owners' portal.")
    parser.add_argument("--host", default=DEFAULT_HOST, help=f"address to listen on; default: {DEFAULT_HOST}")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"default: {DEFAULT_PORT}")
    given = parser.parse_args(arguments)
    log_to_stderr()
    try:
        config = settings()
        portal = create_portal(config, local_only=is_loopback(given.host))
    except SettingsError as error:
        print(f"portal: {error}", file=sys.stderr)
        return 2
    # uvicorn ends in order and then lets the signal do what it would have done; plainly killed, this process would
    # leave an embedded database behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        portal,
        host=given.host,
        port=given.port,
        log_config=None,
        server_header=False,
        # Whoever else sends X-Forwarded-For chooses the address that codes are counted by.
        proxy_headers=bool(config.portal_trusted_proxies),
        forwarded_allow_ips=config.portal_trusted_proxies or None,
        timeout_graceful_shutdown=_END_WITHIN_SECONDS,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
