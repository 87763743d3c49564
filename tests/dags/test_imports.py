"""What a DAG file may import: it is read again and again by the DAG processor, so nothing heavy."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
FILES = sorted((PROJECT / "dags").glob("*.py"))
HEAVY = frozenset(
    [
        "pyspark",
        "pyarrow",
        "deltalake",
        "numpy",
        "pandas",
        "cv2",
        "onnxruntime",
        "scrapy",
        "twisted",
        "faiss",
        "PIL",
        "duckdb",
        "imagehash",
        "fastapi",
    ]
)

_LOOK = """
import importlib.util, json, sys
sys.path.insert(0, {plugins!r})
import airflow.sdk
{provider}
before = set(sys.modules)
if {path!r}:
    spec = importlib.util.spec_from_file_location("dag_file", {path!r})
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
"""
_PROVIDER = "import airflow.providers.apache.spark.operators.spark_submit"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dag_file_brings_nothing_heavy(path: Path, tmp_path: Path):
    """Beyond what Airflow, and where a DAG has Spark jobs Airflow's own operator for them, bring."""
    provider = _PROVIDER if "spark_job" in path.read_text() else ""
    code = _LOOK.format(plugins=str(PROJECT / "plugins"), path=str(path), provider=provider)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(PROJECT / "include")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    brought = set(json.loads(done.stdout.splitlines()[-1]))
    assert "copywatch" in brought
    assert brought & HEAVY == set()


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports anywhere, functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


def top(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


LIBRARY = sorted((PROJECT / "include" / "copywatch").rglob("*.py"))


def test_the_library_knows_nothing_of_airflow():
    assert LIBRARY
    assert [str(path) for path in LIBRARY if "airflow" in top(imports_of(path))] == []


def test_the_library_knows_spark_in_the_lake_only():
    users = {path.relative_to(PROJECT / "include" / "copywatch").parts[0] for path in LIBRARY
             if top(imports_of(path)) & {"pyspark", "delta"}}  # fmt: skip
    # prepare.py makes the class-data archive, which fits one version of pyspark.
    assert users <= {"lake", "prepare.py"}


def test_the_steps_know_no_scheduler_and_no_crawler_framework():
    for path in (PROJECT / "include" / "copywatch" / "steps").glob("*.py"):
        assert top(imports_of(path)) & {"airflow", "scrapy", "pyspark"} == set(), path


def test_the_rooms_of_the_library_do_not_reach_into_the_servers():
    """Nothing reads upstream of itself: fingerprints and matching know no ledger, no alert, no portal."""
    for room in ("fingerprint", "tagging", "matching"):
        for path in (PROJECT / "include" / "copywatch" / room).glob("*.py"):
            for other in ("ledger", "alerts", "portal", "steps", "demo"):
                assert not any(name.startswith(f"copywatch.{other}") for name in imports_of(path)), path
