"""What a crawl of ten thousand known images costs, and how a sweep goes on where the last one ended."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from copywatch.crawl import CrawlStats, normal_url, url_hash
from copywatch.crawl_state import ImageState, StateFile
from tests.crawlers.hostile_site import HostileSite
from tests.crawlers.interfaces import ListedSite, Mastodon, MediaWiki, Rows, WordPress, crawls_of

KNOWN = 10_000
WHEN = datetime.now(UTC) - timedelta(days=1)
KINDS: dict[str, tuple[type[ListedSite], str]] = {
    "wordpress": (WordPress, WordPress.prefix),
    "mediawiki": (MediaWiki, "/w/api.php"),
    "mastodon": (Mastodon, "/api/v1/timelines/public"),
}


def settle(listed: ListedSite, state: Path, path: str) -> None:
    """The memory of a crawl that fetched everything that is shown."""
    images = []
    for post in listed.shown:
        url = listed.site.url(post.path)
        sha1, sha256 = hashlib.sha1(post.body).hexdigest(), hashlib.sha256(post.body).hexdigest()
        key = bytes.fromhex(url_hash(normal_url(url)))
        about = {"url_hash": key, "url": url, "page_url": url, "sha256": sha256, "checked_at": WHEN}
        source_hash = f"sha1:{sha1}" if isinstance(listed, MediaWiki) else None
        images.append(ImageState(**about, source_hash=source_hash, size=len(post.body)))
    with StateFile(state) as file:
        file.commit(images=images, notes={"cursor": {listed.site.url(path): WHEN.isoformat()}})


@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_known_images(
    site: HostileSite, run_crawl: Callable[..., CrawlStats], rows: Rows, tmp_path: Path, kind: str
) -> None:
    make, path = KINDS[kind]
    listed = make(site)
    site.on(path, listed)
    listed.add(KNOWN)
    hidden = [listed.posts[number] for number in (17, 5_000, 9_950)]
    for post in hidden:
        post.hidden = True
    state = tmp_path / "state.sqlite"
    settle(listed, state, path)
    again = crawls_of(kind, run_crawl, state)
    first_requests = KNOWN + KNOWN // {"wordpress": 100, "mediawiki": 500, "mastodon": 40}[kind]

    stats = again(listed, "unchanged", path=path)
    assert (stats.outcome, stats.images_fetched) == ("finished", 0)
    assert stats.requests <= 0.02 * first_requests
    unchanged = len(listed.asked_listings)

    for post in hidden:
        post.hidden = False
    back_dated = listed.add(1, at=datetime(2003, 1, 1, tzinfo=UTC))
    found: set[str] = set()
    for number in range(2):
        stats = again(listed, f"changed-{number}", path=path)
        # A listing's page on which something new is found is not counted against the budget.
        assert stats.requests <= 0.02 * first_requests + 2 * len(hidden + back_dated)
        found |= set(rows(f"changed-{number}"))
        if kind != "mastodon":
            break  # its pages hold too few for one crawl to sweep all of them
    assert found == listed.urls(hidden + back_dated)
    print(f"{kind}: {first_requests} requests of a first crawl; {unchanged} listings in one without changes")
