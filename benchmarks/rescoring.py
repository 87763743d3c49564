"""The rule "rescored" (`copywatch.matching.score`): how its parameters were chosen, what it finds, what it costs.

Photos are split into two halves by their names. Everything is chosen and every threshold is measured on one half, and
reported on the other. A false alarm is a pair of different photos within Th: pairs of the photos themselves, and pairs
of a mildly edited photo with another photo; the stricter of the two thresholds counts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.copies import Copy, CopyCache
from benchmarks.edits import EDITS
from benchmarks.experiment import Experiment, edited_sources, some, started
from benchmarks.photos import Photo, read_real_copies
from benchmarks.report import Result, Row, Table, publish
from copywatch.decode import decode
from copywatch.fingerprint.views import VIEW, Kind, protected_views, sighting_views
from copywatch.matching.candidates import (
    CODE_BYTES,
    TURNED_BITS,
    UPRIGHT_BITS,
    CandidateIndex,
    Images,
    pairs_of_views,
    protected_code,
    sighting_code,
)
from copywatch.matching.score import (
    BOTH_FLAT_CHARGE,
    HALF_FLAT_CHARGE,
    PDQ_SHARE,
    RESCORED_THRESHOLD,
    Evidence,
    Operands,
    evidence,
    plain_distances,
)

RATES = (1e-6, 1e-5, 1e-4)
SOURCES = 360
CLOSEST = 8
CLOSEST_NOTE = "Files that are one photograph stand in `same_photos.csv`; in doubt a pair counts as different."
HALVES = ("choose", "report")
BEYOND = 9.0
"""Stands for the score of a pair that the first stage does not let through."""

VIEW_SETS: dict[str, tuple[Kind, ...]] = {
    "upright": (Kind.UPRIGHT,),
    "and unframed": (Kind.UPRIGHT, Kind.UNFRAMED),
    "and aligned": (Kind.UPRIGHT, Kind.UNFRAMED, Kind.ALIGNED),
    "and toned": (Kind.UPRIGHT, Kind.UNFRAMED, Kind.ALIGNED, Kind.TONED),
    "and turned (the product)": tuple(Kind),
}


@dataclass(frozen=True)
class Material:
    """Protected photos, edited copies of some of them, and the pairs that the first stage lets through.

    Attributes:
        photos: the protected photos.
        source: int64 (S,), which photo each sighting shows.
        edit: int64 (S,), place in EDITS; -1 for the photo's own file.
        protected: their views.
        sightings: the sightings' views.
        which, originals: int64 (P,), the pairs of images.
        pair: int64 (Q,), the pair of each pair of views; kinds: uint8 (Q,) of its protected view.
        evidence: of each pair of views.
    """

    photos: list[Photo]
    source: NDArray[np.int64]
    edit: NDArray[np.int64]
    protected: Images
    sightings: Images
    which: NDArray[np.int64]
    originals: NDArray[np.int64]
    pair: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    evidence: Evidence

    @property
    def mild(self) -> NDArray[np.bool_]:
        """Which sightings are mildly edited copies."""
        kinds = np.array([*(one.kind == "mild" for one in EDITS), False])
        return kinds[self.edit]

    @property
    def look_alike(self) -> NDArray[np.bool_]:
        """Which photos are hard negatives."""
        return np.array([photo.group == "look-alike" for photo in self.photos])

    @property
    def reported(self) -> NDArray[np.bool_]:
        """Which photos are of the half that figures are reported on."""
        return np.array([photo.half == "report" for photo in self.photos])

    def pair_scores(self, of_views: NDArray[np.float64], kinds: Sequence[Kind] = tuple(Kind)) -> NDArray[np.float64]:
        """The least score of each pair over the protected views of some kinds; float64 (P,)."""
        least = np.full(len(self.which), BEYOND)
        kept = np.isin(self.kinds, kinds)
        np.minimum.at(least, self.pair[kept], of_views[kept])
        return least


def _protected(photo: Photo) -> NDArray[np.void]:
    return protected_views(photo.image())


def _sightings(task: tuple[Photo, tuple[Photo, ...], CopyCache]) -> list[NDArray[np.void]]:
    photo, fillers, cache = task
    copies = [Copy(photo, edit, seed=0, fillers=fillers) for edit in EDITS]
    return [sighting_views(cache.picture(copy)) for copy in copies]


def _own_sighting(photo: Photo) -> NDArray[np.void]:
    return sighting_views(photo.image())


def gather(experiment: Experiment) -> Material:
    """Make the copies, describe everything, and run the first stage."""
    photos = experiment.photos
    sources, fillers = edited_sources(photos, SOURCES)
    places = {photo.name: place for place, photo in enumerate(photos)}
    with ProcessPoolExecutor() as pool:
        protected = list(pool.map(_protected, photos, chunksize=16))
        own = list(pool.map(_own_sighting, photos, chunksize=16))
        tasks = [(photo, fillers, experiment.cache) for photo in sources]
        edited = [views for copies in pool.map(_sightings, tasks, chunksize=2) for views in copies]
    source = [place for photo in sources for place in [places[photo.name]] * len(EDITS)] + list(range(len(photos)))
    edit = list(range(len(EDITS))) * len(sources) + [-1] * len(photos)
    originals, sightings = Images(protected), Images(edited + own)
    which, found = CandidateIndex(originals).candidates(sightings)
    left, right = Operands.of(sightings.views), Operands.of(originals.views)
    parts: list[Evidence] = []
    pairs: list[NDArray[np.int64]] = []
    kinds: list[NDArray[np.uint8]] = []
    for start in range(0, len(which), 2048):
        rows, columns, pair = pairs_of_views(sightings, which[start:][:2048], originals, found[start:][:2048])
        parts.append(evidence(left, rows, right, columns))
        pairs.append(start + pair)
        kinds.append(right.kinds[columns])
    names = ("differing", "half_flat", "both_flat", "pdq_bits")
    return Material(
        photos=photos,
        source=np.array(source, dtype=np.int64),
        edit=np.array(edit, dtype=np.int64),
        protected=originals,
        sightings=sightings,
        which=which,
        originals=found,
        pair=np.concatenate(pairs),
        kinds=np.concatenate(kinds),
        evidence=Evidence(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}),
    )


@dataclass(frozen=True)
class Judged:
    """A rule's distances of all pairs that matter.

    Attributes:
        true: float64 (S,), of each sighting and what it shows.
        values, which: float64 and int64 (N,), of wrong pairs, and their sightings; the others are farther.
    """

    material: Material
    true: NDArray[np.float64]
    values: NDArray[np.float64]
    which: NDArray[np.int64]

    def threshold(self, rate: float, photos: NDArray[np.bool_]) -> float:
        """Th below which at most the share `rate` of the wrong pairs of some photos' sightings lies."""
        material = self.material
        others = len(material.photos) - 1
        bounds = []
        for sightings in (material.edit < 0, material.mild):
            chosen = sightings & photos[material.source]
            let_in = int(rate * chosen.sum() * others)
            wrong = self.values[chosen[self.which]]
            bounds.append(np.partition(wrong, let_in)[let_in] if len(wrong) > let_in else BEYOND)
        # Th itself counts as within, so it lies just below the first pair that must not be let in.
        return float(np.nextafter(min(bounds), 0))

    def found(self, threshold: float, chosen: NDArray[np.bool_]) -> float:
        """Share of some sightings within Th, in %."""
        return 100 * float(np.mean(self.true[chosen] <= threshold)) if chosen.any() else float("nan")

    def false_alarms(self, threshold: float, photos: NDArray[np.bool_]) -> float:
        """Measured share of the photos' own wrong pairs within Th."""
        chosen = (self.material.edit < 0) & photos[self.material.source]
        pairs = chosen.sum() * (len(self.material.photos) - 1)
        return float(np.count_nonzero(self.values[chosen[self.which]] <= threshold) / pairs)


