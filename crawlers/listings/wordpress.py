"""WordPress's REST interface, `/wp/v2/media` (developer.wordpress.org/rest-api/reference/media)."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

from crawlers.listings import (
    Listing,
    NotAListing,
    address_of,
    dated,
    found,
    number_at,
    plain,
    read_json,
    text_at,
)
from crawlers.pages import ShownImage
from crawlers.spiders.base import Showing
from crawlers.texts import clean_text, parse_date

LARGEST_PAGE = 100
ROUTE = "/wp/v2/media"

# Of media_details only original_image is read, but WordPress (6.1) gives it whole or not at all.
_FIELDS = (
    "id,date_gmt,modified_gmt,link,post,author,caption,title,media_type,mime_type,source_url,"
    "media_details,_links.author,_embedded"
)


def endpoints(address: str) -> list[str]:
    """Where the interface may be, of a site's address, the likeliest first; one that is the interface is kept."""
    parts = urlsplit(address)
    query = dict(parse_qsl(parts.query))
    if parts.path.rstrip("/").endswith(ROUTE):
        return [urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))]
    if "rest_route" in query:
        return [urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode({"rest_route": ROUTE}), ""))]
    before, found_root, _ = parts.path.partition("/wp-json")
    if found_root:
        return [urlunsplit((parts.scheme, parts.netloc, f"{before}/wp-json{ROUTE}", "", ""))]
    folder = urljoin(address, ".") if parts.path else f"{address}/"
    return [f"{folder}wp-json{ROUTE}", f"{folder}?{urlencode({'rest_route': ROUTE})}"]


def listing_address(endpoint: str, page: int = 1, **arguments: str | int) -> str:
    """The address of a page of the listing."""
    given = {"media_type": "image", "per_page": LARGEST_PAGE, "_embed": "author", "_fields": _FIELDS, "page": page}
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(given | arguments)}"


def page_after(address: str) -> str:
    """The same listing's next page."""
    parts = urlsplit(address)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    query["page"] = str((number_at(query, "page") or 1) + 1)
    return urlunsplit(parts._replace(query=urlencode(query)))


def read_listing(body: bytes, address: str, *, total: str | None = None, pages: str | None = None) -> Listing:
    """A page of the listing. `total`, `pages`: the headers X-WP-Total and X-WP-TotalPages.

    Raises:
        NotAListing: it is none.
    """
    entries = read_json(body)
    if not isinstance(entries, list):
        said = clean_text(text_at(entries, "message")) or clean_text(text_at(entries, "code"))
        raise NotAListing(said or f"no list of media, but {type(entries).__name__}")
    showings, unusable, changes = [], 0, []
    instead = {}
    for entry in entries[: 2 * LARGEST_PAGE]:
        if text_at(entry, "media_type") not in (None, "image"):
            continue
        showing = _showing(entry, address)
        if showing is None:
            unusable += 1
            continue
        showings.append(showing)
        if (scaled := address_of(address, text_at(entry, "source_url"))) and scaled != showing.shown.address:
            instead[showing.shown.address] = scaled
        changed = parse_date(text_at(entry, "modified_gmt")) or showing.shown.uploaded_at
        changes.extend([changed] if changed else [])
    if unusable and not showings:
        raise NotAListing(f"none of its {unusable} entries is an image with an address")
    last = number_at([pages], 0)
    current = number_at(dict(parse_qsl(urlsplit(address).query)), "page") or 1
    more = current < last if last is not None else len(entries) >= LARGEST_PAGE
    following = page_after(address) if more and entries else None
    return Listing(showings, following, number_at([total], 0), unusable, min(changes, default=None), instead=instead)


def is_end(body: bytes) -> bool:
    """Whether a 400 answer says that the listing has no such page, which is its end."""
    try:
        return text_at(read_json(body), "code") == "rest_post_invalid_page_number"
    except NotAListing:
        return False


def scaled_address(entry_address: str, original: str | None) -> str | None:
    """The original beside a file that WordPress scaled down; None: there is no other.

    >>> scaled_address("https://a.example/up/photo-scaled.jpg", "photo.jpg")
    'https://a.example/up/photo.jpg'
    """
    if not original or "/" in original or "\\" in original or original in {".", ".."}:
        return None
    # In it "?" and "#" are parts of a file's name.
    return address_of(entry_address, f"./{quote(original)}")


def _showing(entry: object, base: str) -> Showing | None:
    file = address_of(base, text_at(entry, "source_url"))
    if file is None:
        return None
    author = found(entry, "_embedded", "author", 0)
    uploaded_at, source = dated("wordpress date_gmt", _utc(entry, "date_gmt"))
    shown = ShownImage(
        scaled_address(file, text_at(entry, "media_details", "original_image")) or file,
        uploader=plain(text_at(author, "name"), 200),
        uploaded_at=uploaded_at,
        uploader_url=address_of(base, text_at(author, "link")),
        uploaded_at_source=source,
        caption=plain(text_at(entry, "caption", "rendered")) or plain(text_at(entry, "title", "rendered")),
        version=clean_text(text_at(entry, "modified_gmt"), 60),
    )
    return Showing(_page(entry, base, file), 1, shown)


def _page(entry: object, base: str, file: str) -> str:
    """The attachment's own page. Where that is off, WordPress gives the file: then the post that it was put into."""
    link = address_of(base, text_at(entry, "link"))
    post = number_at(entry, "post")
    if link and (link != file or not post):
        return link
    home = address_of(base, base.partition("wp-json")[0].partition("?")[0]) or base
    return f"{home}?p={post}" if post else file


def _utc(entry: object, name: str) -> str | None:
    text = text_at(entry, name)
    return f"{text}+00:00" if text and "T" in text and "+" not in text and not text.endswith("Z") else text
