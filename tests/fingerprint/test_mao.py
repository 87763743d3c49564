"""SRPITP's Algorithm 1 against a slow transcription of it, by properties, and by golden fingerprints."""

from __future__ import annotations

import hashlib
from math import exp, floor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from copywatch.fingerprint import Mao, fingerprint_of, identity
from copywatch.fingerprint.mao import BLOCK_COLUMNS, BLOCK_ROWS, COLUMNS, PIECES, ROWS, quantized
from tests.fingerprint.pictures import encoded, scene

MAO = Mao()
GOLDEN = Path(__file__).parent / "golden"


def transcription(image: Image.Image, f: float) -> tuple[list[float], list[float]]:
    """Steps 1 to 5 in floating point, pixel by pixel: A - 128 and D."""
    grey = np.asarray(image.convert("L").resize((COLUMNS, ROWS), Image.Resampling.BILINEAR), dtype=float)
    weight = {offset: exp(-(offset**2) / (2 * 0.95**2)) for offset in (-1, 0, 1)}
    total = sum(weight[i] * weight[j] for i in weight for j in weight)
    smooth = np.zeros((ROWS, COLUMNS))
    for row in range(ROWS):
        for column in range(COLUMNS):
            for i in weight:
                for j in weight:
                    r, c = min(max(row + i, 0), ROWS - 1), min(max(column + j, 0), COLUMNS - 1)
                    smooth[row, column] += weight[i] * weight[j] * grey[r, c] / total
    averages, differences = [], []
    for top in range(0, ROWS, BLOCK_ROWS):
        for left in range(0, COLUMNS, BLOCK_COLUMNS):
            block = smooth[top : top + BLOCK_ROWS, left : left + BLOCK_COLUMNS]
            averages.append(float(block.mean()) - 128)
            # Figure 2, with inclusive last rows and columns, typed off DESIGN's table a second time.
            one, two = block[0:2, 0:5].mean(), block[2:4, 0:5].mean()
            three, four = block[0:4, 5:8].mean(), block[0:4, 8:11].mean()
            five, six = block[4:9, 0:2].mean(), block[4:9, 2:5].mean()
            seven, eight = block[4:6, 5:11].mean(), block[6:9, 5:11].mean()
            differences += [float(one - two), float(three - four), float(five - six), float(seven - eight)]
    return averages, differences


def levels(values: list[float], f: float) -> list[int]:
    """Step 6, one element at a time."""
    bound = sorted(abs(value) for value in values)[min(floor(f * len(values)), len(values) - 1)]
    return [(3 if v > bound else 2) if v >= 0 else (0 if v < -bound else 1) for v in values]


@pytest.mark.parametrize("f", [0.25, 0.5])
def test_equals_the_transcription(f: float) -> None:
    image = scene(300, 200, seed=3)
    averages, differences = transcription(image, f)
    slow = np.array(levels(averages, f) + levels(differences, f))
    fast = Mao(inner_share=f).fingerprint(image)
    # The whole weights of the Gaussian differ from the real ones by 1e-5: an element on a bound may fall aside.
    assert np.count_nonzero(slow != fast) <= 3


def test_the_pieces_cover_each_pixel_of_a_block_once() -> None:
    seen = np.zeros((BLOCK_ROWS, BLOCK_COLUMNS), dtype=int)
    for rows, columns in PIECES:
        seen[rows, columns] += 1
    assert (seen == 1).all()


@given(
    values=st.lists(st.integers(-(2**50), 2**50), min_size=1, max_size=60),
    f=st.floats(0, 1),
)
def test_quantization_equals_the_definition(values: list[int], f: float) -> None:
    array = np.array(values, dtype=np.int64)
    assert quantized(array, f).tolist() == levels([float(value) for value in values], f)


def test_levels_are_equally_likely_at_the_default() -> None:
    symbols = MAO.fingerprint(scene(400, 300, seed=2))
    assert 0.4 < np.isin(symbols[144:], (1, 2)).mean() < 0.6
    assert 0.4 < np.isin(symbols[:144], (1, 2)).mean() < 0.6


def test_a_blank_picture_has_exactly_no_differences() -> None:
    for grey in (0, 77, 128, 255):
        symbols = MAO.fingerprint(Image.new("RGB", (200, 200), (grey, grey, grey)))
        assert (symbols[144:] == 2).all()
        assert len(set(symbols[:144].tolist())) == 1


