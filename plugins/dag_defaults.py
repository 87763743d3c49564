"""What all DAGs share: owner, retries with back-off, the interval of the sites file."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from copywatch.errors import SitesFileError
from copywatch.settings import settings
from copywatch.sites import load_sites

log = logging.getLogger(__name__)

OWNER_TAG = "copywatch"

DEFAULTS: dict[str, Any] = {
    "owner": "copywatch",
    "retries": 2,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=10),
    "execution_timeout": timedelta(hours=6),
}


def site_interval() -> timedelta:
    """Interval of `watch_sites`: the shortest of the sites file.

    A broken file must not take the DAG out of the UI: it then runs daily, and its first task says what is wrong.
    """
    try:
        return load_sites(settings().sites_file).shortest_interval
    except SitesFileError as error:
        log.warning("%s", error)
        return timedelta(days=1)
