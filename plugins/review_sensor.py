"""Waiting for reviewers without holding a worker: the sensor, and the trigger it defers to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from airflow.sdk import Context

    from copywatch.ledger.reviews import Standing

log = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 60.0


def look_at_ledger() -> Standing:
    """Ask the ledger once: blocks for one query."""
    from copywatch.ledger.database import session
    from copywatch.ledger.reviews import standing

    with session() as opened:
        return standing(opened)


def is_over(standing: Standing) -> bool:
    """Is there something to carry out, or nothing left to wait for?"""
    return standing.to_apply or standing.pending == 0


class ReviewTrigger(BaseTrigger):
    """Fires when a decision waits to be carried out, or when no review waits any more.

    A ledger that cannot be reached is asked again, at growing intervals: the reviewers' work is not lost by it, so the
    task that waits must not be either.

    Args:
        poll_seconds: pause between two looks.
    """

    def __init__(self, poll_seconds: float = 5.0) -> None:
        super().__init__()
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Path and arguments, for the triggerer that takes it up."""
        return "review_sensor.ReviewTrigger", {"poll_seconds": self.poll_seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at the ledger until it is time to go on."""
        pause = self.poll_seconds
        while True:
            try:
                # In a thread: the triggerer runs every trigger of the house in one event loop.
                standing = await asyncio.to_thread(look_at_ledger)
            except Exception as error:
                pause = min(max(pause, 0.1) * 2, _LONGEST_PAUSE_SECONDS)
                log.warning("the ledger does not answer, next try in %.0f s: %s", pause, error)
            else:
                pause = self.poll_seconds
                if is_over(standing):
                    yield TriggerEvent({"to_apply": standing.to_apply, "pending": standing.pending})
                    return
            await asyncio.sleep(pause)


class ReviewSensor(BaseSensorOperator):
    """Waits until a reviewer's decision is to be carried out, or until no review waits.

    Its result says which: `{"to_apply": bool, "pending": int}`. It defers at once, so a wait of days holds no worker;
    after `timeout` (as of any sensor; `soft_fail=True` skips instead of failing) it gives up.

    Args:
        poll_seconds: pause between two looks at the ledger.
    """

    ui_color = "#f2e8cf"

    def __init__(self, *, poll_seconds: float = 5.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.poll_seconds = poll_seconds

    def execute(self, context: Context) -> dict[str, Any]:
        """Look once; go on, or defer."""
        standing = look_at_ledger()
        if not is_over(standing):
            self.log.info(
                "%d reviews wait for a decision; the link 'Review page' of this task leads to them", standing.pending
            )
            self.defer(
                trigger=ReviewTrigger(self.poll_seconds),
                method_name="decided",
                timeout=timedelta(seconds=self.timeout),
            )
        return self._said({"to_apply": standing.to_apply, "pending": standing.pending})

    def decided(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on with what the trigger saw."""
        return self._said(event)

    def _said(self, standing: dict[str, Any]) -> dict[str, Any]:
        self.log.info(
            "%s; %d reviews wait",
            "decisions wait to be carried out" if standing["to_apply"] else "nothing to carry out",
            standing["pending"],
        )
        return standing
