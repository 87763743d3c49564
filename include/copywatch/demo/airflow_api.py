"""The demo's hands: what a person does in the Airflow UI and on the review page, by the same HTTP addresses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx

from copywatch.errors import CopywatchError

_POLL_SECONDS = 0.5
_RUN_SECONDS = 900


class AirflowUser:
    """Somebody logged in to Airflow.

    Args:
        url: address of the UI.
        name: user.
        password: password.
    """

    def __init__(self, url: str, name: str, password: str) -> None:
        self._name, self._password = name, password
        self._client = httpx.Client(base_url=url, timeout=60, follow_redirects=False)
        self._log_in()

    def _log_in(self) -> None:
        answer = self._client.post("/auth/token", json={"username": self._name, "password": self._password})
        answer.raise_for_status()
        self._client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def request(self, method: str, path: str, **options: Any) -> Any:
        """One call; the answer's JSON. An expired token is renewed once.

        Raises:
            CopywatchError: the answer is an error; the message has what it said.
        """
        answer = self._client.request(method, path, **options)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._log_in()
            answer = self._client.request(method, path, **options)
        if answer.is_error:
            raise CopywatchError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None

    def has_dags(self, dags: set[str]) -> bool:
        """Has the DAG processor brought all of these?"""
        known = {dag["dag_id"] for dag in self.request("GET", "/api/v2/dags", params={"limit": 100})["dags"]}
        return dags <= known

    def import_errors(self) -> list[str]:
        """What is wrong with DAG files."""
        errors = self.request("GET", "/api/v2/importErrors")["import_errors"]
        return [f"{error['filename']}: {error['stack_trace']}" for error in errors]

    def make_pool(self, name: str, slots: int, description: str) -> None:
        """Make a pool; one that is there is left."""
        pools = {pool["name"] for pool in self.request("GET", "/api/v2/pools", params={"limit": 100})["pools"]}
        if name not in pools:
            body = {"name": name, "slots": slots, "description": description, "include_deferred": False}
            self.request("POST", "/api/v2/pools", json=body)

    def unpause(self, dag: str) -> None:
        """Switch a DAG on."""
        self.request("PATCH", f"/api/v2/dags/{dag}", json={"is_paused": False})

    def trigger(self, dag: str, conf: Mapping[str, Any]) -> str:
        """Trigger a DAG with its form filled in; the run's id."""
        body = {"conf": dict(conf), "logical_date": None}
        return str(self.request("POST", f"/api/v2/dags/{dag}/dagRuns", json=body)["dag_run_id"])

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """Runs of a DAG, the newest first."""
        path = f"/api/v2/dags/{dag}/dagRuns"
        return list(self.request("GET", path, params={"order_by": "-id", "limit": 100})["dag_runs"])

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        """Task instances of a run."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances"
        return list(self.request("GET", path, params={"limit": 1000})["task_instances"])

    def wait_for_run(self, dag: str, run: str, seconds: float = _RUN_SECONDS) -> None:
        """Wait until a run has succeeded.

        Raises:
            CopywatchError: it failed, or is not over in time; names the tasks that did not succeed.
        """
        until = time.monotonic() + seconds
        while True:
            state = self.request("GET", f"/api/v2/dags/{dag}/dagRuns/{run}")["state"]
            if state == "success":
                return
            if state == "failed" or time.monotonic() > until:
                tasks = ", ".join(f"{task['task_id']} {task['state']}" for task in self.tasks(dag, run))
                raise CopywatchError(f"{dag}, run {run}: {state} ({tasks})")
            time.sleep(_POLL_SECONDS)

    def reviews(self, state: str = "all") -> list[dict[str, Any]]:
        """Reviews, as the review page's own JSON has them."""
        return list(self._pages("/copywatch/api/reviews", "reviews", state))

    def alerts(self) -> list[dict[str, Any]]:
        """Alerts of the outbox, sent or not."""
        return list(self._pages("/copywatch/api/alerts", "alerts", "all"))

    def _pages(self, path: str, name: str, state: str) -> Iterator[dict[str, Any]]:
        after: int | None = 0
        while after is not None:
            page = self.request("GET", path, params={"state": state, "after_id": after})
            yield from page[name]
            after = page["next_after_id"]

    def decide(self, review: int, decision: str) -> None:
        """Decide a review: the request that the page's button sends."""
        self.request("POST", f"/copywatch/review/{review}/decision", json={"decision": decision})


def wait_until(holds: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until a condition holds.

    Raises:
        CopywatchError: it does not in time.
    """
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise CopywatchError(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(_POLL_SECONDS)