def test_brightness_without_clipping_leaves_the_differences_alone() -> None:
    dark = np.asarray(scene(300, 300)) // 2
    first = MAO.fingerprint(Image.fromarray(dark.astype(np.uint8)).convert("L").convert("RGB"))
    second = MAO.fingerprint(
        Image.fromarray(np.asarray(Image.fromarray(dark.astype(np.uint8)).convert("L")) + np.uint8(40)).convert("RGB")
    )
    assert MAO.distance(first[144:], second[144:]) < 0.03


def test_symbols_and_bytes() -> None:
    symbols = np.arange(720, dtype=np.uint8) % 4
    code = MAO.encode(symbols)
    assert code == bytes([0b00011011]) * 180
    assert np.array_equal(MAO.decode(code), symbols)


@given(st.lists(st.integers(0, 3), min_size=720, max_size=720))
@settings(max_examples=30)
def test_encoding_is_reversible(symbols: list[int]) -> None:
    code = MAO.encode(np.array(symbols, dtype=np.uint8))
    assert len(code) == MAO.code_bytes == 180
    assert MAO.decode(code).tolist() == symbols


@pytest.mark.parametrize("symbols", [np.zeros(719, np.uint8), np.zeros((1, 720), np.uint8), np.full(720, 4, np.uint8)])
def test_wrong_symbols(symbols: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="symbols"):
        MAO.encode(symbols)


@pytest.mark.parametrize("length", [0, 179, 181, 270])
def test_wrong_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="180 bytes"):
        MAO.decode(bytes(length))


def test_distance_is_the_share_of_differing_symbols() -> None:
    a, b = np.zeros(720, np.uint8), np.zeros(720, np.uint8)
    b[:3] = (1, 2, 3)
    assert MAO.distance(a, b) == 3 / 720
    assert MAO.distance(a, a) == 0
    with pytest.raises(ValueError, match="cannot be compared"):
        MAO.distance(a, b[:100])


def test_identity_tells_parameters_apart() -> None:
    assert identity(MAO) == "mao/1"
    assert identity(Mao(inner_share=0.25)) == "mao/1-f0.25"
    with pytest.raises(ValueError, match="inner_share"):
        Mao(inner_share=1.5)


