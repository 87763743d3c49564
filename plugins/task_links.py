"""Links on a task's page: to the review page, to the site it crawled, to the rows of its run.

They are for the DAGs tagged `copywatch` only; on any other DAG's tasks a link has no address, and the UI hides it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs
from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.models.taskinstancekey import TaskInstanceKey
    from airflow.serialization.definitions.mappedoperator import Operator

DAG_TAG = "copywatch"
"""The DAGs that the links are for carry it."""

SITE_ADDRESS_XCOM = "site_address"
"""A task that pushes it gets the link to that site."""

REVIEWS_QUEUED_XCOM = "reviews_queued"
"""A task that pushes it, with how many, gets the link to the review page unless it is 0."""


def address_in_ui(page: str) -> str:
    """Address of one of our pages inside the Airflow UI.

    The UI's frame takes the path of the page that it shows behind its own, `/plugin/review`.

    Args:
        page: path below `/copywatch/`, such as `review`.
    """
    from airflow.configuration import conf

    root = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    return f"{root}/plugin/review{root}/copywatch/{page}"


def _is_ours(operator: Operator) -> bool:
    dag = operator.get_dag()
    return dag is not None and DAG_TAG in dag.tags


def _pushed(operator: Operator, ti_key: TaskInstanceKey, xcom_key: str) -> str:
    # Airflow's own reader of a link from an XCom; it turns the value into text without deserialising objects.
    from airflow.serialization.definitions.operatorlink import XComOperatorLink

    return XComOperatorLink(name=xcom_key, xcom_key=xcom_key).get_link(operator, ti_key=ti_key)


@attrs.define()
class ReviewPageLink(BaseOperatorLink):
    """To the doubtful pairs: on the review sensor, and on tasks that queued some."""

    name: str = "Review page"

    def get_link(self, operator: Operator, *, ti_key: TaskInstanceKey) -> str:  # type: ignore[override]
        """The address, or nothing."""
        if not _is_ours(operator):
            return ""
        waits = operator.task_type == "ReviewSensor"
        if not waits and _pushed(operator, ti_key, REVIEWS_QUEUED_XCOM) in {"", "0"}:
            return ""
        return address_in_ui("review")


@attrs.define()
class SiteLink(BaseOperatorLink):
    """To the site that the task crawled, as far as it is a web address."""

    name: str = "Site"

    def get_link(self, operator: Operator, *, ti_key: TaskInstanceKey) -> str:  # type: ignore[override]
        """The address, or nothing."""
        if not _is_ours(operator):
            return ""
        address = _pushed(operator, ti_key, SITE_ADDRESS_XCOM)
        return address if urlsplit(address).scheme in {"http", "https"} else ""


@attrs.define()
class RowsOfRunLink(BaseOperatorLink):
    """To the rows that the task's run wrote."""

    name: str = "Rows of this run"

    def get_link(self, operator: Operator, *, ti_key: TaskInstanceKey) -> str:  # type: ignore[override]
        """The address, or nothing."""
        from copywatch.lake.identity import run_key

        return address_in_ui(f"runs/{run_key(ti_key.run_id)}") if _is_ours(operator) else ""
