"""Submissions with a `warm_start`, one at a time: each reads as many trials as there is memory for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated, TypeAlias, cast

from fastapi import Depends, Request

from api.problems import Refused

WAITING = 4
"""Requests that may be here at once: each holds a thread, which others want."""
WAIT = 1.0
"""Seconds that a request waits for those before it; most take far less."""


class Turns:
    """Who may take over trials now. Any thread may use it."""

    def __init__(self) -> None:
        self._room = threading.BoundedSemaphore(WAITING)
        self._turn = threading.Lock()

    @contextmanager
    def take(self) -> Iterator[None]:
        """Holds the turn. Raises `Refused`, 429, where others keep it too long, or too many wait for it."""
        with ExitStack() as held:
            for lock, seconds in ((self._room, 0.0), (self._turn, WAIT)):
                if not lock.acquire(timeout=seconds):
                    told = "another job takes over many trials just now; try again"
                    raise Refused(429, told, headers={"Retry-After": "1"})
                held.callback(lock.release)
            yield


async def _turns(request: Request) -> Turns:
    return cast(Turns, request.app.state.warm_starts)


Taking: TypeAlias = Annotated[Turns, Depends(_turns)]
