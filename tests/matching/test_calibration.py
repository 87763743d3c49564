"""Calibration against a plain double loop, and what follows from the distances against a second library."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import norm

from copywatch.fingerprint import algorithm_named
from copywatch.fingerprint.mao import BLOCKS, Mao
from copywatch.fingerprint.views import VIEW, Kind
from copywatch.matching import calibration as calibrating
from copywatch.matching import pair_distances, search_code_of
from copywatch.matching.calibration import Calibration, Part, Pictures, calibrate, calibrated, formula_3, numbered
from copywatch.matching.calibration_plot import plot
from copywatch.matching.pair_distances import UNMEASURED, CodeDistances, ScoreDistances

Views = NDArray[np.void]


def made_up_views(seed: int, kinds: Sequence[Kind]) -> Views:
    """Views with random symbols and PDQ, and masks of every density, all flat and all detailed among them."""
    random = np.random.default_rng(seed)
    views = np.empty(len(kinds), dtype=VIEW)
    views["kind"] = kinds
    views["fingerprint"] = random.integers(0, 256, (len(kinds), 180), dtype=np.uint8)
    views["pdq"] = random.integers(0, 256, (len(kinds), 32), dtype=np.uint8)
    density = random.choice([0.0, 0.3, 0.8, 1.0], (len(kinds), 1))
    views["mask"] = np.packbits(random.random((len(kinds), BLOCKS)) < density, axis=1)
    return views


def protected_like(seed: int) -> Views:
    kinds = [Kind.UPRIGHT, Kind.TURNED_90, Kind.MIRRORED, Kind.ALIGNED, Kind.TONED]
    return made_up_views(seed, kinds + ([Kind.UNFRAMED] if seed % 3 == 0 else []))


def sighting_like(seed: int) -> Views:
    return made_up_views(seed, [Kind.UPRIGHT] + ([Kind.UNFRAMED] if seed % 2 == 0 else []))


def score_by_loop(one: np.void, other: np.void) -> float:
    """The formula of copywatch.matching.score, block by block and symbol by symbol."""
    symbols = [Mao().decode(view["fingerprint"].tobytes()) for view in (one, other)]
    detailed = [np.unpackbits(view["mask"])[:BLOCKS] for view in (one, other)]
    differing, half, both = 0, 0, 0
    for block in range(BLOCKS):
        places = [block, *range(BLOCKS + 4 * block, BLOCKS + 4 * block + 4)]
        if detailed[0][block] and detailed[1][block]:
            differing += sum(int(symbols[0][place] != symbols[1][place]) for place in places)
        elif detailed[0][block] or detailed[1][block]:
            half += 5
        else:
            both += 5
    pdq = int(np.unpackbits(one["pdq"] ^ other["pdq"]).sum()) / 256
    return 0.4 * (differing + 0.75 * half + 0.65 * both) / 720 + 0.6 * pdq


def least_score(views: Sequence[Views], is_protected: Sequence[bool], i: int, j: int) -> float | None:
    found = []
    for seen, original in ((i, j), (j, i)):
        if is_protected[original]:
            found += [
                score_by_loop(one, other)
                for one in views[seen] if one["kind"] in (Kind.UPRIGHT, Kind.UNFRAMED)
                for other in views[original]
            ]  # fmt: skip
    return min(found, default=None)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks, the last one not full."""
    monkeypatch.setattr(calibrating, "BLOCK", 3)


def counted(distances: Sequence[float], rate: float = 0.01, steps: int = 1000) -> Calibration:
    values, counts = np.unique(np.round(np.array(distances) * steps).astype(np.int64), return_counts=True)
    nobody = np.zeros_like(counts)
    return calibrated([Part(values, counts.astype(np.int64), nobody, ())], images=7, steps=steps, rate=rate)


