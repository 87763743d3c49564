"""What a reviewer and an administrator do in the Airflow UI, in a real browser, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Frame, Page, expect

from copywatch.demo.airflow_api import wait_until
from copywatch.demo.services import Account
from copywatch.demo.story import Story

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

LogIn = Callable[[Account], Page]
Picture = Callable[[Page, str], None]


def review_frame(page: Page, story: Story) -> Frame:
    """The review page inside the UI, as the navigation leads to it."""
    page.goto("/")
    page.get_by_text("Review", exact=True).first.click()
    start = f"{story.services.airflow_url}/copywatch/"
    wait_until(lambda: page.wait_for_timeout(200) or any(f.url.startswith(start) for f in page.frames), "its frame", 30)
    frame = next(frame for frame in page.frames if frame.url.startswith(start))
    frame.wait_for_selector("article.pair", timeout=30_000)
    return frame


def alerts_of(story: Story, evidence: int) -> list[dict[str, Any]]:
    """Alerts of one evidence."""
    return [alert for alert in story.admin.alerts() if alert["evidence_id"] == evidence]


def test_a_decision_in_the_browser_lets_the_dag_go_on(story: Story, log_in: LogIn, picture: Picture) -> None:
    """Accepting sends the owner a mail; refusing sends nothing; both leave the page."""
    wait_until(story.sensor_waits, "review_matches waits on its sensor", 120)
    waiting = {review["id"]: review for review in story.reviewer.reviews("pending")}
    assert len(waiting) >= 2
    page = log_in(story.services.accounts[1])
    frame = review_frame(page, story)
    page.wait_for_timeout(1500)
    picture(page, "review")
    accepted, refused = sorted(waiting)[:2]
    for identifier in (accepted, refused):
        pictures = frame.locator(f"article.pair[data-review='{identifier}'] img")
        assert pictures.count() >= 2
        pictures.first.scroll_into_view_if_needed()
        for place in range(2):
            wait_until(
                lambda place=place, pictures=pictures: pictures.nth(place).evaluate(
                    "i => i.complete && i.naturalWidth > 0"
                ),
                "the picture is shown",
                20,
            )
    frame.locator(f"article.pair[data-review='{accepted}'] .accept").click()
    expect(frame.locator(f"article.pair[data-review='{accepted}'] .accept")).to_be_hidden(timeout=20_000)
    frame.locator(f"article.pair[data-review='{refused}'] .refuse").click()
    expect(frame.locator(f"article.pair[data-review='{refused}'] .refuse")).to_be_hidden(timeout=20_000)

    evidence = waiting[accepted]["evidence_id"]
    wait_until(lambda: [one["state"] for one in alerts_of(story, evidence)] == ["sent"], "the alert is sent", 180)
    copy = waiting[accepted]
    mails = [mail for mail in story.mails() if copy["page_url"] in mail["text"] and copy["image_url"] in mail["text"]]
    assert [mail["to"] for mail in mails if copy["owner_email"] in str(mail["to"])], "the owner got the mail"
    assert len(mails) == 1
    assert not alerts_of(story, waiting[refused]["evidence_id"])
    decided = {review["id"]: review for review in story.reviewer.reviews()}
    assert (decided[accepted]["state"], decided[accepted]["decided_by"]) == ("accepted", "reviewer")
    assert (decided[refused]["state"], decided[refused]["decided_by"]) == ("refused", "reviewer")


def test_the_administrator_sees_sites_docs_and_links(story: Story, log_in: LogIn, picture: Picture) -> None:
    """Mapped tasks are named by site, the DAG's page tells what it does, the run's rows open inside the UI."""
    run = story.admin.runs("watch_sites")[0]["dag_run_id"]
    page = log_in(story.services.accounts[0])
    page.goto(f"/dags/watch_sites/runs/{run}")
    page.wait_for_selector("text=send_alerts", timeout=30_000)
    page.keyboard.press("g")  # the graph instead of the grid
    page.wait_for_selector(".react-flow__node", timeout=30_000)
    page.wait_for_timeout(2000)
    picture(page, "watch_sites")
    page.goto(f"/dags/watch_sites/runs/{run}/tasks/crawl/mapped/0")
    expect(page.get_by_text("lumen").first).to_be_visible(timeout=30_000)
    links = story.admin.request("GET", f"/api/v2/dags/watch_sites/dagRuns/{run}/taskInstances/crawl/links?map_index=0")
    found = links["extra_links"]
    assert found["Site"] == f"{story.services.site_url}/"
    page.goto(found["Rows of this run"])
    start = f"{story.services.airflow_url}/copywatch/runs/"
    wait_until(lambda: page.wait_for_timeout(200) or any(f.url.startswith(start) for f in page.frames), "the rows", 30)
    frame = next(frame for frame in page.frames if frame.url.startswith(start))
    frame.wait_for_selector("text=rejected", timeout=30_000)
    assert "SVG" in frame.content()
