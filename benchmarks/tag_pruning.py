"""SRPITP's Figure 4: the time of matching with tags and without, and the copies that tags lose.

    python -m benchmarks.tag_pruning --photos DIR

Every found image is compared with the protected ones of its tags (SRPITP, section 3.4, Algorithm 2), or with all of
them. The paper looks under one tag, the best. The product looks under an image's best tags until their probabilities
reach tau, because an edit may move a copy to another tag than its original's. Tags are the product's own, of the
photos and of the edited copies. "The loop" takes one found image after another, as the paper's algorithm does, and
compares it with a whole table of protected ones at once in NumPy; "the flat scan" is the product's (faiss). Both run in
one thread, and both with tags and without. Times are of the processor, medians of runs in turns.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import faiss
import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.experiment import Experiment, started
from benchmarks.index_cost import seconds
from benchmarks.matching_accuracy import trial
from benchmarks.report import Result, Row, Table, beside_paper, publish
from copywatch.fingerprint import Mao
from copywatch.lake.schemas import TAGS
from copywatch.matching import FlatIndex, search_code_of
from copywatch.matching.tags import tags_to_search, tags_within_coverage
from copywatch.settings import load_settings
from copywatch.tagging.tagger import Tagger

PROTECTED = 2000
DETECTED = (500, 1000, 2000, 4000)
PAPER_SHARES = {2000: 23.77, 4000: 15.80}
""""The time spent for image matching using Tag classification is only 23.77% and 15.80% of the time without" (section
4.2.2): what is left of the time, not what is saved."""

BEST_ONLY = 1e-6
"""A tau that the best tag alone reaches."""
TAUS = (BEST_ONLY, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)

EVERYTHING = "every image"
"""Name of the one table that there is without tags."""

_ALGORITHM = Mao()
_CODE = search_code_of(_ALGORITHM)
_BITS_A_WORD = 64


@dataclass(frozen=True)
class Nearest:
    """The nearest protected image of each found one, among those that it was compared with.

    Attributes:
        positions: int64 (F,), place among all protected images, the first of equals; -1: compared with none.
        distances: float64 (F,), SRPITP's Formula (1); infinite where there is none.
    """

    positions: NDArray[np.int64]
    distances: NDArray[np.float64]


@dataclass(frozen=True)
class Material:
    """What is matched.

    Attributes:
        protected: encoded fingerprints, uint8 (P, 180).
        protected_tags: the best tag of each.
        found: encoded fingerprints, uint8 (F, 180).
        found_tags: tag -> probability of each.
        originals: int64 (F,), place of each one's original among `protected`; -1: it is no copy.
        tagging: processor seconds that tagging one image takes, the median.
    """

    protected: NDArray[np.uint8]
    protected_tags: list[str]
    found: NDArray[np.uint8]
    found_tags: list[dict[str, float]]
    originals: NDArray[np.int64]
    tagging: float

    def first(self, count: int) -> Material:
        """With only the first found images."""
        return replace(
            self, found=self.found[:count], found_tags=self.found_tags[:count], originals=self.originals[:count]
        )


def places_by_tag(tags: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Tag -> places of the protected images that are stored under it; the paper's data tables."""
    every = np.array(tags)
    return {str(tag): np.flatnonzero(every == tag) for tag in np.unique(every)}


class Loop:
    """Algorithm 2, one found image after another."""

    def __init__(self, protected: NDArray[np.uint8], places: Mapping[str, NDArray[np.int64]]) -> None:
        """Take encoded fingerprints (P, 180), and which of them each table holds."""
        codes = _words(protected)
        self._places = dict(places)
        self._tables = {tag: np.ascontiguousarray(codes[rows]) for tag, rows in places.items()}

    def nearest(self, found: NDArray[np.uint8], tags: Sequence[Mapping[str, float]], coverage: float | None) -> Nearest:
        """The nearest of each found image (F, 180) in the tables of its tags; with no coverage, in `EVERYTHING`."""
        positions = np.full(len(found), -1, dtype=np.int64)
        least = np.full(len(found), _never(), dtype=np.int64)
        for row, code in enumerate(_words(found)):
            searched = [EVERYTHING] if coverage is None else tags_to_search(tags[row], coverage)
            for tag in searched:
                table = self._tables.get(tag)
                if table is None:
                    continue
                bits = np.bitwise_count(table ^ code).sum(axis=1, dtype=np.int64)
                at = int(bits.argmin())
                position = self._places[tag][at]
                if (bits[at], position) < (least[row], positions[row]):
                    least[row], positions[row] = bits[at], position
        return Nearest(positions, np.where(positions < 0, np.inf, _CODE.normalised(least)))


