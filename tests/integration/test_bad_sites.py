"""The whole chain by `airflow dags test`, over a good site and every kind of bad one.

Real Scrapy against live local sites, real Spark and Delta, a real PostgreSQL and a real SMTP inbox. Each step runs in
the processes that Airflow would run it in; only the scheduler is left out, which the demo and the browser tests have.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text

from copywatch.demo.airflow_api import wait_until
from copywatch.demo.planting import OWNERS, Planting, plant, write_intake
from copywatch.demo.services import Services, free_ports
from copywatch.demo.site import misbehaving_sites_yaml, sites_yaml
from copywatch.lake.identity import run_key
from copywatch.lake.schemas import CRAWL_STATS, DETECTED, MATCHES, REJECTED, SEEN
from copywatch.lake.tables import read_table

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

FAILING = {
    "down": "unreachable",
    "slow": "timed out",
    "redirect-loop": "redirects",
    "not-found": "404",
    "too-many-requests": "429",
    "server-error": "500",
    "forbidden-by-robots": "robots.txt",
}


class Chain:
    """An Airflow without its scheduler: DAGs are run one by one, to their end."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.planting: Planting = plant()

    @property
    def warehouse(self) -> str:
        """Folder of the tables."""
        return str(self.services.folder / "warehouse")

    def run_dag(self, dag: str, day: str, **conf: object) -> str:
        """Run a DAG for a logical date; what it logged. Failed tasks do not end it."""
        with self.begin_dag(dag, day, **conf) as (log, process):
            process.wait(600)
            return log.read_text()

    @contextmanager
    def begin_dag(self, dag: str, day: str, **conf: object) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
        """Begin to run a DAG; the file that it logs to, and its process."""
        command = [sys.executable, "-m", "airflow", "dags", "test", dag, day, "--conf", json.dumps(conf)]
        path = self.services.folder / f"{dag}-{day}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(command, env=self.services.environment, stdout=log, stderr=subprocess.STDOUT)
            try:
                yield path, process
            finally:
                process.kill()
                process.wait()

    def run_of(self, dag: str, day: str) -> str:
        """The id of the run of that date."""
        return self.airflow("SELECT run_id FROM dag_run WHERE dag_id = :dag AND logical_date = :day", dag=dag, day=day)[
            0
        ]["run_id"]

    def airflow(self, query: str, **values: object) -> list[dict[str, Any]]:
        """Rows of Airflow's own database."""
        return self._rows("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", query, values)

    def ledger(self, query: str, **values: object) -> list[dict[str, Any]]:
        """Rows of the ledger."""
        return self._rows("COPYWATCH_DATABASE_URL", query, values)

    def _rows(self, variable: str, query: str, values: dict[str, object]) -> list[dict[str, Any]]:
        engine = create_engine(self.services.environment[variable])
        with engine.begin() as connection:
            result = connection.execute(text(query), values)
            rows = [dict(row) for row in result.mappings()] if result.returns_rows else []
        engine.dispose()
        return rows

    def table(self, table: Any, run: str) -> list[dict[str, Any]]:
        """Rows of a run in a Delta table."""
        return list(read_table(self.warehouse, table, run=run_key(run)).to_pylist())

    def mails(self) -> list[dict[str, Any]]:
        """Alerts in the inbox."""
        answer = httpx.get(f"{self.services.inbox_url}/api/mails").json()
        mails = answer["mails"] if isinstance(answer, dict) else answer
        return [mail for mail in mails if mail["subject"].startswith(("A copy", "A changed copy"))]

    def image_requests(self, after: int) -> set[str]:
        """Planted images that the site was asked for since request number `after`."""
        headers = {"Authorization": f"Bearer {self.services.site_token}"}
        answer = httpx.get(f"{self.services.site_url}/-/requests?after={after}", headers=headers).json()
        self.last_request = answer["last"]
        return {request["path"] for request in answer["requests"]} & {one.image_path for one in self.planting.images}


