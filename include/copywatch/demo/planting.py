"""What the demo plants: whose photos are protected, and what is posted of them, by whom, when and how edited.

This is the truth that the demo is judged against, so it is fixed: two processes that ask for it get the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from copywatch.demo.edits import EVERY_EDIT, HOT_LINKED
from copywatch.errors import Reason

PHOTOS_DIR = Path(__file__).parent / "photos"
MEDIA = "/media/"
OWNER_WORK = "/portfolio/"
ROUNDS = (1, 2)
GONE = "gone"
"""The edit of an image that a page shows but the site no longer has: its address answers 404."""

_FIRST_POST = datetime(2026, 3, 2, 8, 15, tzinfo=UTC)
_BETWEEN_POSTS = timedelta(hours=31, minutes=7)


@dataclass(frozen=True)
class Owner:
    """Somebody who registers photos, and the photos."""

    name: str
    email: str
    folder: str
    photos: tuple[str, ...]


@dataclass(frozen=True)
class Member:
    """Somebody who posts on the demo site."""

    slug: str
    name: str
    about: str


@dataclass(frozen=True)
class Planted:
    """One image that a page of the demo site shows.

    Attributes:
        file: name of the image file, unique among the planted.
        source: the demo photo that it was made of.
        protected: that photo again if it is a protected one, so that this is a copy; else None.
        edit: name of what was done to it; see `edits.EVERY_EDIT`.
        page: path of its own page on the site.
        image_path: path of the image, on the site or (hot-linked) on the owner's own site.
        title: what the page calls it.
        uploader: the name shown as who posted it.
        uploaded_at: when, as shown.
        round: from which round on it is to be seen.
        reason: why it gives no usable image; None if it does.
    """

    file: str
    source: str
    protected: str | None
    edit: str
    page: str
    image_path: str
    title: str
    uploader: str
    uploaded_at: datetime
    round: int = 1
    reason: Reason | None = None

    @property
    def is_copy(self) -> bool:
        """Whether it is to be found."""
        return self.protected is not None

    @property
    def crawled_before(self) -> bool:
        """Whether it is a copy of a photo that is registered only after it was crawled."""
        return self.protected in LATE_OWNER.photos

    @property
    def hot_linked(self) -> bool:
        """Whether the page shows it from the owner's own site."""
        return self.edit == HOT_LINKED.name

    def content(self) -> bytes | None:
        """The file's bytes; None if the address leads nowhere."""
        return None if self.edit == GONE else EVERY_EDIT[self.edit].apply(photo_bytes(self.source))


ADA = Owner(
    "Ada Lindqvist",
    "ada@photographers.example",
    "ada-lindqvist",
    ("03.jpg", "04.jpg", "07.jpg", "15.jpg", "17.jpg", "23.jpg"),
)
BRUNO = Owner(
    "Bruno Castellani",
    "bruno@photographers.example",
    "bruno-castellani",
    ("05.jpg", "08.jpg", "14.jpg", "20.jpg", "21.jpg", "22.jpg"),
)
OWNERS = (ADA, BRUNO)
"""Who registers before the first crawl."""
LATE_OWNER = Owner("Clara Oyelaran", "clara@photographers.example", "clara-oyelaran", ("18.jpg", "24.jpg"))
"""Who registers after the last: copies of these photos were crawled before anybody asked for them."""
PROTECTED: dict[str, Owner] = {photo: owner for owner in (*OWNERS, LATE_OWNER) for photo in owner.photos}

# One name has a '<' and one an '&': whoever shows them unescaped is seen at once.
MEMBERS = {
    member.slug: member
    for member in (
        Member("mira", "Mira Kovac", "Doors, walls, things left in the sun. Mostly mornings."),
        Member("old-salt", "Old Salt", "Forty years at sea, six with a camera."),
        Member("finn", "Finn <3 film", "Scans everything, develops nothing himself any more."),
        Member("jun-and-ola", "Jun & Ola", "Two people, one camera, never the same opinion of a picture."),
        Member("tove", "Tove Almgren", "Teaches by day. Parades, fairs and faces at the weekend."),
        Member("desmond", "Desmond Achebe", "Anything with an engine, and whoever sits on it."),
    )
}