@pytest.mark.usefixtures("small_blocks")
class TestRescored:
    def test_is_the_double_loop(self):
        is_protected = [True, True, False, True, True, False, True, False]
        views = [(protected_like if yes else sighting_like)(seed) for seed, yes in enumerate(is_protected)]
        wanted = {}
        for i, j in combinations(range(8), 2):
            score = least_score(views, is_protected, i, j)
            assert (score is None) == (not is_protected[i] and not is_protected[j])
            if score is not None:
                wanted[i, j] = score
        found = calibrate(ScoreDistances(views, is_protected), Pictures.different(8), 0.1)
        assert (found.images, found.pairs) == (8, 25)
        assert found.mean == pytest.approx(np.mean(list(wanted.values())), abs=1e-12)
        assert found.deviation == pytest.approx(np.std(list(wanted.values())), abs=1e-12)
        in_order = sorted((score, *pair) for pair, score in wanted.items())[:20]
        assert [(pair.one, pair.other) for pair in found.closest] == [(one, other) for _, one, other in in_order]
        assert [pair.distance for pair in found.closest] == pytest.approx([one[0] for one in in_order], abs=1e-12)
        bins, _ = np.histogram(list(wanted.values()), np.arange(201) / 200)
        assert found.histogram == tuple(bins)

    def test_two_sightings_cannot_be_compared(self):
        distances = ScoreDistances([sighting_like(1), sighting_like(2), protected_like(3)], [False, False, True])
        between = distances.between(range(3), range(3))
        assert between[0, 1] == between[1, 0] == UNMEASURED
        assert between[0, 2] == between[2, 0] >= 0

    def test_a_copy_is_as_far_as_its_best_view(self):
        original = protected_like(1)
        mirrored = original[[2]].copy()
        mirrored["kind"] = Kind.UPRIGHT
        mirrored["mask"] = original["mask"][2] = 255
        assert ScoreDistances([original, mirrored], [True, False]).between(range(1), range(1, 2))[0, 0] == 0

    def test_products_are_exact_in_float32(self):
        distances = ScoreDistances([protected_like(1)], [True])
        largest = distances._symbol * 3 * 720 + distances._flat * BLOCKS + distances._pdq * 256
        assert largest < 2**24

    def test_as_many_answers_as_images(self):
        with pytest.raises(ValueError, match="2 images, but 1"):
            ScoreDistances([protected_like(1), protected_like(2)], [True])


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("name", ["mao", "dhash", "pdq"])
def test_the_papers_rule_is_the_double_loop(name: str):
    algorithm = algorithm_named(name)
    random = np.random.default_rng(3)
    symbols = random.integers(0, algorithm.levels, (8, algorithm.symbols), dtype=np.uint8)
    codes = np.array([list(algorithm.encode(one)) for one in symbols], dtype=np.uint8)
    wanted = [(algorithm.distance(symbols[i], symbols[j]), i, j) for i, j in combinations(range(8), 2)]
    found = calibrate(CodeDistances(codes, search_code_of(algorithm)), Pictures.different(8), 0.1)
    assert found.pairs == 28
    assert found.mean == pytest.approx(np.mean([one[0] for one in wanted]), abs=1e-12)
    assert found.deviation == pytest.approx(np.std([one[0] for one in wanted]), abs=1e-12)
    assert [(pair.distance, pair.one, pair.other) for pair in found.closest] == sorted(wanted)[:20]


