"""What a calibration came to, said where an administrator looks for it."""

from __future__ import annotations

import logging
from typing import Any

from copywatch.errors import CopywatchError
from copywatch.lake.identity import run_key
from copywatch.logs import log_context, table
from copywatch.matching.calibration_rows import Method, thresholds
from copywatch.settings import settings
from copywatch.threshold import in_force_of

log = logging.getLogger(__name__)


def report(run: str) -> dict[str, Any]:
    """Log what a run measured, what these figures cannot say, and which Th is in force now; returns the same.

    Raises:
        CopywatchError: the run wrote no thresholds; or the ledger or the table of thresholds cannot be read.
    """
    config = settings()
    key = run_key(run)
    found = [one for one in thresholds(config.warehouse) if one.run == key]
    if {one.method for one in found} != set(Method):
        raise CopywatchError(
            f"the table of thresholds in {config.warehouse} does not hold both methods of the run {key}: its Spark job "
            "has not ended well. Clear its task 'measure'."
        )
    first = found[0]
    force = in_force_of(config, first.algorithm, first.rule)
    told = first.note or "Nothing speaks against these figures."
    with log_context(run=key):
        rows = [{"Th": f"{one.value:.4f}", "how": one.method.words, "pairs within": one.within} for one in found]
        log.info(
            "%s, %s: %d images, %d pairs\n%s", first.algorithm, first.rule, first.images, first.pairs,
            table(rows, title=f"Th for a false-alarm rate of {first.rate:g}"),
        )  # fmt: skip
        (log.warning if first.note else log.info)("%s", told)
        if first.needs_a_person:
            log.warning("These thresholds come into force only if somebody chooses one, on the page Thresholds.")
        log.info("In force for %s, %s: Th = %.4f. %s", first.algorithm, first.rule, force.value, force.source)
    return {
        "algorithm": first.algorithm,
        "rule": first.rule,
        "images": first.images,
        "pairs": first.pairs,
        "rate": first.rate,
        "thresholds": {one.method.value: one.value for one in found},
        "note": told,
        "needs_a_person": first.needs_a_person,
        "in_force": {"threshold": force.value, "source": force.source},
    }