@pytest.fixture(scope="module")
def chain(server_folder: Path) -> Iterator[Chain]:
    """Photos of two owners protected, then one run of watch_sites over all sites."""
    services = Services(server_folder / "chain")
    forbidding, down = free_ports(2)
    try:
        services.start_database()
        services.environment["COPYWATCH_CRAWL_TIMEOUT_SECONDS"] = "3"
        services.start_site_and_inbox(forbidding_port=forbidding)
        services.migrate_airflow()
        sites = sites_yaml(services.site_port, services.owner_port)
        bad = misbehaving_sites_yaml(services.site_port, forbidding, down).removeprefix("sites:\n")
        (services.folder / "sites.yaml").write_text(sites + bad)
        write_intake(services.folder / "intake")
        built = Chain(services)
        for day, owner in enumerate(OWNERS, start=1):
            built.run_dag(
                "protect_images", f"2026-05-0{day}", owner_email=owner.email, owner_name=owner.name, folder=owner.folder
            )
        built.image_requests(0)
        built.log = built.run_dag("watch_sites", "2026-06-01")
        yield built
    finally:
        services.stop()


@pytest.fixture(scope="module")
def run(chain: Chain) -> str:
    """The id of the first run of watch_sites."""
    return chain.run_of("watch_sites", "2026-06-01")


def test_each_bad_site_fails_on_its_own_mapped_task(chain: Chain, run: str) -> None:
    """Named by its site, with the reason; the good ones and all that follows succeed."""
    tasks = chain.airflow(
        "SELECT task_id, rendered_map_index AS site, state FROM task_instance"
        " WHERE dag_id = 'watch_sites' AND run_id = :run",
        run=run,
    )
    crawls = {task["site"]: task["state"] for task in tasks if task["task_id"] == "crawl"}
    assert crawls == {**dict.fromkeys(FAILING, "failed"), "lumen": "success", "mixed": "success"}
    others = {task["task_id"]: task["state"] for task in tasks if task["task_id"] != "crawl"}
    assert others == dict.fromkeys(["pick_sites", "fingerprint", "match", "record", "send_alerts"], "success")
    stats = {row["site"]: row for row in chain.table(CRAWL_STATS, run)}
    assert set(stats) == {*FAILING, "lumen", "mixed"}
    for site, reason in FAILING.items():
        assert stats[site]["outcome"] == "failed"
        assert reason in stats[site]["error"], stats[site]["error"]
    cursors = {row["site"]: row["last_error"] for row in chain.ledger("SELECT * FROM copywatch.crawl_cursors")}
    assert {site for site, error in cursors.items() if error} == set(FAILING)


def test_every_image_shown_is_one_row(chain: Chain, run: str) -> None:
    """In detected, seen or rejected; the unusable ones with their reason."""
    rows = {name: chain.table(table, run) for name, table in (("D", DETECTED), ("S", SEEN), ("R", REJECTED))}
    of_lumen = [row for kind in rows.values() for row in kind if row["site"] == "lumen"]
    by_file = [chain.planting.at(row["image_url"]) for row in of_lumen]
    assert sorted(one.file for one in by_file) == sorted(one.file for one in chain.planting.of_round(1))
    reasons = {chain.planting.at(row["image_url"]).file: row["reason"] for row in rows["R"] if row["site"] == "lumen"}
    assert reasons == {one.file: one.reason.value for one in chain.planting.unusable}
    detected = {chain.planting.at(row["image_url"]).file for row in rows["D"]}
    assert detected == {one.file for one in chain.planting.copies if one.round == 1 and not one.crawled_before}
    stats = next(row for row in chain.table(CRAWL_STATS, run) if row["site"] == "lumen")
    assert stats["images_found"] == len(of_lumen) == stats["images_fetched"] + stats["images_failed"]


