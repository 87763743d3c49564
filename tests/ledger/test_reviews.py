"""The review queue: one decision for each pair, carried out once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from copywatch.errors import CopywatchError
from copywatch.ledger import reviews
from copywatch.ledger.database import session
from copywatch.ledger.models import Alert, Review, ReviewState

pytestmark = pytest.mark.integration

ACCEPTED, REFUSED, PENDING = ReviewState.ACCEPTED, ReviewState.REFUSED, ReviewState.PENDING


@pytest.fixture
def queue(protected_ids: list[str], match: Callable[..., Any], record: Callable[..., Any]) -> list[int]:
    """Five doubtful pairs, of the sites a, b, a, b, a; their reviews' ids."""
    record(*(match(number, protected_ids[number % 2], site="ab"[number % 2]) for number in range(5)))
    with session() as opened:
        return list(opened.scalars(select(Review.id).order_by(Review.id)))


def decide(review: int, state: ReviewState, by: str = "rita") -> Review:
    with session() as opened:
        return reviews.decide(opened, review, state, by)


def apply(run: str) -> list[tuple[int, str]]:
    with session() as opened:
        return [(review.id, review.state) for review in reviews.apply_decisions(opened, run)]


def alerted() -> list[int]:
    with session() as opened:
        return sorted(alert.evidence.review.id for alert in opened.scalars(select(Alert)))


class TestDecide:
    def test_says_who_and_when(self, queue: list[int]):
        decided = decide(queue[0], ACCEPTED)
        assert (decided.state, decided.decided_by) == ("accepted", "rita")
        assert decided.decided_at is not None
        assert decided.decided_at.utcoffset() is not None

    def test_the_same_again_keeps_the_first(self, queue: list[int]):
        first = decide(queue[0], ACCEPTED, "rita")
        again = decide(queue[0], ACCEPTED, "otto")
        assert (again.decided_by, again.decided_at) == ("rita", first.decided_at)

    def test_otherwise_is_refused_and_says_who_was_first(self, queue: list[int]):
        decide(queue[0], REFUSED, "rita")
        with pytest.raises(CopywatchError, match=r"rita decided 'refused' at 20\d\d-.* UTC"):
            decide(queue[0], ACCEPTED, "otto")
        with session() as opened:
            assert opened.get_one(Review, queue[0]).state == "refused"

    def test_an_unknown_one_is_named(self, queue: list[int]):
        with pytest.raises(CopywatchError, match="review 99999: there is none"):
            decide(99999, ACCEPTED)

    def test_two_people_at_once_make_one_decision(self, queue: list[int]):
        gate, outcomes = threading.Barrier(2), []

        def person(name: str, state: ReviewState) -> None:
            gate.wait()
            try:
                outcomes.append((name, decide(queue[0], state, name).decided_by))
            except CopywatchError:
                outcomes.append((name, None))

        people = [threading.Thread(target=person, args=one) for one in (("rita", ACCEPTED), ("otto", REFUSED))]
        for one in people:
            one.start()
        for one in people:
            one.join()
        winners = [name for name, by in outcomes if by is not None]
        assert len(winners) == 1
        assert sorted(by is None for _, by in outcomes) == [False, True]
        with session() as opened:
            assert opened.get_one(Review, queue[0]).decided_by == winners[0]


class TestApply:
    def test_accepted_ones_are_alerted_and_refused_ones_are_not(self, queue: list[int]):
        decide(queue[0], ACCEPTED)
        decide(queue[1], REFUSED)
        decide(queue[2], ACCEPTED)
        assert apply("run-a") == [(queue[0], "accepted"), (queue[1], "refused"), (queue[2], "accepted")]
        assert alerted() == [queue[0], queue[2]]

    def test_a_retry_gives_the_same_and_alerts_nobody_twice(self, queue: list[int]):
        decide(queue[0], ACCEPTED)
        first = apply("run-a")
        assert apply("run-a") == first
        assert alerted() == [queue[0]]

    def test_the_next_run_takes_up_only_what_is_new(self, queue: list[int]):
        decide(queue[0], ACCEPTED)
        apply("run-a")
        decide(queue[1], ACCEPTED)
        assert apply("run-b") == [(queue[1], "accepted")]
        assert apply("run-a") == [(queue[0], "accepted")]
        assert apply("run-c") == []

    def test_a_death_before_the_commit_leaves_the_decision_to_the_next(self, queue: list[int]):
        decide(queue[0], ACCEPTED)

        def die() -> None:
            with session() as opened:
                reviews.apply_decisions(opened, "run-a")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            die()
        assert alerted() == []
        assert apply("run-b") == [(queue[0], "accepted")]


