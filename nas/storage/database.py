"""One database: engine, transactions, and errors in plain words. SQLite and PostgreSQL differ here only."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, exc, make_url
from sqlalchemy.pool import ConnectionPoolEntry

from nas.storage.errors import DatabaseError, Duplicate

if TYPE_CHECKING:
    import psycopg

BUSY_SECONDS = 30.0
"""How long a writer waits for another one on SQLite."""
IDLE_SECONDS = 2.0
"""A connection that was not used for so long may have been cut, and is asked before it is used."""
_LIBPQ = {"connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""Seconds, and how often: a server that has vanished without a word is noticed within half a minute."""
_FORMS = "sqlite:///file.db or postgresql://user:password@host/database"


class Database:
    """A SQLite file in WAL mode, or a PostgreSQL database; safe for threads.

    On SQLite a writing transaction takes the write lock when it begins (``BEGIN IMMEDIATE``), so it never
    fails half-way because of another writer; a reading one sees a snapshot and stops nobody.

    Raises:
        DatabaseError: for a URL of another kind.
    """

    def __init__(self, url: str) -> None:
        self.url = _parse(url)
        self.engine = _sqlite(self.url) if self.is_sqlite else _postgresql(self.url)
        self._writer = self.engine.execution_options(nas_writes=True)
        self._single = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this machine."""
        return self.url.get_backend_name() == "sqlite"

    def __str__(self) -> str:
        """The address without user, password and options."""
        host = self.url.host or ""
        port = f":{self.url.port}" if self.url.port else ""
        return f"{self.url.get_backend_name()}://{host}{port}/{self.url.database or ''}"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database. Raises `DatabaseError`."""
        with self._errors(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is committed at the end. Raises `DatabaseError`."""
        with self._errors(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def writing_at_once(self) -> Iterator[Connection]:
        """Each statement is a transaction of its own. Raises `DatabaseError`."""
        with self._errors(), self._single.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close all idle connections; the next use opens new ones."""
        self.engine.dispose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except exc.IntegrityError as error:
            raise Duplicate(f"the database {self} has such a row already") from error
        except exc.DBAPIError as error:
            reason = " ".join(str(error.orig).split())
            raise DatabaseError(f"the database {self} cannot be used: {reason}") from error
        except exc.TimeoutError as error:
            raise DatabaseError(f"the database {self} is too busy: no connection was free in time") from error


def _parse(text: str) -> URL:
    """The URL, with a driver that is installed. The text itself never goes into a message."""
    try:
        url = make_url(text)
    except (exc.ArgumentError, ValueError):
        raise DatabaseError(f"not a database URL; allowed: {_FORMS}") from None
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise DatabaseError(f"{url.drivername}:// is not supported; allowed: {_FORMS}")
    if url.username or url.host or not url.database or url.database == ":memory:" or "mode" in url.query:
        raise DatabaseError("a SQLite URL must name a file: sqlite:///file.db, or sqlite:////absolute/file.db")
    return url


def _postgresql(url: URL) -> Engine:
    options = {name: value for name, value in _LIBPQ.items() if name not in url.query}
    engine = create_engine(url, pool_size=10, max_overflow=20, connect_args=options)
    engine.dialect.use_insertmanyvalues_wo_returning = True  # psycopg would send a statement a row
    event.listen(engine, "connect", _on_postgresql_connect)
    event.listen(engine, "checkin", _on_checkin)
    event.listen(engine, "checkout", partial(_on_checkout, engine.dialect))
    return engine


def _on_checkin(connection: object, record: ConnectionPoolEntry) -> None:
    record.info["back_at"] = time.monotonic()


def _on_checkout(dialect: Dialect, connection: Any, record: ConnectionPoolEntry, proxy: object) -> None:
    """Ask whether the connection still stands where it was idle; SQLAlchemy's own ping would ask every time."""
    if time.monotonic() - record.info.get("back_at", math.inf) < IDLE_SECONDS:
        return
    try:
        there = dialect.do_ping(connection)
    except Exception:
        there = False
    if not there:
        raise exc.DisconnectionError  # the pool then makes a new one


def _on_postgresql_connect(connection: psycopg.Connection, record: ConnectionPoolEntry) -> None:
    # A runner whose host vanished in the middle of a write must not keep its job locked until TCP notices.
    try:
        connection.autocommit = True
        connection.execute("SET idle_in_transaction_session_timeout = '60s'")
        # Before the server has counted a table it takes a job's trials for few, and would read and sort all that
        # follow a page; without bitmaps it reads them in the order of their index.
        connection.execute("SET enable_bitmapscan = off")
        connection.autocommit = False
    except BaseException:  # the server went away at this very moment; nobody else knows of the connection
        connection.close()
        raise


def _sqlite(url: URL) -> Engine:
    assert url.database
    folder = Path(url.database).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseError(f"the folder {folder} cannot be made: {error.strerror}") from None
    engine = create_engine(
        url, connect_args={"timeout": BUSY_SECONDS}, pool_size=10, max_overflow=20, paramstyle="named"
    )
    event.listen(engine, "connect", _on_sqlite_connect)
    event.listen(engine, "begin", _on_sqlite_begin)
    return engine


def _on_sqlite_connect(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    # Left alone, the driver begins a transaction at the first INSERT or UPDATE, after the reads before it.
    connection.isolation_level = None
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Syncing to disk is what costs; the log may grow to 40 MB before it must be.
    connection.execute("PRAGMA wal_autocheckpoint = 10000")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch a fresh file to WAL; SQLite does not wait by itself where several processes do so at once."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # the low byte; the rest says why
            if not busy or time.monotonic() > end:
                raise
        time.sleep(0.01)


def _on_sqlite_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("nas_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