def judged(material: Material, scores: NDArray[np.float64]) -> Judged:
    """Of the scores of the first stage's pairs."""
    right = material.source[material.which] == material.originals
    true = np.full(len(material.source), BEYOND)
    true[material.which[right]] = scores[right]
    return Judged(material, true, scores[~right], material.which[~right])


def judged_plainly(material: Material) -> Judged:
    """By SRPITP's Formula (1) over all pairs of upright images, no first stage."""
    first = material.sightings.views[material.sightings.starts[:-1]]
    left, right = Operands.of(first), Operands.of(material.protected.views[material.protected.starts[:-1]])
    true = plain_distances(left, np.arange(len(left)), right, material.source)
    values, which = [], []
    for sighting, photo in enumerate(material.source):
        distances = plain_distances(left, np.full(len(right), sighting), right, np.arange(len(right)))
        distances[photo] = BEYOND
        near = np.flatnonzero(distances < 0.6)
        values.append(distances[near])
        which.append(np.full(len(near), sighting))
    return Judged(material, true, np.concatenate(values), np.concatenate(which))


def rule_rows(rules: dict[str, Judged], material: Material) -> list[Row]:
    """Each rule at each rate: chosen on one half, found on the other, both ways."""
    rows: list[Row] = []
    mild, alike, halves = material.mild, material.look_alike, {"report": material.reported}
    halves["choose"] = ~halves["report"]
    for name, rule in rules.items():
        for rate in RATES:
            row: dict[str, object] = {"rule": name, "rate": f"{rate:.0e}"}
            for chosen, reported in (HALVES, HALVES[::-1]):
                threshold = rule.threshold(rate, halves[chosen])
                copies = mild & halves[reported][material.source]
                row |= {
                    f"Th of {chosen}": round(threshold, 4),
                    f"mild, {reported} %": round(rule.found(threshold, copies), 2),
                    f"photos, {reported} %": round(rule.found(threshold, copies & ~alike[material.source]), 2),
                    f"look-alikes, {reported} %": round(rule.found(threshold, copies & alike[material.source]), 2),
                    f"false alarms, {reported}, ppm": round(1e6 * rule.false_alarms(threshold, halves[reported]), 2),
                }
            rows.append(row)
    return rows


