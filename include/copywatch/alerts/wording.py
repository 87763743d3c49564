"""What people are told of a match, in the same words in the mail, on the review page and in the portal."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from copywatch.hostile_text import plain, web_address
from copywatch.ledger.models import Evidence
from copywatch.matching.verdict import Verdict
from copywatch.rule import Rule
from copywatch.verification.verdict import FOUND_BY_RULE, Judgement

# `copywatch.verification.edit_words`, said to reviewers: said to owners.
_FOR_OWNERS = (
    (re.compile(r"\bcrop, (\d+ %) of the original\b"), r"a crop that shows \1 of your image"),
    (re.compile(r"\binset, (\d+ %) of the picture\b"), r"an inset that takes \1 of the picture found"),
)


def certainty(evidence: Evidence) -> str:
    """How sure the match is."""
    if evidence.protected_address.endswith(evidence.found_sha256):
        return "the very same file"
    differing = fingerprint_distance(evidence)
    if evidence.verdict == Verdict.IDENTICAL and differing == 0:
        return "identical fingerprint"
    reviewed = ", confirmed by a person" if evidence.review and evidence.review.decided_by else ""
    if evidence.probability is not None and evidence.verification != Judgement.DIFFERENT:
        done = f": {edit_for_owner(evidence.edit)}" if evidence.edit else ""
        return f"{percent(evidence.probability)} sure that it is a copy{done}{reviewed}"
    if evidence.rule == FOUND_BY_RULE:
        return "confirmed by a person" if reviewed else "parts of it agree"
    if differing is None:
        return f"score {evidence.distance:.4f}, where 0 is the same picture{reviewed}"
    return f"{1 - differing:.1%} of the fingerprint agrees{reviewed}"


def fingerprint_distance(evidence: Evidence) -> float | None:
    """SRPITP's distance, in [0, 1]: the share of the fingerprint that differs; None: it was not measured."""
    if evidence.rule == FOUND_BY_RULE:
        return None
    if evidence.plain_distance is not None:
        return evidence.plain_distance
    return evidence.distance if evidence.rule == Rule.PAPER else None


def measure_name(rule: str) -> str:
    """What Th is compared with under a rule: "score" or "distance"."""
    return "score" if rule == Rule.RESCORED else "distance"


def measured(evidence: Evidence) -> str:
    """T and the numbers behind it, and those of verification."""
    verified = f"verified: {evidence.verification}" if evidence.verification else ""
    if verified and evidence.probability is not None:
        verified += f", probability {evidence.probability:.4f}"
    if evidence.rule == FOUND_BY_RULE:
        return f"T = {evidence.verdict}, found by local features ({evidence.algorithm}); {verified}"
    name = measure_name(evidence.rule)
    numbers = f"T = {evidence.verdict}, {name} {evidence.distance:.4f}, Th {evidence.threshold:.4f}"
    if evidence.rule == Rule.RESCORED and evidence.plain_distance is not None:
        numbers += f", SRPITP's distance {evidence.plain_distance:.4f}"
    return f"{numbers}, {evidence.algorithm}" + (f"; {verified}" if verified else "")


def percent(probability: float) -> str:
    """A probability for people; never quite none and never quite all, which no measurement says."""
    if probability >= 0.995:
        return "more than 99 %"
    if probability < 0.01:
        return "less than 1 %"
    return f"{probability * 100:.0f} %"


def verified(evidence: Evidence) -> str:
    """What verification says, in a few words; why it says nothing; empty for an identical picture, which needs none."""
    if evidence.verification:
        chance = f", {percent(evidence.probability)}" if evidence.probability is not None else ""
        of_what = " for a copy" if chance and evidence.verification == Judgement.DIFFERENT else ""
        return f"verified: {evidence.verification}{chance}{of_what}"
    if evidence.verdict == Verdict.IDENTICAL:
        return ""
    return f"not verified: {evidence.unverified}" if evidence.unverified else "not verified"


def done_to_it(evidence: Evidence) -> str:
    """What was done to the copy, in words; empty: nothing that shows."""
    return evidence.edit or evidence.view or ""


def done_beside(evidence: Evidence) -> str:
    """The same for the owner, where `certainty` does not say it already."""
    done = edit_for_owner(evidence.edit) if evidence.edit else evidence.view or ""
    return "" if done in certainty(evidence) else done


def edit_for_owner(edit: str) -> str:
    """The words of verification, said to the owner of the original.

    >>> edit_for_owner("crop, 31 % of the original, mirrored")
    'a crop that shows 31 % of your image, mirrored'
    """
    for said, told in _FOR_OWNERS:
        edit = said.sub(told, edit)
    return edit


def title(evidence: Evidence) -> str:
    """What was found, in two or three words."""
    return "A copy" if evidence.verdict == Verdict.IDENTICAL and not done_to_it(evidence) else "A changed copy"


def uploaded(evidence: Evidence) -> str:
    """When it was uploaded, and what says so; empty: nothing does."""
    if evidence.uploaded_at is None:
        return ""
    said = f" (as the site's {plain(evidence.uploaded_at_source, 60)} says)" if evidence.uploaded_at_source else ""
    return f"{evidence.uploaded_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC{said}"


def uploader_page(evidence: Evidence) -> str:
    """Address of the uploader's own page; empty: the site tells none, or none that a link may lead to."""
    return web_address(evidence.uploader_url) or ""


def told(evidence: Evidence) -> dict[str, str]:
    """What the site says of the image beside, by its label: in its words, one bounded line each."""
    said = {"Caption": evidence.caption, "Licence": evidence.licence}
    return {label: plain(text) for label, text in said.items() if text}


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
