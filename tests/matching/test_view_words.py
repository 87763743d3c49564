"""What was done to a copy, as two kinds of views tell it."""

from __future__ import annotations

import pytest

from copywatch.fingerprint.views import Kind
from copywatch.matching.view_words import view_words


@pytest.mark.parametrize(
    ("protected", "sighting", "words"),
    [
        (Kind.UPRIGHT, Kind.UPRIGHT, ""),
        (Kind.TONED, Kind.UPRIGHT, "tones changed"),
        (Kind.UNFRAMED, Kind.UPRIGHT, "frame added or removed"),
        (Kind.UPRIGHT, Kind.UNFRAMED, "frame added or removed"),
        (Kind.UNFRAMED, Kind.UNFRAMED, ""),
        (Kind.MIRRORED, Kind.UNFRAMED, "mirrored, frame added or removed"),
    ],
)
def test_words(protected: Kind, sighting: Kind, words: str) -> None:
    assert view_words(int(protected), int(sighting)) == words
