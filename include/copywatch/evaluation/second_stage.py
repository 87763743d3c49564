"""The second stage in memory: what local features find, and what verification says of that and of other pairs.

By the code of the chain: the shard, the votes, the verification. One shard holds all protected images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from copywatch.evaluation.describe import Description
from copywatch.features.lookup import Coarse, merged, shard_hits
from copywatch.features.shards import Shard
from copywatch.matching.verdict import Verdict
from copywatch.verification.candidate import MOST_FIRST
from copywatch.verification.explained import Verified, standing
from copywatch.verification.rows import found_of_row
from copywatch.verification.sides import Original
from copywatch.verification.verdict import Judgement, Verification
from copywatch.verification.verify import original_of, verify


@dataclass(frozen=True, order=True)
class Match:
    """A detected image's pair with a protected one; in the order in which the chain prefers them.

    Attributes:
        verdict: T.
        rank: of the verification: 0 certain; 1 doubtful, or not verified; 2 different.
        second_alone: the first stage did not find it.
        distance: what Th is compared with, by the rule; 1 - probability if `second_alone`.
        protected: the protected image's place.
        stands: verification finds it beside the nearest one.
    """

    verdict: int
    rank: int
    second_alone: bool
    distance: float
    protected: int
    stands: bool = False

    @property
    def is_shown(self) -> bool:
        """Whether people are told of it, if no nearer one is."""
        return self.verdict == Verdict.IDENTICAL or self.rank < _RANKS[Judgement.DIFFERENT]

    @property
    def is_certain(self) -> bool:
        """Whether nobody need look at it: identical, or certain by verification."""
        return self.verdict == Verdict.IDENTICAL or self.rank == _RANKS[Judgement.CERTAIN]


_RANKS = {Judgement.CERTAIN: 0, Judgement.DOUBTFUL: 1, None: 1, Judgement.DIFFERENT: 2}


class SecondStage:
    """Protected images, searched and verified by their local features."""

    def __init__(self, originals: Sequence[Description]) -> None:
        """Take the protected images.

        Raises:
            MachineError: a model is missing or damaged.
        """
        self._originals = originals
        self._coarse = Coarse()
        self._shard = Shard.empty()
        self._shard.add((str(place) for place in range(len(originals))), (one.local["codes"] for one in originals))

    def matches(self, detected: Description, first: Sequence[Match]) -> list[Match]:
        """All that is found of a detected image, in the chain's order.

        Args:
            detected: the image.
            first: the first stage's pairs with T < 2, each once.
        """
        found = found_of_row(detected.local)
        nearest = sorted(first)[:MOST_FIRST]
        verdicts: dict[int, int | None] = {one.protected: one.verdict for one in nearest}
        if not any(one.verdict == Verdict.IDENTICAL for one in nearest):
            queries = self._coarse.queries([found.points])
            [proposals] = merged(queries, [shard_hits(self._shard, queries)])
            for proposal in proposals:
                verdicts.setdefault(int(proposal.protected_id), None)
        verified = [
            Verified(str(place), self._originals[place].digest, verdict, verify(self._original(place), found))
            for place, verdict in verdicts.items()
        ]
        judged = {
            int(one.protected_id): (one.verification, stands)
            for one, stands in zip(verified, standing(verified), strict=True)
        }
        matches = []
        for one in nearest:
            said, stands = judged[one.protected]
            matches.append(replace(one, rank=_RANKS[said.judgement], stands=stands))
        for place, (said, stands) in judged.items():
            if verdicts[place] is None and said.judgement in (Judgement.CERTAIN, Judgement.DOUBTFUL):
                distance = 1 - (said.probability or 0)
                matches.append(Match(Verdict.SIMILAR, _RANKS[said.judgement], True, distance, place, stands))
        return sorted(matches)

    def verified(self, detected: Description, place: int) -> Verification:
        """A given pair, whether a search brings it together or not."""
        return verify(self._original(place), found_of_row(detected.local))

    def _original(self, place: int) -> Original:
        return original_of(self._originals[place].local)


def shown(matches: Sequence[Match]) -> list[Match]:
    """What people are told of: the first, and further ones that stand. All protected images count as one owner's."""
    first = [one for one in sorted(matches)[:1] if one.is_shown]
    return first + [one for one in matches if one.stands and one not in first]
