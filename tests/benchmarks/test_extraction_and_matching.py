"""The stand-alone side gives Spark's answers, and what is saved is counted right."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pytest
from photo_folder import save_noise
from pyspark.sql import SparkSession

from benchmarks import extraction_and_matching as experiment
from benchmarks.experiment import started
from benchmarks.extraction_and_matching import (
    Comparison,
    Run,
    extracted_alone,
    extracted_by_spark,
    extraction_of,
    land,
    lay,
    matched_alone,
    matched_by_spark,
    rounds,
    saved,
    sizes,
    sorted_rows,
)
from benchmarks.photos import read_photos
from benchmarks.spark_runs import Cost, measured
from copywatch.lake.schemas import DETECTED, LANDING, PROTECTED
from copywatch.lake.schemas import Table as LakeTable
from copywatch.lake.tables import read_table
from copywatch.rule import Rule
from copywatch.settings import Settings


def cost(seconds: float, processor: float) -> Cost:
    return Cost(seconds, processor, own_megabytes=1, jvm_megabytes=1, worker_megabytes=1)


def test_what_spark_saves_by_hand() -> None:
    runs = [Run(cost(10, 9), cost(4, 12)), Run(cost(12, 11), cost(6, 14)), Run(cost(50, 10), cost(30, 12))]
    row = Comparison(500, runs, start_up=3).row(57.88)
    # Medians of 12 and 6 s, and of 10 and 12 processor seconds.
    assert (row["stand-alone, s"], row["Spark, s"], row["runs"]) == (12, 6, 3)
    assert (row["paper"], row["ours"], row["ratio"]) == (57.88, 50, pytest.approx(50 / 57.88))
    assert row["saved with the start"] == 25
    assert row["saved at best"] == pytest.approx(40)
    assert saved(2, 5) == -150


def test_sizes_are_the_papers_as_far_as_there_are_photos() -> None:
    assert sizes({500: 1.0, 1000: 1.0, 2000: 1.0}, 5000) == [500, 1000, 2000]
    assert sizes({500: 1.0, 1000: 1.0, 2000: 1.0}, 700) == [500, 700]


def test_different_answers_are_no_measurement() -> None:
    one, other = pa.table({"a": [1, 2]}), pa.table({"a": [2, 1]})
    assert len(rounds(2, lambda: one, lambda: other)) == 2
    with pytest.raises(AssertionError, match="stand-alone has 2 rows and Spark 1"):
        rounds(1, lambda: one, lambda: one.slice(1))


def test_a_cost_has_the_work_and_not_the_waiting_in_its_processor_seconds() -> None:
    def work() -> str:
        time.sleep(0.3)
        begun = time.process_time()
        while time.process_time() - begun < 0.2:
            pass
        return "done"

    answer, of_work = measured(work)
    assert answer == "done"
    assert of_work.seconds >= 0.5
    assert 0.15 <= of_work.processor < of_work.seconds
    assert of_work.own_megabytes > 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(9):
        save_noise(tmp_path / "photos" / f"{number}.png", number, (128, 96))
    return tmp_path / "photos"


@pytest.fixture
def models(config: Settings) -> None:
    if not any((config.prepared_dir / "models").glob("*.onnx")):
        pytest.skip("the tag models are not prepared; run 'make setup' once")


@pytest.mark.integration
@pytest.mark.usefixtures("models")
def test_both_sides_extract_the_same(spark: SparkSession, folder: Path, config: Settings) -> None:
    photos = read_photos(folder)
    shards = land(photos, config, "crawl")
    alone = extracted_alone(shards, extraction_of(config))
    assert sorted(alone["image_url"].to_pylist()) == [photo.name for photo in photos]
    assert all(len(code) == 180 for code in alone["fingerprint"].to_pylist())
    assert sorted_rows(extracted_by_spark(spark, shards, extraction_of(config))) == sorted_rows(alone)
    assert set(alone.column_names) - set(LANDING.names) == {"fingerprint", "views", "tag"}


@pytest.mark.integration
@pytest.mark.usefixtures("models")
def test_both_sides_match_the_same(spark: SparkSession, folder: Path, tmp_path: Path, config: Settings) -> None:
    def rows(table: LakeTable, run: str | None = None) -> int:
        return read_table(config.warehouse, table, run=run).num_rows

    # Looked up under every tag: noise has none of its own.
    everywhere = config.model_copy(update={"tag_coverage": 1.0})
    arguments = ["--photos", str(folder), "--cache", str(tmp_path / "cache")]
    with started(experiment.__name__, "", arguments) as started_experiment:
        lay(started_experiment, everywhere, 6, {"few": 4, "all": 12})
    assert (rows(PROTECTED), rows(DETECTED, "few"), rows(DETECTED, "all")) == (6, 4, 12)
    for rule in (Rule.RESCORED, Rule.PAPER):
        of_rule = everywhere.model_copy(update={"rule": rule})
        for run, count in (("few", 4), ("all", 12)):
            alone = matched_alone(of_rule, run)
            assert sorted_rows(matched_by_spark(spark, of_rule, run)) == sorted_rows(alone)
            # Copies and others in turns: nearly every copy is found, and noise is nothing else's copy.
            found = set(alone["sighting_id"].to_pylist())
            assert found <= {f"s{number:05}" for number in range(0, count, 2)}
            assert len(found) >= count / 4
