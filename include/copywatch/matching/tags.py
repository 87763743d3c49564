"""Which tags' protected images a detected image is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_ROUNDING = 1e-9


def tags_to_search(probabilities: Mapping[str, float], coverage: float) -> list[str]:
    """The most probable tags, best first, until their probabilities sum to `coverage` (tau).

    SRPITP (section 3.3) searches the best tag only, which loses the copies that an edit moved to another tag. Tags of
    equal probability come in alphabetical order; tags of probability zero never come.

    Args:
        probabilities: tag -> probability; they sum to 1, up to rounding.
        coverage: tau, in (0, 1].

    Raises:
        ValueError: no tag has a positive probability, or coverage is not in (0, 1].
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage is a probability above 0, not {coverage}")
    chosen: list[str] = []
    covered = 0.0
    for tag, probability in sorted(probabilities.items(), key=lambda item: (-item[1], item[0])):
        if probability <= 0 or covered >= coverage - _ROUNDING:
            break
        chosen.append(tag)
        covered += probability
    if not chosen:
        raise ValueError("no tag has a positive probability: there is nowhere to search")
    return chosen


def tags_within_coverage(probabilities: pa.ChunkedArray, coverage: float, wanted: Sequence[str]) -> NDArray[np.bool_]:
    """`tags_to_search` for many rows at once: which of them are looked up under which tag.

    Args:
        probabilities: rows of maps tag -> probability; one that is null or empty is looked up nowhere.
        coverage: tau, in (0, 1].
        wanted: the tags that are asked for.

    Returns:
        bool (rows, wanted tags).
    """
    every, shares = _as_matrix(probabilities)
    # Columns are in alphabetical order and the sort is stable, so equal ones come in that order.
    order = np.argsort(-shares, axis=1, kind="stable")
    sorted_shares = np.take_along_axis(shares, order, axis=1)
    before = np.cumsum(sorted_shares, axis=1) - sorted_shares
    chosen = np.zeros(shares.shape, dtype=np.bool_)
    np.put_along_axis(chosen, order, (sorted_shares > 0) & (before < coverage - _ROUNDING), axis=1)
    places = {tag: place for place, tag in enumerate(every)}
    nowhere = np.zeros(len(shares), dtype=np.bool_)
    columns = [chosen[:, places[tag]] if tag in places else nowhere for tag in wanted]
    return np.stack(columns, axis=1) if columns else np.zeros((len(shares), 0), dtype=np.bool_)


def _as_matrix(probabilities: pa.ChunkedArray) -> tuple[list[str], NDArray[np.float64]]:
    """All tags in alphabetical order, and each row's probability of each; float64 (rows, tags)."""
    every = sorted({tag for chunk in probabilities.chunks for tag in chunk.keys.unique().to_pylist()})
    places = {tag: place for place, tag in enumerate(every)}
    parts = [np.zeros((0, len(every)), dtype=np.float64)]
    for chunk in probabilities.chunks:
        # Of a slice `offsets` are the slice's own, `keys` and `items` are the whole array's.
        offsets = np.asarray(chunk.offsets, dtype=np.int64)
        entries = slice(int(offsets[0]), int(offsets[-1]))
        rows = np.repeat(np.arange(len(chunk)), np.diff(offsets))
        tags = chunk.keys[entries].dictionary_encode()
        of_dictionary = np.array([places[tag] for tag in tags.dictionary.to_pylist()], dtype=np.int64)
        shares = np.zeros((len(chunk), len(every)), dtype=np.float64)
        shares[rows, of_dictionary[np.asarray(tags.indices)]] = np.asarray(chunk.items[entries], dtype=np.float64)
        shares[np.asarray(chunk.is_null())] = 0
        parts.append(shares)
    return every, np.concatenate(parts)
