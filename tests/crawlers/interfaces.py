"""Sites on loopback that list their images as the real ones do, from a table of posts that a test changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from copywatch.crawl import CrawlStats
from tests.crawlers.hostile_site import Handler, HostileSite, jpeg

Rows = Callable[..., dict[str, dict[str, Any]]]
Again = Callable[..., CrawlStats]

FIRST = datetime(2024, 1, 1, 12, 0, tzinfo=UTC)


@dataclass
class Post:
    """An image, and what is said of it."""

    number: int
    at: datetime
    by: str = "ada"
    caption: str = ""
    hidden: bool = False
    licence: str = "CC BY-SA 4.0"
    body: bytes = b""
    modified: datetime | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"/uploads/{self.number}.jpg"


@dataclass
class ListedSite:
    """Posts of a site, and the requests for its listings."""

    site: HostileSite
    posts: dict[int, Post] = field(default_factory=dict)
    page_size: int | None = None
    """The most that a page of the listing holds; None: as much as is asked for."""

    def add(self, count: int, *, at: datetime | None = None, **about: Any) -> list[Post]:
        """New posts, each an hour after the one before it, or all at a given time."""
        added = []
        for _ in range(count):
            number = max(self.posts, default=0) + 1
            moment = at or FIRST + timedelta(hours=number)
            post = Post(number, moment, caption=f"Picture {number}", body=jpeg(number), **about)
            self.posts[number] = post
            self.site.on(post.path, lambda handler, post=post: handler.answer(200, post.body, "image/jpeg"))
            added.append(post)
        return added

    @property
    def shown(self) -> list[Post]:
        """Those that are not hidden, by number."""
        return [post for _, post in sorted(self.posts.items()) if not post.hidden]

    def urls(self, posts: list[Post]) -> set[str]:
        """Their image addresses."""
        return {self.site.url(post.path) for post in posts}

    def forget(self) -> None:
        """Begin to count requests anew."""
        self.site.server.asked.clear()

    @property
    def asked(self) -> list[str]:
        """All that was asked for but robots.txt."""
        return [path for path, _, _ in self.site.server.asked if path != "/robots.txt"]

    @property
    def asked_images(self) -> list[str]:
        return [path for path in self.asked if path.startswith("/uploads/")]

    @property
    def asked_listings(self) -> list[str]:
        return [path for path in self.asked if not path.startswith("/uploads/")]


def crawls_of(kind: str, run_crawl: Callable[..., CrawlStats], state: Path) -> Again:
    """Crawls of one kind with one memory; requests are counted anew for each."""

    def crawl(listed: ListedSite, run: str, path: str = "/", **fields: Any) -> CrawlStats:
        listed.forget()
        return run_crawl(listed.site.url(path), run=run, kind=kind, state=state, **fields)

    return crawl


def arguments(handler: Handler) -> dict[str, str]:
    """The query's, the first of each."""
    return {name: values[0] for name, values in parse_qs(urlsplit(handler.path).query).items()}


def as_json(handler: Handler, value: object, status: int = 200, **headers: str) -> None:
    """A JSON answer."""
    handler.answer(status, json.dumps(value).encode(), "application/json; charset=utf-8", **headers)


