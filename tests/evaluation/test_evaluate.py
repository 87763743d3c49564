"""Counts against a truth that was counted by hand."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from copywatch.demo.planting import photo_bytes
from copywatch.errors import EvaluationError, SettingsError
from copywatch.evaluation.evaluate import Evaluation, evaluate
from copywatch.evaluation.judge import Counts, Wrong
from copywatch.matching.verdict import Verdict
from copywatch.rule import Rule
from copywatch.settings import Settings
from copywatch.threshold import ThresholdInForce
from tests.evaluation.conftest import Case, jpeg, picture

KEYS = {
    "edits", "copies", "found", "certain", "wrong_certain", "wrong_review", "pairs", "precision", "threshold",
    "seconds", "threshold_source", "rule", "algorithm", "images_per_second", "unnamed", "unusable",
}  # fmt: skip


def measured(case: Case, config: Settings, **options: object) -> Evaluation:
    """Measure in this process."""
    return evaluate(case.protected, case.detected, case.truth, config=config, processes=1, **options)  # type: ignore[arg-type]


def test_counts_are_those_counted_by_hand(known: Case, config: Settings) -> None:
    """See the fixture; a mirrored and a turned copy are found, what is left of a corner is not."""
    found = measured(known, config)
    by_edit = {one.edit: (one.copies, one.found, one.certain) for one in found.edits}
    assert by_edit == {
        "same file": (1, 1, 1),
        "sepia": (2, 2, 0),
        "turned": (2, 2, 0),
        "cut to a corner": (1, 0, 0),
    }
    assert [one.rank1 for one in found.edits if one.edit != "cut to a corner"] == [1, 2, 2]
    assert (found.wrong_certain, found.wrong_review, found.precision) == (0, 0, 1.0)
    assert found.pairs == 8 * 4
    assert found.images == 12
    [missed] = found.cases
    assert (missed.wrong, missed.detected, missed.protected) == (Wrong.MISSED, "f.jpg", "02.jpg")
    assert missed.why == "beyond the threshold"
    assert missed.distance is not None
    assert missed.distance > found.threshold.value


def test_json_has_exactly_these_names_and_adds_up(known: Case, config: Settings) -> None:
    """Programs read it."""
    found = measured(known, config).as_json()
    assert set(found) == KEYS
    for one in found["edits"]:
        assert set(one) == {"edit", "copies", "found", "certain", "rank1"}
    for name in ("copies", "found", "certain"):
        assert found[name] == sum(one[name] for one in found["edits"])
    assert (found["rule"], found["algorithm"], found["unusable"]) == ("rescored", "mao/1", [])
    assert found["precision"] == 1.0
    assert found["images_per_second"] == pytest.approx(12 / found["seconds"], rel=0.05)


def test_wrong_pairs_are_counted_by_what_becomes_of_them(case: Case, config: Settings) -> None:
    """The same file is alerted, an edited one goes to review; a copy of another image is wrong and missed."""
    for name in ("01.jpg", "02.jpg"):
        (case.protected / name).write_bytes(photo_bytes(name))
        (case.detected / name).write_bytes(photo_bytes(name))
    for name in ("01.jpg", "02.jpg"):
        data = jpeg(Image.open(BytesIO(photo_bytes(name))).convert("RGB"), 40)
        (case.detected / f"again-{name}").write_bytes(data)
    # Of these four statements only the first is true of the pictures.
    case.write(
        [
            ("01.jpg", "01.jpg", "none"),
            ("02.jpg", "", ""),
            ("again-01.jpg", "", ""),
            ("again-02.jpg", "01.jpg", "jpeg"),
        ]
    )
    found = measured(case, config)
    assert (found.wrong_certain, found.wrong_review) == (1, 2)
    assert list(found.edits) == [Counts("none", 1, 1, 1, 1), Counts("jpeg", 1, 0, 0, 0)]
    assert found.total == Counts("all", 2, 1, 1, 1)
    assert found.precision == pytest.approx(1 / 4)
    told = [(one.wrong, one.detected, one.protected, one.verdict) for one in found.cases]
    assert told[0] == (Wrong.CERTAIN, "02.jpg", "02.jpg", Verdict.IDENTICAL)
    assert set(told[1:3]) == {
        (Wrong.REVIEW, "again-01.jpg", "01.jpg", Verdict.SIMILAR),
        (Wrong.REVIEW, "again-02.jpg", "02.jpg", Verdict.SIMILAR),
    }
    assert told[3] == (Wrong.MISSED, "again-02.jpg", "01.jpg", Verdict.DIFFERENT)


def test_any_of_several_right_originals_will_do(case: Case, config: Settings) -> None:
    """Named in several rows, or a file with the same bytes as one that is named."""
    (case.protected / "a.jpg").write_bytes(photo_bytes("01.jpg"))
    (case.protected / "b.jpg").write_bytes(photo_bytes("01.jpg"))
    (case.protected / "c.jpg").write_bytes(photo_bytes("02.jpg"))
    (case.detected / "x.jpg").write_bytes(photo_bytes("01.jpg"))
    case.write([("x.jpg", "b.jpg", ""), ("x.jpg", "c.jpg", "")])
    found = measured(case, config)
    assert list(found.edits) == [Counts("", 1, 1, 1, 1)]
    assert (found.cases, found.wrong_certain) == ([], 0)


def test_near_equal_protected_photos_and_collages(case: Case, config: Settings) -> None:
    """A row for each of several right originals; one that no row names is a wrong pair, and the miss asks about it."""
    first = Image.open(BytesIO(photo_bytes("01.jpg"))).convert("RGB")
    (case.protected / "full.jpg").write_bytes(photo_bytes("01.jpg"))
    (case.protected / "small.jpg").write_bytes(jpeg(first.resize((first.width // 3, first.height // 3)), 70))
    (case.protected / "other.jpg").write_bytes(photo_bytes("02.jpg"))
    (case.detected / "copy.jpg").write_bytes(jpeg(first, 60))
    beside = Image.new("RGB", (first.width * 2, first.height))
    beside.paste(first, (0, 0))
    beside.paste(Image.open(BytesIO(photo_bytes("02.jpg"))).convert("RGB").resize(first.size), (first.width, 0))
    (case.detected / "collage.jpg").write_bytes(jpeg(beside))
    collage = [("collage.jpg", "full.jpg", "collage"), ("collage.jpg", "other.jpg", "collage")]
    case.write([("copy.jpg", "full.jpg", "jpeg"), ("copy.jpg", "small.jpg", "jpeg"), *collage])
    both = measured(case, config)
    assert [(one.edit, one.copies) for one in both.edits] == [("jpeg", 1), ("collage", 1)]
    assert both.edits[0] == Counts("jpeg", 1, 1, 0, 1)
    assert both.wrong_review == 0
    # The collage is missed once, beside the nearer of its two originals.
    assert [one.detected for one in both.cases] == ["collage.jpg"]
    case.write([("copy.jpg", "small.jpg", "jpeg"), *collage])
    one_named = measured(case, config)
    assert one_named.edits[0] == Counts("jpeg", 1, 0, 0, 0)
    assert one_named.wrong_review == 1
    assert {one.why for one in one_named.cases if one.detected == "copy.jpg"} == {
        "",
        "full.jpg is nearer; is it the same photo?",
    }


def test_certain_is_what_the_chain_alerts_without_a_person(known: Case, config: Settings) -> None:
    """A raised bound of T = 0 makes more of them."""
    assert measured(known, config).total.certain == 1
    raised = measured(known, config.model_copy(update={"identical_bound": 0.2275})).total
    assert raised.certain == raised.found == 5


def test_unusable_images_are_rows_and_count_as_not_found(known: Case, config: Settings) -> None:
    """On either side; nothing is alerted for them, and no pair is counted."""
    (known.detected / "b.jpg").write_bytes(b"<html>no</html>")
    (known.protected / "02.jpg").write_bytes(photo_bytes("02.jpg")[:2000])
    (known.protected / "03.jpg").write_bytes(b"")
    with (known.protected / "04.jpg").open("wb") as huge:
        huge.truncate(config.max_image_bytes + 1)
    (known.protected / "out.jpg").symlink_to(known.truth)
    found = measured(known, config)
    reasons = {Path(one["file"]).name: one["reason"] for one in found.unusable}
    assert set(reasons) == {"b.jpg", "02.jpg", "03.jpg", "04.jpg", "out.jpg"}
    assert "HTML" in reasons["b.jpg"]
    assert "truncated" in reasons["02.jpg"]
    assert "at most" in reasons["04.jpg"]
    assert "leads out" in reasons["out.jpg"]
    assert {one.edit: (one.copies, one.found) for one in found.edits} == {
        "same file": (1, 1),
        "sepia": (2, 0),
        "turned": (2, 1),
        "cut to a corner": (1, 0),
    }
    assert found.pairs == 7 * 1
    whys = {one.detected: one.why for one in found.cases}
    assert whys["b.jpg"] == "the detected image is unusable"
    assert whys["c.jpg"] == "the protected image is unusable"


def test_nothing_usable_is_a_result(case: Case, config: Settings) -> None:
    """Without a division by zero."""
    (case.protected / "a.jpg").write_bytes(b"x")
    (case.detected / "b.jpg").write_bytes(photo_bytes("01.jpg"))
    case.write([("b.jpg", "a.jpg", "e")])
    found = measured(case, config)
    assert list(found.edits) == [Counts("e", 1, 0, 0, 0)]
    assert (found.pairs, found.precision, found.as_json()["precision"]) == (0, None, None)
    (case.protected / "a.jpg").write_bytes(photo_bytes("01.jpg"))
    (case.detected / "b.jpg").write_bytes(b"x")
    assert measured(case, config).total == Counts("all", 1, 0, 0, 0)
    assert measured(case, config, algorithm="dhash").total == Counts("all", 1, 0, 0, 0)


def test_tags_that_are_not_searched_lose_a_copy_and_say_so(
    known: Case, config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the bytes are the same."""
    from copywatch.tagging.tagger import Tagger

    def by_size(_: Tagger, rgb: object) -> dict[str, float]:
        return {"animal": 1.0} if next(calls) < 4 else {"vehicle": 1.0}

    calls = iter(range(100))
    monkeypatch.setattr(Tagger, "probabilities", by_size)
    found = measured(known, config)
    assert {one.edit: one.found for one in found.edits} == {
        "same file": 1,
        "sepia": 0,
        "turned": 0,
        "cut to a corner": 0,
    }
    whys = {one.detected: one.why for one in found.cases}
    assert whys["b.jpg"] == "the tag animal was not searched"
    assert whys["f.jpg"] == "beyond the threshold"