class TestSamePictures:
    def test_are_left_out(self, small_blocks: None):
        codes = np.random.default_rng(1).integers(0, 256, (7, 180), dtype=np.uint8)
        codes[5] = codes[0]
        distances = CodeDistances(codes, search_code_of(Mao()))
        assert calibrate(distances, Pictures.different(7), 0.1).closest[0].distance == 0
        known = np.array([0, 1, 2, 3, 4, 0, 5])
        found = calibrate(distances, Pictures(known, known), 0.1)
        assert found.pairs == 20
        assert found.closest[0].distance > 0

    def test_that_only_the_machine_takes_for_the_same_are_left_out_but_told(self, small_blocks: None):
        codes = np.random.default_rng(1).integers(0, 256, (40, 180), dtype=np.uint8)
        codes[30] = codes[0]
        distances = CodeDistances(codes, search_code_of(Mao()))
        supposed = np.arange(40)
        supposed[30] = 0
        found = calibrate(distances, Pictures(np.arange(40), supposed), 0.01)
        assert (found.pairs, found.normal_unjudged, found.tail_unjudged) == (40 * 39 // 2 - 1, 1, 1)
        assert [(pair.distance, pair.one, pair.other, pair.unjudged) for pair in found.closest[:1]] == [
            (0, 0, 30, True)
        ]
        assert not any(pair.unjudged for pair in found.closest[1:])
        assert "Left out within the tail's threshold: 1 pair that the machine" in found.note
        assert "distance 0" not in found.note

    @pytest.mark.parametrize(("unjudged", "needs"), [([], False), ([0.3], False), ([0.1], True), ([0.1, 0.1], True)])
    def test_need_a_person_only_where_they_would_lower_the_threshold(self, unjudged: list[float], needs: bool):
        """One pair of a hundred may lie within Th, and the one at 0.2 does."""
        values = np.array([100, 200, 300, 500])
        counts = np.array([0, 1, 1, 98])
        supposed = np.array([unjudged.count(value) for value in (0.1, 0.2, 0.3, 0.5)])
        found = calibrated([Part(values, counts, supposed, ())], images=15, steps=1000, rate=0.01)
        assert found.safer == found.tail_threshold < found.normal_threshold
        assert (found.tail_within, found.tail_unjudged) == (1, unjudged.count(0.1))
        assert found.normal_unjudged == len(unjudged)
        assert found.needs_a_person == needs

    def test_two_sightings_are_never_compared(self, small_blocks: None):
        codes = np.random.default_rng(1).integers(0, 256, (6, 180), dtype=np.uint8)
        is_protected = [True, False, True, False, False, True]
        found = calibrate(CodeDistances(codes, search_code_of(Mao()), is_protected), Pictures.different(6), 0.1)
        assert found.pairs == 12
        assert {(pair.one, pair.other) for pair in found.closest}.isdisjoint({(1, 3), (1, 4), (3, 4)})

    def test_are_those_that_share_a_name_however_long_the_way(self):
        names = [("a", "sha 1"), ("b", "sha 2"), ("c", "sha 1"), ("d", "sha 4", "group"), ("e", "group"), ("f",)]
        assert list(numbered(names)) == [0, 1, 0, 2, 2, 3]
        same = [("sha 2", "somewhere"), ("somewhere", "e"), ("x", "y")]
        assert list(numbered(names, same)) == [0, 1, 0, 1, 1, 2]

    def test_nothing_but_the_same_is_told(self):
        codes = CodeDistances(np.zeros((3, 180), dtype=np.uint8), search_code_of(Mao()))
        with pytest.raises(ValueError, match="no pair of different pictures"):
            calibrate(codes, Pictures(np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)), 0.1)


