"""The demo's judge: what is right, missed, false, and wrongly fetched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from copywatch.demo.judgement import Judgement, judge, report, write_result
from copywatch.demo.planting import Planted, Planting, plant

Alert = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def planting() -> Planting:
    return plant()


def alert(image: Planted, **changed: Any) -> dict[str, Any]:
    """The alert that this image should raise."""
    return {
        "image_url": f"http://127.0.0.1:8000{image.image_path}", "protected_filename": image.protected,
        "page_url": f"http://127.0.0.1:8000{image.page}", "uploader": image.uploader, "site": "lumen", "verdict": 1,
        "distance": 0.1, "state": "sent",
    } | changed  # fmt: skip


@pytest.fixture
def alerts(planting: Planting) -> list[dict[str, Any]]:
    """All that should be alerted."""
    return [alert(image) for image in planting.copies]


@pytest.fixture
def fetched(planting: Planting) -> list[str]:
    return [image.image_path for image in planting.of_round(2)]


def files(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(row["file"] for row in rows)


def test_all_found_and_nothing_else_is_right(planting: Planting, alerts: list[Any], fetched: list[str]):
    judgement = judge(planting, (1, 2), alerts, [], fetched)
    assert judgement.right
    assert (judgement.missed, judgement.false, judgement.unfetched) == ([], [], [])
    assert files(judgement.planted) == files(judgement.alerted) == sorted(one.file for one in planting.copies)
    assert len(judgement.planted) == 16


def test_a_copy_without_its_alert_is_missed(planting: Planting, alerts: list[Any], fetched: list[str]):
    judgement = judge(planting, (1, 2), alerts[1:], [], fetched)
    assert files(judgement.missed) == [planting.copies[0].file]
    assert not judgement.right


@pytest.mark.parametrize("state", ["pending", "failed"])
def test_an_alert_that_was_not_sent_is_none(planting: Planting, alerts: list[Any], fetched: list[str], state: str):
    alerts[0]["state"] = state
    judgement = judge(planting, (1, 2), alerts, [], fetched)
    assert files(judgement.missed) == [planting.copies[0].file]
    assert judgement.false == []


def test_an_unrelated_photo_alerted_is_false(planting: Planting, alerts: list[Any], fetched: list[str]):
    unrelated = planting.unrelated[0]
    judgement = judge(planting, (1, 2), [*alerts, alert(unrelated, protected_filename="03.jpg")], [], fetched)
    assert files(judgement.false) == [unrelated.file]
    assert (judgement.missed, judgement.right) == ([], False)


def test_the_wrong_protected_image_is_false_and_missed(planting: Planting, alerts: list[Any], fetched: list[str]):
    alerts[0]["protected_filename"] = planting.copies[1].protected
    assert planting.copies[1].protected != planting.copies[0].protected
    judgement = judge(planting, (1, 2), alerts, [], fetched)
    assert files(judgement.false) == files(judgement.missed) == [planting.copies[0].file]


def test_a_wrong_alert_beside_the_right_one_is_false_only(planting: Planting, alerts: list[Any], fetched: list[str]):
    judgement = judge(planting, (1, 2), [*alerts, alert(planting.copies[0], protected_filename="x.jpg")], [], fetched)
    assert files(judgement.false) == [planting.copies[0].file]
    assert judgement.missed == []


def test_an_address_that_nobody_planted_is_false(planting: Planting, alerts: list[Any], fetched: list[str]):
    stray = alert(planting.copies[0], image_url="http://127.0.0.1:8000/media/stray.jpg")
    judgement = judge(planting, (1, 2), [*alerts, stray], [], fetched)
    assert [(row["file"], row["protected"]) for row in judgement.false] == [(None, planting.copies[0].protected)]


def test_the_first_round_does_not_miss_what_the_second_brings(planting: Planting, alerts: list[Any]):
    first = [one for one, image in zip(alerts, planting.copies, strict=True) if image.round == 1]
    assert len(first) < len(alerts)
    assert judge(planting, (1,), first, [], []).right
    assert len(judge(planting, (1, 2), first, [], []).missed) == len(alerts) - len(first)


def test_new_images_not_fetched_and_old_ones_fetched_again_are_told(
    planting: Planting, alerts: list[Any], fetched: list[str]
):
    old = planting.of_round(1)[0].image_path
    judgement = judge(planting, (1, 2), alerts, [], [*fetched[1:], old])
    assert judgement.unfetched == sorted([fetched[0], old])
    assert not judgement.right


def test_reviews_are_shown_with_what_was_planted(planting: Planting, alerts: list[Any], fetched: list[str]):
    waiting = alert(planting.copies[0], state="pending")
    judgement = judge(planting, (1, 2), alerts[1:], [waiting], fetched)
    assert files(judgement.reviewed) == [planting.copies[0].file]
    said = report(judgement)
    assert "Waiting on the review page" in said
    assert f"Found and alerted: {len(alerts) - 1} of {len(alerts)}" in said
    assert "Missed: 1" in said
    assert "False: 0" in said


def test_the_result_is_written_as_the_readers_expect_it(
    planting: Planting, alerts: list[Any], fetched: list[str], tmp_path: Path
):
    judgement: Judgement = replace(judge(planting, (1, 2), alerts, [], fetched), unfetched=["x"])
    write_result(tmp_path / "result.json", judgement, {"crawl": 1.5}, 12.5, 7)
    result = json.loads((tmp_path / "result.json").read_text())
    for name in ("planted", "alerted", "reviewed", "missed", "false"):
        assert all({"file", "protected", "T", "distance"} <= set(row) for row in result[name])
    assert files(result["alerted"]) == files(judgement.alerted)
    assert (result["seconds"], result["peak_memory_bytes"]) == ({"crawl": 1.5}, 7)
    assert (result["first_alert_seconds"], result["second_round_differs"]) == (12.5, ["x"])
