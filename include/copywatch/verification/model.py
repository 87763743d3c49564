"""From measures to a probability, and from that to a verdict.

A logistic regression (Cox 1958) on a few measures, each brought to about 0 to 1 and allowed to speak in one direction
only: more agreement never makes a copy less probable. Beside it stand bounds that no probability overrules: a pair with
too few points or blocks is never certain, however well these agree.

The numbers are in a JSON file that is shipped; it says how they were learned and holds a digest of itself.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from copywatch.errors import MachineError
from copywatch.verification.verdict import IDENTITY, Judgement, Measures

MODEL_FILE = "align-1.json"
MOST_MODEL_BYTES = 1 << 16

SIGNS: dict[str, int] = {
    "points": 1,
    "points_share": 1,
    "blocks": 1,
    "agreement": 1,
    "weakest": 1,
    "overlap_agreement": 1,
    "part_agreement": 1,
    "hole": -1,
    "shown": 1,
    "covered": 1,
    "colour": -1,
    "tone": -1,
    "greyed": -1,
}
"""The features by name, in their order, and the direction in which each may speak."""

MOST_OFF = 30.0
"""Of colour and tone; what is farther off is simply another one."""

FEATURES = tuple(SIGNS)
_MEASURES = {field.name for field in fields(Measures)}


@dataclass(frozen=True)
class Model:
    """A learned rule.

    Attributes:
        identity: `copywatch.verification.verdict.IDENTITY` of the way that it belongs to.
        learned: of what and how, in words.
        weights: float64 (F,), one for each of `FEATURES`.
        intercept: what the sum begins with.
        certain: probability from which on a pair is certain.
        doubtful: probability from which on it is doubtful.
        certain_at_least: measures (by their names) below which no pair is certain.
        certain_at_most: measures above which no pair is certain.
        without_transform: probability of a pair for which no transform was found.
    """

    identity: str
    learned: str
    weights: NDArray[np.float64]
    intercept: float
    certain: float
    doubtful: float
    certain_at_least: Mapping[str, float]
    certain_at_most: Mapping[str, float]
    without_transform: float

    def probability(self, measures: Measures) -> float:
        """That the pair is a copy, 0 to 1."""
        total = self.intercept + float(self.weights @ measures_vector(measures))
        return 1 / (1 + math.exp(-min(max(total, -700.0), 700.0)))

    def judgement(self, measures: Measures) -> Judgement:
        """The verdict by the probability and the bounds."""
        probability = self.probability(measures)
        if probability < self.doubtful:
            return Judgement.DIFFERENT
        values = asdict(measures)
        bounded = all(values[name] >= least for name, least in self.certain_at_least.items()) and all(
            values[name] <= most for name, most in self.certain_at_most.items()
        )
        return Judgement.CERTAIN if bounded and probability >= self.certain else Judgement.DOUBTFUL

    def written(self) -> bytes:
        """The model as a file."""
        content: dict[str, Any] = {
            "identity": self.identity,
            "learned": self.learned,
            "weights": dict(zip(FEATURES, map(float, self.weights), strict=True)),
            "intercept": self.intercept,
            "certain": self.certain,
            "doubtful": self.doubtful,
            "certain_at_least": dict(self.certain_at_least),
            "certain_at_most": dict(self.certain_at_most),
            "without_transform": self.without_transform,
        }
        return (json.dumps({**content, "digest": _digest(content)}, indent=2) + "\n").encode()


def measures_vector(measures: Measures) -> NDArray[np.float64]:
    """The features, float64 (F,) in the order of `FEATURES`, each finite and 0 to 1, `weakest` from -1 on.

    Counts grow by their logarithm, areas by their root: from 10 points to 20 is much, from 200 to 210 is nothing.
    """
    return np.array(
        [
            _log_share(measures.inliers, 200),
            min(1.0, measures.inliers / max(1, measures.expected)),
            _log_share(measures.blocks, 256),
            measures.agreement,
            measures.weakest,
            measures.overlap_agreement,
            measures.part_agreement,
            measures.hole,
            math.sqrt(measures.shown),
            math.sqrt(measures.covered),
            min(measures.colour, MOST_OFF) / MOST_OFF,
            min(measures.tone, MOST_OFF) / MOST_OFF,
            float(measures.greyed),
        ]
    )


def read_model(data: bytes) -> Model:
    """What `Model.written` wrote.

    Raises:
        ValueError: the bytes are no such file, or were changed, or a number is out of its bounds, or a weight speaks in
            the wrong direction.
    """
    if len(data) > MOST_MODEL_BYTES:
        raise ValueError(f"{len(data)} bytes; a model has at most {MOST_MODEL_BYTES}")
    try:
        content = json.loads(data)
        digest = content.pop("digest")
        weights = content.pop("weights")
        if digest != _digest({**content, "weights": weights}):
            raise ValueError("its digest is another one: it was changed")
        if tuple(weights) != FEATURES:
            raise ValueError(f"it has weights for {', '.join(weights)}, not for {', '.join(FEATURES)}")
        model = Model(weights=np.array(list(weights.values()), dtype=np.float64), **content)
        _check(model)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a file of verification's model ({error})") from error
    return model


@lru_cache(maxsize=1)
def model() -> Model:
    """The shipped model of `copywatch.verification.verdict.IDENTITY`.

    Raises:
        MachineError: the file is missing or damaged, or belongs to another version.
    """
    file = importlib.resources.files("copywatch.verification").joinpath(MODEL_FILE)
    again = "install Copywatch again"
    try:
        shipped = read_model(file.read_bytes())
    except OSError as error:
        raise MachineError(f"{MODEL_FILE} is missing from copywatch.verification ({error}); {again}") from error
    except ValueError as error:
        raise MachineError(f"{MODEL_FILE} in copywatch.verification is damaged: {error}; {again}") from error
    if shipped.identity != IDENTITY:
        raise MachineError(f"{MODEL_FILE} in copywatch.verification is {shipped.identity}'s, not {IDENTITY}'s; {again}")
    return shipped


def _log_share(count: int, most: int) -> float:
    return math.log1p(min(count, most)) / math.log1p(most)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check(model: Model) -> None:
    wrong = [name for name, weight in zip(FEATURES, model.weights, strict=True) if weight * SIGNS[name] < 0]
    if wrong:
        raise ValueError(f"the weights of {', '.join(wrong)} speak in the wrong direction")
    bounds = [*model.certain_at_least.items(), *model.certain_at_most.items()]
    unknown = [name for name, _ in bounds if name not in _MEASURES]
    if unknown:
        raise ValueError(f"there are no measures {', '.join(unknown)}")
    numbers = [*model.weights.tolist(), model.intercept, *(bound for _, bound in bounds)]
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError("a number is not finite")
    if not 0 < model.doubtful <= model.certain < 1 or not 0 <= model.without_transform < model.doubtful:
        raise ValueError("the probabilities of doubtful and certain must rise between 0 and 1")
    if not isinstance(model.identity, str) or not isinstance(model.learned, str):
        raise ValueError("identity and learned must be texts")
