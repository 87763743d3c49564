"""What was found, against what is true: counts of each edit, and the pairs that were judged wrongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from copywatch.evaluation.compare import NOTHING, Side, Sides
from copywatch.evaluation.second_stage import Match
from copywatch.evaluation.truth import Entry
from copywatch.hostile_text import plain
from copywatch.matching.compare import Comparison
from copywatch.matching.verdict import Verdict
from copywatch.verification.verdict import Judgement


@dataclass(frozen=True)
class Counts:
    """Copies of one edit, or all.

    Attributes:
        edit: as the truth file calls it; empty: it says nothing.
        copies: detected images that are copies.
        found: of these, those that are shown beside a right one: the nearest at T = 0 or 1 that verification does not
            call different, or one that verification finds beside it.
        certain: of these, those at T = 0, or certain by verification: nobody need look at them.
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
        by_edit: dict[str, list[tuple[bool, bool, bool]]] = {}
        for name, entry in self._entries.items():
            if entry.originals:
                place = self._sides.detected.place_of.get(name)
                right = [] if place is None else self._right_matches(place)
                outcome = bool(right), any(one.is_certain for one in right), place in first
                by_edit.setdefault(entry.edit, []).append(outcome)
        return [
            Counts(edit, len(ones), *(sum(outcome) for outcome in zip(*ones, strict=True)))
            for edit, ones in by_edit.items()
        ]

    def _right_at_rank_1(self) -> set[int]:
        """Places of the detected images whose nearest protected image is a right one, at whatever distance."""
        nearest = np.array([ones[0].protected if ones else NOTHING for ones in self._shown], dtype=np.int64)
        copies = [place for place, name in enumerate(self._sides.detected.names) if self._entries[name].originals]
        unshown = np.array([place for place in copies if nearest[place] == NOTHING], dtype=np.int64)
        nearest[unshown] = self._sides.nearest(unshown)
        return {place for place in copies if self._is_right(place, int(nearest[place]))}

    def _is_right(self, detected: int, protected: int) -> bool:
        if protected == NOTHING:
            return False
        return self._sides.protected.images[protected].digest in self._right[self._sides.detected.names[detected]]

    def _right_matches(self, place: int) -> list[Match]:
        """What is rightly shown for a detected image."""
        return [one for one in self._shown[place] if self._is_right(place, one.protected)]

    def _wrong_matches(self, place: int) -> list[Match]:
        """What is wrongly shown for it, what is certain first."""
        wrong = [one for one in self._shown[place] if not self._is_right(place, one.protected)]
        return sorted(wrong, key=lambda one: not one.is_certain)

    def cases(self) -> list[Case]:
        """First the false pairs, alerted ones before the others, then what was missed; each by distance."""
        cases = [*self._false(), *self._missed()]
        rank = {Wrong.CERTAIN: 0, Wrong.REVIEW: 1, Wrong.MISSED: 2}
        return sorted(cases, key=lambda one: (rank[one.wrong], 2.0 if one.distance is None else one.distance))

    def _false(self) -> list[Case]:
        cases = []
        for place, name in enumerate(self._sides.detected.names):
            # An image that is shown beside several wrong ones is one mistake, the worst of them.
            for wrong in self._wrong_matches(place)[:1]:
                cases.append(
                    Case(
                        Wrong.CERTAIN if wrong.is_certain else Wrong.REVIEW,
                        name,
                        self._sides.protected.names[wrong.protected],
                        self._entries[name].edit,
                        wrong.distance,
                        Verdict(wrong.verdict),
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
            if not self._right_matches(place):
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
                self._why(place, found.verdict, original),
            )
            for place, (original, found) in nearest.items()
        ]

    def _why(self, place: int, verdict: Verdict, original: int) -> str:
        """Why a copy was missed whose right original would be at `verdict`."""
        second = self._sides.second
        said = second.verified(self._sides.detected.images[place], original) if second else None
        nearer = [plain(self._sides.protected.names[one.protected]) for one in self._shown[place][:1]]
        if said and said.judgement is Judgement.DIFFERENT and verdict is not Verdict.DIFFERENT:
            return "verification calls it different"
        if nearer and said and said.judgement in (Judgement.CERTAIN, Judgement.DOUBTFUL):
            return f"{nearer[0]} is nearer; is it the same photo?"
        if verdict is Verdict.DIFFERENT:
            return "beyond the threshold"
        tag = self._sides.protected.images[original].tag
        if not self._sides.searches(place, tag):
            return f"the tag {tag} was not searched"
        if nearer:
            return f"{nearer[0]} is nearer; is it the same photo?"
        return "not let through by the first stage"
