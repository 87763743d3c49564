"""What a crawl costs, beside gallery-dl and wget --mirror: the first of a site, later ones, and one that was killed.

    python -m benchmarks.crawl_cost [--images N] [--rounds N] [--gallery-dl PATH] [--quick]

A gallery of small images is made and served on loopback. Each tool, as a whole process and without any delay between
requests, crawls it four times: first; again, with nothing changed; after new images at its front, in its middle and at
its end; and after some images got other bytes at the same address. The tools take turns, within each step and in an
order that moves on from round to round. Requests, answers and bytes are those of the server's access log; what a tool
has is read from what it wrote, by SHA-256.

The tools do not do the same work. wget --mirror writes files. Later it asks for the first page on condition that it has
changed, and if it has not, ends there: what is new behind it is not found. With --no-if-modified-since it asks for the
head of every page and image instead, and finds all. gallery-dl has no crawl of a whole site: it is given the addresses
of all listing pages and reads those, and its archive knows images by address, so that it never asks for one again,
changed or not. Copywatch is given the first page's address and finds the others; it keeps bytes, SHA-256, uploader and
validators in Parquet files for Spark, and looks at known pages and images only as far as its budget for them goes.

Needs wget, and nginx, which is faster than all of them (Debian: apt-get install wget nginx-light).
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq

from benchmarks.made_site import PER_PAGE, MadeSite, Server, Traffic, serving
from benchmarks.report import RESULTS, Result, Row, Table, publish
from copywatch.errors import MachineError

log = logging.getLogger(__name__)

IMAGES, QUICK_IMAGES = 10_000, 300
KILLED_IMAGES = 2_000
ROUNDS = 3
NEW = 25
REPLACED = 10

STEPS = ("first", "again", "new", "changed")

GALLERY_DL = "gallery-dl==1.32.*"

FEWER_REQUESTS = 20.0
"""Goal: the others' requests of a second crawl, by ours."""

SHARE_OF_FIRST = 0.02
"""Goal: our requests of a second crawl, by those of the first."""

_SECONDS = 3600


@dataclass(frozen=True)
class Tool:
    """A crawler that is measured.

    Attributes:
        name: for the tables.
        command: of one crawl, of the site's address, its pages' addresses, and the tool's own folder.
        has: SHA-256 of the images in that folder.
    """

    name: str
    command: Callable[[str, Sequence[str], Path], list[str]]
    has: Callable[[Path], frozenset[str]]


def by_copywatch(address: str, pages: Sequence[str], folder: Path) -> list[str]:
    """The installed command, as a person calls it."""
    command = [str(Path(sys.executable).with_name("copywatch")), "crawl", address, "--internal", "--source", "gallery"]
    return [*command, "--landing", str(folder / "landing"), "--state", str(folder / "state"), "--json"]


def landed(folder: Path) -> frozenset[str]:
    """SHA-256 of the images with bytes in all shards of all runs; of the bytes, not what the row says."""
    found: set[str] = set()
    for shard in sorted(folder.glob("landing/*/*/[0-9]*.parquet")):
        for batch in pq.ParquetFile(shard).iter_batches(columns=["bytes"]):
            found |= {hashlib.sha256(one).hexdigest() for one in batch["bytes"].to_pylist() if one}
    return frozenset(found)


def by_wget(*options: str) -> Callable[[str, Sequence[str], Path], list[str]]:
    """`wget --mirror`, which does not ask for robots.txt so, with further options."""

    def command(address: str, pages: Sequence[str], folder: Path) -> list[str]:
        given = ["wget", "--mirror", *options, "-e", "robots=off", "--quiet"]
        return [*given, "--directory-prefix", str(folder), address]

    return command


def by_gallery_dl(program: str) -> Callable[[str, Sequence[str], Path], list[str]]:
    """gallery-dl's extractor for any page, of all listing pages, with an archive."""

    def command(address: str, pages: Sequence[str], folder: Path) -> list[str]:
        # That extractor knows no ports: the site's server is named as a proxy, and takes requests as one would.
        plain = [urlsplit(page)._replace(netloc="127.0.0.1").geturl() for page in pages]
        addresses = folder / "addresses.txt"
        addresses.write_text("".join(f"generic:{page}\n" for page in plain), encoding="utf-8")
        given = [program, "--config-ignore", "--quiet", "--proxy", address]
        given += ["--download-archive", str(folder / "archive.sqlite3")]
        return [*given, "--directory", str(folder / "files"), "--input-file", str(addresses)]

    return command


