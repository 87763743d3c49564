"""One Airflow asset for each Delta table: what joins the DAGs."""

from __future__ import annotations

from airflow.sdk import Asset

PROTECTED = Asset(name="protected", uri="copywatch://lake/protected")
DETECTED = Asset(name="detected", uri="copywatch://lake/detected")
SEEN = Asset(name="seen", uri="copywatch://lake/seen")
MATCHES = Asset(name="matches", uri="copywatch://lake/matches")
REJECTED = Asset(name="rejected", uri="copywatch://lake/rejected")
CRAWL_STATS = Asset(name="crawl_stats", uri="copywatch://lake/crawl_stats")
THRESHOLDS = Asset(name="thresholds", uri="copywatch://lake/thresholds")
