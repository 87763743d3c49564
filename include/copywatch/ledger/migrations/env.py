"""Alembic's environment: runs on the connection that `copywatch.ledger.database.migrate` hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

from copywatch.ledger.models import SCHEMA, Base

connection: Connection = context.config.attributes["connection"]
connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    version_table_schema=SCHEMA,
    include_schemas=True,
    include_name=lambda name, kind, parents: name == SCHEMA if kind == "schema" else True,
)
context.run_migrations()
