"""`make demo`: the whole chain on a demo site.

python -m copywatch.demo [--exit]
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from types import FrameType

from copywatch.demo.judgement import Judgement, judge, report, write_result
from copywatch.demo.planting import OWNERS
from copywatch.demo.services import Services, claim_folder
from copywatch.demo.story import Story
from copywatch.errors import CopywatchError
from copywatch.settings import PROJECT_DIR

_LOOK_EVERY_SECONDS = 3.0


def _addresses(services: Services) -> str:
    admin, reviewer = services.accounts
    return "\n".join(
        [
            "",
            f"  Airflow UI   {services.airflow_url}",
            f"               user {admin.name}, password {admin.password}",
            f"  Review page  {services.airflow_url}/plugin/review",
            f"               user {reviewer.name}, password {reviewer.password}",
            f"  Portal       {services.portal_url}",
            f"               sign in as {OWNERS[0].email}; the code comes to the inbox",
            f"  Inbox        {services.inbox_url}",
            f"  Demo site    {services.site_url}",
            f"  Tables       {services.folder / 'warehouse'}",
            "",
        ]
    )


def _judged(story: Story, rounds: tuple[int, ...]) -> Judgement:
    return judge(story.planting, rounds, story.admin.alerts(), story.admin.reviews(), story.fetched)


def _stay_up(story: Story) -> None:
    """Until Ctrl-C; says so when a decision was made on the review page."""
    print("The demo stays up until Ctrl-C. Decide the waiting pairs on the review page and look into the inbox.")
    told = {alert["id"] for alert in story.admin.alerts() if alert["state"] == "sent"}
    while True:
        time.sleep(_LOOK_EVERY_SECONDS)
        for alert in story.admin.alerts():
            if alert["state"] == "sent" and alert["id"] not in told:
                told.add(alert["id"])
                print(f"alerted: {alert['protected_filename']}, found at {alert['page_url']}", flush=True)
        if not story.told_result and not story.admin.reviews("pending"):
            story.told_result = True
            print(report(_judged(story, (1, 2))), flush=True)


def _play(services: Services, unattended: bool) -> int:
    story = Story(services)
    story.start()
    print(_addresses(services), flush=True)
    story.protect()
    story.watch()
    if unattended:
        story.review()
    story.watch_again()
    if unattended:
        story.review()
    story.protect_later()
    if unattended:
        story.review()
    judgement = _judged(story, (1, 2))
    print(report(judgement))
    print(f"\nPeak memory of all processes: {services.peak_memory / 2**30:.2f} GiB")
    print(_addresses(services), flush=True)
    if not unattended:
        _stay_up(story)
    write_result(
        PROJECT_DIR / "demo-result.json",
        judgement,
        story.seconds,
        story.first_alert_seconds,
        services.peak_memory,
    )
    if judgement.unfetched:
        print(f"The second round should have fetched the new images only; it differs in {judgement.unfetched}")
    print("demo: every planted copy was alerted, nothing else" if judgement.right else "demo: FAILED, see above")
    return 0 if judgement.right else 1


def main() -> int:
    """Run the demo; the exit status is 0 if it went as it should."""
    parser = argparse.ArgumentParser(prog="make demo", description="The whole chain on a demo site.")
    parser.add_argument("--exit", action="store_true", help="decide the reviews itself, judge, end")
    unattended = parser.parse_args().exit

    def interrupted(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # Also where the shell that started us had it ignored (a background job of a script).
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    folder, lock = claim_folder(PROJECT_DIR / "var")
    services = Services(folder)
    try:
        return _play(services, unattended)
    except KeyboardInterrupt:
        print("\nending ...", flush=True)
        return 0 if not unattended else 130
    except CopywatchError as error:
        print(f"demo: {error}\nLogs are in {folder / 'logs'} and {folder / 'airflow' / 'logs'}", file=sys.stderr)
        return 1
    finally:
        # A second Ctrl-C must not leave processes behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        services.stop()
        lock.close()


if __name__ == "__main__":
    raise SystemExit(main())
