"""Learning the rule on made-up measures, and the whole experiment on the demo's photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from photo_folder import folder_of

from benchmarks import pair_sides, second_stage, train_verification, verification_pairs
from benchmarks.train_verification import (
    MARGIN,
    Material,
    bounds,
    certain_from,
    doubtful_from,
    learned_from,
    reliability_rows,
    without_transform,
)
from benchmarks.verification_pairs import UNRELATED, Compared, with_verdicts
from copywatch.verification.model import FEATURES, SIGNS, read_model


def pairs(copies: int, others: int, seed: int = 1) -> pd.DataFrame:
    """Copies agree, others do not; `covered` says nothing, and a little the wrong way."""
    rng = np.random.default_rng(seed)
    count = copies + others
    copy = np.arange(count) < copies
    good = np.clip(rng.normal(np.where(copy, 0.9, 0.35), 0.12), 0, 1)
    return pd.DataFrame(
        {
            "shown_photo": [f"{number % 40:02}.jpg" for number in range(count)],
            "edit": "none",
            "kind": np.where(copy, "mild", UNRELATED),
            "original": "o.jpg",
            "copy": copy,
            "votes": 20.0,
            "score": np.nan,
            "identical": False,
            "few": False,
            "inliers": np.where(copy, rng.integers(12, 150, count), rng.integers(6, 20, count)),
            "blocks": rng.integers(20, 200, count),
            "agreement": good,
            "weakest": np.clip(good - 0.2, -1, 1),
            "overlap_agreement": np.clip(good - 0.1, 0, 1),
            "shown": rng.uniform(0.2, 1, count),
            "covered": np.where(copy, rng.uniform(0, 0.8, count), rng.uniform(0.3, 1, count)),
            "colour": np.where(copy, 3.0, 20.0) + rng.uniform(0, 10, count),
            "expected": 160,
            "part_blocks": 50,
            "part_agreement": good,
            "hole": np.clip(1 - good - rng.uniform(0, 0.2, count), 0, 1),
            "tone": 5.0 + rng.uniform(0, 5, count),
            "greyed": False,
        }
    )


def test_the_rule_separates_and_no_weight_speaks_in_the_wrong_direction() -> None:
    table = pairs(300, 500)
    learned = learned_from(table, unrelated_pictures=500)
    for name, weight in zip(FEATURES, learned.model.weights, strict=True):
        assert weight * SIGNS[name] >= 0
        assert (weight == 0) >= (name in learned.left_out)
    assert "covered" in learned.left_out
    judged = with_verdicts(table, learned.model)
    wrong = judged[~judged["copy"]]
    assert (wrong.verdict == "certain").sum() == 0
    assert (wrong.verdict != "different").sum() == 0
    copies = judged[judged["copy"]]
    assert (copies.verdict != "different").mean() > 0.95
    assert ((learned.held_out > 0.5) == table["copy"]).mean() > 0.97
    written = read_model(learned.model.written())
    np.testing.assert_array_equal(written.weights, learned.model.weights)


def test_the_same_pairs_give_the_same_rule() -> None:
    one, other = (learned_from(pairs(120, 200), 200).model.written() for _ in range(2))
    assert one == other


def test_certain_begins_beyond_every_wrong_pair() -> None:
    bound = certain_from(np.array([0.2, 0.99, 0.5]))
    assert np.log(bound / (1 - bound)) == pytest.approx(np.log(0.99 / 0.01) + MARGIN)
    assert certain_from(np.array([0.01])) == train_verification.LEAST_CERTAIN
    assert certain_from(np.array([])) == train_verification.LEAST_CERTAIN


def test_doubtful_allows_one_wrong_pair_for_a_thousand_pictures() -> None:
    wrong = np.array([0.9, 0.6, 0.3, 0.01])
    odds = {999: 0.9, 1000: 0.6, 2000: 0.3}
    for pictures, first in odds.items():
        bound = doubtful_from(wrong, pictures)
        assert np.log(bound / (1 - bound)) == pytest.approx(np.log(first / (1 - first)) + MARGIN)
        assert (wrong >= bound).sum() <= pictures // 1000
    assert doubtful_from(wrong, 4000) == train_verification.LEAST_DOUBTFUL


def test_bounds_lose_few_copies_and_are_of_copies_alone() -> None:
    table = pairs(1000, 100)
    below, above = bounds(table)
    copies = table[table["copy"]]
    assert below.pop("overlap_agreement") == train_verification.LEAST_OVERLAP
    for name, bound in below.items():
        assert (copies[name] < bound).mean() <= 0.02
    for name, bound in above.items():
        assert (copies[name] > bound).mean() <= 0.02
    assert below["inliers"] >= train_verification.LEAST_INLIERS


def test_reliability_counts_copies_in_each_bin() -> None:
    rows = reliability_rows(np.array([0.05, 0.06, 0.95, 1.0]), np.array([False, True, True, True]))
    assert [(row["pairs"], row["share of copies"]) for row in rows] == [(2, 0.5), (1, 1.0), (1, 1.0)]


def test_a_pair_without_a_transform_is_as_probable_as_they_were() -> None:
    table = pairs(3, 7).assign(inliers=np.nan)
    assert without_transform(table) == pytest.approx(4 / 12)
    assert without_transform(table.assign(votes=0.0)) == pytest.approx(1 / 2)


def material(table: pd.DataFrame) -> Material:
    nothing = Compared(table[:0], 0)
    return Material(table, nothing, nothing, unrelated=500)


def test_too_few_wrong_pairs_are_said_to_be_too_few() -> None:
    with pytest.raises(ValueError, match="wrong pairs of 2 of them"):
        learned_from(pairs(60, 2), 2)


def test_learning_writes_the_rule_and_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_verification, "gather", lambda _: material(pairs(300, 500)))
    shipped, folder = tmp_path / "model.json", folder_of(tmp_path / "photos", 3)
    given = ["--photos", str(folder), "--results", str(tmp_path / "out"), "--others", "7"]
    train_verification.main([*given, "--quick"], shipped=shipped)
    assert not shipped.exists(), "a trial ships nothing"
    train_verification.main(given, shipped=shipped)
    assert "800 measured pairs, 300 of them copies" in read_model(shipped.read_bytes()).learned
    text = (tmp_path / "out" / "train_verification.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in text + shipped.read_text(encoding="utf-8")
    assert "--photos DIR --others 7" in text


def test_the_second_stage_is_measured_on_the_demos_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {kind: edits[:1] for kind, edits in verification_pairs.KINDS.items()}
    for module in (pair_sides, verification_pairs, second_stage):
        monkeypatch.setattr(module, "KINDS", kinds)
    monkeypatch.setattr(second_stage, "TIMED", 4)
    given = ["--cache", str(tmp_path / "cache"), "--results", str(tmp_path / "out")]
    second_stage.main([*given, "--sources", "3", "--unrelated", "4", "--others", "20"])
    text = (tmp_path / "out" / "second_stage.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert "--sources 3 --unrelated 4 --others 20" in text
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    whole = next(row for row in rows if row[0] == f"all but {second_stage.BEYOND}")
    assert int(whole[1]) == 3 * (len(kinds) - 1)
    assert float(whole[4]) > 50
    assert (tmp_path / "cache" / "closest_pairs.png").exists()
