"""Pairs of pictures, measured by `copywatch.verification`: what its rule is learned from, and judged by.

Three sources. Edited copies and unrelated pictures are looked up among protected photos as the product does, by votes
and by the first stage, and each candidate is compared. Pairs of photos are compared directly, whatever a search would
have made of them. So are the pairs that strangers made.

A row is a pair; its columns are those of `COLUMNS`, then `copywatch.verification.verdict.Measures`, which are NaN where
no transform was found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd

from benchmarks.experiment import FILLERS, some
from benchmarks.local_features import CodeIndex
from benchmarks.pair_sides import (
    COPIES,
    FEATURES,
    MEASURED,
    Posted,
    Protected,
    Registered,
    Seen,
    Worker,
    copies_of,
    decoded,
    digest_of,
    points_of_photo,
    pool_of,
    protected_of,
    protected_photo,
    remembered,
    seen_of,
    worker,
)
from benchmarks.photos import Half, Photo, half, read_real_copies
from benchmarks.strong_edits import KINDS
from copywatch.features.extract import DetectedPoints
from copywatch.features.points import unpacked_codes
from copywatch.features.votes import candidates
from copywatch.matching.candidates import CandidateIndex, Images
from copywatch.matching.score import RESCORED_THRESHOLD
from copywatch.verification.model import Model
from copywatch.verification.sides import LONGEST_SIDE, Found, Original
from copywatch.verification.verdict import Judgement, Measures
from copywatch.verification.verify import ENOUGH_POINTS, LEAST_BLOCKS, compare, original_of

CHUNK = 32
"""Photos described, or compared with all others, in one task."""

COLUMNS = ("shown_photo", "edit", "kind", "original", "copy", "votes", "score", "identical", "few")
"""shown_photo: name of what the found picture shows; edit, kind: of it; original: name of the protected photo; copy:
the two are of one scene; votes: 0 where the search did not hand the pair on; score: of the first stage, NaN where it
did not let the pair through, or lies beyond Th; identical: T = 0; few: one side has few points."""
MEASURES = tuple(one.name for one in fields(Measures))

UNRELATED = "unrelated"
UNRELATED_LOOK_ALIKE = "unrelated look-alike"
"""A picture that shows a look-alike which is not protected, while others are: the same product in another make."""
UNRELATED_EDITS = (None, "meme with a band", "screenshot, web", "collage of 4")
"""What unrelated photos are posted as; None: as they are."""


# --- what is looked up and compared -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """Who takes part in one half.

    Attributes:
        protected: photos; posted: what is looked up among them.
    """

    protected: list[Photo]
    posted: list[Posted]


def sample(photos: Sequence[Photo], which: Half, sources: int, unrelated: int) -> Sample:
    """Copies of photos of one half, and photos of that half that are kept out of the protected ones.

    To learn, only this half is protected; to report, all photos are but those that are kept out. What fills collages
    is kept out, too: else it would be found rightly. A sixth of the sources are look-alikes.

    Args:
        photos: pairwise different ones.
        which: half.
        sources: photos of which every edit is made.
        unrelated: photos kept out, at most a quarter of the half, but no fewer than fill a collage of one of them.
    """
    own = half(photos, which)
    # An unrelated photo in a collage of four needs three others.
    kept_out = some(own, max(FILLERS + 1, min(unrelated, len(own) // 4)))
    outside = {photo.name for photo in kept_out}
    rest = [photo for photo in own if photo.name not in outside]
    edited = some([photo for photo in rest if photo.group == "photo"], sources - sources // 6)
    edited += some([photo for photo in rest if photo.group == "look-alike"], sources // 6)
    every = tuple(edit.name for kind in KINDS.values() for edit in kind)
    posts = [Posted(photo, every, _fillers(photo, kept_out)) for photo in edited]
    posts += [Posted(photo, UNRELATED_EDITS, _fillers(photo, kept_out), UNRELATED) for photo in kept_out]
    among = own if which == "choose" else photos
    return Sample([photo for photo in among if photo.name not in outside], posts)


def unrelated_pictures(posts: Sequence[Posted], look_alike: bool) -> int:
    """How many pictures of unrelated photos show a look-alike, or show none."""
    unrelated = [(post, name) for post in posts if post.kind == UNRELATED for name in post.edits]
    return sum(_shows_look_alike(post, name) == look_alike for post, name in unrelated)


def _shows_look_alike(post: Posted, name: str | None) -> bool:
    """In a collage any of its photos may be one."""
    shown = (post.photo, *post.fillers) if name and "collage" in name else (post.photo,)
    return any(photo.group == "look-alike" for photo in shown)


def _fillers(photo: Photo, pool: Sequence[Photo]) -> tuple[Photo, ...]:
    others = [one for one in pool if one.name != photo.name]
    places = np.random.default_rng(int(photo.digest[:8], 16)).permutation(len(others))[:FILLERS]
    return tuple(others[int(place)] for place in places)


def protected_rows(photos: Sequence[Photo], folder: Path | None) -> list[Protected]:
    """Each photo as the lake keeps it."""
    with pool_of(Worker(folder)) as pool:
        return list(pool.map(_protected, photos, chunksize=CHUNK))


def _protected(photo: Photo) -> Protected:
    result: Protected = remembered(protected_photo, photo, FEATURES)
    return result


def registered(photos: Sequence[Photo], folder: Path | None) -> Registered:
    """Protected photos as both stages search them."""
    rows = protected_rows(photos, folder)
    faiss.omp_set_num_threads(1)
    return Registered(
        photos=photos,
        originals=[original_of(one.row) for one in rows],
        codes=CodeIndex([unpacked_codes(one.row["codes"]) for one in rows]),
        first_stage=CandidateIndex(Images([one.views for one in rows])),
    )


def looked_up(posts: Sequence[Posted], register: Registered, folder: Path | None) -> pd.DataFrame:
    """A row for each pair that either stage hands on, and for each copy's original, handed on or not."""
    with pool_of(Worker(folder, register)) as pool:
        found = list(pool.map(_looked_up, posts))
    pairs = _frame([row for rows in found for row in rows])
    alike = {
        (post.photo.name, name or "none")
        for post in posts
        if post.kind == UNRELATED
        for name in post.edits
        if _shows_look_alike(post, name)
    }
    of_alike = [(row.kind == UNRELATED) and (row.shown_photo, row.edit) in alike for row in pairs.itertuples()]
    return pairs.assign(kind=pairs.kind.mask(of_alike, UNRELATED_LOOK_ALIKE))


