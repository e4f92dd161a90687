"""Evaluations in this very process, on a simulated clock: replays days of parallel search in seconds."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from nas.executors.attempt import Task, too_long
from nas.executors.trace import traced
from nas.trial import Broken, BrokenKind, Measured, Outcome, Trial

SECONDS = "train_seconds"
"""The metric that tells how long a measurement takes."""
START, END = "start_seconds", "end_seconds"
"""Metrics that every measured trial gets: when it started and ended, in simulated seconds of the search. They are
of the search and not of the network, so another job that takes the trial over does not get them."""
WITHOUT = 1.0
"""Seconds of a trial that does not tell: it broke, or its evaluator gives no such metric."""


class SimulatedExecutor:
    """So many workers; outcomes come in the order in which these would end, each at its simulated time.

    What the search itself takes does not pass on this clock, so that a replay is the same every time. An
    evaluation that would take longer than it may is INFEASIBLE once that time is over.

    Args:
        task: what to evaluate.
        workers: how many evaluations run at once.
        now: where the clock stands, in seconds; see `clock`.
    """

    def __init__(self, task: Task, workers: int, now: float = 0.0) -> None:
        self._task, self._workers, self._now = task, max(1, workers), now
        self._waiting: deque[Trial] = deque()
        self._running: list[_Run] = []

    @property
    def in_flight(self) -> int:
        """Trials submitted whose outcome was not given yet."""
        return len(self._waiting) + len(self._running)

    def submit(self, trial: Trial) -> None:
        """Remember the trial; it starts as soon as a worker is free."""
        self._waiting.append(trial)

    def resize(self, parallel: int) -> None:
        """Have so many workers from now on."""
        self._workers = max(1, parallel)

    def outcomes(self, timeout: float) -> Iterator[tuple[int, Outcome]]:
        """The outcome of the trial that ends next, and of all that end with it; the clock goes on to their end."""
        while self._waiting and len(self._running) < self._workers:
            heapq.heappush(self._running, self._run(self._waiting[0]))
            self._waiting.popleft()
        end = self._running[0].end if self._running else self._now
        while self._running and self._running[0].end == end:
            run = heapq.heappop(self._running)
            self._now = run.end
            yield run.number, run.outcome

    def cancel(self, numbers: Iterable[int] | None = None) -> None:
        """Forget these trials (None: all); their workers are free at once."""
        gone = None if numbers is None else set(numbers)
        self._waiting = deque(t for t in self._waiting if gone is not None and t.number not in gone)
        self._running = [r for r in self._running if gone is not None and r.number not in gone]
        heapq.heapify(self._running)

    def _run(self, trial: Trial) -> _Run:
        """Evaluate, from now until the simulated end."""
        outcome, most = traced(self._task, trial.proposal), self._task.seconds
        if isinstance(outcome, Broken):
            return _Run(self._now + WITHOUT, trial.number, outcome)
        known = outcome.metrics.get(SECONDS)
        seconds = WITHOUT if known is None else max(0.0, known * self._task.repeats)
        if known is not None and most is not None and seconds > most:
            late = Broken(BrokenKind.INFEASIBLE, too_long(most), outcome.trace)
            return _Run(self._now + most, trial.number, late)
        end = self._now + seconds
        measured = Measured({**outcome.metrics, START: self._now, END: end}, outcome.trace)
        return _Run(end, trial.number, measured)


@dataclass(order=True, frozen=True)
class _Run:
    """A trial on its worker."""

    end: float
    number: int
    outcome: Outcome = field(compare=False)


def clock(trials: Iterable[Trial]) -> float:
    """Where the clock stands after these trials: at the latest end, 0 where there is none."""
    return max((t.metrics[END] for t in trials if END in t.metrics), default=0.0)


def utilisation(trials: Iterable[Trial], workers: int) -> float:
    """The share of the workers' time, from 0 to the latest end, in which they evaluated; NaN before any."""
    ended = [t for t in trials if END in t.metrics]
    whole = workers * clock(ended)
    return sum(t.metrics[END] - t.metrics[START] for t in ended) / whole if whole else float("nan")
