"""What a spider hands to the pipeline."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from datetime import UTC, datetime

from copywatch.crawl_state import ImageState
from copywatch.errors import Reason

_NOT_LANDED = {"settled_hash", "url_hash", "version", "is_page"}


@dataclass(frozen=True, kw_only=True)
class FetchedAddress:
    """An address that the crawl asked for: an image with its bytes, or an image or page with the reason why not."""

    page_url: str
    """Page that shows the image; for a page that failed, the page that links to it."""

    image_url: str
    """Address of the image as the page gives it, absolute; for a page that failed, the page's own."""

    final_url: str | None = None
    """Where redirects led; null: nothing answered."""

    uploader: str | None = None
    """Who uploaded the image, as the page says: one line, at most 200 characters, no control characters."""

    uploader_url: str | None = None
    """The uploader's own page, absolute http or https, at most `LONGEST_URL` characters."""

    uploaded_at: datetime | None = None
    """When, as the page says: aware, UTC. A date without a zone is taken as UTC."""

    uploaded_at_source: str | None = None
    """What said when, in words of ours, such as `wordpress date_gmt`."""

    caption: str | None = None
    """What the page says below the image: one line, at most 500 characters, no control characters."""

    licence: str | None = None
    """Licence or rights that the page, or else the file, states: an address or one line, cleaned like `uploader`."""

    crawled_at: datetime
    """When the answer, or the failure, came: aware, UTC."""

    content_type: str | None = None
    """The server's Content-Type header, cleaned like `uploader`; it is often wrong."""

    etag: str | None = None
    """The server's ETag, at most 200 characters; null: none, or one that cannot be sent back."""

    last_modified: str | None = None
    """The server's Last-Modified, likewise."""

    source_hash: str | None = None
    """What the source says of the bytes, such as `sha1:` and 40 hexadecimal digits."""

    version: str | None = None
    """What the source says that changes with the file, such as its date of change."""

    http_status: int | None = None
    """Status of the last answer after redirects; null: there was none."""

    reason: Reason | None = None
    """Why there are no bytes; null: there are, or they were fetched by an earlier crawl."""

    detail: str | None = None
    """What was seen, beside the reason, cleaned like `uploader`."""

    sha256: str | None = None
    """SHA-256 of the bytes, hexadecimal."""

    size: int | None = None
    """Bytes, also of a body that is not kept, such as HTML."""

    bytes: bytes | None = None
    """The body as it came, at most the settings' `max_image_bytes`. Nobody has looked at it yet."""

    settled_hash: str | None = None
    """`url_hash` of an image address that need not be fetched again; null: the next crawl tries it once more."""

    url_hash: bytes | None = None
    """Of an image: `url_hash` of its normalised address; null: it stands for a page."""

    is_page: bool = False
    """It stands for a page that failed, not for an image."""

    @property
    def row(self) -> dict[str, object]:
        """Columns of a landing shard, without run and site."""
        row = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _NOT_LANDED}
        row["reason"] = self.reason.value if self.reason else None
        return row


@dataclass(frozen=True)
class Unchanged:
    """A known image that was looked at, and is what it was: no row, but a newer entry in the crawl's state."""

    image: ImageState


def now() -> datetime:
    """The time, aware, UTC."""
    return datetime.now(UTC)


def sha256_of(body: bytes) -> str:
    """SHA-256 of a body, 64 hexadecimal digits."""
    return hashlib.sha256(body).hexdigest()