# (file, source, edit, member, title), in the order they were posted.
_Post = tuple[str, str, str, str, str]

_GALLERY_ROUND_1: tuple[_Post, ...] = (
    ("shutters.jpg", "01.jpg", "untouched", "mira", "Nine red shutters"),
    ("spinnakers.jpg", "09.jpg", "untouched", "old-salt", "Spinnakers up"),
    ("start-line.jpg", "05.jpg", "re-encoded", "desmond", "Eight on the start line"),
    ("bolt.jpg", "02.jpg", "untouched", "mira", "The bolt"),
    ("old-town-small.jpg", "08.jpg", "resized", "finn", "Gables, all leaning"),
    ("anchorage.jpg", "06.jpg", "untouched", "old-salt", "Quiet anchorage"),
    ("IMG_2207.jpg", "03.jpg", "renamed", "jun-and-ola", "Summer hats for sale"),
    ("close-hauled.jpg", "10.jpg", "untouched", "old-salt", "Close-hauled"),
    ("macaws-lumen.jpg", "23.jpg", "watermarked", "tove", "Two who talk all day"),
    ("pier.jpg", "11.jpg", "untouched", "old-salt", "What is left of the pier"),
    ("light-1931.jpg", "21.jpg", "sepia", "finn", "The light, as my grandfather saw it"),
    ("low-tide-walk.jpg", "12.jpg", "untouched", "jun-and-ola", "Low tide, walking back"),
    ("window-warm.jpg", "07.jpg", "warm-tint", "mira", "Hibiscus at five in the evening"),
    ("palms.jpg", "16.jpg", "untouched", "jun-and-ola", "An island of palms"),
    ("white-water.jpg", "14.jpg", "cropped-2", "desmond", "All paddles in"),
    ("foundry-garden.jpg", "18.jpg", "untouched", "tove", "In the foundry garden"),
    ("red-barn.jpg", "22.jpg", "cropped-5", "finn", "Red barn after the rain"),
    ("white-fence.jpg", "19.jpg", "untouched", "tove", "White fence, white tower"),
    ("17.jpg", "17.jpg", "byte-identical", "tove", "She holds the world"),
    ("20.jpg", "20.jpg", "hot-linked", "desmond", "Yellow nose"),
    ("red-hat.jpg", "04.jpg", "cut-out-mirrored", "finn", "From an old print"),
    ("look-at-these-two.png", "23.jpg", "screenshot", "desmond", "My feed this morning"),
)
_GALLERY_ROUND_2: tuple[_Post, ...] = (
    ("snowmelt.jpg", "13.jpg", "untouched", "jun-and-ola", "Snowmelt"),
    ("festival-face.jpg", "15.jpg", "resized", "tove", "Painted for the festival"),
    ("painted-house.jpg", "24.jpg", "untouched", "mira", "A house that tells its story"),
)
# (file, source, edit, member, title) on one page each: pictures that people ask about, all of unrelated photos.
_ODD_THREAD = "/workshop/which-formats-survive"
_BROKEN_THREAD = "/workshop/broken-uploads"
_WORKSHOP: dict[str, tuple[_Post, ...]] = {
    _ODD_THREAD: (
        ("palms-blink.gif", "16.jpg", "animated", "jun-and-ola", "A GIF that blinks"),
        ("bolt-for-print.jpg", "02.jpg", "cmyk", "mira", "Ready for the printer (CMYK)"),
        ("tower-scan.png", "19.jpg", "sixteen-bit", "finn", "16-bit scan of the tower"),
        ("spinnakers-64.png", "09.jpg", "palette", "old-salt", "Sixty-four colours are enough"),
        ("foundry-phone.jpg", "18.jpg", "exif-rotated", "tove", "Straight from the phone, held upright"),
        ("pier.avif", "11.jpg", "avif", "old-salt", "The pier again, as AVIF"),
    ),
    _BROKEN_THREAD: (
        ("anchorage-half.jpg", "06.jpg", "truncated", "old-salt", "The connection dropped half-way"),
        ("low-tide.png", "12.jpg", "corrupt", "jun-and-ola", "My card reader did this"),
        ("friends-only.jpg", "01.jpg", "html", "desmond", "Linked from another album"),
        ("nothing.jpg", "01.jpg", "empty", "desmond", "Uploaded, but nothing is there"),
        ("sun.svg", "16.jpg", "svg", "finn", "My logo"),
        ("pixel.gif", "16.jpg", "one-pixel", "finn", "Somebody's counter"),
        ("deleted.jpg", "10.jpg", GONE, "mira", "I deleted this one, why is it still listed?"),
        ("wall-of-white.png", "02.jpg", "hundred-megapixels", "mira", "Is 100 megapixels too much?"),
    ),
}
THREADS = {_ODD_THREAD: "Which formats survive the upload?", _BROKEN_THREAD: "Broken uploads, please have a look"}
"""Path of each page of the workshop, and its title."""


