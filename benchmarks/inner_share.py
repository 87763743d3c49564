"""The ablation of mao's f: what share of an image's elements falls on the two inner levels (`Mao.inner_share`).

    python -m benchmarks.inner_share --photos DIR

SRPITP's Algorithm 1 quantizes to four levels, and does not say where their bounds lie: f is free. For each f, Th is
measured on the half `choose` of the photos, at a false-alarm rate of 1e-4 and of 1e-6 over all pairs of photographs,
and so is the share of mildly edited copies that are found: their nearest photo is their original and lies within Th. An
f is chosen by that. The half `report` is then matched with the same Th: its figures have no part in the choice. To see
what is chance, the halves are exchanged as well. Distances are the paper's own (Formula 1): neither masks nor views, so
that f alone differs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from benchmarks.copies import Copy
from benchmarks.edits import MILD
from benchmarks.experiment import Experiment, some, started
from benchmarks.index_cost import seconds
from benchmarks.methods import PlainHamming, least_beyond, pair_values
from benchmarks.photos import Half, Photo, Pictures, half
from benchmarks.report import Result, Row, Table, publish
from copywatch.fingerprint import Mao
from copywatch.fingerprint.mao import elements, quantized, smoothed
from copywatch.matching import search_code_of

SHARES = (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75)
AUTHORS, DEFAULT = 0.25, Mao().inner_share
RATES = (1e-4, 1e-6)
SOURCES = 300
"""Photographs of which every mild edit is made, of both halves together."""
HALVES: tuple[Half, ...] = ("choose", "report")


@dataclass(frozen=True)
class Distances:
    """What one f makes of one half of the photos.

    Attributes:
        originals: int64 (C,), which photo each copy shows.
        true: float32 (C,), a copy's distance to its original; infinite where another photo is nearer.
        photographs: float32 (Q,), distances of all pairs of photographs.
        everything: float32 (R,), of all pairs of photos, look-alikes too.
    """

    originals: NDArray[np.int64]
    true: NDArray[np.float32]
    photographs: NDArray[np.float32]
    everything: NDArray[np.float32]

    def pairs(self, look_alikes: bool) -> NDArray[np.float32]:
        """All pairs, or those of photographs alone."""
        return self.everything if look_alikes else self.photographs

    def threshold(self, rate: float, look_alikes: bool) -> float:
        """The largest Th, in whole symbols, within which at most the share `rate` of the pairs lies."""
        return (round(least_beyond(self.pairs(look_alikes), rate) * Mao.symbols) - 1) / Mao.symbols

    def found(self, threshold: float) -> NDArray[np.bool_]:
        """Which copies are found; (C,)."""
        return self.true <= np.float32(threshold)


Halves = Mapping[Half, Mapping[float, Distances]]
"""Half -> f -> its distances."""


def codes_of(images: Iterable[Image.Image], shares: Sequence[float]) -> dict[float, NDArray[np.uint8]]:
    """Search codes of images (RGB) by f, uint8 (N, 270); what f does not change is computed once."""
    methods = {share: Mao(inner_share=share) for share in shares}
    packed: dict[float, list[bytes]] = {share: [] for share in shares}
    for image in images:
        parts = elements(smoothed(image))
        for share, method in methods.items():
            packed[share].append(method.encode(np.concatenate([quantized(part, share) for part in parts])))
    return {share: _search_codes(methods[share], codes) for share, codes in packed.items()}


def true_distances(distances: NDArray[np.float32], originals: NDArray[np.int64]) -> NDArray[np.float32]:
    """Of (copies, photos) each copy's distance to its original, infinite where another is the nearest."""
    rows = np.arange(len(distances))
    right = distances.argmin(axis=1) == originals
    return np.where(right, distances[rows, originals], np.float32(np.inf))


def described(experiment: Experiment, which: Half) -> dict[float, Distances]:
    """Photos of a half, and every mild edit of some of its photographs, by each f."""
    photos = half(experiment.photos, which)
    sources = some([one for one in experiment.photos if one.group == "photo"], SOURCES)
    places = {photo.name: place for place, photo in enumerate(photos)}
    edited = [Copy(photo, edit) for photo in sources if photo.name in places for edit in MILD]
    originals = np.array([places[copy.photo.name] for copy in edited], dtype=np.int64)
    plain = np.array([photo.group == "photo" for photo in photos])
    of_photos = codes_of(Pictures(photos), SHARES)
    of_copies = codes_of((experiment.cache.picture(copy) for copy in edited), SHARES)
    made: dict[float, Distances] = {}
    for share in SHARES:
        method = PlainHamming(Mao(inner_share=share))
        between = method.distances(of_photos[share], of_photos[share])
        made[share] = Distances(
            originals=originals,
            true=true_distances(method.distances(of_copies[share], of_photos[share]), originals),
            photographs=pair_values(between[np.ix_(plain, plain)]),
            everything=pair_values(between),
        )
    return made


