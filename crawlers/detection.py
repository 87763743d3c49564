"""Which kind of source an address is: what to ask, and what the answers prove. Nothing here makes a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from parsel import Selector
from scrapy.http import Response, TextResponse

from copywatch.sites import Kind, Selectors
from crawlers.failures import BodyTooLarge
from crawlers.listings import (
    Listing,
    NotAListing,
    address_of,
    feed,
    found,
    mastodon,
    mediawiki,
    read_json,
    sitemap,
    text_at,
    wordpress,
)
from crawlers.listings.xml import name_of, tree_of

_WORDPRESS_LINK = "https://api.w.org/"


@dataclass(frozen=True)
class Detected:
    """The kind of source that an address is."""

    kind: Kind
    start: list[str]
    """What a crawl of this kind begins at."""

    why: str
    """What was seen, in words, for the administrator."""


@dataclass(frozen=True)
class Candidate:
    """An interface that may be there, and the request that proves it."""

    kind: Kind
    start: str
    address: str
    """What to ask for."""

    hint: str
    """What made it likely, in words that follow "since"."""


def by_address(address: str) -> list[Candidate]:
    """What an address itself tells."""
    path = urlsplit(address).path
    if "/wp-json" in path or "rest_route=" in urlsplit(address).query:
        return [wordpress_at(endpoint, "the address is one of WordPress") for endpoint in wordpress.endpoints(address)]
    if path.endswith("/api.php"):
        return [mediawiki_at(mediawiki.endpoints(address)[0], "the address is one of MediaWiki")]
    if path.startswith("/api/v1/"):
        return [mastodon_at(address, "the address is one of Mastodon")]
    return []


def wordpress_at(endpoint: str, hint: str) -> Candidate:
    """WordPress's media behind an endpoint."""
    return Candidate("wordpress", endpoint, wordpress.listing_address(endpoint, per_page=1), hint)


def mediawiki_at(endpoint: str, hint: str) -> Candidate:
    """MediaWiki's images behind an endpoint."""
    return Candidate("mediawiki", endpoint, mediawiki.listing_address(endpoint, limit=1), hint)


def mastodon_at(address: str, hint: str) -> Candidate:
    """A timeline, or an account to be looked up."""
    endpoint = mastodon.endpoints(address)[0]
    if mastodon.account_name(address):
        return Candidate("mastodon", address, endpoint, hint)
    return Candidate("mastodon", endpoint, mastodon.listing_address(endpoint, limit=1), hint)


def by_content(response: Response) -> Detected | None:
    """A feed or a sitemap, by its root."""
    body = response.body
    try:
        body = sitemap.unpacked(body)
        if sitemap.is_one(body):
            sitemap.read_listing(body, response.url)
            return Detected("sitemap", [response.url], "the address answers with a sitemap")
        if body.lstrip()[:1] == b"<" and not _is_html(response):
            root = name_of(tree_of(body, response.url)[0])[1]
            if root in feed.ROOTS:
                feed.read_listing(body, response.url, Selectors())
                return Detected("feed", [response.url], f"the address answers with a feed (its root is {root})")
    except (NotAListing, BodyTooLarge):
        pass
    return None


def _is_html(response: Response) -> bool:
    head = response.body[:1000].lower()
    return b"<html" in head or b"<!doctype html" in head


def by_page(response: Response) -> Iterator[Candidate]:
    """What a page says that it was made by."""
    if not isinstance(response, TextResponse):
        return
    page = Selector(response.text[:500_000], type="html")
    base = response.url
    header = b", ".join(response.headers.getlist("Link")).decode("latin-1")
    roots = page.xpath("//link[@rel=$rel]/@href", rel=_WORDPRESS_LINK).getall()[:1]
    roots += [part.partition("<")[2].partition(">")[0] for part in header.split(",") if _WORDPRESS_LINK in part][:1]
    for root in dict.fromkeys(address_of(base, one) for one in roots):
        if root:
            endpoint = wordpress.endpoints(root)[0]
            yield wordpress_at(endpoint, "the page names WordPress's interface")
    makers = " ".join(page.xpath("//meta[@name='generator']/@content").getall()[:5]).lower()
    if not roots and "wordpress" in makers:
        for endpoint in wordpress.endpoints(base):
            yield wordpress_at(endpoint, "the page says that WordPress made it")
    edit = [link for link in page.xpath("//link[@rel='EditURI']/@href").getall()[:3] if "api.php" in link]
    if edit and (address := address_of(base, edit[0])):
        yield mediawiki_at(mediawiki.endpoints(address)[0], "the page names MediaWiki's interface")
    elif "mediawiki" in makers:
        for endpoint in mediawiki.endpoints(base)[:2]:
            yield mediawiki_at(endpoint, "the page says that MediaWiki made it")
    if mastodon.account_name(base):
        yield mastodon_at(base, "the address looks like an account's")


def instance_address(address: str) -> str:
    """Where a server that speaks like Mastodon says what it is."""
    return urljoin(address, "/api/v1/instance")


def is_instance(body: bytes) -> str | None:
    """What such a server calls itself; None: it is none."""
    try:
        answer = read_json(body)
    except NotAListing:
        return None
    name = text_at(answer, "uri") or text_at(answer, "domain")
    return name if name and (found(answer, "version") or found(answer, "title")) else None


def proof(candidate: Candidate, response: Response) -> Detected | str:
    """The kind of source, if the answer is what this interface gives; else why not."""
    if not 200 <= response.status < 300:
        return (
            f"{candidate.kind} did not answer ({candidate.hint}, but {candidate.address} gives HTTP {response.status})"
        )
    readers: dict[str, Callable[[], object]] = {
        "wordpress": lambda: wordpress.read_listing(response.body, response.url),
        "mediawiki": lambda: mediawiki.read_listing(response.body, response.url),
        "mastodon": lambda: _timeline_or_account(response),
    }
    try:
        readers[candidate.kind]()
    except NotAListing as error:
        return f"{candidate.hint}, but {candidate.address} gives: {error}"
    return Detected(candidate.kind, [candidate.start], f"{candidate.hint}, and that interface lists its images")


def _timeline_or_account(response: Response) -> Listing | str:
    if urlsplit(response.url).path.endswith("/lookup"):
        return mastodon.account_timeline(response.body, response.url)
    return mastodon.read_listing(response.body, response.url)


def sitemaps_to_try(response: Response) -> list[str]:
    """The sitemaps of a robots.txt, those first whose names promise images."""
    if response.status != 200:
        return []
    listed = [one.address for one in sitemap.sitemaps_of_robots(response.body, response.url)]
    return images_first(listed)


def images_first(addresses: list[str]) -> list[str]:
    """Addresses in which images are spoken of before the others."""
    return sorted(
        addresses, key=lambda address: not any(word in address.lower() for word in ("image", "photo", "media"))
    )


def of_sitemap(response: Response) -> tuple[bool, list[str]]:
    """Whether a sitemap names images, and the sitemaps of an index."""
    try:
        listing = sitemap.read_listing(response.body, response.url) if response.status == 200 else Listing([])
    except (NotAListing, BodyTooLarge):
        listing = Listing([])
    return bool(listing.showings), images_first([one.address for one in listing.pages if one.is_sitemap])
