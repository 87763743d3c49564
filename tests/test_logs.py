"""Every line of ours says which run and site it belongs to, whoever formats it."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from copywatch.logs import log_context, table


@pytest.fixture
def handler() -> Iterator[logging.StreamHandler[io.StringIO]]:
    """A plain handler at the root."""
    made = logging.StreamHandler(io.StringIO())
    made.setFormatter(logging.Formatter("%(name)s|%(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(made)
    root.setLevel(logging.INFO)
    yield made
    root.removeHandler(made)
    root.setLevel(level)


@pytest.fixture
def lines(handler: logging.StreamHandler[io.StringIO]) -> io.StringIO:
    """What that handler writes."""
    return handler.stream


@pytest.mark.parametrize("logger", ["copywatch.steps.watch", "crawlers.spiders.base", "scrapy.core", "spark_jobs.x"])
def test_run_and_site_head_each_line_of_ours(lines: io.StringIO, logger: str):
    with log_context(run="run-1", site="lumen"):
        logging.getLogger(logger).info("done")
    assert lines.getvalue() == f"{logger}|[run=run-1 site=lumen] done\n"


@pytest.mark.parametrize("logger", ["airflow.task", "copywatchful", "py4j"])
def test_lines_of_others_are_left_alone(lines: io.StringIO, logger: str):
    with log_context(run="run-1"):
        logging.getLogger(logger).info("done")
    assert lines.getvalue() == f"{logger}|done\n"


def test_contexts_nest_and_end(lines: io.StringIO):
    log = logging.getLogger("copywatch")
    with log_context(run="run-1"):
        with log_context(site="a", run=None):
            log.info("inner")
        log.info("outer")
    log.info("none")
    assert lines.getvalue().splitlines() == [
        "copywatch|[run=run-1 site=a] inner",
        "copywatch|[run=run-1] outer",
        "copywatch|none",
    ]


@pytest.mark.parametrize(
    ("message", "arguments", "shown"),
    [
        ("100% of %s", (), "100% of %s"),
        ("%d%% of %s", (5, "x%d"), "5% of x%d"),
        ("%(a)s", ({"a": "b"},), "b"),
        (ValueError("50%"), (), "50%"),
    ],
)
def test_percent_signs_survive(lines: io.StringIO, message: object, arguments: tuple[object, ...], shown: str):
    """A run may be named anything, and a message may hold crawled text."""
    with log_context(run="100%s"):
        logging.getLogger("copywatch").info(message, *arguments)
    assert lines.getvalue() == f"copywatch|[run=100%s] {shown}\n"


def test_airflows_formatter_can_copy_records(handler: logging.StreamHandler[io.StringIO], lines: io.StringIO):
    """structlog's formatter, which Airflow's task logs go through, copies each record by way of the factory."""
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=lambda _, __, event: event["event"]))
    with log_context(run="run-1"):
        logging.getLogger("copywatch").info("%s fetched", 3)
        logging.getLogger("alembic.runtime").info("Context impl %s.", "x")
    assert lines.getvalue().splitlines() == ["[run=run-1] 3 fetched", "Context impl x."]


def test_a_program_logs_to_standard_error():
    code = (
        "import logging; from copywatch.logs import log_context, log_to_stderr; log_to_stderr()\n"
        "with log_context(run='r'): logging.getLogger('spark_jobs.fingerprint_images').info('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr.endswith("INFO spark_jobs.fingerprint_images: [run=r] done\n")


def test_a_table_has_its_title_its_columns_and_each_row():
    rows = [{"site": "lumen", "count": 3}, {"site": "10%", "count": None}]
    said = table(rows, title="what was done").splitlines()
    assert said[0] == "what was done"
    assert said[1].split() == ["site", "count"]
    assert [line.split() for line in said[3:]] == [["lumen", "3"], ["10%"]]


def test_an_empty_table_says_so():
    assert table([], title="sent") == "sent\n(nothing)"
    assert table([]) == "(nothing)"
