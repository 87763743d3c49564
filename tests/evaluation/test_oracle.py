"""Against every pair of views scored one by one, as the formulas are written down."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from copywatch.demo.edits import EVERY_EDIT
from copywatch.demo.planting import photo_bytes
from copywatch.evaluation.evaluate import evaluate
from copywatch.fingerprint import algorithm_named, decode_within_limits
from copywatch.fingerprint.views import protected_views, sighting_views
from copywatch.settings import Settings
from copywatch.tagging.tagger import Tagger
from tests.evaluation.conftest import Case

PHOTOS = [f"{number:02d}.jpg" for number in range(1, 9)]
EDITS = ["sepia", "cropped-5", "watermarked", "warm-tint"]


def score(one: np.void, other: np.void) -> tuple[float, bool]:
    """`copywatch.matching.score`'s formula, and whether the two are identical."""
    # Two bits a symbol; a symbol of A for each block comes first, then four of D.
    bits = [np.unpackbits(view["fingerprint"]).reshape(720, 2) for view in (one, other)]
    differs = (bits[0] != bits[1]).any(axis=1)
    detailed = np.unpackbits(one["mask"])[:144] + np.unpackbits(other["mask"])[:144]
    of_symbol = np.concatenate([detailed, np.repeat(detailed, 4)])
    charged = differs[of_symbol == 2].sum() + 0.75 * (of_symbol == 1).sum() + 0.65 * (of_symbol == 0).sum()
    pdq = np.unpackbits(one["pdq"] ^ other["pdq"]).sum()
    return float(0.4 * charged / 720 + 0.6 * pdq / 256), bool(not differs.any() and (detailed == 2).sum() >= 8)


@dataclass
class Picture:
    """What the oracle knows of a file."""

    name: str
    data: bytes
    views: NDArray[np.void]
    tags: dict[str, float]

    def searched(self, tau: float) -> Iterator[str]:
        """Its best tags until tau."""
        covered = 0.0
        for tag, share in sorted(self.tags.items(), key=lambda item: (-item[1], item[0])):
            if covered >= tau or share == 0:
                return
            covered += share
            yield tag


def pictures(folder: Path, config: Settings, *, protected: bool) -> list[Picture]:
    """The files of a folder, by name."""
    tagger = Tagger(config.prepared_dir / "models")
    found = []
    for file in sorted(folder.iterdir()):
        image = decode_within_limits(file.read_bytes()).rgb
        views = protected_views(image) if protected else sighting_views(image)
        found.append(Picture(file.name, file.read_bytes(), views, tagger.probabilities(image)))
    return found


@pytest.fixture
def planted(case: Case) -> Case:
    """Eight photos; four edits of each, the first photo's own file, and four strangers."""
    rows = [("same.jpg", "01.jpg", "none")]
    (case.detected / "same.jpg").write_bytes(photo_bytes("01.jpg"))
    for name in PHOTOS:
        (case.protected / name).write_bytes(photo_bytes(name))
        for edit in EDITS:
            (case.detected / f"{edit}@{name}").write_bytes(EVERY_EDIT[edit].apply(photo_bytes(name)))
            rows.append((f"{edit}@{name}", name, edit))
    for number in range(9, 13):
        (case.detected / f"other@{number}.jpg").write_bytes(photo_bytes(f"{number:02d}.jpg"))
        rows.append((f"other@{number}.jpg", "", ""))
    case.write(rows)
    return case


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_it_finds_what_the_formulas_find(planted: Case, config: Settings, tau: float) -> None:
    """Every verdict, every wrong pair, every rank."""
    config = config.model_copy(update={"tag_coverage": tau})
    originals = pictures(planted.protected, config, protected=True)
    expected: dict[str, list[int]] = {edit: [0, 0, 0, 0] for edit in ("none", *EDITS)}
    wrong = [0, 0]
    for sighting in pictures(planted.detected, config, protected=False):
        tags = list(sighting.searched(tau))
        judged = []
        for original in originals:
            same = hashlib.sha256(original.data).digest() == hashlib.sha256(sighting.data).digest()
            if max(sorted(original.tags), key=lambda tag, tags=original.tags: tags[tag]) not in tags and not same:
                continue
            scored = [score(one, other) for one in sighting.views for other in original.views]
            least = min(value for value, _ in scored)
            verdict = 0 if same or any(equal for _, equal in scored) else 1 if least <= 0.2275 else 2
            judged.append((verdict, least, original.name))
        verdict, _, nearest = min(judged, default=(2, 1.0, ""))
        edit, right = ("none", "01.jpg") if sighting.name == "same.jpg" else sighting.name.split("@")
        if edit != "other":
            is_right = nearest == right
            counts = expected[edit]
            for place, counted in enumerate((True, is_right and verdict < 2, is_right and verdict == 0, is_right)):
                counts[place] += counted
        else:
            is_right = False
        if verdict < 2 and not is_right:
            wrong[verdict] += 1
    found = evaluate(planted.protected, planted.detected, planted.truth, config=config, processes=1)
    assert {one.edit: [one.copies, one.found, one.certain, one.rank1] for one in found.edits} == expected
    assert [found.wrong_certain, found.wrong_review] == wrong
    assert found.total.found >= 8


@pytest.mark.parametrize("name", ["dhash", "pdq", "chamoso"])
def test_the_paper_rule_finds_what_formula_1_finds(planted: Case, config: Settings, name: str) -> None:
    """With each algorithm's own distance; tau is 1."""
    algorithm = algorithm_named(name)
    codes = {
        file: algorithm.fingerprint(decode_within_limits(file.read_bytes()).rgb)
        for folder in (planted.protected, planted.detected)
        for file in sorted(folder.iterdir())
    }
    originals = [file for file in codes if file.parent == planted.protected]
    expected = {edit: [0, 0, 0] for edit in ("none", *EDITS)}
    wrong = 0
    for file, code in codes.items():
        if file.parent == planted.protected:
            continue
        distance, nearest = min((algorithm.distance(codes[one], code), one.name) for one in originals)
        edit, right = ("none", "01.jpg") if file.name == "same.jpg" else file.name.split("@")
        within = distance <= algorithm.threshold
        if edit != "other":
            for place, counted in enumerate((nearest == right and within, distance == 0, nearest == right)):
                expected[edit][place] += counted
        wrong += within and nearest != right
    found = evaluate(planted.protected, planted.detected, planted.truth, config=config, algorithm=name, processes=1)
    assert {one.edit: [one.found, one.certain, one.rank1] for one in found.edits} == expected
    assert found.wrong_review + found.wrong_certain == wrong
