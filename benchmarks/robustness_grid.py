"""The robustness grid: every edit by every method, at one measured rate of false alarms.

    python -m benchmarks.robustness_grid --photos DIR

All photos are protected; copies of some of them, chosen by a hash of their names, are made by each edit. Th is what a
given share of the pairs of all photos, look-alikes included, lies within: measured in the tail, not fitted. A copy is
found when its original lies within Th, and is right at rank 1 when nothing is nearer than its original, however far;
but what the product's first stage does not let through is neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.chamoso_tables import successes
from benchmarks.copies import Copy
from benchmarks.edits import EDITS, Edit
from benchmarks.experiment import Experiment, edited_sources, started
from benchmarks.methods import Described, Limit, limit_of
from benchmarks.photos import MOST_BYTES, MOST_PIXELS, Photo, read_real_copies
from benchmarks.report import Result, Row, Table, heat_map, publish
from copywatch.decode import decode

RATES = (1e-6, 1e-4)
SOURCES, QUICK_SOURCES = 360, 30


@dataclass(frozen=True)
class Found:
    """What one method makes of all copies, (edits, sources) each.

    Attributes:
        own: float32, the distance of each copy from its original.
        first: bool, whether nothing is nearer.
    """

    own: NDArray[np.float32]
    first: NDArray[np.bool_]

    def within(self, threshold: float) -> NDArray[np.float64]:
        """Share of each edit's copies whose original lies within Th, percent; (edits,)."""
        return 100 * np.asarray((self.own <= threshold).mean(axis=1))

    def rank_1(self) -> NDArray[np.float64]:
        """Share of each edit's copies whose nearest is their original, percent; (edits,)."""
        return 100 * np.asarray(self.first.mean(axis=1))


def limits_of(experiment: Experiment, protected: Mapping[str, Described]) -> dict[str, dict[float, Limit]]:
    """Method -> rate -> Th, over all pairs of the photos."""
    limits: dict[str, dict[float, Limit]] = {}
    for name, method in experiment.methods.items():
        pairs = method.pair_distances(protected[name])
        limits[name] = {rate: limit_of(method, rate, pairs) for rate in RATES}
    return limits


def measured(
    experiment: Experiment, protected: Mapping[str, Described], sources: Sequence[Photo], fillers: tuple[Photo, ...]
) -> dict[str, Found]:
    """Every edit of every source by every method."""
    originals = np.array(experiment.places(sources) * len(EDITS), dtype=np.int64)
    copies = [Copy(photo, edit, seed=0, fillers=fillers) for edit in EDITS for photo in sources]
    own = {name: np.empty(len(copies), dtype=np.float32) for name in experiment.methods}
    first = {name: np.empty(len(copies), dtype=np.bool_) for name in experiment.methods}
    for place, pictures in experiment.cache.batches(copies):
        for name, method in experiment.methods.items():
            distances = method.distances(method.describe(pictures), protected[name])
            own[name][place] = distances[np.arange(len(distances)), originals[place]]
            (first[name][place],) = successes(distances, originals[place], [float("inf")])
    shape = (len(EDITS), len(sources))
    return {name: Found(own[name].reshape(shape), first[name].reshape(shape)) for name in experiment.methods}


def grid_rows(edits: Sequence[Edit], columns: Mapping[str, NDArray[np.float64]]) -> list[Row]:
    """A row for each edit, then one for each kind: the mean of its edits.

    Args:
        edits: in the order of the columns' cells.
        columns: method -> percent of each edit.
    """
    rows: list[Row] = [
        {"edit": edit.name, "kind": edit.kind, **{method: cells[place] for method, cells in columns.items()}}
        for place, edit in enumerate(edits)
    ]
    for kind in dict.fromkeys(edit.kind for edit in edits):
        of_kind = np.array([edit.kind == kind for edit in edits])
        means = {method: float(cells[of_kind].mean()) for method, cells in columns.items()}
        rows.append({"edit": f"all {of_kind.sum()}", "kind": kind, **means})
    return rows


def real_distances(experiment: Experiment) -> tuple[list[str], dict[str, NDArray[np.float32]]]:
    """Labels of the pairs that strangers made, and method -> distance of each, the second file the found one."""
    pairs = read_real_copies(experiment.folder)
    originals, copies = (
        [decode(path.read_bytes(), max_pixels=MOST_PIXELS, max_bytes=MOST_BYTES).rgb for path in side]
        for side in ([pair.a for pair in pairs], [pair.b for pair in pairs])
    )
    distances = {
        name: method.distances(method.describe(copies), method.describe_protected(originals)).diagonal()
        for name, method in experiment.methods.items()
        if pairs
    }
    return [pair.label for pair in pairs], distances


