"""One candidate, whatever state its two sides are in: a verdict, or the reason why there is none."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from copywatch.decode import decode
from copywatch.errors import MachineError
from copywatch.verification.sides import Found
from copywatch.verification.verdict import Verification
from copywatch.verification.verify import found_of, original_of, verify

log = logging.getLogger(__name__)

NO_BYTES = "the found picture is no longer to be had"
NO_FEATURES = "the protected image has no local features: it was registered by an earlier version"

MOST_FIRST = 20
"""Pairs of the first stage, the nearest, that count of a found picture that can be verified: a look-alike may have
thousands within Th, and when the nearest are found different, a farther one that was not looked at is no better."""

_REASON_CHARACTERS = 200


def found_or_reason(data: bytes | None, *, max_pixels: int, max_bytes: int) -> Found | str:
    """The found side of a file's bytes, or why there is none.

    Args:
        data: the bytes; None: nobody has them.
        max_pixels: of `copywatch.decode`.
        max_bytes: likewise.

    Raises:
        MachineError: the model of the points' codes is missing or damaged.
    """
    if data is None:
        return NO_BYTES
    try:
        return found_of(decode(data, max_pixels=max_pixels, max_bytes=max_bytes).rgb)
    except MachineError:
        raise
    except Exception as error:
        return _failed("the found picture cannot be read", error)


def verification_of(features: Mapping[str, Any] | None, found: Found | str) -> Verification:
    """The verdict on a pair, or none and the reason.

    Args:
        features: columns of the protected image's row of the table `features`; None: it has none.
        found: of `found_or_reason`.

    Raises:
        MachineError: the shipped model is missing or damaged.
    """
    if isinstance(found, str):
        return Verification(None, None, found)
    if features is None:
        return Verification(None, None, NO_FEATURES)
    try:
        return verify(original_of(features), found)
    except MachineError:
        raise
    except Exception as error:
        return Verification(None, None, _failed("verification failed", error))


def _failed(what: str, error: Exception) -> str:
    # One picture that a library cannot stand must not keep thousands of others from their owners.
    reason = f"{what} ({type(error).__name__}: {error})"[:_REASON_CHARACTERS]
    log.warning("%s", reason)
    return reason
