"""A whole Copywatch that has crawled once, and a browser logged in to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from copywatch.demo.services import Account, Services
from copywatch.demo.story import Story

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PICTURES = os.environ.get("COPYWATCH_PICTURES")
"""Folder that the README's pictures are written to; unset: none are."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium, headless. Playwright holds the thread's event loop, so it ends before other tests need one."""
    if CHROMIUM is None:
        pytest.skip("no chromium: install it (Debian: apt-get install chromium) to run the browser tests")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def story(browser: Browser, server_folder: Path) -> Iterator[Story]:
    """Everything up; photos protected, the site crawled, doubtful pairs on the review page."""
    services = Services(server_folder / "story")
    try:
        told = Story(services)
        told.start()
        told.protect()
        told.watch()
        yield told
    finally:
        services.stop()


@pytest.fixture
def log_in(browser: Browser, story: Story) -> Iterator[Callable[[Account], Page]]:
    """Log an account in to the Airflow UI, in a browser of its own; returns the page."""
    contexts = []

    def open_page(account: Account) -> Page:
        context = browser.new_context(viewport={"width": 1440, "height": 940}, base_url=story.services.airflow_url)
        contexts.append(context)
        page = context.new_page()
        page.goto("/auth/login")
        page.fill("input[name=username]", account.name)
        page.fill("input[name=password]", account.password)
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "/auth/" not in url, timeout=30_000)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def picture() -> Callable[[Page, str], None]:
    """Take one of the README's pictures, if they are wanted."""

    def take(page: Page, name: str) -> None:
        if PICTURES:
            page.screenshot(path=Path(PICTURES) / f"{name}.png")

    return take