def test_mild_edits_stay_below_the_threshold_and_other_pictures_above() -> None:
    originals = [scene(480, 320, seed) for seed in range(6)]
    symbols = [MAO.fingerprint(image) for image in originals]
    for number, image in enumerate(originals):
        width, height = image.size
        edits = [
            image.resize((width // 3, height // 3), Image.Resampling.LANCZOS),
            image.convert("L").convert("RGB"),
            image.crop((5, 3, width - 5, height - 3)),
        ]
        for edit in edits:
            assert MAO.distance(MAO.fingerprint(edit), symbols[number]) <= MAO.threshold
        noise = np.random.default_rng(number).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        stranger = Image.fromarray(noise).resize((480, 320), Image.Resampling.BICUBIC)
        assert all(MAO.distance(MAO.fingerprint(stranger), other) > MAO.threshold for other in symbols)


# What follows must never change while the version is 1: stored fingerprints would no longer compare.

SYNTHETIC_GOLDEN = {
    (132, 108, 0): "97983c0d32516997528e099510150d185d33ffaceec376ae44b6bb87c77b654f",
    (640, 480, 1): "51c31e71d13cf7bde7d6983babbb252b906777da44fa0ea00df4b751aaeda7cc",
    (97, 301, 2): "fc5d7ffdbe63a9ee97b347092df68b5df24027340a4e215e505132e9368ea848",
    (16, 16, 3): "f87105cabc076ffa7ace86f2786a3edeae432c1ce431abf41f504c5902482d15",
}
FILE_GOLDEN = {
    "plain.png": (
        "0596526abd19956a4a40119701407605407a16006e19007d1400780001b14001e24017c5ebe4d09894d4cfd3c3"
        "30cff34227ead7d6d7b61cdbc330c6ebe5ebd5d7d5fbd210dbc204aaafa19a9597d683920093f0ea91585019fc"
        "4ac242f20ec229491119bf29a946c202090288425853d866798a518170824b4057fc67685b584151b27f4887ba"
        "9ba4abb946614177806993da929aa659510052cc4129fc919ed1588400803fc0017e205c501850144023cc0073"
    ),
    "alpha.png": (
        "ffffffffffffffffffffffffffaffffeaaffaaaafe9aaaaa5aaa6a55a56a5551a695459baba6959a96999aab97"
        "a69ba7c25baa979697ab55dfd7b5dfabe6dbd6dbebd7d6b5dfc321ebefe7dbebdbd7c7d770d7d2ebe69ab7da96"
        "8bd783d20ec36aca63dad26aea4bc242f3c3ca63da925ae66aca52c3f3c26fc5839497a89b6983d2f183ccc3c0"
        "9798abb98be18173807fc5c7d1dbe5dbe041507e423c6c80dfd2abd0004003c400bc202c501fc0048000fc0083"
    ),
    "palette.png": (
        "05a5122ab9199541975401b65000b440005801540805a01906401d05006d5001b48006d2fa5ca09058988cffc7"
        "f68dc3801ffce7d4d7bb34bec2f34dfb946b95abf8c782b69d417055af95ffd487958785b0dfcbe997bd502994"
        "49c646f72dc53fed41185018a805e79f3401ed0189121aa429afe181f28d1a89525a922affac8112c00d5c4745"
        "43abffb81a514562802d4497abeb946a5441447753645e7cca54a664006501ffc06ffd6d1019000555007f0403"
    ),
    "small.jpg": (
        "45a8662fea5de906db9001b540015401541905901d05402e10006c4000580000659541a7ebece0941458ccffc3"
        "f30cc3d00be9d7daefe6379cc3f30c6ba9ab9bfbd58792a31c82b3a9afbdda9497958792b33fc1bff599101824"
        "09968bf230826989101950186b7dd141f10de90159511abfe9a901c1014d2985515ff529a9398101c10f6847bd"
        "925956699920437acc7fd8939497a89b544be07341282a589b949697a950007d0029242d141b3cc514003f8000"
    ),
    "scaled_by_dct.jpg": (
        "41a9252abf0995599340046500101901501d01a01d05901a01801d41402d50006ae501b7fbeee0d41218ccdfcb"
        "f300c3e007ead7dad7d6731cc3d3003be9ebd5d7d5c7fec320c2f3e9efe5db9497d6cb92831cc2bba599505964"
        "7b968392b08b6a9d41595119bd09d242c20efa01895119a6adf906c1028d29894259923be629c501c10da9468a"
        "925efe6aea118101cd395c839a93ee97a4411143c5682a5897ba96944110407f403a282a187e1405100033c001"
    ),
    "progressive_sideways.jpg": (
        "e9456141006800541800151900051a01001e40001e900019a40064a956a12bff9941b969f7aabb8aba8ba7969a"
        "b28e83fecbe378d428da56c28a30c676fe04d324a838d94a82aa0efd599515ca22b92d924a424d799905a51589"
        "e7b55d8189717d45a545b95ab9cf924941ba785e45b64ab9abb949c3419c3e68aa86ba9bb9964046c3c3713d18"
        "7988b8551416003f0022ef300838082415103fc0018c334833083414163fc4013f381cc887f303b8f408003fc0"
    ),
    "cmyk.jpg": (
        "41a9191ffe4aa951b695006d90002e40001d40141640550600550600540a50001de94076fbefe0d49098ccffc3"
        "e330cff8821ee7dad7bbe730cf93b003ede7e9d7ffc7d6c3718ec3b9aba8abbfd79587a28370c5bba8ab7ad614"
        "1a998292810fb8af67d654567859a98193f0ba6bca505a645a7949a3c1b27fcd41599159a519abc58131f9558a"
        "915a955abbcd9101b3386c425a925aebe99000803db8246c905ad7e8c0008003c8306c201c67d844144010bc00"
    ),
    "lossy.webp": (
        "81a9191bfa86aa41b6a4006d90006940150601550701a40741400b94001fa0006cd405a4fbefe0e4905888fcc7"
        "e3f38df9800ee7dad7fec730cdd3f283aea7eeebeac796c3b34d83b9abadbfd8969587a283b18fabafff945614"
        "15688293ae00bfff4046545668596bd992b0ff68464056645a7fc9614152785e404a505b7dd97941914079548a"
        "415bf95ab949504053386c41afd25aa65a90005037a8253dd05ad154d400401fcc33fc202c50189404823cbe00"
    ),
}


@pytest.mark.parametrize(("width", "height", "seed"), SYNTHETIC_GOLDEN)
def test_golden_fingerprints_of_computed_pictures(width: int, height: int, seed: int) -> None:
    code = fingerprint_of(encoded(scene(width, height, seed), "PNG"))
    assert hashlib.sha256(code).hexdigest() == SYNTHETIC_GOLDEN[width, height, seed]


@pytest.mark.parametrize("name", FILE_GOLDEN)
def test_golden_fingerprints_of_stored_files(name: str) -> None:
    assert fingerprint_of((GOLDEN / name).read_bytes()).hex() == FILE_GOLDEN[name]
