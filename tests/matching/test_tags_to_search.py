"""Which tags are searched for a detected image."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copywatch.matching import tags_to_search

TAGS = {"person": 0.6, "animal": 0.25, "object": 0.1, "food": 0.05, "vehicle": 0.0}


@pytest.mark.parametrize(
    ("coverage", "wanted"),
    [
        (0.5, ["person"]),
        (0.6, ["person"]),
        (0.61, ["person", "animal"]),
        (0.95, ["person", "animal", "object"]),
        (1.0, ["person", "animal", "object", "food"]),
    ],
)
def test_best_first_until_covered(coverage: float, wanted: list[str]) -> None:
    assert tags_to_search(TAGS, coverage) == wanted


def test_equal_probabilities_come_in_alphabetical_order() -> None:
    assert tags_to_search({"b": 0.5, "a": 0.5}, 1.0) == ["a", "b"]


@pytest.mark.parametrize("probabilities", [{}, {"a": 0.0}])
def test_nowhere_to_search(probabilities: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        tags_to_search(probabilities, 0.95)


@pytest.mark.parametrize("coverage", [0.0, -1.0, 1.01])
def test_coverage_is_a_probability(coverage: float) -> None:
    with pytest.raises(ValueError, match="coverage"):
        tags_to_search(TAGS, coverage)


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=12), st.floats(0.01, 1))
def test_shortest_prefix_that_covers(weights: list[float], coverage: float) -> None:
    total = sum(weights)
    probabilities = {f"tag{number:02}": weight / total for number, weight in enumerate(weights)}
    chosen = tags_to_search(probabilities, coverage)
    assert len(set(chosen)) == len(chosen)
    assert min(probabilities[tag] for tag in chosen) >= max(
        (probabilities[tag] for tag in probabilities if tag not in chosen), default=0
    )
    assert sum(probabilities[tag] for tag in chosen) >= coverage - 1e-8
    assert sum(probabilities[tag] for tag in chosen[:-1]) < coverage
