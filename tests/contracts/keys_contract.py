"""What every place for API keys must keep."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from nas.access import ApiKey, NameTaken, Role, new_key, opens


def key_named(name: str, at: float = 1000.0, **changes: Any) -> ApiKey:
    return replace(new_key(name, Role.SUBMITTER, "vision", at)[0], **changes)


class KeysContract:
    """Subclasses give the fixture `keys`: an empty place for keys."""

    def test_a_key_reads_back_as_it_was_given(self, keys: Any) -> None:
        for role in Role:
            key = key_named(f"{role}@example.org", role=role, expires_at=2000.25)
            keys.add(key)
            assert keys.get(key.id) == key
            assert keys.get(key.id).role is role
        assert keys.get("aaaaaaaaaa") is None

    def test_keys_are_listed_by_age(self, keys: Any) -> None:
        assert list(keys.all()) == []
        made = [key_named(f"n{at}", float(at)) for at in (30, 10, 20)]
        for key in made:
            keys.add(key)
        assert [k.created_at for k in keys.all()] == [10.0, 20.0, 30.0]

    def test_a_name_is_taken_for_ever(self, keys: Any) -> None:
        first = key_named("al")
        keys.add(first)
        for _ in range(2):
            with pytest.raises(NameTaken, match="al"):
                keys.add(key_named("al"))
            keys.revoke("al", 5.0)
        assert [k.id for k in keys.all()] == [first.id]

    def test_one_of_many_gets_a_name(self, keys: Any) -> None:
        def add(_: int) -> bool:
            try:
                keys.add(key_named("al"))
            except NameTaken:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(add, range(8))) == [False] * 7 + [True]

    @pytest.mark.parametrize("by", ["name", "id"])
    def test_revoking_ends_a_key_once(self, keys: Any, by: str) -> None:
        key, other = key_named("al"), key_named("bo")
        keys.add(key)
        keys.add(other)
        assert keys.revoke(getattr(key, by), 1500.0) == replace(key, revoked_at=1500.0)
        assert keys.revoke(getattr(key, by), 1600.0) == replace(key, revoked_at=1500.0)
        assert keys.get(key.id) == replace(key, revoked_at=1500.0)
        assert keys.get(other.id) == other

    def test_what_is_not_there_cannot_be_revoked(self, keys: Any) -> None:
        keys.add(key_named("al"))
        with pytest.raises(KeyError):
            keys.revoke("AL", 1.0)
        assert keys.all()[0].revoked_at is None

    def test_what_is_kept_tells_right_from_wrong(self, keys: Any) -> None:
        key, text = new_key("al", Role.VIEWER, "vision", 1.0)
        keys.add(key)
        assert opens(text, keys.get(key.id))
        assert not opens(new_key("bo", Role.VIEWER, "vision", 1.0)[1], keys.get(key.id))
