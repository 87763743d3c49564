"""
### Watch sites: crawl what is new, find copies, tell the owners

Runs at the shortest interval of `sites.yaml`; trigger it by hand to crawl chosen sites now, due or not. **pick_sites**
takes the sites that are due, and logs where each one stands: a site that failed three times in a row is left alone for
a while. **crawl** runs once for each. **fingerprint** and **match** are Spark jobs. **record** puts identical pictures
(T = 0) into the outbox and similar ones (T = 1) on the review page; **send_alerts** sends the outbox.
"""

from __future__ import annotations

from airflow.sdk import Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException
from dag_defaults import DEFAULTS, OWNER_TAG, site_interval
from lake_assets import CRAWL_STATS, DETECTED, MATCHES, REJECTED, SEEN
from pendulum import datetime
from spark_job import CRAWL_POOL, spark_job


@dag(
    schedule=site_interval(),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=[OWNER_TAG, "crawl", "match"],
    doc_md=__doc__,
    params={
        "sites": Param([], type="array", items={"type": "string"}, title="Sites", description="Empty: those due"),
        "uploaded_since": Param(None, type=["null", "string"], format="date", title="Leave out images uploaded before"),
        "algorithm": Param("mao", enum=["mao"], title="Algorithm"),
        "threshold": Param(None, type=["null", "number"], minimum=0, maximum=1, title="Threshold (empty: in force)"),
    },
)
def watch_sites():
    @task.short_circuit
    def pick_sites(params: dict, run_id: str):
        from copywatch.steps import watch

        return watch.pick_sites(params["sites"], run=run_id)

    @task(pool=CRAWL_POOL, map_index_template="{{ site }}", retries=1)
    def crawl(site: str, params: dict, run_id: str):
        from copywatch.errors import CrawlFailed
        from copywatch.steps import watch

        context = get_current_context()
        context["site"] = site  # names the mapped task
        context["ti"].xcom_push("site_address", watch.site_address(site))
        try:
            return watch.crawl_site(site, run_id, uploaded_since=params["uploaded_since"])
        except CrawlFailed as failure:
            raise AirflowFailException(str(failure)) from failure

    @task(outlets=[MATCHES])
    def record(run_id: str):
        from copywatch.steps import watch

        found = watch.record_findings(run_id)
        get_current_context()["ti"].xcom_push("reviews_queued", found["new reviews"])
        return found

    @task(retries=5)
    def send_alerts(run_id: str):
        from copywatch.steps import watch

        return watch.send_alerts(run_id)

    algorithm = ("--algorithm", "{{ params.algorithm }}")
    fingerprint = spark_job(
        "fingerprint_images", "--into", "detected", *algorithm, task_id="fingerprint",
        trigger_rule="all_done", outlets=[DETECTED, REJECTED, CRAWL_STATS],
    )  # fmt: skip
    match = spark_job("match_images", *algorithm, "--threshold={{ params.threshold }}", task_id="match", outlets=[SEEN])
    sites = pick_sites()
    [crawl.expand(site=sites) >> fingerprint, sites] >> match >> record() >> send_alerts()  # fails with pick_sites


watch_sites()