class TestThresholds:
    @pytest.mark.parametrize("rate", [1e-9, 1e-6, 1e-3, 0.2, 0.5])
    @pytest.mark.parametrize(("mean", "deviation"), [(0.6915, 0.0037**0.5), (0.45, 0.03)])
    def test_formula_3(self, mean: float, deviation: float, rate: float):
        assert formula_3(mean, deviation, rate) == pytest.approx(norm.ppf(rate, mean, deviation), abs=1e-9)

    def test_formula_3_of_the_papers_own_figures_is_not_the_papers_threshold(self):
        assert formula_3(0.6915, 0.0037**0.5, 1e-6) == pytest.approx(0.4024, abs=1e-4)

    def test_formula_3_below_0_is_0_and_without_deviation_the_mean(self):
        assert formula_3(0.1, 0.1, 1e-6) == 0
        assert formula_3(0.5, 0, 1e-6) == 0.5

    @pytest.mark.parametrize("rate", [0.001, 0.0049, 0.005, 0.0051, 0.01, 0.05, 0.5])
    def test_the_tail_is_the_largest_with_at_most_that_many_pairs(self, rate: float):
        distances = np.round(np.random.default_rng(2).normal(0.5, 0.05, 1000), 3)
        found = counted(distances, rate)
        assert found.tail_within == np.count_nonzero(distances <= found.tail_threshold) <= rate * 1000
        # The next distance that any pair has would let in too many.
        farther = distances[distances > found.tail_threshold].min()
        assert np.count_nonzero(distances <= farther) > rate * 1000

    def test_a_whole_number_of_pairs_is_not_lost_to_rounding(self):
        # 0.07 x 100 is 7.000000000000001, and 0.29 x 100 is 28.999999999999996.
        assert counted(np.arange(100) / 1000, 0.07).tail_within == 7
        assert counted(np.arange(100) / 1000, 0.29).tail_within == 29

    def test_of_equal_distances_all_or_none_are_let_in(self):
        assert counted([0.2, 0.3, 0.3, 0.3, *[0.6] * 6], 0.3).tail_within == 1

    def test_a_rate_below_one_pair_ends_before_the_closest_and_says_so(self):
        found = counted(np.linspace(0.3, 0.6, 100), 1e-6)
        assert found.tail_threshold == pytest.approx(0.2995)
        assert (found.tail_within, found.can_measure_rate) == (0, False)
        assert "a rate below 1 / 100 = 1.0e-02 cannot be measured" in found.note
        assert "7 images give 100 pairs" in found.note
        assert "no proof of 1e-06" in found.note

    def test_a_rate_that_can_be_measured_says_nothing_of_the_kind(self):
        found = counted(np.random.default_rng(4).normal(0.5, 0.05, 5000), 0.01)
        assert found.can_measure_rate
        assert found.note == ""
        few = counted(np.random.default_rng(4).normal(0.5, 0.05, 5000), 0.0003)
        assert "rests on the closest pair of 5,000: if it shows" in few.note

    def test_the_safer_is_the_smaller_and_a_heavy_tail_is_told(self):
        heavy = counted([*np.full(50, 0.1), *np.random.default_rng(4).normal(0.6, 0.01, 4950)], 0.001)
        assert heavy.tail_threshold < 0.1 < heavy.normal_threshold
        assert heavy.safer == heavy.tail_threshold
        assert "lie 50 pairs, 10 times as many as wished" in heavy.note
        light = counted(np.linspace(0.5, 0.6, 5000), 0.001)
        assert light.normal_threshold < light.tail_threshold
        assert light.safer == light.normal_threshold

    def test_the_closest_at_0_is_told(self):
        found = counted([0, 0.5, 0.6], 0.1)
        assert found.tail_threshold == 0
        parts = [Part(np.array([0, 500]), np.array([1, 1]), np.array([0, 0]), ((0, 0, 1, False),))]
        assert "same picture twice?" in calibrated(parts, images=3, steps=1000, rate=0.1).note

    @pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5])
    def test_a_rate_out_of_bounds(self, rate: float):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            counted([0.5], rate)

    def test_the_order_of_the_parts_does_not_matter(self, small_blocks: None):
        codes = np.random.default_rng(1).integers(0, 256, (11, 180), dtype=np.uint8)
        distances = CodeDistances(codes, search_code_of(Mao()))
        parts = [calibrating.measured(distances, Pictures.different(11), *pair) for pair in calibrating.block_pairs(11)]
        assert len(parts) == 10
        one, other = (calibrated(given, images=11, steps=720, rate=0.1) for given in (parts, parts[::-1]))
        assert one == other
        assert sum(one.histogram) == one.pairs == 55


def test_a_pair_of_blocks_is_what_the_memory_is_stated_for():
    views = pair_distances.BLOCK * 29
    assert views * (3 * 720 + BLOCKS + 256) * 4 < 80e6


class TestPlot:
    def drawn(self, calibration: Calibration) -> bytes:
        return plot(calibration, algorithm="mao/1", rule="rescored")

    @pytest.mark.parametrize(
        "distances", [np.random.default_rng(1).normal(0.5, 0.03, 2000), [0.5], [0.0, 1.0]], ids=["many", "one", "ends"]
    )
    def test_is_a_png_of_the_promised_size_and_the_same_again(self, distances: Sequence[float]):
        calibration = counted(distances, 0.01)
        drawn = self.drawn(calibration)
        image = Image.open(io.BytesIO(drawn))
        assert (image.format, image.size) == ("PNG", (1000, 520))
        assert len(drawn) < 100_000
        assert self.drawn(calibration) == drawn

    def test_shows_both_thresholds(self):
        drawn = self.drawn(counted(np.random.default_rng(1).normal(0.5, 0.03, 2000), 0.001))
        pixels = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB")).astype(int)
        for red, green, blue in ((0xB3, 0x38, 0x2C), (0x1F, 0x7A, 0x45)):
            near = np.abs(pixels - (red, green, blue)).sum(axis=2) < 30
            assert near.sum(axis=0).max() > 100, "an upright line"