def _looked_up(post: Posted) -> list[dict[str, Any]]:
    register = worker().registered
    assert register is not None
    result: list[dict[str, Any]] = remembered(_pairs_of_post, post, MEASURED + register.digest)
    return result


def _pairs_of_post(post: Posted) -> list[dict[str, Any]]:
    register = worker().registered
    assert register is not None
    pictures: list[Seen] = remembered(copies_of, post, COPIES)
    rows: list[dict[str, Any]] = []
    kinds = {edit.name: kind for kind, of_kind in KINDS.items() for edit in of_kind}
    for name, seen in zip(post.edits, pictures, strict=True):
        about = {
            "shown_photo": post.photo.name,
            "edit": name or "none",
            "kind": post.kind or kinds[str(name)],
        }
        rows += [{**about, **row} for row in pairs_of(seen, register, post.photo.scene)]
    return rows


def pairs_of(seen: Seen, register: Registered, scene: str) -> list[dict[str, Any]]:
    """The candidates of one picture, compared.

    Args:
        seen: the picture.
        register: what it is looked up among.
        scene: of which `Photo.scene` the copies are; their rows are there in any case.
    """
    votes = _votes(register.codes, seen.points)
    first = register.first_stage.within(Images([seen.views]), RESCORED_THRESHOLD)
    scores = {int(place): at for at, place in enumerate(first.protected)}
    own = {place for place, photo in enumerate(register.photos) if photo.scene == scene}
    found = seen.found()
    rows: list[dict[str, Any]] = []
    for place in sorted(set(votes) | set(scores) | own):
        original = register.originals[place]
        handed_on = place in votes or place in scores
        at = scores.get(place)
        rows.append(
            {
                "original": register.photos[place].name,
                "copy": place in own,
                "votes": votes.get(place, 0.0),
                "score": np.nan if at is None else float(first.scores[at]),
                "identical": at is not None and bool(first.identical[at]),
                **(measured(original, found) if handed_on else _few(original, found)),
            }
        )
    return rows


