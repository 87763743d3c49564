from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from copywatch.crawl import CrawlStats, crawl
from copywatch.lake.landing import shards
from copywatch.settings import Settings
from copywatch.sites import Site
from tests.crawlers.hostile_site import HostileSite


@pytest.fixture
def site() -> Iterator[HostileSite]:
    with HostileSite() as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        data_dir=tmp_path / "data",
        crawl_timeout_seconds=5,
        crawl_site_seconds=60,
        max_image_bytes=100_000,
    )


@pytest.fixture
def run_crawl(tmp_path: Path, settings: Settings) -> Callable[..., CrawlStats]:
    """Crawl a hostile site that may be on loopback, as a gallery; keyword arguments are those of `Site`, but for the
    first ones. `state`: what earlier crawls left; without it the site is unknown."""

    def run(
        start: str | list[str],
        *,
        run: str = "run-1",
        state: Path | None = None,
        resume: bool = False,
        dry_run: bool = False,
        settings: Settings = settings,
        uploaded_since: date | None = None,
        **fields: Any,
    ) -> CrawlStats:
        values = {
            "name": "site",
            "start": start,
            "kind": "gallery",
            "delay_seconds": 0,
            "allow_private_addresses": True,
            **fields,
        }
        watched = Site.model_validate(values)
        return crawl(
            watched,
            run=run,
            landing=tmp_path / "landing",
            state=state or tmp_path / f"{uuid.uuid4().hex}.sqlite",
            resume=resume,
            dry_run=dry_run,
            settings=settings,
            uploaded_since=uploaded_since,
        )

    return run


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., dict[str, dict[str, Any]]]:
    """The rows of a run by image address."""

    def read(run: str = "run-1", site: str | None = None) -> dict[str, dict[str, Any]]:
        paths = shards(tmp_path / "landing", run, site)
        found = [row for path in paths for row in pq.read_table(path).to_pylist()]
        by_url = {row["image_url"]: row for row in found}
        assert len(by_url) == len(found), "an address has two rows"
        return by_url

    return read
