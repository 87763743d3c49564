"""One crawl of one site, in a process of its own.

Twisted's reactor cannot be started twice in a process, and what reads hostile pages should hold no passwords: the
child gets the site, a few settings and a bare environment, writes the landing shards, and answers by the statistics
file that the shards' writer leaves. Its log lines are JSON, so that crawled text cannot pass for a line of its own.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Literal, cast

from pydantic import BaseModel, ConfigDict, Field
from w3lib.url import canonicalize_url

import copywatch
from copywatch.errors import CrawlFailed, LakeError, MachineError
from copywatch.lake.landing import STATS_FILE, ShardWriter, part_folder, read_stats, write_stats
from copywatch.logs import log_context
from copywatch.settings import Settings
from copywatch.sites import Site

logger = logging.getLogger(__name__)

_CLOSING_SECONDS = 60.0
"""After its time a crawl may still finish what is under way: one download, one wait asked for, the last shard."""

_LOG_LINE_BYTES = 8192
_LOG_LINES = 20_000
# A child that reads hostile pages has no use for the parent's passwords.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def normal_url(url: str) -> str:
    """An address in the form by which two spellings are one: query sorted, escapes settled, no fragment.

    Raises:
        ValueError: it is no address.
    """
    return canonicalize_url(url, keep_fragments=False)


def url_hash(normal: str) -> str:
    """SHA-256 of an address that `normal_url` made, 64 hexadecimal digits: how the ledger knows it."""
    return hashlib.sha256(normal.encode("utf-8", "surrogatepass")).hexdigest()


class CrawlJob(BaseModel):
    """What the child process is told, as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: dict[str, object] = Field(description="the site, as `site_as_json` makes it")
    run: str = Field(description="Airflow run, as the rows have it")
    landing: Path = Field(description="folder of the landing shards")
    state: Path = Field(description="file of what the site's crawls remember (copywatch.crawl_state)")
    resume: bool = Field(False, description="go on behind the shards that an earlier try of the run left")
    dry_run: bool = Field(False, description="list what is new, and fetch no image")
    parent: int = Field(description="process that waits for the child; the child dies with it")
    user_agent: str = Field(description="how the crawler names itself")
    download_seconds: float = Field(description="one page or image may take this long")
    site_seconds: float = Field(description="the crawl may take this long")
    max_image_bytes: int = Field(description="larger downloads are refused")
    browser: str = Field("", description="the browser for pages that need JavaScript; empty: the first that is found")
    shard_bytes: int = Field(description="a shard is closed at this size")
    uploaded_since: date | None = Field(None, description="images that pages say are older are left out")
    only_images: list[str] | None = Field(
        None, description="read no page, and fetch these image addresses; null: crawl"
    )