class TestStanding:
    def test_follows_the_queue(self, queue: list[int]):
        def standing() -> tuple[bool, int]:
            with session() as opened:
                now = reviews.standing(opened)
                every = opened.scalars(select(Review)).all()
                assert now.to_apply == any(one.state != "pending" and one.applied_run is None for one in every)
                assert now.pending == sum(one.state == "pending" for one in every)
                return now.to_apply, now.pending

        assert standing() == (False, 5)
        decide(queue[0], ACCEPTED)
        assert standing() == (True, 4)
        apply("run-a")
        assert standing() == (False, 4)
        for review in queue[1:]:
            decide(review, REFUSED)
        apply("run-b")
        assert standing() == (False, 0)

    def test_an_empty_ledger_has_nothing_to_wait_for(self, ledger_url: str):
        with session() as opened:
            assert reviews.standing(opened) == reviews.Standing(to_apply=False, pending=0)


class TestLists:
    def test_pending_ones_by_page_and_site(self, queue: list[int]):
        decide(queue[2], REFUSED)

        def pending(**options: Any) -> list[int]:
            with session() as opened:
                return [review.id for review in reviews.waiting(opened, **options)]

        assert pending() == [queue[0], queue[1], queue[3], queue[4]]
        assert pending(limit=2) == queue[:2]
        assert pending(limit=2, after_id=queue[1]) == queue[3:]
        assert pending(site="a") == [queue[0], queue[4]]
        assert pending(site="elsewhere") == []

    def test_certain_ones_come_first_and_no_page_leaves_one_out(self, queue: list[int]):
        with session() as opened:
            for review in (queue[1], queue[3]):
                opened.get_one(Review, review).evidence.verification = "certain"
            opened.get_one(Review, queue[0]).evidence.verification = "doubtful"
        turns = [queue[1], queue[3], queue[0], queue[2], queue[4]]

        def pages(size: int, **options: Any) -> list[int]:
            """All of them, page after page, the last of each page decided before the next is asked for."""
            shown: list[int] = []
            while True:
                with session() as opened:
                    page = reviews.waiting(opened, limit=size, after_id=shown[-1] if shown else 0, **options)
                    shown += [review.id for review in page]
                if not page:
                    return shown
                if size == 2:
                    decide(shown[-1], REFUSED)

        assert pages(3) == turns
        assert pages(1, site="a") == [queue[0], queue[2], queue[4]]
        assert pages(1, site="b") == [queue[1], queue[3]]
        assert pages(2) == turns

    def test_what_left_the_queue_is_apart(self, queue: list[int]):
        with session() as opened:
            for review in (queue[0], queue[1]):
                opened.get_one(Review, review).state = ReviewState.DIFFERENT
        decide(queue[4], REFUSED)
        with session() as opened:
            assert [one.id for one in reviews.waiting(opened)] == [queue[2], queue[3]]
            assert [one.id for one in reviews.waiting(opened, ReviewState.DIFFERENT)] == queue[:2]
            assert [one.id for one in reviews.waiting(opened, ReviewState.DIFFERENT, site="b")] == [queue[1]]
            assert reviews.waiting_by_site(opened) == {"a": 1, "b": 1}
            assert reviews.waiting_by_site(opened, ReviewState.DIFFERENT) == {"a": 1, "b": 1}
            assert [one.id for one in reviews.decided(opened)] == [queue[4]]
            assert reviews.count_by_state(opened)["different"] == 2
            assert reviews.standing(opened).pending == 2

    def test_counts(self, queue: list[int]):
        decide(queue[0], ACCEPTED)
        decide(queue[1], REFUSED)
        decide(queue[2], REFUSED)
        with session() as opened:
            assert reviews.count_by_state(opened) == {
                "pending": 2, "different": 0, "accepted": 1, "refused": 2,
            }  # fmt: skip
            assert reviews.waiting_by_site(opened) == {"a": 1, "b": 1}

    def test_what_a_run_found_decided_or_alerted(self, queue: list[int]):
        decide(queue[0], ACCEPTED)
        apply("run-a")
        with session() as opened:
            assert reviews.evidence_of_run(opened, "run-2", limit=2)[0] == 5
            assert len(reviews.evidence_of_run(opened, "run-2", limit=2)[1]) == 2
            total, (evidence,) = reviews.evidence_of_run(opened, "run-a", limit=9)
            assert (total, evidence.review.id) == (1, queue[0])
            assert reviews.evidence_of_run(opened, "run-z", limit=9) == (0, [])
