"""What people are told of a match, in the same words in the mail, on the review page and in the portal."""

from __future__ import annotations

from datetime import UTC, datetime

from copywatch.ledger.models import Evidence
from copywatch.matching.verdict import Verdict
from copywatch.rule import Rule


def certainty(evidence: Evidence) -> str:
    """How sure the match is."""
    if evidence.protected_address.endswith(evidence.found_sha256):
        return "the very same file"
    differing = fingerprint_distance(evidence)
    if evidence.verdict == Verdict.IDENTICAL and differing == 0:
        return "identical fingerprint"
    reviewed = ", confirmed by a person" if evidence.review and evidence.review.decided_by else ""
    if differing is None:
        return f"score {evidence.distance:.4f}, where 0 is the same picture{reviewed}"
    return f"{1 - differing:.1%} of the fingerprint agrees{reviewed}"


def fingerprint_distance(evidence: Evidence) -> float | None:
    """SRPITP's distance, in [0, 1]: the share of the fingerprint that differs; None: only a score was measured."""
    if evidence.plain_distance is not None:
        return evidence.plain_distance
    return evidence.distance if evidence.rule == Rule.PAPER else None


def measure_name(rule: str) -> str:
    """What Th is compared with under a rule: "score" or "distance"."""
    return "score" if rule == Rule.RESCORED else "distance"


def measured(evidence: Evidence) -> str:
    """T and the numbers behind it."""
    name = measure_name(evidence.rule)
    numbers = f"T = {evidence.verdict}, {name} {evidence.distance:.4f}, Th {evidence.threshold:.4f}"
    if evidence.rule == Rule.RESCORED and evidence.plain_distance is not None:
        numbers += f", SRPITP's distance {evidence.plain_distance:.4f}"
    return f"{numbers}, {evidence.algorithm}"


def title(evidence: Evidence) -> str:
    """What was found, in two or three words."""
    return "A copy" if evidence.verdict == Verdict.IDENTICAL and not evidence.view else "A changed copy"


def found_earlier(evidence: Evidence, *, to_owner: bool = True) -> str:
    """Why an old sighting is told of now; empty where it is not older than the registration."""
    if not evidence.registered_later:
        return ""
    registered = "you registered this image" if to_owner else "this image was registered"
    return f"Found on {_day(evidence.crawled_at)}, before {registered}; matched when it was registered."


def picture_missing(evidence: Evidence) -> str:
    """What is said in place of the found picture; empty where there is one."""
    if evidence.found_address is not None:
        return ""
    return f"no longer to be had at its address when we looked again on {_day(evidence.created_at)}"


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d}"
