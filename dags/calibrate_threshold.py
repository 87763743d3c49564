"""
### Calibrate the threshold: how close do different images come to each other?

The threshold Th says up to which distance two images count as similar. **measure** is a Spark job: it takes N different
images (protected ones first, crawled ones to fill up), measures the distance of every pair, and works out two values of
Th at the false-alarm rate that you wish: by a normal fit (Formula 3 of the paper), and by the measured tail. **report**
says what came out, and what these figures cannot say: too few pairs for the rate are told, never passed over.

Nothing more is needed where the figures are sound: the smaller Th of the newest calibration is then in force by itself.
Look at them, and choose another, on the page *Thresholds* (menu *Admin*).
"""

from __future__ import annotations

from airflow.sdk import Param, dag, task
from dag_defaults import DEFAULTS, OWNER_TAG
from lake_assets import THRESHOLDS
from pendulum import datetime
from spark_job import spark_job


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=[OWNER_TAG, "threshold"],
    doc_md=__doc__,
    params={
        "images": Param(
            2000,
            type="integer",
            minimum=50,
            maximum=10_000,
            title="Number of images (N)",
            description="N images give N x (N - 1) / 2 pairs: 2,000 give two million; 5,000 give twelve million, a "
            "better figure, and take six times as long. If the lake holds fewer, all of them are taken.",
        ),
        "rate": Param(
            1e-6,
            type="number",
            exclusiveMinimum=0,
            maximum=0.1,
            title="False-alarm rate",
            description="Of all pairs of different images, the share that may be taken for copies: 0.000001 is one in "
            "a million. Smaller means fewer false alarms and more copies missed. To measure one in a million takes a "
            "million pairs, which is 1,415 images.",
        ),
        "algorithm": Param(
            "mao",
            enum=["mao", "dhash", "pdq"],
            title="Algorithm",
            description="The fingerprint that is measured. mao is the one that watch_sites compares by; the others are "
            "kept of protected images only, and are measured for comparison.",
        ),
        "rule": Param(
            "as set",
            enum=["as set", "rescored", "paper"],
            title="Rule",
            description="How a distance is measured. 'as set' is what matching uses (COPYWATCH_RULE).",
        ),
    },
)
def calibrate_threshold():
    @task
    def report(run_id: str):
        from copywatch.steps import calibrate

        return calibrate.report(run_id)

    form = [f"--{name}={{{{ params.{name} }}}}" for name in ("images", "rate", "algorithm", "rule")]
    spark_job("calibrate_threshold", *form, task_id="measure", outlets=[THRESHOLDS]) >> report()


calibrate_threshold()
