"""The services of docker-compose.yaml as processes of this machine.

Commands, environments and health checks are the file's own. What a container would give each service (its name on a
network, its own ports, its folders) is replaced by something local, and nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from compose_file import PROJECT, environment_of, image_environment, load

LOOPBACK = "127.0.0.1"


def _die_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def seconds_of(duration: str) -> int:
    """Seconds of a duration of the Compose file, such as `2m` or `30s`."""
    return int(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


class Native:
    """The deployment, running natively.

    Args:
        folder: where everything is kept.
        variables: what `.env` would have.
        ports: a free port for each of: api, scheduler, worker_logs, triggerer_logs, master, master_ui, worker_ui,
            portal, smtp.
        database_host: folder of PostgreSQL's socket.
        prepared: what set-up prepared.
    """

    def __init__(
        self, folder: Path, variables: dict[str, str], ports: dict[str, int], database_host: str, prepared: Path
    ) -> None:
        self.folder, self.ports, self.database_host = folder, ports, database_host
        self.services: dict[str, dict[str, Any]] = load(variables)["services"]
        self.image = image_environment()
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        # The longer text first: a folder is replaced before the folder above it.
        self._replacements = {
            "@postgres:5432/airflow": f"@/airflow?host={database_host}",
            "@postgres:5432/copywatch": f"@/copywatch?host={database_host}",
            "http://airflow-api-server:8080": self.api,
            "http://localhost:8080": self.api,
            "http://localhost:8081": f"http://{LOOPBACK}:{ports['worker_ui']}",
            "http://localhost:8090": f"http://{LOOPBACK}:{ports['portal']}",
            "http://127.0.0.1:8974": f"http://{LOOPBACK}:{ports['scheduler']}",
            "http://spark-master:8080": self.master_ui,
            "spark://spark-master:7077": f"spark://{LOOPBACK}:{ports['master']}",
            "spark://spark-master": f"spark://{LOOPBACK}",
            '"port": 7077': f'"port": {ports["master"]}',
            '"airflow-scheduler"': f'"{LOOPBACK}"',
            "0.0.0.0": LOOPBACK,
            "/opt/copywatch/.venv/lib/python3.12/site-packages": sysconfig.get_path("purelib"),
            "/opt/copywatch/.venv": sys.prefix,
            "/opt/copywatch/prepared": str(prepared),
            "/opt/copywatch": str(PROJECT),
            "/var/lib/copywatch": str(folder / "data"),
            "/var/log/airflow": str(folder / "logs"),
            "/etc/copywatch": str(folder / "config"),
        }
        self._arguments = {
            "spark-master": {"spark-master": LOOPBACK, "7077": str(ports["master"]), "8080": str(ports["master_ui"])},
            "spark-worker": {"8081": str(ports["worker_ui"])},
            "portal": {"8090": str(ports["portal"])},
        }
        self._environment = {
            "AIRFLOW__API__PORT": ports["api"],
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": ports["scheduler"],
            # Each container has these ports for itself.
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": ports["worker_logs"],
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": ports["triggerer_logs"],
            "COPYWATCH_SMTP_HOST": LOOPBACK,
            "COPYWATCH_SMTP_PORT": ports["smtp"],
            # Of this checkout's own .env nothing is read, as in the image.
            "COPYWATCH_ENV_FILE": folder / "no.env",
            "SPARK_LOCAL_IP": LOOPBACK,
        }

    @property
    def api(self) -> str:
        """Address of the Airflow UI and API."""
        return f"http://{LOOPBACK}:{self.ports['api']}"

    @property
    def portal(self) -> str:
        """Address of the portal."""
        return f"http://{LOOPBACK}:{self.ports['portal']}"

    @property
    def master_ui(self) -> str:
        """Address of the Spark master's UI."""
        return f"http://{LOOPBACK}:{self.ports['master_ui']}"

    def local(self, text: str, name: str) -> str:
        """A text of the file with what a container would give replaced by something local."""
        for inside, outside in self._replacements.items():
            text = text.replace(inside, outside)
        own = self.folder / name
        return text.replace("/var/lib/airflow", str(own / "home")).replace("/var/spark", str(own / "spark"))

    def environment(self, name: str) -> dict[str, str]:
        """A service's environment: the image's, the file's, and nothing of this process's but what a shell has."""
        (self.folder / name / "home").mkdir(parents=True, exist_ok=True)
        given = {**self.image, **environment_of(self.services[name])}
        here = {key: os.environ[key] for key in ("HOME", "LANG", "JAVA_HOME", "TMPDIR") if key in os.environ}
        there = {key: self.local(value, name) for key, value in given.items() if key != "PATH"}
        there |= {key: str(value) for key, value in self._environment.items() if not key.startswith("COPYWATCH_SMTP")}
        if "COPYWATCH_SMTP_HOST" in given:
            there |= {key: str(value) for key, value in self._environment.items()}
        path = self.image["PATH"].replace("/opt/copywatch/.venv", sys.prefix).replace("$PATH", os.environ["PATH"])
        return here | there | {"PATH": path}

    def command(self, name: str) -> list[str]:
        """A service's command."""
        own = self._arguments.get(name, {})
        return [own.get(word) or self.local(word, name) for word in self.services[name]["command"]]

    def log(self, name: str) -> str:
        """The end of what a service has printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def run(self, name: str, command: list[str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a one-shot service, or another command in a service's place, to its end."""
        return subprocess.run(
            command or self.command(name), cwd=PROJECT, env=self.environment(name), capture_output=True, text=True
        )

    def start(self, name: str) -> None:
        """Start a service."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                self.command(name),
                cwd=PROJECT,
                env=self.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def is_healthy(self, name: str) -> bool:
        """What the service's own health check says."""
        test = self.services[name]["healthcheck"]["test"][1:]
        return self.run(name, [self.local(word, name) for word in test]).returncode == 0

    def wait_until(self, holds: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait until a condition holds; fails with the logs of what has ended meanwhile."""
        until = time.monotonic() + seconds
        while not holds():
            for name, child in self.running.items():
                if child.poll() is not None:
                    pytest.fail(f"{name} ended by itself (status {child.returncode}):\n{self.log(name)}")
            if time.monotonic() > until:
                logs = "\n".join(f"--- {name}\n{self.log(name)}" for name in self.running)
                pytest.fail(f"waited {seconds:.0f} s in vain until {what}\n{logs}")
            time.sleep(0.5)

    def wait_for(self, *names: str) -> None:
        """Wait until services are healthy, each as long as its own check allows at a start."""
        for name in names:
            check = self.services[name]["healthcheck"]
            seconds = seconds_of(check["start_period"]) + check["retries"] * seconds_of(check["interval"])
            self.wait_until(lambda name=name: self.is_healthy(name), f"{name} is healthy", seconds)  # type: ignore[misc]

    def stop(self, name: str) -> tuple[bool, list[psutil.Process]]:
        """End a service as Docker does; was its grace period enough, and which of its processes are left?"""
        child = self.running.pop(name)
        family: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            family = psutil.Process(child.pid).children(recursive=True)
        in_time = False
        grace = seconds_of(self.services[name].get("stop_grace_period", "10s"))
        # Twice: the scheduler was seen to outlive one signal (once in twenty stops; why is not known). Docker sends
        # one, and kills at the end of the grace period.
        for seconds in (min(grace / 2, 20), grace / 2):
            child.send_signal(signal.Signals[self.services[name].get("stop_signal", "SIGTERM")])
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(seconds)
                in_time = True
                break
        if not in_time:
            child.kill()
            child.wait()
        _, left = psutil.wait_procs(family, timeout=3)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        return in_time, left

    def stop_all(self) -> None:
        """End what still runs, the last one first."""
        for name in reversed(list(self.running)):
            self.stop(name)
