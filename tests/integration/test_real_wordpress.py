"""A crawl of a real WordPress: what it finds is what was uploaded, and the next crawl fetches only what is new.

What was uploaded is known from the uploads themselves, and what was asked for from the server's own log; neither is
taken from what the crawl says of itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import httpx
import pyarrow.parquet as pq
import pytest
from PIL import Image

from copywatch.demo.planting import PHOTOS_DIR
from tests.integration.wordpress.server import AUTHORS, PackagesMissing, Person, WordPress

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ZOE, MIRA, SILENT = AUTHORS
"""The last one writes no posts: WordPress tells the names of those who do, and of nobody else."""

LONG_AGO = datetime(2015, 6, 1, 22, 30, tzinfo=UTC)
SMALL_PHOTOS = 95
"""With the others they do not fit on one page of the REST API, which has at most 100."""
FEW_REQUESTS = 8
"""Of pages and listings, in a crawl that finds nothing new."""
UPLOADS = "/wp-content/uploads/"


def photo(number: int) -> bytes:
    """A demo photo as it is."""
    return (PHOTOS_DIR / f"{number:02}.jpg").read_bytes()


def encoded(
    number: int,
    file_format: str,
    *,
    size: tuple[int, int] | None = None,
    box: tuple[int, int, int, int] | None = None,
    turned: bool = False,
) -> bytes:
    """A demo photo in another format or size, a piece of it, or marked as turned by EXIF."""
    with Image.open(PHOTOS_DIR / f"{number:02}.jpg") as opened:
        image = opened.crop(box) if box else opened.resize(size) if size else opened
        exif = Image.Exif()
        if turned:
            exif[0x0112] = 6  # Orientation: the camera was held upright
        buffer = io.BytesIO()
        image.save(buffer, file_format, exif=exif)
        return buffer.getvalue()


@dataclass(frozen=True)
class Upload:
    """A file that somebody uploaded."""

    data: bytes
    author: Person
    caption: str | None
    attachment: dict[str, Any]

    @property
    def id(self) -> int:
        """WordPress' number of it."""
        return int(self.attachment["id"])

    @property
    def sha256(self) -> str:
        """Of what was uploaded."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def path(self) -> str:
        """Where the bytes that were uploaded are, unescaped: beside `source_url`, if that has a smaller picture."""
        original = self.attachment["media_details"].get("original_image", "")
        return unquote(urlsplit(urljoin(self.attachment["source_url"], original)).path)

    @property
    def uploaded_at(self) -> datetime:
        """When, as WordPress has it."""
        return datetime.fromisoformat(self.attachment["date_gmt"]).replace(tzinfo=UTC)


@dataclass
class Crawled:
    """What a crawl said, left and asked for."""

    stats: dict[str, Any]
    items: list[dict[str, Any]]
    landed: dict[str, bytes]
    """Bytes in the landing shards, by the path of their image address."""
    requests: list[str]
    """What the server was asked for meanwhile."""

    @property
    def downloads(self) -> list[str]:
        """Paths of the files that were downloaded."""
        paths = (unquote(urlsplit(request.removeprefix("GET ")).path) for request in self.gets)
        return sorted(path for path in paths if path.startswith(UPLOADS))

    @property
    def gets(self) -> list[str]:
        """All that was read; what was only looked at by HEAD is left out."""
        return [request for request in self.requests if request.startswith("GET ")]

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 that the items state, by the path of their image address."""
        stated = {path_of(item): item["sha256"] for item in self.items}
        assert len(stated) == len(self.items), "an address is two items"
        return stated


def path_of(item: dict[str, Any]) -> str:
    """Path of an item's image address, unescaped."""
    return unquote(urlsplit(item["image_url"]).path)


