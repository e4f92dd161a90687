"""Evaluations in this very process, one after the other: for free evaluators, tests and debugging."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from nas.executors.attempt import Task
from nas.executors.trace import traced
from nas.trial import Outcome, Trial
from search_spaces import Space


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
        formulas = _formulas(self._task.space, list(self._waiting))
        while self._waiting:
            first = self._waiting[0]
            outcome = traced(self._task, first.proposal, formulas.get(first.number))
            yield self._waiting.popleft().number, outcome
            if time.monotonic() >= end:
                return

    def cancel(self, numbers: Iterable[int] | None = None) -> None:
        """Forget these trials (None: all)."""
        gone = None if numbers is None else set(numbers)
        self._waiting = deque(t for t in self._waiting if gone is not None and t.number not in gone)


def _formulas(space: Space, trials: Sequence[Trial]) -> dict[int, dict[str, float]]:
    """What formulas give for each of several trials, by number: of sixteen networks at the price of one or two.

    Nothing where they fail for any: then every trial finds out by itself, and has the failure for an outcome.
    """
    if len(trials) < 2:
        return {}
    try:
        costs = space.costs(space.genes([t.architecture for t in trials]))
        return {t.number: {m: float(v[i]) for m, v in costs.items()} for i, t in enumerate(trials)}
    except Exception:
        return {}