def test_what_the_first_stage_holds_back_is_not_found(
    known: Case, config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However near it is: the product never scores it. It still has its rank."""
    from copywatch.matching import candidates

    monkeypatch.setattr(candidates, "UPRIGHT_BITS", -1)
    monkeypatch.setattr(candidates, "TURNED_BITS", -1)
    found = measured(known, config)
    assert {one.edit: (one.found, one.rank1) for one in found.edits}["sepia"] == (0, 2)
    assert {one.detected: one.why for one in found.cases}["b.jpg"] == "not let through by the first stage"


def test_other_algorithms_and_the_paper_rule(known: Case, config: Settings) -> None:
    """By plain Hamming distance and their own threshold, upright only."""
    from copywatch.fingerprint import algorithm_named

    paper = measured(known, config, rule=Rule.PAPER)
    assert paper.threshold.value == algorithm_named("mao").threshold
    assert {one.edit: one.found for one in paper.edits}["turned"] == 0
    assert {one.edit: one.found for one in paper.edits}["sepia"] == 2
    pdq = measured(known, config, algorithm="pdq")
    assert (pdq.algorithm, pdq.rule, pdq.threshold.value) == ("pdq/1", Rule.PAPER, 31 / 256)
    assert {one.edit: one.certain for one in pdq.edits}["same file"] == 1
    with pytest.raises(SettingsError, match="rescored is for mao only"):
        measured(known, config, algorithm="pdq", rule=Rule.RESCORED)
    with pytest.raises(SettingsError, match="there are only"):
        measured(known, config, algorithm="none")


def test_the_threshold_that_was_set_or_given_decides(known: Case, config: Settings) -> None:
    """Of two ways the nearer one; a threshold set for one rule is none for the other."""
    nothing = config.model_copy(update={"threshold": 0.0})
    assert measured(known, nothing).total.found == 1
    assert measured(known, nothing, threshold=0.2275).total.found == 5
    assert measured(known, nothing, rule=Rule.PAPER).threshold.value == pytest.approx(0.47)
    assert measured(known, nothing).threshold.source == "Set by COPYWATCH_THRESHOLD."


def test_a_threshold_in_force_is_the_chains(known: Case, config: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of the same function; not asked where it is given or calibrated."""
    asked = []

    def in_force(_: Settings, algorithm: str) -> ThresholdInForce:
        asked.append(algorithm)
        return ThresholdInForce(0.0, "Chosen by Ada on 2026-11-21.")

    monkeypatch.setattr("copywatch.evaluation.evaluate.threshold_in_force", in_force)
    chosen = measured(known, config)
    assert (chosen.threshold.value, chosen.threshold.source) == (0.0, "Chosen by Ada on 2026-11-21.")
    assert (chosen.total.found, asked) == (1, ["mao"])
    measured(known, config, threshold=0.1)
    measured(known, config, rate=0.1)
    assert asked == ["mao"]


def test_a_long_run_says_how_far_it_is(
    known: Case, config: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In each part of it."""
    monkeypatch.setattr("copywatch.evaluation.progress._SECONDS_A_LINE", 0.0)
    with caplog.at_level("INFO"):
        measured(known, config, rate=0.1)
    for words in ("12 of 12 images read", "1 of 1 blocks of pairs measured", "8 of 8 images compared"):
        assert words in caplog.text


def test_neither_ledger_nor_lake_is_opened(known: Case, config: Settings) -> None:
    """A measurement leaves everything as it is."""
    measured(known, config)
    assert not config.data_dir.exists()


def test_calibration_lies_just_below_the_closest_wrong_pair(case: Case, config: Settings) -> None:
    """Where the pairs are too few for the rate, which it says."""
    for seed in range(5):
        (case.protected / f"{seed}.jpg").write_bytes(jpeg(picture(seed)))
    # Two photos of one thing, which the truth does not know: the closest pair of all.
    (case.protected / "near.jpg").write_bytes(jpeg(picture(0), 30))
    (case.detected / "copy.jpg").write_bytes(jpeg(picture(1), 30))
    (case.detected / "other.jpg").write_bytes(jpeg(picture(9)))
    case.write([("copy.jpg", "1.jpg", ""), ("other.jpg", "", "")])
    found = measured(case, config, rate=1e-6)
    # 6 x 5 / 2 among the protected, and 6 with the one that is no copy.
    assert "over 21 different pairs" in found.threshold.source
    assert "0.jpg and near.jpg" in found.threshold.source
    assert "cannot be measured" in found.threshold.source
    close = measured(case, config, threshold=found.threshold.value).threshold.value
    assert 0 < close < 0.1
    # Once the truth says that both are right for one image, they are no wrong pair any more.
    (case.detected / "zero.jpg").write_bytes(jpeg(picture(0), 60))
    case.write(
        [("copy.jpg", "1.jpg", ""), ("other.jpg", "", ""), ("zero.jpg", "0.jpg", ""), ("zero.jpg", "near.jpg", "")]
    )
    wider = measured(case, config, rate=1e-6)
    assert "over 20 different pairs" in wider.threshold.source
    assert wider.threshold.value > 0.2
    assert wider.wrong_review == 0


def test_calibration_of_a_rate_that_can_be_measured(case: Case, config: Settings) -> None:
    """Of 27 pairs a tenth are two: at most so many protected and other images lie within Th of each other."""
    for seed in range(6):
        (case.protected / f"{seed}.jpg").write_bytes(jpeg(picture(seed)))
    (case.detected / "other.jpg").write_bytes(jpeg(picture(9)))
    (case.detected / "another.jpg").write_bytes(jpeg(picture(10)))
    case.write([("other.jpg", "", ""), ("another.jpg", "", "")])
    for options in ({}, {"algorithm": "pdq"}, {"rule": Rule.PAPER}):
        found = measured(case, config, rate=0.1, **options)
        assert f"over {6 * 5 // 2 + 2 * 6} different pairs" in found.threshold.source
        assert "0.1 over" in found.threshold.source
        assert found.wrong_review + found.wrong_certain <= 2


def test_calibration_needs_two_images(case: Case, config: Settings) -> None:
    """And says so."""
    (case.protected / "a.jpg").write_bytes(jpeg(picture(1)))
    (case.detected / "a.jpg").write_bytes(jpeg(picture(1)))
    case.write([("a.jpg", "a.jpg", "")])
    with pytest.raises(EvaluationError, match="give more photos"):
        measured(case, config, rate=1e-6)
