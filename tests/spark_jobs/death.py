"""Jobs that die between two writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Death:
    """A job that dies when it is about to write for the `writes + 1`-th time."""

    def __init__(self, writes: int) -> None:
        self.writes = writes
        self.done = 0

    def after(self, write: Callable[..., None]) -> Callable[..., None]:
        """The function that writes, until it is its turn to die."""

        def wrapped(*arguments: Any, **options: Any) -> None:
            if self.done == self.writes:
                raise KeyboardInterrupt
            write(*arguments, **options)
            self.done += 1

        return wrapped
