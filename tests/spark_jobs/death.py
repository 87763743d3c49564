"""Jobs that die between two writes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
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


class Remains:
    """What a job leaves that dies at its first write, at its second, and so on: the job lives, and the data is copied
    before each write. `folders` are the copies, in that order."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self.folders: list[Path] = []

    def before(self, write: Callable[..., None]) -> Callable[..., None]:
        """The function that writes, once the data is copied."""

        def wrapped(*arguments: Any, **options: Any) -> None:
            copy = self._data.with_name(f"{self._data.name}-{len(self.folders)}")
            self.folders.append(shutil.copytree(self._data, copy))
            write(*arguments, **options)

        return wrapped
