"""What all registered algorithms have in common, and fingerprints of theirs that must never change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from copywatch.fingerprint import ALGORITHMS, Algorithm, algorithm_named, fingerprint_of, identity
from copywatch.matching import search_code_of
from copywatch.settings import PROJECT_DIR
from tests.fingerprint.pictures import encoded, scene
from tests.fingerprint.test_mao import FILE_GOLDEN

PICTURE = scene(320, 240, seed=1)
OTHER_PICTURE = scene(320, 240, seed=4)
FILES = {
    "plain.png": Path(__file__).parent / "golden" / "plain.png",
    "01.jpg": PROJECT_DIR / "include" / "copywatch" / "demo" / "photos" / "01.jpg",
    "09.jpg": PROJECT_DIR / "include" / "copywatch" / "demo" / "photos" / "09.jpg",
}

every_algorithm: Callable[..., Any] = pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=identity)


@every_algorithm
def test_it_keeps_the_protocol(algorithm: Algorithm) -> None:
    assert isinstance(algorithm, Algorithm)
    assert algorithm_named(algorithm.name) is algorithm
    assert identity(algorithm) == f"{algorithm.name}/{algorithm.version}"
    assert identity(algorithm).count("/") == 1
    assert algorithm.levels in (2, 4)
    assert algorithm.code_bytes * 8 == algorithm.symbols * (algorithm.levels // 2)


def test_names_are_unique() -> None:
    assert {name: algorithm.name for name, algorithm in ALGORITHMS.items()} == {name: name for name in ALGORITHMS}
    assert len({identity(algorithm) for algorithm in ALGORITHMS.values()}) == len(ALGORITHMS)


@every_algorithm
def test_a_fingerprint_is_symbols_below_the_levels(algorithm: Algorithm) -> None:
    before = PICTURE.tobytes()
    symbols = algorithm.fingerprint(PICTURE)
    assert symbols.shape == (algorithm.symbols,)
    assert symbols.dtype == np.uint8
    assert len(set(symbols.tolist())) == algorithm.levels
    assert symbols.max() == algorithm.levels - 1
    assert PICTURE.tobytes() == before
    assert np.array_equal(algorithm.fingerprint(PICTURE), symbols)
    assert fingerprint_of(encoded(PICTURE, "PNG"), algorithm.name) == algorithm.encode(symbols)


@every_algorithm
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_bytes_and_symbols_are_one_to_one(algorithm: Algorithm, seed: int) -> None:
    rng = np.random.default_rng(seed)
    symbols = rng.integers(0, algorithm.levels, algorithm.symbols, dtype=np.uint8)
    code = algorithm.encode(symbols)
    assert isinstance(code, bytes)
    assert len(code) == algorithm.code_bytes
    assert algorithm.decode(code).dtype == np.uint8
    assert np.array_equal(algorithm.decode(code), symbols)
    other = rng.bytes(algorithm.code_bytes)
    assert algorithm.encode(algorithm.decode(other)) == other


@every_algorithm
def test_other_lengths_and_symbols_are_refused(algorithm: Algorithm) -> None:
    symbols = np.zeros(algorithm.symbols, dtype=np.uint8)
    code = algorithm.encode(symbols)
    for wrong_code in (b"", code[:-1], code + b"\x00"):
        with pytest.raises(ValueError, match="bytes"):
            algorithm.decode(wrong_code)
    too_high = symbols.copy()
    too_high[-1] = algorithm.levels
    wrong: list[NDArray[np.uint8]] = [symbols[:-1], symbols[np.newaxis], too_high]
    for array in wrong:
        with pytest.raises(ValueError, match="symbols"):
            algorithm.encode(array)


@every_algorithm
def test_distance_is_the_share_of_differing_symbols(algorithm: Algorithm) -> None:
    a, b = algorithm.fingerprint(PICTURE), algorithm.fingerprint(OTHER_PICTURE)
    different = sum(one != other for one, other in zip(a.tolist(), b.tolist(), strict=True))
    assert different > 0
    assert algorithm.distance(a, b) == algorithm.distance(b, a) == different / algorithm.symbols
    assert algorithm.distance(a, a) == 0
    assert algorithm.distance(a, ((a + 1) % algorithm.levels).astype(np.uint8)) == 1
    with pytest.raises(ValueError, match="cannot be compared"):
        algorithm.distance(a, b[1:])


@every_algorithm
def test_its_threshold_parts_symbols_and_says_where_it_comes_from(algorithm: Algorithm) -> None:
    # At least one symbol may differ, and two random fingerprints are farther apart.
    assert 1 / algorithm.symbols <= algorithm.threshold < 1 - 1 / algorithm.levels
    assert any(character.isdigit() for character in algorithm.threshold_source)
    assert algorithm.threshold_source.endswith(".")


@every_algorithm
def test_it_can_be_searched(algorithm: Algorithm) -> None:
    assert search_code_of(algorithm).code_bytes == algorithm.code_bytes


# What follows must never change while the versions stay: stored fingerprints would no longer compare.

GOLDEN: dict[str, dict[str, str]] = {
    "mao/1": {
        "plain.png": FILE_GOLDEN["plain.png"],
        "01.jpg": (
            "5aa5560560a10560a00560a5aaa96aaaa9550820000820000420005825560000000000002317152727182f0b2a"
            "151b07bed6b1b47a717fca0d7eac8bbde7b2b46af22ec20e4d5c8db518f6c4f8f1cc08c2d60909524856349a55"
            "666b6945ddca62622995cba8e7efd5ae2a03b3c65b36c96acdd1cebaeac1324617f286bc4e378d796042b045ad"
            "b28da68c18cc7c604c1eeec3f54b661a2b017a1383dfcbf3f147efdb0f7bf3e38335183666ea562a3974b49087"
        ),
        "09.jpg": (
            "55aa95aaaaa9bea6a9bfafaaffad6aff4006fc5146fffffa0bfffd057eac058150000000506418182414241828"
            "286838115566165a566f5a6a2b2b7a1226a5a858dacce6e5aba4b8a15559a9f52b301419252979115565657f4b"
            "ef8dd5e765795255e5e0fdf9fee8d9cad1b951554bfcf0102c00243c4c7991557d340c3240040415de73fec6c0"
            "90243cc09683b0353f1a38c3ccc0c30f78f7c8d8ce8a89053727cc0cda9378e8f0dfe2c4e751ac48cddb63332c"
        ),
    },
    "chamoso/1": {
        "plain.png": "a4ac90da5c5203826a1253281243251343b6",
        "01.jpg": "80e86002040e4b0b90482000000061904000",
        "09.jpg": "8749c11c926618766000083800000c060988",
    },
    "dhash/1": {
        "plain.png": "f3336dcec6862c7d",
        "01.jpg": "f5e4c49394959761",
        "09.jpg": "f08c9283a5cceaec",
    },
    "ahash/1": {
        "plain.png": "7bfb07236342068d",
        "01.jpg": "ff36ffff50404f00",
        "09.jpg": "3efcffe1c17f3a00",
    },
    "phash/1": {
        "plain.png": "a6c9dac5c336323a",
        "01.jpg": "c4c62e705bb94b17",
        "09.jpg": "c1f817976a09957c",
    },
    "pdq/1": {
        "plain.png": "244fa84ca84f96ee836ee76e496c956e792495a6b52652b625e1aa51d52d9749",
        "01.jpg": "0c301eb1b9606a686987ff696b870c719964af60f769e04efe6df387483a0cb1",
        "09.jpg": "40e1b88f777408cbdca945543b9e3873956ac29f62d48c48ddabb3b40a747c8f",
    },
}
FLOATING = {"phash": 2, "pdq": 4}
"""Bits that may differ, since these compute in floating point and a bit near its bound depends on the build."""


def test_every_algorithm_has_golden_fingerprints() -> None:
    assert set(GOLDEN) == {identity(algorithm) for algorithm in ALGORITHMS.values()}
    assert all(set(files) == set(FILES) for files in GOLDEN.values())


@pytest.mark.parametrize("file", FILES)
@every_algorithm
def test_golden_fingerprints(algorithm: Algorithm, file: str) -> None:
    code = fingerprint_of(FILES[file].read_bytes(), algorithm.name)
    wanted = bytes.fromhex(GOLDEN[identity(algorithm)][file])
    differing = np.count_nonzero(algorithm.decode(code) != algorithm.decode(wanted))
    assert differing <= FLOATING.get(algorithm.name, 0)
