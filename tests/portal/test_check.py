"""The search of one image against the `protected` table, against a plain loop."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from copywatch.errors import LakeError, Reason, UnusableImage
from copywatch.fingerprint import algorithm_named, fingerprint_of
from copywatch.lake import tables
from copywatch.matching import Verdict
from copywatch.matching import check as module
from copywatch.matching.check import check
from copywatch.settings import Settings, load_settings
from tests.portal.portal_steps import picture, protected_row, write_protected

Tagged = Callable[[dict[str, float]], None]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("COPYWATCH_ENV_FILE", str(tmp_path / "no.env"))
    return load_settings(data_dir=tmp_path, threshold=0.4)


def plain_loop(data: bytes, rows: list[dict[str, Any]], tags: set[str], now: datetime) -> list[tuple[float, str]]:
    """SRPITP's Algorithm 2 for one image, symbol by symbol."""
    mao = algorithm_named("mao")
    symbols = mao.decode(fingerprint_of(data))
    found = []
    for row in rows:
        if row["tag"] not in tags or row["status"] != "active" or row["algorithm"] != "mao/1":
            continue
        if row["protected_until"] is not None and row["protected_until"] <= now:
            continue
        distance = mao.distance(symbols, mao.decode(row["fingerprint"]))
        found.append((distance, row["registered_at"], row["protected_id"]))
    return [(distance, name) for distance, _, name in sorted(found)]


def varied_rows(now: datetime) -> list[dict[str, Any]]:
    """Rows of three tags: in force, expired, withdrawn, of another version, and some with the same fingerprint."""
    rng = np.random.default_rng(5)
    base = protected_row(picture(1), 1)
    rows = []
    for number in range(90):
        code = np.frombuffer(base["fingerprint"], dtype=np.uint8).copy()
        changed = rng.choice(code.size, size=int(rng.integers(0, code.size)), replace=False)
        code[changed] = rng.integers(0, 256, changed.size)
        rows.append(
            base
            | {
                "protected_id": f"{int(rng.integers(2**60)):032x}",
                "fingerprint": code.tobytes() if number % 9 else base["fingerprint"],
                "tag": ("scenery", "object", "food")[number % 3],
                "status": "withdrawn" if number % 10 == 7 else "active",
                "algorithm": "mao/0" if number % 11 == 5 else "mao/1",
                "protected_until": (None, now + timedelta(days=1), now - timedelta(seconds=5))[number % 4 % 3],
                "registered_at": datetime(2026, 1, 1 + int(rng.integers(4)), tzinfo=UTC),
            }
        )
    return rows


@pytest.mark.parametrize("limit", [1, 5, 500])
def test_the_answer_is_the_plain_loops(config: Settings, tagged_as: Tagged, limit: int) -> None:
    now = datetime.now(UTC)
    rows = varied_rows(now)
    write_protected(config.warehouse, rows)
    tagged_as({"scenery": 0.6, "object": 0.38, "food": 0.02})
    for seed in (1, 2):
        expected = plain_loop(picture(seed), rows, {"scenery", "object"}, now)[:limit]
        found = check(picture(seed), warehouse=config.warehouse, config=config, limit=limit)
        assert [(one.distance, one.protected_id) for one in found] == expected
        for one in found:
            wanted = Verdict.IDENTICAL if one.distance == 0 else Verdict(1 if one.distance <= 0.4 else 2)
            assert one.verdict == wanted
            assert one.similarity == 1 - one.distance
            assert (one.threshold, one.algorithm, one.owner) == (0.4, "mao/1", "1")
    assert check(picture(1), warehouse=config.warehouse, config=config)[0].verdict == Verdict.IDENTICAL


def test_only_the_partitions_of_the_images_tags_are_read(config: Settings, tagged_as: Tagged) -> None:
    write_protected(config.warehouse, [protected_row(picture(1), 1), protected_row(picture(2), 2, tag="food")])
    shutil.rmtree(Path(config.warehouse) / "protected" / "tag=food")
    tagged_as({"scenery": 1.0})
    assert [one.protected_id for one in check(picture(1), warehouse=config.warehouse, config=config)] == [f"{1:032x}"]


