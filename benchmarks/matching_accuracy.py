"""ImagePro's Table 1 and SRPITP's Table 2: the share of found images about which the matching decides rightly.

    python -m benchmarks.matching_accuracy --photos DIR

Some found images are copies of protected ones, by a mild edit; the others show what nobody protects, edited likewise. A
copy is decided rightly when its nearest protected image is its original and lies within Th, another when none lies
within Th. The papers do not say how many of theirs were copies, nor how they were edited: here half of them are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.copies import Copy
from benchmarks.edits import MILD
from benchmarks.experiment import Experiment, started
from benchmarks.methods import Described, Limit, limit_of
from benchmarks.photos import Photo, half
from benchmarks.report import Result, Row, Table, beside_paper, publish

FALSE_ALARMS = 1e-6
RUNS = 5
"""Each of the papers' experiments "was carried out five times"."""
LIMIT_COLUMNS = (("Th", "ppm of all pairs"), ("Th of photos", "its ppm of all pairs"))
PRODUCT = "rescored"
"""Of all methods this one stands beside both papers' figures."""


@dataclass(frozen=True)
class Setting:
    """An experiment of one of the papers.

    Attributes:
        source: paper and table.
        algorithm: the method that it used, as `--method` names it.
        protected: how many protected images.
        accuracies: number of detected images -> the paper's accuracy, percent.
    """

    source: str
    algorithm: str
    protected: int
    accuracies: dict[int, float]


SETTINGS = (
    Setting("ImagePro, Table 1", "dhash", 500, {490: 91.80, 1000: 94.22}),
    Setting("SRPITP, Table 2", "mao", 2000, {2000: 98.90, 4000: 99.22}),
)


@dataclass(frozen=True)
class Trial:
    """One run's images.

    Attributes:
        protected: the protected photos.
        found: the detected images, copies and others in turns, so that any first part of them is a fair one.
        originals: int64 (found,), place of each one's original among `protected`; -1 where it has none.
    """

    protected: list[Photo]
    found: list[Copy]
    originals: NDArray[np.int64]


def decided_rightly(
    distances: NDArray[np.float32], originals: NDArray[np.int64], threshold: float
) -> NDArray[np.bool_]:
    """Whether each found image is decided rightly.

    Args:
        distances: (found, protected). Of several nearest the first counts, as in the product's index.
        originals: (found,), place of the original, or -1.
        threshold: Th; a distance of Th is within it.
    """
    nearest = distances.argmin(axis=1)
    within = distances[np.arange(len(distances)), nearest] <= threshold
    return np.where(originals >= 0, within & (nearest == originals), ~within)


