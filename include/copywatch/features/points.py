"""Points of a picture with their binary codes, and the two packed columns that a table keeps of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CODE_BYTES = 16
"""128 bits of `copywatch.features.itq`."""

POSITION = np.dtype([("x", "<u2"), ("y", "<u2"), ("log_scale", np.uint8), ("angle", np.uint8)])
"""6 bytes a point: x and y in steps of 1/64 pixel; scale in steps of 1/24 octave from one pixel on; angle in steps of
1/256 turn."""

PIXEL_STEPS = 64
OCTAVE_STEPS = 24
TURN_STEPS = 256

MOST_SIDE = 1023
"""Pixels; the longest side whose positions fit into the record."""
MOST_SCALE = float(2 ** (255 / OCTAVE_STEPS))
"""Pixels; the largest scale that fits, 1,580."""
MOST_POINTS = 2000
"""More than any picture is given; a longer record is not read."""


@dataclass(frozen=True)
class Points:
    """Points of one picture; none at all is fine.

    Attributes:
        size: (width, height) of the scaled picture that the points were found in, in pixels, 1 to `MOST_SIDE` each.
        xy: float32 (N, 2), pixels of that picture from its upper left corner, x first, within [0, size].
        scale: float32 (N,), diameter in pixels, 1 to `MOST_SCALE`.
        angle: float32 (N,), radians, in [0, 2 pi), clockwise on the screen from the x axis.
        codes: uint8 (N, 16), the first bit in the highest one.

    Raises:
        ValueError: an array has another shape or type, or a value is out of its bounds.
    """

    size: tuple[int, int]
    xy: NDArray[np.float32]
    scale: NDArray[np.float32]
    angle: NDArray[np.float32]
    codes: NDArray[np.uint8]

    def __post_init__(self) -> None:
        count = len(self.xy)
        if not all(1 <= side <= MOST_SIDE for side in self.size):
            raise ValueError(f"a picture of {self.size[0]} x {self.size[1]}; its sides must be 1 to {MOST_SIDE} pixels")
        for name, array, shape, dtype in (
            ("xy", self.xy, (count, 2), np.float32),
            ("scale", self.scale, (count,), np.float32),
            ("angle", self.angle, (count,), np.float32),
            ("codes", self.codes, (count, CODE_BYTES), np.uint8),
        ):
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"{name} must be {np.dtype(dtype)} {shape}, not {array.dtype} {array.shape}")
        # Written so that a NaN is out of bounds.
        if not ((self.xy >= 0) & (self.xy <= np.array(self.size))).all():
            raise ValueError(f"a point lies outside its picture of {self.size[0]} x {self.size[1]}")
        if not ((self.scale >= 1) & (self.scale <= MOST_SCALE)).all():
            raise ValueError(f"a point's scale is not within 1 to {MOST_SCALE:.0f} pixels")
        if not ((self.angle >= 0) & (self.angle < 2 * np.pi)).all():
            raise ValueError("a point's angle is not within 0 to 2 pi")

    def __len__(self) -> int:
        return len(self.xy)


class Packed(NamedTuple):
    """A picture's points as bytes; their order is the same in both.

    Attributes:
        codes: `CODE_BYTES` a point. A search reads these alone.
        positions: a record `POSITION` for each.
    """

    codes: bytes
    positions: bytes


def packed(points: Points) -> Packed:
    """The points as 16 + 6 bytes each, in their order; `size` is kept beside them.

    What is read back by `unpacked` lies within 1/128 pixel, 1/48 octave (1.5 %) and 1/512 turn (0.7 degrees) of what
    was packed. Codes are kept exactly.

    Raises:
        ValueError: there are more than `MOST_POINTS`.
    """
    if len(points) > MOST_POINTS:
        raise ValueError(f"{len(points)} points; at most {MOST_POINTS} are kept of a picture")
    positions = np.empty(len(points), dtype=POSITION)
    places = np.rint(points.xy.astype(np.float64) * PIXEL_STEPS)
    positions["x"], positions["y"] = places[:, 0], places[:, 1]
    positions["log_scale"] = np.rint(np.log2(points.scale.astype(np.float64)) * OCTAVE_STEPS)
    positions["angle"] = np.rint(points.angle.astype(np.float64) * (TURN_STEPS / (2 * np.pi))) % TURN_STEPS
    return Packed(points.codes.tobytes(), positions.tobytes())


def unpacked(codes: bytes, positions: bytes, size: tuple[int, int]) -> Points:
    """The points that `packed` wrote.

    Args:
        codes: as in `Packed`.
        positions: likewise.
        size: (width, height) of the scaled picture, in pixels.

    Raises:
        ValueError: the two are not of the same whole number of points, or of more than `MOST_POINTS`, or a point lies
            outside `size`.
    """
    table = unpacked_codes(codes)
    if len(positions) != len(table) * POSITION.itemsize:
        raise ValueError(
            f"{len(positions)} bytes of positions are not those of {len(table)} points, {POSITION.itemsize} bytes each"
        )
    records = np.frombuffer(positions, dtype=POSITION)
    return Points(
        size=size,
        xy=(np.stack([records["x"], records["y"]], axis=1) / PIXEL_STEPS).astype(np.float32),
        scale=(2.0 ** (records["log_scale"] / OCTAVE_STEPS)).astype(np.float32),
        angle=(records["angle"] * (2 * np.pi / TURN_STEPS)).astype(np.float32),
        codes=table,
    )


def unpacked_codes(codes: bytes) -> NDArray[np.uint8]:
    """The codes alone, uint8 (N, 16), a copy.

    Raises:
        ValueError: the bytes are no whole number of codes, or more than `MOST_POINTS`.
    """
    count, rest = divmod(len(codes), CODE_BYTES)
    if rest or count > MOST_POINTS:
        raise ValueError(f"{len(codes)} bytes are not 0 to {MOST_POINTS} codes of {CODE_BYTES} bytes each")
    return np.frombuffer(codes, dtype=np.uint8).reshape(count, CODE_BYTES).copy()
