"""Which Th is in force: the order of what may say it, and that what does not answer is never passed over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from copywatch.errors import CopywatchError, SettingsError
from copywatch.fingerprint import algorithm_named
from copywatch.lake.schemas import THRESHOLDS
from copywatch.lake.tables import create_tables, replace_rows
from copywatch.ledger import thresholds as choices
from copywatch.ledger.database import session
from copywatch.matching.score import RESCORED_THRESHOLD
from copywatch.rule import Rule
from copywatch.settings import Settings
from copywatch.threshold import built_in_threshold, in_force_of, threshold_in_force
from tests.matching.calibrations import calibration_rows

MEASURE = {"algorithm": "mao/1", "rule": "rescored"}


@pytest.fixture
def write(config: Settings) -> Callable[..., None]:
    def put(run: str, normal: float, tail: float, **changed: Any) -> None:
        replace_rows(config.warehouse, THRESHOLDS, calibration_rows(normal=normal, tail=tail, **changed), run=run)

    return put


class TestWithoutALedger:
    def test_a_fresh_machine_has_the_measured_default_of_each_rule(self, tmp_path: Path):
        nowhere = Settings(_env_file=None, data_dir=tmp_path / "nothing")  # type: ignore[call-arg]
        assert threshold_in_force(nowhere).value == RESCORED_THRESHOLD
        paper = nowhere.model_copy(update={"rule": Rule.PAPER})
        assert threshold_in_force(paper).value == algorithm_named("mao").threshold != RESCORED_THRESHOLD
        assert threshold_in_force(nowhere, "dhash").value == algorithm_named("dhash").threshold
        assert not (tmp_path / "nothing").exists()

    def test_an_empty_table_too(self, config: Settings):
        assert threshold_in_force(config) == built_in_threshold("mao", config)

    @pytest.mark.parametrize(("normal", "tail", "method"), [(0.3, 0.2, "tail"), (0.1, 0.2, "normal")])
    def test_the_safer_of_the_newest_calibration(
        self, config: Settings, write: Any, normal: float, tail: float, method: str
    ):
        write("run-1", 0.01, 0.02)
        write("run-2", normal, tail, hours=1)
        force = threshold_in_force(config)
        assert (force.value, force.run, force.method) == (min(normal, tail), "run-2", method)
        assert "run-2" in force.source
        assert "1,999,000 pairs" in force.source

    def test_one_that_needs_a_person_is_passed_over(self, config: Settings, write: Any):
        write("run-1", 0.3, 0.2)
        write("run-2", 0.1, 0.05, hours=1, needs_a_person=True)
        assert threshold_in_force(config).value == 0.2

    def test_one_of_another_rule_or_version_says_nothing(self, config: Settings, write: Any):
        write("run-1", 0.3, 0.2, rule="paper")
        write("run-2", 0.1, 0.05, algorithm="mao/0")
        assert threshold_in_force(config).value == RESCORED_THRESHOLD
        assert in_force_of(config, "mao/1", "paper").value == 0.2
        with pytest.raises(SettingsError, match="mao/0 is of an earlier version"):
            in_force_of(config, "mao/0", "rescored")

    def test_a_setting_wins_for_the_algorithm_that_decides(self, config: Settings, write: Any):
        write("run-1", 0.3, 0.2)
        wanted = config.model_copy(update={"threshold": 0.0})
        assert threshold_in_force(wanted).value == 0.0
        assert threshold_in_force(wanted, "dhash").value == algorithm_named("dhash").threshold

    def test_a_table_that_cannot_be_read_is_an_error(self, config: Settings, write: Any):
        write("run-1", 0.3, 0.2)
        for part in (Path(config.warehouse) / "thresholds").rglob("*.parquet"):
            part.write_bytes(b"broken")
        with pytest.raises(CopywatchError, match="nobody can say which Th is in force"):
            threshold_in_force(config)

    def test_a_ledger_that_does_not_answer_is_an_error(self, config: Settings):
        unreachable = SecretStr("postgresql+psycopg2://nobody@127.0.0.1:9/none")
        with pytest.raises(CopywatchError, match="the ledger does not answer"):
            threshold_in_force(config.model_copy(update={"database_url": unreachable}))


@pytest.mark.integration
class TestChoices:
    @pytest.fixture
    def config(self, ledger_url: str) -> Settings:
        from copywatch.settings import settings

        create_tables(settings().warehouse)
        return settings()

    @pytest.fixture
    def choose(self, config: Settings) -> Callable[..., int]:
        def put(method: str, by: str = "ada", **values: Any) -> int:
            with session() as opened:
                return int(choices.choose(opened, **(MEASURE | {"method": method, "by": by} | values)).id)

        return put

    def test_the_newest_choice_holds(self, config: Settings, write: Any, choose: Any):
        write("run-1", 0.3, 0.2)
        choose("normal", threshold=0.3, calibration_run="run-1", false_alarm_rate=1e-6, pairs=1_999_000)
        force = threshold_in_force(config)
        assert (force.value, force.run, force.method) == (0.3, "run-1", "normal")
        assert "Chosen by ada on" in force.source
        write("run-2", 0.1, 0.05, hours=1)
        assert threshold_in_force(config).value == 0.3
        choose("default")
        assert threshold_in_force(config).value == RESCORED_THRESHOLD
        assert "Chosen by ada" in threshold_in_force(config).source
        choose("newest")
        assert threshold_in_force(config).value == 0.05
        choose("tail", threshold=0.2, calibration_run="run-1")
        assert threshold_in_force(config).value == 0.2
        assert threshold_in_force(config.model_copy(update={"threshold": 0.9})).value == 0.9

    def test_it_holds_for_its_algorithm_and_rule_only(self, config: Settings, choose: Any):
        choose("tail", threshold=0.2, calibration_run="run-1", rule="paper")
        choose("tail", threshold=0.1, calibration_run="run-1", algorithm="mao/0")
        assert threshold_in_force(config).value == RESCORED_THRESHOLD
        assert in_force_of(config, "mao/1", "paper").value == 0.2

    def test_the_same_choice_again_adds_nothing_and_history_is_kept(self, config: Settings, choose: Any):
        first = choose("default")
        assert choose("default", by="bob") == first
        for method in ("newest", "default"):
            assert choose(method, by="bob") != first
        with session() as opened:
            kept = choices.history(opened, **MEASURE, limit=10)
        assert [(one.method, one.chosen_by) for one in kept] == [
            ("default", "bob"),
            ("newest", "bob"),
            ("default", "ada"),
        ]

    @pytest.mark.parametrize(
        "values",
        [{"method": "tail"}, {"method": "default", "threshold": 0.2}, {"method": "tail", "threshold": 1.5},
         {"method": "tail", "threshold": -0.1}, {"method": "tail", "threshold": float("nan")}],
    )  # fmt: skip
    def test_what_is_no_choice_is_refused(self, config: Settings, choose: Any, values: dict[str, Any]):
        with pytest.raises(ValueError, match="threshold"):
            choose(**values)
