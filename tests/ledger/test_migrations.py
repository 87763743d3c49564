"""The migrated schema is what the models say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

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
