"""Tags: the rule for faces, and the prepared models' answers."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from copywatch.errors import MachineError
from copywatch.matching import tags_to_search
from copywatch.settings import settings
from copywatch.tagging.prepare import FACE_MODEL, TAG_MODEL
from copywatch.tagging.tagger import TAGS, Tagger, shifted_by_face
from tests.fingerprint.pictures import scene

MODELS = settings().prepared_dir / "models"
PREPARED = pytest.mark.skipif(
    not ((MODELS / TAG_MODEL).is_file() and (MODELS / FACE_MODEL).is_file()),
    reason=f'the tag models are not prepared in {MODELS}: run "make setup"',
)
UNEVEN = np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.0, 0.03, 0.02])


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger(MODELS)


@pytest.mark.parametrize("score", [0.0, 0.3, 0.6])
def test_no_face_and_doubtful_faces_change_nothing(score: float) -> None:
    assert np.array_equal(shifted_by_face(UNEVEN, score), UNEVEN)


def test_a_sure_face_moves_most_to_person() -> None:
    for score in (0.9, 0.95, 1.0):
        shifted = shifted_by_face(UNEVEN, score)
        assert shifted[TAGS.index("person")] == pytest.approx(0.7)
        assert shifted[0] == pytest.approx(0.15)
        assert shifted.sum() == pytest.approx(1)


def test_the_shift_grows_with_the_score() -> None:
    person = [shifted_by_face(UNEVEN, score)[TAGS.index("person")] for score in np.linspace(0.6, 0.9, 7)]
    assert person == sorted(person)
    assert person[3] == pytest.approx(0.35)


def test_a_face_never_hides_the_other_best_tag() -> None:
    for best in range(len(TAGS)):
        only = np.zeros(len(TAGS))
        only[best] = 1
        shifted = dict(zip(TAGS, shifted_by_face(only, 1.0).tolist(), strict=True))
        assert TAGS[best] in tags_to_search(shifted, 0.95)


@pytest.mark.parametrize("missing", [TAG_MODEL, FACE_MODEL])
def test_unprepared_models_are_said(tmp_path: Path, missing: str) -> None:
    tagger = Tagger(tmp_path)
    ask = tagger.class_probabilities if missing == TAG_MODEL else tagger.best_face
    with pytest.raises(MachineError, match=rf"{missing} is missing.*make setup"):
        ask(scene(64, 64))


@PREPARED
@pytest.mark.parametrize("size", [(16, 16), (640, 480), (16, 2000), (2000, 16), (333, 777)])
def test_probabilities_of_all_tags_sum_to_one(tagger: Tagger, size: tuple[int, int]) -> None:
    probabilities = tagger.probabilities(scene(*size))
    assert tuple(probabilities) == TAGS
    assert min(probabilities.values()) >= 0
    assert sum(probabilities.values()) == pytest.approx(1)


@PREPARED
def test_the_same_each_time(tagger: Tagger) -> None:
    image = scene(500, 400, seed=2)
    first = tagger.probabilities(image)
    tagger.probabilities(scene(123, 456))
    assert tagger.probabilities(image) == first == Tagger(MODELS).probabilities(image)


@PREPARED
def test_blank_pictures_have_tags_and_no_face(tagger: Tagger) -> None:
    blank = Image.new("RGB", (300, 200), "white")
    assert tagger.best_face(blank) == 0
    assert sum(tagger.probabilities(blank).values()) == pytest.approx(1)


@PREPARED
def test_threads_may_share_it(tagger: Tagger) -> None:
    images = [scene(200 + 30 * number, 300, seed=number) for number in range(4)]
    alone = [tagger.probabilities(image) for image in images]
    together: list[dict[str, float]] = [{} for _ in images]

    def ask(number: int) -> None:
        for _ in range(3):
            together[number] = tagger.probabilities(images[number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
