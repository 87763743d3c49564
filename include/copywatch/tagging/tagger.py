"""Image -> probability of each tag, by EfficientNet-Lite0's 1000 ImageNet classes and YuNet's faces.

A tag is a routing hint: it says among which protected images a sighting is looked up (SRPITP, section 3.3). So what
counts is not only that the best tag is right, but that an edited copy still reaches the tag of its original.
"""

from __future__ import annotations

import csv
import importlib.resources
import threading
from functools import cached_property, lru_cache
from pathlib import Path

import cv2
import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image

from copywatch.errors import MachineError
from copywatch.tagging.convert import CLASSES, INPUT_SIDE
from copywatch.tagging.prepare import FACE_MODEL, TAG_MODEL

TAGS = ("animal", "building", "food", "graphic", "object", "person", "scenery", "vehicle")
"""All tags, in alphabetical order; the partitions of the tables that are partitioned by tag."""

PERSON = "person"

CENTRE_SHARE = 224 / 256
"""Share of the shorter side that the tag model sees, in the middle, as in its training; squeezing the whole image in
instead costs 4 points of top-1."""

FACE_SIDE = 320
"""Pixels of the longer side at which faces are sought."""

FACE_SCORE_NONE = 0.6
"""Up to this score of the best face, it says nothing: below it lie most finds in photos without people."""

FACE_SCORE_SURE = 0.9
"""From this score on, a face says all it can; clear faces score about this."""

FACE_MOST_SHIFT = 0.7
"""The share of the other tags' probability that a sure face moves to `person`.

ImageNet has no class for people, only for some clothes and sports, so a face must outweigh it. It must not silence it:
the detector finds faces in patterns and statues, and an edit can make it lose or gain one. As 1 - 0.7 is far above
1 - tau (0.05), ImageNet's best tag is looked up beside `person` whatever the detector says, and as the shift grows with
the score, a doubtful face leaves both tags in the search.

Measured with these numbers on 1,957 labelled photos: right best tag .845 (.840 without faces), people tagged
`person` .907 (.747); on 2,420 edited copies of 220 of them the original's best tag was always among those looked up at
tau = 0.95, 3.1 tags an image on average (3.4 without faces); with 0.9 instead of 0.7, .04 % were lost.
"""

_NMS_THRESHOLD = 0.3
_MOST_FACES = 50


class Tagger:
    """The tag model and the face model, loaded at first use. Safe to share between threads."""

    def __init__(self, models_dir: Path, threads: int = 1) -> None:
        """Remember where the models are; nothing is read yet.

        Args:
            models_dir: what `copywatch.tagging.prepare` wrote.
            threads: of one image's computation. With 1, a machine gives the same probabilities each time.
        """
        self._models_dir = models_dir
        self._threads = threads
        self._face_lock = threading.Lock()

    def probabilities(self, rgb: Image.Image) -> dict[str, float]:
        """Probability of each of `TAGS`, summing to 1.

        Args:
            rgb: an RGB image from `copywatch.decode`.

        Raises:
            MachineError: the models are not prepared.
        """
        by_tag = self.class_probabilities(rgb) @ _tag_of_class()
        return dict(zip(TAGS, shifted_by_face(by_tag, self.best_face(rgb)).tolist(), strict=True))

    def class_probabilities(self, rgb: Image.Image) -> NDArray[np.float64]:
        """Probability of each ImageNet class, float64 (1000,), summing to 1.

        Raises:
            MachineError: the tag model is not prepared.
        """
        side = max(1, round(min(rgb.size) * CENTRE_SHARE))
        left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
        centre = rgb.resize(
            (INPUT_SIDE, INPUT_SIDE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
        )
        pixels = np.asarray(centre, dtype=np.uint8)[np.newaxis]
        raw = np.asarray(self._tag_session.run(["probabilities"], {"pixels": pixels})[0], dtype=np.float64)[0]
        return np.asarray(raw / raw.sum(), dtype=np.float64)

    def best_face(self, rgb: Image.Image) -> float:
        """Score of the surest face, in [0, 1]; 0 when there is none.

        Raises:
            MachineError: the face model is not prepared.
        """
        scale = FACE_SIDE / max(rgb.size)
        # YuNet halves the plane five times, so neither side may fall below 32.
        size = (max(32, round(rgb.width * scale)), max(32, round(rgb.height * scale)))
        small = np.asarray(rgb.resize(size, Image.Resampling.BILINEAR), dtype=np.uint8)
        blue_first = np.ascontiguousarray(small[:, :, ::-1])
        with self._face_lock:
            self._face_detector.setInputSize(size)
            _, faces = self._face_detector.detect(blue_first)
        return float(faces[:, -1].max()) if faces is not None and len(faces) else 0.0

    @cached_property
    def _tag_session(self) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        return onnxruntime.InferenceSession(str(self._prepared(TAG_MODEL)), options, providers=["CPUExecutionProvider"])

    @cached_property
    def _face_detector(self) -> cv2.FaceDetectorYN:
        path = str(self._prepared(FACE_MODEL))
        # OpenCV counts threads for the process; its detector needs 4 ms on one, so more would only disturb the others.
        cv2.setNumThreads(self._threads)
        # OpenCV 5 warns at each load that its new engine ignores the target (CPU), which is what we want anyway.
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            return cv2.FaceDetectorYN.create(
                path, "", (FACE_SIDE, FACE_SIDE), FACE_SCORE_NONE, _NMS_THRESHOLD, _MOST_FACES
            )
        finally:
            cv2.utils.logging.setLogLevel(level)

    def _prepared(self, name: str) -> Path:
        path = self._models_dir / name
        if not path.is_file():
            raise MachineError(f'{path} is missing: the tag models are not prepared; run "make setup"')
        return path


def shifted_by_face(by_tag: NDArray[np.float64], score: float) -> NDArray[np.float64]:
    """Move probability to `person` for the surest face's score; see `FACE_MOST_SHIFT`.

    Args:
        by_tag: float64 (8,), in the order of `TAGS`, summing to 1.
        score: of the surest face, in [0, 1]; 0 without one.

    Returns:
        float64 (8,), summing to 1.
    """
    sureness = (score - FACE_SCORE_NONE) / (FACE_SCORE_SURE - FACE_SCORE_NONE)
    share = FACE_MOST_SHIFT * min(max(sureness, 0.0), 1.0)
    shifted = by_tag * (1 - share)
    shifted[TAGS.index(PERSON)] += share
    return shifted


@lru_cache(maxsize=1)
def _tag_of_class() -> NDArray[np.float64]:
    """1 where an ImageNet class (row) has a tag (column); float64 (1000, 8)."""
    table = importlib.resources.files("copywatch.tagging").joinpath("imagenet_coarse_tags.csv")
    membership = np.zeros((CLASSES, len(TAGS)))
    for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines()):
        membership[int(row["imagenet_class_index"]), TAGS.index(row["tag"])] = 1
    if not (membership.sum(axis=1) == 1).all():
        raise MachineError("imagenet_coarse_tags.csv does not give each ImageNet class one tag: the package is damaged")
    return membership