def test_identical_copies_are_alerted_at_once_and_once(chain: Chain, run: str) -> None:
    """Also when the tasks that record and send run again."""
    identical = {one.file for one in chain.planting.copies if one.edit in {"byte-identical", "renamed", "hot-linked"}}
    assert {row["image_url"].rsplit("/", 1)[1] for row in chain.table(MATCHES, run) if row["verdict"] == 0} == identical
    assert len(chain.mails()) == len(identical)
    again = (
        f"from copywatch.steps import watch; watch.record_findings({run!r}); watch.send_alerts();"
        f" watch.record_findings({run!r}); watch.send_alerts()"
    )
    done = subprocess.run(
        [sys.executable, "-c", again], env=chain.services.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(chain.mails()) == len(identical)
    assert chain.ledger("SELECT count(*) AS n FROM copywatch.alerts")[0]["n"] == len(identical)


def test_a_site_of_good_and_bad_images_loses_none(chain: Chain, run: str) -> None:
    """A usable picture beside a slow one, a loop and three errors: each is one row, with its reason if it has one."""
    own = {"slow": "timed out", "loop": "too many redirects", "status/404": "HTTP error", "status/429": "HTTP error"}
    own |= {"status/500": "HTTP error", "picture.jpg": None}
    rows = [row for table in (DETECTED, SEEN, REJECTED) for row in chain.table(table, run) if row["site"] == "mixed"]
    assert sorted(row["image_url"].partition("/misbehaving/")[2] for row in rows) == sorted(own)
    for row in rows:
        # Its 429 asks for a wait longer than a crawl waits, so what was not fetched yet is left to the next crawl.
        asked_to_wait = "asks to wait" in (row.get("detail") or "")
        assert asked_to_wait or row.get("reason") == own[row["image_url"].partition("/misbehaving/")[2]], row


def test_logs_end_in_a_table_and_say_run_and_site(chain: Chain, run: str) -> None:
    """So that an administrator sees what a task did without opening a table."""
    log = re.sub(r"\x1b\[[0-9;]*m", "", chain.log)
    events = re.split(r"(?m)^(?=\d{4}-\d\d-\d\d[T ]\S+ \[)", log)
    ours = [event for event in events if re.search(r"\[copywatch\.[\w.]+\]|INFO spark_jobs\.", event)]
    assert len(ours) > 10
    assert [event for event in ours if f"[run={run_key(run)}" not in event] == []
    for site in ("lumen", "mixed", *FAILING):
        assert f"run={run_key(run)} site={site}]" in log
        assert f"crawl of {site}" in log
    for title in (
        "sites due",
        "fingerprint_images into detected",
        "match_images, mao/1",
        "what the run found",
        "alerts sent",
    ):
        assert title in log, f"no table '{title}' in the logs"
    assert "Logging error" not in log


def test_a_decision_goes_on_to_mail_and_lake(chain: Chain, run: str) -> None:
    """Accepted: one mail, and `matches` says so; refused: no mail, and `matches` says so."""
    waiting = chain.ledger(
        "SELECT r.id, e.sighting_id, e.image_url FROM copywatch.reviews r"
        " JOIN copywatch.evidence e ON e.id = r.evidence_id WHERE r.state = 'pending' ORDER BY r.id"
    )
    similar = {one.file for one in chain.planting.copies if one.round == 1 and not one.crawled_before} - {
        row["image_url"].rsplit("/", 1)[1] for row in chain.table(MATCHES, run) if row["verdict"] == 0
    }
    assert {row["image_url"].rsplit("/", 1)[1] for row in waiting} == similar
    before = len(chain.mails())
    decide = (
        "from copywatch.ledger import reviews; from copywatch.ledger.database import session;"
        "from copywatch.ledger.models import ReviewState\n"
        "with session() as opened:\n"
        f" reviews.decide(opened, {waiting[0]['id']}, ReviewState.ACCEPTED, 'reviewer')\n"
        f" reviews.decide(opened, {waiting[1]['id']}, ReviewState.REFUSED, 'reviewer')"
    )
    # The run begins before anybody has decided: its sensor waits.
    with chain.begin_dag("review_matches", "2026-06-02") as (log, process):
        wait_until(lambda: "reviews wait for a decision" in log.read_text(), "the sensor waits", 120)
        assert len(chain.mails()) == before
        subprocess.run([sys.executable, "-c", decide], env=chain.services.environment, check=True)
        assert process.wait(120) == 0, log.read_text()
    assert len(chain.mails()) == before + 1
    # Nothing is left to decide, so that the second run must end by itself and change nothing.
    chain.ledger("UPDATE copywatch.reviews SET state = 'refused', applied_run = 'x' WHERE state = 'pending'")
    chain.run_dag("review_matches", "2026-06-03")
    assert len(chain.mails()) == before + 1
    states = {row["sighting_id"]: row for row in chain.table(MATCHES, run)}
    assert [states[row["sighting_id"]]["state"] for row in waiting[:2]] == ["accepted", "refused"]
    assert all(states[row["sighting_id"]]["decided_by"] == "reviewer" for row in waiting[:2])


def test_a_second_crawl_fetches_only_what_is_new(chain: Chain) -> None:
    """Nothing of lumen is asked for again, but the image that was not there."""
    chain.image_requests(chain.last_request)
    chain.run_dag("watch_sites", "2026-06-04", sites=["lumen"])
    second = chain.run_of("watch_sites", "2026-06-04")
    assert chain.image_requests(chain.last_request) == set()
    (stats,) = chain.table(CRAWL_STATS, second)
    assert (stats["outcome"], stats["images_fetched"]) == ("finished", 0)
    assert stats["images_known"] == stats["images_found"] > 0
