"""Servers of the demo, started as the demo starts them: as processes of their own, on free ports."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

PACKAGE_ROOT = Path(__file__).resolve().parents[2] / "include"


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    given: set[int] = set()

    def find() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            if port not in given:
                given.add(port)
                return port

    return find


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """Start `python -m MODULE ARGUMENTS...` and wait until `url` answers; stopped at the end of the module."""
    started: list[subprocess.Popen[str]] = []

    def start_module(module: str, *arguments: object, url: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", module, *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(process)
        until = time.monotonic() + 20
        while time.monotonic() < until and process.poll() is None:
            try:
                httpx.get(url, timeout=2)
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return process
        process.kill()
        raise AssertionError(f"{module} did not answer at {url}: {process.communicate()[0]}")

    yield start_module
    for process in started:
        process.terminate()
    for process in started:
        process.communicate(timeout=10)
