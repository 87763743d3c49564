"""MediaWiki's `list=allimages` (www.mediawiki.org/wiki/API:Allimages)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

from crawlers.listings import (
    Listing,
    NotAListing,
    address_of,
    dated,
    found,
    plain,
    read_json,
    text_at,
)
from crawlers.pages import ShownImage
from crawlers.spiders.base import Showing
from crawlers.texts import clean_text

LARGEST_PAGE = 500
_SHA1 = re.compile(r"[0-9a-f]{40}")
_MOST_CONTINUED = 20


def endpoints(address: str) -> list[str]:
    """Where the interface may be, of a wiki's address, the likeliest first; one that is the interface is kept."""
    parts = urlsplit(address)
    if parts.path.endswith("/api.php"):
        return [urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))]
    # Pages are at /wiki/Title or /w/index.php/Title, scripts at /w, or both at the wiki's own root.
    root = re.split(r"/(?:wiki/|w/|index\.php)", parts.path, maxsplit=1)[0].rstrip("/")
    paths = dict.fromkeys([f"{root}/w/api.php", f"{root}/api.php", urlsplit(urljoin(address, "api.php")).path])
    return [urlunsplit((parts.scheme, parts.netloc, path, "", "")) for path in paths]


def listing_address(endpoint: str, since: datetime | None = None, limit: int = LARGEST_PAGE) -> str:
    """The listing, the oldest first, from a moment on."""
    given: dict[str, str | int] = {
        "action": "query",
        "list": "allimages",
        "aisort": "timestamp",
        "aidir": "newer",
        "ailimit": limit,
        "aiprop": "url|user|timestamp|sha1|size|mime|extmetadata",
        "format": "json",
        "formatversion": 2,
    }
    if since:
        given["aistart"] = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{endpoint}?{urlencode(given)}"


def read_listing(body: bytes, address: str) -> Listing:
    """A page of the listing.

    Raises:
        NotAListing: it is none.
    """
    answer = read_json(body)
    entries = found(answer, "query", "allimages")
    if not isinstance(entries, list):
        said = text_at(answer, "error", "info") or text_at(answer, "error", "code")
        raise NotAListing(clean_text(said) or f"no list of images, but {type(answer).__name__}")
    showings, unusable, changes = [], 0, []
    for entry in entries[: 2 * LARGEST_PAGE]:
        if not (text_at(entry, "mime") or "image/").startswith("image/"):
            continue
        showing = _showing(entry, address)
        if showing is None:
            unusable += 1
            continue
        showings.append(showing)
        changes.extend([showing.shown.uploaded_at] if showing.shown.uploaded_at else [])
    if unusable and not showings:
        raise NotAListing(f"none of its {unusable} entries is an image with an address")
    oldest = min(changes, default=None)
    return Listing(showings, _next(answer, address), None, unusable, oldest)


def _next(answer: object, address: str) -> str | None:
    """All that `continue` holds is to be sent back as it is."""
    more = found(answer, "continue")
    if not isinstance(more, dict) or not more:
        return None
    given = {
        name: str(value)
        for name, value in list(more.items())[:_MOST_CONTINUED]
        # Nothing else of the request may be changed by an answer.
        if re.fullmatch(r"[a-z]{1,10}continue|continue", name) and isinstance(value, str | int)
    }
    parts = urlsplit(address)
    query = {name: value for name, value in parse_qsl(parts.query) if not name.endswith("continue")}
    return address_of(address, urlunsplit(parts._replace(query=urlencode(query | given)))) if given else None


def _showing(entry: object, base: str) -> Showing | None:
    file = address_of(base, text_at(entry, "url"))
    if file is None:
        return None
    user = text_at(entry, "user")
    page = address_of(base, text_at(entry, "descriptionurl")) or file
    sha1 = (text_at(entry, "sha1") or "").lower()
    uploaded_at, source = dated("mediawiki timestamp", text_at(entry, "timestamp"))
    said = found(entry, "extmetadata")
    shown = ShownImage(
        file,
        uploader=clean_text(user),
        uploaded_at=uploaded_at,
        uploader_url=_user_page(page, user) if page != file else None,
        uploaded_at_source=source,
        caption=plain(text_at(said, "ImageDescription", "value")),
        licence=plain(text_at(said, "LicenseShortName", "value"), 200)
        or plain(text_at(said, "UsageTerms", "value"), 200)
        or address_of(base, text_at(said, "LicenseUrl", "value")),
        source_hash=f"sha1:{sha1}" if _SHA1.fullmatch(sha1) else None,
    )
    return Showing(page, 1, shown)


def _user_page(page: str, user: str | None) -> str | None:
    """The user's page, at the addresses of the wiki's pages; `User:` is understood in every language."""
    before, _, title = page.rpartition("/")
    if not user or ":" not in title.replace("%3A", ":"):
        return None
    name = quote(user.replace(" ", "_"), safe="")
    head, is_script, _ = title.partition("title=")
    return address_of(page, f"{before}/{head}title=User:{name}" if is_script else f"{before}/User:{name}")
