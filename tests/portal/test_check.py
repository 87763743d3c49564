"""The search of one image against the `protected` table, against a plain loop."""

from __future__ import annotations

import io
import itertools
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from copywatch.errors import LakeError, Reason, UnusableImage
from copywatch.fingerprint import algorithm_named, fingerprint_of
from copywatch.fingerprint.views import VIEW, sighting_views
from copywatch.lake import tables
from copywatch.matching import Verdict
from copywatch.matching import check as module
from copywatch.matching.check import check
from copywatch.matching.score import RESCORED_THRESHOLD, Operands, scores
from copywatch.rule import Rule
from copywatch.settings import Settings, load_settings
from tests.portal.portal_steps import picture, protected_row, write_protected

Tagged = Callable[[dict[str, float]], None]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("COPYWATCH_ENV_FILE", str(tmp_path / "no.env"))
    return load_settings(data_dir=tmp_path, threshold=0.4)


@pytest.fixture
def by_paper(config: Settings) -> Settings:
    """The same settings under the paper's rule."""
    return config.model_copy(update={"rule": Rule.PAPER})


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
def test_the_answer_is_the_plain_loops(by_paper: Settings, tagged_as: Tagged, limit: int) -> None:
    config = by_paper
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
            assert (one.rule, one.plain_distance, one.view) == ("paper", one.distance, "")
            assert (one.threshold, one.algorithm, one.owner) == (0.4, "mao/1", "1")
    assert check(picture(1), warehouse=config.warehouse, config=config)[0].verdict == Verdict.IDENTICAL


