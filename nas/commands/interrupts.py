"""Ctrl-C and SIGTERM are one request to a search: to let go of its job in order."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

REPEATED = 10.0
"""Seconds within which a second signal says the same again, and must not cut short what the first began."""


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Both signals raise `KeyboardInterrupt` in the body.

    Yields what puts the handlers in place again: Ray sets some of its own, which end the process at once.
    """
    listening_from = 0.0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal listening_from
        if time.monotonic() >= listening_from:
            listening_from = time.monotonic() + REPEATED
            raise KeyboardInterrupt

    def listen() -> None:
        for number in before:
            signal.signal(number, interrupt)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    listen()
    try:
        yield listen
    finally:
        ending = listening_from or signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        for number, handler in before.items():  # a second signal must not cut short how the process ends
            signal.signal(number, signal.SIG_IGN if ending else handler)
