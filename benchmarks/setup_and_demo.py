"""How long set-up and the demo take, and how much memory: a fresh clone, as somebody new to the project would have it.

    python benchmarks/setup_and_demo.py [--runs N] [--out docs/results/setup_and_demo.md]

Package caches are as they are on the machine, so the first of all runs there may be slower. The start of a Spark job is
measured with and without the class-data archive, in turns, and given as a ratio within the run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

PROJECT = Path(__file__).resolve().parents[1]
GOALS = {"set-up, s": 240.0, "first alert after Airflow is up, s": 90.0, "peak memory, GiB": 6.0}
_STARTS = 5


def seconds_of(command: list[str], folder: Path, **variables: str) -> float:
    """Wall-clock seconds of a command that must succeed."""
    begun = time.monotonic()
    subprocess.run(command, cwd=folder, env={**os.environ, **variables}, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def spark_starts(clone: Path) -> tuple[list[float], list[float]]:
    """Seconds of a job that only counts ten rows: with the archive, and without it, in turns."""
    job = clone / "var" / "count.py"
    job.parent.mkdir(exist_ok=True)
    job.write_text(
        "from pyspark.sql import SparkSession\nSparkSession.builder.getOrCreate().range(10).count()\n", encoding="utf-8"
    )
    prepared = clone / ".venv" / "share" / "copywatch" / "spark"
    submit = [str(clone / ".venv/bin/spark-submit"), "--master", "local[2]", "--properties-file"]
    plain = prepared.parent / "without_archive.properties"
    lines = (prepared / "spark.properties").read_text().splitlines()
    plain.write_text("\n".join(line.replace("-Xshare:auto", "-Xshare:off") for line in lines))
    path = f"{clone / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(_STARTS):
        for place, properties in enumerate((prepared / "spark.properties", plain)):
            taken[place].append(seconds_of([*submit, str(properties), str(job)], clone, PATH=path))
    return taken


def measure(runs: int) -> tuple[list[dict[str, Any]], tuple[list[float], list[float]]]:
    """One row per run, each in a clone of its own; and the Spark starts of the last clone."""
    rows = []
    for number in range(1, runs + 1):
        with tempfile.TemporaryDirectory(prefix="copywatch-bench-") as folder:
            clone = Path(folder) / "copywatch"
            subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(clone)], check=True)
            row: dict[str, Any] = {"run": number, "set-up, s": round(seconds_of(["make", "setup"], clone), 1)}
            seconds_of(["make", "demo", "EXIT=1"], clone)
            result = json.loads((clone / "demo-result.json").read_text())
            row["first alert after Airflow is up, s"] = result["first_alert_seconds"]
            row["peak memory, GiB"] = round(result["peak_memory_bytes"] / 2**30, 2)
            row["demo, s"] = round(sum(result["seconds"].values()), 1)
            row["missed"], row["false"] = len(result["missed"]), len(result["false"])
            rows.append(row)
            if number == runs:
                starts = spark_starts(clone)
    return rows, starts


def report(rows: list[dict[str, Any]], archived: list[float], plain: list[float]) -> str:
    """The tables, as a page."""
    goals = [
        {"figure": name, "goal": f"<= {goal:g}", "median": median(row[name] for row in rows)}
        for name, goal in GOALS.items()
    ]
    starts = [
        {"start of a Spark job": "with the archive", "median, s": round(median(archived), 2)},
        {"start of a Spark job": "without it", "median, s": round(median(plain), 2)},
        {"start of a Spark job": "ratio", "median, s": round(median(archived) / median(plain), 2)},
    ]
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"
    return "\n\n".join(
        [
            "# Set-up and demo",
            f"`python benchmarks/setup_and_demo.py --runs {len(rows)}` on {machine}.",
            "Each run is a fresh clone; package caches are warm.",
            tabulate(goals, headers="keys", tablefmt="github"),
            tabulate(rows, headers="keys", tablefmt="github"),
            tabulate(starts, headers="keys", tablefmt="github"),
        ]
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=PROJECT / "docs" / "results" / "setup_and_demo.md")
    arguments = parser.parse_args()
    rows, (archived, plain) = measure(arguments.runs)
    text = report(rows, archived, plain)
    print(text)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
