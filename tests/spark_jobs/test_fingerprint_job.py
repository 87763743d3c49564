"""The fingerprinting job: each landed file ends as one row, whatever it is and however often the job runs."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from PIL import Image
from pyspark.sql import SparkSession

from copywatch.decode import decode
from copywatch.demo.edits import BROKEN, COPIES, ODD_FORMATS
from copywatch.errors import Reason
from copywatch.features import itq
from copywatch.features.extract import protected_points
from copywatch.features.itq import IDENTITY as CODES
from copywatch.features.points import packed
from copywatch.features.thumbnail import thumbnail
from copywatch.features.votes import LEAST_POINTS
from copywatch.fingerprint import Mao
from copywatch.fingerprint.rows import Extraction
from copywatch.lake import delta, landing
from copywatch.lake.identity import protected_id, sighting_id
from copywatch.lake.schemas import CRAWL_STATS, DETECTED, FEATURES, PROTECTED, REJECTED, SEEN
from copywatch.matching.score import RESCORED_THRESHOLD
from copywatch.settings import Settings
from copywatch.tagging.tagger import Tagger
from spark_jobs import fingerprint_images
from tests.spark_jobs.death import Death

pytestmark = pytest.mark.integration

TOLD = {
    "uploader_url": "http://b/mira", "uploaded_at": datetime(2026, 11, 20, 8, 0, tzinfo=UTC),
    "uploaded_at_source": "wordpress date_gmt", "caption": "A lighthouse", "licence": "CC BY 4.0",
}  # fmt: skip
"""What a source tells of an image."""

Rows = Callable[..., list[dict[str, Any]]]
Work = Callable[..., list[dict[str, object]]]


@pytest.fixture
def crawled(spark: SparkSession, config: Settings, extraction: Extraction) -> Work:
    return lambda run="run-1": fingerprint_images.fingerprint_crawl(spark, run, extraction, config)


@pytest.fixture
def taken_in(spark: SparkSession, config: Settings, extraction: Extraction) -> Work:
    return lambda run="intake-1": fingerprint_images.fingerprint_intake(
        spark, run, extraction, RESCORED_THRESHOLD, config
    )


def name_of(row: dict[str, Any]) -> str:
    return str(row["image_url"]).rsplit("/", 1)[-1]


def names(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(map(name_of, rows))


def test_every_odd_and_every_broken_file_is_one_row(
    crawled: Work, rows: Rows, land: Any, photos: Any, config: Settings, extraction: Extraction
):
    """Truncated, corrupt, 100 megapixels, animated, CMYK, 16-bit, palette, turned, AVIF, SVG, HTML, zero bytes."""
    photo = photos("06")
    files: dict[str, bytes | str] = {
        f"{edit.name}{edit.extension}": edit.apply(photo) for edit in (*BROKEN, *ODD_FORMATS)
    }
    reasons = {f"{edit.name}{edit.extension}": edit.reason.value for edit in BROKEN if edit.reason}
    refused = {"gone.jpg": Reason.HTTP_STATUS.value, "late.jpg": Reason.TIMEOUT.value}
    land("run-1", "lumen", files | refused | {"noise.jpg": b"\x00\xff" * 500, "photo.jpg": photo})
    done = crawled()
    expected = reasons | refused | {"noise.jpg": Reason.NOT_AN_IMAGE.value}
    assert {name_of(row): row["reason"] for row in rows(REJECTED)} == expected
    assert len(rows(REJECTED)) == len(expected)
    usable = sorted([*(f"{edit.name}{edit.extension}" for edit in ODD_FORMATS), "photo.jpg"])
    assert names(rows(DETECTED)) == usable
    assert sum(int(str(row["count"])) for row in done) == len(files) + len(refused) + 2

    # Without Spark the same library gives the same.
    tagger, mao = Tagger(extraction.models), Mao()
    for row in rows(DETECTED):
        data = photo if name_of(row) == "photo.jpg" else files[name_of(row)]
        assert isinstance(data, bytes)
        image = decode(data, max_pixels=config.max_image_pixels, max_bytes=config.max_image_bytes)
        assert row["fingerprint"] == mao.encode(mao.fingerprint(image.rgb))
        assert (row["algorithm"], row["width"], row["height"]) == ("mao/1", image.width, image.height)
        expected_tags = tagger.probabilities(image.rgb)
        assert dict(row["tags"]) == pytest.approx(expected_tags, abs=1e-5)
        assert expected_tags[row["tag"]] == max(expected_tags.values())
        where = ("lumen", row["page_url"], row["image_url"], hashlib.sha256(data).hexdigest())
        assert row["sighting_id"] == sighting_id(*where)
        assert (row["uploader"], row["run"]) == ("Finn", "run-1")
    by_name = {name_of(row): row for row in rows(REJECTED)}
    assert by_name["gone.jpg"]["detail"] == "seen by the crawl"
    assert by_name["hundred-megapixels.png"]["detail"].startswith("10000 x 10000")
    assert by_name["noise.jpg"]["sha256"] == hashlib.sha256(b"\x00\xff" * 500).hexdigest()


class TestAgain:
    @pytest.fixture
    def two_sites(self, land: Any, photos: Any) -> None:
        land("run-1", "a", {"1.jpg": photos("06"), "2.jpg": b"", "3.jpg": photos("07")})
        land("run-1", "b", {"4.jpg": photos("08")}, outcome="failed")
        land("run-0", "a", {"0.jpg": photos("09")})

    def check(self, rows: Rows) -> None:
        assert names(rows(DETECTED, "run-1")) == ["1.jpg", "3.jpg", "4.jpg"]
        assert names(rows(REJECTED, "run-1")) == ["2.jpg"]
        stats = {row["site"]: (row["outcome"], row["error"], row["images_found"]) for row in rows(CRAWL_STATS, "run-1")}
        assert stats == {"a": ("finished", None, 3), "b": ("failed", "it fell over", 1)}
        assert len(rows(CRAWL_STATS, "run-1")) == 2
        assert names(rows(DETECTED, "run-0")) == ["0.jpg"]

    def test_leaves_the_same(self, crawled: Work, rows: Rows, two_sites: None):
        crawled("run-0")
        first = crawled()
        assert crawled() == first
        self.check(rows)

    @pytest.mark.parametrize("writes", range(3))
    def test_after_a_death_between_any_two_writes(
        self, crawled: Work, rows: Rows, two_sites: None, monkeypatch: pytest.MonkeyPatch, writes: int
    ):
        crawled("run-0")
        death = Death(writes)
        with monkeypatch.context() as patched:
            patched.setattr(delta, "replace_run", death.after(delta.replace_run))
            patched.setattr(fingerprint_images, "replace_rows", death.after(fingerprint_images.replace_rows))
            with pytest.raises(KeyboardInterrupt):
                crawled()
        crawled()
        self.check(rows)

    def test_a_released_run_replaces_nothing(self, crawled: Work, rows: Rows, two_sites: None, config: Settings):
        crawled("run-0")
        crawled()
        assert landing.release(config.landing, "run-1") > 0
        assert crawled() == []
        self.check(rows)

    def test_a_site_crawled_again_after_the_release_replaces_its_own_rows_only(
        self, crawled: Work, rows: Rows, two_sites: None, config: Settings, land: Any, photos: Any
    ):
        crawled()
        landing.release(config.landing, "run-1")
        land("run-1", "b", {"5.jpg": photos("10"), "6.jpg": b"<html>"})
        crawled()
        assert names(rows(DETECTED, "run-1")) == ["1.jpg", "3.jpg", "5.jpg"]
        assert names(rows(REJECTED, "run-1")) == ["2.jpg", "6.jpg"]

    def test_a_part_still_being_written_is_not_read(self, crawled: Work, rows: Rows, two_sites: None, config: Settings):
        (landing.part_folder(config.landing, "run-1", "b") / landing.STATS_FILE).unlink()
        crawled()
        assert names(rows(DETECTED)) == ["1.jpg", "3.jpg"]

    def test_a_run_that_crawled_nothing_is_no_trouble(self, crawled: Work, rows: Rows, land: Any):
        assert crawled("never") == []
        land("run-1", "a", {})
        assert crawled() == []
        assert (rows(DETECTED), len(rows(CRAWL_STATS))) == ([], 1)


def test_the_same_picture_on_two_addresses_is_two_sightings_and_on_one_is_one(
    spark: SparkSession, crawled: Work, rows: Rows, land: Any, photos: Any
):
    photo = photos("06")
    land("run-1", "a", {"1.jpg": photo, "2.jpg": photo})
    land("run-1", "b", {"1.jpg": photo})
    crawled()
    assert sorted((row["site"], name_of(row)) for row in rows(DETECTED)) == [
        ("a", "1.jpg"),
        ("a", "2.jpg"),
        ("b", "1.jpg"),
    ]
    row = {"site": "a", "page_url": "p", "image_url": "i", "sha256": "s", "reason": None}
    schema = "site string, page_url string, image_url string, sha256 string, reason string"
    twice = fingerprint_images.detected(spark.createDataFrame([row, row, row | {"sha256": "t"}], schema))
    assert sorted(one["sha256"] for one in twice.collect()) == ["s", "t"]


def test_known_bytes_at_a_new_place_are_the_sighting_that_a_download_gives(
    spark: SparkSession, crawled: Work, rows: Rows, land: Any, photos: Any, config: Settings
):
    """Three places where the source told the hash; the bytes are in `seen`, in the same run, and nowhere any more."""
    fetched = {"old.jpg": photos("06"), "new.jpg": photos("07"), "broken.jpg": photos("08")[:3000]}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in fetched.items()}
    land("run-1", "a", {"first.jpg": fetched["old.jpg"], "no.jpg": fetched["broken.jpg"]})
    crawled()
    every = delta.read(spark, config.warehouse, DETECTED).localCheckpoint()
    delta.replace_run(every, config.warehouse, SEEN, "run-1")
    delta.replace_run(every.limit(0), config.warehouse, DETECTED, "run-1")
    land("download", "b", fetched, told=TOLD)
    crawled("download")
    expected = {table.name: rows(table, "download") for table in (DETECTED, REJECTED)}
    for table in (DETECTED, REJECTED):
        run = delta.read(spark, config.warehouse, table).limit(0)
        delta.replace_run(run, config.warehouse, table, "download")

    land("run-2", "a", {"same-run.jpg": fetched["new.jpg"]})
    places = {name: {"sha256": digest, "size": len(fetched[name])} for name, digest in digests.items()}
    land("run-2", "b", places | {"gone.jpg": {"sha256": "0" * 64, "size": 5}}, told=TOLD)
    for _ in range(2):
        crawled("run-2")
        for table in (DETECTED, REJECTED):
            found = [row for row in rows(table, "run-2") if row["site"] == "b" and name_of(row) != "gone.jpg"]
            assert sorted(found, key=name_of) == [
                row | {"run": "run-2"} for row in sorted(expected[table.name], key=name_of)
            ]
    assert {row["licence"] for row in rows(DETECTED, "run-2") if row["site"] == "b"} == {TOLD["licence"]}
    gone = {name_of(row): row["reason"] for row in rows(REJECTED, "run-2")}
    assert gone["gone.jpg"] == Reason.GONE.value


def test_what_a_crawl_counts_is_kept(crawled: Work, rows: Rows, land: Any):
    """Statistics of an older crawl lack the later columns."""
    counted = {"requests": 7, "rejected": {"timed out": 2, "HTTP error": 1}, "seconds": 1.5, "source": "feed"}
    land("run-1", "new", {}, counted=counted)
    land("run-1", "old", {})
    crawled()
    by_site = {row["site"]: row for row in rows(CRAWL_STATS)}
    assert by_site["new"] | counted | {"rejected": sorted(counted["rejected"].items())} == {
        **by_site["new"], "rejected": sorted(by_site["new"]["rejected"])
    }  # fmt: skip
    assert {by_site["old"][name] for name in (*counted, "not_modified", "robots_refused")} == {None}


class TestIntake:
    def test_originals_become_protected_rows(
        self, taken_in: Work, rows: Rows, take_in: Any, photos: Any, spark: SparkSession, config: Settings
    ):
        until = datetime(2027, 1, 1, tzinfo=UTC)
        take_in("intake-1", (11, "1", photos("03")), (12, "2", photos("04")), until=until)
        taken_in()
        by_application = {row["application_id"]: row for row in rows(PROTECTED)}
        assert set(by_application) == {11, 12}
        for number, owner, name in ((11, "1", "03"), (12, "2", "04")):
            row, digest = by_application[number], hashlib.sha256(photos(name)).hexdigest()
            assert row["protected_id"] == protected_id(owner, digest)
            assert (row["owner"], row["sha256"], row["status"], row["run"]) == (owner, digest, "active", "intake-1")
            assert (row["protected_until"], row["storage_address"]) == (until, f"o/{number}")

    def test_local_features_are_kept_beside(
        self, taken_in: Work, rows: Rows, take_in: Any, photos: Any, config: Settings
    ):
        """The oracle: the library on the same bytes. A picture of one colour has a row without a point."""
        plain = io.BytesIO()
        Image.new("RGB", (300, 200), (20, 90, 160)).save(plain, "PNG")
        files = {11: photos("03"), 12: photos("04"), 13: plain.getvalue(), 14: b"GIF89a"}
        take_in("intake-1", *((number, "1", data) for number, data in files.items()))
        done = taken_in()
        outcomes: Counter[str] = Counter()
        for row in done:
            outcomes[str(row["outcome"])] += int(str(row["count"]))
        alone = f"protected, covered by the fingerprint alone (under {LEAST_POINTS} points)"
        assert outcomes == {"protected": 2, alone: 1, Reason.TRUNCATED.value: 1}
        by_id = {row["protected_id"]: row for row in rows(FEATURES)}
        assert len(rows(FEATURES)) == len(by_id) == len(rows(PROTECTED)) == 3
        for protected in rows(PROTECTED):
            data = files[protected["application_id"]]
            rgb = decode(data, max_pixels=config.max_image_pixels, max_bytes=config.max_image_bytes).rgb
            points = protected_points(rgb)
            codes, positions = packed(points)
            assert by_id[protected["protected_id"]] == {
                "protected_id": protected["protected_id"], "shard": 0, "model": itq.IDENTITY, "points": len(points),
                "scaled_width": points.size[0], "scaled_height": points.size[1], "codes": codes,
                "positions": positions, "thumbnail": thumbnail(rgb), "run": "intake-1",
            }  # fmt: skip
        assert {row["points"] for row in by_id.values()} == {0, 200}

    @pytest.mark.parametrize("writes", range(2))
    def test_after_a_death_between_its_writes(
        self, taken_in: Work, rows: Rows, take_in: Any, photos: Any, monkeypatch: pytest.MonkeyPatch, writes: int
    ):
        take_in("intake-1", (11, "1", photos("03")), (12, "2", photos("04")))
        with monkeypatch.context() as patched:
            patched.setattr(delta, "replace_run", Death(writes).after(delta.replace_run))
            with pytest.raises(KeyboardInterrupt):
                taken_in()
        assert len(rows(PROTECTED)) <= len(rows(FEATURES))
        taken_in()
        for table in (PROTECTED, FEATURES):
            assert len(rows(table)) == len({row["protected_id"] for row in rows(table)}) == 2

    def test_again_leaves_the_same(self, taken_in: Work, rows: Rows, take_in: Any, photos: Any):
        take_in("intake-0", (1, "1", photos("05")))
        taken_in("intake-0")
        take_in("intake-1", (11, "1", photos("03")))
        taken_in()
        before = sorted(rows(PROTECTED), key=lambda row: row["application_id"])
        features = sorted(rows(FEATURES), key=lambda row: row["protected_id"])
        taken_in()
        assert sorted(rows(PROTECTED), key=lambda row: row["application_id"]) == before
        assert sorted(rows(FEATURES), key=lambda row: row["protected_id"]) == features
        assert [row["application_id"] for row in before] == [1, 11]

    def test_a_released_one_replaces_nothing(
        self, taken_in: Work, rows: Rows, take_in: Any, photos: Any, config: Settings
    ):
        take_in("intake-1", (11, "1", photos("03")))
        taken_in()
        landing.release(config.landing, "intake-1")
        assert taken_in() == []
        assert len(rows(PROTECTED)) == 1

    def test_an_image_that_cannot_be_fingerprinted_does_not_stop_the_others(
        self, taken_in: Work, rows: Rows, take_in: Any, photos: Any
    ):
        take_in("intake-1", (11, "1", photos("03")), (12, "1", b"GIF89a"))
        done = taken_in()
        assert [row["application_id"] for row in rows(PROTECTED)] == [11]
        assert {str(row["outcome"]) for row in done} == {"protected", Reason.TRUNCATED.value}

    def test_other_fingerprints_are_kept_beside(
        self, spark: SparkSession, rows: Rows, take_in: Any, photos: Any, extraction: Extraction, config: Settings
    ):
        import imagehash

        take_in("intake-1", (11, "1", photos("03")))
        more = Extraction(
            extraction.algorithm, extraction.max_pixels, extraction.max_bytes, extraction.models, ("dhash", "pdq")
        )
        fingerprint_images.fingerprint_intake(spark, "intake-1", more, RESCORED_THRESHOLD, config)
        others = dict(rows(PROTECTED)[0]["other_fingerprints"])
        assert {name.split("/")[0]: len(code) for name, code in others.items()} == {"dhash": 8, "pdq": 32}
        image = Image.open(io.BytesIO(photos("03"))).convert("RGB")
        (dhash,) = [code for name, code in others.items() if name.startswith("dhash")]
        assert dhash.hex() == str(imagehash.dhash(image))


class TestShards:
    """New images go on in the newest shard until it is full; three fill one here."""

    @pytest.fixture
    def given(self, spark: SparkSession) -> Callable[[list[str], dict[str, int]], dict[str, int]]:
        def give(names: list[str], known: dict[str, int]) -> dict[str, int]:
            images = spark.createDataFrame([(name,) for name in names], "protected_id string")
            features = spark.createDataFrame(list(known.items()), "protected_id string, shard int")
            found = fingerprint_images.sharded(images, features, shard_images=3)
            assert found.columns == ["protected_id", "shard"]
            return {row["protected_id"]: row["shard"] for row in found.collect()}

        return give

    def test_the_first_ones(self, given: Any):
        assert given([], {}) == {}
        assert given(["d", "b", "a", "c", "g", "e", "f"], {}) == {
            "a": 0, "b": 0, "c": 0, "d": 1, "e": 1, "f": 1, "g": 2,
        }  # fmt: skip

    def test_the_newest_is_filled_up(self, given: Any):
        known = {"k": 0, "l": 0, "m": 0, "n": 4, "o": 4}
        assert given(["b", "a", "c"], known) == {"a": 4, "b": 5, "c": 5}
        assert given(["b", "a"], known | {"p": 4}) == {"a": 5, "b": 5}

    def test_a_retry_moves_none(self, given: Any):
        known = {"k": 0, "a": 0, "m": 1, "n": 1}
        assert given(["a", "b", "n"], known) == {"a": 0, "b": 1, "n": 1}
        assert given(["a", "b", "n"], known | {"b": 1, "x": 2, "y": 2, "z": 2}) == {"a": 0, "b": 1, "n": 1}


def test_a_whole_copy_is_found_where_it_was_put(
    spark: SparkSession,
    crawled: Work,
    taken_in: Work,
    rows: Rows,
    land: Any,
    take_in: Any,
    photos: Any,
    config: Settings,
):
    """The jobs on real photos: every edit of one photo is a match of it, and no other photo is."""
    from copywatch.lake.schemas import MATCHES, SEEN
    from spark_jobs.index_features import index_features
    from spark_jobs.match_images import match_run

    take_in("intake-1", (11, "1", photos("08")), (12, "1", photos("21")))
    taken_in()
    index_features(spark, "mao", config)
    copies = {f"{edit.name}.jpg": edit.apply(photos("08")) for edit in COPIES}
    land("run-1", "a", copies | {"other.jpg": photos("01"), "another.jpg": photos("02")})
    crawled()
    match_run(spark, "run-1", "mao", RESCORED_THRESHOLD, config)
    found = {name_of(row): (row["protected_id"], row["verdict"]) for row in rows(MATCHES)}
    right = protected_id("1", hashlib.sha256(photos("08")).hexdigest())
    same = {f"{name}.jpg" for name in ("renamed", "byte-identical", "hot-linked")}
    assert set(found) == set(copies)
    assert {one for one, _ in found.values()} == {right}
    assert {name for name, (_, verdict) in found.items() if verdict == 0} >= same
    assert {row["verification"] for row in rows(MATCHES)} == {"certain"}
    alone = {name_of(row) for row in rows(MATCHES) if row["algorithm"] == CODES}
    assert alone == {"cut-out-mirrored.jpg", "screenshot.jpg"}
    assert names(rows(SEEN)) == ["another.jpg", "other.jpg"]
    assert names(rows(DETECTED)) == sorted(copies)