class Scan:
    """The product's flat scan: all found images of a tag at once."""

    def __init__(self, protected: NDArray[np.uint8], places: Mapping[str, NDArray[np.int64]]) -> None:
        """Take encoded fingerprints (P, 180), and which of them each table holds."""
        self._places = dict(places)
        self._indexes = {tag: FlatIndex(protected[rows], _CODE) for tag, rows in places.items()}

    def nearest(self, found: NDArray[np.uint8], tags: pa.ChunkedArray, coverage: float | None) -> Nearest:
        """The nearest of each found image (F, 180) in the tables of its tags; with no coverage, in `EVERYTHING`."""
        positions = np.full(len(found), -1, dtype=np.int64)
        distances = np.full(len(found), np.inf)
        names = list(self._places)
        if coverage is None:
            looked_up = np.ones((len(found), 1), dtype=np.bool_)
        else:
            looked_up = tags_within_coverage(tags, coverage, names)
        for column, tag in enumerate(names):
            rows = np.flatnonzero(looked_up[:, column])
            nearest = self._indexes[tag].nearest(found[rows])
            position = self._places[tag][nearest.positions]
            ties = (nearest.distances == distances[rows]) & (position < positions[rows])
            nearer = (nearest.distances < distances[rows]) | ties
            positions[rows[nearer]] = position[nearer]
            distances[rows[nearer]] = nearest.distances[nearer]
        return Nearest(positions, distances)


def tag_maps(tags: Sequence[Mapping[str, float]]) -> pa.ChunkedArray:
    """Probabilities as a column of the lake's tables."""
    return pa.chunked_array([pa.array([list(one.items()) for one in tags], type=TAGS)])


def protected_of(photos: int, wanted: int) -> int:
    """How many of so many photos are protected: as many as wanted, if a tenth as many are left over to be others."""
    return wanted if photos >= 1.1 * wanted else photos * 5 // 6


def gathered(experiment: Experiment) -> Material:
    """Draw who is protected and what is found, as for Table 2, and describe them."""
    photos = experiment.photos
    protected = protected_of(len(photos), PROTECTED)
    drawn = trial(photos, protected, min(max(DETECTED), 2 * protected), seed=0)
    tagger = Tagger(load_settings().prepared_dir / "models")
    taken: list[float] = []
    codes: list[bytes] = []
    tags: list[dict[str, float]] = []
    for number in range(protected + len(drawn.found)):
        of_found = number - protected
        picture = drawn.protected[number].image() if of_found < 0 else experiment.cache.picture(drawn.found[of_found])
        begun = time.thread_time()
        tags.append(tagger.probabilities(picture))
        taken.append(time.thread_time() - begun)
        codes.append(_ALGORITHM.encode(_ALGORITHM.fingerprint(picture)))
    every = np.frombuffer(b"".join(codes), dtype=np.uint8).reshape(-1, _ALGORITHM.code_bytes)
    best = [max(sorted(one), key=lambda tag: one[tag]) for one in tags[:protected]]
    return Material(every[:protected], best, every[protected:], tags[protected:], drawn.originals, median(taken))


@dataclass(frozen=True)
class Seconds:
    """Of one matching of all found images, without tags and with."""

    loop_without: float
    loop_with: float
    scan_without: float
    scan_with: float

    @property
    def loop_share(self) -> float:
        """Percent of the loop's time that is left with tags."""
        return 100 * self.loop_with / self.loop_without

    @property
    def scan_share(self) -> float:
        """Percent of the flat scan's time that is left with tags."""
        return 100 * self.scan_with / self.scan_without


