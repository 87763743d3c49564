"""Verifications and found pictures as rows of tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from io import BytesIO
from typing import Any

import pyarrow as pa
from PIL import Image

from copywatch.features.extract import DetectedPoints
from copywatch.features.points import packed, unpacked
from copywatch.lake.schemas import MATCHES
from copywatch.verification.sides import LONGEST_SIDE, Found
from copywatch.verification.verdict import IDENTITY, Verification

VERIFICATION_COLUMNS = ("verification", "probability", "unverified", "edit", "alignment", "measures", "verifier")
"""Of the table `matches`."""

VERIFICATION = pa.schema([MATCHES.columns.field(name).remove_metadata() for name in VERIFICATION_COLUMNS])

ORIGINAL = ("codes", "positions", "scaled_width", "scaled_height", "thumbnail")
"""What verification needs of a row of the table `features`."""

FOUND = pa.schema(
    [
        pa.field("scaled_width", pa.int32()),
        pa.field("scaled_height", pa.int32()),
        pa.field("codes", pa.binary()),
        pa.field("positions", pa.binary()),
        pa.field("mirrored_codes", pa.binary()),
        pa.field("mirrored_positions", pa.binary()),
        pa.field("picture", pa.binary()),
    ]
)
"""A found picture: its points as they are and mirrored, and the picture as a JPEG; some 60 kB."""

_PICTURE_QUALITY = 92


def verification_row(verification: Verification) -> dict[str, Any]:
    """The columns `VERIFICATION_COLUMNS`."""
    measures = verification.measures
    return {
        "verification": verification.judgement.value if verification.judgement else None,
        "probability": verification.probability,
        "unverified": verification.reason or None,
        "edit": verification.edit or None,
        "alignment": list(verification.alignment) if verification.alignment else None,
        "measures": [(name, float(value)) for name, value in asdict(measures).items()] if measures else None,
        "verifier": IDENTITY,
    }


def found_row(found: Found) -> dict[str, Any]:
    """The columns `FOUND`."""
    upright, mirrored = packed(found.points.upright), packed(found.points.mirrored)
    file = BytesIO()
    found.picture.save(file, "JPEG", quality=_PICTURE_QUALITY, subsampling=0)
    return {
        "scaled_width": found.points.upright.size[0],
        "scaled_height": found.points.upright.size[1],
        "codes": upright.codes,
        "positions": upright.positions,
        "mirrored_codes": mirrored.codes,
        "mirrored_positions": mirrored.positions,
        "picture": file.getvalue(),
    }


def points_of_row(row: Mapping[str, Any]) -> DetectedPoints:
    """The points of `found_of_row` alone: its columns but `picture`.

    Raises:
        ValueError: a column is none that `found_row` made.
    """
    size = (row["scaled_width"], row["scaled_height"])
    return DetectedPoints(
        unpacked(row["codes"], row["positions"], size), unpacked(row["mirrored_codes"], row["mirrored_positions"], size)
    )


def found_of_row(row: Mapping[str, Any]) -> Found:
    """What `found_row` was made of; positions and pixels are a little coarser.

    Raises:
        ValueError: a column is none that `found_row` made.
    """
    points = points_of_row(row)
    with Image.open(BytesIO(row["picture"]), formats=("JPEG",)) as file:
        if max(file.size) > LONGEST_SIDE:
            raise ValueError(f"a picture of {file.size[0]} x {file.size[1]} is no found picture of at most 512 pixels")
        return Found(points, file.convert("RGB"))
