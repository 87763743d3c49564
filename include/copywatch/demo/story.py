"""What happens in the demo, step by step. Everything goes through Airflow's scheduler and HTTP addresses."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from copywatch.demo.airflow_api import AirflowUser, wait_until
from copywatch.demo.planting import LATE_OWNER, OWNERS, Owner, Planting, plant, write_intake
from copywatch.demo.services import Services
from copywatch.errors import CopywatchError

DAGS = ("protect_images", "watch_sites", "review_matches", "maintain_lake", "calibrate_threshold")
SITE = "lumen"
_FIRST_RUN_SECONDS = 120
_MAIL_SECONDS = 180


class Story:
    """A demo under way.

    Attributes:
        services: the processes.
        seconds: how long each step took.
        first_alert_seconds: from "Airflow is up" to the first alert in the inbox.
        fetched: image paths that the second round fetched from the site.
        told_result: whether the final tables were printed after the last review.
    """

    def __init__(self, services: Services) -> None:
        self.services = services
        self.planting: Planting = plant()
        self.seconds: dict[str, float] = {}
        self.first_alert_seconds: float | None = None
        self.fetched: list[str] = []
        self.told_result = False
        self._begun = time.monotonic()
        self._airflow_up = 0.0
        self._admin: AirflowUser | None = None
        self._reviewer: AirflowUser | None = None

    @property
    def admin(self) -> AirflowUser:
        """The administrator, logged in."""
        if self._admin is None:
            account = self.services.accounts[0]
            self._admin = AirflowUser(self.services.airflow_url, account.name, account.password)
        return self._admin

    @property
    def reviewer(self) -> AirflowUser:
        """The reviewer, logged in."""
        if self._reviewer is None:
            account = self.services.accounts[1]
            self._reviewer = AirflowUser(self.services.airflow_url, account.name, account.password)
        return self._reviewer

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Say what is being done, and how long it took."""
        begun = time.monotonic()
        print(f"[{begun - self._begun:6.1f} s] {what} ...", flush=True)
        yield
        self.seconds[what] = round(time.monotonic() - begun, 1)
        print(f"[{time.monotonic() - self._begun:6.1f} s] {what}: done in {self.seconds[what]} s", flush=True)

    def start(self) -> None:
        """Bring everything up."""
        with self.step("start PostgreSQL"):
            self.services.start_database()
        with self.step("start the demo site and the inbox"):
            self.services.start_site_and_inbox()
        with self.step("make Airflow's tables"):
            self.services.migrate_airflow()
        with self.step("start the portal and Airflow: api-server, scheduler, dag-processor, triggerer"):
            self.services.start_airflow()
            self.services.wait_until(lambda: self.admin.has_dags(set(DAGS)), "the DAGs are there", 120)
            if errors := self.admin.import_errors():
                raise CopywatchError("DAG files that cannot be imported:\n" + "\n".join(errors))
        self._airflow_up = time.monotonic()

    def protect(self) -> None:
        """Two owners register half of the photos."""
        with self.step("protect the photos of two owners (protect_images)"):
            self.admin.make_pool("crawl", 4, "sites crawled at once")
            self.admin.make_pool("spark", 1, "Spark jobs at once")
            write_intake(self.services.folder / "intake")
            self.admin.unpause("protect_images")
            self._register(OWNERS)

    def protect_later(self) -> None:
        """A third owner registers photos whose copies have been crawled already."""
        with self.step("protect photos whose copies were crawled before (protect_images)"):
            write_intake(self.services.folder / "intake", [LATE_OWNER])
            self._register([LATE_OWNER])

    def _register(self, owners: Sequence[Owner]) -> None:
        runs = [
            self.admin.trigger(
                "protect_images", {"owner_email": owner.email, "owner_name": owner.name, "folder": owner.folder}
            )
            for owner in owners
        ]
        for run in runs:
            self.admin.wait_for_run("protect_images", run)

    def watch(self) -> None:
        """The first crawl: switching the DAG on makes the scheduler start its first run."""
        with self.step("crawl the site, fingerprint, match, alert (watch_sites)"):
            self.admin.unpause("review_matches")
            self.admin.unpause("calibrate_threshold")
            self.admin.unpause("watch_sites")
            wait_until(lambda: bool(self.admin.runs("watch_sites")), "the first run starts", _FIRST_RUN_SECONDS)
            self._finish_watch(self.admin.runs("watch_sites")[0]["dag_run_id"])

    def watch_again(self) -> None:
        """Three new images appear; only they are fetched."""
        with self.step("a second round: three new images, one of them a copy (watch_sites)"):
            before = self._site_requests(0)["last"]
            self._site("POST", "/-/publish-round/2")
            self._finish_watch(self.admin.trigger("watch_sites", {"sites": [SITE]}))
            requests = self._site_requests(before)["requests"]
            paths = {image.image_path for image in self.planting.images}
            self.fetched = sorted({request["path"] for request in requests if request["path"] in paths})
            print(f"           fetched in the second round: {', '.join(self.fetched)}", flush=True)

    def _finish_watch(self, run: str) -> None:
        """Wait for the run; note when the first alert reached the inbox, which is before the run's end."""
        until = time.monotonic() + _FIRST_RUN_SECONDS * 5
        while self.first_alert_seconds is None and time.monotonic() < until:
            if any(mail["subject"].startswith(("A copy", "A changed copy")) for mail in self.mails()):
                self.first_alert_seconds = round(time.monotonic() - self._airflow_up, 1)
                print(
                    f"           first alert in the inbox {self.first_alert_seconds} s after Airflow was up", flush=True
                )
            state = next(one["state"] for one in self.admin.runs("watch_sites") if one["dag_run_id"] == run)
            if state in {"success", "failed"} and self.first_alert_seconds is None:
                break
            time.sleep(0.3)
        self.admin.wait_for_run("watch_sites", run)

    def review(self) -> None:
        """Decide what waits, as a careful person would: by looking at what was planted; then wait for the alerts."""
        with self.step("review the doubtful pairs on the review page's own address (review_matches)"):
            wait_until(self.sensor_waits, "review_matches waits on its sensor", _MAIL_SECONDS)
            for review in self.reviewer.reviews("pending"):
                planted = self.planting.at(review["image_url"])
                right = planted is not None and planted.protected == review["protected_filename"]
                self.reviewer.decide(review["id"], "accepted" if right else "refused")
            wait_until(self._all_carried_out, "the decisions are carried out and alerted", _MAIL_SECONDS)

    def sensor_waits(self) -> bool:
        """Does review_matches wait for a decision, or is there none to wait for?"""
        if not self.reviewer.reviews("pending"):
            return True
        runs = [run for run in self.admin.runs("review_matches") if run["state"] == "running"]
        return any(
            task["task_id"] == "wait_for_decisions" and task["state"] == "deferred"
            for run in runs
            for task in self.admin.tasks("review_matches", run["dag_run_id"])
        )

    def _all_carried_out(self) -> bool:
        accepted = {review["evidence_id"] for review in self.reviewer.reviews("accepted")}
        sent = {alert["evidence_id"] for alert in self.reviewer.alerts() if alert["state"] == "sent"}
        return accepted <= sent and not self.reviewer.reviews("pending")

    def mails(self) -> list[dict[str, Any]]:
        """What is in the inbox."""
        answer = httpx.get(f"{self.services.inbox_url}/api/mails").json()
        return list(answer["mails"] if isinstance(answer, dict) else answer)

    def _site(self, method: str, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.services.site_token}"}
        answer = httpx.request(method, f"{self.services.site_url}{path}", headers=headers)
        answer.raise_for_status()
        return answer.json()

    def _site_requests(self, after: int) -> Any:
        return self._site("GET", f"/-/requests?after={after}")
