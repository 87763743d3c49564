"""A detector measured on somebody's own photos: copies found, and other images taken for them.

It matches as the product does, in memory: views or fingerprints, tags until tau, the threshold in force, local
features, verification, and of each detected image the nearest protected one.

For the second stage a detected image takes 60 kB and a protected one 25 kB. Without it memory grows with the images'
views, 7 kB for a protected one; made-up ones, half of them copies, took to compare on one core: 2,000 x 4,000 7 s and
0.4 GB, 10,000 x 10,000 half a minute and 0.7 GB. Each process that reads takes 0.3 GB, more while it decodes an image
that is near the size limits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from copywatch.errors import SettingsError
from copywatch.evaluation.calibrate import calibrated
from copywatch.evaluation.compare import Side, Sides
from copywatch.evaluation.describe import Job, Recipe, described
from copywatch.evaluation.judge import Case, Counts, Judge, Wrong, right_digests
from copywatch.evaluation.truth import Entry, Folder, read_truth
from copywatch.fingerprint.algorithm import identity
from copywatch.fingerprint.registry import algorithm_named
from copywatch.fingerprint.rows import Extraction
from copywatch.matching.pairs import Terms
from copywatch.rule import Rule
from copywatch.settings import Settings
from copywatch.threshold import ThresholdInForce, rule_for, threshold_in_force

log = logging.getLogger(__name__)

GIVEN = "Given by --threshold."
OUTSIDE = "a link that leads out of the folder; it was not read"


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured.

    Attributes:
        edits: counts of each edit, in the order of the truth file.
        wrong_certain: detected images that are taken for certain copies of a wrong image: T = 0 is alerted without a
            person, and what verification is certain of as well, where the administrator lets it.
        wrong_review: other detected images that would go to a person beside a wrong image.
        pairs: usable detected images times usable protected ones, whether their tags bring them together or not: each
            is a chance of a false alarm.
        threshold: Th, and where it comes from.
        rule: the rule.
        algorithm: algorithm and version, "mao/1".
        seconds: from the first byte read to the last pair judged.
        images: that were read, usable or not.
        unnamed: files of the detected folder that the truth file does not name; they were left out.
        unusable: file and reason of each image that gives no fingerprint; as a copy it counts as not found.
        cases: pairs that were judged wrongly.
    """

    edits: Sequence[Counts]
    wrong_certain: int
    wrong_review: int
    pairs: int
    threshold: ThresholdInForce
    rule: Rule
    algorithm: str
    seconds: float
    images: int
    unnamed: Sequence[str]
    unusable: Sequence[Mapping[str, str]]
    cases: Sequence[Case]

    @property
    def total(self) -> Counts:
        """The counts of all edits together."""
        return Counts(
            "all",
            sum(one.copies for one in self.edits),
            sum(one.found for one in self.edits),
            sum(one.certain for one in self.edits),
            sum(one.rank1 for one in self.edits),
        )

    @property
    def precision(self) -> float | None:
        """Share of the right ones among the pairs that are alerted or reviewed; None without any."""
        shown = self.total.found + self.wrong_certain + self.wrong_review
        return self.total.found / shown if shown else None

    def as_json(self) -> dict[str, Any]:
        """As `copywatch evaluate --json` prints it."""
        return {
            "edits": [asdict(one) for one in self.edits],
            "copies": self.total.copies,
            "found": self.total.found,
            "certain": self.total.certain,
            "wrong_certain": self.wrong_certain,
            "wrong_review": self.wrong_review,
            "pairs": self.pairs,
            "precision": None if self.precision is None else round(self.precision, 6),
            "threshold": round(self.threshold.value, 6),
            "threshold_source": self.threshold.source,
            "rule": str(self.rule),
            "algorithm": self.algorithm,
            "seconds": round(self.seconds, 2),
            "images_per_second": round(self.images / self.seconds, 2),
            "unnamed": len(self.unnamed),
            "unusable": [dict(one) for one in self.unusable],
        }