def _votes(index: CodeIndex, seen: DetectedPoints) -> dict[int, float]:
    return {one.image: one.votes for one in candidates(index.hits(seen.upright), index.hits(seen.mirrored))}


def measured(original: Original, found: Found) -> dict[str, Any]:
    """The columns "few" and of the measures of one pair."""
    comparison = compare(original, found)
    if comparison is None or (comparison.alignment is None and comparison.agreement.blocks < LEAST_BLOCKS):
        return _few(original, found)
    return _few(original, found) | asdict(comparison.measures())


def _few(original: Original, found: Found) -> dict[str, Any]:
    return {"few": min(len(original.points), len(found.points.upright)) < ENOUGH_POINTS}


# --- photos compared with photos --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """Photos compared with photos, directly.

    Attributes:
        pairs: rows of those pairs that a transform was found for.
        tried: how many pairs there were.
    """

    pairs: pd.DataFrame
    tried: int


def look_alike_pairs(photos: Sequence[Photo], folder: Path | None) -> Compared:
    """Every two look-alikes, once; those of one scene are marked as copies.

    Args:
        photos: all of them, not only different ones.
    """
    alike = [photo for photo in photos if photo.group == "look-alike"]
    return _compared(alike, [(place, range(place)) for place in range(len(alike))], "look-alikes", folder)


def other_pairs(photos: Sequence[Photo], which: Half, count: int, folder: Path | None) -> Compared:
    """Pairs of different photos, each once, at least one of them of this half and at most one a look-alike.

    Args:
        photos: pairwise different ones; to learn, only those of the half take part.
        which: half.
        count: pairs at least, or all there are; taken photo by photo, in the order of their names' hashes.
        folder: the cache.
    """
    among = half(photos, which) if which == "choose" else list(photos)
    # The half's own photos first: what stands before a photo is what it is compared with.
    order = sorted(among, key=lambda photo: (photo.half == which, hashlib.sha256(photo.name.encode()).digest()))
    tasks: list[tuple[int, Sequence[int]]] = []
    tried = 0
    for place in reversed(range(len(order))):
        alike = order[place].group == "look-alike"
        if tried >= count or order[place].half != which:
            break
        others = [other for other in range(place) if not (alike and order[other].group == "look-alike")]
        tasks.append((place, others))
        tried += len(others)
    return _compared(order, tasks, "others", folder)


def _compared(
    photos: list[Photo], tasks: Sequence[tuple[int, Sequence[int]]], kind: str, folder: Path | None
) -> Compared:
    """Photos, found, each compared with those at the given places, as protected ones."""
    rows = protected_rows(photos, folder)
    begun = Worker(folder, None, [original_of(one.row) for one in rows], photos)
    chunks = [tasks[start : start + CHUNK] for start in range(0, len(tasks), CHUNK)]
    every = digest_of(photos)
    with pool_of(begun) as pool:
        found = list(pool.map(_compared_chunk, chunks, [every] * len(chunks)))
    pairs = _frame([{"kind": kind, **row} for chunk in found for row in chunk])
    return Compared(pairs, sum(len(others) for _, others in tasks))


def _compared_chunk(tasks: Sequence[tuple[int, Sequence[int]]], every: str) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = remembered(_compared_photos, list(tasks), MEASURED + every)
    return result


def _compared_photos(tasks: Sequence[tuple[int, Sequence[int]]]) -> list[dict[str, Any]]:
    photos = worker().names
    rows: list[dict[str, Any]] = []
    for place, others in tasks:
        detected: DetectedPoints = remembered(points_of_photo, photos[place], FEATURES)
        picture = photos[place].image()
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        found = Found(detected, picture)
        for other in others:
            original = worker().originals[other]
            row = measured(original, found)
            if MEASURES[0] not in row:
                continue
            rows.append(
                {
                    "shown_photo": photos[place].name,
                    "edit": "none",
                    "original": photos[other].name,
                    "copy": photos[place].scene == photos[other].scene,
                    "votes": 0.0,
                    "score": np.nan,
                    "identical": False,
                    **row,
                }
            )
    return rows


# --- pairs that strangers made ----------------------------------------------------------------------------------------


def real_pairs(folder: Path, codes: CodeIndex) -> pd.DataFrame:
    """Each pair of `real_copies.csv`, a protected and b found; "kind" is its label.

    Args:
        folder: of the photos.
        codes: of protected photos, among which the pairs' a are looked up; they are added.
    """
    rows: list[dict[str, Any]] = []
    known: dict[Path, tuple[int, Protected]] = {}
    for pair in read_real_copies(folder):
        if pair.a not in known:
            kept = protected_of(decoded(pair.a.read_bytes()))
            known[pair.a] = codes.add(unpacked_codes(kept.row["codes"])), kept
        number, kept = known[pair.a]
        seen = seen_of(pair.b.read_bytes())
        first = CandidateIndex(Images([kept.views])).within(Images([seen.views]), RESCORED_THRESHOLD)
        rows.append(
            {
                "shown_photo": pair.b.name,
                "edit": "none",
                "kind": pair.label,
                "original": pair.a.name,
                "copy": pair.label != "hardneg",
                "votes": _votes(codes, seen.points).get(number, 0.0),
                "score": float(first.scores[0]) if len(first) else np.nan,
                "identical": bool(len(first) and first.identical[0]),
                **measured(original_of(kept.row), seen.found()),
            }
        )
    return _frame(rows)


# --- verdicts ---------------------------------------------------------------------------------------------------------


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[*COLUMNS, *MEASURES])


def measures_of(row: Mapping[str, Any]) -> Measures | None:
    """The measures of a row; None where no transform was found."""
    if pd.isna(row[MEASURES[0]]):
        return None
    counts = {one.name for one in fields(Measures) if one.type == "int"}
    flags = {one.name for one in fields(Measures) if one.type == "bool"}
    kinds = {name: int if name in counts else bool if name in flags else float for name in MEASURES}
    return Measures(**{name: kind(row[name]) for name, kind in kinds.items()})


def judged(row: Mapping[str, Any], model: Model) -> Judgement | None:
    """The verdict that `copywatch.verification.verify.verify` gives by a model."""
    measures = measures_of(row)
    judgement = Judgement.DIFFERENT if measures is None else model.judgement(measures)
    unsure = bool(row["few"]) and (measures is None or measures.blocks < LEAST_BLOCKS)
    return None if judgement is Judgement.DIFFERENT and unsure else judgement


def with_verdicts(pairs: pd.DataFrame, model: Model) -> pd.DataFrame:
    """The pairs with columns probability, verdict ("" where there is none), second and chain.

    second, chain: "certain", "doubtful" or "" by the second stage alone and by both. Alone, the second stage hands on
    what has votes. In the chain what the first stage lets through and nobody can verify waits for a person.
    """
    rows = pairs.to_dict("records")
    verdicts = [judged(row, model) or "" for row in rows]
    measures = [measures_of(row) for row in rows]
    result = pairs.assign(
        probability=[model.without_transform if one is None else model.probability(one) for one in measures],
        verdict=[str(verdict) for verdict in verdicts],
    )
    positive = result.verdict.isin([Judgement.CERTAIN, Judgement.DOUBTFUL])
    first = result.score.notna()
    second = result.verdict.where(positive & (result.votes > 0), "")
    chain = result.verdict.where(positive & (first | (result.votes > 0)), "")
    chain = chain.mask(first & (result.verdict == ""), str(Judgement.DOUBTFUL))
    return result.assign(second=second, chain=chain.mask(result.identical.astype(bool), str(Judgement.CERTAIN)))
