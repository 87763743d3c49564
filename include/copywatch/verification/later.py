"""Pairs that were matched without bytes, verified once these were fetched again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from copywatch.features.itq import IDENTITY as CODES
from copywatch.lake.schemas import FEATURES
from copywatch.lake.tables import read_table
from copywatch.matching.verdict import Verdict
from copywatch.settings import Settings
from copywatch.verification.candidate import found_or_reason, verification_of
from copywatch.verification.rows import verification_row
from copywatch.verification.verdict import Judgement, Verification

Pair = tuple[str, str]


def verified_later(
    matches: Iterable[Mapping[str, Any]], bytes_of: Callable[[str], bytes | None], config: Settings
) -> dict[Pair, dict[str, Any]]:
    """What verification says of the pairs that nobody verified; identical ones (T = 0) need none.

    Args:
        matches: rows of the table `matches`.
        bytes_of: the found image of a SHA-256; None: nobody has it.
        config: where the table `features` is, the limits of images, and `alert_certain`.

    Returns:
        By sighting and protected image, the columns of `matches` that are new: those of
        `copywatch.verification.rows.verification_row`, and `state`. A pair that cannot be verified is there with the
        reason, and waits for a person.

    Raises:
        LakeError: there is no table `features`.
        MachineError: a shipped model is missing or damaged.
    """
    of_file: dict[str, list[Mapping[str, Any]]] = {}
    for match in matches:
        if match["verdict"] != Verdict.IDENTICAL and match.get("verification") is None:
            of_file.setdefault(match["sha256"], []).append(match)
    wanted = sorted({match["protected_id"] for of_one in of_file.values() for match in of_one})
    rows = read_table(config.warehouse, FEATURES, protected_ids=wanted).to_pylist() if wanted else []
    features = {row["protected_id"]: row for row in rows if row["model"] == CODES}
    verified: dict[Pair, dict[str, Any]] = {}
    for sha256, pairs in of_file.items():
        limits = {"max_pixels": config.max_image_pixels, "max_bytes": config.max_image_bytes}
        found = found_or_reason(bytes_of(sha256), **limits)
        for pair in pairs:
            done = verification_of(features.get(pair["protected_id"]), found)
            key = pair["sighting_id"], pair["protected_id"]
            verified[key] = {**verification_row(done), "state": _state(done, config)}
    return verified


def _state(verification: Verification, config: Settings) -> str:
    if verification.judgement is Judgement.DIFFERENT:
        return "different"
    return "certain" if verification.judgement is Judgement.CERTAIN and config.alert_certain else "doubtful"
