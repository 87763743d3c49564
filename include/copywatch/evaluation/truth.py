"""Two folders of images and the file that says which image of the one is a copy of which of the other.

The file is a table with the columns detected, protected and edit, as a spreadsheet saves it: comma, semicolon or tab,
UTF-8 with or without a byte order mark. Names are relative to their folders. An image that is no copy has an empty
`protected`; one that has several right originals has several rows. `edit` may be left out.
"""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TextIO

from copywatch.errors import EvaluationError
from copywatch.hostile_text import plain

COLUMNS = ("detected", "protected", "edit")

_DELIMITERS = ",;\t"
_MOST_BYTES = 1 << 28
"""Of a truth file: some three million rows."""
_MOST_TOLD = 10
_NOT_OURS = frozenset({"thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Folder:
    """The files of a folder, at any depth.

    Attributes:
        root: the folder, resolved.
        names: paths inside it, with slashes, sorted; hidden files are left out.
        outside: links among the files that lead out of it; they are never read.
    """

    root: Path
    names: tuple[str, ...]
    outside: tuple[str, ...]
    _by_form: dict[str, str] = field(repr=False)

    @classmethod
    def of(cls, root: Path, *, without: Path) -> Folder:
        """List a folder.

        Args:
            root: the folder.
            without: a file that is left out wherever it lies: the truth file.

        Raises:
            EvaluationError: there is no such folder, or no file is in it.
        """
        if not root.is_dir():
            raise EvaluationError(f"{root}: there is no such folder")
        resolved, excluded = root.resolve(), without.resolve()
        inside: list[str] = []
        outside: list[str] = []
        for path in _files(resolved):
            try:
                target = path.resolve()
            except (OSError, RuntimeError):
                # A link that leads to itself.
                continue
            name = path.relative_to(resolved).as_posix()
            if not target.is_relative_to(resolved):
                outside.append(name)
            elif target.is_file() and target != excluded:
                inside.append(name)
        if not inside:
            raise EvaluationError(f"{root}: no image is in this folder; put the images into it, at any depth")
        inside.sort()
        # macOS writes an umlaut as two signs where a spreadsheet writes one; the names are the same to people.
        return cls(resolved, tuple(inside), tuple(sorted(outside)), {_form(name): name for name in inside})

    def name_of(self, written: str) -> str:
        """The file that a truth file means by `written`.

        Raises:
            ValueError: none, or one outside of the folder; the message goes on from a name.
        """
        path = PurePosixPath(written)
        if path.is_absolute() or ".." in path.parts or "\x00" in written:
            raise ValueError("leads out of the folder; names are relative to it, without ..")
        name = self._by_form.get(_form(path.as_posix()))
        if name is None:
            linked = path.as_posix() in self.outside
            raise ValueError(f"{'is a link that leads out of' if linked else 'is not in'} {self.root}")
        return name


@dataclass(frozen=True)
class Entry:
    """What is true of one detected image.

    Attributes:
        edit: what was done to it; empty if nothing is said.
        originals: names of the protected images that it is a copy of; none: it is no copy.
    """

    edit: str
    originals: frozenset[str]


@dataclass(frozen=True)
class _Row:
    line: int
    detected: str
    protected: str
    edit: str


def read_truth(file: Path, *, detected: Folder, protected: Folder) -> dict[str, Entry]:
    """Name of each detected image that the file names -> what is true of it, in the file's order.

    Raises:
        EvaluationError: the file cannot be read as a table, a column is missing, or rows cannot be true; each line of
            the message begins with `file:line:`, ten lines at most.
    """
    rows: dict[str, list[_Row]] = {}
    seen: dict[tuple[str, str], int] = {}
    troubles: list[str] = []
    for row in _rows(file):
        try:
            row = _Row(
                row.line,
                _named("detected", row.detected, detected),
                _named("protected", row.protected, protected) if row.protected.strip() else "",
                row.edit,
            )
            _check(row, rows.get(row.detected, []), seen)
        except ValueError as error:
            troubles.append(f"{file}:{row.line}: {error}")
            continue
        seen[row.detected, row.protected] = row.line
        rows.setdefault(row.detected, []).append(row)
    if troubles:
        more = [f"and {len(troubles) - _MOST_TOLD} lines more"] if len(troubles) > _MOST_TOLD else []
        raise EvaluationError("\n".join(troubles[:_MOST_TOLD] + more))
    if not rows:
        raise EvaluationError(f"{file}: it has a header and no row; give each detected image a row")
    return {
        name: Entry(ones[0].edit, frozenset(one.protected for one in ones if one.protected))
        for name, ones in rows.items()
    }


def _check(row: _Row, others: Sequence[_Row], seen: dict[tuple[str, str], int]) -> None:
    earlier = seen.get((row.detected, row.protected))
    if earlier is not None:
        raise ValueError(f"repeats line {earlier}; leave one of them out")
    name = plain(row.detected)
    for other in others:
        if bool(other.protected) != bool(row.protected):
            raise ValueError(f"{name} is a copy on one of the lines {other.line} and {row.line} and none on the other")
        if other.edit != row.edit:
            raise ValueError(
                f"{name} has the edit {plain(row.edit)!r} here and {plain(other.edit)!r} in line {other.line}"
            )


def _named(column: str, written: str, folder: Folder) -> str:
    if not written.strip():
        raise ValueError(f"the column {column} is empty")
    try:
        try:
            return folder.name_of(written)
        except ValueError:
            # Blanks after a comma are commoner than names that begin with one.
            return folder.name_of(written.strip())
    except ValueError as error:
        raise ValueError(f"{column}: {plain(written.strip())} {error}") from None


def _rows(file: Path) -> Iterator[_Row]:
    try:
        if not file.is_file():
            raise EvaluationError(f"{file}: there is no such file")
        if file.stat().st_size > _MOST_BYTES:
            raise EvaluationError(f"{file}: {file.stat().st_size} bytes are no truth file, at most {_MOST_BYTES}")
        with file.open(encoding="utf-8-sig", newline="") as text:
            yield from _parsed(file, text)
    except UnicodeDecodeError as error:
        raise EvaluationError(
            f"{file}: not UTF-8 (byte {error.object[error.start]:#04x}); save the table as CSV in UTF-8"
        ) from None
    except OSError as error:
        raise EvaluationError(f"{file}: {error.strerror}") from None


def _parsed(file: Path, text: TextIO) -> Iterator[_Row]:
    header = text.readline(4096)
    delimiter = max(_DELIMITERS, key=header.count)
    text.seek(0)
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        for column in COLUMNS:
            if names.count(column) > 1 or (column != "edit" and column not in names):
                raise EvaluationError(
                    f"{file}:1: {'two columns are' if column in names else 'no column is'} called {column!r}; the "
                    f"header must be detected,protected,edit, not {plain(','.join(names)) or 'empty'}"
                )
        field_of = _field_of(names)
        for fields in reader:
            if any(one.strip() for one in fields):
                yield _Row(
                    reader.line_num,
                    field_of(fields, "detected"),
                    field_of(fields, "protected"),
                    field_of(fields, "edit").strip(),
                )
    except csv.Error as error:
        raise EvaluationError(f"{file}:{reader.line_num}: no CSV: {error}") from None


def _field_of(names: Sequence[str]) -> Callable[[Sequence[str], str], str]:
    places = {name: place for place, name in enumerate(names)}

    def field_of(fields: Sequence[str], column: str) -> str:
        place = places.get(column)
        return fields[place] if place is not None and place < len(fields) else ""

    return field_of


def _files(root: Path) -> Iterator[Path]:
    """Files and links below `root` that are not hidden; links to folders are not followed."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and name.lower() not in _NOT_OURS:
                yield Path(folder) / name


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", name)
