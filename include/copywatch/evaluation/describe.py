"""Images described in processes of their own: fingerprints or views, and tags.

The processes are spawned, not forked: a fork of a process whose libraries have threads may hang. A decoder that dies of
a file takes its process with it; the file then becomes unusable, and the others are read by new processes.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from copywatch.decode import decode
from copywatch.errors import MachineError, Reason, UnusableImage
from copywatch.evaluation.progress import Progress
from copywatch.fingerprint.rows import Extraction
from copywatch.tagging.tagger import Tagger
from copywatch.verification.rows import ORIGINAL, found_row
from copywatch.verification.verify import found_of

_AHEAD = 4
"""Images that wait at each process."""
_IMAGES_A_PROCESS = 16
"""Fewer are read sooner by this process than a new one starts."""


@dataclass(frozen=True)
class Job:
    """An image to describe.

    Attributes:
        path: its file.
        protected: whether it is described as a protected image or as a sighting.
    """

    path: Path
    protected: bool


@dataclass(frozen=True)
class Description:
    """What reading an image gave.

    Attributes:
        fingerprint: encoded; empty where there is none.
        views: packed; empty where the algorithm has none.
        tag: the one that it is stored under as a protected image.
        tags: tag -> probability.
        digest: SHA-256 of the file, hexadecimal.
        reason: why there is no fingerprint; empty if there is one.
        local: for the second stage, if there is one: what is needed of its row of the table `features`, or of
            `copywatch.verification.rows.FOUND`; 13 kB of a protected image, some 60 kB of a detected one.
    """

    fingerprint: bytes = b""
    views: bytes = b""
    tag: str = ""
    tags: dict[str, float] = field(default_factory=dict)
    digest: str = ""
    reason: str = ""
    local: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """How images are described: as the jobs do it. Plain values: it is sent to the processes.

    Attributes:
        extraction: what is computed, and within which limits.
        second_stage: local features too.
    """

    extraction: Extraction
    second_stage: bool = False

    def described(self, job: Job) -> Description:
        """One image's description; what is unusable has its reason.

        Raises:
            MachineError: the tag models are not prepared.
        """
        tagger = _tagger(self.extraction.models)
        try:
            # A file that is too large is refused unread.
            size = job.path.stat().st_size
            if size > self.extraction.max_bytes:
                too_large = UnusableImage(Reason.TOO_LARGE, f"{size} bytes, at most {self.extraction.max_bytes}")
                return Description(reason=str(too_large))
            data = job.path.read_bytes()
        except OSError as error:
            return Description(reason=f"cannot be read: {error.strerror}")
        row = replace(self.extraction, of_protected=job.protected).row(tagger, {"bytes": data})
        if row.get("reason"):
            return Description(reason=str(UnusableImage(Reason(row["reason"]), row["detail"] or "")))
        return Description(
            fingerprint=row["fingerprint"],
            views=row.get("views", b""),
            tag=row["tag"],
            tags=dict(row["tags"]),
            digest=hashlib.sha256(data).hexdigest(),
            local=self._local(job, data, row) if self.second_stage else {},
        )

    def _local(self, job: Job, data: bytes, row: Mapping[str, Any]) -> Mapping[str, Any]:
        if job.protected:
            return {name: row[name] for name in ORIGINAL}
        limits = self.extraction
        return found_row(found_of(decode(data, max_pixels=limits.max_pixels, max_bytes=limits.max_bytes).rgb))


def described(recipe: Recipe, jobs: Sequence[Job], processes: int | None = None) -> list[Description]:
    """The descriptions of images, in their order.

    Args:
        recipe: how.
        jobs: which.
        processes: how many at most; 1: none but this one; None: one for each core.

    Raises:
        MachineError: the tag models are not prepared, or no process can be started.
    """
    most = processes or os.cpu_count() or 1
    count = min(most, -(-len(jobs) // _IMAGES_A_PROCESS))
    progress = Progress("images read", len(jobs))
    if count <= 1:
        results = []
        for job in jobs:
            results.append(recipe.described(job))
            progress.more()
        return results
    return _Processes(recipe, jobs, count, progress).results()


class _Processes:
    def __init__(self, recipe: Recipe, jobs: Sequence[Job], count: int, progress: Progress) -> None:
        self._recipe, self._jobs, self._count, self._progress = recipe, jobs, count, progress
        self._waiting = deque(range(len(jobs)))
        self._results: dict[int, Description] = {}

    def results(self) -> list[Description]:
        while self._waiting:
            for suspect in self._until_one_dies():
                self._keep(suspect, self._alone(suspect))
        return [self._results[place] for place in range(len(self._jobs))]

    def _until_one_dies(self) -> list[int]:
        """Read what waits; the images that were being read when a process died, one of which it died of."""
        running: dict[Future[Description], int] = {}
        pool = self._pool(self._count)
        try:
            while self._waiting or running:
                while self._waiting and len(running) < self._count * _AHEAD:
                    running[pool.submit(self._recipe.described, self._jobs[self._waiting[0]])] = self._waiting[0]
                    self._waiting.popleft()
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    self._keep(running[done], done.result())
                    del running[done]
        except BrokenProcessPool:
            return sorted(running.values())
        finally:
            pool.shutdown(cancel_futures=True)
        return []

    def _alone(self, place: int) -> Description:
        with self._pool(1) as pool:
            try:
                return pool.submit(self._recipe.described, self._jobs[place]).result()
            except BrokenProcessPool:
                return Description(reason=f"{Reason.CORRUPT.value} (the process that read it died)")

    def _keep(self, place: int, description: Description) -> None:
        self._results[place] = description
        self._progress.more()

    @staticmethod
    def _pool(count: int) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_parent)
        try:
            # Told apart from a process that dies of an image: one that cannot even start.
            pool.submit(os.getpid).result()
        except BrokenProcessPool:
            pool.shutdown()
            raise MachineError("no process can be started to read images; use --processes 1") from None
        return pool


def _end_with_parent() -> None:
    """A command that is killed must not leave its processes behind: they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def wait_and_end() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=wait_and_end, daemon=True).start()


@lru_cache(maxsize=1)
def _tagger(models: Path) -> Tagger:
    return Tagger(models)
