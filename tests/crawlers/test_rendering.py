"""Sites whose pages need JavaScript, read by a real browser."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from copywatch import crawl as crawling
from copywatch.errors import CrawlFailed, Reason
from copywatch.settings import Settings
from crawlers.spiders.base import PAGE_BYTES
from tests.crawlers.hostile_site import Handler, HostileSite, jpeg, redirect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium (Debian: apt-get install chromium)")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """As an installation has them: a browser takes its time on a busy machine."""
    return settings.model_copy(update={"crawl_timeout_seconds": 20})


FAR_DOWN = """
<div id="gallery"></div><div style="height: 6000px"></div><div id="end"></div>
<script src="/gallery.js"></script>
"""
GALLERY = """
const show = name => document.querySelector("#gallery").insertAdjacentHTML("beforeend", `<img src="${name}">`);
fetch("/list.json").then(answer => answer.json()).then(names => names.forEach(show));
const link = document.body.appendChild(document.createElement("a"));
link.href = "/second";
new IntersectionObserver((seen, observer) => {
  if (seen.some(one => one.isIntersecting)) { observer.disconnect(); show("/lazy.jpg"); }
}).observe(document.querySelector("#end"));
"""
SECOND = """
<script>
for (const path of ["/moved", "/gone", "/elsewhere"])
  document.write(`<a href="${path}">more</a>`);
const waits = new Image();
waits.onload = () => document.body.insertAdjacentHTML("beforeend", `<img src="${waits.src}">`);
waits.src = "/loaded.jpg";
</script>
"""


@dataclass
class Processes:
    """Browser processes that were started below this one."""

    seen: dict[int, psutil.Process] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self.done.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                try:
                    if any(name in " ".join(process.cmdline()[:2]) for name in ("chrom", "playwright")):
                        self.seen[process.pid] = process
                except psutil.Error:
                    pass


@contextmanager
def watched() -> Iterator[Processes]:
    """Note the browser's processes; at the end there were some, and none is left."""
    processes = Processes()
    thread = threading.Thread(target=processes.watch)
    thread.start()
    try:
        yield processes
    finally:
        processes.done.set()
        thread.join()
    assert len(processes.seen) > 2
    _, left = psutil.wait_procs(processes.seen.values(), timeout=5)
    assert left == []


@needs_browser
def test_script_made_gallery(site: HostileSite, run_crawl, rows, tmp_path) -> None:
    def page(text: str) -> Callable[[Handler], None]:
        return lambda handler: handler.answer(
            200, text.encode(), ETag='"same"', Last_Modified="Mon, 02 Jan 2023 10:00:00 GMT"
        )

    def listed(handler: Handler) -> None:
        handler.answer(200, ('["/0.jpg", "/1.jpg"' + ', "/2.jpg"' * later + "]").encode(), "application/json")

    later = 0
    names = ["0", "1", "2", "lazy", "loaded", "third"]
    site.on("/", page(FAR_DOWN))
    site.on("/gallery.js", lambda handler: handler.answer(200, GALLERY.encode(), "text/javascript"))
    site.on("/list.json", listed)
    site.on("/second", page(SECOND))
    site.on("/moved", redirect("/third"))
    site.on("/third", page("<script>document.write('<img src=\"/third.jpg\">')</script>"))
    for number, name in enumerate(names):
        site.on(f"/{name}.jpg", jpeg(number))

    state = tmp_path / "site.sqlite"
    # As if nobody had known that it needs JavaScript: the validators of that time must not stand in the way.
    assert run_crawl(site.url(), state=state, run="plain").images_found == 0
    with HostileSite() as other, watched():
        site.on("/elsewhere", redirect(other.url("/page", host="localhost")))
        other.on("/page", "<script>document.write('<img src=\"/other.jpg\">')</script>")
        stats = run_crawl(site.url(), state=state, render=True)
        assert "/other.jpg" not in [path for path, _, _ in other.server.asked]
    found = rows()
    images = {url for url, row in found.items() if row["bytes"]}
    assert images == {site.url(f"/{name}.jpg") for name in names if name != "2"}
    assert (stats.outcome, stats.images_fetched, stats.pages) == ("finished", 5, 3)
    gone = found[site.url("/gone")]
    assert (gone["reason"], gone["http_status"]) == (Reason.HTTP_STATUS.value, 404)
    assert [site.times(f"/{name}.jpg") for name in names] == [1, 1, 0, 1, 1, 1], "the browser fetches no image"
    assert site.times("/robots.txt") >= 1
    assert {headers["User-Agent"].split("/")[0] for _, _, headers in site.server.asked} == {"Copywatch"}

    # The document is the same, to its validators; what its script lists is not.
    later = 1
    site.server.asked.clear()
    again = run_crawl(site.url(), state=state, render=True, run="run-2")
    assert again.images_fetched == 1
    assert [url for url, row in rows("run-2").items() if row["bytes"]] == [site.url("/2.jpg")]
    asked = [headers for path, _, headers in site.server.asked if path in {"/", "/second", "/third"}]
    assert asked
    assert not [headers for headers in asked if "If-None-Match" in headers or "If-Modified-Since" in headers]