def timed(material: Material, coverage: float) -> Seconds:
    """The four times, taken in turns.

    Raises:
        AssertionError: loop and scan find different images.
    """
    by_tag = places_by_tag(material.protected_tags)
    whole = {EVERYTHING: np.arange(len(material.protected))}
    column = tag_maps(material.found_tags)
    works = [
        partial(Loop(material.protected, whole).nearest, material.found, material.found_tags, None),
        partial(Loop(material.protected, by_tag).nearest, material.found, material.found_tags, coverage),
        partial(Scan(material.protected, whole).nearest, material.found, column, None),
        partial(Scan(material.protected, by_tag).nearest, material.found, column, coverage),
    ]
    answers = [work() for work in works]
    for loop, scan in ((answers[0], answers[2]), (answers[1], answers[3])):
        if not np.array_equal(loop.positions, scan.positions):
            raise AssertionError("the loop and the flat scan find different images")
    return Seconds(*seconds(*works, clock=time.process_time))


@dataclass(frozen=True)
class Found:
    """What a coverage costs and finds; shares in percent.

    Attributes:
        tags: tables that are looked into, on average.
        compared: pairs that are compared, of all pairs.
        reached: copies whose original is among the images that they are compared with.
        copies: copies whose nearest image is their original and lies within Th.
        others: other images within Th of some protected one.
    """

    tags: float
    compared: float
    reached: float
    copies: float
    others: float


def counted(material: Material, coverage: float | None, threshold: float) -> Found:
    """Count what is compared and what is found; with no coverage, without tags."""
    by_tag = places_by_tag(material.protected_tags)
    copies = material.originals >= 0
    if coverage is None:
        searched = np.ones((len(material.found), len(by_tag)), dtype=np.bool_)
        reached = np.ones(int(copies.sum()), dtype=np.bool_)
    else:
        searched = tags_within_coverage(tag_maps(material.found_tags), coverage, list(by_tag))
        column = {tag: place for place, tag in enumerate(by_tag)}
        own = [column[material.protected_tags[original]] for original in material.originals[copies]]
        reached = searched[copies, own]
    places = {EVERYTHING: np.arange(len(material.protected))} if coverage is None else by_tag
    nearest = Scan(material.protected, places).nearest(material.found, tag_maps(material.found_tags), coverage)
    within = nearest.distances <= threshold
    right = within & (nearest.positions == material.originals)
    sizes = np.array([len(rows) for rows in by_tag.values()])
    return Found(
        tags=float(searched.sum(axis=1).mean()),
        compared=100 * float((searched @ sizes).mean()) / len(material.protected),
        reached=100 * float(reached.mean()),
        copies=100 * float(right[copies].mean()),
        others=100 * float(within[~copies].mean()),
    )


def figure_4(material: Material, times: Mapping[int, Seconds]) -> list[Row]:
    """A row for each number of found images; the paper's share where our numbers are the paper's."""
    theirs = len(material.protected) == PROTECTED
    return [
        {
            "detected": count,
            "loop without tags, s": one.loop_without,
            "with, s": one.loop_with,
            **beside_paper(PAPER_SHARES.get(count) if theirs else None, one.loop_share),
            "scan without tags, s": one.scan_without,
            "with tags, s": one.scan_with,
            "scan's time left, %": one.scan_share,
        }
        for count, one in times.items()
    ]


def coverages(found: Mapping[float | None, Found], times: Mapping[float, Seconds]) -> list[Row]:
    """A row for each tau, and one without tags."""
    return [
        {
            "tau": _tau_words(tau),
            "tables looked into": one.tags,
            "pairs compared, %": one.compared,
            "loop's time left, %": times[tau].loop_share if tau is not None else 100.0,
            "scan's time left, %": times[tau].scan_share if tau is not None else 100.0,
            "original among them, %": one.reached,
            "copies found, %": one.copies,
            "others within Th, %": one.others,
        }
        for tau, one in found.items()
    ]


def price_of_tags(material: Material, times: Mapping[float, Seconds]) -> list[Row]:
    """What a tag costs and saves for one found image, and for how many protected ones it would pay."""
    count, protected = len(material.found), len(material.protected)
    rows: list[Row] = []
    for tau, one in times.items():
        for name, without, with_tags in (
            ("loop", one.loop_without, one.loop_with),
            ("flat scan", one.scan_without, one.scan_with),
        ):
            saved = (without - with_tags) / count
            rows.append(
                {
                    "tau": _tau_words(tau),
                    "matching": name,
                    "without tags, ms": 1e3 * without / count,
                    "saved by tags, ms": 1e3 * saved,
                    "tagging, ms": 1e3 * material.tagging,
                    "pays from protected images": f"{material.tagging / saved * protected:,.0f}" if saved > 0 else "",
                }
            )
    return rows


