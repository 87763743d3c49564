"""The crawl's process: it ends when it should, and leaves nothing half done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from copywatch import crawl as crawling
from copywatch.errors import CrawlFailed
from copywatch.lake.landing import is_released, part_folder, release, shards
from tests.crawlers.hostile_site import Handler, HostileSite, jpeg


def hang(handler: Handler) -> None:
    time.sleep(30)


def half_landed(site: HostileSite) -> None:
    """A gallery whose first images make whole shards and whose last never comes."""
    images = "".join(f'<img src="/{number}.jpg">' for number in range(12))
    site.on("/", f"<html>{images}<img src='/hangs.jpg'>")
    for number in range(12):
        site.on(f"/{number}.jpg", jpeg(number, 20_000))
    site.on("/hangs.jpg", hang)


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "crawlers.run" in " ".join(child.cmdline())]


def test_killed_child_leaves_no_half_shard_and_a_rerun_replaces(site: HostileSite, run_crawl, settings, tmp_path):
    half_landed(site)
    small = settings.model_copy(update={"shard_bytes": 100_000, "crawl_timeout_seconds": 30})
    folder = part_folder(tmp_path / "landing", "run-1", "site")

    def kill() -> None:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and not list(folder.glob("0*.parquet")):
            time.sleep(0.05)
        assert shards(tmp_path / "landing", "run-1") == [], "a part that is being written is not read"
        children()[0].kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(CrawlFailed, match="ended by signal 9"):
        run_crawl(site.url(), settings=small)
    thread.join()
    left = shards(tmp_path / "landing", "run-1")
    assert left
    names = sorted(path.name for path in folder.iterdir())
    assert names == [*(path.name for path in left), "_stats.json"]
    assert all(pq.read_table(path).num_rows for path in left)
    stats = crawling.load_crawl_stats(tmp_path / "landing", "run-1", "site")
    assert stats.outcome == "failed"

    site.on("/", '<html><img src="/1.jpg">')
    again = run_crawl(site.url(), settings=small)
    assert again.images_fetched == 1
    assert [path.name for path in shards(tmp_path / "landing", "run-1")] == ["00000.parquet"]
    assert release(tmp_path / "landing", "run-1") > 0
    assert is_released(tmp_path / "landing", "run-1")


def test_hard_time_out(site: HostileSite, run_crawl, settings, monkeypatch) -> None:
    half_landed(site)
    monkeypatch.setattr(crawling, "_CLOSING_SECONDS", -28.0)
    hard = settings.model_copy(update={"crawl_site_seconds": 2, "crawl_timeout_seconds": 30})
    with pytest.raises(CrawlFailed, match="took longer than 4 seconds"):
        run_crawl(site.url(), settings=hard)
    assert children() == []


def test_an_exception_in_the_parent_ends_the_child(site: HostileSite, run_crawl, settings, monkeypatch) -> None:
    half_landed(site)

    def interrupted(pipe: object) -> None:
        time.sleep(1)
        assert len(children()) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(crawling, "_relay_log", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_crawl(site.url(), settings=settings)
    assert children() == []


@pytest.mark.parametrize(
    ("sabotage", "words"),
    [
        ("copywatch.lake.landing.ShardWriter.write", "could not be written: OSError"),
        ("crawlers.spiders.base.SiteSpider.read_image", "a mistake in the crawler"),
        ("copywatch.lake.landing.ShardWriter.finish", "could not write its statistics"),
        ("copywatch.lake.landing.ShardWriter.__enter__", "could not be written: OSError"),
    ],
)
def test_our_own_trouble_fails_the_crawl(site, run_crawl, monkeypatch, tmp_path, sabotage: str, words: str) -> None:
    owner, _, method = sabotage.rpartition(".")
    module, _, name = owner.rpartition(".")
    program = tmp_path / "sabotaged.py"
    program.write_text(
        "import sys, crawlers.run\n"
        f"from {module} import {name}\n"
        "def fail(*arguments, **names): raise OSError('OSError: disk full')\n"
        f"{name}.{method} = fail\n"
        "sys.exit(crawlers.run.main(sys.argv[1:]))\n"
    )
    start = subprocess.Popen

    def start_sabotaged(command: list[str], **options: object) -> object:
        return start([command[0], "-P", str(program), command[-1]], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(crawling.subprocess, "Popen", start_sabotaged)
    site.on("/", '<html><img src="/1.jpg">')
    site.on("/1.jpg", jpeg(1))
    with pytest.raises(CrawlFailed, match=words):
        run_crawl(site.url())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the child watches its standard input")
def test_child_dies_with_its_parent_from_any_folder(site: HostileSite, tmp_path: Path) -> None:
    half_landed(site)
    program = f"""
from pathlib import Path
from copywatch.crawl import crawl
from copywatch.settings import load_settings
from copywatch.sites import Site
site = Site(name="site", start=[{site.url()!r}], allow_private_addresses=True, delay_seconds=0)
crawl(site, run="run-1", landing=Path("landing"), state=Path("site.sqlite"), settings=load_settings())
"""
    import copywatch
    import crawlers

    packages = [Path(copywatch.__file__).resolve().parents[1], Path(str(crawlers.__file__)).resolve().parents[1]]
    secret = {"COPYWATCH_DATABASE_URL": "postgresql://user:secret@db/"}
    environment = {**os.environ, **secret, "PYTHONPATH": os.pathsep.join(map(str, packages))}
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not site.times("/hangs.jpg"):
            time.sleep(0.05)
        (child,) = psutil.Process(parent.pid).children()
        assert "COPYWATCH_DATABASE_URL" not in child.environ()
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        child.wait(timeout=5)
        assert (tmp_path / "landing" / "run-1" / "site").is_dir()
    finally:
        parent.kill()
        parent.wait()
