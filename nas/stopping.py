"""How a runner is asked to end: in order, with time for what runs, and then at once."""

from __future__ import annotations

import math
import threading
import time


class Stop:
    """Asked for once, it leaves running evaluations some time; asked for again, or once that is over, none.

    Any thread may ask and look.

    Args:
        seconds: that running evaluations get to finish.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._end = math.inf
        self._asked, self._at_once = threading.Event(), threading.Event()

    def ask(self) -> None:
        """Stop in order; where that was asked for before: at once."""
        if self._asked.is_set():
            self._at_once.set()
        else:
            self._end = time.monotonic() + self._seconds
            self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether nothing new may be started."""
        return self._asked.is_set()

    @property
    def over(self) -> bool:
        """Whether what still runs must be let go."""
        return self._at_once.is_set() or time.monotonic() >= self._end

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until the stop is asked for; whether it was."""
        return self._asked.wait(seconds)

    def hold_on(self, seconds: float) -> bool:
        """Wait so long, or until the stop is over; whether it is."""
        self._at_once.wait(min(seconds, max(0.0, self._end - time.monotonic())))
        return self.over
