"""What was done to a copy, in words, as the two views tell that were nearest."""

from __future__ import annotations

from copywatch.fingerprint.views import Kind


def view_words(protected_kind: int, sighting_kind: int) -> str:
    """Words for people, such as "mirrored"; empty: nothing that shows.

    Args:
        protected_kind: `Kind` of the protected image's view.
        sighting_kind: `Kind` of the sighting's view: upright, or without its frame.

    >>> view_words(Kind.MIRRORED, Kind.UPRIGHT)
    'mirrored'
    >>> view_words(Kind.MIRRORED, Kind.UNFRAMED)
    'mirrored, frame added or removed'
    """
    protected, sighting = Kind(protected_kind), Kind(sighting_kind)
    if protected == sighting:
        # Both upright; or both in a frame, which may be one and the same.
        return ""
    words = [kind.words for kind in (protected, sighting) if kind.words]
    return ", ".join(dict.fromkeys(words))