class CrawlStats(BaseModel):
    """How one crawl went: a row of `crawl_stats`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    site: str
    outcome: Literal["finished", "limited", "failed"]
    """`limited`: a bound of sites.yaml, or the time, was reached; the next crawl goes on."""
    error: str | None
    """Why it failed."""
    source: str | None = None
    """Kind of source that was read."""
    pages: int
    """Pages, or listings of an interface, read."""
    pages_failed: int
    """Pages that could not be read; each is a row without bytes."""
    images_found: int
    """Different image addresses on the pages."""
    images_known: int
    """Of these, settled by an earlier crawl."""
    images_fetched: int
    """New or changed ones, landed with their bytes."""
    images_failed: int
    """Landed with a reason instead."""
    images_repeated: int = 0
    """New places of bytes that an earlier crawl fetched: landed without them."""
    bytes_fetched: int
    """Bytes of the images landed."""
    robots_refused: int = 0
    """Addresses that robots.txt forbids."""
    requests: int = 0
    """Requests made, those for robots.txt and further tries among them."""
    bytes_received: int = 0
    """Bytes of all answers."""
    not_modified: int = 0
    """Answers 304."""
    errors: int = 0
    """Requests that no answer came to."""
    rejected: dict[str, int] = {}
    """Pages and images that gave none, by reason."""
    started_at: datetime
    finished_at: datetime
    seconds: float = 0.0
    landing: Path = Field(exclude=True)
    """Folder of all landing shards."""


def load_crawl_stats(landing: Path, run: str, site: str) -> CrawlStats:
    """The statistics of a crawl that ended, failed ones too.

    Raises:
        LakeError: it has not ended, or its file is damaged.
    """
    stats = read_stats(landing, run).get(site)
    if stats is None:
        raise LakeError(f"{landing}: run {run} has no complete crawl of {site}; run its crawl first")
    try:
        return CrawlStats(run=run, site=site, landing=landing, **stats)
    except (ValueError, TypeError) as error:
        raise LakeError(f"{landing}: the statistics of {site} in run {run} are damaged: {error}") from error


def crawl(
    site: Site,
    *,
    run: str,
    landing: Path,
    state: Path,
    settings: Settings,
    resume: bool = False,
    dry_run: bool = False,
    uploaded_since: date | None = None,
    only_images: Sequence[str] | None = None,
) -> CrawlStats:
    """Crawl `site` into `landing/<run>/<site>/`, replacing what an earlier try of the same run left there.

    Args:
        site: what to crawl and within which bounds.
        run: Airflow run id; the folder is named by its `run_key`.
        landing: folder of all landing shards.
        state: file of what the site's crawls remember; it is made if it is missing, and moves forward with the shards.
        settings: time-outs, size bounds, the crawler's name.
        resume: an earlier try of the same run was interrupted (`landing.is_interrupted`): its shards stay.
        dry_run: list what is new as rows without bytes, fetch no image and remember nothing.
        uploaded_since: images that their page says were uploaded before this day are left out, this time.
        only_images: fetch these image addresses, known ones too, and read no page (`copywatch.refetch`).

    Raises:
        CrawlFailed: the site as a whole could not be crawled; its statistics (outcome `failed`) are written.
        LakeError: a name would leave the landing folder.
        MachineError: the crawlers are not installed beside this package.
    """
    landing = landing.resolve()
    folder = part_folder(landing, run, site.name)
    started = datetime.now(UTC)
    limit = settings.crawl_site_seconds + settings.crawl_timeout_seconds + _CLOSING_SECONDS
    with tempfile.TemporaryDirectory(prefix="copywatch-crawl-") as scratch, log_context(run=run, site=site.name):
        job = CrawlJob(
            site=site_as_json(site),
            run=run,
            landing=landing,
            state=state.resolve(),
            resume=resume,
            dry_run=dry_run,
            parent=os.getpid(),
            user_agent=settings.crawl_user_agent,
            download_seconds=settings.crawl_timeout_seconds,
            site_seconds=settings.crawl_site_seconds,
            max_image_bytes=settings.max_image_bytes,
            browser=settings.browser,
            shard_bytes=settings.shard_bytes,
            uploaded_since=uploaded_since,
            only_images=None if only_images is None else list(only_images),
        )
        (Path(scratch) / "job.json").write_text(job.model_dump_json(), encoding="utf-8")
        # Whatever the child does from here on, nobody may read an earlier try's statistics as its own.
        with ShardWriter(landing, run, site.name, shard_bytes=settings.shard_bytes, resume=resume):
            pass
        trouble = _run_child(Path(scratch), limit)
        if not (folder / STATS_FILE).exists():
            note_death(folder, trouble or "the crawl could not write its statistics; its log says why", started)
        stats = load_crawl_stats(landing, run, site.name)
        if stats.outcome == "failed":
            raise CrawlFailed(site.name, stats.error or "the crawl did not say why; its log does")
        return stats


def site_as_json(site: Site) -> dict[str, object]:
    """A site as plain JSON values that `Site.model_validate` takes back."""
    return site.model_dump(mode="json")


def _import_path() -> str:
    """Folders that the child finds `copywatch` and `crawlers` in, wherever it is started."""
    spec = importlib.util.find_spec("crawlers")
    if spec is None or not spec.submodule_search_locations:
        raise MachineError(
            "the package 'crawlers' is not installed beside 'copywatch': install the project (make setup)"
        )
    packages = [Path(copywatch.__file__).parent, Path(spec.submodule_search_locations[0])]
    return os.pathsep.join(dict.fromkeys(str(package.resolve().parent) for package in packages))


def _run_child(scratch: Path, limit: float) -> str | None:
    """Run the crawl to its end, at most `limit` seconds; returns what went wrong with the process, if anything."""
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment |= {"PYTHONPATH": _import_path(), "PYTHONIOENCODING": "utf-8"}
    # -P: the folder it is started in is no place to import from.
    command = [sys.executable, "-P", "-m", "crawlers.run", str(scratch / "job.json")]
    child = subprocess.Popen(
        command, cwd=scratch, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    late = threading.Event()

    def stop() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(limit, stop)
    timer.start()
    try:
        _relay_log(cast("IO[bytes]", child.stderr))
        status = child.wait()
    finally:
        timer.cancel()
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stderr):
            if pipe is not None:
                pipe.close()
    if late.is_set():
        return f"took longer than {limit:.0f} seconds and was stopped"
    if status < 0:
        return f"the crawl's process was ended by signal {-status}"
    return f"the crawl's process ended with status {status}; its log says why" if status else None


def _relay_log(pipe: IO[bytes]) -> None:
    """Log the child's lines as our own until it ends. Lines that are no JSON of ours are those of a crash."""
    levels = logging.getLevelNamesMapping()
    lines = 0
    while line := pipe.readline(_LOG_LINE_BYTES):
        lines += 1
        if lines > _LOG_LINES:
            if lines == _LOG_LINES + 1:
                logger.warning("the crawl logs more than %d lines; the rest is left out", _LOG_LINES)
            continue
        text = line.decode("utf-8", "replace").rstrip()
        level = logging.WARNING
        try:
            record = json.loads(text)
            level, text = levels.get(str(record["level"]), level), str(record["message"])
        except (ValueError, KeyError, TypeError):
            pass
        logger.log(level, "%s", _CONTROL.sub(" ", text))


def note_death(folder: Path, trouble: str, started: datetime) -> None:
    """Say in the statistics what a child that died could not say itself; its closed shards are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(".*"):
        path.unlink(missing_ok=True)
    counts = ["pages", "pages_failed", "images_found", "images_known"]
    counts += ["images_fetched", "images_failed", "bytes_fetched"]
    times = {"started_at": started, "finished_at": datetime.now(UTC)}
    write_stats(folder, {"outcome": "failed", "error": trouble, **dict.fromkeys(counts, 0), **times})