def trial(photos: Sequence[Photo], protected: int, found: int, seed: int) -> Trial:
    """Draw who is protected and what is found, half copies, half others.

    Every other photo serves as long as there are fewer of them than are needed, each time with another mild edit.

    Raises:
        ValueError: no photo is left over to be found unprotected.
    """
    if len(photos) <= protected:
        raise ValueError(f"{len(photos)} photos cannot be {protected} protected ones and others")
    rng = np.random.default_rng(seed)
    order = [photos[place] for place in rng.permutation(len(photos))]
    owned, others = order[:protected], order[protected:]
    turns = [rng.permutation(len(MILD)) for _ in order]
    copies: list[Copy] = []
    originals: list[int] = []
    # All protected photos come once before any comes twice; likewise all others.
    for number in range(found):
        pool, offset = (owned, 0) if number % 2 == 0 else (others, protected)
        round_, place = divmod(number // 2, len(pool))
        edit = MILD[turns[offset + place][round_ % len(MILD)]]
        copies.append(Copy(pool[place], edit, seed))
        originals.append(place if number % 2 == 0 else -1)
    return Trial(owned, copies, np.array(originals, dtype=np.int64))


def accuracies(
    experiment: Experiment,
    known: dict[str, Described],
    photos: Sequence[Photo],
    setting: Setting,
    limits: Sequence[dict[str, Limit]],
) -> list[dict[str, NDArray[np.bool_]]]:
    """For each run: method -> whether each found image is decided rightly at each threshold, (thresholds, found).

    Args:
        experiment: the run.
        known: method -> descriptions of all its photos as protected ones.
        photos: those that are drawn from.
        setting: how many are protected and found.
        limits: from `limits_of`.
    """
    protected, most = _sizes(setting, len(photos))
    runs = []
    for seed in range(1 if experiment.quick else RUNS):
        drawn = trial(photos, protected, most, seed)
        owned = experiment.places(drawn.protected)
        protected_ones = {name: method.chosen(known[name], owned) for name, method in experiment.methods.items()}
        right = {name: np.empty((len(limits), most), dtype=np.bool_) for name in experiment.methods}
        for place, pictures in experiment.cache.batches(drawn.found):
            for name, method in experiment.methods.items():
                distances = method.distances(method.describe(pictures), protected_ones[name])
                for row, of_set in enumerate(limits):
                    threshold = of_set[name].threshold
                    right[name][row, place] = decided_rightly(distances, drawn.originals[place], threshold)
        runs.append(right)
    return runs


def _sizes(setting: Setting, photos: int) -> tuple[int, int]:
    """Numbers of protected and of found images: the paper's, or as many as so few photos allow."""
    most = max(setting.accuracies)
    if photos > setting.protected * 1.1:
        return setting.protected, most
    protected = photos * 5 // 6
    return protected, min(most, 2 * protected)


def rows_of(
    experiment: Experiment, setting: Setting, photos: int, runs: list[dict[str, NDArray[np.bool_]]]
) -> list[Row]:
    """A row for each method and number of detected images."""
    protected, most = _sizes(setting, photos)
    rows: list[Row] = []
    # With so few photos that both numbers shrink to one, one row is enough.
    for count, detected in {min(detected, most): detected for detected in setting.accuracies}.items():
        paper = setting.accuracies[detected]
        # With fewer images than theirs the figure is another one than theirs.
        as_theirs = protected == setting.protected and count == detected
        for name, method in experiment.methods.items():
            # Percent, (thresholds, runs); copies and others stand in turns.
            shares, copies, others = (
                np.array([100 * run[name][:, start:count:step].mean(axis=1) for run in runs]).T
                for start, step in ((0, 1), (0, 2), (1, 2))
            )
            comparable = paper if as_theirs and name in (setting.algorithm, PRODUCT) else None
            row: dict[str, object] = {
                "method": method.name,
                "protected": protected,
                "detected": count,
                **beside_paper(comparable, float(shares[0].mean())),
                "least": float(shares[0].min()),
                "most": float(shares[0].max()),
                "copies": float(copies[0].mean()),
                "others": float(others[0].mean()),
            }
            if len(shares) > 1:
                row |= {
                    "Th of photos: ours": float(shares[1].mean()),
                    "its copies": float(copies[1].mean()),
                    "its others": float(others[1].mean()),
                }
            rows.append(row)
    return rows


def limits_of(
    experiment: Experiment, known: dict[str, Described], sets: Sequence[Sequence[Photo]]
) -> list[dict[str, Limit]]:
    """For each set of photos: method -> Th at a measured 1e-6 on it."""
    limits: list[dict[str, Limit]] = [{} for _ in sets]
    for name, method in experiment.methods.items():
        pairs = method.pair_distances(known[name])
        for of_set, photos in zip(limits, sets, strict=True):
            of_set[name] = limit_of(method, FALSE_ALARMS, pairs, experiment.places(photos))
    return limits


def drawn(tables: dict[str, list[Row]]) -> Figure:
    """Accuracy of each method at the larger number of detected images, with the runs' range and the paper's figure."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for panel, (title, rows) in zip(figure.subplots(1, len(tables)), tables.items(), strict=True):
        most = max(row["detected"] for row in rows)  # type: ignore[type-var]
        for place, row in enumerate(row for row in rows if row["detected"] == most):
            ours, least, top = (float(str(row[column])) for column in ("ours", "least", "most"))
            panel.bar(place, ours, color="0.75", yerr=[[ours - least], [top - ours]], capsize=3)
            if row["paper"] is not None:
                (line,) = panel.plot([place - 0.4, place + 0.4], [row["paper"]] * 2, color="C3")
                panel.legend([line], ["the paper"], loc="lower right")
        names = [row["method"] for row in rows if row["detected"] == most]
        panel.set_xticks(range(len(names)), names, rotation=45, ha="right")
        panel.set(title=f"{title}, {most} detected", ylabel="decided rightly, %", ylim=(50, 100))
    return figure


def result(experiment: Experiment) -> Result:
    """The whole experiment."""
    choose, report = half(experiment.photos, "choose"), half(experiment.photos, "report")
    plain = [photo for photo in choose if photo.group == "photo"]
    measured_on = [choose] if len(plain) == len(choose) else [choose, plain]
    known = experiment.protected()
    limits = limits_of(experiment, known, measured_on)
    tables: list[Table] = []
    every: dict[str, list[Row]] = {}
    for setting in SETTINGS:
        # Photos that the threshold has not seen, where they are enough; else all of them.
        fresh = len(report) > setting.protected * 1.1
        photos = report if fresh else experiment.photos
        runs = accuracies(experiment, known, photos, setting, limits)
        rows = rows_of(experiment, setting, len(photos), runs)
        every[setting.source] = rows
        seen = "none of which the threshold has seen" if fresh else "half of which the threshold was measured on"
        others = len(photos) - _sizes(setting, len(photos))[0]
        note = (
            f"Percent decided rightly: mean, least and most of {1 if experiment.quick else RUNS} runs; then of the "
            f"copies and of the others alone (means). {len(photos)} photos, {seen}; {others} of them are the others."
        )
        if len(measured_on) > 1:
            note += " The last three columns: with Th measured without look-alikes, which are still among the images."
        tables.append(Table(setting.source, rows, note))
    pairs = [len(photos) * (len(photos) - 1) // 2 for photos in measured_on]
    limit_rows: list[Row] = []
    for name, method in experiment.methods.items():
        row: dict[str, object] = {"method": method.name}
        for (threshold, reached), of_set in zip(LIMIT_COLUMNS, limits, strict=False):
            row |= {threshold: of_set[name].threshold, reached: 1e6 * of_set[name].reached}
        limit_rows.append(row)
    note = (
        f"The largest Th within which at most {FALSE_ALARMS:g} of the pairs of the half `choose` lie: "
        + " and ".join(f"{count:,} pairs" for count in pairs)
        + (", so none of them. " if pairs[0] * FALSE_ALARMS < 1 else ". ")
        + "Where it is below 0, two different photos have one fingerprint: nothing is found, and half of all "
        "decisions, those about the others, are right. Beside each Th: how many of a million pairs of all photos, both "
        "halves and look-alikes included, lie within it."
    )
    tables.append(Table("Thresholds", limit_rows, note))
    return Result(
        name="matching_accuracy",
        title="Matching accuracy (ImagePro, Table 1; SRPITP, Table 2)",
        question=" ".join(__doc__.split("\n\n")[2].split()),
        command=experiment.command,
        photos=experiment.described_photos,
        tables=tables,
        figure=drawn(every),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    with started("benchmarks.matching_accuracy", __doc__.splitlines()[0], arguments) as experiment:
        publish(result(experiment), experiment.results)


if __name__ == "__main__":
    main()
