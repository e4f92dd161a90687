"""Evaluations in this very process, one after the other: for free evaluators, tests and debugging."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator

from nas.executors.attempt import Task
from nas.executors.trace import traced
from nas.trial import Outcome, Trial


class InlineExecutor:
    """Evaluates when outcomes are asked for, in the order of submission."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._waiting: deque[Trial] = deque()

    @property
    def in_flight(self) -> int:
        """Trials submitted whose outcome was not given yet."""
        return len(self._waiting)

    def submit(self, trial: Trial) -> None:
        """Remember the trial."""
        self._waiting.append(trial)

    def resize(self, parallel: int) -> None:
        """Nothing: there is one process."""

    def outcomes(self, timeout: float) -> Iterator[tuple[int, Outcome]]:
        """Evaluate trials that wait until `timeout` seconds are over; one at least, however long it takes."""
        end = time.monotonic() + timeout
        while self._waiting:
            outcome = traced(self._task, self._waiting[0].proposal)
            yield self._waiting.popleft().number, outcome
            if time.monotonic() >= end:
                return

    def cancel(self, numbers: Iterable[int] | None = None) -> None:
        """Forget these trials (None: all)."""
        gone = None if numbers is None else set(numbers)
        self._waiting = deque(t for t in self._waiting if gone is not None and t.number not in gone)
