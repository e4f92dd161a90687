"""Evaluations in this very process, one after the other: for free evaluators, tests and debugging."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from nas.executors.attempt import Task, attempt
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

    def outcomes(self, timeout: float) -> Iterator[tuple[int, Outcome]]:
        """Evaluate the first trial that waits, however long it takes."""
        if self._waiting:
            outcome = attempt(self._task, self._waiting[0].proposal)
            yield self._waiting.popleft().number, outcome

    def cancel(self, numbers: Iterable[int] | None = None) -> None:
        """Forget these trials (None: all)."""
        gone = None if numbers is None else set(numbers)
        self._waiting = deque(t for t in self._waiting if gone is not None and t.number not in gone)
