"""Crawls, intakes and fingerprints for the Spark jobs' tests. All of them share the one session of tests/conftest."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from copywatch.fingerprint.rows import Extraction
from copywatch.lake.landing import ShardWriter
from copywatch.lake.schemas import INTAKE, LANDING, Table
from copywatch.lake.tables import create_tables, read_table
from copywatch.settings import Settings
from tests.spark_jobs.made_up import append

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)

Land = Callable[..., None]
Rows = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def extraction(config: Settings) -> Extraction:
    models = config.prepared_dir / "models"
    if not any(models.glob("*.onnx")):
        pytest.skip(f"the tag models are not prepared below {models}; run 'make setup' once")
    return Extraction("mao", config.max_image_pixels, config.max_image_bytes, models)


@pytest.fixture
def land(config: Settings) -> Land:
    """Land what a crawl of one site fetched: bytes by name, or a reason, or other columns; several small shards."""

    def write(
        run: str,
        site: str,
        files: Mapping[str, bytes | str | dict[str, Any]],
        *,
        outcome: str = "finished",
        told: Mapping[str, Any] = MappingProxyType({}),
        counted: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        with ShardWriter(config.landing, run, site, shard_bytes=100_000, schema=LANDING) as writer:
            for name, data in files.items():
                row: dict[str, Any] = {
                    "run": run, "site": site, "page_url": f"http://{site}/page", "image_url": f"http://{site}/{name}",
                    "crawled_at": NOW, "uploader": "Finn", "http_status": 200, **told,
                }  # fmt: skip
                if isinstance(data, dict):
                    row |= data
                elif isinstance(data, bytes):
                    row |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "bytes": data}
                else:
                    row |= {"reason": data, "detail": "seen by the crawl", "http_status": None}
                writer.write(row)
            counts = dict.fromkeys(("pages", "pages_failed", "images_known", "images_failed", "bytes_fetched"), 0)
            times = {"started_at": NOW, "finished_at": NOW}
            error = "it fell over" if outcome == "failed" else None
            writer.finish({"outcome": outcome, "error": error, **counts, **times, "images_found": len(files),
                           "images_fetched": len(files), **counted})  # fmt: skip

    return write


@pytest.fixture
def take_in(config: Settings) -> Callable[..., None]:
    """Put an intake's originals into its shard: (application, owner, bytes)."""

    def write(run: str, *originals: tuple[int, str, bytes], until: datetime | None = None) -> None:
        with ShardWriter(config.landing, run, "intake", shard_bytes=config.shard_bytes, schema=INTAKE) as writer:
            for application, owner, data in originals:
                writer.write({
                    "run": run, "application_id": application, "owner": owner, "storage_address": f"o/{application}",
                    "registered_at": NOW, "protected_until": until, "sha256": hashlib.sha256(data).hexdigest(),
                    "bytes": data,
                })  # fmt: skip
            writer.finish({"applications": len(originals)})

    return write


@pytest.fixture
def rows(config: Settings) -> Rows:
    """The rows of a table, read without a JVM."""

    def read(table: Table, run: str | None = None) -> list[dict[str, Any]]:
        return read_table(config.warehouse, table, run=run).to_pylist()

    return read


@pytest.fixture
def put_rows(config: Settings) -> Callable[..., None]:
    """Append rows to a table; columns that a row lacks are null."""

    return partial(append, config.warehouse)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Settings]:
    """Settings like `config`, of a project that tests of one module share: they take copies of its data (`begin`)."""

    def make() -> Settings:
        made = Settings(_env_file=None, data_dir=tmp_path_factory.mktemp("project") / "data")  # type: ignore[call-arg]
        create_tables(made.warehouse)
        return made

    return make


@pytest.fixture
def begin(config: Settings) -> Callable[[Path], None]:
    """Begin with a copy of a project's data."""

    def copy(data: Path) -> None:
        shutil.rmtree(config.data_dir)
        shutil.copytree(data, config.data_dir)

    return copy


@pytest.fixture(scope="session")
def photos() -> Callable[[str], bytes]:
    """Demo photos by their name, without the .jpg."""
    from copywatch.demo.planting import PHOTOS_DIR

    def read(name: str) -> bytes:
        return (Path(PHOTOS_DIR) / f"{name}.jpg").read_bytes()

    return read
