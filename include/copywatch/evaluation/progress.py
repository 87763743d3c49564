"""How far a long run has come: a line every ten seconds, on standard error where the command logs to it."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)

_SECONDS_A_LINE = 10.0


class Progress:
    """Of one part of the run. A part that takes less than ten seconds says nothing."""

    def __init__(self, what: str, total: int) -> None:
        """`what` ends the sentence "120 of 4000 ...", such as "images read"."""
        self._what, self._total, self._done = what, total, 0
        self._start = self._told = time.monotonic()

    def more(self, count: int = 1) -> None:
        """So many more are done."""
        self._done += count
        now = time.monotonic()
        if now - self._told >= _SECONDS_A_LINE:
            self._told = now
            rate = self._done / (now - self._start)
            left = max(0, self._total - self._done) / rate
            log.info("%d of %d %s, %.0f a second, some %.0f s more", self._done, self._total, self._what, rate, left)
