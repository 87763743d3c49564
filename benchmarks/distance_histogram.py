"""SRPITP's Figure 3: the distances between different photos, their normal fit, and the threshold that follows.

    python -m benchmarks.distance_histogram --photos DIR

The paper takes Th from the fit: Formula (3), section 4.1, at a false alarm probability of 1 ppm. But a threshold lies
in the tail, where a fit to the middle says little; so the tail is measured beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.experiment import Experiment, started
from benchmarks.methods import Rescored, least_beyond, pair_values
from benchmarks.photos import Pictures
from benchmarks.report import Result, Row, Table, beside_paper, publish

PAPER_MEAN, PAPER_VARIANCE, PAPER_THRESHOLD = 0.6915, 0.0037, 0.4258
"""SRPITP, section 4.1; 200 images."""

FALSE_ALARMS = 1e-6
RATES = (1e-4, 1e-5, 1e-6)
_BINS = 120

Values = NDArray[np.float32]
"""(P,), the distance of each pair."""


def formula_3(mean: float, variance: float, false_alarms: float = FALSE_ALARMS) -> float:
    """Th below which the normal distribution has the probability `false_alarms` (SRPITP, Formula 3)."""
    return NormalDist(mean, variance**0.5).inv_cdf(false_alarms)


def measured(experiment: Experiment) -> dict[str, dict[str, Values]]:
    """Method -> set of photos -> distances of its pairs. The sets: all, and where there are look-alikes, all others."""
    plain = np.array([photo.group == "photo" for photo in experiment.photos])
    found: dict[str, dict[str, Values]] = {}
    for method in experiment.methods.values():
        distances = method.pair_distances(method.describe_protected(Pictures(experiment.photos)))
        sets = {"photos": pair_values(distances[np.ix_(plain, plain)])}
        if not plain.all():
            sets["with look-alikes"] = pair_values(distances)
        found[method.name] = sets
    return found


def is_srpitps(method: str) -> bool:
    """Whether the method of this name measures the distance of SRPITP's Formula (1) between its fingerprints."""
    return method.startswith("mao/") and method != Rescored.name


def tail_row(method: str, photos: str, values: Values) -> Row:
    """Fit and tail of one method on one set; a quantile that no pair could reach is left empty."""
    mean, variance = float(values.mean(dtype=np.float64)), float(values.var(dtype=np.float64))
    threshold = formula_3(mean, variance)
    return {
        "method": method,
        "pairs of": photos,
        "million pairs": len(values) / 1e6,
        "mean": mean,
        "sd": variance**0.5,
        "Formula (3), 1 ppm": threshold,
        "ppm below that": float((values <= threshold).mean()) * 1e6,
        **{f"quantile {rate:g}": least_beyond(values, rate) if rate * len(values) >= 1 else None for rate in RATES},
    }


def paper_rows(method: str, values: Values) -> list[Row]:
    """The paper's three figures of section 4.1 beside ours."""
    mean, variance = float(values.mean(dtype=np.float64)), float(values.var(dtype=np.float64))
    return [
        {"method": method, "figure": "mean", **beside_paper(PAPER_MEAN, mean)},
        {"method": method, "figure": "variance", **beside_paper(PAPER_VARIANCE, variance)},
        {
            "method": method,
            "figure": "Th by Formula (3), 1 ppm",
            **beside_paper(PAPER_THRESHOLD, formula_3(mean, variance)),
        },
    ]


def drawn(found: dict[str, dict[str, Values]]) -> Figure:
    """A panel for each method: histogram of the photos' distances, the fit, Formula (3), and the measured 1 ppm."""
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (method, sets) in zip(panels, found.items(), strict=False):
        values = sets["photos"]
        fit = NormalDist(float(values.mean(dtype=np.float64)), max(float(values.std(dtype=np.float64)), 1e-9))
        # A short hash has few distances: one bar for each, or the bars would show the bins.
        steps = np.unique(values)
        edges = np.linspace(0, 1, _BINS) if len(steps) > _BINS else np.append(steps, 2 * steps[-1] - steps[-2])
        panel.hist(values, bins=edges, density=True, color="0.75", align="mid" if len(steps) > _BINS else "left")
        grid = np.linspace(0, 1, 400)
        panel.plot(grid, [fit.pdf(x) for x in grid], color="C0", linewidth=1, label="normal fit")
        panel.axvline(formula_3(fit.mean, fit.variance), color="C0", linestyle="--", label="Formula (3), 1 ppm")
        reachable = max(FALSE_ALARMS, 1 / len(values))
        panel.axvline(least_beyond(values, reachable), color="C3", label=f"measured {reachable:.0e}")
        if is_srpitps(method):
            panel.axvline(PAPER_THRESHOLD, color="0.3", linestyle=":", label="SRPITP's Th")
        panel.set(title=method, xlim=(0, 1), yticks=[])
    for panel in panels[len(found) :]:
        panel.set_visible(False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    figure.supxlabel("distance between two different photos")
    return figure


def result(experiment: Experiment) -> Result:
    """The whole experiment."""
    found = measured(experiment)
    tails = [tail_row(method, photos, values) for method, sets in found.items() for photos, values in sets.items()]
    paper = [row for method, sets in found.items() if is_srpitps(method) for row in paper_rows(method, sets["photos"])]
    tables = [Table("Fit and tail", tails, "A quantile is empty where a single pair would be more than that share.")]
    if paper:
        follows = formula_3(PAPER_MEAN, PAPER_VARIANCE)
        note = (
            f"From the paper's own mean and variance, Formula (3) gives {follows:.4f}, not {PAPER_THRESHOLD}. It has "
            "200 images; ours are the photos without look-alikes. mao/1-f0.25 quantizes as the authors do."
        )
        tables.insert(0, Table("SRPITP, section 4.1", paper, note))
    return Result(
        name="distance_histogram",
        title="Distances between different photos (SRPITP, Figure 3)",
        question="The distance of every pair of different photos, by each method: the normalised Hamming distance, and "
        "the product's score (`copywatch.matching.score`), exact and without its first stage.",
        command=experiment.command,
        photos=experiment.described_photos,
        tables=tables,
        figure=drawn(found),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    with started("benchmarks.distance_histogram", __doc__.splitlines()[0], arguments) as experiment:
        publish(result(experiment), experiment.results)


if __name__ == "__main__":
    main()
