"""Bring a database to the schema of this version, or back. Two processes may try at once: one waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, column, inspect, select, table, text

from nas.storage.database import Database
from nas.storage.errors import DatabaseOutOfDate, DatabaseTooNew
from nas.storage.schema import REVISION

if TYPE_CHECKING:
    from alembic.config import Config

_VERSIONS = table("alembic_version", column("version_num"))
_LOCK = 7_027_713_311_402_311
"""Key of PostgreSQL's advisory lock; any number that nobody else uses."""

_ONE_THREAD = threading.Lock()
"""Alembic keeps the migration that runs in variables of its modules."""


def upgrade(url: str, revision: str = "head") -> None:
    """Create or upgrade the tables.

    Raises:
        DatabaseError: where it cannot be used; `DatabaseTooNew` where a newer version made it.
    """
    with closing(Database(url)) as database:
        _upgrade(database, revision)


def downgrade(url: str, revision: str) -> None:
    """Go back to a revision; ``base`` drops the tables, and all that is in them. Raises `DatabaseError`."""
    from alembic import command  # takes a third of a second: loaded only where there is something to do

    with closing(Database(url)) as database:
        _run(database, lambda config: command.downgrade(config, revision))


def current(url: str) -> str | None:
    """The revision of a database, None for one without our tables. Raises `DatabaseError`."""
    with closing(Database(url)) as database, database.reading() as connection:
        return _revision(connection)


def make_ready(database: Database) -> None:
    """See to it that the schema is this version's: create it, upgrade a SQLite file, or refuse.

    Raises:
        DatabaseError: where it cannot be used; `DatabaseOutOfDate` or `DatabaseTooNew` where it may not be.
    """
    with database.reading() as connection:
        found = _revision(connection)
    if found == REVISION:
        return
    if found is not None and found < REVISION and not database.is_sqlite:
        raise DatabaseOutOfDate(
            f"the database {database} has schema {found}, and this version needs {REVISION}; run: nas db upgrade"
        )
    _upgrade(database, "head")


def check_schema(database: Database) -> None:
    """Look whether the schema is this version's; changes nothing.

    Raises:
        DatabaseError: where it cannot be used; `DatabaseOutOfDate` or `DatabaseTooNew` for another schema.
    """
    with database.reading() as connection:
        found = _revision(connection)
    _refuse_newer(database, found)
    if found != REVISION:
        raise DatabaseOutOfDate(f"the database {database} has schema {found}, and this version needs {REVISION}")


def _upgrade(database: Database, revision: str) -> None:
    from alembic import command

    _run(database, lambda config: command.upgrade(config, revision))


def _run(database: Database, command: Callable[[Config], None]) -> None:
    """Run an alembic command in one transaction that keeps other migrations out."""
    from alembic.config import Config

    config = Config()
    folder = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with _ONE_THREAD, database.writing() as connection:
        if not database.is_sqlite:  # where the transaction itself holds the one write lock
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        _refuse_newer(database, _revision(connection))
        config.attributes["connection"] = connection
        command(config)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSIONS.name):
        return None
    return connection.execute(select(_VERSIONS.c.version_num)).scalar()


def _refuse_newer(database: Database, found: str | None) -> None:
    if found is not None and found > REVISION:
        raise DatabaseTooNew(
            f"the database {database} has schema {found}, and this version knows {REVISION} at most; "
            "use the version of nas-service that made it, or a newer one"
        )