@dataclass
class Gazette:
    """A WordPress, what was uploaded to it, and a watcher with a memory."""

    site: WordPress
    folder: Path
    visitor: httpx.Client
    """Anybody, without an account."""
    public: dict[str, Upload] = field(default_factory=dict)
    """Images that anybody can see, by their path."""
    unseen: list[tuple[int, Upload]] = field(default_factory=list)
    """Drafts, and the image in each that nobody can see yet."""
    seen: list[tuple[int, Upload]] = field(default_factory=list)
    """Published posts, and the image in each."""
    known: dict[str, str] = field(default_factory=dict)
    """SHA-256 of what earlier crawls fetched, by path."""
    crawls: int = 0

    def upload(
        self,
        name: str,
        data: bytes,
        author: Person,
        *,
        caption: str | None = None,
        date: datetime | None = None,
        post: int | None = None,
        shown: bool = True,
    ) -> Upload:
        """Upload a file; `shown`: it is an image that anybody can see at once."""
        made = self.site.upload(name, data, author.login, caption=caption, date=date, post=post)
        upload = Upload(data, author, caption, made)
        if shown:
            self.public[upload.path] = upload
        return upload

    def write(self, name: str, data: bytes, *, published: bool) -> tuple[int, Upload]:
        """Upload a photo into a post; the post's id, and the photo, which is as public as the post."""
        post = self.site.write_post(f"About {name}", MIRA.login, published=published)["id"]
        return post, self.upload(name, data, MIRA, post=post, shown=published)

    def replace(self, upload: Upload, data: bytes) -> Upload:
        """Put other bytes at the address of a public image."""
        changed = Upload(data, upload.author, upload.caption, self.site.replace(upload.id, data))
        assert changed.path == upload.path
        self.public[changed.path] = changed
        return changed

    def get(self, path: str, **headers: str) -> httpx.Response:
        """What anybody gets from a path."""
        return self.visitor.get(urljoin(self.site.address, path), headers=headers)

    def crawl(self, *options: str, state: str = "state") -> Crawled:
        """Crawl by the command; `state` is the memory that it uses."""
        self.crawls += 1
        landing, before = self.folder / f"landing-{self.crawls}", len(self.site.requests)
        command = [str(Path(sys.executable).with_name("copywatch")), "crawl", f"{self.site.address}/", "--internal"]
        command += ["--json", "--landing", str(landing), "--state", str(self.folder / state), *options]
        own = {"COPYWATCH_DATA_DIR": str(self.folder / "data"), "COPYWATCH_ENV_FILE": str(self.folder / "no.env")}
        done = subprocess.run(
            command, cwd=self.folder, env=os.environ | own, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        said = json.loads(done.stdout)
        columns = ["image_url", "bytes"]
        rows = [
            row for shard in landing.rglob("*.parquet") for row in pq.read_table(shard, columns=columns).to_pylist()
        ]
        landed = {path_of(row): row["bytes"] for row in rows if row["bytes"] is not None}
        self.known |= {path: hashlib.sha256(data).hexdigest() for path, data in landed.items()}
        return Crawled(said["stats"], said["items"], landed, self.site.requests[before:])

    def assert_fetched(self, crawled: Crawled, uploads: list[Upload]) -> None:
        """These were downloaded, once each, and nothing else was; their bytes are those of the upload."""
        assert crawled.downloads == sorted(upload.path for upload in uploads)
        assert crawled.hashes == {upload.path: upload.sha256 for upload in uploads}
        assert crawled.landed == {upload.path: upload.data for upload in uploads}
        assert crawled.stats["images_new"] == len(uploads)
        assert not any(crawled.stats["rejected"].values()), crawled.stats["rejected"]


@pytest.fixture(scope="module")
def gazette(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gazette]:
    """A WordPress with photos of three authors, one of them hidden in a draft, and a file that is no image."""
    with contextlib.ExitStack() as opened:
        try:
            site = opened.enter_context(WordPress())
        except PackagesMissing as error:
            pytest.skip(str(error))
        visitor = opened.enter_context(httpx.Client(timeout=60))
        made = Gazette(site, tmp_path_factory.mktemp("gazette"), visitor)
        made.upload("harbour.jpg", photo(1), ZOE, caption="The harbour & <em>the sky</em>, März")
        made.upload("harbour.jpg", photo(2), MIRA, caption="The same name")
        made.upload("Grüße vom Kai.jpg", photo(3), ZOE, caption="Sehr schön")
        made.upload("nobody-knows-me.jpg", photo(4), SILENT, caption="By somebody who writes no posts")
        made.upload("scaled-down.jpg", encoded(5, "JPEG", size=(2700, 400)), MIRA)
        made.upload("turned.jpg", encoded(6, "JPEG", turned=True), ZOE)
        made.upload("lossless.png", encoded(7, "PNG"), ZOE)
        made.upload("modern.webp", encoded(8, "WEBP"), MIRA, caption="WebP")
        made.upload("old.jpg", photo(9), MIRA, date=LONG_AGO, caption="From the archive")
        made.upload("programme.pdf", b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n%%EOF\n", ZOE, shown=False)
        made.seen.append(made.write("now-and-then.jpg", photo(22), published=True))
        made.unseen.append(made.write("unveiled.jpg", photo(14), published=False))
        for number in range(SMALL_PHOTOS):
            left, top = 20 * (number % 10), 20 * (number // 10)
            piece = encoded(10, "JPEG", box=(left, top, left + 140, top + 140))
            made.upload(f"detail-{number}.jpg", piece, (ZOE, MIRA)[number % 2])
        for author in (ZOE, MIRA):
            shown = [upload.attachment for upload in made.public.values() if upload.author == author][:3]
            site.write_post(f"Photos by {author.name}", author.login, images=shown)
        yield made


@pytest.fixture(scope="module")
def first(gazette: Gazette) -> Crawled:
    """The first crawl."""
    return gazette.crawl()


@pytest.fixture
def watched(gazette: Gazette, first: Crawled) -> Gazette:
    """The site, when all that is on it has been crawled: if the test before this one failed, by one more crawl."""
    if {path: upload.sha256 for path, upload in gazette.public.items()}.items() - gazette.known.items():
        gazette.crawl()
    return gazette


def test_the_rest_api_lists_what_is_public(gazette: Gazette) -> None:
    """What the other tests build upon: all pages, own names only, a clock that is not UTC, originals beside."""
    listed = {entry["id"]: entry for entry in gazette.site.media(media_type="image", _embed="author")}
    assert set(listed) == {upload.id for upload in gazette.public.values()}
    assert len(listed) > 100
    for upload in gazette.public.values():
        entry = listed[upload.id]
        (author,) = entry["_embedded"]["author"]
        assert author.get("name") == (None if upload.author == SILENT else upload.author.name)
        clocks = [datetime.fromisoformat(entry[name]) for name in ("date_gmt", "date")]
        assert timedelta(hours=2) < clocks[0] - clocks[1] < timedelta(hours=4)
        assert gazette.get(upload.path).content == upload.data
    made = {Path(upload.attachment["source_url"]).name for upload in gazette.public.values()}
    assert made >= {"scaled-down-scaled.jpg", "turned-rotated.jpg", "harbour.jpg", "harbour-1.jpg"}
    home = gazette.get("/")
    assert 'rel="https://api.w.org/"' in home.headers["link"]
    assert "api.w.org" in home.text


def test_back_dated_and_hidden_ones_are_not_told_by_any_date(gazette: Gazette) -> None:
    """So that asking for what is newer than the last crawl would miss both."""
    site, data = gazette.site, photo(11)
    draft, secret = gazette.write("secret.jpg", data, published=False)
    old = gazette.upload("late.jpg", data, ZOE, date=LONG_AGO, shown=False)
    assert old.uploaded_at == LONG_AGO
    assert secret.id not in {entry["id"] for entry in site.media()}
    before = {entry["id"] for entry in site.media()}
    site.publish(draft)
    (shown,) = (entry for entry in site.media() if entry["id"] not in before)
    assert shown["id"] == secret.id
    assert [shown[name] for name in ("date_gmt", "modified_gmt")] == [
        secret.attachment[name] for name in ("date_gmt", "modified_gmt")
    ]
    after = f"{LONG_AGO + timedelta(days=1):%Y-%m-%dT%H:%M:%S}"
    assert old.id not in {entry["id"] for entry in site.media(after=after)}
    assert old.id not in {entry["id"] for entry in site.media(modified_after=after)}
    site.hide(draft)
    assert secret.id not in {entry["id"] for entry in site.media()}
    for upload in (secret, old):
        site.delete(upload.id)
        assert gazette.get(upload.path).status_code == 404


def test_the_server_answers_validators(gazette: Gazette) -> None:
    """As Apache does for the files of a WordPress; and other bytes have other ones."""
    upload = gazette.upload("one.jpg", photo(12), ZOE, date=LONG_AGO, shown=False)
    answer = gazette.get(upload.path)
    for name, header in (("If-None-Match", "ETag"), ("If-Modified-Since", "Last-Modified")):
        assert gazette.get(upload.path, **{name: answer.headers[header]}).status_code == 304
    changed = gazette.site.replace(upload.id, photo(13))
    assert changed["source_url"] == upload.attachment["source_url"]
    assert changed["modified_gmt"] > upload.attachment["modified_gmt"]
    again = gazette.get(upload.path, **{"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (200, photo(13))
    gazette.site.delete(upload.id)


def test_a_dry_run_says_wordpress_and_downloads_nothing(gazette: Gazette) -> None:
    """From the address of the home page alone."""
    tried = gazette.crawl("--dry-run", state="dry")
    assert tried.stats["source"] == "wordpress"
    assert {path_of(item) for item in tried.items} == set(gazette.public)
    assert tried.downloads == []


def test_every_upload_is_found_with_its_original_bytes(gazette: Gazette, first: Crawled) -> None:
    """Also of photos that WordPress scales down or turns; not what is hidden, and not what is no image."""
    assert first.stats["source"] == "wordpress"
    gazette.assert_fetched(first, list(gazette.public.values()))
    assert first.stats["requests"] == len(first.requests)


def test_every_upload_is_told_with_its_author_date_and_caption(gazette: Gazette, first: Crawled) -> None:
    """As the REST API has them; a name that WordPress does not tell is not made up."""
    items = {path_of(item): item for item in first.items}
    captions = 0
    for path, upload in gazette.public.items():
        item = items[path]
        silent = upload.author == SILENT
        assert item["uploader"] == (None if silent else upload.author.name)
        assert item["uploader_url"] == (None if silent else f"{gazette.site.address}/author/{upload.author.login}/")
        assert datetime.fromisoformat(item["uploaded_at"]) == upload.uploaded_at
        assert "date_gmt" in item["uploaded_at_source"]
        assert item["page_url"] == upload.attachment["link"]
        assert unquote(urlsplit(item["final_url"]).path) == path
        assert item["size"] == len(upload.data)
        if upload.caption:
            captions += 1
            assert item["caption"] == upload.caption.replace("<em>", "").replace("</em>", "")
    assert captions > 5


def test_a_second_crawl_downloads_nothing(watched: Gazette) -> None:
    """It reads little, and looks at a known file at most once."""
    second = watched.crawl()
    watched.assert_fetched(second, [])
    assert len(second.gets) <= FEW_REQUESTS, second.gets
    assert len(second.requests) - len(second.gets) <= len(watched.public)
    assert second.stats["source"] == "wordpress"


def test_exactly_the_new_ones_are_fetched(watched: Gazette) -> None:
    """A plain one, one that claims to be ten years old, one that is older but was hidden, and a second place of known
    bytes."""
    draft, secret = watched.unseen.pop()
    new = [
        watched.upload("new.jpg", photo(15), ZOE, caption="New"),
        watched.upload("found-in-the-attic.jpg", photo(16), MIRA, date=LONG_AGO),
        watched.upload("again.jpg", photo(1), MIRA),
    ]
    watched.site.publish(draft)
    watched.public[secret.path] = secret
    third = watched.crawl()
    watched.assert_fetched(third, [*new, secret])
    assert len(third.gets) <= FEW_REQUESTS + len(third.downloads), third.gets
    dates = {path_of(item): datetime.fromisoformat(item["uploaded_at"]) for item in third.items}
    assert dates == {upload.path: upload.uploaded_at for upload in (*new, secret)}


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "after a newer upload"])
def test_an_image_changed_under_its_address_is_new(watched: Gazette, alone: bool) -> None:
    """Whatever its date; also one that WordPress scales down, whose original changes beside it."""
    by_name = {Path(path).name: upload for path, upload in watched.public.items()}
    numbers = (17, 18) if alone else (19, 20)
    changed = [
        watched.replace(by_name["old.jpg"], photo(numbers[0])),
        watched.replace(by_name["scaled-down.jpg"], encoded(numbers[1], "JPEG", size=(2600, 500))),
    ]
    if not alone:
        changed.append(watched.upload("meanwhile.jpg", photo(21), ZOE))
    watched.assert_fetched(watched.crawl(), changed)


def test_deleted_and_hidden_images_are_no_trouble(watched: Gazette) -> None:
    """They are not asked for, and what came meanwhile is found all the same."""
    post, hidden = watched.seen.pop()
    watched.site.hide(post)
    deleted = next(upload for path, upload in watched.public.items() if path.endswith("/detail-50.jpg"))
    watched.site.delete(deleted.id)
    for gone in (hidden, deleted):
        del watched.public[gone.path]
    new = watched.upload("after-it.jpg", photo(23), ZOE)
    watched.assert_fetched(watched.crawl(), [new])


def test_people_can_tell_what_is_missing() -> None:
    """A machine without the packages skips these tests, and says which they are."""
    said = str(PackagesMissing(["mariadbd", "php"]))
    assert "mariadbd, php" in said
    assert "apt-get install" in said
    assert "php-mysql" in said
