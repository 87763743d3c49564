"""
### Maintain the lake: keep the tables small and quick

Every night: **expire_seen** deletes sightings found different that are older than the set time, **compact_tables**
joins small files and removes those that no version of the last week needs, **clear_landing** clears what is left in
the landing folder of finished runs.
"""

from __future__ import annotations

from airflow.sdk import dag, task
from dag_defaults import DEFAULTS, OWNER_TAG
from pendulum import datetime


@dag(
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=[OWNER_TAG, "maintenance"],
    doc_md=__doc__,
)
def maintain_lake():
    @task
    def expire_seen(run_id: str):
        from copywatch.steps import maintain

        return maintain.expire_seen(run_id)

    @task
    def compact_tables(run_id: str):
        from copywatch.steps import maintain

        maintain.compact_tables(run_id)

    @task
    def clear_landing(run_id: str):
        from copywatch.steps import maintain

        return maintain.clear_landing(run_id)

    expire_seen() >> compact_tables()
    clear_landing()


maintain_lake()
