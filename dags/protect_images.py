"""
### Protect images: from an owner's folder to the protected table

**receive** enters an application for each image of one folder below the intake folder: what is no usable image, or is
protected already, is refused with its reason. **fingerprint** is a Spark job that tags and fingerprints the accepted
ones into `protected`, and their local features into `features`. **index** is another: it takes these into the search
index, and those that are no longer protected out of it. **match_seen** is a third: it looks for copies among all images
that were crawled before.
**record** puts identical ones (T = 0) into the outbox and similar ones (T = 1) on the review page. **confirm** tells
the owner, in one mail, what is protected from now on and what is not; **send_alerts** sends the outbox.
"""

from __future__ import annotations

from airflow.sdk import Param, dag, get_current_context, task
from dag_defaults import DEFAULTS, OWNER_TAG
from lake_assets import DETECTED, MATCHES, PROTECTED, SEEN
from pendulum import datetime
from spark_job import spark_job


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=[OWNER_TAG, "protect"],
    doc_md=__doc__,
    params={
        "owner_email": Param("", type="string", minLength=3, title="Owner's mail address"),
        "owner_name": Param("", type="string", title="Owner's name"),
        "folder": Param("", type="string", minLength=1, title="Folder", description="Below the intake folder"),
        "protected_until": Param(None, type=["null", "string"], format="date", title="Protected until"),
    },
)
def protect_images():
    @task
    def receive(params: dict, run_id: str):
        from datetime import date

        from copywatch.steps import protect

        until = params["protected_until"]
        return protect.receive_applications(
            run_id,
            owner_email=params["owner_email"],
            owner_name=params["owner_name"],
            folder=params["folder"],
            protected_until=date.fromisoformat(until) if until else None,
        )

    @task(outlets=[MATCHES])
    def record(run_id: str):
        from copywatch.steps import protect

        found = protect.record_reverse_findings(run_id)
        get_current_context()["ti"].xcom_push("reviews_queued", found["new reviews"])
        return found

    @task(outlets=[PROTECTED], retries=5)
    def confirm(run_id: str):
        from copywatch.steps import protect

        return protect.confirm_protection(run_id)

    @task(retries=5)
    def send_alerts(run_id: str):
        from copywatch.steps import watch

        return watch.send_alerts(run_id)

    fingerprint = spark_job("fingerprint_images", "--into", "protected", task_id="fingerprint")
    match_seen = spark_job("match_seen", task_id="match_seen", outlets=[SEEN, DETECTED])
    index = spark_job("index_features", task_id="index")
    receive() >> fingerprint >> index >> match_seen >> record() >> [confirm(), send_alerts()]


protect_images()
