"""Rows of the page about the rule "rescored", on pairs written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from photo_folder import folder_of

from benchmarks.photos import read_photos
from benchmarks.rescoring import Material, closest_rows
from copywatch.matching.candidates import Images
from copywatch.matching.score import Evidence


def test_the_closest_pairs_are_of_unedited_different_photos_and_stand_once(tmp_path: Path) -> None:
    photos = read_photos(folder_of(tmp_path, 3))
    # Sightings: photo 0 edited, then the three photos themselves. Then who was compared with whom, and the score.
    pairs = [(0, 1, 0.1), (1, 0, 0.0), (1, 1, 0.5), (2, 0, 0.4), (3, 1, 0.2), (0, 2, 0.15)]
    none = np.empty(0, dtype=np.int64)
    material = Material(
        photos=photos,
        source=np.array([0, 0, 1, 2]),
        edit=np.array([4, -1, -1, -1]),
        protected=Images([]),
        sightings=Images([]),
        which=np.array([which for which, _, _ in pairs]),
        originals=np.array([original for _, original, _ in pairs]),
        pair=none,
        kinds=none.astype(np.uint8),
        evidence=Evidence(none, none, none, none),
    )
    rows = closest_rows(material, np.array([score for _, _, score in pairs]))
    names = [f"{photo.name} ({photo.half})" for photo in photos]
    assert rows == [
        {"a": names[1], "b": names[2], "score": 0.2},
        {"a": names[0], "b": names[1], "score": 0.4},
    ]
