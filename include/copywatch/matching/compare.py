"""Given pairs of images against each other, by the rule that the chain would compare them by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from copywatch.decode import decode
from copywatch.features.extract import protected_points
from copywatch.features.thumbnail import decoded_thumbnail, thumbnail
from copywatch.fingerprint.algorithm import Algorithm
from copywatch.fingerprint.registry import algorithm_named
from copywatch.fingerprint.views import protected_views, sighting_views
from copywatch.matching.candidates import CandidateIndex, Images
from copywatch.matching.verdict import Verdict, verdict, verdicts
from copywatch.matching.view_words import view_words
from copywatch.rule import Rule
from copywatch.settings import Settings
from copywatch.threshold import rule_for, threshold_in_force
from copywatch.verification.sides import Original
from copywatch.verification.verdict import Verification
from copywatch.verification.verify import found_of, verify


@dataclass(frozen=True)
class Comparison:
    """How far two images are from each other.

    Attributes:
        distance: what Th is compared with, in [0, 1]: by the rule.
        plain_distance: the algorithm's own distance of what was compared, in [0, 1].
        verdict: the paper's T.
        threshold: Th that T was found with.
        rule: how `distance` was measured.
        view: what was done to the second image, in words, such as "mirrored"; empty: nothing that shows, or no copy.
    """

    distance: float
    plain_distance: float
    verdict: Verdict
    threshold: float
    rule: Rule
    view: str


def compared(
    original: bytes, sighting: bytes, config: Settings, *, algorithm: str = "mao", threshold: float | None = None
) -> Comparison:
    """Compare a protected image with what may be a copy of it.

    Args:
        original: bytes of the protected image's file.
        sighting: bytes of the other file.
        config: rule, thresholds, size limits.
        algorithm: name of the algorithm.
        threshold: Th, in [0, 1]; None: the one in force for the algorithm.

    Raises:
        UnusableImage: a file gives no fingerprint.
        SettingsError: no algorithm has that name.
        CopywatchError: no threshold is given, and the ledger or the table of thresholds cannot be read.
    """
    chosen = algorithm_named(algorithm)
    rule = rule_for(algorithm, config)
    limit = threshold_in_force(config, algorithm).value if threshold is None else threshold
    one, other = (
        decode(data, max_pixels=config.max_image_pixels, max_bytes=config.max_image_bytes).rgb
        for data in (original, sighting)
    )
    if rule is Rule.PAPER:
        codes = [chosen.encode(chosen.fingerprint(image)) for image in (one, other)]
        return compared_codes(chosen, codes[:1], codes[1:], limit, config.identical_bound)[0]
    return compared_views(
        [protected_views(one)], [sighting_views(other)], [original == sighting], limit, config.identical_bound
    )[0]


def verified(original: bytes, sighting: bytes, config: Settings) -> Verification:
    """Lay two images over each other, as the chain does with every pair that it tells people of.

    Args:
        original: bytes of the protected image's file.
        sighting: bytes of the other file.
        config: size limits.

    Raises:
        UnusableImage: a file cannot be decoded.
        MachineError: a model of the verification is missing or damaged.
    """
    one, other = (
        decode(data, max_pixels=config.max_image_pixels, max_bytes=config.max_image_bytes).rgb
        for data in (original, sighting)
    )
    # By way of the small JPEG that the table `features` keeps.
    return verify(Original(protected_points(one), decoded_thumbnail(thumbnail(one))), found_of(other))


def compared_codes(
    algorithm: Algorithm, originals: Sequence[bytes], sightings: Sequence[bytes], threshold: float, bound: float
) -> list[Comparison]:
    """Row i of the one with row i of the other, by SRPITP's Formulas (1) and (2).

    Args:
        algorithm: of the fingerprints.
        originals: encoded fingerprints.
        sightings: likewise.
        threshold: Th.
        bound: T = 0 up to this distance.
    """
    distances = [
        algorithm.distance(algorithm.decode(one), algorithm.decode(other))
        for one, other in zip(originals, sightings, strict=True)
    ]
    return [Comparison(one, one, verdict(one, threshold, bound), threshold, Rule.PAPER, "") for one in distances]


def compared_views(
    originals: Sequence[NDArray[np.void]],
    sightings: Sequence[NDArray[np.void]],
    same_file: Sequence[bool],
    threshold: float,
    bound: float,
) -> list[Comparison]:
    """Row i of the one with row i of the other by the rule "rescored", whatever its first stage makes of them.

    Args:
        originals: views of protected images, `VIEW` (V,) each.
        sightings: views of sightings.
        same_file: whether they are of the same bytes, which are identical whatever they show.
        threshold: Th.
        bound: T = 0 up to this score, if above 0.
    """
    pairs = np.arange(len(originals), dtype=np.int64)
    same = np.array(same_file, dtype=np.bool_)
    # A pair for each sighting: the answer is in their order.
    found = CandidateIndex(Images(originals)).rescored(Images(sightings), pairs, pairs, 1.0)
    judged = verdicts(found.scores, found.identical | same, threshold, bound)
    return [
        Comparison(
            distance=float(found.scores[pair]),
            plain_distance=float(found.distances[pair]),
            verdict=Verdict(int(judged[pair])),
            threshold=threshold,
            rule=Rule.RESCORED,
            view=view_words(int(found.kinds[pair]), int(found.sighting_kinds[pair]))
            if judged[pair] < Verdict.DIFFERENT and not same[pair]
            else "",
        )
        for pair in pairs.tolist()
    ]
