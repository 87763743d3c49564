"""Which tags' protected images a detected image is compared with."""

from __future__ import annotations

from collections.abc import Mapping

_ROUNDING = 1e-9


def tags_to_search(probabilities: Mapping[str, float], coverage: float) -> list[str]:
    """The most probable tags, best first, until their probabilities sum to `coverage` (tau).

    SRPITP (section 3.3) searches the best tag only, which loses the copies that an edit moved to another tag. Tags of
    equal probability come in alphabetical order; tags of probability zero never come.

    Args:
        probabilities: tag -> probability; they sum to 1, up to rounding.
        coverage: tau, in (0, 1].

    Raises:
        ValueError: no tag has a positive probability, or coverage is not in (0, 1].
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage is a probability above 0, not {coverage}")
    chosen: list[str] = []
    covered = 0.0
    for tag, probability in sorted(probabilities.items(), key=lambda item: (-item[1], item[0])):
        if probability <= 0 or covered >= coverage - _ROUNDING:
            break
        chosen.append(tag)
        covered += probability
    if not chosen:
        raise ValueError("no tag has a positive probability: there is nowhere to search")
    return chosen
