"""What was found, against what is true: counts of each edit, and the pairs that were judged wrongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from copywatch.evaluation.compare import NOTHING, Side, Sides
from copywatch.evaluation.truth import Entry
from copywatch.hostile_text import plain
from copywatch.matching.compare import Comparison
from copywatch.matching.verdict import Verdict


@dataclass(frozen=True)
class Counts:
    """Copies of one edit, or all.

    Attributes:
        edit: as the truth file calls it; empty: it says nothing.
        copies: detected images that are copies.
        found: of these, those whose nearest protected image is a right one, at T = 0 or 1.
        certain: of these, those at T = 0, which nobody need look at.
        rank1: copies whose nearest protected image is a right one, at whatever distance; of those that nothing is shown
            for, the nearest of what the first stage brings up.
    """

    edit: str
    copies: int
    found: int
    certain: int
    rank1: int


class Wrong(StrEnum):
    """What was wrong with a pair."""

    MISSED = "missed"
    REVIEW = "false, to review"
    CERTAIN = "false, alerted"


@dataclass(frozen=True)
class Case:
    """A pair that was judged wrongly, for a person to look at.

    Attributes:
        wrong: a right pair that was missed, or a false one that was taken for a copy.
        detected: name of the detected image.
        protected: name of the protected image.
        edit: of the copy.
        distance: of the pair; None where there is none, since an image is unusable.
        verdict: T of the pair by itself.
        why: why a right pair was missed; empty for a false one.
    """

    wrong: Wrong
    detected: str
    protected: str
    edit: str
    distance: float | None
    verdict: Verdict
    why: str


def right_digests(entries: Mapping[str, Entry], originals: Side) -> dict[str, frozenset[str]]:
    """Name of each detected image -> SHA-256 of its usable right originals: files with the same bytes are one image."""
    return {
        name: frozenset(
            originals.images[originals.place_of[original]].digest
            for original in entry.originals
            if original in originals.place_of
        )
        for name, entry in entries.items()
    }


class Judge:
    """What was found, against what is true."""

    def __init__(self, entries: Mapping[str, Entry], right: Mapping[str, frozenset[str]], sides: Sides) -> None:
        """Compare the sides.

        Args:
            entries: what is true of each detected image, usable or not.
            right: of `right_digests`.
            sides: the images.
        """
        self._entries, self._right, self._sides = entries, right, sides
        self._shown = sides.shown()

    def counts(self) -> list[Counts]:
        """Of each edit."""
        first = self._right_at_rank_1()
        by_edit: dict[str, list[tuple[bool, Verdict, bool]]] = {}
        for name, entry in self._entries.items():
            if entry.originals:
                place = self._sides.detected.place_of.get(name)
                is_right, verdict = (False, Verdict.DIFFERENT) if place is None else self._outcome(place)
                by_edit.setdefault(entry.edit, []).append((is_right, verdict, place in first))
        return [
            Counts(
                edit,
                copies=len(ones),
                found=sum(is_right and verdict < Verdict.DIFFERENT for is_right, verdict, _ in ones),
                certain=sum(is_right and verdict is Verdict.IDENTICAL for is_right, verdict, _ in ones),
                rank1=sum(is_first for _, _, is_first in ones),
            )
            for edit, ones in by_edit.items()
        ]

    def _right_at_rank_1(self) -> set[int]:
        """Places of the detected images whose nearest protected image is a right one, at whatever distance."""
        nearest = self._shown.protected.copy()
        copies = [place for place, name in enumerate(self._sides.detected.names) if self._entries[name].originals]
        unshown = np.array([place for place in copies if nearest[place] == NOTHING], dtype=np.int64)
        nearest[unshown] = self._sides.nearest(unshown)
        return {place for place in copies if self._is_right(place, int(nearest[place]))}

    def _is_right(self, detected: int, protected: int) -> bool:
        if protected == NOTHING:
            return False
        return self._sides.protected.images[protected].digest in self._right[self._sides.detected.names[detected]]

    def _outcome(self, place: int) -> tuple[bool, Verdict]:
        """Whether the image shown is a right one, and T."""
        return self._is_right(place, int(self._shown.protected[place])), Verdict(int(self._shown.verdicts[place]))

    def cases(self) -> list[Case]:
        """First the false pairs, alerted ones before the others, then what was missed; each by distance."""
        cases = [*self._false(), *self._missed()]
        rank = {Wrong.CERTAIN: 0, Wrong.REVIEW: 1, Wrong.MISSED: 2}
        return sorted(cases, key=lambda one: (rank[one.wrong], 2.0 if one.distance is None else one.distance))

    def _false(self) -> list[Case]:
        cases = []
        for place, name in enumerate(self._sides.detected.names):
            is_right, verdict = self._outcome(place)
            if is_right or verdict is Verdict.DIFFERENT:
                continue
            cases.append(
                Case(
                    Wrong.CERTAIN if verdict is Verdict.IDENTICAL else Wrong.REVIEW,
                    name,
                    self._sides.protected.names[self._shown.protected[place]],
                    self._entries[name].edit,
                    float(self._shown.distances[place]),
                    verdict,
                    "",
                )
            )
        return cases

    def _missed(self) -> list[Case]:
        missed: list[int] = []
        cases: list[Case] = []
        for name, entry in self._entries.items():
            if not entry.originals:
                continue
            place = self._sides.detected.place_of.get(name)
            if place is None or not self._right[name]:
                why = "the detected image is unusable" if place is None else "the protected image is unusable"
                original = sorted(entry.originals)[0]
                cases.append(Case(Wrong.MISSED, name, original, entry.edit, None, Verdict.DIFFERENT, why))
                continue
            is_right, verdict = self._outcome(place)
            if not is_right or verdict is Verdict.DIFFERENT:
                missed.append(place)
        return cases + self._measured(missed)

    def _measured(self, missed: Sequence[int]) -> list[Case]:
        """Missed copies beside the nearest of their right originals."""
        originals = self._sides.protected
        pairs = [
            (place, originals.first_place[digest])
            for place in missed
            for digest in sorted(self._right[self._sides.detected.names[place]])
        ]
        nearest: dict[int, tuple[int, Comparison]] = {}
        for (place, original), found in zip(pairs, self._sides.compared(pairs), strict=True):
            if place not in nearest or found.distance < nearest[place][1].distance:
                nearest[place] = original, found
        return [
            Case(
                Wrong.MISSED,
                name := self._sides.detected.names[place],
                originals.names[original],
                self._entries[name].edit,
                found.distance,
                found.verdict,
                self._why(place, found.verdict, originals.images[original].tag),
            )
            for place, (original, found) in nearest.items()
        ]

    def _why(self, place: int, verdict: Verdict, tag: str) -> str:
        """Why a copy was missed whose right original is stored under `tag` and would be at `verdict`."""
        if verdict is Verdict.DIFFERENT:
            return "beyond the threshold"
        if not self._sides.searches(place, tag):
            return f"the tag {tag} was not searched"
        shown = int(self._shown.protected[place])
        if shown != NOTHING:
            return f"{plain(self._sides.protected.names[shown])} is nearer; is it the same photo?"
        return "not let through by the first stage"
