"""Every contract of the system on one page. Implementations need not inherit; they need to keep the promises.

The laws that all of them keep stand in docs/architecture.md; tests/contracts holds one test class for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

from nas.job import Job, JobSpec, JobState
from nas.trial import Outcome, Proposal, Trial
from predictors.contract import Prediction, Predictor
from search_spaces.space import Space as SearchSpace

__all__ = [
    "Evaluator",
    "Executor",
    "Lease",
    "LeaseLost",
    "Prediction",
    "Predictor",
    "Queue",
    "Report",
    "Request",
    "SearchSpace",
    "Searcher",
    "Store",
]


class Searcher(Protocol):
    """Decides what to evaluate next. `ask` changes nothing; only `tell` does.

    A fresh searcher told all trials of a job asks what the old one would have asked: nothing is saved, and
    randomness is addressed by seed and trial number.
    """

    def ask(self, n: int) -> Sequence[Proposal]:
        """Up to `n` proposals for the trials that come next; fewer when the space is exhausted."""
        ...

    def tell(self, trials: Iterable[Trial]) -> None:
        """Trials in any state; by number, the last word wins."""
        ...


class Report(Protocol):
    """Given to an evaluator, to be called now and then; raises when the evaluation should stop."""

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """Intermediate metrics after `step` (for training: epochs, from 1)."""
        ...


class Evaluator(Protocol):
    """Measures one architecture, in a worker. Pickles."""

    def evaluate(self, proposal: Proposal, report: Report) -> Mapping[str, float]:
        """Metrics. Raises `Infeasible` (or `BuildError`) where the candidate itself is at fault."""
        ...


class Executor(Protocol):
    """Runs evaluations somewhere."""

    @property
    def in_flight(self) -> int:
        """Trials submitted whose outcome was not given yet."""
        ...

    def submit(self, trial: Trial) -> None:
        """Start the trial's evaluation."""
        ...

    def outcomes(self, timeout: float) -> Iterator[tuple[int, Outcome]]:
        """Outcomes by trial number as they come; waits at most about `timeout` seconds for the first."""
        ...

    def cancel(self, numbers: Iterable[int] | None = None) -> None:
        """Stop these trials (None: all) and forget them; their outcomes are not given any more."""
        ...


class LeaseLost(Exception):
    """The right to write this job's trials has gone to another runner."""


class Lease(Protocol):
    """The right to write one job's trials, checked at every write: raises `LeaseLost` once it is gone."""

    def renew(self) -> Job:
        """Keep the right, and see what is requested of the job."""
        ...

    def trials(self) -> Sequence[Trial]:
        """All trials of the job, by number."""
        ...

    def open(self, work: Sequence[Proposal | Trial]) -> Sequence[Trial]:
        """New trials for proposals; PENDING trials are started again. All come back RUNNING."""
        ...

    def close(self, outcomes: Sequence[tuple[int, Outcome]]) -> Sequence[Trial]:
        """Write outcomes, in the order given. A trial whose worker was lost comes back PENDING."""
        ...

    def release(self, state: JobState, reason: str | None = None) -> None:
        """Give the right back. RUNNING trials are handed back, or CANCELLED where the job is over."""
        ...


Request: TypeAlias = Literal["cancel", "pause", "resume"]


class Store(Protocol):
    """Jobs and their trials, as clients see them. Any thread or process may call."""

    def submit(self, spec: JobSpec, *, queued: bool = True, trials: Sequence[Trial] = ()) -> Job:
        """A new job: QUEUED for any runner, or else PAUSED, for whoever claims it by its id.

        It begins with `trials`, finished or PENDING: numbered from 0, the finished ones ordered from 0.
        """
        ...

    def job(self, job_id: str) -> Job:
        """One job. Raises `KeyError`."""
        ...

    def jobs(self, states: Sequence[JobState] = (), after: str | None = None, limit: int = 100) -> Sequence[Job]:
        """Newest first; `after` is the id of the last job of the page before."""
        ...

    def trials(self, job_id: str, after: int = -1, limit: int | None = None) -> Sequence[Trial]:
        """Trials with numbers greater than `after`, by number. Raises `KeyError`."""
        ...

    def request(self, job_id: str, request: Request) -> Job:
        """Ask for a change of state. Raises `KeyError`, or `WrongState` where it cannot be done."""
        ...


class Queue(Protocol):
    """Jobs, as a runner sees them."""

    def claim(self, job_id: str | None = None) -> Lease | None:
        """The right to one runnable job (the oldest, or the one named), or None if there is none.

        Runnable: QUEUED, or left by a runner whose lease ran out; by its id also a PAUSED one. Trials that were
        RUNNING there come back PENDING with one more attempt.
        """
        ...
