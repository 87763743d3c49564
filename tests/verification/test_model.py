"""The rule: its file, its directions, its bounds."""

from __future__ import annotations

import importlib.resources
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from copywatch.errors import MachineError
from copywatch.verification import model as module
from copywatch.verification.model import FEATURES, SIGNS, measures_vector, model, read_model
from copywatch.verification.verdict import IDENTITY, Judgement, Measures

COPY = Measures(
    inliers=100,
    blocks=150,
    agreement=0.99,
    weakest=0.95,
    overlap_agreement=0.99,
    shown=1.0,
    covered=1.0,
    colour=2.0,
    expected=150,
    part_blocks=150,
    part_agreement=0.99,
    hole=0.0,
    tone=1.0,
    greyed=False,
)
NO_COPY = Measures(6, 40, 0.05, -0.2, 0.1, 0.5, 0.5, 40.0, 100, 40, 0.1, 0.8, 30.0, True)


@pytest.fixture
def forgotten_model() -> Iterator[None]:
    """The model is read anew, before and after."""
    model.cache_clear()
    yield
    model.cache_clear()


def test_the_shipped_model_knows_a_copy_and_a_stranger() -> None:
    assert model().identity == IDENTITY
    assert model().judgement(COPY) is Judgement.CERTAIN
    assert model().judgement(NO_COPY) is Judgement.DIFFERENT


def test_the_probability_is_the_logistic_function_of_the_sum() -> None:
    vector = measures_vector(COPY)
    total = model().intercept + sum(weight * value for weight, value in zip(model().weights, vector, strict=True))
    assert model().probability(COPY) == pytest.approx(1 / (1 + math.exp(-total)), rel=1e-12)


def test_features_are_finite_and_bounded_whatever_was_measured() -> None:
    wild = Measures(10**9, 10**9, 1, -1, 0, 0, 1, 1e9, 0, 10**9, 1, 1, 1e9, True)
    for measures in (COPY, NO_COPY, wild, replace(wild, inliers=0, blocks=0)):
        vector = measures_vector(measures)
        assert vector.shape == (len(FEATURES),)
        assert (np.abs(vector) <= 1).all()


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("inliers", 120),
        ("blocks", 170),
        ("agreement", 1.0),
        ("weakest", 0.99),
        ("overlap_agreement", 1.0),
        ("part_agreement", 1.0),
        ("colour", 0.0),
        ("tone", 0.0),
    ],
)
def test_more_agreement_never_makes_a_copy_less_probable(name: str, better: float) -> None:
    assert model().probability(replace(COPY, **{name: better})) >= model().probability(COPY)


def test_bounds_overrule_the_probability() -> None:
    bounded = replace(model(), certain_at_least={"inliers": 101}, certain_at_most={})
    assert bounded.judgement(COPY) is Judgement.DOUBTFUL
    bounded = replace(model(), certain_at_least={}, certain_at_most={"colour": 1.9})
    assert bounded.judgement(COPY) is Judgement.DOUBTFUL


def test_what_was_written_is_read_again() -> None:
    again = read_model(model().written())
    assert again.written() == model().written()
    assert again.probability(COPY) == model().probability(COPY)


def changed(**values: object) -> bytes:
    content = json.loads(model().written())
    return json.dumps({**content, **values}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{}",
        b"[" * 60_000,
        b" " * 100_000,
        changed(certain=0.5),
        changed(digest="0"),
    ],
)
def test_a_damaged_file_is_no_model(data: bytes) -> None:
    with pytest.raises(ValueError, match="model"):
        read_model(data)


@pytest.mark.parametrize(
    "wrong",
    [
        {"weights": -np.array(list(SIGNS.values()), dtype=np.float64)},
        {"weights": np.full(len(FEATURES), np.nan)},
        {"certain": model().doubtful / 2},
        {"doubtful": 0.0},
        {"without_transform": 0.9},
        {"intercept": math.inf},
        {"certain_at_least": {"no such measure": 3.0}},
    ],
)
def test_a_model_that_cannot_be_right_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="model"):
        read_model(replace(model(), **wrong).written())  # type: ignore[arg-type]


@pytest.mark.usefixtures("forgotten_model")
@pytest.mark.parametrize(("data", "says"), [(None, "missing"), (b"{}", "damaged"), (b"other version", "not align/1's")])
def test_a_broken_installation_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: bytes | None, says: str
) -> None:
    if data == b"other version":
        data = replace(model(), identity="align/0").written()
        model.cache_clear()
    if data is not None:
        (tmp_path / module.MODEL_FILE).write_bytes(data)
    monkeypatch.setattr(importlib.resources, "files", lambda _package: tmp_path)
    with pytest.raises(MachineError, match=says):
        model()
