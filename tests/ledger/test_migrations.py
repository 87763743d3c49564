"""The migrated schema is what the models say."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

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


class OldLedger:
    """A ledger at some revision."""

    def __init__(self, engine: sa.Engine) -> None:
        from alembic.config import Config

        import copywatch.ledger

        self._engine = engine
        self._config = Config()
        self._config.set_main_option("script_location", str(Path(copywatch.ledger.__file__).parent / "migrations"))

    def to(self, revision: str) -> None:
        """Upgrade, or downgrade, to a revision."""
        from alembic import command

        with self._engine.begin() as connection:
            self._config.attributes["connection"] = connection
            at = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA}).get_current_revision()
            (command.upgrade if at is None or at < revision else command.downgrade)(self._config, revision)

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a statement, if it has any."""
        with self._engine.begin() as connection:
            done = connection.execute(sa.text(statement))
            return [tuple(row) for row in done] if done.returns_rows else []


@pytest.fixture
def old_ledger(postgres_server: str) -> Iterator[OldLedger]:
    """A ledger of revision 0002 with one evidence and its review in it."""
    server = connect(postgres_server).execution_options(isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(sa.text("DROP DATABASE IF EXISTS old_ledger"))
        connection.execute(sa.text("CREATE DATABASE old_ledger"))
    url = sa.make_url(postgres_server).set(database="old_ledger").render_as_string(hide_password=False)
    engine = connect(url)
    old = OldLedger(engine)
    old.to("0002")
    columns = "sighting_id, protected_id, owner_id, run, site, page_url, image_url, crawled_at, verdict, distance, "
    columns += "algorithm, threshold, found_sha256, found_address, protected_address, protected_filename"
    old.run("INSERT INTO copywatch.owners (email, name) VALUES ('a@x.example', '')")
    old.run(
        f"INSERT INTO copywatch.evidence ({columns}) VALUES ('s', 'p', 1, 'r', 'x', 'u', 'i', now(), 1, "
        "0.2, 'mao/1', 0.47, 'ab', 'evidence/ab/ab', 'o', '')"
    )
    old.run("INSERT INTO copywatch.reviews (evidence_id, state) VALUES (1, 'pending')")
    yield old
    engine.dispose()
    with server.connect() as connection:
        connection.execute(sa.text("DROP DATABASE old_ledger WITH (FORCE)"))
    server.dispose()


def test_evidence_of_before_the_second_rule_is_the_papers(old_ledger: OldLedger):
    """Upgraded from 0002 with a row in it, and back."""
    old_ledger.to("0003")
    (row,) = old_ledger.run(
        "SELECT rule, plain_distance, view, registered_later, found_address FROM copywatch.evidence"
    )
    assert row == ("paper", None, None, False, "evidence/ab/ab")
    old_ledger.run("UPDATE copywatch.evidence SET found_address = NULL")
    old_ledger.to("0002")
    assert old_ledger.run("SELECT found_address FROM copywatch.evidence") == [("evidence/ab/ab",)]


def test_evidence_of_before_verification_is_not_verified(old_ledger: OldLedger):
    """Upgraded from 0004 with a row in it, and back: what had left the queue waits again."""
    old_ledger.to("0004")
    old_ledger.to("0005")
    names = "verification, probability, unverified, edit, explanation_address"
    assert old_ledger.run(f"SELECT {names} FROM copywatch.evidence") == [(None,) * 5]
    old_ledger.run("UPDATE copywatch.reviews SET state = 'different'")
    old_ledger.to("0004")
    assert old_ledger.run("SELECT state FROM copywatch.reviews") == [("pending",)]
    with pytest.raises(sa.exc.ProgrammingError, match="verification"):
        old_ledger.run(f"SELECT {names} FROM copywatch.evidence")


def test_settled_addresses_of_before_the_crawls_state_stay_settled(old_ledger: OldLedger):
    """Upgraded from 0005 with rows in it, and back."""
    old_ledger.to("0005")
    old_ledger.run(
        "INSERT INTO copywatch.crawled_images (site, url_hash, run, settled_at) "
        "VALUES ('a', '\\x01', 'r', '2026-11-01T00:00Z')"
    )
    old_ledger.run("INSERT INTO copywatch.crawl_cursors (site, last_run) VALUES ('a', 'r')")
    old_ledger.to("0006")
    rows = old_ledger.run("SELECT url, page_url, sha256, etag, checked_at = settled_at FROM copywatch.crawled_images")
    assert rows == [("", "", None, None, True)]
    rows = old_ledger.run("SELECT failures, interval_seconds, blocked_until, source FROM copywatch.crawl_cursors")
    assert rows == [(0, None, None, None)]
    assert old_ledger.run("SELECT licence, uploader_url FROM copywatch.evidence") == [(None, None)]
    old_ledger.run("INSERT INTO copywatch.crawl_notes VALUES ('a', 'cursor', '1', 'r')")
    old_ledger.to("0005")
    assert old_ledger.run("SELECT site, run FROM copywatch.crawled_images") == [("a", "r")]
    tables = "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'crawl%' ORDER BY 1"
    assert old_ledger.run(tables) == [("crawl_cursors",), ("crawled_images",)]
    columns = "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'copywatch' AND table_name = "
    assert old_ledger.run(columns + "'crawled_images'") == [(4,)]
    assert old_ledger.run(columns + "'crawl_cursors'") == [(5,)]
    old_ledger.to("0006")
