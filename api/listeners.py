"""Who holds event streams: so many at once, and each no longer than the API key is valid."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from api.access import KeyRing
from api.limits import network
from api.problems import Refused
from nas.access import ApiKey
from nas.storage import DatabaseError

LOOK = 3.0
"""Seconds between looks at a key whose streams are open; one look serves all of them."""
RETRY_AFTER = 5
"""Seconds after which somebody who holds too many may try again."""


@dataclass
class Holder:
    """An API key, or an address where none is needed, and its open streams. Belongs to the event loop."""

    streams: int = 0
    over: bool = False
    """The key is not valid any more."""
    task: asyncio.Task[None] | None = None
    """That looks at the key."""


class Listeners:
    """The holders of event streams; each is known from its first stream to its last.

    Args:
        ring: finds out whether keys are still valid; None: none is needed.
        most: streams of one holder.
        wake: has every stream look whether its holder is over.
    """

    def __init__(self, ring: KeyRing | None, most: int, wake: Callable[[], None]) -> None:
        self._ring, self._most, self._wake = ring, most, wake
        self._holders: dict[str, Holder] = {}

    @contextmanager
    def admitted(self, key: ApiKey | None, address: str) -> Iterator[Holder]:
        """Hold a stream for the length of the body. Raises `Refused`, 429, for one too many."""
        name = f"key {key.id}" if key else network(address)
        holder = self._holders.get(name) or self._new(name, key)
        if holder.streams >= self._most:
            whose = "API key" if key else "address"
            told = f"this {whose} holds {holder.streams} event streams, and may hold no more"
            headers = {"Retry-After": str(RETRY_AFTER)}
            raise Refused(429, f"{told}; close one, or try again in {RETRY_AFTER} s", headers=headers)
        holder.streams += 1
        try:
            yield holder
        finally:
            holder.streams -= 1
            if not holder.streams:
                del self._holders[name]
                if holder.task is not None:
                    holder.task.cancel()

    def _new(self, name: str, key: ApiKey | None) -> Holder:
        holder = self._holders[name] = Holder()
        if key is not None and self._ring is not None:
            holder.task = asyncio.create_task(self._watch(self._ring, holder, key))
        return holder

    async def _watch(self, ring: KeyRing, holder: Holder, key: ApiKey) -> None:
        try:
            while await _valid(ring, key):
                await asyncio.sleep(LOOK)
        finally:  # whatever happens: no stream goes on that nobody looks after
            holder.over = True
            self._wake()


async def _valid(ring: KeyRing, key: ApiKey) -> bool:
    try:
        return await ring.holds(key.id)
    except DatabaseError:  # no stream has anything to tell meanwhile
        return key.valid(time.time())