def evaluate(
    protected: Path,
    detected: Path,
    truth: Path,
    *,
    config: Settings,
    algorithm: str | None = None,
    rule: Rule | None = None,
    threshold: float | None = None,
    rate: float | None = None,
    processes: int | None = None,
) -> Evaluation:
    """Measure on two folders of images.

    Args:
        protected: folder of the originals.
        detected: folder of the images that are searched for copies; those that the truth file names are read.
        truth: the truth file, see `copywatch.evaluation.truth`.
        config: algorithm, rule, thresholds, tau, size limits, and where the tag models are.
        algorithm: instead of the settings'.
        rule: instead of the settings'.
        threshold: Th; None: the one in force, which `copywatch.threshold` may ask the ledger for.
        rate: calibrate Th on these photos, for this share of different pairs, in (0, 1), instead.
        processes: that read images at once; None: one for each core.

    Raises:
        EvaluationError: the folders or the truth file cannot be used.
        SettingsError: no algorithm has that name, or the rule is not for it.
        MachineError: the tag models are not prepared, or no process can be started.
        CopywatchError: the ledger or the table of thresholds is there but cannot be read.
    """
    name = algorithm or config.algorithm
    chosen = algorithm_named(name)
    config = with_rule(config, rule)
    in_force = rule_for(name, config)
    if rule is not None and rule is not in_force:
        raise SettingsError(f"the rule {rule} is for mao only; {name} has {in_force}")
    folders = {True: Folder.of(protected, without=truth), False: Folder.of(detected, without=truth)}
    entries = read_truth(truth, detected=folders[False], protected=folders[True])

    unnamed = [one for one in folders[False].names if one not in entries]
    if unnamed:
        log.warning("%d files of %s are not in the truth file and are left out", len(unnamed), folders[False].root)
    # A threshold in force is asked for before minutes are spent on reading images; a rate has to wait for them.
    wanted = _in_force(config, name, threshold) if rate is None else rate

    start = time.monotonic()
    extraction = Extraction(
        name, config.max_image_pixels, config.max_image_bytes, config.prepared_dir.resolve() / "models"
    )
    names = {True: list(folders[True].names), False: list(entries)}
    jobs = [Job(folders[side].root / one, side) for side in (True, False) for one in names[side]]
    descriptions = described(Recipe(extraction, config.second_stage), jobs, processes)
    originals = Side.of(names[True], descriptions[: len(names[True])])
    sightings = Side.of(names[False], descriptions[len(names[True]) :])
    right = right_digests(entries, originals)
    if isinstance(wanted, ThresholdInForce):
        limit = wanted
    else:
        limit = _calibrated(name, in_force, originals, sightings, entries, right, wanted)
    terms = Terms.of(name, in_force, limit.value, config.identical_bound)
    sides = Sides(sightings, originals, terms, config.tag_coverage, second_stage=config.second_stage)
    judge = Judge(entries, right, sides)
    unusable = [
        {"file": str(folders[side].root / one), "reason": OUTSIDE}
        for side in (True, False)
        for one in folders[side].outside
    ]
    unusable += [
        {"file": str(job.path), "reason": one.reason} for job, one in zip(jobs, descriptions, strict=True) if one.reason
    ]
    cases = judge.cases()
    return Evaluation(
        edits=judge.counts(),
        wrong_certain=sum(one.wrong is Wrong.CERTAIN for one in cases),
        wrong_review=sum(one.wrong is Wrong.REVIEW for one in cases),
        pairs=len(sightings) * len(originals),
        threshold=limit,
        rule=in_force,
        algorithm=identity(chosen),
        seconds=time.monotonic() - start,
        images=len(jobs),
        unnamed=unnamed,
        unusable=unusable,
        cases=cases,
    )


def _in_force(config: Settings, algorithm: str, given: float | None) -> ThresholdInForce:
    return threshold_in_force(config, algorithm) if given is None else ThresholdInForce(given, GIVEN)


def _calibrated(
    algorithm: str,
    rule: Rule,
    originals: Side,
    sightings: Side,
    entries: Mapping[str, Entry],
    right: Mapping[str, frozenset[str]],
    rate: float,
) -> ThresholdInForce:
    """Th by the protected images and those that are no copies; protected ones that one image copies are the same."""
    no_copies = [(name, one) for name, one in zip(sightings.names, sightings.images, strict=True)
                 if not entries[name].originals]  # fmt: skip
    images = Side(originals.names + [name for name, _ in no_copies], originals.images + [one for _, one in no_copies])
    copied = [[originals.first_place[digest] for digest in digests] for digests in right.values() if digests]
    same = [(places[0], place) for places in copied for place in places]
    return calibrated(algorithm, rule, images, protected=len(originals), same=same, rate=rate)


def with_rule(config: Settings, rule: Rule | None) -> Settings:
    """The settings under another rule; a threshold that was set for the first one is left out."""
    if rule is None or rule is config.rule:
        return config
    return config.model_copy(update={"rule": rule, "threshold": None})
