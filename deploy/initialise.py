"""What the service `airflow-init` does before the others start; doing it again changes nothing.

It checks the secrets, brings both databases to the newest version, creates the Delta tables, the pools, the role
Reviewer and the first administrator.

    python deploy/initialise.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

REVIEW_DAG = "review_matches"
REVIEWER_ROLE = "Reviewer"
REVIEWER_PERMISSIONS = (
    # The DAG that decisions are made for: see it, and make it act.
    ("can_read", f"DAG:{REVIEW_DAG}"),
    ("can_edit", f"DAG:{REVIEW_DAG}"),
    ("can_read", f"DAG Run:{REVIEW_DAG}"),
    ("can_create", f"DAG Run:{REVIEW_DAG}"),
    # What the UI asks for to show that DAG; which DAGs it shows is narrowed above.
    ("can_read", "DAG Runs"),
    ("can_read", "DAG Versions"),
    ("can_read", "Task Instances"),
    ("can_read", "Task Logs"),
    ("can_read", "Website"),
    # The menu entry of the review page is a plugin's.
    ("can_read", "Plugins"),
    ("menu_access", "DAGs"),
    ("can_read", "My Password"),
    ("can_edit", "My Password"),
    ("can_read", "My Profile"),
    ("can_edit", "My Profile"),
)
_LEAST_SECRET = 32
_LEAST_PASSWORD = 12
_URL = re.compile(r"postgresql\+psycopg2://\w+:[\w.~-]+@[^@/?#]*/\w+(\?.*)?", re.ASCII)
"""A password outside these characters would have to be escaped in the URL, and Compose cannot do that."""


def troubles(environment: Mapping[str, str]) -> list[str]:
    """What is wrong with the secrets, each with the name of its variable in `.env`."""
    found = []
    for name, variable in {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "AIRFLOW_DB_PASSWORD",
        "COPYWATCH_DATABASE_URL": "LEDGER_DB_PASSWORD",
    }.items():
        if not _URL.fullmatch(environment.get(name, "")):
            found.append(f"{variable} may have letters, digits and . _ ~ - only: openssl rand -hex 24")
    for name, variable in {
        "AIRFLOW__API__SECRET_KEY": "AIRFLOW_SECRET_KEY",
        "AIRFLOW__API_AUTH__JWT_SECRET": "AIRFLOW_JWT_SECRET",
    }.items():
        if len(environment.get(name, "")) < _LEAST_SECRET:
            found.append(f"{variable} must have at least {_LEAST_SECRET} characters: openssl rand -hex 32")
    if len(environment.get("AIRFLOW_ADMIN_PASSWORD", "")) < _LEAST_PASSWORD:
        found.append(f"AIRFLOW_ADMIN_PASSWORD must have at least {_LEAST_PASSWORD} characters: openssl rand -base64 15")
    if not _is_fernet_key(environment.get("AIRFLOW__CORE__FERNET_KEY", "")):
        found.append("AIRFLOW_FERNET_KEY is no Fernet key: openssl rand -base64 32 | tr '+/' '-_'")
    return found


def _is_fernet_key(text: str) -> bool:
    from cryptography.fernet import Fernet

    try:
        # Airflow takes several, divided by commas, while a key is changed.
        return all(Fernet(key) for key in text.split(","))
    except ValueError:
        return False


def migrate_airflow() -> None:
    """Bring Airflow's tables to the version of the image, those of its users with them."""
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True)


def migrate_ledger() -> None:
    """Bring the ledger's tables to the version of the image."""
    from copywatch.ledger.database import connect, ledger_url, migrate
    from copywatch.settings import settings

    migrate(connect(ledger_url(settings())))


def create_lake() -> None:
    """Create the Delta tables that are missing and the folders that people put files into."""
    from copywatch.lake.tables import create_tables
    from copywatch.settings import settings

    config = settings()
    for folder in (config.intake, config.landing):
        folder.mkdir(parents=True, exist_ok=True)
    create_tables(config.warehouse)


def make_pools(environment: Mapping[str, str]) -> None:
    """Give the pools of crawls and Spark jobs the sizes that the variables say."""
    from airflow.models.pool import Pool

    for name, variable, what in (
        ("crawl", "CRAWL_POOL_SLOTS", "sites crawled at once"),
        ("spark", "SPARK_POOL_SLOTS", "Spark jobs at once"),
    ):
        Pool.create_or_update_pool(name, int(environment[variable]), what, include_deferred=False)


def make_people(environment: Mapping[str, str]) -> None:
    """Make the role Reviewer, and the first administrator unless a user of that name is there.

    What an administrator added to the role is kept; what belongs to it and is missing is added.
    """
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as builder:
        manager = builder.sm
        manager.sync_roles()
        role = manager.find_role(REVIEWER_ROLE) or manager.add_role(REVIEWER_ROLE)
        for action, resource in REVIEWER_PERMISSIONS:
            permission = manager.create_permission(action, resource)
            if permission not in role.permissions:
                manager.add_permission_to_role(role, permission)
        name = environment["AIRFLOW_ADMIN_USER"]
        if manager.find_user(username=name):
            print(f"init: user {name} is there; its password is left as it is")
            return
        made = manager.add_user(
            name,
            "Copywatch",
            "Administrator",
            environment["AIRFLOW_ADMIN_EMAIL"],
            manager.find_role("Admin"),
            environment["AIRFLOW_ADMIN_PASSWORD"],
        )
        if not made:
            raise SystemExit(f"init: user {name} could not be made; is its mail address another user's?")


def main() -> int:
    """Do it all, saying what is done and how long it took."""
    if wrong := troubles(os.environ):
        print("init: the secrets are not fit for use; see deploy/variables.env.example", file=sys.stderr)
        print("\n".join(f"init:   {one}" for one in wrong), file=sys.stderr)
        return 1
    steps: dict[str, Callable[[], None]] = {
        "Airflow's tables": migrate_airflow,
        "the ledger's tables": migrate_ledger,
        "the Delta tables": create_lake,
        "the pools": lambda: make_pools(os.environ),
        "roles and the first administrator": lambda: make_people(os.environ),
    }
    for name, work in steps.items():
        begun = time.monotonic()
        work()
        print(f"init: {name}: ready ({time.monotonic() - begun:.1f} s)", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
