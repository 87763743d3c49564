"""Asks a service over HTTP whether it is well: what docker-compose.yaml runs inside the containers.

The image has no curl, and Airflow's own `airflow jobs check` imports all of Airflow at every look.

    python deploy/healthcheck.py http://localhost:8080/health
    python deploy/healthcheck.py http://spark-master:8080/json/ --expect status=ALIVE
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from typing import Any


def value_at(answer: Any, path: str) -> Any:
    """The value below dotted keys; None where there is none."""
    for key in path.split("."):
        answer = answer.get(key) if isinstance(answer, dict) else None
    return answer


def trouble(url: str, expected: str | None, seconds: float) -> str | None:
    """What is wrong with the service, or None."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:  # noqa: S310
            body = answer.read()
        if expected is None:
            return None
        path, _, wanted = expected.partition("=")
        found = value_at(json.loads(body), path)
    except (OSError, ValueError) as error:
        return f"{url}: {error}"
    return None if str(found) == wanted else f"{url}: {path} is {found}, not {wanted}"


def main() -> int:
    """Exit status 0: well; 1: not, and why."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--expect", metavar="KEY=VALUE", help="a value of the JSON answer; dots lead into objects")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long the answer may take")
    arguments = parser.parse_args()
    found = trouble(arguments.url, arguments.expect, arguments.seconds)
    print(found or "well")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
