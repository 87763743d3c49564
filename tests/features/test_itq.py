"""Iterative quantisation: the learning, the codes, the shipped model."""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes

from copywatch.errors import MachineError
from copywatch.features import itq
from copywatch.features.itq import ROTATION_UNIT, VECTOR_UNIT, Itq, learn, model, read_model


def vectors(count: int, seed: int) -> NDArray[np.int16]:
    """Vectors of length one with sixteen common directions, as int16 steps."""
    rng = np.random.default_rng(seed)
    ground = np.random.default_rng(0).standard_normal((16, 128))
    values = np.abs(rng.standard_normal((count, 16)) @ ground + rng.standard_normal((count, 128)))
    return np.rint(values / np.linalg.norm(values, axis=1, keepdims=True) * VECTOR_UNIT).astype(np.int16)


@pytest.fixture
def forgotten_model() -> Iterator[None]:
    """The model is read anew, before and after."""
    model.cache_clear()
    yield
    model.cache_clear()


def test_codes_are_the_signs_of_whole_sums() -> None:
    """The oracle: Python's own integers, which do not round."""
    learned, some = model(), vectors(20, 3)
    expected = []
    for vector in some.tolist():
        sums = [sum(v * w for v, w in zip(vector, column, strict=True)) for column in learned.rotation.T.tolist()]
        expected.append([int(total > offset) for total, offset in zip(sums, learned.offsets.tolist(), strict=True)])
    np.testing.assert_array_equal(np.unpackbits(learned.codes(some), axis=1), expected)


def test_no_vectors_have_no_codes() -> None:
    codes = model().codes(np.empty((0, 128), dtype=np.int16))
    assert codes.shape == (0, 16)
    assert codes.dtype == np.uint8


def test_the_shipped_rotation_is_orthogonal() -> None:
    rotation = model().rotation / ROTATION_UNIT
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(128), atol=0.003)


def test_no_round_of_learning_raises_the_error() -> None:
    learned = learn(vectors(3000, 1), seed=5, rounds=20)
    assert len(learned.errors) == 21
    assert (np.diff(learned.errors) <= 1e-12).all()
    assert learned.errors[-1] < learned.errors[0] - 0.01
    rotation = learned.itq.rotation / ROTATION_UNIT
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(128), atol=0.003)


def test_the_error_is_the_distance_to_the_corners() -> None:
    """The oracle: the definition, |B - a V R|^2 / |B|^2 at its best a, with the rotation that was learned."""
    some = vectors(2000, 2)
    learned = learn(some, seed=1, rounds=10)
    values = some.astype(np.float64)
    rotated = (values - values.mean(axis=0)) @ (learned.itq.rotation / ROTATION_UNIT)
    corners = np.sign(rotated)
    best = (corners * rotated).sum() / (rotated**2).sum()
    error = ((corners - best * rotated) ** 2).sum() / (corners**2).sum()
    assert learned.errors[-1] == pytest.approx(error, abs=1e-4)


def test_a_round_takes_the_best_rotation_for_the_signs() -> None:
    """The oracle: SciPy's solution of the orthogonal Procrustes problem."""
    some = vectors(1500, 9)
    before, after = (learn(some, seed=4, rounds=rounds).itq.rotation / ROTATION_UNIT for rounds in (0, 1))
    values = some.astype(np.float64)
    values -= values.mean(axis=0)
    expected, _scale = orthogonal_procrustes(values, np.where(values @ before > 0, 1.0, -1.0))
    # The shipped form is rounded, which turns some signs of values near zero.
    assert np.abs(after - expected).max() < 0.01
    assert np.abs(before - expected).max() > 0.05


def test_nearer_vectors_have_nearer_codes() -> None:
    some = vectors(400, 4).astype(np.float64)
    rng = np.random.default_rng(8)
    far = []
    for noise in (20, 60, 180):
        moved = np.rint(some + rng.normal(0, noise, some.shape)).astype(np.int16)
        apart = np.bitwise_count(model().codes(some.astype(np.int16)) ^ model().codes(moved)).sum(axis=1)
        far.append(float(apart.mean()))
    assert far[0] < far[1] < far[2]


def test_learning_twice_gives_the_same_file() -> None:
    some = vectors(500, 6)
    assert learn(some, seed=2, rounds=3).itq.written() == learn(some, seed=2, rounds=3).itq.written()


@pytest.mark.parametrize(
    "bad", [np.zeros((200, 128), np.int16), np.zeros((127, 128), np.int16), np.zeros((200, 64), np.int16)]
)
def test_there_is_nothing_to_learn_from_too_few_or_equal_vectors(bad: NDArray[np.int16]) -> None:
    with pytest.raises(ValueError, match="vectors"):
        learn(bad, seed=0, rounds=1)


def test_a_model_is_read_as_it_was_written() -> None:
    back = read_model(model().written())
    np.testing.assert_array_equal(back.rotation, model().rotation)
    np.testing.assert_array_equal(back.offsets, model().offsets)


def _saved(**arrays: object) -> bytes:
    file = BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        b"\x80\x04N.",
        model().written()[:1000],
        _saved(rotation=model().rotation),
        _saved(rotation=model().rotation.astype(np.int32), offsets=model().offsets),
        _saved(rotation=model().rotation[:, :64], offsets=model().offsets),
        _saved(rotation=model().rotation, offsets=model().offsets[:5]),
        _saved(rotation=np.array([{"a": 1}], dtype=object), offsets=model().offsets),
    ],
)
def test_a_file_that_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"rotation|offsets"):
        read_model(data)


def test_the_shipped_file_is_the_one_that_was_learned() -> None:
    data = importlib.resources.files("copywatch.features").joinpath(itq.MODEL_FILE).read_bytes()
    assert hashlib.sha256(data).hexdigest() == itq.MODEL_SHA256


@pytest.mark.usefixtures("forgotten_model")
def test_another_model_in_its_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.resources, "files", lambda _package: tmp_path)
    with pytest.raises(MachineError, match="missing"):
        model()
    (tmp_path / itq.MODEL_FILE).write_bytes(Itq(np.zeros((128, 128), np.int16), np.zeros(128, np.int64)).written())
    with pytest.raises(MachineError, match="not the one of sift-itq/1"):
        model()
