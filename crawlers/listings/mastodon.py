"""Timelines of Mastodon and what speaks like it (docs.joinmastodon.org/methods/timelines, /methods/accounts)."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from crawlers.listings import (
    Listing,
    NotAListing,
    address_of,
    dated,
    found,
    next_link,
    plain,
    read_json,
    text_at,
)
from crawlers.pages import ShownImage
from crawlers.spiders.base import Showing
from crawlers.texts import clean_text

LARGEST_PAGE = 40
_ACCOUNT_PAGE = re.compile(r"/(?:@|users/|u/)([A-Za-z0-9_.-]{1,64})/?")
_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_MOST_ATTACHMENTS = 40


def origin(address: str) -> str:
    """Scheme and host of an address."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def account_name(address: str) -> str | None:
    """Whose page an address is; None: nobody's.

    >>> account_name("https://social.example/@ada")
    'ada'
    """
    match = _ACCOUNT_PAGE.fullmatch(urlsplit(address).path)
    return match[1] if match else None


def endpoints(address: str) -> list[str]:
    """The timeline of a server's address; one that is a timeline is kept. Of an account's page, where to look up its
    number, which `account_timeline` takes."""
    path = urlsplit(address).path
    if re.fullmatch(r"/api/v1/(?:timelines/.+|accounts/[A-Za-z0-9_-]+/statuses)/?", path):
        return [f"{origin(address)}{path}"]
    if name := account_name(address):
        return [f"{origin(address)}/api/v1/accounts/lookup?{urlencode({'acct': name})}"]
    return [f"{origin(address)}/api/v1/timelines/public"]


def account_timeline(body: bytes, address: str) -> str:
    """The timeline of the account that a lookup answered.

    Raises:
        NotAListing: it answered none.
    """
    answer = read_json(body)
    number = found(answer, "id")
    if not isinstance(number, str | int) or not _ID.fullmatch(str(number)):
        raise NotAListing(clean_text(text_at(answer, "error")) or "no account")
    return f"{origin(address)}/api/v1/accounts/{number}/statuses"


def listing_address(endpoint: str, limit: int = LARGEST_PAGE) -> str:
    """The listing, the newest first. On a public timeline, what this server's own people show."""
    given: dict[str, str | int] = {"only_media": "true", "limit": limit}
    given |= {"local": "true"} if "/timelines/" in endpoint else {"exclude_reblogs": "true"}
    return f"{endpoint}?{urlencode(given)}"


def read_listing(body: bytes, address: str, *, link: str | None = None) -> Listing:
    """A page of the listing. `link`: the Link header.

    Raises:
        NotAListing: it is none.
    """
    entries = read_json(body)
    if not isinstance(entries, list):
        raise NotAListing(clean_text(text_at(entries, "error")) or f"no list of posts, but {type(entries).__name__}")
    showings: list[Showing] = []
    unusable, last = 0, None
    for entry in entries[: 2 * LARGEST_PAGE]:
        number, attachments = found(entry, "id"), found(entry, "media_attachments")
        if not isinstance(number, str | int) or not _ID.fullmatch(str(number)) or not isinstance(attachments, list):
            unusable += 1
            continue
        last = str(number)
        showings += _showings(entry, attachments, address)
    if unusable and last is None:
        raise NotAListing(f"none of its {unusable} entries is a post")
    following = next_link(link, address)
    if following is None or origin(following) != origin(address):
        # What does not send the header understands max_id all the same.
        following = _before(address, last) if last else None
    return Listing(showings, following, None, unusable)


def _before(address: str, number: str) -> str:
    parts = urlsplit(address)
    query = {name: value for name, value in parse_qsl(parts.query) if name not in {"min_id", "since_id"}}
    return urlunsplit(parts._replace(query=urlencode(query | {"max_id": number})))


def _showings(entry: object, attachments: list[object], base: str) -> list[Showing]:
    account = found(entry, "account")
    name = clean_text(text_at(account, "display_name")) or clean_text(text_at(account, "acct"))
    page = address_of(base, text_at(entry, "url")) or address_of(base, text_at(entry, "uri")) or base
    uploaded_at, source = dated("mastodon created_at", text_at(entry, "created_at"))
    images = [one for one in attachments[:_MOST_ATTACHMENTS] if text_at(one, "type") == "image"]
    showings = []
    for image in images:
        # A file of another server is only copied here, and the copy is removed after a while.
        file = address_of(base, text_at(image, "remote_url")) or address_of(base, text_at(image, "url"))
        if file is None:
            continue
        shown = ShownImage(
            file,
            uploader=name,
            uploaded_at=uploaded_at,
            uploader_url=address_of(base, text_at(account, "url")),
            uploaded_at_source=source,
            caption=clean_text(text_at(image, "description"), 500) or plain(text_at(entry, "content")),
            licence=_licence(entry, image, base),
            version=clean_text(text_at(entry, "edited_at"), 60),
        )
        showings.append(Showing(page, len(images), shown))
    return showings


def _licence(entry: object, image: object, base: str) -> str | None:
    """Pixelfed's: an object, a text or nothing."""
    for value in (found(image, "license"), found(entry, "license")):
        said = address_of(base, text_at(value, "url")) or clean_text(text_at(value, "title"))
        if said or (isinstance(value, str) and (said := clean_text(value))):
            return said
    return None