def photo_bytes(photo: str) -> bytes:
    """The bytes of one of the demo photos, by its file name."""
    return (PHOTOS_DIR / photo).read_bytes()


@dataclass(frozen=True)
class Planting:
    """All that the demo site shows, in the order it was posted."""

    images: tuple[Planted, ...]

    @property
    def copies(self) -> tuple[Planted, ...]:
        """What is to be found."""
        return tuple(image for image in self.images if image.is_copy)

    @property
    def unrelated(self) -> tuple[Planted, ...]:
        """Usable images that must not raise an alert."""
        return tuple(image for image in self.images if not image.is_copy and image.reason is None)

    @property
    def unusable(self) -> tuple[Planted, ...]:
        """What is to be refused, each with its reason."""
        return tuple(image for image in self.images if image.reason is not None)

    def of_round(self, number: int) -> tuple[Planted, ...]:
        """The images that this round posts."""
        return tuple(image for image in self.images if image.round == number)

    @cached_property
    def _by_path(self) -> dict[str, Planted]:
        return {image.image_path: image for image in self.images}

    def at(self, image_url: str) -> Planted | None:
        """The image of this address, whatever host and port the site runs at; None if it was not planted."""
        return self._by_path.get(unquote(urlsplit(image_url).path))


def _planted(posts: tuple[_Post, ...], begin: int, round_: int, thread: str = "") -> list[Planted]:
    images = []
    for place, (file, source, edit, member, title) in enumerate(posts, start=begin):
        page = thread or f"/photo/{place + 1000}-{PurePosixPath(file).stem.lower().replace('_', '-')}"
        reason = Reason.HTTP_STATUS if edit == GONE else EVERY_EDIT[edit].reason
        images.append(
            Planted(
                file=file,
                source=source,
                protected=source if source in PROTECTED else None,
                edit=edit,
                page=page,
                image_path=f"{OWNER_WORK if edit == HOT_LINKED.name else MEDIA}{file}",
                title=title,
                uploader=MEMBERS[member].name,
                uploaded_at=_FIRST_POST + place * _BETWEEN_POSTS,
                round=round_,
                reason=reason,
            )
        )
    return images


def plant() -> Planting:
    """The demo's planting, always the same."""
    images = _planted(_GALLERY_ROUND_1, 0, 1)
    for thread, posts in _WORKSHOP.items():
        images += _planted(posts, len(images), 1, thread)
    images += _planted(_GALLERY_ROUND_2, len(images), 2)
    return Planting(tuple(images))


def write_intake(folder: Path, owners: Sequence[Owner] = OWNERS) -> dict[Owner, list[Path]]:
    """Write the protected originals under `folder`, in one sub-folder per owner; returns what was written."""
    written: dict[Owner, list[Path]] = {}
    for owner in owners:
        own = folder / owner.folder
        own.mkdir(parents=True, exist_ok=True)
        written[owner] = [own / photo for photo in owner.photos]
        for path in written[owner]:
            path.write_bytes(photo_bytes(path.name))
    return written