def ways_out(host: str, port: int, udp: int) -> str:
    """A page that tries to reach a TCP and a UDP port of a host by every way that pages have."""
    away = f"http://{host}:{port}"
    return f"""<html><head>
<link rel="prefetch" href="{away}/prefetch"><link rel="preconnect" href="{away}"><link rel="dns-prefetch" href="{away}">
<link rel="stylesheet" href="{away}/style.css"><link rel="icon" href="{away}/icon.ico">
<script type="speculationrules">{{"prefetch": [{{"source": "list", "urls": ["{away}/guessed"]}}]}}</script>
</head><body><img src="/own.jpg"><img src="{away}/image.jpg">
<iframe src="{away}/frame"></iframe><iframe src="file:///etc/passwd"></iframe><iframe src="chrome://version"></iframe>
<iframe src="/led-away"></iframe><object data="{away}/object"></object><embed src="{away}/embed">
<video src="{away}/video.mp4"></video>
<script>
const attempt = async one => {{ try {{ await one(); }} catch (error) {{}} }};
attempt(() => fetch("{away}/fetch"));
attempt(() => fetch("{away}/fetch", {{mode: "no-cors", method: "POST", body: "x"}}));
attempt(() => fetch("/led-away"));
attempt(() => navigator.sendBeacon("{away}/beacon", "x"));
attempt(() => new WebSocket("ws://{host}:{port}/socket"));
attempt(() => new EventSource("{away}/events"));
attempt(() => new WebTransport("https://{host}:{port}/transport"));
const source = text => URL.createObjectURL(new Blob([text]));
attempt(() => new Worker(source("fetch('{away}/worker'); new WebSocket('ws://{host}:{port}/')")));
attempt(() => new SharedWorker(source("fetch('{away}/shared')")));
attempt(() => navigator.serviceWorker.register("/worker.js"));
attempt(() => import("{away}/module.js"));
attempt(() => open("{away}/window"));
attempt(async () => {{
  const servers = ["stun:{host}:{udp}", "turn:{host}:{port}?transport=tcp"];
  const one = new RTCPeerConnection({{iceServers: servers.map(urls => ({{urls, username: "a", credential: "b"}}))}});
  const two = new RTCPeerConnection();
  one.createDataChannel("out");
  await one.setLocalDescription(await one.createOffer());
  await two.setRemoteDescription(one.localDescription);
  await two.setLocalDescription(await two.createAnswer());
  await one.setRemoteDescription(two.localDescription);
  for (const there of ["udp 2130706431 {host} {udp} typ host", "tcp 1518280447 {host} {port} typ host tcptype passive"])
    await one.addIceCandidate({{candidate: "candidate:1 1 " + there, sdpMid: "0", sdpMLineIndex: 0}});
}});
setTimeout(() => attempt(() => {{ location = "{away}/navigation"; }}), 400);
</script></body></html>"""


