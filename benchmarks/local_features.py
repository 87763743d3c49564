"""Local features (`copywatch.features`): whether their votes find the originals of edited copies, and what they cost.

All photos are protected, but for three that fill the collages and for some that are kept out as unrelated. Copies are
made of photos of the half "report"; the codes were learned on the other half (train_itq.md). A copy's points are looked
up by their codes, as they are and mirrored, and vote for protected photos. "Rank 1": the copy's original has most
votes; "rank 20": it is one of the 20 that are handed on to be verified. Votes alone decide nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.copies import Copy, CopyCache
from benchmarks.edits import EDITS
from benchmarks.experiment import Experiment, edited_sources, some, started
from benchmarks.photos import MOST_BYTES, MOST_PIXELS, Photo, half, read_real_copies
from benchmarks.report import Result, Row, Table, publish
from copywatch.decode import decode
from copywatch.features import extract
from copywatch.features.extract import DetectedPoints, Keypoints, detected_points, keypoints, protected_points
from copywatch.features.points import CODE_BYTES, POSITION, Points, packed
from copywatch.features.thumbnail import thumbnail
from copywatch.features.votes import (
    LEAST_REFERENCE,
    LEAST_VOTES,
    MOST_CANDIDATES,
    NEIGHBOURS,
    Candidate,
    Hits,
    candidates,
)

EDITED = 360
"""Photos that the other experiments edit; their copies may be in the cache."""
SOURCES = 24
UNRELATED = 200
LISTS = 1024
PROBES = 16
POINTS_A_LIST = 40
COMPARED_EXACTLY = 40
TIMED = 30
MEASURED = 120
SELECTED_ON = 15
SELECTED_EDITS = ("resize 0.3", "crop 50 %", "screenshot", "collage of 2", "collage of 4")
BOUNDS = (2.0, 5.0, LEAST_VOTES, 12.0, 20.0, 40.0)
STORAGE_GOAL = 15_000


class CodeIndex:
    """Codes of protected pictures: faiss's inverted lists, probing 16 of up to 1,024, or all of them."""

    def __init__(self, pictures: Sequence[NDArray[np.uint8]], *, exact: bool = False) -> None:
        """Take each picture's codes, uint8 (N, 16)."""
        codes = np.concatenate(list(pictures))
        self._owner = np.repeat(np.arange(len(pictures)), [len(one) for one in pictures])
        self._count = len(pictures)
        # Kept, since the inverted lists do not own it.
        self._flat = faiss.IndexBinaryFlat(CODE_BYTES * 8)
        self._lists = 0 if exact else max(1, min(LISTS, len(codes) // POINTS_A_LIST))
        self._index = self._inverted_lists(codes) if self._lists else self._flat
        self._index.add(codes)

    @property
    def searched(self) -> str:
        """How, in words."""
        return f"{PROBES} of {self._lists:,} lists" if self._lists else "exactly"

    def _inverted_lists(self, codes: NDArray[np.uint8]) -> faiss.IndexBinary:
        lists = faiss.IndexBinaryIVF(self._flat, CODE_BYTES * 8, self._lists)
        lists.nprobe = PROBES
        lists.train(codes)
        return lists

    def add(self, codes: NDArray[np.uint8]) -> int:
        """One picture more; its number."""
        self._index.add(codes)
        self._owner = np.concatenate([self._owner, np.full(len(codes), self._count)])
        self._count += 1
        return self._count - 1

    def hits(self, points: Points) -> Hits:
        """The nearest codes of each point."""
        if not len(points):
            nothing = np.empty((0, NEIGHBOURS), dtype=np.int64)
            return Hits(nothing, nothing)
        distances, found = self._index.search(points.codes, NEIGHBOURS)
        return Hits(np.where(found < 0, -1, self._owner[found]), distances)

    def candidates(self, detected: DetectedPoints) -> list[Candidate]:
        """The 20 pictures with most votes, however few."""
        return candidates(self.hits(detected.upright), self.hits(detected.mirrored), least=0)


@dataclass(frozen=True)
class Lookups:
    """What was found of each copy.

    Attributes:
        source: int64 (S,), which source; edit: int64 (S,), place in EDITS.
        rank: int64 (S,), the original's place from 1 on; 0 where it is not among the 20.
        votes: float64 (S,), the original's.
        wrong: float64 (S,), most votes of another photo.
    """

    source: NDArray[np.int64]
    edit: NDArray[np.int64]
    rank: NDArray[np.int64]
    votes: NDArray[np.float64]
    wrong: NDArray[np.float64]


@dataclass(frozen=True)
class Material:
    """Photos with their points, and copies with what was found of them.

    Attributes:
        protected: photos; codes: of each, uint8 (N, 16); strongest: of the strongest points, coarse or not.
        sources: photos of which copies were made; lookups: of the copies.
        unrelated: votes of the candidates of each unrelated photo.
        chance: int64, bits to the tenth neighbour of each point of those photos.
        seconds_a_point: of a search.
        exact: of some copies, the original's rank by inverted lists and by an exact search; seconds of it a point.
        index: of the protected photos.
    """

    protected: list[Photo]
    codes: Sequence[NDArray[np.uint8]]
    strongest: Sequence[NDArray[np.uint8]]
    sources: list[Photo]
    lookups: Lookups
    unrelated: list[list[float]]
    chance: NDArray[np.int64]
    seconds_a_point: float
    exact: list[tuple[int, int]]
    exact_seconds_a_point: float
    index: CodeIndex


def _single_thread() -> None:
    cv2.setNumThreads(1)
    faiss.omp_set_num_threads(1)


def _protected(photo: Photo) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Codes of a protected photo's points, and of as many that are simply the strongest."""
    found = keypoints(photo.image())
    strongest = np.arange(min(len(found.xy), extract.PROTECTED_POINTS))
    return found.chosen(extract.kept(found.scale)).points().codes, found.chosen(strongest).points().codes


def _detected(photo: Photo) -> DetectedPoints:
    return detected_points(photo.image())


def _copies(task: tuple[Photo, tuple[Photo, ...], CopyCache]) -> list[DetectedPoints]:
    photo, fillers, cache = task
    return [detected_points(cache.picture(Copy(photo, edit, seed=0, fillers=fillers))) for edit in EDITS]


def _rank(found: Sequence[Candidate], image: int) -> int:
    return next((place for place, one in enumerate(found, start=1) if one.image == image), 0)


def gather(experiment: Experiment) -> Material:
    """Make the copies, extract all points, and look the copies up."""
    edited, fillers = edited_sources(experiment.photos, EDITED)
    sources = some(half(edited, "report"), SOURCES)
    rest = [photo for photo in half(experiment.photos, "report") if photo not in edited and photo not in fillers]
    unrelated = some(rest, UNRELATED)
    kept_out = {photo.name for photo in (*unrelated, *fillers)} - {photo.name for photo in sources}
    protected = [photo for photo in experiment.photos if photo.name not in kept_out]
    places = {photo.name: place for place, photo in enumerate(protected)}
    _single_thread()
    rows: list[tuple[int, int, int, float, float]] = []
    sampled: list[tuple[int, DetectedPoints, int]] = []
    seconds, points = 0.0, 0
    with ProcessPoolExecutor(initializer=_single_thread) as pool:
        codes, strongest = zip(*pool.map(_protected, protected, chunksize=16), strict=True)
        index = CodeIndex(codes)
        sampling = max(1, len(sources) * len(EDITS) // COMPARED_EXACTLY)
        tasks = [(photo, fillers, experiment.cache) for photo in sources]
        for source, copies in enumerate(pool.map(_copies, tasks)):
            image = places[sources[source].name]
            for edit, detected in enumerate(copies):
                begin = time.thread_time()
                found = index.candidates(detected)
                seconds += time.thread_time() - begin
                points += 2 * len(detected.upright)
                rank = _rank(found, image)
                votes = found[rank - 1].votes if rank else 0.0
                wrong = max((one.votes for one in found if one.image != image), default=0.0)
                rows.append((source, edit, rank, votes, wrong))
                if len(rows) % sampling == 0:
                    sampled.append((image, detected, rank))
        strangers = list(pool.map(_detected, unrelated))
    exact_index = CodeIndex(codes, exact=True)
    begin = time.process_time()
    exact = [(rank, _rank(exact_index.candidates(detected), image)) for image, detected, rank in sampled]
    exact_seconds = time.process_time() - begin
    table = np.array(rows)
    return Material(
        protected=protected,
        codes=codes,
        strongest=strongest,
        sources=sources,
        lookups=Lookups(
            table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2].astype(np.int64), *table[:, 3:].T
        ),
        unrelated=[[one.votes for one in index.candidates(detected)] for detected in strangers],
        chance=np.concatenate([[0], *(index.hits(detected.upright).distances[:, -1] for detected in strangers)])[1:],
        seconds_a_point=seconds / max(1, points),
        exact=exact,
        exact_seconds_a_point=exact_seconds / max(1, sum(2 * len(detected.upright) for _, detected, _ in sampled)),
        index=index,
    )


def _found(lookups: Lookups, chosen: NDArray[np.bool_]) -> Row:
    rank, votes, wrong = lookups.rank[chosen], lookups.votes[chosen], lookups.wrong[chosen]
    return {
        "copies": int(chosen.sum()),
        "rank 1 %": round(100 * float(np.mean(rank == 1)), 2),
        f"rank {MOST_CANDIDATES} %": round(100 * float(np.mean(rank > 0)), 2),
        f"and votes >= {LEAST_VOTES:g} %": round(100 * float(np.mean((rank > 0) & (votes >= LEAST_VOTES))), 2),
        "votes, median": round(float(np.median(votes)), 1),
        "votes, least 2 %": round(float(np.quantile(votes, 0.02)), 1),
        "best wrong photo's, median": round(float(np.median(wrong)), 1),
    }


def kind_rows(material: Material) -> list[Row]:
    """All copies by the kind of their edit, and those of look-alikes and of the others."""
    lookups = material.lookups
    kind = np.array([one.kind for one in EDITS])[lookups.edit]
    alike = np.array([photo.group == "look-alike" for photo in material.sources])[lookups.source]
    chosen: dict[str, NDArray[np.bool_]] = {name: kind == name for name in dict.fromkeys(one.kind for one in EDITS)}
    chosen |= {"all, of photos": ~alike, "all, of look-alikes": alike, "all": np.ones(len(kind), dtype=bool)}
    return [{"copies by": name, **_found(lookups, which)} for name, which in chosen.items() if which.any()]


def edit_rows(material: Material) -> list[Row]:
    """Each edit."""
    return [{"edit": one.name, **_found(material.lookups, material.lookups.edit == n)} for n, one in enumerate(EDITS)]


def bound_rows(material: Material) -> list[Row]:
    """What a least number of votes keeps."""
    return [
        {
            "votes at least": bound,
            "originals kept %": round(100 * float(np.mean(material.lookups.votes >= bound)), 3),
            "candidates an unrelated photo": round(
                float(np.mean([sum(votes >= bound for votes in one) for one in material.unrelated] or [0])), 2
            ),
        }
        for bound in BOUNDS
    ]


def chance_rows(material: Material) -> list[Row]:
    """How near the tenth neighbour of a point is whose picture is not protected."""
    shares = (0.001, 0.01, 0.1, 0.5) if len(material.chance) else ()
    return [
        {"points of unrelated photos": f"{share:.1%} nearest", "bits": int(np.quantile(material.chance, share))}
        for share in shares
    ]


def selection_rows(experiment: Experiment, material: Material) -> list[Row]:
    """Other ways to choose points, on a few edits of a few sources."""
    strongest = CodeIndex(material.strongest)
    ways: list[tuple[str, str, CodeIndex, Callable[[Keypoints], NDArray[np.int64]]]] = [
        ("half of them coarse", "in turns from cells", material.index, _in_turns),
        ("strongest", "in turns from cells", strongest, _in_turns),
        ("half of them coarse", "strongest, 15 a cell", material.index, _strongest_of_cells),
        ("half of them coarse", "strongest", material.index, _strongest),
        ("strongest", "strongest", strongest, _strongest),
    ]
    _, fillers = edited_sources(experiment.photos, EDITED)
    places = {photo.name: place for place, photo in enumerate(material.protected)}
    copies = [
        (places[photo.name], edit.name, keypoints(experiment.cache.picture(Copy(photo, edit, 0, fillers))))
        for photo in some(material.sources, SELECTED_ON)
        for edit in EDITS
        if edit.name in SELECTED_EDITS
    ]
    rows: list[Row] = []
    for protected, detected, index, choose in ways:
        ranks: dict[str, list[int]] = {edit: [] for _, edit, _ in copies}
        for image, edit, found in copies:
            taken = found.chosen(choose(found))
            points = DetectedPoints(taken.points(), taken.mirrored().points())
            ranks[edit].append(_rank(index.candidates(points), image))
        shares = {f"{edit} %": round(100 * float(np.mean(np.array(of) == 1)), 1) for edit, of in ranks.items()}
        rows.append({"protected": protected, "detected": detected, **shares})
    return rows


def _in_turns(found: Keypoints) -> NDArray[np.int64]:
    return extract.spread(found.xy, found.size)


def _strongest(found: Keypoints) -> NDArray[np.int64]:
    return np.arange(min(len(found.xy), extract.DETECTED_POINTS))


def _strongest_of_cells(found: Keypoints) -> NDArray[np.int64]:
    cells = np.minimum(found.xy * extract.GRID // np.array(found.size), extract.GRID - 1).astype(np.int64) @ [
        1,
        extract.GRID,
    ]
    kept = [np.flatnonzero(cells == cell)[: extract.CELL_POINTS] for cell in range(extract.GRID**2)]
    return np.sort(np.concatenate(kept))[: extract.DETECTED_POINTS]


def real_rows(experiment: Experiment, material: Material) -> list[Row]:
    """Pairs that strangers made: a is protected beside all the photos, b is looked up."""
    counts: dict[str, list[tuple[int, float]]] = {}
    numbers: dict[str, int] = {}
    for pair in read_real_copies(experiment.folder):
        one, other = (
            decode(path.read_bytes(), max_pixels=MOST_PIXELS, max_bytes=MOST_BYTES).rgb for path in (pair.a, pair.b)
        )
        if str(pair.a) not in numbers:
            numbers[str(pair.a)] = material.index.add(protected_points(one).codes)
        found = material.index.candidates(detected_points(other))
        rank = _rank(found, numbers[str(pair.a)])
        counts.setdefault(pair.label, []).append((rank, found[rank - 1].votes if rank else 0.0))
    return [
        {
            "label": label,
            "pairs": len(found),
            "rank 1": sum(rank == 1 for rank, _ in found),
            f"rank {MOST_CANDIDATES}": sum(rank > 0 for rank, _ in found),
            f"and votes >= {LEAST_VOTES:g}": sum(rank > 0 and votes >= LEAST_VOTES for rank, votes in found),
        }
        for label, found in counts.items()
    ]


def _milliseconds(describe: Callable[[Image.Image], object], images: Sequence[Image.Image]) -> float:
    """Processor time of one image, the mean; a machine that others use, too, tells no other time."""
    begin = time.process_time()
    for image in images:
        describe(image)
    return round(1e3 * (time.process_time() - begin) / max(1, len(images)), 1)


def cost_rows(experiment: Experiment, material: Material) -> list[Row]:
    """Bytes and times on one core."""
    _single_thread()
    every = [photo.image() for photo in some(experiment.photos, MEASURED)]
    decoded = (photo.image() for photo in some(experiment.photos, len(experiment.photos)))
    large = list(islice((image for image in decoded if max(image.size) >= extract.LONGEST_SIDE), TIMED))
    pictures = np.array([len(thumbnail(image)) for image in every])
    stored = pictures + [sum(map(len, packed(protected_points(image)))) for image in every]
    counts = np.array([len(codes) for codes in material.codes])
    found = np.array([len(keypoints(image).xy) for image in every])
    timed = {f"{len(large)} images of 512 pixels and more": large, "any images": every[:: MEASURED // TIMED]}
    rows: list[tuple[str, float, str]] = []
    for name, images in timed.items():
        rows.append((f"points as protected, {name}", _milliseconds(protected_points, images), "ms"))
        rows.append((f"points as detected, both hands, {name}", _milliseconds(detected_points, images), "ms"))
        rows.append((f"thumbnail, {name}", _milliseconds(thumbnail, images), "ms"))
    rows += [
        ("a point", CODE_BYTES + POSITION.itemsize, "bytes"),
        ("thumbnail, mean", round(float(pictures.mean())), "bytes"),
        ("points and thumbnail, mean", round(float(stored.mean())), "bytes"),
        ("points and thumbnail, 95 % have less", round(float(np.quantile(stored, 0.95))), "bytes"),
        ("points and thumbnail, most", int(stored.max()), "bytes"),
        (f"images with more than {STORAGE_GOAL:,} bytes", round(100 * float(np.mean(stored > STORAGE_GOAL)), 1), "%"),
        ("what SIFT finds, median", round(float(np.median(found))), "points"),
        ("protected images with fewer than 100 points", round(100 * float(np.mean(counts < 100)), 2), "%"),
        ("protected images with fewer than 50 points", round(100 * float(np.mean(counts < 50)), 2), "%"),
        ("protected image with fewest", int(counts.min()), "points"),
        (f"searching a point, {material.index.searched}", round(1e6 * material.seconds_a_point, 1), "µs"),
        ("searching a point exactly", round(1e6 * material.exact_seconds_a_point, 1), "µs"),
        ("points searched among", int(counts.sum()), "points"),
    ]
    return [{"what": what, "figure": f"{figure:,} {unit}"} for what, figure, unit in rows]


def exact_rows(material: Material) -> list[Row]:
    """Whether the inverted lists lose what an exact search finds."""
    lists, exact = np.array(material.exact).reshape(-1, 2).T
    return [
        {"search": name, "copies": len(rank), "rank 1": int((rank == 1).sum()), "rank 20": int((rank > 0).sum())}
        for name, rank in ((material.index.searched, lists), ("exact", exact))
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment."""
    with started("benchmarks.local_features", (__doc__ or "").splitlines()[0], arguments) as experiment:
        material = gather(experiment)
        alike = sum(photo.group == "look-alike" for photo in material.sources)
        publish(
            Result(
                name="local_features",
                title="Local features",
                question=" ".join((__doc__ or "").split()),
                command=experiment.command,
                photos=experiment.described_photos,
                tables=[
                    Table(
                        "Copies by kind of edit",
                        kind_rows(material),
                        f"Each of {len(EDITS)} edits of {len(material.sources)} photos, {alike} of them look-alikes; "
                        f"{len(material.protected):,} protected photos.",
                    ),
                    Table("Each edit", edit_rows(material)),
                    Table(
                        "How many votes make a candidate",
                        bound_rows(material),
                        f"{len(material.unrelated)} unrelated photos, of the half “report”, unedited; of each at most "
                        f"{MOST_CANDIDATES} candidates.",
                    ),
                    Table(
                        "How near chance comes",
                        chance_rows(material),
                        f"The tenth neighbour of a point; no nearer than {LEAST_REFERENCE} bits counts.",
                    ),
                    Table(
                        "Other ways to choose the points: rank 1",
                        selection_rows(experiment, material),
                        f"{min(SELECTED_ON, len(material.sources))} of the sources. The first row is the product.",
                    ),
                    Table("The inverted lists beside an exact search", exact_rows(material)),
                    Table("Copies that strangers made", real_rows(experiment, material)),
                    Table("Cost", cost_rows(experiment, material), "Times are processor time of one core."),
                ],
            ),
            experiment.results,
        )


if __name__ == "__main__":
    main()
