"""The two programs that the containers run beside the project's own: the health check and the initialisation."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from compose_file import PROJECT
from cryptography.fernet import Fernet

sys.path.append(str(PROJECT / "deploy"))

import initialise

HEALTH = {"metadatabase": {"status": "healthy"}, "triggerer": {"status": None}}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"no JSON" if self.path == "/text" else json.dumps(HEALTH).encode()
        self.send_response(503 if self.path == "/down" else 200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """Address of something that can be asked."""
    with HTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROJECT / "deploy" / "healthcheck.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_a_service_that_answers_is_well(service: str) -> None:
    assert ask(service).returncode == 0
    assert ask(service, "--expect", "metadatabase.status=healthy").returncode == 0


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("/down", ()),
        ("/", ("--expect", "triggerer.status=healthy")),
        ("/", ("--expect", "dag_processor.status=healthy")),
        ("/text", ("--expect", "metadatabase.status=healthy")),
    ],
)
def test_a_service_that_is_not_well_says_why(service: str, path: str, arguments: tuple[str, ...]) -> None:
    done = ask(service + path, *arguments)
    assert done.returncode == 1
    assert service in done.stdout
    assert done.stderr == ""


def test_a_service_that_is_not_there_is_not_well() -> None:
    assert ask("http://127.0.0.1:9", "--seconds", "2").returncode == 1


def fit() -> dict[str, str]:
    """Secrets as they should be."""
    return {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2://airflow:0a1b2c@postgres:5432/airflow",
        "COPYWATCH_DATABASE_URL": "postgresql+psycopg2://copywatch:0a1b-2c~@postgres:5432/copywatch",
        "AIRFLOW__API__SECRET_KEY": "a" * 32,
        "AIRFLOW__API_AUTH__JWT_SECRET": "b" * 64,
        "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
        "AIRFLOW_ADMIN_PASSWORD": "twelve chars",
    }


def test_fit_secrets_are_taken() -> None:
    assert initialise.troubles(fit()) == []


@pytest.mark.parametrize(
    ("name", "value", "variable"),
    [
        ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql+psycopg2://airflow:a/b@postgres/airflow", "AIRFLOW_DB"),
        ("COPYWATCH_DATABASE_URL", "postgresql+psycopg2://copywatch:a@b@postgres/copywatch", "LEDGER_DB_PASSWORD"),
        ("COPYWATCH_DATABASE_URL", "postgresql+psycopg2://copywatch:@postgres/copywatch", "LEDGER_DB_PASSWORD"),
        ("AIRFLOW__API__SECRET_KEY", "short", "AIRFLOW_SECRET_KEY"),
        ("AIRFLOW__API_AUTH__JWT_SECRET", "short", "AIRFLOW_JWT_SECRET"),
        ("AIRFLOW__CORE__FERNET_KEY", "not a key", "AIRFLOW_FERNET_KEY"),
        ("AIRFLOW_ADMIN_PASSWORD", "admin", "AIRFLOW_ADMIN_PASSWORD"),
    ],
)
def test_unfit_secrets_are_refused_by_the_name_of_their_variable(name: str, value: str, variable: str) -> None:
    found = initialise.troubles(fit() | {name: value})
    assert len(found) == 1
    assert found[0].startswith(variable)
    assert value not in found[0], "a log is no place for a secret"
    assert "openssl" in found[0]


def test_nothing_is_touched_with_unfit_secrets() -> None:
    done = subprocess.run(
        [sys.executable, str(PROJECT / "deploy" / "initialise.py")], env={"PATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "AIRFLOW_FERNET_KEY" in done.stderr
    assert done.stdout == ""
