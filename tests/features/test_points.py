"""Points and their packed columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from copywatch.features.points import (
    CODE_BYTES,
    MOST_POINTS,
    MOST_SCALE,
    MOST_SIDE,
    POSITION,
    Packed,
    Points,
    packed,
    unpacked,
)


@st.composite
def some_points(draw: st.DrawFn) -> Points:
    size = draw(st.tuples(st.integers(1, MOST_SIDE), st.integers(1, MOST_SIDE)))
    count = draw(st.integers(0, 30))
    shares = draw(st.lists(st.floats(0, 1, width=32), min_size=4 * count, max_size=4 * count))
    values = np.array(shares, dtype=np.float32).reshape(count, 4)
    return Points(
        size=size,
        xy=(values[:, :2] * np.array(size)).astype(np.float32),
        scale=np.minimum(MOST_SCALE ** values[:, 2], MOST_SCALE).astype(np.float32),
        angle=(values[:, 3] * 6.28318).astype(np.float32),
        codes=np.frombuffer(draw(st.binary(min_size=16 * count, max_size=16 * count)), dtype=np.uint8).reshape(
            count, CODE_BYTES
        ),
    )


def a_point(**changed: object) -> dict[str, object]:
    one: dict[str, object] = {
        "size": (40, 30),
        "xy": np.array([[3.0, 4.0]], dtype=np.float32),
        "scale": np.array([2.0], dtype=np.float32),
        "angle": np.array([1.0], dtype=np.float32),
        "codes": np.zeros((1, CODE_BYTES), dtype=np.uint8),
    }
    return {**one, **changed}


def test_a_point_is_22_bytes() -> None:
    assert CODE_BYTES + POSITION.itemsize == 22


def test_the_layout() -> None:
    points = Points(
        size=(512, 400),
        xy=np.array([[1.5, 300.25], [2.0, 0.0]], dtype=np.float32),
        scale=np.array([4.0, 1.0], dtype=np.float32),
        angle=np.array([np.pi / 2, 0.0], dtype=np.float32),
        codes=np.arange(32, dtype=np.uint8).reshape(2, 16),
    )
    first = (96).to_bytes(2, "little") + (19_216).to_bytes(2, "little") + bytes([48, 64])
    assert packed(points) == Packed(bytes(range(32)), first + (128).to_bytes(2, "little") + bytes(4))


@given(some_points())
def test_what_is_read_back_is_within_the_stated_steps(points: Points) -> None:
    back = unpacked(*packed(points), points.size)
    assert len(back) == len(points)
    assert back.size == points.size
    np.testing.assert_array_equal(back.codes, points.codes)
    np.testing.assert_allclose(back.xy, points.xy, rtol=0, atol=1 / 128 + 1e-4)
    assert (np.abs(np.log2(back.scale) - np.log2(points.scale)) <= 1 / 48 + 1e-5).all()
    turned = np.abs(back.angle - points.angle)
    assert (np.minimum(turned, 2 * np.pi - turned) <= np.pi / 256 + 1e-5).all()


@given(st.binary(max_size=200), st.binary(max_size=80), st.tuples(st.integers(1, MOST_SIDE), st.integers(1, MOST_SIDE)))
def test_any_bytes_are_refused(codes: bytes, positions: bytes, size: tuple[int, int]) -> None:
    """Or they are points that pack to them, if both lengths fit each other and all lie inside."""
    try:
        points = unpacked(codes, positions, size)
    except ValueError:
        records = np.frombuffer(positions[: len(positions) // 6 * 6], dtype=POSITION)
        outside = (records["x"] > size[0] * 64) | (records["y"] > size[1] * 64)
        assert len(codes) % 16 or len(positions) * 16 != len(codes) * 6 or outside.any()
    else:
        assert packed(points) == (codes, positions)


@given(st.integers(0, 9).flatmap(lambda n: st.tuples(*(st.binary(min_size=n * k, max_size=n * k) for k in (16, 2)))))
def test_every_scale_and_angle_of_a_record_is_read(columns: tuple[bytes, bytes]) -> None:
    codes, turns = columns
    positions = b"".join(bytes(4) + turns[n : n + 2] for n in range(0, len(turns), 2))
    assert packed(unpacked(codes, positions, (1, 1))) == (codes, positions)


@pytest.mark.parametrize("codes", [b"x", bytes(15), bytes(17), bytes(16 * MOST_POINTS + 16)])
def test_lengths_that_no_codes_have_are_refused(codes: bytes) -> None:
    with pytest.raises(ValueError, match="codes of 16 bytes each"):
        unpacked(codes, bytes(len(codes) // 16 * 6), (512, 512))


@pytest.mark.parametrize("positions", [b"", b"x", bytes(6), bytes(11), bytes(13), bytes(18)])
def test_positions_of_another_number_of_points_are_refused(positions: bytes) -> None:
    with pytest.raises(ValueError, match="positions are not those of 2 points"):
        unpacked(bytes(32), positions, (512, 512))


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (-1, 5), (MOST_SIDE + 1, 5), (5, 1 << 40)])
def test_sizes_that_no_scaled_picture_has_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="1 to 1023 pixels"):
        unpacked(b"", b"", size)


def test_a_point_outside_the_picture_is_refused() -> None:
    record = np.zeros(1, dtype=POSITION)
    record["x"] = 100 * 64 + 1
    with pytest.raises(ValueError, match="outside its picture of 100 x 50"):
        unpacked(bytes(16), record.tobytes(), (100, 50))


def test_more_points_than_a_picture_is_given_are_not_packed() -> None:
    count = MOST_POINTS + 1
    ones = np.ones(count, dtype=np.float32)
    points = Points((9, 9), np.ones((count, 2), np.float32), ones, ones, np.zeros((count, CODE_BYTES), np.uint8))
    with pytest.raises(ValueError, match="at most 2000"):
        packed(points)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"xy": np.array([[3.0, np.nan]], dtype=np.float32)}, "outside"),
        ({"xy": np.array([[-0.1, 0.0]], dtype=np.float32)}, "outside"),
        ({"xy": np.array([[3.0, 4.0]])}, "xy must be float32"),
        ({"xy": np.array([3.0, 4.0], dtype=np.float32)}, "xy must be"),
        ({"scale": np.array([0.5], dtype=np.float32)}, "scale"),
        ({"scale": np.array([np.inf], dtype=np.float32)}, "scale"),
        ({"scale": np.ones(2, dtype=np.float32)}, "scale must be"),
        ({"angle": np.array([-0.1], dtype=np.float32)}, "angle"),
        ({"angle": np.array([6.2832], dtype=np.float32)}, "angle"),
        ({"codes": np.zeros((1, 15), dtype=np.uint8)}, "codes must be uint8"),
        ({"codes": np.zeros((1, 16), dtype=np.int64)}, "codes must be uint8"),
    ],
)
def test_arrays_that_are_no_points_are_refused(changed: dict[str, NDArray[np.float32]], message: str) -> None:
    Points(**a_point())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        Points(**a_point(**changed))  # type: ignore[arg-type]
