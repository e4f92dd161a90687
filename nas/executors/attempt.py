"""One evaluation, wherever it runs: from a proposal to an outcome. Whatever a candidate does becomes data."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from nas.contracts import Evaluator
from nas.evaluators.infeasible import Infeasible
from nas.evaluators.repeats import measure
from nas.trial import Broken, BrokenKind, Measured, Outcome, Proposal
from search_spaces import BuildError, Space


@dataclass(frozen=True)
class Task:
    """What a worker needs to evaluate proposals of one job."""

    evaluator: Evaluator
    space: Space
    seconds: float | None = None
    """Time an evaluation may take, its repeats included."""
    repeats: int = 1
    """How often a network is measured."""
    memory: float | None = None
    """Bytes an evaluation may hold; kept only where it has a process of its own."""
    asked: tuple[str, ...] = ()
    """Metrics of formulas that the space gives only where they are asked for."""


class TimeUp(BaseException):
    """The evaluation's time is up. No `Exception`: a candidate's own handlers must not swallow it."""


def attempt(
    task: Task,
    proposal: Proposal,
    reported: Callable[[int, Mapping[str, float]], None] = lambda step, metrics: None,
    formulas: Mapping[str, float] | None = None,
) -> Outcome:
    """Evaluate; metrics that the space knows from formulas are added to those measured.

    `reported` is told of every report of the evaluator. `formulas`: those metrics, where they are known already.
    """
    try:
        with _deadline(task.seconds) as check:

            def report(step: int, metrics: Mapping[str, float]) -> None:
                reported(step, metrics)
                check()

            measured = measure(task.evaluator, task.repeats, proposal, report)
        known = task.space.cost(proposal.architecture) if formulas is None else formulas
        metrics = {**known, **_asked(task, proposal), **measured}
    except (Infeasible, BuildError) as error:
        return Broken(BrokenKind.INFEASIBLE, _one_line(str(error) or type(error).__name__))
    except TimeUp:
        return Broken(BrokenKind.INFEASIBLE, too_long(task.seconds or 0))
    except MemoryError as error:
        return Broken(BrokenKind.INFEASIBLE, _one_line(f"ran out of memory: {error}"))
    except (Exception, SystemExit) as error:  # a failure in a candidate is data
        return Broken(BrokenKind.FAILED, _one_line(f"{type(error).__name__}: {error}"))
    wrong = [f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]
    if wrong:
        return Broken(BrokenKind.INFEASIBLE, "; ".join(wrong))
    return Measured(metrics)


def _asked(task: Task, proposal: Proposal) -> dict[str, float]:
    """What the space gives only where it is asked for by name."""
    if not task.asked:
        return {}
    costs = task.space.costs(task.space.genes([proposal.architecture]), task.asked)
    return {name: float(costs[name][0]) for name in task.asked}


@contextmanager
def _deadline(seconds: float | None) -> Iterator[_Check]:
    """Raise `TimeUp` in the body once the time is up: at a report, and in the main thread wherever it is."""
    check = _Check(math.inf if seconds is None else time.monotonic() + seconds)
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield check
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again and again: a candidate may swallow the first
    try:
        yield check
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class _Check:
    end: float

    def __call__(self) -> None:
        if time.monotonic() > self.end:
            raise TimeUp


def too_long(seconds: float) -> str:
    """Why an evaluation that took longer than it may has no metrics."""
    return f"took longer than {seconds:g} s"


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 500 else text[:497] + "..."
