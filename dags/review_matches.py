"""
### Review matches: wait for people, carry out what they decide

Runs whenever `matches` changes. **wait_for_decisions** waits, without holding a worker, until somebody has decided a
doubtful match on the review page; pairs that verification takes for different pictures are not waited for, but may be
accepted there as well. **apply** puts accepted ones into the outbox, closes refused ones and writes both
into `matches`; that change starts the next run, which waits for what is left. **send_alerts** sends the outbox.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag, task
from dag_defaults import DEFAULTS, OWNER_TAG
from lake_assets import MATCHES
from pendulum import datetime
from review_sensor import ReviewSensor


@dag(
    schedule=[MATCHES],
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=[OWNER_TAG, "review"],
    doc_md=__doc__,
)
def review_matches():
    @task.short_circuit
    def anything_decided(found: dict):
        return found["to_apply"]

    @task(outlets=[MATCHES])
    def apply(run_id: str):
        from copywatch.steps import review

        return review.apply_decisions(run_id)

    @task(retries=5)
    def send_alerts(run_id: str):
        from copywatch.steps import watch

        return watch.send_alerts(run_id)

    waited = ReviewSensor(
        task_id="wait_for_decisions", timeout=timedelta(days=365), soft_fail=True, execution_timeout=None
    )
    anything_decided(waited.output) >> apply() >> send_alerts()


review_matches()
