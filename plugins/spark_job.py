"""A task that submits one of the project's Spark jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import BaseHook

from copywatch.settings import PROJECT_DIR, settings

if TYPE_CHECKING:
    from airflow.sdk import Context

SPARK_POOL = "spark"
CRAWL_POOL = "crawl"
CONNECTION = "spark_default"


class SparkJobOperator(SparkSubmitOperator):
    """A SparkSubmitOperator that also takes Spark's properties from the connection.

    The connection says which cluster a job goes to, so what depends on the cluster (the executors' memory, the
    driver's address) belongs there too: `{"conf": {"spark.executor.memory": "4g"}}` in its extra. The provider's own
    operator reads no such key.
    """

    def execute(self, context: Context) -> None:
        """Submit the job; the task's own properties win over the connection's."""
        of_cluster = BaseHook.get_connection(CONNECTION).extra_dejson.get("conf", {})
        self.conf = {**of_cluster, **(self.conf or {})}
        super().execute(context)


def spark_job(module: str, *arguments: str, task_id: str, **options: Any) -> SparkJobOperator:
    """Submit `spark_jobs/<module>.py` for this run, where the connection `spark_default` says.

    Args:
        module: name of the module in `spark_jobs`.
        arguments: further arguments of the job; templates.
        task_id: name of the task.
        options: any option of an operator (outlets, trigger_rule, ...).
    """
    return SparkJobOperator(
        task_id=task_id,
        application=str(PROJECT_DIR / "spark_jobs" / f"{module}.py"),
        application_args=["--run", "{{ run_id }}", *arguments],
        properties_file=str(settings().prepared_dir / "spark" / "spark.properties"),
        name=f"{module} {{{{ run_id }}}}",
        conn_id=CONNECTION,
        pool=SPARK_POOL,
        **options,
    )