def gmt(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


class WordPress(ListedSite):
    """WordPress 6: `/wp-json/wp/v2/media`."""

    prefix = "/wp-json/wp/v2/media"
    hears_modified_after = True

    def entry(self, post: Post) -> dict[str, Any]:
        url = self.site.url(post.path)
        return {
            "id": post.number,
            "date_gmt": gmt(post.at),
            "modified_gmt": gmt(post.modified or post.at),
            "link": self.site.url(f"/?attachment_id={post.number}"),
            "media_type": "image",
            "source_url": url,
            "author": 1,
            "caption": {"rendered": f"<p>{post.caption}</p>\n"},
            "_embedded": {"author": [{"name": post.by, "link": self.site.url(f"/author/{post.by}/")}]},
            **post.extra,
        }

    def __call__(self, handler: Handler) -> None:
        asked = arguments(handler)
        posts = self.shown
        if "after" in asked:
            posts = [post for post in posts if gmt(post.at) > asked["after"]]
        if "modified_after" in asked and self.hears_modified_after:
            posts = [post for post in posts if gmt(post.modified or post.at) > asked["modified_after"]]
        key = {"id": lambda post: post.number, "date": lambda post: post.at}[asked.get("orderby", "date")]
        posts = sorted(posts, key=key, reverse=asked.get("order", "desc") == "desc")
        size, page = int(asked.get("per_page", 10)), int(asked.get("page", 1))
        if not 1 <= size <= 100:
            as_json(handler, {"code": "rest_invalid_param"}, 400)
            return
        size = min(size, self.page_size or size)
        pages = -(-len(posts) // size)
        if page > max(pages, 1):
            as_json(handler, {"code": "rest_post_invalid_page_number", "data": {"status": 400}}, 400)
            return
        fields = {field.removesuffix(".author") for field in asked["_fields"].split(",")} - {"_links"}
        entries = [self.entry(post) for post in posts[(page - 1) * size : page * size]]
        # Nested names are not understood in media_details.
        entries = [{name: value for name, value in entry.items() if name in fields} for entry in entries]
        as_json(handler, entries, X_WP_Total=str(len(posts)), X_WP_TotalPages=str(pages))


class MediaWiki(ListedSite):
    """MediaWiki 1.4x: `list=allimages`."""

    def __call__(self, handler: Handler) -> None:
        asked = arguments(handler)
        if asked.get("list") != "allimages":
            as_json(handler, {"error": {"code": "badvalue", "info": "Unrecognized value"}})
            return
        posts = sorted(self.shown, key=lambda post: (post.at, post.number))
        start = asked.get("aistart", "")
        posts = [post for post in posts if gmt(post.at) + "Z" >= start]
        if "aicontinue" in asked:
            posts = [post for post in posts if self.key(post) >= asked["aicontinue"]]
        size = min(int(asked.get("ailimit", 10)), 500, self.page_size or 500)
        answer: dict[str, Any] = {"batchcomplete": True, "query": {"allimages": [self.entry(p) for p in posts[:size]]}}
        if posts[size:]:
            answer["continue"] = {"aicontinue": self.key(posts[size]), "continue": "-||"}
        as_json(handler, answer)

    @staticmethod
    def key(post: Post) -> str:
        return f"{post.at:%Y%m%d%H%M%S}|{post.number:09}.jpg"

    def entry(self, post: Post) -> dict[str, Any]:
        return {
            "name": f"{post.number}.jpg",
            "timestamp": gmt(post.at) + "Z",
            "user": post.by,
            "size": len(post.body),
            "url": self.site.url(post.path),
            "descriptionurl": self.site.url(f"/wiki/File:{post.number}.jpg"),
            "sha1": hashlib.sha1(post.body).hexdigest(),
            "mime": "image/jpeg",
            "extmetadata": {
                "LicenseShortName": {"value": post.licence, "source": "commons-desc-page"},
                "ImageDescription": {"value": f"<b>{post.caption}</b>"},
            },
            **post.extra,
        }


class Mastodon(ListedSite):
    """Mastodon 4: a timeline, newest first."""

    sends_link = True

    def __call__(self, handler: Handler) -> None:
        asked = arguments(handler)
        posts = list(reversed(self.shown))
        if "max_id" in asked:
            posts = [post for post in posts if post.number < int(asked["max_id"])]
        posts = posts[: min(int(asked.get("limit", 20)), 40, self.page_size or 40)]
        headers = {}
        if posts and self.sends_link:
            query = urlencode({**asked, "max_id": posts[-1].number})
            path = urlsplit(handler.path).path
            headers["Link"] = f'<{self.site.url(path)}?{query}>; rel="next", <{self.site.url(path)}>; rel="prev"'
        as_json(handler, [self.entry(post) for post in posts], **headers)

    def entry(self, post: Post) -> dict[str, Any]:
        return {
            "id": str(post.number),
            "created_at": gmt(post.at) + ".000Z",
            "url": self.site.url(f"/@{post.by}/{post.number}"),
            "content": "<p>words</p>",
            "account": {"acct": post.by, "display_name": post.by, "url": self.site.url(f"/@{post.by}")},
            "media_attachments": [
                {"type": "image", "url": self.site.url(post.path), "remote_url": None, "description": post.caption},
                {"type": "video", "url": self.site.url("/uploads/film.mp4")},
            ],
            **post.extra,
        }