@contextmanager
def listening(host: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP and a UDP socket that wait for whoever comes."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tcp, socket.socket(family, socket.SOCK_DGRAM) as udp:
        for one in (tcp, udp):
            one.bind((host, 0))
            one.setblocking(False)
        tcp.listen(64)
        yield tcp, udp


def reached(one: socket.socket) -> bool:
    """Whether somebody connected, or sent something."""
    try:
        if one.type == socket.SOCK_STREAM:
            one.accept()[0].close()
        else:
            one.recv(4096)
    except BlockingIOError:
        return False
    return True


def attack(site: HostileSite, host: str, tcp: socket.socket, udp: socket.socket, path: str = "/") -> None:
    """A page of the site that tries to get to the sockets."""
    port = tcp.getsockname()[1]
    site.on(path, ways_out(host, port, udp.getsockname()[1]))
    site.on("/led-away", redirect(f"http://{host}:{port}/led"))
    site.on("/own.jpg", jpeg(1))
    site.on("/worker.js", lambda handler: handler.answer(200, b"fetch('/x')", "text/javascript"))


@needs_browser
def test_the_ways_out_lead_out_of_a_browser_as_it_comes(site: HostileSite) -> None:
    """So that the next test shows something."""
    from playwright.sync_api import sync_playwright

    with listening("127.0.0.1") as (tcp, udp), sync_playwright() as playwright:
        attack(site, "127.0.0.1", tcp, udp)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu"])
        browser.new_page().goto(site.url(), wait_until="commit")
        deadline = time.monotonic() + 10
        both = {tcp: False, udp: False}
        while time.monotonic() < deadline and not all(both.values()):
            both = {one: was or reached(one) for one, was in both.items()}
            time.sleep(0.1)
        browser.close()
    assert all(both.values())


@needs_browser
def test_pages_reach_nothing_past_the_crawl(site: HostileSite, run_crawl, rows, monkeypatch) -> None:
    with ExitStack() as stack, watched():
        sockets = []
        starts = []
        for host in ("127.0.0.1", "[::1]", "localhost", "2130706433"):
            pair = stack.enter_context(listening("::1" if host == "[::1]" else "127.0.0.1"))
            sockets += pair
            starts.append(f"/{len(starts)}")
            attack(site, host, *pair, path=starts[-1])
        proxy, _ = stack.enter_context(listening("127.0.0.1"))
        sockets.append(proxy)
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        # A host that is the site's by its address, but not by its name, and the cloud's metadata service.
        asked = [site.url("/secret", host="localhost"), "http://169.254.169.254/", "/private/x", "/open"]
        site.on("/names", f"<script>for (const address of {asked}) fetch(address)</script>")
        site.on("/robots.txt", lambda handler: handler.answer(200, b"User-agent: *\nDisallow: /private", "text/plain"))
        monkeypatch.setattr(crawling, "_ENVIRONMENT", (*crawling._ENVIRONMENT, "http_proxy", "all_proxy", "HTTP_PROXY"))
        stats = run_crawl([site.url(path) for path in (*starts, "/names")], render=True, kind="page", concurrency=2)
        assert [one for one in sockets if reached(one)] == []
    assert stats.pages == 5
    assert rows()[site.url("/own.jpg")]["bytes"] == jpeg(1)
    assert [site.times(path) for path in ("/secret", "/private/x", "/open")] == [0, 0, 1]
    assert {headers["Host"] for _, _, headers in site.server.asked} == {f"127.0.0.1:{site.port}"}
    assert site.times("/worker.js") == 0


@needs_browser
def test_pages_that_do_not_behave(site: HostileSite, run_crawl, rows, settings) -> None:
    def hang(handler: Handler) -> None:
        time.sleep(20)

    site.on("/hangs", hang)
    site.on(
        "/endless",
        "<img src='/0.jpg'><script>setInterval(() => fetch('/more'), 50)</script>"
        "<script src='/hangs'></script><img src='/1.jpg'>",
    )
    site.on("/loop", "<img src='/never.jpg'><script>while (true) {}</script>")
    site.on("/huge", f"<script>document.write('<p hidden>' + 'x'.repeat({PAGE_BYTES}))</script>")
    site.on(
        "/windows",
        """<a id=d href='/file' download>file</a><script>
        alert(1); confirm(2); prompt(3); print(); onbeforeunload = () => "stay";
        for (let n = 0; n < 20; n++) open("/window" + n);
        d.click(); setTimeout(() => { location = "/navigated"; }, 100);
        document.write("<img src='/2.jpg'>");
        Element.prototype.__defineGetter__("outerHTML", () => "<img src='/lie.jpg'>");
        </script>""",
    )
    for number in range(3):
        site.on(f"/{number}.jpg", jpeg(number))
    quick = settings.model_copy(update={"crawl_timeout_seconds": 10})
    with watched():
        starts = [site.url(path) for path in ("/endless", "/loop", "/huge", "/windows")]
        stats = run_crawl(starts, render=True, kind="page", settings=quick, concurrency=2)
    found = rows()
    assert {url for url, row in found.items() if row["bytes"]} == {site.url(f"/{number}.jpg") for number in range(3)}
    reasons = {url: row["reason"] for url, row in found.items() if not row["bytes"]}
    assert reasons == {site.url("/loop"): Reason.TIMEOUT.value, site.url("/huge"): Reason.TOO_LARGE.value}
    assert stats.pages == 2
    asked = {path for path, _, _ in site.server.asked}
    assert not asked & {"/file", "/navigated", "/lie.jpg", *(f"/window{number}" for number in range(20))}
    assert site.times("/loop") == 1


@pytest.mark.parametrize(
    ("browser", "words"),
    [
        ("/no/such/browser", "COPYWATCH_BROWSER names '/no/such/browser', which is no program: install one"),
        ("", "no browser is installed: install one"),
        ("false", "the browser could not be started"),
    ],
)
def test_no_browser(
    site: HostileSite, run_crawl, settings, monkeypatch, tmp_path: Path, browser: str, words: str
) -> None:
    site.on("/", "<img src='/0.jpg'>")
    if not browser:
        monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CrawlFailed, match=words):
        run_crawl(site.url(), render=True, settings=settings.model_copy(update={"browser": browser}))
    assert site.server.asked == []


