"""Matching with tags against a plain search of every candidate, and what is counted, by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from photo_folder import save_noise

from benchmarks import tag_pruning
from benchmarks.tag_pruning import (
    BEST_ONLY,
    EVERYTHING,
    Loop,
    Material,
    Scan,
    Seconds,
    counted,
    coverages,
    figure_4,
    places_by_tag,
    price_of_tags,
    protected_of,
    tag_maps,
)
from copywatch.fingerprint import Mao
from copywatch.matching.tags import tags_to_search
from copywatch.settings import load_settings

MAO = Mao()


def codes(*symbols: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(MAO.encode(one) for one in symbols), dtype=np.uint8).reshape(-1, 180)


def picture(family: int, changes: int = 0) -> NDArray[np.uint8]:
    """Symbols that differ from their family's in `changes` of 720."""
    symbols = np.random.default_rng(family).integers(0, 4, 720, dtype=np.uint8)
    symbols[:changes] = (symbols[:changes] + 1) % 4
    return symbols


@pytest.mark.parametrize("coverage", [BEST_ONLY, 0.6, 0.95, 1.0, None])
def test_loop_and_scan_find_the_nearest_of_the_tags_tables(coverage: float | None) -> None:
    rng = np.random.default_rng(7)
    # Few changes of two families: there are ties, within a tag and across tags.
    protected = [picture(int(rng.integers(2)), int(rng.integers(4))) for _ in range(30)]
    tags = [str(rng.choice(["animal", "food", "vehicle"])) for _ in protected]
    found = [picture(int(rng.integers(2)), int(rng.integers(4))) for _ in range(25)]
    # One tag has no protected image, so that some found images are compared with none.
    names = ["animal", "food", "vehicle", "nobody"]
    shares = [dict(zip(names, rng.dirichlet([0.5] * 4).tolist(), strict=True)) for _ in found]

    def plain(row: int) -> tuple[float, int]:
        searched = set(tags) if coverage is None else set(tags_to_search(shares[row], coverage))
        pairs = [
            (MAO.distance(found[row], one), place) for place, one in enumerate(protected) if tags[place] in searched
        ]
        return min(pairs, default=(np.inf, -1))

    wanted = [plain(row) for row in range(len(found))]
    assert coverage != BEST_ONLY or (np.inf, -1) in wanted
    places = {EVERYTHING: np.arange(len(protected))} if coverage is None else places_by_tag(tags)
    loop = Loop(codes(*protected), places).nearest(codes(*found), shares, coverage)
    scan = Scan(codes(*protected), places).nearest(codes(*found), tag_maps(shares), coverage)
    for nearest in (loop, scan):
        assert nearest.positions.tolist() == [position for _, position in wanted]
        np.testing.assert_allclose(nearest.distances, [distance for distance, _ in wanted], atol=1e-12)


def material() -> Material:
    """Two animals and a vehicle; five found images, of which three are copies."""
    found = [
        (picture(1, 10), {"animal": 0.9, "vehicle": 0.1}),  # of the first, by its tag
        (picture(2, 10), {"animal": 0.4, "vehicle": 0.6}),  # of the second, which is under its second tag
        (picture(3, 600), {"animal": 0.0, "vehicle": 1.0}),  # of the third, but beyond Th
        (picture(9), {"animal": 0.7, "vehicle": 0.3}),  # of none
        (picture(3, 20), {"animal": 0.2, "vehicle": 0.8}),  # not known to be a copy, within Th of the third
    ]
    return Material(
        protected=codes(picture(1), picture(2), picture(3)),
        protected_tags=["animal", "animal", "vehicle"],
        found=codes(*(symbols for symbols, _ in found)),
        found_tags=[tags for _, tags in found],
        originals=np.array([0, 1, 2, -1, -1]),
        tagging=0.01,
    )


def test_what_tags_lose_by_hand() -> None:
    best = counted(material(), BEST_ONLY, threshold=0.47)
    # Tables of 2, 1, 1, 2 and 1 of 3 images.
    assert (best.tags, best.compared) == (1, pytest.approx(100 * 7 / 15))
    assert best.reached == pytest.approx(200 / 3)
    assert best.copies == pytest.approx(100 / 3)
    assert best.others == 50
    more = counted(material(), 0.95, threshold=0.47)
    assert (more.tags, more.compared) == (1.8, pytest.approx(100 * 13 / 15))
    assert (more.reached, more.copies, more.others) == (100, pytest.approx(200 / 3), 50)
    without = counted(material(), None, threshold=0.47)
    assert (without.compared, without.reached) == (100, 100)
    assert (without.copies, without.others) == (more.copies, more.others)


def test_the_papers_shares_stand_only_beside_the_papers_numbers() -> None:
    times = {2000: Seconds(10, 2, 4, 3), 500: Seconds(1, 0.5, 1, 2)}
    (row, other) = figure_4(material(), times)
    assert (row["paper"], row["ours"], row["ratio"], row["scan's time left, %"]) == (None, 20, None, 75)
    assert other["scan's time left, %"] == 200
    as_theirs = replace(material(), protected=np.zeros((2000, 180), dtype=np.uint8))
    (row, other) = figure_4(as_theirs, times)
    assert (row["paper"], row["ours"], row["ratio"]) == (23.77, 20, pytest.approx(20 / 23.77))
    assert other["paper"] is None


def test_protected_leave_some_over_to_be_others() -> None:
    assert [protected_of(photos, 2000) for photos in (2307, 2200, 2199, 24)] == [2000, 2000, 1832, 20]


def test_a_tag_pays_where_it_saves_what_it_costs() -> None:
    # Five images: the loop's 10 ms are 2 ms each, of which half is saved; a tag costs 10 ms and there are 3 protected.
    loop, scan = price_of_tags(material(), {0.95: Seconds(0.010, 0.005, 0.001, 0.002)})
    assert (loop["without tags, ms"], loop["saved by tags, ms"]) == (pytest.approx(2), pytest.approx(1))
    assert loop["pays from protected images"] == "30"
    assert scan["pays from protected images"] == ""


def test_rows_of_coverages_name_their_tau() -> None:
    times: Mapping[float, Seconds] = {BEST_ONLY: Seconds(10, 2, 4, 3)}
    found = {tau: counted(material(), tau, 0.47) for tau in (BEST_ONLY, None)}
    best, none = coverages(found, times)
    assert (best["tau"], best["loop's time left, %"], best["scan's time left, %"]) == ("best tag alone", 20, 75)
    assert (none["tau"], none["loop's time left, %"]) == ("no tags", 100)


def test_the_whole_on_made_up_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not any((load_settings().prepared_dir / "models").glob("*.onnx")):
        pytest.skip("the tag models are not prepared; run 'make setup' once")
    for number in range(8):
        save_noise(tmp_path / "photos" / f"{number}.png", number, (128, 96))
    tag_pruning.main(["--photos", str(tmp_path / "photos"), "--results", str(tmp_path / "out"), "--quick"])
    written = (tmp_path / "out" / "tag_pruning.md").read_text(encoding="utf-8")
    assert written.strip() in capsys.readouterr().out
    lines = [line for line in written.splitlines() if line.startswith("| no tags")]
    cells = [cell.strip() for cell in lines[0].strip("|").split("|")]
    # Six protected, twelve found; every original is among all images.
    assert (cells[2], cells[5]) == ("100", "100")
    assert "6 protected images" in written
    assert (tmp_path / "out" / "tag_pruning.png").stat().st_size > 1000