def saved(folder: Path) -> frozenset[str]:
    """SHA-256 of the image files below a folder."""
    return frozenset(hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*.jpg"))


@dataclass(frozen=True)
class Crawl:
    """One crawl by one tool.

    Attributes:
        tool: its name.
        step: one of `STEPS`.
        seconds: of the whole process, by the clock.
        processor: seconds of all cores, of the process and what it started.
        traffic: what the server answered.
        listed: images that the site showed.
        missing: of these, such that the tool does not have.
        of_step: of the images that are new, or changed, in this step, how many the tool has now.
    """

    tool: str
    step: str
    seconds: float
    processor: float
    traffic: Traffic
    listed: int
    missing: int
    of_step: int


def run(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds and processor seconds of a command that must succeed.

    Raises:
        MachineError: it fails, or takes too long.
    """
    with (
        (folder.parent / f"{folder.name}.out").open("wb") as out,
        (folder.parent / f"{folder.name}.err").open("wb") as err,
    ):
        before, begun = os.times(), time.perf_counter()
        try:
            # In its own folder: no .env of somebody's is read.
            status = subprocess.run(command, cwd=folder, stdout=out, stderr=err, timeout=_SECONDS).returncode
        except subprocess.TimeoutExpired as error:
            raise MachineError(f"{command[0]} took longer than {_SECONDS} seconds") from error
        seconds, after = time.perf_counter() - begun, os.times()
    if status:
        said = Path(err.name).read_text(encoding="utf-8", errors="replace")[-500:]
        raise MachineError(f"{Path(command[0]).name} ended with status {status}: {said}")
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, spent


def crawls(site: MadeSite, server: Server, tools: Sequence[Tool], rounds: int, folder: Path) -> list[Crawl]:
    """All crawls: every step by every tool, that many times from nothing."""
    done: list[Crawl] = []
    for number in range(rounds):
        site.reset()
        turns = [*tools[number % len(tools) :], *tools[: number % len(tools)]]
        own = {tool.name: folder / f"{number}-{place}" for place, tool in enumerate(turns)}
        for path in own.values():
            path.mkdir(parents=True)
        for step in STEPS:
            before = site.listed
            if step == "new":
                site.add()
            elif step == "changed":
                site.replace(REPLACED)
            pages = [server.address.rstrip("/") + path for path in site.pages]
            for tool in turns:
                server.traffic()
                seconds, processor = run(tool.command(server.address, pages, own[tool.name]), own[tool.name])
                traffic = server.traffic()
                has = tool.has(own[tool.name])
                news = site.listed - before
                crawl = Crawl(
                    tool.name, step, seconds, processor, traffic,
                    listed=len(site.listed), missing=len(site.listed - has), of_step=len(news & has),
                )  # fmt: skip
                log.info(
                    "round %d, %s, %s: %.1f s, %d requests", number + 1, step, tool.name, seconds, traffic.requests
                )
                done.append(crawl)
        for path in own.values():
            shutil.rmtree(path)
    return done


@dataclass(frozen=True)
class Killed:
    """A first crawl of ours that was killed, and the one after it.

    Attributes:
        before: images sent when it was killed.
        safe: of these, such that were in closed shards.
        after: images sent to the crawl after it.
        twice: images sent to both, or more than once.
        missing: images of the site that are in no shard after that.
    """

    before: int
    safe: int
    after: int
    twice: int
    missing: int


def killed(site: MadeSite, server: Server, share: float, folder: Path) -> Killed:
    """Kill a first crawl, with all its processes, when that share of the images was sent, and crawl again."""
    site.reset()
    folder.mkdir(parents=True)
    server.traffic()
    command = by_copywatch(server.address, (), folder)
    with (folder / "killed.out").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        while len(server.peek().downloads) < share * len(site.order) and process.poll() is None:
            time.sleep(0.02)
        # The group of the process that was just started, and of its children.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    time.sleep(0.5)
    first = server.traffic().downloads
    safe = len(landed(folder))
    run(command, folder)
    second = server.traffic().downloads
    done = Killed(
        before=len(first),
        safe=safe,
        after=len(second),
        twice=sum(count > 1 for count in (first + second).values()),
        missing=len(site.listed - landed(folder)),
    )
    shutil.rmtree(folder)
    return done


def _of(done: Sequence[Crawl], tool: str, step: str, read: Callable[[Crawl], float]) -> float:
    return median(read(one) for one in done if (one.tool, one.step) == (tool, step))


def requests(done: Sequence[Crawl], tool: str, step: str) -> float:
    """The median of the rounds."""
    return _of(done, tool, step, lambda one: one.traffic.requests)


def rows(done: Sequence[Crawl], step: str) -> list[Row]:
    """A row for each tool: medians of the rounds."""
    table: list[Row] = []
    for tool in dict.fromkeys(one.tool for one in done):

        def of(read: Callable[[Crawl], float], tool: str = tool) -> float:
            return _of(done, tool, step, read)

        row: dict[str, object] = {
            "tool": tool,
            "seconds": f"{of(lambda one: one.seconds):.1f}",
            "processor s": f"{of(lambda one: one.processor):.1f}",
            "requests": int(requests(done, tool, step)),
            "not modified (304)": int(of(lambda one: _status(one, 304))),
            "HEAD": int(of(_heads)),
            "images sent": int(of(lambda one: one.traffic.downloads.total())),
            "MB sent": f"{of(lambda one: one.traffic.sent) / 1e6:.2f}",
        }
        if step == "first":
            row["images/s"] = f"{of(lambda one: one.listed / one.seconds):.0f}"
            row["missing"] = int(of(lambda one: one.missing))
        elif step == "again":
            row["% of the first's requests"] = 100 * requests(done, tool, step) / requests(done, tool, "first")
        else:
            row["found"] = int(of(lambda one: one.of_step))
        table.append(row)
    return table


def _status(crawl: Crawl, status: int) -> int:
    return sum(count for (_, one), count in crawl.traffic.answers.items() if one == status)


def _heads(crawl: Crawl) -> int:
    return sum(count for (method, _), count in crawl.traffic.answers.items() if method == "HEAD")


def goals(done: Sequence[Crawl], ours: str, new: int) -> list[Row]:
    """What the crawl is to reach, and whether it did."""
    others = [name for name in dict.fromkeys(one.tool for one in done) if name != ours]
    table: list[Row] = []

    def add(goal: str, measured: float, is_met: bool) -> None:
        table.append({"goal": goal, "measured": f"{measured:.4g}", "met": "yes" if is_met else "no"})

    again = requests(done, ours, "again")
    for other in others:
        # Of each round by itself: what else the machine did then was about the same for both.
        own, its = ([one.seconds for one in done if (one.tool, one.step) == (name, "first")] for name in (ours, other))
        ratio = median(map(truediv, own, its))
        add(f"first crawl: seconds by those of {other}, <= 1", ratio, ratio <= 1)
        fewer = requests(done, other, "again") / again
        add(f"second crawl: requests of {other} by ours, >= {FEWER_REQUESTS:g}", fewer, fewer >= FEWER_REQUESTS)
    share = again / requests(done, ours, "first")
    add(f"second crawl: requests by the first's, <= {SHARE_OF_FIRST:g}", share, share <= SHARE_OF_FIRST)
    sent = _of(done, ours, "again", lambda one: one.traffic.downloads.total())
    add("second crawl: images downloaded, 0", sent, sent == 0)
    sent, found = (
        _of(done, ours, "new", read) for read in (lambda one: one.traffic.downloads.total(), lambda one: one.of_step)
    )
    add(f"after {new} new: images downloaded, {new}", sent, sent == new)
    add(f"after {new} new: of them found, {new}", found, found == new)
    return table


def installed_gallery_dl(folder: Path) -> str:
    """gallery-dl in an environment of its own: it is no dependency of Copywatch."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, GALLERY_DL], check=True)
    return str(folder / "bin" / "gallery-dl")


def _version(program: str) -> str:
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    return next(word for word in said.split() if word[0].isdigit())


def result(images: int, rounds: int, gallery_dl: str, command: str, folder: Path) -> Result:
    """The whole measurement; its files go below `folder`.

    Raises:
        MachineError: wget is not there, or a tool failed.
    """
    if shutil.which("wget") is None:
        raise MachineError("wget is not installed (Debian: apt-get install wget)")
    begun = os.getloadavg()[0]
    site = MadeSite(folder / "site", images, NEW)
    ours = Tool("copywatch", by_copywatch, landed)
    tools = [
        ours,
        Tool(f"gallery-dl {_version(gallery_dl)}", by_gallery_dl(gallery_dl), saved),
        Tool(f"wget {_version('wget')}", by_wget(), saved),
        Tool(f"wget {_version('wget')} --no-if-modified-since", by_wget("--no-if-modified-since"), saved),
    ]
    with serving(site.root, folder / "server") as server:
        limit = server.own_limit([site.path(number) for number in site.order])
        done = crawls(site, server, tools, rounds, folder / "crawls")
        name = server.name
    small = MadeSite(folder / "killed-site", min(images, KILLED_IMAGES), 0)
    with serving(small.root, folder / "killed-server") as server:
        deaths = [killed(small, server, share, folder / "killed") for share in (0.3, 0.7)]
    load = f"{begun:.1f} at the start, {' / '.join(f'{one:.1f}' for one in os.getloadavg())} at the end"
    note = (
        f"Medians of {rounds} rounds. {name} alone, to a plain loop over one connection: {limit:.0f} images/s. The "
        f"machine's load: {load} (1 / 5 / 15 minutes); beyond about 2 it is other work, which lengthens the seconds, "
        "not the processor's."
    )
    sizes = [file.stat().st_size for file in (site.root / "images").iterdir()]
    of_pages = f"{-(-images // PER_PAGE)} listing pages"
    return Result(
        name="crawl_cost",
        title="What a crawl costs",
        question="\n\n".join(" ".join(part.split()) for part in __doc__.split("\n\n")[2:]),
        command=command,
        photos=f"a made site of {images:,} images ({median(sizes) / 1000:.0f} kB in the median) on {of_pages}",
        tables=[
            Table("Goals", goals(done, ours.name, NEW)),
            Table("First crawl", rows(done, "first"), note),
            Table("Second crawl, nothing changed", rows(done, "again")),
            Table(
                f"{NEW} new images",
                rows(done, "new"),
                "10 at the front, the others in the middle and at the end; all images behind them move on, so every "
                "listing page changes.",
            ),
            Table(
                f"{REPLACED} images changed at the same address",
                rows(done, "changed"),
                "No page tells of it. Copywatch looks at known images in turn, as far as its budget goes, so it finds "
                "such a change within some crawls; gallery-dl never does.",
            ),
            Table(
                "A first crawl that was killed",
                [_death(one) for one in deaths],
                f"Of a site of {len(small.order):,} images: all its processes, by SIGKILL, and the same command again. "
                "What an open shard held (500 rows, or 60 seconds) and what was under way is fetched twice.",
            ),
        ],
    )


def _death(one: Killed) -> dict[str, Any]:
    return {
        "images sent before": one.before,
        "of them safe": one.safe,
        "images sent after": one.after,
        "sent twice": one.twice,
        "lost": one.missing,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crawl_cost", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, help=f"default: {IMAGES:,}; in a trial {QUICK_IMAGES}")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}; in a trial 1")
    parser.add_argument("--gallery-dl", help=f"the program; default: {GALLERY_DL} is installed for the time being")
    parser.add_argument("--quick", action="store_true", help="a trial")
    parser.add_argument("--results", type=Path, help="folder of the page; default: docs/results, and none for a trial")
    chosen = parser.parse_args(arguments)
    images = chosen.images or (QUICK_IMAGES if chosen.quick else IMAGES)
    rounds = chosen.rounds or (1 if chosen.quick else ROUNDS)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory(prefix="copywatch-crawl-cost-") as temporary:
        folder = Path(temporary)
        program = chosen.gallery_dl or installed_gallery_dl(folder / "gallery-dl")
        command = f"python -m benchmarks.crawl_cost --images {images} --rounds {rounds}"
        publish(result(images, rounds, program, command, folder), chosen.results or (None if chosen.quick else RESULTS))


if __name__ == "__main__":
    main()
