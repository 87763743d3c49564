"""Two DAGs of the same tasks, one tagged as ours, for the links on their tasks."""

from __future__ import annotations

from airflow.sdk import DAG, get_current_context, task
from review_sensor import ReviewSensor


def linked(dag_id: str, tag: str) -> DAG:
    with DAG(dag_id, schedule=None, tags=[tag]) as dag:

        @task
        def crawl(address: str):
            get_current_context()["ti"].xcom_push("site_address", address)

        @task
        def record(queued: int):
            get_current_context()["ti"].xcom_push("reviews_queued", queued)

        crawled = crawl.expand(address=["https://photos.example/", "javascript:alert(1)"])
        some, none = record.override(task_id="some")(2), record.override(task_id="none")(0)
        crawled >> some >> none >> ReviewSensor(task_id="wait", poll_seconds=0.2)
    return dag


ours = linked("linked", "copywatch")
foreign = linked("foreign", "something-else")
