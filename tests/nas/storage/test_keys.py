import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from keys_contract import KeysContract, key_named

from nas.access import Role, new_key
from nas.storage import open_store
from nas.storage.memory import MemoryStore


class TestMemoryKeys(KeysContract):
    @pytest.fixture
    def keys(self) -> Any:
        return MemoryStore().keys


class TestSqlKeys(KeysContract):
    @pytest.fixture
    def keys(self, database: str) -> Iterator[Any]:
        store = open_store(database)
        yield store.keys
        store.close()

    def test_another_process_would_see_the_same(self, keys: Any, database: str) -> None:
        key = key_named("al")
        keys.add(key)
        other = open_store(database)
        assert list(other.keys.all()) == [key]
        other.keys.revoke("al", 7.0)
        other.close()
        assert keys.get(key.id).revoked_at == 7.0


def test_the_secret_is_nowhere_in_the_database(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/nas.db")
    key, text = new_key("al", Role.ADMIN, "default", 1.0)
    store.keys.add(key)
    store.close()
    secret = text.split("_", 2)[2]
    with sqlite3.connect(tmp_path / "nas.db") as connection:
        dump = "\n".join(connection.iterdump())
    assert key.id in dump
    assert key.digest in dump
    assert secret not in dump
    assert not any(secret.encode() in path.read_bytes() for path in tmp_path.iterdir())
