"""The demo's processes end with it, and no other process does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

from copywatch.demo.services import Services

WAITS = [sys.executable, "-c", "import time; time.sleep(60)"]
WAITS_WITH_A_CHILD = [
    sys.executable,
    "-c",
    "import signal, subprocess, sys\n"
    "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print(child.pid, flush=True)\n"
    "child.wait()",
]


def test_stopping_ends_its_own_family_alone(tmp_path: Path) -> None:
    services = Services(tmp_path)
    stranger = subprocess.Popen(WAITS)
    own = subprocess.Popen(WAITS_WITH_A_CHILD, stdout=subprocess.PIPE, text=True)
    try:
        assert own.stdout is not None
        grandchild = psutil.Process(int(own.stdout.readline()))
        services._children.append(("own", own))
        services.stop()
        assert own.poll() is not None
        assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
        own.kill()
        own.wait()
