"""What Airflow loads, and what the links on tasks say, through a DAG that runs and Airflow's own API."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
DAGS = Path(__file__).parent / "linked_dags"


def test_airflow_loads_the_plugin_and_nothing_beside_it():
    from airflow import plugins_manager

    plugins, errors = plugins_manager._get_plugins()
    ours = [plugin for plugin in plugins if plugin.name == "copywatch"]
    assert len(ours) == 1
    assert errors == {}
    # The loader would have put every other file of the folder here under its bare name.
    assert "rendering" not in sys.modules


def test_loading_the_plugin_is_light():
    code = (
        "import sys, airflow.plugins_manager; before = set(sys.modules); "
        f"sys.path.append({str(PLUGINS)!r}); import copywatch_plugin; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "heavy = new & {'deltalake', 'pyarrow', 'cv2', 'PIL', 'fastapi', 'jinja2', 'numpy', 'pyspark', 'copywatch'}; "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_links_are_for_the_tag_that_our_dags_carry():
    from dag_defaults import OWNER_TAG
    from task_links import DAG_TAG

    assert DAG_TAG == OWNER_TAG


@pytest.mark.integration
def test_the_menu_has_the_review_page(client_of):
    plugins = client_of("ADMIN").get("/api/v2/plugins").json()["plugins"]
    ours = next(plugin for plugin in plugins if plugin["name"] == "copywatch")
    view = ours["external_views"][0]
    assert (view["name"], view["href"], view["url_route"]) == ("Review", "copywatch/review", "review")


@pytest.mark.integration
def test_links_of_a_run(plant, client_of, monkeypatch):
    from copywatch.lake.identity import run_key
    from copywatch.ledger import reviews
    from copywatch.ledger.database import session
    from copywatch.ledger.models import ReviewState

    plant()

    def decide_later() -> None:
        with session() as opened:
            reviews.decide(opened, 1, ReviewState.ACCEPTED, "somebody")

    client = client_of("ADMIN")

    def links(run, task_id, map_index=-1):
        path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/links"
        return client.get(path, params={"map_index": map_index}).json()["extra_links"]

    bundle = {
        "name": "links",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(DAGS)},
    }
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
    monkeypatch.syspath_prepend(str(DAGS))
    import linked

    later = threading.Timer(6, decide_later)
    later.start()
    run = linked.ours.test()
    later.join()
    # The sensor deferred, and the trigger saw the decision.
    assert run.state == "success"

    rows = f"/plugin/review/copywatch/runs/{run_key(run.run_id)}"
    review = "/plugin/review/copywatch/review"
    assert links(run, "crawl", 0) == {
        "Review page": None,
        "Rows of this run": rows,
        "Site": "https://photos.example/",
    }
    assert links(run, "crawl", 1)["Site"] is None
    assert links(run, "some")["Review page"] == review
    assert links(run, "none")["Review page"] is None
    assert links(run, "wait")["Review page"] == review

    foreign = linked.foreign.test()
    assert set(links(foreign, "wait").values()) == {None}
