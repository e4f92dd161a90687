"""API keys in this process, for as long as it lives."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from nas.access import ApiKey, NameTaken


class MemoryKeys:
    """See `nas.access.Keys`. Any thread may use it."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}
        self._lock = threading.Lock()

    def add(self, key: ApiKey) -> None:
        """Keep a new key. Raises `NameTaken`."""
        with self._lock:
            if any(key.name == other.name or key.id == other.id for other in self._keys.values()):
                raise taken(key)
            self._keys[key.id] = key

    def get(self, key_id: str) -> ApiKey | None:
        """The key of this id, whether valid or not."""
        with self._lock:
            return self._keys.get(key_id)

    def all(self) -> Sequence[ApiKey]:
        """All keys, by the time at which they were made."""
        with self._lock:
            return sorted(self._keys.values(), key=lambda k: (k.created_at, k.id))

    def revoke(self, which: str, at: float) -> ApiKey:
        """End a key, by name or id; one that is revoked stays as it is. Raises `KeyError`."""
        with self._lock:
            found = next((k for k in self._keys.values() if which in (k.name, k.id)), None)
            if found is None:
                raise KeyError(which)
            if found.revoked_at is None:
                found = self._keys[found.id] = replace(found, revoked_at=at)
            return found


def taken(key: ApiKey) -> NameTaken:
    """The refusal of a name."""
    return NameTaken(f"there is, or was, an API key with the name {key.name}; allowed: a name that was never used")