def real_rows(
    labels: Sequence[str], distances: Mapping[str, NDArray[np.float32]], thresholds: Mapping[str, float]
) -> list[Row]:
    """For each label its number of pairs, and how many of them each method has within its Th."""
    rows: list[Row] = []
    for label in dict.fromkeys(labels):
        of_label = np.array([one == label for one in labels])
        within = {name: int((cells[of_label] <= thresholds[name]).sum()) for name, cells in distances.items()}
        rows.append({"label": label, "pairs": int(of_label.sum()), **within})
    return rows


def drawn(blocks: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> Figure:
    """A heat map for each block: edits down, methods across."""
    figure = Figure(figsize=(3 + 4.2 * len(blocks), 13), layout="constrained")
    panels = figure.subplots(1, len(blocks), sharey=True)
    for panel, (title, columns) in zip(panels, blocks.items(), strict=True):
        heat_map(panel, np.array(list(columns.values())).T, list(columns), title)
    panels[0].set_yticks(range(len(EDITS)), [edit.name for edit in EDITS])
    return figure


def limit_rows(
    experiment: Experiment,
    limits: Mapping[str, Mapping[float, Limit]],
    found: Mapping[str, Found],
    mild: Sequence[bool],
) -> list[Row]:
    """Each method: its thresholds, what they let in, and the mild copies found."""
    rows: list[Row] = []
    for name, method in experiment.methods.items():
        row: dict[str, object] = {"method": method.name}
        for rate, limit in limits[name].items():
            row |= {
                f"Th at {rate:.0e}": limit.threshold,
                f"{rate:.0e}: ppm of pairs": 1e6 * limit.reached,
                f"{rate:.0e}: mild copies %": float(found[name].within(limit.threshold)[np.array(mild)].mean()),
            }
        rows.append(row)
    return rows


def result(experiment: Experiment) -> Result:
    """The whole experiment."""
    sources, fillers = edited_sources(experiment.photos, QUICK_SOURCES if experiment.quick else SOURCES)
    protected = experiment.protected()
    limits = limits_of(experiment, protected)
    found = measured(experiment, protected, sources, fillers)
    names = {name: method.name for name, method in experiment.methods.items()}
    blocks = {
        f"Found at a measured {rate:.0e}": {
            names[name]: one.within(limits[name][rate].threshold) for name, one in found.items()
        }
        for rate in RATES
    }
    blocks["Right at rank 1"] = {names[name]: one.rank_1() for name, one in found.items()}
    pairs = len(experiment.photos) * (len(experiment.photos) - 1) // 2
    mild = [edit.kind == "mild" for edit in EDITS]
    tables = [
        Table(
            "Thresholds",
            limit_rows(experiment, limits, found, mild),
            f"Over {pairs:,} pairs of different photos. Where Th is below 0, more pairs than that share have one "
            "fingerprint: nothing is found. Mild: the whole picture, upright and in its place.",
        ),
        *(Table(title, grid_rows(EDITS, columns), "Percent of the copies.") for title, columns in blocks.items()),
    ]
    labels, distances = real_distances(experiment)
    for rate in RATES if labels else ():
        thresholds = {names[name]: limits[name][rate].threshold for name in names}
        rows = real_rows(labels, {names[name]: cells for name, cells in distances.items()}, thresholds)
        note = "Pairs within Th. Copies should be; hardneg, different pictures that look alike, should not."
        tables.append(Table(f"Pairs that strangers made, at a measured {rate:.0e}", rows, note))
    look_alikes = sum(photo.group == "look-alike" for photo in sources)
    return Result(
        name="robustness_grid",
        title="The robustness grid",
        question=" ".join(__doc__.split("\n\n")[2].split())
        + f" Here: {len(EDITS)} edits of {len(sources)} photos ({look_alikes} of them look-alikes), "
        f"{len(EDITS) * len(sources):,} copies. What each edit is stands in `benchmarks/edits.py`.",
        command=experiment.command,
        photos=experiment.described_photos,
        tables=tables,
        figure=drawn(blocks),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    with started("benchmarks.robustness_grid", __doc__.splitlines()[0], arguments) as experiment:
        publish(result(experiment), experiment.results)


if __name__ == "__main__":
    main()
