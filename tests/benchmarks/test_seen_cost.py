"""What the made-up sightings are made of, and the line through what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from photo_folder import save_noise
from pyspark.sql import SparkSession

from benchmarks.photos import read_photos
from benchmarks.seen_cost import Measurement, Stuff, batches, fill, line, matched, per_million, register, sightings
from benchmarks.spark_runs import Cost
from copywatch.fingerprint.mao import BLOCKS, unpacked
from copywatch.fingerprint.views import VIEW, sighting_views
from copywatch.lake.schemas import SEEN
from copywatch.lake.tables import read_table
from copywatch.settings import Settings
from copywatch.tagging.tagger import TAGS, Tagger


def plain_stuff(framed: float = 0.0) -> Stuff:
    """Two photos: of the one all symbols are 1 and no block has detail, of the other all are 2 and all have."""
    return Stuff(
        averages=np.stack([np.full((12, 12), symbol, dtype=np.uint8) for symbol in (1, 2)]),
        differences=np.stack([np.full((12, 48), symbol, dtype=np.uint8) for symbol in (1, 2)]),
        mask=np.stack([np.full((12, 12), bit, dtype=np.uint8) for bit in (0, 1)]),
        pdq=np.stack([np.full((16, 2), byte, dtype=np.uint8) for byte in (0, 255)]),
        tags=np.array([[0.9, 0.1, 0, 0, 0, 0, 0, 0], [0, 0, 0.2, 0.8, 0, 0, 0, 0]]),
        framed=framed,
    )


def test_a_made_up_view_has_each_row_of_blocks_from_one_photo() -> None:
    made = plain_stuff().views(50, np.random.default_rng(1))
    symbols = unpacked(np.ascontiguousarray(made["fingerprint"]))
    averages, differences = symbols[:, :BLOCKS].reshape(50, 12, 12), symbols[:, BLOCKS:].reshape(50, 12, 48)
    mask = np.unpackbits(made["mask"], axis=1).reshape(50, 12, 12)
    photo = averages[:, :, 0]
    assert set(np.unique(photo)) == {1, 2}
    np.testing.assert_array_equal(averages, photo[:, :, np.newaxis] * np.ones(12))
    np.testing.assert_array_equal(differences, photo[:, :, np.newaxis] * np.ones(48))
    np.testing.assert_array_equal(mask, (photo[:, :, np.newaxis] == 2) * np.ones(12))
    assert all((row[0::2] == row[1::2]).all() for row in made["pdq"])


def test_of_one_photo_nothing_but_that_photo_is_made(tmp_path: Path) -> None:
    save_noise(tmp_path / "one.png", 1)
    views = sighting_views(read_photos(tmp_path)[0].image())
    made = Stuff.of([views], np.full((1, 8), 1 / 8)).views(3, np.random.default_rng(1))
    for one in made:
        assert one.tobytes() == views[0].tobytes()


def test_made_up_sightings_are_rows_of_seen() -> None:
    rows = sightings(plain_stuff(framed=0.5), first=7, count=200, rng=np.random.default_rng(2))
    assert rows.schema.equals(SEEN.columns)
    lengths = {len(views) // VIEW.itemsize for views in rows["views"].to_pylist()}
    assert lengths == {1, 2}
    assert len(set(rows["sighting_id"].to_pylist())) == len(set(rows["image_url"].to_pylist())) == 200
    for tag, tags in zip(rows["tag"].to_pylist(), rows["tags"].to_pylist(), strict=True):
        assert max(dict(tags), key=dict(tags).__getitem__) == tag
    assert set(rows["tag"].to_pylist()) == {TAGS[0], TAGS[3]}


def measurement(rows: int, images: int, *seconds: float) -> Measurement:
    return Measurement(rows, images, [Cost(one, 2 * one, 1, 2, 3) for one in seconds], pairs=0)


def test_the_line_through_two_sizes_by_hand() -> None:
    own = [measurement(100_000, 1, 3, 9, 4), measurement(1_100_000, 1, 9, 1, 10)]
    # Medians of 4 and 9 s: 5 s a million, and 3.5 s without any.
    assert line(own, lambda one: one.seconds) == pytest.approx((3.5, 5))
    with pytest.raises(ValueError, match="two sizes"):
        line(own[:1], lambda one: one.seconds)
    other = [measurement(100_000, 10, 4), measurement(1_100_000, 10, 24)]
    one, ten = per_million([*own, *other])
    assert (one["new images"], one["each million, s"], one["each million, processor s"]) == (
        1, pytest.approx(5), pytest.approx(10))  # fmt: skip
    assert one["10 million, s"] == pytest.approx(53.5)
    assert (ten["new images"], ten["any table, s"], ten["100 million, s"]) == (
        10,
        pytest.approx(2),
        pytest.approx(2002),
    )


@pytest.mark.integration
def test_new_images_are_matched_with_the_made_up_table(spark: SparkSession, tmp_path: Path, config: Settings) -> None:
    if not any((config.prepared_dir / "models").glob("*.onnx")):
        pytest.skip("the tag models are not prepared; run 'make setup' once")
    for number in range(4):
        save_noise(tmp_path / "photos" / f"{number}.png", number, (128, 96))
    photos = read_photos(tmp_path / "photos")
    # Sightings made of one photo alone are copies of it, whatever is drawn; looked up under every tag.
    own = [sighting_views(photos[0].image())]
    bytes_a_row = fill(config, Stuff.of(own, np.full((1, 8), 1 / 8)), 40)
    assert bytes_a_row > VIEW.itemsize / 40
    assert read_table(config.warehouse, SEEN).num_rows == 40
    register(config, photos[1:], Tagger(config.prepared_dir / "models"), (1, 3))
    assert matched(spark, config, "new-3") == 0
    register(config, photos, Tagger(config.prepared_dir / "models"), (2,))
    # Photo 0 is one of the two, photo 1 is no copy of it.
    assert matched(spark, config, "new-2") == 40
    usual = spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch")
    few, many = batches(spark, config, "new-2", 1)
    assert (few["rows a batch"], many["rows a batch"]) == (usual, "8192")
    assert spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch") == usual
