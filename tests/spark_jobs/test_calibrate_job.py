"""The calibration job: which images it takes, and that it measures what one core measures without Spark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyspark
import pytest
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from copywatch.errors import CopywatchError
from copywatch.fingerprint import algorithm_named
from copywatch.fingerprint.views import VIEW, views_of
from copywatch.lake import delta
from copywatch.lake.schemas import DETECTED, MATCHES, PROTECTED, SEEN, THRESHOLDS
from copywatch.lake.spark_setup import job_environment
from copywatch.matching import calibration as calibrating
from copywatch.matching import search_code_of
from copywatch.matching.calibration import Calibration, Pictures, calibrate
from copywatch.matching.calibration_rows import closest_pairs, newest_safer, plot_of, thresholds
from copywatch.matching.pair_distances import CodeDistances, ScoreDistances
from copywatch.rule import Rule
from copywatch.settings import Settings
from spark_jobs import calibrate_threshold as job
from tests.matching.test_calibration import protected_like, sighting_like
from tests.spark_jobs.made_up import original, sighting

pytestmark = pytest.mark.integration

Rows = Callable[..., list[dict[str, Any]]]
Calibrate = Callable[..., list[dict[str, object]]]


def protected(number: int, **changed: Any) -> dict[str, Any]:
    """Protected image `number`; its views are those of its number and of no other."""
    row = {"views": protected_like(number).tobytes(), "group_id": f"{number:032x}"}
    return original(number, **(row | {"other_fingerprints": [("dhash/1", number.to_bytes(8, "big"))]} | changed))


def seen(number: int, **changed: Any) -> dict[str, Any]:
    """Sighting `number` that is like no protected image."""
    return sighting(number, 700, **({"views": sighting_like(5000 + number).tobytes()} | changed))


def detailed(views: NDArray[np.void]) -> NDArray[np.void]:
    """The views with detail everywhere: only so are they at the distance 0 from themselves."""
    views["mask"] = 255
    return views


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of few images."""
    monkeypatch.setattr(calibrating, "BLOCK", 25)


@pytest.fixture
def run_job(spark: SparkSession, config: Settings) -> Calibrate:
    def run(name: str = "run-1", images: int = 100, rate: float = 0.01, **changed: Any) -> list[dict[str, object]]:
        given = {"algorithm": "mao", "rule": Rule.RESCORED} | changed
        return job.calibrate_run(spark, name, images=images, rate=rate, config=config, **given)

    return run


@pytest.fixture
def sample(spark: SparkSession, config: Settings) -> Callable[..., list[str]]:
    """The ids of a sample, in its order."""

    def take(run: str = "run-1", count: int = 100) -> list[str]:
        every = job.protected_images(delta.read(spark, config.warehouse, PROTECTED), "mao/1", Rule.RESCORED)
        for one in (SEEN, DETECTED):
            rows = job.sighted_images(delta.read(spark, config.warehouse, one), "mao/1", Rule.RESCORED)
            every = every.unionByName(rows)
        return [row["id"] for row in job.sampled(every, run, count).collect()]

    return take


def equals(rows: list[dict[str, Any]], wanted: Calibration) -> None:
    """The two rows hold what was measured without Spark."""
    by_method = {row["method"]: row for row in rows}
    assert sorted(by_method) == ["normal", "tail"]
    for row in rows:
        assert (row["images"], row["pairs"]) == (wanted.images, wanted.pairs)
        assert tuple(row["histogram"]) == wanted.histogram
        assert row["mean"] == pytest.approx(wanted.mean, abs=1e-12)
        assert row["deviation"] == pytest.approx(wanted.deviation, abs=1e-12)
        assert row["note"] == wanted.note
    normal, tail = by_method["normal"], by_method["tail"]
    assert normal["threshold"] == pytest.approx(wanted.normal_threshold, abs=1e-12)
    assert (tail["threshold"], tail["within"]) == (wanted.tail_threshold, wanted.tail_within)


