"""What an administrator reads at the end of a calibration."""

from __future__ import annotations

import logging

import pytest

from copywatch.errors import CopywatchError
from copywatch.lake.schemas import THRESHOLDS
from copywatch.lake.tables import replace_rows
from copywatch.matching.score import RESCORED_THRESHOLD
from copywatch.settings import Settings
from copywatch.steps import calibrate
from tests.matching.calibrations import calibration_rows


@pytest.fixture
def config(config: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(calibrate, "settings", lambda: config)
    return config


def test_says_both_thresholds_and_that_the_safer_is_in_force(config: Settings, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    replace_rows(config.warehouse, THRESHOLDS, calibration_rows(normal=0.3, tail=0.2), run="manual__1_00")
    told = calibrate.report("manual__1:00")
    assert told["thresholds"] == {"normal": 0.3, "tail": 0.2}
    assert told["in_force"]["threshold"] == 0.2
    assert (told["images"], told["pairs"], told["rate"]) == (2000, 1_999_000, 1e-6)
    for text in (" 0.2  measured tail", " 0.3  normal fit", "In force for mao/1, rescored: Th = 0.2000"):
        assert text in caplog.text


def test_too_few_pairs_are_never_passed_over(config: Settings, caplog: pytest.LogCaptureFixture):
    rows = calibration_rows(normal=0.3, tail=0.2, needs_a_person=True, note="a rate below 1 / 1,225 cannot be measured")
    replace_rows(config.warehouse, THRESHOLDS, rows, run="run-1")
    told = calibrate.report("run-1")
    assert told["needs_a_person"]
    assert told["note"] == "a rate below 1 / 1,225 cannot be measured"
    assert told["in_force"]["threshold"] == RESCORED_THRESHOLD
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("cannot be measured" in one for one in warnings)
    assert any("only if somebody chooses one" in one for one in warnings)


def test_a_run_that_wrote_nothing_or_half_fails(config: Settings):
    replace_rows(config.warehouse, THRESHOLDS, calibration_rows(normal=0.3, tail=0.2)[:1], run="run-1")
    for run in ("run-1", "run-2"):
        with pytest.raises(CopywatchError, match=f"does not hold both methods of the run {run}"):
            calibrate.report(run)
