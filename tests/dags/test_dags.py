"""What every DAG promises to the people who see it in the UI, and to the scheduler."""

from __future__ import annotations

import ast
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

DAGS = Path(__file__).resolve().parents[2] / "dags"
FILES = sorted(DAGS.glob("*.py"))
NAMES = sorted(path.stem for path in FILES)
CRAWL_AND_SPARK = {
    ("watch_sites", "crawl"): "crawl", ("watch_sites", "fingerprint"): "spark", ("watch_sites", "match"): "spark",
    ("protect_images", "fingerprint"): "spark", ("protect_images", "index"): "spark",
    ("protect_images", "match_seen"): "spark",
    ("calibrate_threshold", "measure"): "spark",
}  # fmt: skip


@pytest.fixture(scope="module")
def bag() -> Any:
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(dag_folder=str(DAGS))


def test_every_file_is_imported_and_holds_the_dag_of_its_name(bag: Any):
    assert bag.import_errors == {}
    assert sorted(bag.dags) == NAMES
    assert {"protect_images", "watch_sites", "review_matches", "maintain_lake", "calibrate_threshold"} <= set(NAMES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_a_table_of_contents(path: Path):
    assert len(path.read_text().splitlines()) < 80


@pytest.mark.parametrize("name", NAMES)
class TestEach:
    def test_docs_are_the_modules_own(self, bag: Any, name: str):
        documentation = ast.get_docstring(ast.parse((DAGS / f"{name}.py").read_text()), clean=False)
        assert documentation
        assert bag.dags[name].doc_md == documentation
        assert documentation.strip().startswith("### ")

    def test_docs_name_every_task_of_the_chain(self, bag: Any, name: str):
        glue = {"anything_decided"}
        for task in bag.dags[name].task_ids:
            assert task in glue or f"**{task}**" in bag.dags[name].doc_md, task

    def test_tags_and_owner(self, bag: Any, name: str):
        dag = bag.dags[name]
        assert "copywatch" in dag.tags
        assert len(dag.tags) > 1
        assert {task.owner for task in dag.tasks} == {"copywatch"}

    def test_retries_back_off(self, bag: Any, name: str):
        for task in bag.dags[name].tasks:
            assert task.retries >= 1, task.task_id
            assert task.retry_exponential_backoff, task.task_id
            assert timedelta(0) < task.retry_delay < task.max_retry_delay, task.task_id

    def test_a_stuck_task_is_ended_save_the_one_that_waits_for_people(self, bag: Any, name: str):
        for task in bag.dags[name].tasks:
            assert (task.execution_timeout is None) == (task.task_id == "wait_for_decisions"), task.task_id

    def test_past_runs_are_not_made_up_for(self, bag: Any, name: str):
        assert not bag.dags[name].catchup

    def test_pools_of_crawl_and_spark_tasks(self, bag: Any, name: str):
        for task in bag.dags[name].tasks:
            expected = CRAWL_AND_SPARK.get((name, task.task_id), "default_pool")
            assert task.pool == expected, task.task_id
            assert hasattr(task, "application_args") == (expected == "spark"), task.task_id


def test_runs_that_would_get_into_each_others_way_wait(bag: Any):
    for name in ("protect_images", "watch_sites", "review_matches", "maintain_lake", "calibrate_threshold"):
        assert bag.dags[name].max_active_runs == 1, name


class TestWatchSites:
    def test_crawls_are_mapped_and_named_by_site(self, bag: Any):
        crawl = bag.dags["watch_sites"].get_task("crawl")
        assert crawl.is_mapped
        assert crawl.map_index_template == "{{ site }}"

    def test_its_form(self, bag: Any):
        params = bag.dags["watch_sites"].params
        assert params.dump() == {"sites": [], "uploaded_since": None, "algorithm": "mao", "threshold": None}
        params["sites"], params["uploaded_since"], params["threshold"] = ["lumen"], "2026-01-01", 0.3
        params.validate()

    @pytest.mark.parametrize(
        ("name", "value"),
        [("sites", "lumen"), ("sites", [1]), ("uploaded_since", "yesterday"), ("algorithm", "md5"),
         ("threshold", 1.5), ("threshold", -1), ("threshold", "0.3")],
    )  # fmt: skip
    def test_its_form_refuses(self, bag: Any, name: str, value: object):
        from airflow.sdk.exceptions import ParamValidationError

        with pytest.raises(ParamValidationError):
            bag.dags["watch_sites"].params.get_param(name).resolve(value)

    def test_one_sites_failure_does_not_stop_the_others(self, bag: Any):
        dag = bag.dags["watch_sites"]
        assert dag.get_task("fingerprint").trigger_rule == "all_done"
        # But a file of sites that cannot be read must not end as a run that went well.
        assert dag.get_task("match").upstream_task_ids == {"fingerprint", "pick_sites"}
        for name in ("match", "record", "send_alerts"):
            assert dag.get_task(name).trigger_rule == "all_success"

    def test_the_chain(self, bag: Any):
        dag = bag.dags["watch_sites"]
        chain = ["pick_sites", "crawl", "fingerprint", "match", "record", "send_alerts"]
        for before, after in pairwise(chain):
            assert before in dag.get_task(after).upstream_task_ids

    def test_the_jobs_get_the_form(self, bag: Any):
        dag = bag.dags["watch_sites"]
        fingerprint, match = (dag.get_task(name).application_args for name in ("fingerprint", "match"))
        assert fingerprint == ["--run", "{{ run_id }}", "--into", "detected", "--algorithm", "{{ params.algorithm }}"]
        assert match[:4] == ["--run", "{{ run_id }}", "--algorithm", "{{ params.algorithm }}"]
        assert match[4].startswith("--threshold={{ params.threshold")

    @pytest.mark.parametrize(("chosen", "understood"), [(None, None), (0, 0.0), (0.0, 0.0), (0.25, 0.25), (1, 1.0)])
    def test_the_threshold_of_the_form_arrives(self, bag: Any, chosen: float | None, understood: float | None):
        """Th = 0 is a choice, not an empty field."""
        from jinja2 import Template

        from spark_jobs.match_images import threshold_or_none

        argument = bag.dags["watch_sites"].get_task("match").application_args[4]
        rendered = Template(argument).render(params={"threshold": chosen})
        assert threshold_or_none(rendered.removeprefix("--threshold=")) == understood

    def test_runs_at_the_shortest_interval_and_a_broken_file_leaves_it_in_the_ui(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        import dag_defaults

        from copywatch.settings import load_settings

        file = tmp_path / "sites.yaml"
        monkeypatch.setattr(dag_defaults, "settings", lambda: load_settings(sites_file=file))
        assert dag_defaults.site_interval() == timedelta(days=1)
        site = "  - {name: %s, start: 'http://a.example/', every: %s, enabled: %s}\n"
        file.write_text(
            "sites:\n"
            + "".join(site % one for one in (("a", "6h", "true"), ("b", "30m", "true"), ("c", "5m", "false")))
        )
        assert dag_defaults.site_interval() == timedelta(minutes=30)
        file.write_text("sites: [")
        assert dag_defaults.site_interval() == timedelta(days=1)


def test_protect_images_asks_for_the_owner_and_the_folder(bag: Any):
    from airflow.sdk.exceptions import ParamValidationError

    params = bag.dags["protect_images"].params
    with pytest.raises(ParamValidationError):
        params.validate()
    params["owner_email"], params["folder"] = "ada@owners.example", "ada"
    params.validate()
    with pytest.raises(ParamValidationError):
        params.get_param("protected_until").resolve("tomorrow")


def test_protect_images_looks_back_before_it_confirms(bag: Any):
    dag = bag.dags["protect_images"]
    for before, after in pairwise(["receive", "fingerprint", "index", "match_seen", "record", "confirm"]):
        assert dag.get_task(after).upstream_task_ids == {before}
    assert dag.get_task("send_alerts").upstream_task_ids == {"record"}
    assert dag.get_task("match_seen").application_args == ["--run", "{{ run_id }}"]
    # A new registration can be found by a crawl that begins when the run has ended.
    assert dag.get_task("index").application.endswith("spark_jobs/index_features.py")
    assert dag.get_task("index").application_args == ["--run", "{{ run_id }}"]


class TestCalibrateThreshold:
    def test_measures_then_reports(self, bag: Any):
        dag = bag.dags["calibrate_threshold"]
        assert set(dag.task_ids) == {"measure", "report"}
        assert dag.get_task("report").upstream_task_ids == {"measure"}
        # Only people start it.
        assert not dag.timetable.can_be_scheduled

    def test_its_form(self, bag: Any):
        params = bag.dags["calibrate_threshold"].params
        assert params.dump() == {"images": 2000, "rate": 1e-6, "algorithm": "mao", "rule": "as set"}
        params.validate()
        for name in params:
            field = params.get_param(name)
            assert field.schema["title"], name
            assert field.description, name

    @pytest.mark.parametrize(
        ("name", "value"),
        [("images", 49), ("images", 10_001), ("images", 100.5), ("images", "many"), ("rate", 0), ("rate", 0.2),
         ("rate", -1e-6), ("rate", None), ("algorithm", "md5"), ("rule", "other"), ("rule", None)],
    )  # fmt: skip
    def test_its_form_refuses(self, bag: Any, name: str, value: object):
        from airflow.sdk.exceptions import ParamValidationError

        with pytest.raises(ParamValidationError):
            bag.dags["calibrate_threshold"].params.get_param(name).resolve(value)

    def test_its_bounds_are_the_jobs(self, bag: Any):
        from copywatch.fingerprint.registry import ALGORITHMS
        from copywatch.matching.calibration import FEWEST_IMAGES
        from spark_jobs.calibrate_threshold import MOST_IMAGES
        from spark_jobs.fingerprint_images import OTHER_FINGERPRINTS

        params = bag.dags["calibrate_threshold"].params
        images = params.get_param("images").schema
        assert (images["minimum"], images["maximum"]) == (FEWEST_IMAGES, MOST_IMAGES)
        algorithms = params.get_param("algorithm").schema["enum"]
        assert algorithms == ["mao", *OTHER_FINGERPRINTS]
        assert set(algorithms) <= set(ALGORITHMS)

    @pytest.mark.parametrize(
        ("given", "understood"),
        [({}, (2000, 1e-6, "mao", None)),
         ({"images": 50, "rate": 0.001, "algorithm": "dhash", "rule": "paper"}, (50, 0.001, "dhash", "paper"))],
    )  # fmt: skip
    def test_the_form_arrives_at_the_job(self, bag: Any, given: dict[str, Any], understood: tuple[Any, ...]):
        from jinja2 import Template

        from spark_jobs.calibrate_threshold import arguments_of

        dag = bag.dags["calibrate_threshold"]
        params = dag.params.dump() | given
        rendered = [Template(one).render(params=params, run_id="r") for one in dag.get_task("measure").application_args]
        found = arguments_of(rendered, "mao")
        assert (found.images, found.rate, found.algorithm, found.rule) == understood
        assert found.run == "r"


def test_assets_join_the_dags(bag: Any):
    def outlets(name: str) -> set[str]:
        return {asset.name for task in bag.dags[name].tasks for asset in task.outlets}

    assert outlets("protect_images") == {"protected", "seen", "detected", "matches"}
    assert outlets("watch_sites") == {"detected", "rejected", "crawl_stats", "seen", "matches"}
    assert outlets("review_matches") == {"matches"}
    assert outlets("calibrate_threshold") == {"thresholds"}
    condition = bag.dags["review_matches"].timetable.asset_condition
    assert [asset.name for asset in condition.objects] == ["matches"]


def test_each_asset_is_a_table_of_the_lake(bag: Any):
    from copywatch.lake.schemas import TABLES

    for dag in bag.dags.values():
        for asset in (asset for task in dag.tasks for asset in task.outlets):
            assert asset.name in TABLES
            assert asset.uri == f"copywatch://lake/{asset.name}"
