"""Where jobs and trials are remembered: in memory, in a SQLite file, or in PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from nas.storage.errors import DatabaseError, DatabaseOutOfDate, DatabaseTooNew

if TYPE_CHECKING:
    from nas.storage.memory import MemoryStore
    from nas.storage.sql import SqlStore

__all__ = ["DatabaseError", "DatabaseOutOfDate", "DatabaseTooNew", "open_store"]


@overload
def open_store(url: str, *, lease_seconds: float = 30.0) -> SqlStore: ...
@overload
def open_store(url: None, *, lease_seconds: float = 30.0) -> MemoryStore: ...
@overload
def open_store(url: str | None, *, lease_seconds: float = 30.0) -> MemoryStore | SqlStore: ...
def open_store(url: str | None, *, lease_seconds: float = 30.0) -> MemoryStore | SqlStore:
    """The store at a database URL, or a fresh one in memory for None.

    An empty database gets its tables; a SQLite file of an older version is upgraded.

    Raises:
        DatabaseError: for a URL that cannot be used, or a database that cannot be reached;
            `DatabaseOutOfDate` where `nas db upgrade` must be run first, `DatabaseTooNew` where a newer
            version made it.
    """
    if url is None:
        from nas.storage.memory import MemoryStore

        return MemoryStore(lease_seconds=lease_seconds)
    # imported here, for they take a fifth of a second that a store in memory can do without
    from nas.storage.migrate import make_ready
    from nas.storage.sql import SqlStore

    store = SqlStore(url, lease_seconds=lease_seconds)
    try:
        make_ready(store.database)
    except BaseException:
        store.close()
        raise
    return store
