"""Landing shards: what a crawl or an intake hands to Spark, a few tens of MB of images to a Parquet file.

```
landing/<run>/<part>/00000.parquet    whole shards only: written under a hidden name, then renamed
landing/<run>/<part>/_stats.json      written last: with it the part is complete, without it nobody reads the part
landing/<run>/_state/<part>.sqlite    what the crawl remembers (copywatch.crawl_state), as far as shards are in place
landing/<run>/_RELEASED               the run was matched and its bytes were deleted
```

A part is a site's name, or another name of one writer (`intake`). Runs may be given as Airflow names them: their
folders are named by `run_key`.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from copywatch.errors import LakeError
from copywatch.lake.identity import run_key
from copywatch.lake.schemas import CRAWL_STATS, LANDING

STATS_FILE = "_stats.json"
STATE_FOLDER = "_state"
RELEASED_FILE = "_RELEASED"

# A folder that begins with "_" or "." is hidden from Spark, so that its shards would be skipped without a word.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_TIMES = [field.name for field in CRAWL_STATS.columns if pa.types.is_timestamp(field.type)]
_BYTES_COLUMN = "bytes"

_TEXTS_BYTES = 400
"""Of a row, about, beside the image."""

ROW_GROUP_BYTES = 4 * 2**20
"""Of one row group: Spark splits a file between its tasks at row groups only."""


def _folder_name(name: str, what: str) -> str:
    if not _NAME.fullmatch(name):
        raise LakeError(
            f"landing: {what} {name!r} cannot name a folder: it begins with a letter or digit, and goes on with "
            "letters, digits, '_', '-' and '.', at most 200"
        )
    return name


def run_folder(landing: Path, run: str) -> Path:
    """Folder of a run's parts; it need not exist.

    Raises:
        LakeError: the run's name would leave the landing folder.
    """
    return landing / _folder_name(run_key(run), "run")


def part_folder(landing: Path, run: str, part: str) -> Path:
    """Folder of one part's shards; it need not exist.

    Raises:
        LakeError: a name would leave the landing folder.
    """
    return run_folder(landing, run) / _folder_name(part, "part")


def state_file(landing: Path, run: str, part: str) -> Path:
    """File of what a site's crawl remembers, as it is worked on in a run; it need not exist.

    Raises:
        LakeError: a name would leave the landing folder.
    """
    return run_folder(landing, run) / STATE_FOLDER / f"{_folder_name(part, 'part')}.sqlite"


def is_interrupted(landing: Path, run: str, part: str) -> bool:
    """Whether a crawl of this run ended before its end: it goes on from its shards and its state file."""
    if is_released(landing, run) or not state_file(landing, run, part).exists():
        return False
    stats = part_folder(landing, run, part) / STATS_FILE
    try:
        return bool(json.loads(stats.read_text(encoding="utf-8"))["outcome"] == "failed")
    except FileNotFoundError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _replace_file(target: Path, text: str) -> None:
    hidden = target.with_name(f".{target.name}.{os.getpid()}")
    with hidden.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    hidden.replace(target)


class ShardWriter:
    """Writes one part of a run. A part written before, whole or not, is removed first, so a retry replaces it; or, with
    `resume`, its closed shards stay and the new ones come behind them.

    ```
    with ShardWriter(landing, run, "photo-community", shard_bytes=32 * 2**20) as writer:
        writer.write(row)
        writer.finish(stats)
    ```

    Without `finish`, after an exception or a crash, the shards that were closed stay but are not listed.
    """

    def __init__(
        self,
        landing: Path,
        run: str,
        part: str,
        *,
        shard_bytes: int,
        schema: pa.Schema = LANDING,
        rows: int = 20_000,
        seconds: float = math.inf,
        resume: bool = False,
        committed: Callable[[], None] = lambda: None,
    ) -> None:
        """`shard_bytes`, `rows` and `seconds` close a shard with the next row, whichever is reached first. `committed`
        is called each time that a shard is in place: all rows written so far are safe then.

        Raises:
            LakeError: a name would leave the landing folder.
        """
        self.folder = part_folder(landing, run, part)
        self._schema = schema
        self._shard_bytes = shard_bytes
        self._shard_rows = rows
        self._shard_seconds = seconds
        self._begun = monotonic()
        self._resume = resume
        self._committed = committed
        self._row = pa.struct(list(schema))
        self._rows: list[pa.StructArray] = []
        self._size = 0
        self._shards = 0
        # Photos are compressed already; the texts beside them repeat.
        self._compression = {
            field.name: "none" if field.name == _BYTES_COLUMN else "zstd" for field in schema if field.name
        }
        self._dictionary = [field.name for field in schema if pa.types.is_string(field.type)]

    def __enter__(self) -> ShardWriter:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / STATS_FILE).unlink(missing_ok=True)
        for path in self.folder.iterdir():
            if not self._resume or path.name.startswith("."):
                path.unlink()
        self._shards = max((int(path.stem) + 1 for path in self.folder.glob("[0-9]*.parquet")), default=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._rows.clear()
        for path in self.folder.glob(".*"):
            path.unlink(missing_ok=True)

    def write(self, row: Mapping[str, object]) -> None:
        """Add a row; columns that it lacks are null.

        Raises:
            LakeError: a column is unknown or a value does not fit it; the other rows are not harmed.
            OSError: the shard cannot be written.
        """
        if unknown := set(row) - set(self._schema.names):
            raise LakeError(f"landing: {self.folder}: no column is named {', '.join(sorted(unknown))}")
        try:
            # Half of what a batch of one row costs.
            converted = pa.array([dict(row)], type=self._row)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise LakeError(f"landing: {self.folder}: a value does not fit its column: {error}") from error
        self._rows.append(converted)
        data = row.get(_BYTES_COLUMN)
        self._size += _TEXTS_BYTES + (len(data) if isinstance(data, bytes) else 0)
        old = monotonic() - self._begun >= self._shard_seconds
        if old or self._size >= self._shard_bytes or len(self._rows) >= self._shard_rows:
            self._close_shard()

    def _close_shard(self) -> None:
        if not self._rows:
            return
        name = f"{self._shards:05d}.parquet"
        hidden = self.folder / f".{name}"
        batch = pa.RecordBatch.from_struct_array(pa.concat_arrays(self._rows))
        pq.write_table(
            pa.Table.from_batches([batch], schema=self._schema),
            hidden,
            compression=self._compression,
            use_dictionary=self._dictionary,
            row_group_size=max(1, len(self._rows) * ROW_GROUP_BYTES // max(1, self._size)),
            coerce_timestamps="us",
        )
        with hidden.open("rb") as file:
            os.fsync(file.fileno())
        hidden.replace(self.folder / name)
        self._shards += 1
        self._rows.clear()
        self._size = 0
        self._begun = monotonic()
        self._committed()

    def flush(self) -> None:
        """Close the shard that is open, if there are rows in it.

        Raises:
            OSError: it cannot be written.
        """
        self._close_shard()

    def finish(self, stats: Mapping[str, object]) -> None:
        """Write what is left and mark the part as complete.

        Args:
            stats: for a crawl the columns of `CRAWL_STATS` but run and site; times are aware datetimes.

        Raises:
            OSError: a file cannot be written; the part is not complete then.
        """
        self._close_shard()
        write_stats(self.folder, stats)


def write_stats(folder: Path, stats: Mapping[str, object]) -> None:
    """Mark a part as complete, for one whose writer did not live to say so: its closed shards become readable."""
    _replace_file(folder / STATS_FILE, json.dumps(dict(stats), default=_as_json, indent=1))


def _as_json(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"landing: {value!r} cannot be kept in {STATS_FILE}")


def complete_parts(landing: Path, run: str) -> list[str]:
    """Names of the run's parts that are complete, sorted. A run without any folder has none."""
    return sorted(path.parent.name for path in run_folder(landing, run).glob(f"*/{STATS_FILE}"))


