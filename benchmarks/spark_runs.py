"""A Spark session as the product's jobs have it, and what work costs this process and all that it started."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import psutil
from pyspark.sql import SparkSession

from copywatch.errors import MachineError
from copywatch.lake.spark_setup import job_environment
from copywatch.settings import load_settings

MASTER = "local[2]"
CORES = 2

_SAMPLE_SECONDS = 0.1
_MEGABYTE = 1e6

Answer = TypeVar("Answer")


@contextmanager
def spark_session() -> Iterator[SparkSession]:
    """A session on `MASTER` with the defaults that set-up wrote for the product's jobs.

    Raises:
        MachineError: set-up has not been run.
    """
    prepared = load_settings().prepared_dir
    if not (prepared / "spark" / "spark.properties").exists():
        raise MachineError(f'Delta\'s jars are not prepared below {prepared}; run "make setup"')
    os.environ |= job_environment(prepared)
    # Spark may leave files where it is started.
    with tempfile.TemporaryDirectory(prefix="copywatch-spark-") as folder, chdir(folder):
        session = SparkSession.builder.master(MASTER).appName("benchmarks").getOrCreate()
        try:
            yield session
        finally:
            session.stop()


@dataclass(frozen=True)
class Cost:
    """Of one piece of work.

    Attributes:
        seconds: by the clock.
        processor: seconds of all cores, of this process and all below it: the JVM, Spark's Python workers.
        own_megabytes: most resident memory of this process.
        jvm_megabytes: most resident memory of the JVM.
        worker_megabytes: most resident memory of Spark's Python workers together, shared pages once a process.
    """

    seconds: float
    processor: float
    own_megabytes: float
    jvm_megabytes: float
    worker_megabytes: float


def measured(work: Callable[[], Answer]) -> tuple[Answer, Cost]:
    """Do it once, and say what it cost."""
    peak = _Peak()
    before, begun = _processor_seconds(), time.perf_counter()
    with peak:
        answer = work()
    seconds = time.perf_counter() - begun
    return answer, Cost(seconds, _processor_seconds() - before, peak.own, peak.jvm, peak.workers)


class _Peak:
    """Samples the memory of this process, the JVM and the workers from a thread of its own."""

    def __init__(self) -> None:
        self.own = self.jvm = self.workers = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        me = psutil.Process()
        while True:
            jvm = workers = 0.0
            for process in me.children(recursive=True):
                try:
                    resident = process.memory_info().rss / _MEGABYTE
                    is_jvm = process.name() == "java"
                except psutil.NoSuchProcess:
                    continue
                jvm, workers = (jvm + resident, workers) if is_jvm else (jvm, workers + resident)
            self.own = max(self.own, me.memory_info().rss / _MEGABYTE)
            self.jvm, self.workers = max(self.jvm, jvm), max(self.workers, workers)
            if self._done.wait(_SAMPLE_SECONDS):
                return


def _processor_seconds() -> float:
    """Of this process, all that run below it, and those below it that have ended."""
    total = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