def parameter_rows(material: Material) -> list[Row]:
    """Mild copies found at 1e-6 by half, for charges and PDQ's share around the product's."""
    rows: list[Row] = []
    for both_flat, pdq in product((0.55, 0.65, 0.75), (0.33, 0.5, 0.6, 0.67)):
        scores = material.evidence.scores(HALF_FLAT_CHARGE, both_flat, pdq)
        rule = judged(material, material.pair_scores(scores))
        row: dict[str, object] = {"charge of flat pairs": both_flat, "PDQ's share": pdq}
        for half, photos in (("choose", ~material.reported), ("report", material.reported)):
            threshold = rule.threshold(1e-6, photos)
            row[f"{half} %"] = round(rule.found(threshold, material.mild & photos[material.source]), 2)
        row["the product's"] = "yes" if (both_flat, pdq) == (BOTH_FLAT_CHARGE, PDQ_SHARE) else ""
        rows.append(row)
    return rows


def first_stage_rows(material: Material) -> list[Row]:
    """How many mild copies the upright scan lets through, and how many wrong candidates, by its bound."""
    upright = material.protected.views[material.protected.starts[:-1]]
    protected = protected_code(upright).view(np.uint32)
    sightings = sighting_code(material.sightings.views[material.sightings.starts[:-1]]).view(np.uint32)
    bits = np.array(
        [
            int(np.bitwise_count(sightings[one] ^ protected[photo]).sum(dtype=np.int64))
            for one, photo in enumerate(material.source)
        ]
    )
    histograms = np.zeros((2, CODE_BYTES * 8 + 1), dtype=np.int64)
    alike = material.look_alike
    for one in np.flatnonzero(material.edit < 0):
        photo = material.source[one]
        distances = np.bitwise_count(sightings[one] ^ protected).sum(axis=1, dtype=np.int64)
        histograms[int(alike[photo])] += np.bincount(np.delete(distances, photo), minlength=histograms.shape[1])
    within = histograms.cumsum(axis=1)
    mild = material.mild
    rows: list[Row] = []
    for bound in sorted({2200, 2250, 2300, UPRIGHT_BITS, 2400}):
        rows.append(
            {
                "bits of 5,856": bound,
                "mild copies let through %": round(100 * float(np.mean(bits[mild] <= bound)), 3),
                "those of photos %": round(100 * float(np.mean(bits[mild & ~alike[material.source]] <= bound)), 3),
                "candidates a photo per million": round(1e6 * within[0, bound] / max(1, within[0, -1]), 1),
                "candidates a look-alike per million": round(1e6 * within[1, bound] / max(1, within[1, -1]), 1),
                "the product's": "yes" if bound == UPRIGHT_BITS else "",
            }
        )
    passed = np.zeros(len(material.source), dtype=bool)
    passed[material.which[material.source[material.which] == material.originals]] = True
    rows.append(
        {
            "bits of 5,856": "with the turned and unframed views",
            "mild copies let through %": round(100 * float(passed[mild].mean()), 3),
            "those of photos %": round(100 * float(passed[mild & ~alike[material.source]].mean()), 3),
        }
    )
    return rows