def test_the_table_is_read_once_for_each_version(
    config: Settings, tagged_as: Tagged, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []

    def counted(*given: Any, **named: Any) -> Any:
        reads.append(list(named["tags"]))
        return tables.rows_of(*given, **named)

    monkeypatch.setattr(module, "rows_of", counted)
    write_protected(config.warehouse, [protected_row(picture(1), 1)])
    tagged_as({"scenery": 1.0})
    for _ in range(3):
        assert len(check(picture(2), warehouse=config.warehouse, config=config)) == 1
    assert reads == [["scenery"]]
    tagged_as({"food": 0.7, "scenery": 0.3})
    check(picture(2), warehouse=config.warehouse, config=config)
    assert reads == [["scenery"], ["food"]]
    write_protected(config.warehouse, [protected_row(picture(2), 2, tag="food")])
    assert check(picture(2), warehouse=config.warehouse, config=config)[0].protected_id == f"{2:032x}"
    assert reads[2:] == [["food", "scenery"]]
    # Dropped and made again, the table starts anew at a version that was seen before.
    shutil.rmtree(config.warehouse)
    write_protected(config.warehouse, [protected_row(picture(3), 3)])
    write_protected(config.warehouse, [protected_row(picture(4), 4)])
    assert {one.protected_id[-1] for one in check(picture(2), warehouse=config.warehouse, config=config)} == {"3", "4"}


def test_protection_that_ends_while_the_table_is_held_is_over(config: Settings, tagged_as: Tagged) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    write_protected(
        config.warehouse, [protected_row(picture(1), 1, protected_until=soon), protected_row(picture(2), 2)]
    )
    tagged_as({"scenery": 1.0})
    assert len(check(picture(1), warehouse=config.warehouse, config=config)) == 2
    while datetime.now(UTC) <= soon:
        pass
    assert [one.protected_id for one in check(picture(1), warehouse=config.warehouse, config=config, limit=1)] == [
        f"{2:032x}"
    ]


def test_nothing_protected_gives_nothing(config: Settings, tagged_as: Tagged) -> None:
    tagged_as({"scenery": 1.0})
    with pytest.raises(LakeError, match="is no Delta table"):
        check(picture(1), warehouse=config.warehouse, config=config)
    tables.create_tables(config.warehouse)
    assert check(picture(1), warehouse=config.warehouse, config=config) == []


def test_what_cannot_be_compared_is_said(config: Settings, tagged_as: Tagged) -> None:
    tagged_as({"scenery": 1.0})
    with pytest.raises(UnusableImage) as refused:
        check(b"<html>", warehouse=config.warehouse, config=config)
    assert refused.value.reason is Reason.HTML
    with pytest.raises(ValueError, match="at least one"):
        check(picture(1), warehouse=config.warehouse, config=config, limit=0)
    write_protected(config.warehouse, [protected_row(picture(1), 1, fingerprint=b"short")])
    with pytest.raises(LakeError, match="a fingerprint of mao/1 has 5 bytes, not 180"):
        check(picture(1), warehouse=config.warehouse, config=config)


def test_an_edited_copy_is_found_by_the_real_tags(config: Settings) -> None:
    import io

    from PIL import Image

    from copywatch.demo.planting import photo_bytes
    from copywatch.lake.schemas import PROTECTED
    from copywatch.tagging.tagger import Tagger

    models = config.prepared_dir / "models"
    if not models.is_dir():
        pytest.skip("the tag models are not prepared: make setup")
    from copywatch.fingerprint import decode_within_limits

    rows = []
    for number in (3, 5, 7):
        data = photo_bytes(f"{number:02}.jpg")
        tags = Tagger(models).probabilities(decode_within_limits(data).rgb)
        rows.append(protected_row(data, number, tag=max(tags, key=lambda tag: tags[tag])))
    write_protected(config.warehouse, rows)
    assert tables.read_table(config.warehouse, PROTECTED).num_rows == 3
    with Image.open(io.BytesIO(photo_bytes("05.jpg"))) as photo:
        out = io.BytesIO()
        photo.resize((photo.width // 2, photo.height // 2)).save(out, "JPEG", quality=60)
    nearest = check(out.getvalue(), warehouse=config.warehouse, config=config)[0]
    assert nearest.protected_id == f"{5:032x}"
    assert nearest.verdict == Verdict.SIMILAR
