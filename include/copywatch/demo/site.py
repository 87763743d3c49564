"""The demo site "Lumen", a small photo community, with an owner's own site and some sites that misbehave beside it.

    python -m copywatch.demo.site --port 8100 --owner-port 8101 --token secret [--forbidding-port 8102]

All run in one process, each on its own port. Every request for an image is recorded, so that it can be shown which
images a crawl fetched. Two addresses are the demo's own and need the token: `GET /-/requests` and
`POST /-/publish-round/N`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import ipaddress
import os
import secrets
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from math import ceil
from pathlib import Path, PurePosixPath

import uvicorn
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from ruamel.yaml import YAML
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from copywatch.demo import LOOPBACK, listen_on, serve_until_told
from copywatch.demo.planting import (
    MEDIA,
    MEMBERS,
    OWNER_WORK,
    PROTECTED,
    ROUNDS,
    THREADS,
    Owner,
    Planted,
    Planting,
    photo_bytes,
    plant,
)

TEMPLATES = Path(__file__).parent / "templates"
LOOPBACK_NAMES = [LOOPBACK, "localhost"]
PER_PAGE = 9
_NEWEST_ON_HOME = 6
_SLOW_SECONDS = 60.0
# Not the system's table: it differs between machines, and Python 3.11 knows no AVIF.
_IMAGE_KINDS = {".jpg": "jpeg", ".png": "png", ".gif": "gif", ".svg": "svg+xml", ".avif": "avif"}


def _pages(folder: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES / folder),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["day"] = lambda moment: f"{moment.day} {moment:%B %Y}"
    return environment


class RequestLog:
    """Which images were fetched, in order, from the site and the owner's. Who only asks whether one has changed (HEAD)
    fetches nothing."""

    def __init__(self) -> None:
        self._requests: list[dict[str, object]] = []

    def record(self, site: str, request: Request, status: int) -> None:
        """Note one request."""
        if request.method == "HEAD":
            return
        path = request.url.path
        number = len(self._requests) + 1
        at = datetime.now(UTC).isoformat()
        self._requests.append({"number": number, "site": site, "path": path, "status": status, "at": at})

    def since(self, number: int) -> dict[str, object]:
        """What came after request `number`: how many, the count of each path, and the requests themselves."""
        later = self._requests[max(number, 0) :]
        by_path = Counter(str(request["path"]) for request in later)
        return {"last": len(self._requests), "images": len(later), "by_path": dict(by_path), "requests": later}


def _image_response(request: Request, content: bytes, extension: str, changed: datetime) -> Response:
    tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
    headers = {
        "ETag": tag,
        "Last-Modified": format_datetime(changed, usegmt=True),
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=f"image/{_IMAGE_KINDS[extension]}", headers=headers)


class Lumen:
    """The photo community: what is published, and its pages."""

    def __init__(self, planting: Planting, *, token: str, owner_url: str, log: RequestLog) -> None:
        self._planting = planting
        self._token = token
        self._owner_url = owner_url.rstrip("/")
        self._log = log
        self._round = min(ROUNDS)
        self._content = {
            image.image_path: content for image in planting.images if (content := image.content()) is not None
        }
        self._templates = _pages("lumen")
        member_of = {member.name: member for member in MEMBERS.values()}
        self._templates.globals.update(
            member_of=member_of,
            address=self._address,
            rel=lambda number: f"/gallery/{number}" if number > 1 else "/gallery",
        )

    def _address(self, image: Planted) -> str:
        return f"{self._owner_url}{image.image_path}" if image.hot_linked else image.image_path

    @property
    def _published(self) -> list[Planted]:
        return [image for image in self._planting.images if image.round <= self._round]

    @property
    def _gallery(self) -> list[Planted]:
        """Photos, newest first; what the workshop shows is no part of the galleries."""
        photos = [image for image in self._published if image.page not in THREADS]
        return sorted(photos, key=lambda image: image.uploaded_at, reverse=True)

    def _page(self, template: str, status: int = 200, **values: object) -> HTMLResponse:
        return HTMLResponse(self._templates.get_template(template).render(**values), status)

    async def home(self, _: Request) -> Response:
        photos = self._gallery
        counts = Counter(image.uploader for image in photos)
        return self._page("home.html", newest=photos[:_NEWEST_ON_HOME], total=len(photos), counts=counts)

    async def gallery(self, request: Request) -> Response:
        number, photos = request.path_params.get("number", 1), self._gallery
        last = ceil(len(photos) / PER_PAGE)
        if not 1 <= number <= last:
            raise HTTPException(404)
        shown = photos[(number - 1) * PER_PAGE : number * PER_PAGE]
        return self._page("gallery.html", photos=shown, number=number, last=last, total=len(photos))

    async def photo(self, request: Request) -> Response:
        photos = self._gallery
        place = next((n for n, image in enumerate(photos) if image.page == request.url.path), None)
        if place is None:
            raise HTTPException(404)
        image = photos[place]
        more = [other for other in photos if other.uploader == image.uploader and other != image][:3]
        newer = photos[place - 1] if place else None
        older = photos[place + 1] if place + 1 < len(photos) else None
        return self._page("photo.html", image=image, more=more, newer=newer, older=older)

    async def members(self, _: Request) -> Response:
        counts = Counter(image.uploader for image in self._gallery)
        return self._page("members.html", members=MEMBERS.values(), counts=counts)

    async def member(self, request: Request) -> Response:
        member = MEMBERS.get(request.path_params["slug"])
        if member is None:
            raise HTTPException(404)
        photos = [image for image in self._gallery if image.uploader == member.name]
        return self._page("member.html", member=member, photos=photos)

    async def workshop(self, _: Request) -> Response:
        posts = Counter(image.page for image in self._published)
        return self._page("workshop.html", threads=THREADS, posts=posts)

    async def thread(self, request: Request) -> Response:
        title = THREADS.get(request.url.path)
        if title is None:
            raise HTTPException(404)
        posts = [image for image in self._published if image.page == request.url.path]
        return self._page("thread.html", title=title, posts=posts)

    async def about(self, _: Request) -> Response:
        return self._page("about.html")

    async def media(self, request: Request) -> Response:
        path = request.url.path
        image = next((image for image in self._published if image.image_path == path and not image.hot_linked), None)
        content = self._content.get(path)
        if image is None or content is None:
            self._log.record("lumen", request, 404)
            raise HTTPException(404)
        response = _image_response(request, content, PurePosixPath(path).suffix, image.uploaded_at)
        self._log.record("lumen", request, response.status_code)
        return response

    async def robots(self, request: Request) -> Response:
        return PlainTextResponse(f"User-agent: *\nDisallow: /-/\n\nSitemap: {request.base_url}sitemap.xml\n")

    async def sitemap(self, request: Request) -> Response:
        photos = self._gallery
        fixed = ["/", "/gallery", "/members", "/workshop", *THREADS, *(f"/members/{slug}" for slug in MEMBERS)]
        base = str(request.base_url).rstrip("/")
        body = self._templates.get_template("sitemap.xml").render(base=base, fixed=fixed, photos=photos)
        return Response(body, media_type="application/xml")

    async def not_found(self, _: Request, __: Exception) -> Response:
        return self._page("not_found.html", 404)

    def _refuse_strangers(self, request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        near = request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
        if not near or not secrets.compare_digest(given, f"Bearer {self._token}".encode()):
            raise HTTPException(403)

    async def requests(self, request: Request) -> Response:
        self._refuse_strangers(request)
        after = request.query_params.get("after", "0")
        if not after.isdecimal():
            raise HTTPException(422, "after is the number of a request")
        return JSONResponse({"round": self._round, **self._log.since(int(after))})

    async def publish_round(self, request: Request) -> Response:
        self._refuse_strangers(request)
        number = request.path_params["number"]
        if number not in ROUNDS:
            raise HTTPException(404)
        self._round = number
        new = [{"page": image.page, "image": self._address(image)} for image in self._planting.of_round(number)]
        return JSONResponse({"round": number, "posted": new})


def style_route(folder: str) -> Route:
    """The style sheet of one of the template folders, as `/style.css`."""

    async def style(_: Request) -> Response:
        return FileResponse(TEMPLATES / folder / "style.css", media_type="text/css")

    return Route("/style.css", style)


def create_site(planting: Planting, *, token: str, owner_url: str, log: RequestLog | None = None) -> Starlette:
    """The demo site as an ASGI application; renders every planted image at once.

    Args:
        planting: what it shows.
        token: opens the demo's own addresses, sent as `Authorization: Bearer TOKEN`.
        owner_url: address of the owner's site, that the hot-linked image is shown from.
        log: where requests for images are recorded; the same one for the owner's site counts both.
    """
    lumen = Lumen(planting, token=token, owner_url=owner_url, log=log or RequestLog())
    return Starlette(
        routes=[
            Route("/", lumen.home),
            Route("/gallery", lumen.gallery),
            Route("/gallery/{number:int}", lumen.gallery),
            Route("/photo/{slug}", lumen.photo),
            Route("/members", lumen.members),
            Route("/members/{slug}", lumen.member),
            Route("/workshop", lumen.workshop),
            Route("/workshop/{slug}", lumen.thread),
            Route("/about", lumen.about),
            Route(MEDIA + "{file}", lumen.media),
            Route("/robots.txt", lumen.robots),
            Route("/sitemap.xml", lumen.sitemap),
            style_route("lumen"),
            Route("/-/requests", lumen.requests),
            Route("/-/publish-round/{number:int}", lumen.publish_round, methods=["POST"]),
            Mount("/misbehaving", create_misbehaving_site()),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_NAMES, www_redirect=False)],
        exception_handlers={404: lumen.not_found},
    )


def create_owner_site(planting: Planting, *, log: RequestLog | None = None) -> Starlette:
    """The web site of the owner whose photo is hot-linked: a page and the original files."""
    owner: Owner = next(PROTECTED[image.source] for image in planting.images if image.hot_linked)
    originals = {f"{OWNER_WORK}{photo}": photo_bytes(photo) for photo in owner.photos}
    first_shown = min(image.uploaded_at for image in planting.images)
    page = _pages("owner").get_template("work.html").render(owner=owner, works=list(originals))
    requests = log or RequestLog()

    async def home(_: Request) -> Response:
        return HTMLResponse(page)

    async def work(request: Request) -> Response:
        content = originals.get(request.url.path)
        if content is None:
            requests.record("owner", request, 404)
            raise HTTPException(404)
        response = _image_response(request, content, ".jpg", first_shown)
        requests.record("owner", request, response.status_code)
        return response

    return Starlette(
        routes=[Route("/", home), Route(OWNER_WORK + "{file}", work), style_route("owner")],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_NAMES, www_redirect=False)],
    )


async def _good_picture(_: Request) -> Response:
    return Response(photo_bytes("06.jpg"), media_type="image/jpeg")


def create_misbehaving_site(*, slow_seconds: float = _SLOW_SECONDS) -> Starlette:
    """Pages and images that answer late, in circles, or with an error; `/mixed` shows them beside one good picture."""

    async def slow(_: Request) -> Response:
        await asyncio.sleep(slow_seconds)
        return PlainTextResponse("here at last\n")

    async def loop(request: Request) -> Response:
        way = request.path_params.get("way", "a")
        return RedirectResponse(request.url_for("loop", way="b" if way == "a" else "a"), 302)

    async def failing(request: Request) -> Response:
        status = int(request.path_params["status"])
        if status not in (404, 429, 500, 503):
            raise HTTPException(404)
        headers = {"Retry-After": "120"} if status == 429 else {}
        return PlainTextResponse(f"{status}\n", status, headers)

    async def mixed(request: Request) -> Response:
        base = f"{request.scope['root_path']}/"
        sources = ["slow", "loop", "status/404", "status/429", "status/500", "picture.jpg"]
        images = "".join(f'<figure><img src="{base}{source}" alt=""></figure>\n' for source in sources)
        return HTMLResponse(f"<!doctype html>\n<title>Mixed</title>\n{images}")

    return Starlette(
        routes=[
            Route("/slow", slow),
            Route("/loop", loop),
            Route("/loop/{way}", loop, name="loop"),
            Route("/status/{status:int}", failing),
            Route("/picture.jpg", _good_picture),
            Route("/mixed", mixed),
        ]
    )


def create_forbidding_site() -> Starlette:
    """A site whose robots.txt wants no crawler at all; its page would show a picture."""

    async def robots(_: Request) -> Response:
        return PlainTextResponse("User-agent: *\nDisallow: /\n")

    async def home(_: Request) -> Response:
        return HTMLResponse('<!doctype html>\n<title>Private</title>\n<img src="/picture.jpg" alt="">\n')

    return Starlette(routes=[Route("/robots.txt", robots), Route("/", home), Route("/picture.jpg", _good_picture)])


def _sites_yaml(starts: Mapping[str, str], every: str, hosts: Sequence[str] = LOOPBACK_NAMES) -> str:
    common = {"every": every, "delay_seconds": 0, "allow_private_addresses": True}
    # A list of its own for each site: one shared list would be written as an anchor and its aliases.
    sites = [{"name": name, "start": start, **common, "image_hosts": list(hosts)} for name, start in starts.items()]
    text = io.StringIO()
    YAML(typ="rt").dump({"sites": sites}, text)
    return text.getvalue()


def sites_yaml(site_port: int, owner_port: int, *, every: str = "1h") -> str:
    """A `sites.yaml` that watches the demo site, images that it shows from the owner's own site included."""
    hosts = (*LOOPBACK_NAMES, f"localhost:{owner_port}")
    return _sites_yaml({"lumen": f"http://{LOOPBACK}:{site_port}/"}, every, hosts)