def edit_rows(rule: Judged, material: Material, scores: NDArray[np.float64]) -> list[Row]:
    """Each edit: found at each rate (Th of all photos), and right at rank 1."""
    everything = np.ones(len(material.photos), dtype=bool)
    thresholds = {rate: rule.threshold(rate, everything) for rate in RATES}
    order = np.lexsort((scores, material.which))
    first = order[np.unique(material.which[order], return_index=True)[1]]
    nearest = np.full(len(material.source), -1)
    nearest[material.which[first]] = material.originals[first]
    rows: list[Row] = []
    for place, edit in enumerate(EDITS):
        chosen = material.edit == place
        row: dict[str, object] = {"edit": edit.name, "kind": edit.kind}
        row |= {f"{rate:.0e} %": round(rule.found(bound, chosen), 1) for rate, bound in thresholds.items()}
        row["at the product's Th %"] = round(rule.found(RESCORED_THRESHOLD, chosen), 1)
        row["rank 1 %"] = round(100 * float(np.mean(nearest[chosen] == material.source[chosen])), 1)
        rows.append(row)
    return rows


def closest_rows(material: Material, scores: NDArray[np.float64]) -> list[Row]:
    """The pairs of different photos, not edited, that the rule finds most alike."""
    wrong = (material.edit[material.which] < 0) & (material.source[material.which] != material.originals)
    least: dict[tuple[str, str], float] = {}
    for found, original, score in zip(material.which[wrong], material.originals[wrong], scores[wrong], strict=True):
        photos = material.photos[material.source[found]], material.photos[original]
        # Each pair stands there twice, once found either way.
        one, other = sorted(f"{photo.name} ({photo.half})" for photo in photos)
        least[one, other] = min(score, least.get((one, other), BEYOND))
    nearest = sorted(least.items(), key=lambda item: item[1])[:CLOSEST]
    return [{"a": one, "b": other, "score": round(score, 4)} for (one, other), score in nearest]


def real_rows(experiment: Experiment) -> list[Row]:
    """Pairs that strangers made, within the product's threshold."""
    folder = experiment.folder
    pairs = read_real_copies(folder)
    counts: dict[str, list[bool]] = {}
    for pair in pairs:
        one, other = (decode(path.read_bytes(), max_pixels=10**9, max_bytes=10**9).rgb for path in (pair.a, pair.b))
        index = CandidateIndex(Images([protected_views(one)]))
        hit = len(index.within(Images([sighting_views(other)]), RESCORED_THRESHOLD)) > 0
        counts.setdefault(pair.label, []).append(hit)
    return [{"label": label, "pairs": len(hits), "within Th": sum(hits)} for label, hits in counts.items()]


