"""The review sensor and its trigger, on a real ledger."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import TaskDeferred

pytestmark = pytest.mark.integration


def decide(review_id: int, state: str = "accepted") -> None:
    from copywatch.ledger import reviews
    from copywatch.ledger.database import session
    from copywatch.ledger.models import ReviewState

    with session() as opened:
        reviews.decide(opened, review_id, ReviewState(state), "somebody")


def apply_all() -> None:
    from copywatch.ledger import reviews
    from copywatch.ledger.database import session

    with session() as opened:
        reviews.apply_decisions(opened, "run-2")


async def first_event(trigger) -> dict:
    async for event in trigger.run():
        return event.payload
    raise AssertionError("the trigger ended without an event")


class TestSensor:
    def test_does_not_wait_for_nothing(self, ledger_url):
        from review_sensor import ReviewSensor

        assert ReviewSensor(task_id="wait").execute({}) == {"to_apply": False, "pending": 0}

    def test_does_not_wait_for_what_is_decided(self, plant):
        from review_sensor import ReviewSensor

        plant(1)
        plant(2)
        decide(1, "refused")
        assert ReviewSensor(task_id="wait").execute({}) == {"to_apply": True, "pending": 1}

    def test_defers_at_once_when_a_person_is_needed(self, plant):
        from review_sensor import ReviewSensor, ReviewTrigger

        plant()
        sensor = ReviewSensor(task_id="wait", poll_seconds=2, timeout=timedelta(days=3))
        with pytest.raises(TaskDeferred) as deferred:
            sensor.execute({})
        assert isinstance(deferred.value.trigger, ReviewTrigger)
        assert deferred.value.trigger.poll_seconds == 2
        assert deferred.value.timeout == timedelta(days=3)
        event = {"to_apply": True, "pending": 0}
        assert getattr(sensor, deferred.value.method_name)({}, event) == event


class TestTrigger:
    def test_is_made_again_from_what_it_says(self):
        from airflow._shared.module_loading import import_string
        from review_sensor import ReviewTrigger

        path, arguments = ReviewTrigger(7.5).serialize()
        assert import_string(path) is ReviewTrigger
        assert import_string(path)(**arguments).poll_seconds == 7.5

    def test_fires_on_a_decision(self, plant):
        from review_sensor import ReviewTrigger

        plant(1)
        plant(2)

        async def wait() -> dict:
            waiting = asyncio.create_task(first_event(ReviewTrigger(0.1)))
            await asyncio.sleep(0.4)
            assert not waiting.done()
            await asyncio.to_thread(decide, 1)
            return await asyncio.wait_for(waiting, 10)

        assert asyncio.run(wait()) == {"to_apply": True, "pending": 1}

    def test_fires_when_nothing_is_left(self, plant):
        from review_sensor import ReviewTrigger

        plant()
        decide(1)
        apply_all()
        assert asyncio.run(first_event(ReviewTrigger(0.1))) == {"to_apply": False, "pending": 0}

    def test_survives_a_ledger_that_is_away(self, plant, monkeypatch, caplog):
        import review_sensor

        plant()
        decide(1)
        look = review_sensor.look_at_ledger
        answers = iter([ConnectionError("gone"), ConnectionError("still gone")])

        def away_at_first():
            error = next(answers, None)
            if error:
                raise error
            return look()

        monkeypatch.setattr(review_sensor, "look_at_ledger", away_at_first)
        with caplog.at_level(logging.WARNING, "review_sensor"):
            event = asyncio.run(asyncio.wait_for(first_event(review_sensor.ReviewTrigger(0.05)), 10))
        assert event == {"to_apply": True, "pending": 0}
        assert caplog.text.count("the ledger does not answer") == 2

    def test_leaves_the_event_loop_to_others(self, plant, monkeypatch):
        import review_sensor

        from copywatch.ledger.reviews import Standing

        def slow():
            time.sleep(0.5)
            return Standing(True, 0)

        monkeypatch.setattr(review_sensor, "look_at_ledger", slow)

        async def others() -> int:
            waiting = asyncio.create_task(first_event(review_sensor.ReviewTrigger(0.1)))
            turns = 0
            while not waiting.done():
                await asyncio.sleep(0.01)
                turns += 1
            return turns

        assert asyncio.run(others()) > 20