def chosen_by(choose: Mapping[float, Distances]) -> float:
    """The f that finds most on the half it is chosen on, all rates together; of equals the nearest to the default."""

    def found(share: float) -> float:
        of = choose[share]
        return float(sum(of.found(of.threshold(rate, False)).mean() for rate in RATES))

    return max(choose, key=lambda share: (found(share), -abs(share - DEFAULT)))


def difference(one: NDArray[np.bool_], other: NDArray[np.bool_], originals: NDArray[np.int64]) -> tuple[float, float]:
    """How many more copies `one` finds, in points of percent, and the standard error of that.

    A photo's copies are found or missed together, so the error is that of the photos' means, not of the copies.

    Args:
        one: (C,) which copies are found.
        other: (C,) which copies another f finds.
        originals: (C,) what each copy shows.
    """
    of_copies = 100 * (one.astype(np.float64) - other)
    photos, place = np.unique(originals, return_inverse=True)
    means = np.bincount(place, of_copies) / np.bincount(place)
    error = float(means.std(ddof=1) / np.sqrt(len(photos))) if len(photos) > 1 else float("nan")
    return float(means.mean()), error


def crossed(halves: Halves, share: float, rate: float, look_alikes: bool) -> dict[Half, NDArray[np.bool_]]:
    """Half -> which of its copies are found with the Th of the other half."""
    choose, report = halves["choose"][share], halves["report"][share]
    return {
        "report": report.found(choose.threshold(rate, look_alikes)),
        "choose": choose.found(report.threshold(rate, look_alikes)),
    }


def ablation(halves: Halves, rate: float, look_alikes: bool) -> list[Row]:
    """A row for each f: each half by its own Th and by the other's, and both halves by the other's together."""
    both_default = crossed(halves, DEFAULT, rate, look_alikes)
    rows: list[Row] = []
    for share in SHARES:
        choose, report = halves["choose"][share], halves["report"][share]
        limits = {"choose": choose.threshold(rate, look_alikes), "report": report.threshold(rate, look_alikes)}
        other = crossed(halves, share, rate, look_alikes)
        differences = [
            difference(other[which], both_default[which], halves[which][share].originals) for which in HALVES
        ]
        alarms = [
            float((report.pairs(look_alikes) <= np.float32(limits["choose"])).mean()),
            float((choose.pairs(look_alikes) <= np.float32(limits["report"])).mean()),
        ]
        rows.append(
            {
                "f": share,
                "Th of choose": limits["choose"],
                "choose, %": _percent(choose.found(limits["choose"])),
                "report, %": _percent(other["report"]),
                "Th of report": limits["report"],
                "choose by it, %": _percent(other["choose"]),
                "both by the other's, %": _percent(np.concatenate([other[which] for which in HALVES])),
                "against the default": "" if share == DEFAULT else _both_ways(differences),
                "other's pairs within Th, ppm": 1e6 * float(np.mean(alarms)),
            }
        )
    return rows


def by_edit(halves: Halves, rate: float, shares: Sequence[float]) -> list[Row]:
    """A row for each mild edit: percent found with some f. Copies come photo by photo, in the order of `MILD`."""
    found: dict[float, NDArray[np.bool_]] = {}
    for share in shares:
        of = crossed(halves, share, rate, False)
        found[share] = np.concatenate([of[which].reshape(-1, len(MILD)) for which in HALVES])
    return [
        {"edit": edit.name} | {f"f = {share:g}": _percent(found[share][:, place]) for share in shares}
        for place, edit in enumerate(MILD)
    ]


def costs(photo: Photo) -> list[Row]:
    """Processor time of one fingerprint of a decoded photo, whole, by f."""
    picture = photo.image()
    works = [partial(Mao(inner_share=share).fingerprint, picture) for share in SHARES]
    taken = seconds(*works, clock=time.process_time)
    return [{"f": share, "fingerprint, ms": 1e3 * one} for share, one in zip(SHARES, taken, strict=True)]


