"""Runs the jobs' work once on made-up images, so that the JVM loads the classes that real runs will load.

`copywatch.prepare` submits it at set-up, to dump the class-data archive; nothing of it is kept. It is also the first
proof that Spark, Delta's jars and the tag models work together on this machine.

    spark-submit archive_classes.py --prepared FOLDER
"""

from __future__ import annotations

import argparse
import hashlib
import io
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image
from pyspark.sql import SparkSession

from copywatch.fingerprint.rows import Extraction
from copywatch.lake.landing import ShardWriter
from copywatch.lake.schemas import INTAKE, LANDING, MATCHES
from copywatch.lake.tables import create_tables, read_table
from copywatch.settings import load_settings
from copywatch.threshold import built_in_threshold
from spark_jobs.fingerprint_images import fingerprint_crawl, fingerprint_intake
from spark_jobs.index_features import index_features
from spark_jobs.match_images import match_run
from spark_jobs.match_seen import match_seen


def made_up_image(seed: int) -> bytes:
    """A JPEG of smooth random colours, 320 x 240."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


def rehearse(spark: SparkSession, data_dir: Path, prepared_dir: Path) -> int:
    """Protect an image, crawl it and another, match, protect the other; returns the matches found, which are 2."""
    config = load_settings(data_dir=data_dir, prepared_dir=prepared_dir)
    extraction = Extraction("mao", config.max_image_pixels, config.max_image_bytes, prepared_dir / "models", ("pdq",))
    now = datetime.now(UTC)
    copy, other = made_up_image(1), made_up_image(2)
    create_tables(config.warehouse)
    for number, (run, data) in enumerate((("intake", copy), ("later", other))):
        with ShardWriter(config.landing, run, "intake", shard_bytes=config.shard_bytes, schema=INTAKE) as writer:
            row = {"run": run, "application_id": number, "owner": "1", "storage_address": "", "registered_at": now}
            writer.write({**row, "sha256": hashlib.sha256(data).hexdigest(), "bytes": data})
            writer.finish({})
    with ShardWriter(config.landing, "crawl", "site", shard_bytes=config.shard_bytes, schema=LANDING) as writer:
        for name, data in (("copy", copy), ("other", other), ("broken", b"GIF89a")):
            row = {"run": "crawl", "site": "site", "page_url": "page", "image_url": name, "crawled_at": now}
            writer.write({**row, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "bytes": data})
        writer.write({**row, "image_url": "known", "sha256": "0" * 64})
        writer.finish({"outcome": "finished", "started_at": now, "finished_at": now})
    threshold = built_in_threshold("mao", config).value
    fingerprint_intake(spark, "intake", extraction, threshold, config)
    index_features(spark, "mao", config)
    fingerprint_crawl(spark, "crawl", extraction, config)
    match_run(spark, "crawl", "mao", threshold, config)
    fingerprint_intake(spark, "later", extraction, threshold, config)
    match_seen(spark, "later", "mao", threshold, config)
    return int(read_table(config.warehouse, MATCHES).num_rows)


def main() -> None:
    """Command line of the job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prepared", type=Path, required=True, help="what set-up prepared")
    arguments = parser.parse_args()
    spark = SparkSession.builder.appName("archive_classes").getOrCreate()
    with tempfile.TemporaryDirectory(prefix="copywatch-rehearsal-") as folder:
        found = rehearse(spark, Path(folder), arguments.prepared)
    spark.stop()
    if found != 2:
        raise SystemExit(f"the rehearsal found {found} matches; there are 2")


if __name__ == "__main__":
    main()
