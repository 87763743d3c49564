"""The README's examples run, its files exist, and its pictures are there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from copywatch.lake.schemas import MATCHES, REJECTED
from copywatch.lake.spark_setup import job_environment
from copywatch.lake.tables import create_tables, replace_rows
from copywatch.settings import PROJECT_DIR, env_example, settings

README = (PROJECT_DIR / "README.md").read_text(encoding="utf-8")
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def example(name: str) -> str:
    """The code block that `<!-- runs: name -->` marks."""
    found = re.search(rf"<!-- runs: {name} -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found, f"README has no example marked {name}"
    return found[1]


@pytest.fixture
def demo_tables(tmp_path: Path) -> Path:
    """A folder with the tables where a demo leaves them, and a few rows in them."""
    warehouse = str(tmp_path / "var" / "demo" / "warehouse")
    create_tables(warehouse)
    none = dict.fromkeys(MATCHES.columns.names)
    match = {"site": "lumen", "uploader": "Mira", "verdict": 0, "tag": "animal", "matched_at": NOW}
    states = {"1": "certain", "2": "accepted", "3": "refused"}
    rows = [{**none, **match, "sighting_id": number, "state": state} for number, state in states.items()]
    replace_rows(warehouse, MATCHES, rows, run="r")
    none = dict.fromkeys(REJECTED.columns.names)
    replace_rows(warehouse, REJECTED, [{**none, "site": "lumen", "reason": "corrupt image"}], run="r")
    return tmp_path


def test_the_duckdb_example_runs(demo_tables: Path) -> None:
    """It counts what was not refused."""
    done = subprocess.run(
        [sys.executable, "-c", example("duckdb")], cwd=demo_tables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"lumen\s*│\s*Mira\s*│\s*2\b", done.stdout), done.stdout


@pytest.mark.integration
def test_the_spark_example_runs(demo_tables: Path) -> None:
    """With the command that the README gives."""
    prepared = settings().prepared_dir.resolve()
    if not (prepared / "spark" / "spark.properties").exists():
        pytest.skip("Spark is not prepared: run make setup")
    (demo_tables / "query.py").write_text(example("spark"), encoding="utf-8")
    submit = str(Path(sys.executable).parent / "spark-submit")
    assert f".venv/bin/{Path(submit).name} --properties-file .venv/share/copywatch/spark/spark.properties" in README
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [submit, "--properties-file", str(prepared / "spark" / "spark.properties"), "query.py"],
        cwd=demo_tables,
        env={**os.environ, "PATH": path, **job_environment(prepared)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"lumen\s*\|\s*corrupt image\s*\|\s*1\b", done.stdout), done.stdout


def test_its_links_lead_somewhere() -> None:
    """Every relative link and picture of the README and of docs/ exists."""
    for page in (PROJECT_DIR / "README.md", *PROJECT_DIR.glob("docs/*.md")):
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_env_example_lists_every_setting() -> None:
    """`.env.example` is what the settings say of themselves; `make env-example` writes it."""
    assert env_example() in (PROJECT_DIR / ".env.example").read_text(encoding="utf-8")
