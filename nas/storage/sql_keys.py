"""API keys in the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, insert, or_, select, update

from nas.access import ApiKey, Role
from nas.storage.database import Database
from nas.storage.errors import Duplicate
from nas.storage.keys import taken
from nas.storage.schema import api_keys


class SqlKeys:
    """See `nas.access.Keys`. Any thread or process may use it. Every method may raise `DatabaseError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, key: ApiKey) -> None:
        """Keep a new key. Raises `NameTaken`."""
        row = {**vars(key), "role": key.role.value}
        try:
            with self._database.writing() as connection:
                connection.execute(insert(api_keys), row)
        except Duplicate:
            raise taken(key) from None

    def get(self, key_id: str) -> ApiKey | None:
        """The key of this id, whether valid or not."""
        with self._database.reading() as connection:
            row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).first()
        return None if row is None else _key_of(row)

    def all(self) -> Sequence[ApiKey]:
        """All keys, by the time at which they were made."""
        with self._database.reading() as connection:
            rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)).all()
        return [_key_of(row) for row in rows]

    def revoke(self, which: str, at: float) -> ApiKey:
        """End a key, by name or id; one that is revoked stays as it is. Raises `KeyError`."""
        meant = or_(api_keys.c.name == which, api_keys.c.id == which)
        with self._database.writing() as connection:
            connection.execute(
                update(api_keys).where(meant, api_keys.c.revoked_at.is_(None)).values(revoked_at=at)
            )
            row = connection.execute(select(api_keys).where(meant)).first()
        if row is None:
            raise KeyError(which)
        return _key_of(row)


def _key_of(row: Row[Any]) -> ApiKey:
    return ApiKey(**{**row._mapping, "role": Role(row.role)})
