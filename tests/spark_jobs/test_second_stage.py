"""The second stage in the matching job: what it finds that fingerprints cannot, and what it takes out of the queue."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image, ImageOps
from pyspark.sql import SparkSession

from copywatch.decode import decode
from copywatch.features.extract import protected_points
from copywatch.features.itq import IDENTITY as CODES
from copywatch.features.manifest import Manifest, ShardFile, switch
from copywatch.features.points import packed
from copywatch.features.shards import Shard
from copywatch.features.thumbnail import thumbnail
from copywatch.fingerprint.views import protected_views, sighting_views
from copywatch.lake import landing
from copywatch.lake.schemas import DETECTED, FEATURES, MATCHES, PROTECTED, SEEN
from copywatch.settings import Settings
from copywatch.verification.candidate import NO_BYTES
from copywatch.verification.verdict import FOUND_BY_RULE
from spark_jobs import match_images
from tests.spark_jobs.made_up import original, sighting

pytestmark = pytest.mark.integration

RUN = "run-1"
Rows = Callable[..., list[dict[str, Any]]]


def jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return out.getvalue()


def pixels(data: bytes) -> Image.Image:
    return decode(data, max_pixels=10**8, max_bytes=10**8).rgb


class World:
    """Protected photos and a crawl of pictures, with the fingerprints and features that the jobs before give them."""

    def __init__(self, spark: SparkSession, config: Settings, put_rows: Callable[..., None], land: Callable[..., None]):
        self._spark, self.config, self._put_rows, self._land = spark, config, put_rows, land
        self._found: dict[str, bytes] = {}
        self._codes: dict[str, bytes] = {}

    def protect(self, number: int, data: bytes, features_of: bytes | None = None, **columns: Any) -> str:
        """Protect a photo; `features_of`: its local features are those of another one."""
        rgb = pixels(data)
        row = original(number, views=protected_views(rgb).tobytes(), sha256=hashlib.sha256(data).hexdigest(), **columns)
        self._put_rows(PROTECTED, row)
        shown = pixels(features_of or data)
        points = protected_points(shown)
        records = packed(points)
        self._put_rows(FEATURES, {
            "protected_id": row["protected_id"], "shard": 0, "model": CODES, "points": len(points),
            "scaled_width": points.size[0], "scaled_height": points.size[1], "codes": records.codes,
            "positions": records.positions, "thumbnail": thumbnail(shown), "run": "intake",
        })  # fmt: skip
        self._codes[row["protected_id"]] = records.codes
        return row["protected_id"]

    def index(self) -> None:
        """Make what is protected by now searchable."""
        shard = Shard.empty()
        shard.add(self._codes.keys(), self._codes.values())
        name = shard.write(self.config.index, 0)
        switch(self.config.index, Manifest({0: ShardFile(name, shard.images, shard.points)}))

    def show(self, name: str, data: bytes, *, landed: bool = True) -> None:
        """A picture that the crawl finds."""
        if landed:
            self._found[name] = data
        views = sighting_views(pixels(data)).tobytes()
        self._put_rows(DETECTED, sighting(0, 0, RUN, name=name, sha256=hashlib.sha256(data).hexdigest(), views=views))

    def match(self, **settings: Any) -> None:
        if self._found:
            self._land(RUN, "lumen", self._found)
        match_images.match_run(self._spark, RUN, "mao", 0.2275, self.config.model_copy(update=settings))

    def matched_again_once_released(self) -> None:
        landing.release(self.config.landing, RUN)
        match_images.match_run(self._spark, RUN, "mao", 0.2275, self.config)


@pytest.fixture
def world(spark: SparkSession, config: Settings, put_rows: Any, land: Any) -> World:
    return World(spark, config, put_rows, land)


def part(data: bytes) -> Image.Image:
    """A third of a picture, which no global fingerprint finds."""
    whole = pixels(data)
    width, height = whole.size
    return whole.crop((width // 4, height // 5, width // 4 + width * 58 // 100, height // 5 + height * 58 // 100))


def test_an_edited_copy_is_verified_and_waits_or_is_alerted_as_the_administrator_says(
    world: World, rows: Rows, photos: Callable[[str], bytes]
):
    photo = photos("01")
    world.protect(1, photo)
    world.show("mirrored.jpg", jpeg(ImageOps.mirror(pixels(photo))))
    world.match()
    (row,) = rows(MATCHES)
    assert (row["verdict"], row["verification"], row["state"]) == (1, "certain", "doubtful")
    assert row["probability"] > 0.9
    assert "mirrored" in row["edit"]
    assert len(row["alignment"]) == 6
    assert row["alignment"][0] == pytest.approx(-1, abs=0.02)
    assert dict(row["measures"])["inliers"] > 50
    world.match(alert_certain=True)
    (again,) = rows(MATCHES)
    assert again["state"] == "certain"


def test_a_look_alike_leaves_the_queue_but_is_kept(world: World, rows: Rows, photos: Callable[[str], bytes]):
    """By its fingerprint the picture is the protected one; by what both show it is not."""
    world.protect(1, photos("03"), features_of=photos("07"))
    world.show("like.jpg", jpeg(pixels(photos("03")).resize((384, 256))))
    world.match(alert_certain=True)
    (row,) = rows(MATCHES)
    assert (row["verdict"], row["verification"], row["state"]) == (1, "different", "different")
    assert [one["sighting_id"] for one in rows(DETECTED, RUN)] == [row["sighting_id"]]


def test_what_cannot_be_verified_waits_for_a_person_and_says_why(
    world: World, rows: Rows, photos: Callable[[str], bytes]
):
    photo = photos("05")
    world.protect(1, photo)
    copy = jpeg(pixels(photo).resize((400, 266)))
    world.show("copy.jpg", copy, landed=False)
    world.match()
    (row,) = rows(MATCHES)
    assert (row["verdict"], row["verification"], row["state"]) == (1, None, "doubtful")
    assert row["unverified"] == NO_BYTES


def test_after_the_bytes_are_released_a_re_run_keeps_what_was_found(
    world: World, rows: Rows, photos: Callable[[str], bytes]
):
    world.protect(1, photos("01"))
    world.show("copy.jpg", jpeg(pixels(photos("01")).resize((500, 333))))
    world.match()
    before = [{**row, "matched_at": None} for row in rows(MATCHES)]
    world.matched_again_once_released()
    assert [{**row, "matched_at": None} for row in rows(MATCHES)] == before
    assert before[0]["verification"] == "certain"


def test_without_the_second_stage_nothing_is_verified(world: World, rows: Rows, photos: Callable[[str], bytes]):
    world.protect(1, photos("01"))
    world.show("copy.jpg", jpeg(pixels(photos("01")).resize((500, 333))))
    world.match(second_stage=False)
    (row,) = rows(MATCHES)
    assert (row["verification"], row["unverified"], row["state"]) == (None, None, "doubtful")


def test_a_third_of_a_photo_is_found_by_its_local_features_alone(
    world: World, rows: Rows, photos: Callable[[str], bytes]
):
    world.protect(1, photos("04"))
    world.protect(2, photos("08"))
    world.index()
    world.show("part.jpg", jpeg(part(photos("04"))))
    world.show("other.jpg", jpeg(part(photos("12"))))
    world.match()
    (row,) = rows(MATCHES)
    assert row["image_url"].endswith("part.jpg")
    assert (row["protected_id"], row["verdict"], row["algorithm"]) == (f"{1:032x}", 1, CODES)
    assert (row["rule"], row["verification"], row["state"]) == (FOUND_BY_RULE, "certain", "doubtful")
    assert row["distance"] == pytest.approx(1 - row["probability"])
    assert row["distance"] <= row["threshold"] < 1
    assert row["plain_distance"] is None
    assert "crop" in row["edit"]
    assert [one["image_url"].split("/")[-1] for one in rows(SEEN, RUN)] == ["other.jpg"]
    assert [one["sighting_id"] for one in rows(DETECTED, RUN)] == [row["sighting_id"]]
    before = {**row, "matched_at": None}
    world.matched_again_once_released()
    assert [{**one, "matched_at": None} for one in rows(MATCHES)] == [before]


def test_every_owner_of_a_collage_is_told_but_not_of_what_is_no_longer_protected(
    world: World, rows: Rows, photos: Callable[[str], bytes]
):
    names = ("04", "08", "15", "23")
    sheet = Image.new("RGB", (1200, 900))
    for place, name in enumerate(names):
        sheet.paste(
            ImageOps.contain(pixels(photos(name)), (560, 420)), (20 + 600 * (place % 2), 20 + 450 * (place // 2))
        )
    for number, name in enumerate(names):
        status = {"status": "withdrawn"} if name == "23" else {}
        world.protect(number, photos(name), owner=str(number), **status)
    world.index()
    world.show("collage.jpg", jpeg(sheet))
    world.match()
    assert sorted(row["owner"] for row in rows(MATCHES)) == ["0", "1", "2"]
    assert {row["algorithm"] for row in rows(MATCHES)} == {CODES}
    assert {row["verification"] for row in rows(MATCHES)} <= {"certain", "doubtful"}