class TestSample:
    def test_takes_protected_ones_first_and_fills_up(self, put_rows: Any, sample: Any):
        put_rows(PROTECTED, *(protected(number) for number in range(10)))
        put_rows(SEEN, *(seen(number) for number in range(10)))
        put_rows(DETECTED, *(seen(number) for number in range(10, 15)))
        taken = sample(count=17)
        assert sorted(taken[:10]) == [f"{number:032x}" for number in range(10)]
        assert len(set(taken)) == 17
        assert len(sample(count=5)) == 5
        assert set(sample(count=5)) < set(taken[:10])
        assert len(sample(count=100)) == 25

    def test_is_the_same_again_and_another_for_another_run(self, put_rows: Any, sample: Any):
        put_rows(PROTECTED, *(protected(number) for number in range(40)))
        assert sample("run-1", 10) == sample("run-1", 10)
        assert sample("run-1", 10) != sample("run-2", 10)

    def test_has_the_same_bytes_once(self, put_rows: Any, sample: Any):
        same = {"sha256": "f" * 64}
        put_rows(PROTECTED, protected(1, **same), protected(2, **same), protected(3))
        put_rows(SEEN, seen(1, **same), seen(2), seen(3, sha256=seen(2)["sha256"]))
        put_rows(DETECTED, seen(2))
        taken = sample()
        assert taken[:2] in ([f"{1:032x}", f"{3:032x}"], [f"{3:032x}", f"{1:032x}"])
        assert len(taken) == 3

    def test_leaves_what_cannot_be_compared(self, put_rows: Any, sample: Any):
        put_rows(
            PROTECTED, protected(1), protected(2, status="withdrawn"), protected(3, algorithm="mao/0"),
            protected(4, views=None), protected(5, views=b""), protected(6, views=b"x" * 230),
        )  # fmt: skip
        assert sample() == [f"{1:032x}"]