def misbehaving_sites_yaml(site_port: int, forbidding_port: int, down_port: int, *, every: str = "1h") -> str:
    """A `sites.yaml` of sites in trouble; `down_port` is one that nobody listens on."""
    troubled = f"http://{LOOPBACK}:{site_port}/misbehaving"
    starts = {
        "down": f"http://{LOOPBACK}:{down_port}/",
        "slow": f"{troubled}/slow",
        "redirect-loop": f"{troubled}/loop",
        "not-found": f"{troubled}/status/404",
        "too-many-requests": f"{troubled}/status/429",
        "server-error": f"{troubled}/status/500",
        "forbidden-by-robots": f"http://{LOOPBACK}:{forbidding_port}/",
        "mixed": f"{troubled}/mixed",
    }
    return _sites_yaml(starts, every)


class _SiteOfPort:
    """Hands each request to the application of the port it came in by: several sites, one server."""

    def __init__(self, sites: Mapping[int, ASGIApp]) -> None:
        self._sites = sites
        self._any = next(iter(sites.values()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        site = self._any if scope["type"] == "lifespan" else self._sites[scope["server"][1]]
        await site(scope, receive, send)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the demo site and its neighbours until told to stop."""
    parent = os.getppid()
    parser = argparse.ArgumentParser(prog="copywatch.demo.site", description="Serve the demo site.")
    parser.add_argument("--port", type=int, required=True, help="port of the photo community")
    parser.add_argument("--owner-port", type=int, required=True, help="port of the owner's own site")
    parser.add_argument("--forbidding-port", type=int, help="port of a site that forbids crawlers; unset: no such site")
    parser.add_argument("--token", required=True, help="opens the demo's own addresses")
    given = parser.parse_args(arguments)

    log, planting = RequestLog(), plant()
    # Another host name than the community's, so that hot-linking is seen as such.
    owner_url = f"http://localhost:{given.owner_port}"
    ports = [given.port, given.owner_port, *([given.forbidding_port] if given.forbidding_port else [])]
    try:
        sockets = [listen_on(port) for port in ports]
    except OSError as error:
        print(error.strerror, file=sys.stderr)
        return 1
    sites: dict[int, ASGIApp] = {
        given.port: create_site(planting, token=given.token, owner_url=owner_url, log=log),
        given.owner_port: create_owner_site(planting, log=log),
    }
    if given.forbidding_port:
        sites[given.forbidding_port] = create_forbidding_site()
    config = uvicorn.Config(
        _SiteOfPort(sites),
        log_level="warning",
        access_log=False,
        lifespan="off",
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    print(f"Lumen: http://{LOOPBACK}:{given.port}/  owner's site: {owner_url}/", flush=True)
    with suppress(KeyboardInterrupt):
        asyncio.run(serve_until_told(uvicorn.Server(config), sockets, parent))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