def cost_rows(experiment: Experiment, material: Material) -> list[Row]:
    """Bytes, and processor time: a million protected images extrapolated from what was scanned."""
    some_photos = [photo.image() for photo in some(experiment.photos, 60)]
    rows: list[Row] = [
        {"what": "stored for a protected image, bytes", "figure": VIEW.itemsize * len(protected_views(some_photos[0]))},
        {"what": "stored for a sighting, bytes", "figure": VIEW.itemsize},
        {"what": "in the index for a protected image, bytes", "figure": CODE_BYTES + 7 * 32},
        {"what": "describing a protected image, ms", "figure": _milliseconds(protected_views, some_photos)},
        {"what": "describing a sighting, ms", "figure": _milliseconds(sighting_views, some_photos)},
    ]
    index = CandidateIndex(Images(_repeated(material, 60_000)))
    queries = Images([material.sightings.views[place : place + 1] for place in material.sightings.starts[:512]])
    begin = time.process_time()
    which, originals = index.candidates(queries)
    scan = time.process_time() - begin
    begin = time.process_time()
    index.rescored(queries, which, originals, RESCORED_THRESHOLD)
    score = time.process_time() - begin
    per_million = 1e3 * scan / len(queries) / len(index) * 1e6
    rows.append({"what": "both scans, ms a sighting per million protected", "figure": round(per_million, 1)})
    rows.append({"what": "scoring a candidate, ms", "figure": round(1e3 * score / max(1, len(which)), 3)})
    return rows


def _repeated(material: Material, count: int) -> list[NDArray[np.void]]:
    """The protected photos' views again and again, symbols and PDQ shuffled so that no copy is a candidate."""
    rng = np.random.default_rng(0)
    images = []
    for number in range(count):
        place = number % len(material.photos)
        views = material.protected.views[material.protected.starts[place] : material.protected.starts[place + 1]][:8]
        shuffled = views.copy()
        shuffled["fingerprint"] = views["fingerprint"][:, rng.permutation(180)]
        shuffled["pdq"] = views["pdq"][:, rng.permutation(32)]
        images.append(shuffled)
    return images


def _milliseconds(describe: object, images: Sequence[object]) -> float:
    begin = time.process_time()
    for image in images:
        describe(image)  # type: ignore[operator]
    return round(1e3 * (time.process_time() - begin) / len(images), 1)


def figure(rule: Judged, material: Material) -> Figure:
    """Scores of mild copies and of wrong pairs."""
    drawn = Figure(figsize=(9, 4.5), layout="constrained")
    axes = drawn.add_subplot()
    bins = np.linspace(0, 0.5, 101)
    wrong = rule.values[(material.edit < 0)[rule.which]]
    axes.hist(rule.true[material.mild], bins, histtype="step", label="mild copies and their originals")
    axes.hist(wrong, bins, histtype="step", label="different photos (those that the first stage lets through)")
    axes.axvline(RESCORED_THRESHOLD, color="black", linestyle="--", label=f"Th = {RESCORED_THRESHOLD:g}")
    axes.set(xlabel="score", ylabel="pairs", yscale="log")
    axes.legend()
    return drawn


def main() -> None:
    """Run the experiment."""
    with started(__spec__.name, (__doc__ or "").splitlines()[0]) as experiment:
        material = gather(experiment)
        product_scores = material.pair_scores(material.evidence.scores())
        rules = {"SRPITP, Formula (1)": judged_plainly(material)}
        rules["masked, no PDQ, upright"] = judged(
            material, material.pair_scores(material.evidence.scores(pdq_share=0), (Kind.UPRIGHT,))
        )
        for name, kinds in VIEW_SETS.items():
            rules[f"rescored, {name}"] = judged(material, material.pair_scores(material.evidence.scores(), kinds))
        product_rule = rules["rescored, and turned (the product)"]
        publish(
            Result(
                name="rescoring",
                title="The rule “rescored”",
                question=" ".join((__doc__ or "").split()),
                command=experiment.command,
                photos=experiment.described_photos,
                tables=[
                    Table("Found at a measured rate of false alarms", rule_rows(rules, material)),
                    Table("Each edit", edit_rows(product_rule, material, product_scores)),
                    Table("First stage", first_stage_rows(material), f"Turned views: {TURNED_BITS} bits of PDQ."),
                    Table("The most similar of different photos", closest_rows(material, product_scores), CLOSEST_NOTE),
                    Table("Parameters: mild copies found at 1e-6 of each half", parameter_rows(material)),
                    Table("Copies that strangers made", real_rows(experiment)),
                    Table("Cost, times of the processor", cost_rows(experiment, material)),
                ],
                figure=figure(product_rule, material),
            ),
            experiment.results,
        )


if __name__ == "__main__":
    main()