def test_extra_not_installed(site: HostileSite, run_crawl, monkeypatch, tmp_path: Path) -> None:
    program = tmp_path / "without.py"
    program.write_text(
        "import sys, crawlers.run\nsys.modules['scrapy_playwright'] = None\nsys.exit(crawlers.run.main(sys.argv[1:]))\n"
    )
    start = subprocess.Popen

    def start_without(command: list[str], **options: object) -> object:
        return start([command[0], "-P", str(program), command[-1]], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(crawling.subprocess, "Popen", start_without)
    site.on("/", "<img src='/0.jpg'>")
    with pytest.raises(CrawlFailed, match=r"scrapy-playwright is not installed: install the extra 'render'"):
        run_crawl(site.url(), render=True)
    assert site.server.asked == []
    site.on("/0.jpg", jpeg(0))
    assert run_crawl(site.url()).images_fetched == 1, "other sites need neither"


@needs_browser
def test_a_killed_crawl_takes_its_browser_along(site: HostileSite, run_crawl, settings) -> None:
    site.on("/", "<script>while (true) {}</script>")

    def kill() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not site.times("/"):
            time.sleep(0.05)
        time.sleep(1)
        (child,) = [one for one in psutil.Process(os.getpid()).children() if "crawlers.run" in " ".join(one.cmdline())]
        child.kill()

    thread = threading.Thread(target=kill)
    with watched():
        thread.start()
        with pytest.raises(CrawlFailed, match="ended by signal 9"):
            run_crawl(site.url(), render=True, settings=settings.model_copy(update={"crawl_timeout_seconds": 30}))
        thread.join()
