"""Chamoso et al., Tables 1 and 2: sixteen kinds of edited images, and the share of each that finds its original.

    python -m benchmarks.chamoso_tables --photos DIR

Theirs (section Results): success is when the nearest image of the data set is the original, "having a similarity value
greater than 99%". Beside it stands a rule that can be compared between methods: the nearest is the original, within the
threshold that one of a million pairs of different photos keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.copies import Copy
from benchmarks.edits import CHAMOSO_KINDS, Edit
from benchmarks.experiment import Experiment, some, started
from benchmarks.methods import BEYOND, Described, Method
from benchmarks.photos import Photo, half
from benchmarks.report import Result, Row, Table, heat_map, publish

SIMILARITY = 0.99
IMAGES = 1000
"""Originals, of which each kind has one image (their section Results)."""

FALSE_ALARMS = 1e-6


@dataclass(frozen=True)
class Found:
    """Shares of one kind's images by one method, in [0, 1].

    Attributes:
        nearest: whose nearest is their original.
        similar: and is so with a similarity of 99 % or more: the paper's success.
        within: and lies within the threshold.
    """

    nearest: float
    similar: float
    within: float


def successes(
    distances: NDArray[np.float32], originals: NDArray[np.int64], bounds: Sequence[float]
) -> list[NDArray[np.bool_]]:
    """For each bound, whether the nearest is the original and lies within it: bool (queries,).

    Of several nearest any may be it: a data set is asked for the most similar, and these are equally so. What a method
    does not compare is not the nearest.

    Args:
        distances: (queries, protected).
        originals: (queries,), the original's place among the protected.
        bounds: distances.
    """
    own = distances[np.arange(len(distances)), originals]
    nearest = (own < BEYOND) & (own <= distances.min(axis=1))
    return [nearest & (own <= bound) for bound in bounds]


def measured(experiment: Experiment, queried: Sequence[Photo]) -> dict[str, dict[str, Found]]:
    """Method -> kind -> what was found of it, with all photos protected and Th measured on the half `choose`."""
    originals = np.array(experiment.places(queried), dtype=np.int64)
    protected = experiment.protected()
    choose = experiment.places(half(experiment.photos, "choose"))
    bounds = {
        name: _bounds(method, method.chosen(protected[name], choose)) for name, method in experiment.methods.items()
    }
    found: dict[str, dict[str, Found]] = {method.name: {} for method in experiment.methods.values()}
    for kind in CHAMOSO_KINDS:
        right = {name: np.empty((len(bounds[name]), len(queried)), dtype=np.bool_) for name in experiment.methods}
        for place, pictures in experiment.cache.batches([Copy(photo, kind) for photo in queried]):
            for name, method in experiment.methods.items():
                distances = method.distances(method.describe(pictures), protected[name])
                right[name][:, place] = successes(distances, originals[place], bounds[name])
        for name, method in experiment.methods.items():
            found[method.name][kind.name] = Found(*(float(share) for share in right[name].mean(axis=1)))
    return found


def _bounds(method: Method, different: Described) -> tuple[float, float, float]:
    # The slack of a millionth lets in a distance of .01 that float32 holds as a little more.
    return float("inf"), 1 - SIMILARITY + 1e-6, method.threshold_at(FALSE_ALARMS, different)


def kind_row(kind: str, found: dict[str, dict[str, Found]], rule: str) -> Row:
    """A row of Table 2: percent of one kind, by each method."""
    return {"kind": kind, **{method: 100 * getattr(kinds[kind], rule) for method, kinds in found.items()}}


def rows_of(found: dict[str, dict[str, Found]], rule: str) -> list[Row]:
    """Sixteen rows and their mean."""
    rows = [kind_row(kind.name, found, rule) for kind in CHAMOSO_KINDS]
    means = {
        method: 100 * float(np.mean([getattr(each, rule) for each in kinds.values()]))
        for method, kinds in found.items()
    }
    return [*rows, {"kind": "all sixteen", **means}]


def drawn(found: dict[str, dict[str, Found]]) -> Figure:
    """Two panels, the paper's success and ours: kinds down, methods across."""
    figure = Figure(figsize=(3 + 1.5 * len(found), 5.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"similar": "nearest, similarity >= 99 %", "within": "nearest, within Th at 1 ppm"}
    for panel, (rule, title) in zip(panels, titles.items(), strict=True):
        shares = np.array(
            [[100 * getattr(kinds[kind.name], rule) for kinds in found.values()] for kind in CHAMOSO_KINDS]
        )
        heat_map(panel, shares, list(found), title)
    panels[0].set_yticks(range(len(CHAMOSO_KINDS)), [kind.name for kind in CHAMOSO_KINDS])
    return figure


def kinds_table(queried: int) -> Table:
    """Table 1: the kinds and how many images each has."""

    def has(kind: Edit, word: str) -> str:
        return "yes" if word in kind.name else ""

    rows = [
        {
            "kind": kind.name,
            "rotation": next((turn for turn in ("90", "180", "270") if f"rotation {turn}" in kind.name), "0"),
            "watermark": has(kind, "watermark"),
            "frame": has(kind, "frame"),
            "images": queried,
            "images in the paper": IMAGES,
        }
        for kind in CHAMOSO_KINDS
    ]
    return Table("Table 1: the kinds", rows)


def result(experiment: Experiment) -> Result:
    """The whole experiment."""
    queried = some(half(experiment.photos, "report"), 60 if experiment.quick else IMAGES)
    found = measured(experiment, queried)
    note = (
        "Percent. No figures of the paper stand beside ours: its text, which is what we have, lacks those of Table 2. "
        "It says that its algorithm did better on all kinds but the watermark, where TinEye, dHash and pHash did as "
        "well."
    )
    return Result(
        name="chamoso_tables",
        title="Rotations, watermarks and frames (Chamoso et al., Tables 1 and 2)",
        question=" ".join(__doc__.split("\n\n")[2].split())
        + f" {len(queried):,} photos of the half `report` are asked for, those of both halves are protected; that "
        "threshold is measured on the half `choose`.",
        command=experiment.command,
        photos=experiment.described_photos,
        tables=[
            Table("Table 2: nearest, similarity of 99 % or more", rows_of(found, "similar"), note),
            Table("Nearest, within the threshold at a measured 1e-6", rows_of(found, "within")),
            Table("Nearest, however far", rows_of(found, "nearest")),
            kinds_table(len(queried)),
        ],
        figure=drawn(found),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    with started("benchmarks.chamoso_tables", __doc__.splitlines()[0], arguments) as experiment:
        publish(result(experiment), experiment.results)


if __name__ == "__main__":
    main()