class TestRescored:
    def test_is_what_one_core_measures(self, put_rows: Any, run_job: Calibrate, rows: Rows, config: Settings):
        originals, sightings = [protected(number) for number in range(60)], [seen(number) for number in range(12)]
        put_rows(PROTECTED, *originals)
        put_rows(SEEN, *sightings)
        shown = run_job()
        views = [views_of(row["views"]) for row in originals + sightings]
        wanted = calibrate(ScoreDistances(views, [True] * 60 + [False] * 12), Pictures.different(72), 0.01)
        assert wanted.pairs == 60 * 59 // 2 + 60 * 12
        written = rows(THRESHOLDS)
        equals(written, wanted)
        assert {(row["algorithm"], row["rule"], row["run"]) for row in written} == {("mao/1", "rescored", "run-1")}
        ids = [row.get("protected_id", row.get("sighting_id")) for row in originals + sightings]
        found = closest_pairs(config.warehouse, "run-1")
        assert [pair.distance for pair in found] == [pair.distance for pair in wanted.closest]
        # Pairs of one distance come in the order of the sample, and the last ones may be others.
        farthest = found[-1].distance
        assert {frozenset((pair.one.id, pair.other.id)) for pair in found if pair.distance < farthest} == {
            frozenset((ids[pair.one], ids[pair.other])) for pair in wanted.closest if pair.distance < farthest
        }
        for row in written:
            addresses = {one[side]["address"] for one in json.loads(row["closest"]) for side in ("one", "other")}
            assert addresses <= {f"o/{number}" for number in range(60)} | {row["image_url"] for row in sightings}
        assert plot_of(config.warehouse, "run-1")[:8] == b"\x89PNG\r\n\x1a\n"
        assert [row["method"] for row in shown] == ["normal", "tail"]

    def test_again_leaves_the_same_rows(self, put_rows: Any, run_job: Calibrate, rows: Rows):
        put_rows(PROTECTED, *(protected(number) for number in range(60)))
        kept = {"method": "tail", "run": "run-0", "threshold": 0.1, "algorithm": "mao/1", "rule": "rescored"}
        put_rows(THRESHOLDS, kept)
        tables = []
        for _ in range(2):
            run_job(images=55)
            assert [row["threshold"] for row in rows(THRESHOLDS, "run-0")] == [0.1]
            tables.append(sorted(rows(THRESHOLDS, "run-1"), key=lambda row: row["method"]))
        for row in tables[0] + tables[1]:
            del row["calibrated_at"]
        assert tables[0] == tables[1]
        assert len(tables[0]) == 2

    def test_pictures_that_are_known_or_taken_for_the_same(self, put_rows: Any, run_job: Calibrate, rows: Rows):
        """0 and 1 were accepted as copies of one sighting, 2 and 3 are one group, the others are pairs with 4."""
        four, copy = ({"views": detailed(protected_like(number)).tobytes()} for number in (4, 100))
        put_rows(PROTECTED, *(protected(number) for number in range(5, 60)), protected(0, **copy), protected(1, **copy),
                 protected(2, **copy), protected(3, **copy, group_id=f"{2:032x}"),
                 protected(4, **four))  # fmt: skip
        near_4 = {"views": four["views"][: VIEW.itemsize]}
        sightings = {name: seen(number, **near_4) for number, name in enumerate(["accepted", "doubtful", "refused"])}
        put_rows(DETECTED, *sightings.values())
        common = {"algorithm": "mao/1", "tag": "animal", "run": "run-0"}
        put_rows(
            MATCHES,
            *({"sighting_id": f"{n}", "sha256": "e" * 64, "protected_id": f"{n:032x}", "state": state} | common
              for n, state in ((0, "certain"), (1, "accepted"))),
            *({"sighting_id": row["sighting_id"], "sha256": row["sha256"], "protected_id": f"{4:032x}",
               "state": state} | common for state, row in sightings.items()),
        )  # fmt: skip
        run_job()
        (row, _) = rows(THRESHOLDS)
        # Left out: 0 with 1, 4 with the accepted; unjudged: 2 with 3, 4 with the doubtful one. Sightings have no pairs.
        assert row["pairs"] == 60 * 59 // 2 + 60 * 3 - 4
        at_0 = {
            (frozenset((pair["one"]["id"], pair["other"]["id"])), pair["unjudged"])
            for pair in json.loads(row["closest"]) if pair["distance"] == 0
        }  # fmt: skip
        names = [f"{number:032x}" for number in range(5)]
        assert at_0 == {
            (frozenset((names[2], names[3])), True),
            (frozenset((names[4], sightings["doubtful"]["sighting_id"])), True),
            (frozenset((names[4], sightings["refused"]["sighting_id"])), False),
            *((frozenset((names[one], names[other])), False) for one in (0, 1) for other in (2, 3)),
        }

    def test_too_few_images_are_told(self, put_rows: Any, run_job: Calibrate, rows: Rows):
        put_rows(PROTECTED, *(protected(number) for number in range(49)))
        with pytest.raises(CopywatchError, match=r"49 different images, 49 of the rows protected.*takes 50 at least"):
            run_job()
        put_rows(SEEN, seen(1))
        run_job()
        assert {row["pairs"] for row in rows(THRESHOLDS)} == {49 * 48 // 2 + 49}

    def test_sightings_alone_are_not_enough(self, put_rows: Any, run_job: Calibrate):
        put_rows(SEEN, *(seen(number) for number in range(60)))
        with pytest.raises(CopywatchError, match="0 of the rows protected"):
            run_job()


@pytest.mark.parametrize("name", ["mao", "dhash"])
def test_the_papers_rule(put_rows: Any, run_job: Calibrate, rows: Rows, name: str):
    algorithm = algorithm_named(name)
    random = np.random.default_rng(7)
    codes = random.integers(0, 256, (60, algorithm.code_bytes), dtype=np.uint8)
    made = [
        protected(number, other_fingerprints=[("dhash/1", code.tobytes())])
        | ({"fingerprint": code.tobytes()} if name == "mao" else {})
        for number, code in enumerate(codes)
    ]
    put_rows(PROTECTED, *made)
    run_job(algorithm=name, rule=Rule.PAPER)
    equals(rows(THRESHOLDS), calibrate(CodeDistances(codes, search_code_of(algorithm)), Pictures.different(60), 0.01))


def test_the_newest_that_needs_no_person_is_offered(put_rows: Any, run_job: Calibrate, config: Settings):
    put_rows(PROTECTED, *(protected(number) for number in range(60)))
    assert newest_safer(config.warehouse, "mao/1", "rescored") is None
    run_job("run-1", rate=0.01)
    run_job("run-2", rate=0.02)
    run_job("run-3", rate=1e-6)
    listed = thresholds(config.warehouse)
    assert [one.run for one in listed] == ["run-3", "run-3", "run-2", "run-2", "run-1", "run-1"]
    assert all(one.calibrated_at >= other.calibrated_at for one, other in pairwise(listed))
    offered = newest_safer(config.warehouse, "mao/1", "rescored")
    assert offered.run == "run-2"
    assert offered.value == min(one.value for one in listed if one.run == "run-2")
    assert newest_safer(config.warehouse, "mao/1", "paper") is None
    assert newest_safer(config.warehouse, "mao/0", "rescored") is None


def test_as_it_is_submitted(put_rows: Any, rows: Rows, config: Settings, tmp_path: Path):
    """In a process of its own: what workers are sent must not be of the script, which they cannot import."""
    put_rows(PROTECTED, *(protected(number) for number in range(60)))
    library = Path(pyspark.__file__).parent
    properties = config.prepared_dir / "spark" / "spark.properties"
    if not properties.exists():
        pytest.skip(f"Delta's jars are not prepared below {config.prepared_dir}; run 'make setup' once")
    done = subprocess.run(
        [library / "bin" / "spark-submit", "--master", "local[2]", "--properties-file", properties, job.__file__,
         "--run", "manual__1", "--images", "60", "--rate", "0.01", "--algorithm=mao", "--rule=as set"],
        env={**os.environ, **job_environment(config.prepared_dir), "COPYWATCH_DATA_DIR": str(config.data_dir),
             "COPYWATCH_ENV_FILE": str(tmp_path / "none"), "PYSPARK_DRIVER_PYTHON": sys.executable},
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "calibrate_threshold, mao/1, rescored, rate 0.01" in done.stdout
    assert sorted(row["method"] for row in rows(THRESHOLDS, "manual__1")) == ["normal", "tail"]