def drawn(halves: Halves) -> Figure:
    """Copies found by f, on each half by the other's Th."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    panel = figure.subplots()
    for colour, rate in zip(("C0", "C3"), RATES, strict=True):
        for which, line in zip(HALVES, (":", "-"), strict=True):
            values = [_percent(crossed(halves, share, rate, False)[which]) for share in SHARES]
            panel.plot(SHARES, values, f"o{line}", color=colour, markersize=4, label=f"{rate:g}, {which}")
    panel.axvline(DEFAULT, color="0.8", zorder=0)
    panel.set(xlabel="f, share on the inner levels", ylabel="mild copies found by the other half's Th, %")
    panel.legend()
    return figure


def result(experiment: Experiment) -> Result:
    """The whole experiment."""
    halves: Halves = {which: described(experiment, which) for which in HALVES}
    best = chosen_by(halves["choose"])
    gains: list[str] = []
    for rate in RATES:
        ours, usual = (crossed(halves, share, rate, False)["report"] for share in (best, DEFAULT))
        more, error = difference(ours, usual, halves["report"][best].originals)
        gains.append(f"{more:+.2f} ± {error:.2f} points at {rate:g}")
    beside = "the default" if best == DEFAULT else f"on the half `report` {' and '.join(gains)} against the default"
    choose, report = halves["choose"][DEFAULT], halves["report"][DEFAULT]
    tables = [Table(f"At {rate:g}", ablation(halves, rate, False)) for rate in RATES]
    tables[-1] = replace(
        tables[-1],
        note=f"Both tables: copies found, percent, of {len(choose.true):,} and {len(report.true):,} of the two "
        "halves, matched with all photos of their half, look-alikes too. First by the Th of the half `choose`, then by "
        "that of the half `report`; last both halves, each by the Th of the other. Th is measured on "
        f"{len(choose.photographs):,} and {len(report.photographs):,} pairs of photographs; where the rate times the "
        "pairs is below 1, no pair lies within it, and one single pair decides. The difference to the default "
        f"f = {DEFAULT:g}, in points, is the mean of the two ways; behind ± stands how far each is from it, or their "
        "standard error over the photos if that is more. The last column is what Th lets in of the pairs of the half "
        f"that it is not of. The authors' f is {AUTHORS:g}. Chosen on the half `choose`, by both rates together: "
        f"f = {best:g}, {beside}.",
    )
    if len(choose.everything) > len(choose.photographs):
        note = "As above, but Th is measured on all pairs, those of look-alikes too."
        tables += [Table(f"With look-alikes, at {rate:g}", ablation(halves, rate, True), note) for rate in RATES]
    note = f"Percent found at {RATES[0]:g}, both halves, each with the Th of the other."
    tables.append(Table("By edit", by_edit(halves, RATES[0], sorted({AUTHORS, DEFAULT, best})), note))
    note = "Processor time, medians of runs in turns. f is a rank in a list that is partly sorted anyway."
    tables.append(Table("Time", costs(experiment.photos[0]), note))
    return Result(
        name="inner_share",
        title="The share of the inner levels, mao's f",
        question=" ".join(__doc__.split("\n\n")[2].split()),
        command=experiment.command,
        photos=experiment.described_photos,
        tables=tables,
        figure=drawn(halves),
    )


def _percent(found: NDArray[np.bool_]) -> float:
    return 100 * float(found.mean())


def _both_ways(differences: Sequence[tuple[float, float]]) -> str:
    """Mean and uncertainty of a difference that was measured twice, each time with a standard error."""
    values = [value for value, _ in differences]
    error = float(np.sqrt(sum(one**2 for _, one in differences))) / len(differences)
    return f"{np.mean(values):+.2f} ± {max(error, (max(values) - min(values)) / 2):.2f}"


def _search_codes(method: Mao, codes: Sequence[bytes]) -> NDArray[np.uint8]:
    packed = np.frombuffer(b"".join(codes), dtype=np.uint8).reshape(len(codes), method.code_bytes)
    return search_code_of(method).expanded(packed)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    with started("benchmarks.inner_share", __doc__.splitlines()[0], arguments) as experiment:
        publish(result(experiment), experiment.results)


if __name__ == "__main__":
    main()