def image_of(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as opened:
        return opened.convert("RGB")


def file_of(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def scored_plainly(data: bytes, rows: list[dict[str, Any]], now: datetime) -> list[tuple[float, str]]:
    """The rule "rescored" for one image: every view against every view; the best of each protected image."""
    one = Operands.of(sighting_views(image_of(data)))
    found = []
    for row in rows:
        if row["status"] != "active" or (row["protected_until"] or now + timedelta(days=1)) <= now:
            continue
        other = Operands.of(np.frombuffer(row["views"], dtype=VIEW))
        pairs = np.array(list(itertools.product(range(len(one)), range(len(other)))), dtype=np.int64)
        score = float(scores(one, pairs[:, 0], other, pairs[:, 1]).min())
        found.append((score, row["registered_at"], row["protected_id"]))
    return [(score, name) for score, _, name in sorted(found)]


class TestRescored:
    def test_every_protected_image_is_scored_by_its_best_views(self, config: Settings, tagged_as: Tagged) -> None:
        now = datetime.now(UTC)
        rng = np.random.default_rng(3)
        expired = [now - timedelta(days=1), None, now + timedelta(days=1)]
        rows = [
            protected_row(picture(1 + number % 9), number, protected_until=expired[number // 9 % 3], sha256="0" * 64)
            | {"registered_at": datetime(2026, 1, 1 + int(rng.integers(4)), tzinfo=UTC)}
            | {"status": "withdrawn" if number == 5 else "active"}
            for number in range(1, 30)
        ]
        write_protected(config.warehouse, rows)
        tagged_as({"scenery": 1.0})
        checked = file_of(ImageOps.mirror(image_of(picture(4))))
        expected = scored_plainly(checked, rows, now)
        found = check(checked, warehouse=config.warehouse, config=config, limit=500)
        assert [(one.distance, one.protected_id) for one in found] == expected
        assert {one.rule for one in found} == {"rescored"}
        # Of those that are different the first stage chooses; the copies are in force and all found.
        copies = sum(score <= 0.4 for score, _ in expected)
        assert copies >= 2
        for limit in range(1, copies + 1):
            some = check(checked, warehouse=config.warehouse, config=config, limit=limit)
            assert [(one.distance, one.protected_id) for one in some] == expected[:limit]

    @pytest.mark.parametrize(
        ("edit", "words"),
        [
            (ImageOps.mirror, "mirrored"),
            (lambda image: image.transpose(Image.Transpose.ROTATE_90), "turned by 90 degrees"),
            (lambda image: ImageOps.expand(image, 30, "white"), "frame added or removed"),
            (lambda image: ImageOps.expand(ImageOps.mirror(image), 30, "white"), "mirrored, frame added or removed"),
            (lambda image: image.resize((100, 75)), ""),
        ],
    )
    def test_what_was_done_is_said(self, config: Settings, tagged_as: Tagged, edit: Any, words: str) -> None:
        write_protected(config.warehouse, [protected_row(picture(number), number) for number in (1, 2, 3)])
        tagged_as({"scenery": 1.0})
        set_up = config.model_copy(update={"threshold": None})
        copy, *others = check(file_of(edit(image_of(picture(2)))), warehouse=config.warehouse, config=set_up)
        assert (copy.protected_id, copy.view, copy.threshold) == (f"{2:032x}", words, RESCORED_THRESHOLD)
        assert copy.verdict in {Verdict.IDENTICAL, Verdict.SIMILAR}
        assert copy.similarity == 1 - copy.plain_distance > 0.8
        assert [(one.verdict, one.view) for one in others] == [(Verdict.DIFFERENT, "")] * 2

    def test_the_very_same_file_comes_first_and_is_certain_even_if_it_is_flat(
        self, config: Settings, tagged_as: Tagged
    ) -> None:
        flat = [file_of(Image.new("RGB", (320, 240), (grey, grey, grey))) for grey in range(40, 80)]
        write_protected(config.warehouse, [protected_row(data, number) for number, data in enumerate(flat)])
        tagged_as({"scenery": 1.0})
        found = check(flat[-1], warehouse=config.warehouse, config=config, limit=2)
        assert (found[0].protected_id, found[0].verdict) == (f"{39:032x}", Verdict.IDENTICAL)
        assert found[1].verdict != Verdict.IDENTICAL

    def test_an_expired_one_does_not_take_the_place_of_another(self, config: Settings, tagged_as: Tagged) -> None:
        over = datetime.now(UTC) - timedelta(days=1)
        rows = [protected_row(picture(1), number, protected_until=over) for number in range(2, 40)]
        write_protected(config.warehouse, [protected_row(picture(2), 1), *rows])
        tagged_as({"scenery": 1.0})
        found = check(picture(1), warehouse=config.warehouse, config=config, limit=1)
        assert [one.protected_id for one in found] == [f"{1:032x}"]

    def test_rows_without_views_are_left_out_with_a_warning(
        self, config: Settings, tagged_as: Tagged, caplog: pytest.LogCaptureFixture
    ) -> None:
        rows = [protected_row(picture(1), 1, views=None, mask=None), protected_row(picture(2), 2)]
        write_protected(config.warehouse, rows)
        tagged_as({"scenery": 1.0})
        assert [one.protected_id for one in check(picture(1), warehouse=config.warehouse, config=config)] == [
            f"{2:032x}"
        ]
        assert "1 protected images were fingerprinted before there were views" in caplog.text

    def test_a_change_of_the_rule_reads_what_it_needs(
        self, config: Settings, by_paper: Settings, tagged_as: Tagged
    ) -> None:
        write_protected(config.warehouse, [protected_row(picture(1), 1)])
        tagged_as({"scenery": 1.0})
        for one in (config, by_paper, config):
            (found,) = check(picture(1), warehouse=config.warehouse, config=one)
            assert (found.rule, found.verdict) == (one.rule, Verdict.IDENTICAL)


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


def test_what_cannot_be_compared_is_said(config: Settings, by_paper: Settings, tagged_as: Tagged) -> None:
    tagged_as({"scenery": 1.0})
    with pytest.raises(UnusableImage) as refused:
        check(b"<html>", warehouse=config.warehouse, config=config)
    assert refused.value.reason is Reason.HTML
    with pytest.raises(ValueError, match="at least one"):
        check(picture(1), warehouse=config.warehouse, config=config, limit=0)
    write_protected(config.warehouse, [protected_row(picture(1), 1, fingerprint=b"short", views=b"short")])
    with pytest.raises(LakeError, match=r"records of 231 bytes.*fingerprint the originals again"):
        check(picture(1), warehouse=config.warehouse, config=config)
    with pytest.raises(LakeError, match="a fingerprint of mao/1 has 5 bytes, not 180"):
        check(picture(1), warehouse=config.warehouse, config=by_paper)


def test_an_edited_copy_is_found_by_the_real_tags(config: Settings) -> None:
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
