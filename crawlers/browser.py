"""The browser that reads pages which need JavaScript (`render: true` of a site): which one, and how it is started.

It is started without a way to any network. Whatever a page asks for, `crawlers.rendering` fetches and hands over, so
that the rules for connections are those of the rest of the crawl, in one place.
"""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from typing import Any

from copywatch.crawl import CrawlJob
from copywatch.errors import MachineError
from copywatch.sites import Site
from crawlers import settings as project

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_HANDLER = "crawlers.rendering.BrowserHandler"
_PAGES_AT_ONCE = 4
"""A page in a browser takes about 100 MiB."""

CONTEXT = "default"
_CONTEXT_OPTIONS: dict[str, Any] = {
    "accept_downloads": False,
    "service_workers": "block",
    "ignore_https_errors": True,
    "java_script_enabled": True,
    "permissions": [],
    "viewport": {"width": 1280, "height": 1600},
}
"""One context for the crawl, in memory only."""

_FLAGS = (
    # No name is resolved, and what an address spells out is a name to this rule too. Chromium before 118 takes the
    # word for a name; there is no such host either.
    "--host-resolver-rules=MAP * ^NOTFOUND",
    # A second bolt on the same door: everything goes by a proxy that cannot be found, loopback too. What the
    # environment says of proxies is not looked at then.
    "--proxy-server=http://nowhere.invalid:1",
    "--proxy-bypass-list=<-loopback>",
    # WebRTC connects to addresses that no resolver is asked for.
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--block-new-web-contents",
    "--disable-gpu",
    "--mute-audio",
    "--js-flags=--max-old-space-size=256",
)


def browser_program(wanted: str) -> str:
    """Path of the browser: the one that is asked for, or else the first that is found.

    Raises:
        MachineError: there is none.
    """
    names = (wanted,) if wanted else _PROGRAMS
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        what = f"COPYWATCH_BROWSER names {wanted!r}, which is no program" if wanted else "no browser is installed"
        raise MachineError(
            f"the site's pages need a browser (render: true), and {what}: install one (Debian: apt-get install "
            "chromium), or set COPYWATCH_BROWSER to a Chromium's path"
        )
    return found


def browser_settings(job: CrawlJob, site: Site) -> dict[str, Any]:
    """Scrapy's settings for a site whose pages a browser reads; none for other sites.

    Raises:
        MachineError: the extra `render` or a browser is missing.
    """
    if not site.render or job.only_images is not None:
        return {}
    if find_spec("scrapy_playwright") is None:
        raise MachineError(
            "the site's pages need a browser (render: true), and scrapy-playwright is not installed: install the extra "
            "'render' (pip install 'copywatch[render]')"
        )
    launch = {
        "executable_path": browser_program(job.browser),
        "args": list(_FLAGS),
        # Chromium's own sandbox does not work as root.
        "chromium_sandbox": os.geteuid() != 0,
        "handle_sigint": False,
        "handle_sigterm": False,
        "handle_sighup": False,
        "timeout": 30_000,
    }
    return {
        "DOWNLOAD_HANDLERS": {**project.DOWNLOAD_HANDLERS, "http": _HANDLER, "https": _HANDLER},
        "EXTENSIONS": {
            **project.EXTENSIONS,
            "crawlers.memory.ResidentMemory": None,
            "crawlers.rendering.RenderingMemory": 0,
        },
        "PLAYWRIGHT_LAUNCH_OPTIONS": launch,
        # Made at the start: a browser that does not start is known before anything is fetched.
        "PLAYWRIGHT_CONTEXTS": {CONTEXT: {**_CONTEXT_OPTIONS, "user_agent": job.user_agent}},
        "PLAYWRIGHT_MAX_CONTEXTS": 1,
        "PLAYWRIGHT_MAX_PAGES_PER_CONTEXT": min(site.concurrency, _PAGES_AT_ONCE),
        "PLAYWRIGHT_RESTART_DISCONNECTED_BROWSER": True,
    }