def drawn(times: Mapping[int, Seconds], found: Mapping[float | None, Found]) -> Figure:
    """The paper's figure, and what it leaves out: the copies found."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    counts = list(times)
    left.plot(counts, [one.loop_without for one in times.values()], "o-", color="C3", label="without tags")
    left.plot(counts, [one.loop_with for one in times.values()], "o-", color="C0", label="best tag alone")
    left.set(title="Figure 4: the loop", xlabel="detected images", ylabel="processor seconds", ylim=(0, None))
    left.legend()
    compared = [one.compared for one in found.values()]
    right.plot(compared, [one.reached for one in found.values()], "o-", color="0.6", label="original among them")
    right.plot(compared, [one.copies for one in found.values()], "o-", color="C0", label="copies found")
    # Beyond .99 the points lie on each other.
    for tau, one in ((tau, one) for tau, one in found.items() if tau is not None and tau <= 0.99):
        right.annotate(_tau_words(tau), (one.compared, one.copies), rotation=45, fontsize=7)
    right.set(title="What tags lose", xlabel="pairs compared, %", ylabel="% of the copies")
    right.legend(loc="lower right")
    return figure


def result(experiment: Experiment) -> Result:
    """The whole experiment."""
    faiss.omp_set_num_threads(1)
    material = gathered(experiment)
    most = len(material.found)
    counts = sorted({min(count, most) for count in DETECTED})
    by_count = {count: timed(material.first(count), BEST_ONLY) for count in counts}
    by_tau = {tau: timed(material, tau) for tau in TAUS}
    found = {tau: counted(material, tau, _ALGORITHM.threshold) for tau in (*TAUS, None)}
    product = load_settings().tag_coverage
    copies = int((material.originals >= 0).sum())
    sizes = {tag: len(rows) for tag, rows in places_by_tag(material.protected_tags).items()}
    tables = [
        Table(
            "Figure 4: time with tags and without",
            figure_4(material, by_count),
            f"{len(material.protected):,} protected images, the best tag alone. Paper and ours: what is left of the "
            "loop's time with tags, in percent. Theirs falls from 2,000 to 4,000 detected images. The share of the "
            "pairs that are compared does not depend on how many images are detected, so ours should not fall: "
            f"measured again with {most:,}, for the next table, it is {by_tau[BEST_ONLY].loop_share:.2f}. It "
            "depends on how the protected images spread over the tags; here: "
            + ", ".join(f"{tag} {size:,}" for tag, size in sizes.items())
            + ".",
        ),
        Table(
            "What tags lose",
            coverages(found, by_tau),
            f"{most:,} detected images, {copies:,} of them copies by one mild edit; the others show what nobody "
            f"protects. A copy is found when its nearest image is its original and lies within Th = "
            f"{_ALGORITHM.threshold} (the paper's rule). The product's tau is {product}. At tau = 1 every tag of a "
            "probability above 0 is looked up.",
        ),
        Table(
            "What a tag costs",
            price_of_tags(material, {tau: by_tau[tau] for tau in (BEST_ONLY, product) if tau in by_tau}),
            "For one detected image. Beside the time of matching stands the time of tagging, which the paper leaves "
            "out. The last column extrapolates: the number of protected images from which on a tag saves more than it "
            "costs, if the times of matching grow as the number does.",
        ),
    ]
    return Result(
        name="tag_pruning",
        title="Matching with tags and without (SRPITP, Figure 4)",
        question=" ".join(__doc__.split("\n\n")[2].split()),
        command=experiment.command,
        photos=experiment.described_photos,
        tables=tables,
        figure=drawn(by_count, found),
    )


def _tau_words(tau: float | None) -> str:
    if tau is None:
        return "no tags"
    return "best tag alone" if tau == BEST_ONLY else f"{tau:g}"


def _never() -> int:
    return _CODE.search_bytes * 8 + 1


def _words(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Search codes of encoded fingerprints, filled up to whole words; (N, words)."""
    expanded = _CODE.expanded(codes)
    spare = -expanded.shape[1] % (_BITS_A_WORD // 8)
    return np.pad(expanded, ((0, 0), (0, spare))).view(np.uint64)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    with started("benchmarks.tag_pruning", __doc__.splitlines()[0], arguments) as experiment:
        publish(result(experiment), experiment.results)


if __name__ == "__main__":
    main()
