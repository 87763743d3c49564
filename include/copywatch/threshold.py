"""Which Th is in force, and where it comes from.

A threshold is computed by the machine and chosen by a person, so this asks the lake and the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from copywatch.errors import CopywatchError, LakeError, SettingsError
from copywatch.fingerprint.algorithm import identity
from copywatch.fingerprint.registry import algorithm_named
from copywatch.ledger import thresholds as choices
from copywatch.ledger.models import ThresholdChoice
from copywatch.matching.calibration_rows import Method, newest_safer
from copywatch.matching.score import RESCORED_SOURCE, RESCORED_THRESHOLD
from copywatch.rule import Rule
from copywatch.settings import Settings

_BY_HAND = "Name one with --threshold or COPYWATCH_THRESHOLD, or try again when it answers."


@dataclass(frozen=True)
class ThresholdInForce:
    """A threshold and its origin.

    Attributes:
        value: Th, in [0, 1].
        source: where it comes from, a sentence for people.
        run: the calibration it is of; empty: of none.
        method: how it follows from that calibration, a `Method`; empty: of none.
    """

    value: float
    source: str
    run: str = ""
    method: str = ""


def rule_for(algorithm: str, config: Settings) -> Rule:
    """The rule that an algorithm's fingerprints are compared by: the settings', for mao; the paper's for all others."""
    return config.rule if algorithm == "mao" else Rule.PAPER


def built_in_threshold(algorithm: str, config: Settings) -> ThresholdInForce:
    """The measured default of an algorithm under its rule: without settings, ledger and lake.

    Raises:
        SettingsError: no algorithm has that name.
    """
    chosen = algorithm_named(algorithm)
    if rule_for(algorithm, config) is Rule.RESCORED:
        return ThresholdInForce(RESCORED_THRESHOLD, RESCORED_SOURCE)
    return ThresholdInForce(chosen.threshold, chosen.threshold_source)


def threshold_in_force(config: Settings, algorithm: str | None = None) -> ThresholdInForce:
    """Th of an algorithm (default: the settings') under its rule.

    In this order: the settings'; the administrator's newest choice; the safer one of the newest calibration that could
    measure its rate; the measured default. Where there has never been a ledger or a table of thresholds (`copywatch
    compare` on a fresh machine) there is no choice and no calibration, so it is the default.

    A ledger or a lake that does not answer is an error, not a reason to go on with another Th: alerts and reviews of
    the same run would be judged by different thresholds, and nobody would notice. A job is tried again; an answer that
    is wrong stays.

    Raises:
        SettingsError: no algorithm has that name.
        CopywatchError: the ledger or the table of thresholds is there but cannot be read.
    """
    name = algorithm or config.algorithm
    built_in = built_in_threshold(name, config)
    if config.threshold is not None and name == config.algorithm:
        return ThresholdInForce(config.threshold, "Set by COPYWATCH_THRESHOLD.")
    version, rule = identity(algorithm_named(name)), rule_for(name, config).value
    choice = _choice(config, version, rule)
    if choice is not None and choice.threshold is not None:
        method = Method(choice.method)
        return ThresholdInForce(
            choice.threshold,
            f"{_chosen(choice)} from calibration {choice.calibration_run}: {method.words}, "
            f"{choice.false_alarm_rate or 0:g} over {choice.pairs or 0:,} pairs.",
            run=choice.calibration_run or "",
            method=method,
        )
    if choice is not None and choice.method == choices.DEFAULT:
        return ThresholdInForce(built_in.value, f"{_chosen(choice)}: the default. {built_in.source}")
    try:
        calibrated = newest_safer(config.warehouse, version, rule)
    except LakeError:
        raise
    # The engine's own errors have no common base but Exception.
    except Exception as error:
        raise LakeError(
            f"the table of thresholds in {config.warehouse} cannot be read, so nobody can say which Th is in force. "
            f"{_BY_HAND} ({error})"
        ) from error
    if calibrated is not None:
        return ThresholdInForce(
            calibrated.value,
            f"The safer one of the newest calibration {calibrated.run}, of {calibrated.calibrated_at:%Y-%m-%d}: "
            f"{calibrated.measurement}.",
            run=calibrated.run,
            method=calibrated.method,
        )
    return built_in


def in_force_of(config: Settings, version: str, rule: str) -> ThresholdInForce:
    """`threshold_in_force` of a fingerprint as rows name it, such as `mao/1`, by any rule, not the settings' only.

    Raises:
        SettingsError: no algorithm of today has that name and version.
        CopywatchError: the ledger or the table of thresholds is there but cannot be read.
        ValueError: there is no such rule.
    """
    name = version.partition("/")[0]
    if (current := identity(algorithm_named(name))) != version:
        raise SettingsError(f"{version} is of an earlier version: fingerprints are {current} now, and calibrated anew")
    return threshold_in_force(config.model_copy(update={"rule": Rule(rule)}), name)


def _choice(config: Settings, algorithm: str, rule: str) -> ThresholdChoice | None:
    try:
        with choices.ledger_of(config) as opened:
            return choices.newest(opened, algorithm, rule) if opened is not None else None
    # Besides SQLAlchemy's the embedded server's, which fails to start in its own ways.
    except (SQLAlchemyError, OSError, RuntimeError) as error:
        raise CopywatchError(
            f"the ledger does not answer, so nobody can say which threshold was chosen. {_BY_HAND} ({error})"
        ) from error


def _chosen(choice: ThresholdChoice) -> str:
    return f"Chosen by {choice.chosen_by} on {choice.chosen_at:%Y-%m-%d}"
