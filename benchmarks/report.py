"""An experiment's result: printed as tables, and kept as a Markdown page with a picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tabulate import tabulate

from benchmarks.photos import PROJECT

RESULTS = PROJECT / "docs" / "results"

Row = Mapping[str, object]


@dataclass(frozen=True)
class Table:
    """Rows with a heading.

    Attributes:
        title: the heading.
        rows: column -> cell; a cell of None stays empty.
        note: a sentence or two below the rows.
    """

    title: str
    rows: Sequence[Row]
    note: str = ""


@dataclass(frozen=True)
class Result:
    """What an experiment found.

    Attributes:
        name: of the files, without suffix.
        title: of the page.
        question: what was done, for somebody who reads only this page.
        command: how to run it again, from the project's root.
        photos: how many photos of what it ran on.
        tables: in their order.
        figure: a matplotlib figure; its PNG stands below the question.
    """

    name: str
    title: str
    question: str
    command: str
    photos: str
    tables: Sequence[Table]
    figure: Figure | None = field(default=None, compare=False)


def beside_paper(paper: float | None, ours: float) -> dict[str, float | None]:
    """The columns "paper", "ours" and "ratio" (ours to theirs); where the paper has no figure, "ours" only."""
    return {"paper": paper, "ours": ours, "ratio": ours / paper if paper else None}


def page(result: Result, today: date | None = None) -> str:
    """The result as Markdown."""
    parts = [
        f"# {result.title}",
        f"{(today or date.today()).isoformat()}, {result.photos}, {_cores()}. Again: `{result.command}`.",
        result.question,
    ]
    if result.figure is not None:
        parts.append(f"![{result.title}]({result.name}.png)")
    for table in result.tables:
        parts.append(f"## {table.title}")
        parts.append(tabulate(table.rows, headers="keys", tablefmt="github", floatfmt=".4g"))
        if table.note:
            parts.append(table.note)
    return "\n\n".join(parts) + "\n"


def publish(result: Result, folder: Path | None, today: date | None = None) -> None:
    """Print the result; with a folder, write `name.md` and, if there is a figure, `name.png` into it."""
    text = page(result, today)
    print(text)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{result.name}.md").write_text(text, encoding="utf-8")
    if result.figure is not None:
        # Figure without pyplot draws with Agg: no display is needed. No software version in the file: a picture that
        # shows the same is the same bytes.
        result.figure.savefig(folder / f"{result.name}.png", dpi=120, metadata={"Software": None})


def heat_map(panel: Axes, percent: NDArray[np.float64], columns: Sequence[str], title: str) -> None:
    """Draw a table of shares in [0, 100], float64 (rows, columns), each in its cell; rows stay unnamed."""
    panel.imshow(percent, cmap="Greens", vmin=0, vmax=100, aspect="auto")
    for (row, column), share in np.ndenumerate(percent):
        panel.text(column, row, f"{share:.0f}", ha="center", va="center", color="white" if share > 60 else "black")
    panel.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    panel.set_title(title)


def _cores() -> str:
    cores = os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    return f"{cores} cores" + (f", OMP_NUM_THREADS={threads}" if threads else "")