def shards(landing: Path, run: str, part: str | None = None) -> list[Path]:
    """The shards of a run's complete parts, or of one of them, sorted. Parts still being written are left out."""
    parts = complete_parts(landing, run)
    return [
        path
        for name in parts
        if part is None or name == part
        for path in sorted(part_folder(landing, run, name).glob("[0-9]*.parquet"))
    ]


def read_stats(landing: Path, run: str) -> dict[str, dict[str, Any]]:
    """What each complete part says of itself, by name; times are aware datetimes again.

    Raises:
        LakeError: a file is damaged.
    """
    found: dict[str, dict[str, Any]] = {}
    for part in complete_parts(landing, run):
        path = part_folder(landing, run, part) / STATS_FILE
        try:
            stats = json.loads(path.read_text(encoding="utf-8"))
            for name in _TIMES:
                if stats.get(name) is not None:
                    stats[name] = datetime.fromisoformat(stats[name])
        except (ValueError, AttributeError, TypeError) as error:
            raise LakeError(f"{path}: is damaged ({error}); delete {path.parent} and run that crawl again") from error
        found[part] = stats
    return found


def release(landing: Path, run: str) -> int:
    """Delete the bytes of a run whose images are in the lake; its statistics stay. Returns the bytes freed.

    The marker comes first: a task that is retried between the two must find it, or it would replace the run's rows
    by the few shards that are left.
    """
    folder = run_folder(landing, run)
    folder.mkdir(parents=True, exist_ok=True)
    _replace_file(folder / RELEASED_FILE, f"{datetime.now(UTC).isoformat()}\n")
    freed = 0
    for path in folder.glob("*/*.parquet"):
        freed += path.stat().st_size
        path.unlink()
    shutil.rmtree(folder / STATE_FOLDER, ignore_errors=True)
    return freed


def is_released(landing: Path, run: str) -> bool:
    """Whether the run's bytes were deleted by `release`.

    Shards that are there all the same are those of a part that was crawled again afterwards: its rows may be
    replaced, those of the other parts may not.
    """
    return (run_folder(landing, run) / RELEASED_FILE).exists()


def forget(landing: Path, run: str) -> None:
    """Delete everything of a run, its statistics and marker too. A run without any folder is no trouble."""
    shutil.rmtree(run_folder(landing, run), ignore_errors=True)
