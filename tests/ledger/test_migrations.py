"""The migrated schema is what the models say."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from copywatch.ledger.database import connect, migrate
from copywatch.ledger.models import SCHEMA, Base

pytestmark = pytest.mark.integration


def differences(url: str) -> list[object]:
    engine = connect(url)
    try:
        with engine.connect() as connection:
            options = {
                "include_schemas": True,
                "compare_type": True,
                "compare_server_default": True,
                "version_table_schema": SCHEMA,
                "include_name": lambda name, kind, _: name == SCHEMA if kind == "schema" else True,
            }
            return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))
    finally:
        engine.dispose()


def test_the_models_equal_the_migrated_schema(ledger_url: str):
    assert differences(ledger_url) == []


def test_the_comparison_sees_a_difference(ledger_url: str):
    engine = connect(ledger_url)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE copywatch.alerts DROP COLUMN last_error"))
        connection.execute(sa.text("DROP INDEX copywatch.ix_copywatch_reviews_state"))
    engine.dispose()
    assert len(differences(ledger_url)) == 2


def test_migrating_again_and_at_once_changes_nothing(ledger_url: str):
    def again(_: int) -> None:
        engine = connect(ledger_url)
        migrate(engine)
        engine.dispose()

    with ThreadPoolExecutor(3) as several:
        list(several.map(again, range(3)))
    assert differences(ledger_url) == []


def test_evidence_of_before_the_second_rule_is_the_papers(postgres_server: str):
    """Upgraded from 0002 with a row in it, and back."""
    from alembic import command
    from alembic.config import Config

    import copywatch.ledger

    server = connect(postgres_server).execution_options(isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(sa.text("DROP DATABASE IF EXISTS before_0003"))
        connection.execute(sa.text("CREATE DATABASE before_0003"))
    url = sa.make_url(postgres_server).set(database="before_0003").render_as_string(hide_password=False)
    engine = connect(url)
    config = Config()
    config.set_main_option("script_location", str(Path(copywatch.ledger.__file__).parent / "migrations"))
    columns = "sighting_id, protected_id, owner_id, run, site, page_url, image_url, crawled_at, verdict, distance, "
    columns += "algorithm, threshold, found_sha256, found_address, protected_address, protected_filename"

    def to(revision: str, move: Callable[[Config, str], None]) -> None:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            move(config, revision)

    try:
        to("0002", command.upgrade)
        with engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO copywatch.owners (email, name) VALUES ('a@x.example', '')"))
            connection.execute(
                sa.text(
                    f"INSERT INTO copywatch.evidence ({columns}) VALUES ('s', 'p', 1, 'r', 'x', 'u', 'i', now(), 1, "
                    "0.2, 'mao/1', 0.47, 'ab', 'evidence/ab/ab', 'o', '')"
                )
            )
        to("0003", command.upgrade)
        with engine.begin() as connection:
            row = connection.execute(
                sa.text("SELECT rule, plain_distance, view, registered_later, found_address FROM copywatch.evidence")
            ).one()
            assert tuple(row) == ("paper", None, None, False, "evidence/ab/ab")
            connection.execute(sa.text("UPDATE copywatch.evidence SET found_address = NULL"))
        to("0002", command.downgrade)
        with engine.begin() as connection:
            assert (
                connection.execute(sa.text("SELECT found_address FROM copywatch.evidence")).scalar() == "evidence/ab/ab"
            )
    finally:
        engine.dispose()
        with server.connect() as connection:
            connection.execute(sa.text("DROP DATABASE before_0003 WITH (FORCE)"))
        server.dispose()
