"""Bring a database to the schema of this version, or back. Two processes may try at once: one waits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, column, inspect, select, table, text

from nas.storage.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

_VERSIONS = table("alembic_version", column("version_num"))
_LOCK = 7_027_713_311_402_311
"""Key of PostgreSQL's advisory lock; any number that nobody else uses."""


def upgrade(url: str, revision: str = "head") -> None:
    """Create or upgrade the tables. Raises `DatabaseError`."""
    from alembic import command

    _run(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> None:
    """Go back to a revision; ``base`` drops the tables, and all that is in them. Raises `DatabaseError`."""
    from alembic import command

    _run(url, lambda config: command.downgrade(config, revision))


def current(url: str) -> str | None:
    """The revision of a database, None for one without our tables. Raises `DatabaseError`."""
    database = Database(url)
    try:
        with database.reading() as connection:
            return revision_of(connection)
    finally:
        database.close()


def revision_of(connection: Connection) -> str | None:
    """The revision that a connection sees."""
    if not inspect(connection).has_table(_VERSIONS.name):
        return None
    return connection.execute(select(_VERSIONS.c.version_num)).scalar()


def _run(url: str, command: Callable[[Config], None]) -> None:
    """Run an alembic command in one transaction that keeps other migrations out."""
    from alembic.config import Config

    database = Database(url)
    config = Config()
    folder = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    try:
        with database.writing() as connection:
            if not database.is_sqlite:  # where the transaction itself holds the one write lock
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            config.attributes["connection"] = connection
            command(config)
    finally:
        database.close()
