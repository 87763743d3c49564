"""A task that submits one of the project's Spark jobs."""

from __future__ import annotations

from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

from copywatch.settings import PROJECT_DIR, settings

SPARK_POOL = "spark"
CRAWL_POOL = "crawl"


def spark_job(module: str, *arguments: str, task_id: str, **options: Any) -> SparkSubmitOperator:
    """Submit `spark_jobs/<module>.py` for this run, where the connection `spark_default` says.

    Args:
        module: name of the module in `spark_jobs`.
        arguments: further arguments of the job; templates.
        task_id: name of the task.
        options: any option of an operator (outlets, trigger_rule, ...).
    """
    return SparkSubmitOperator(
        task_id=task_id,
        application=str(PROJECT_DIR / "spark_jobs" / f"{module}.py"),
        application_args=["--run", "{{ run_id }}", *arguments],
        properties_file=str(settings().prepared_dir / "spark" / "spark.properties"),
        name=f"{module} {{{{ run_id }}}}",
        conn_id="spark_default",
        pool=SPARK_POOL,
        **options,
    )
