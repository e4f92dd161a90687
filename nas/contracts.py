"""Every contract of the system on one page. Implementations need not inherit; they need to keep the promises.

The laws that all of them keep stand in docs/architecture.md; tests/contracts holds one test class for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from nas.job import DEFAULT_PROJECT, Job, JobSpec, JobState
from nas.trial import Outcome, Proposal, Trace, Trial, TrialState
from predictors.contract import Prediction, Predictor
from search_spaces.space import Space as SearchSpace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nas.exports import Exports
    from nas.fitted import FittedPredictor

__all__ = [
    "Census",
    "Evaluator",
    "Executor",
    "JobFilter",
    "Jobs",
    "Lease",
    "LeaseLost",
    "Measurements",
    "Prediction",
    "Predictor",
    "Queue",
    "Report",
    "Request",
    "SearchSpace",
    "Searcher",
    "Shelf",
    "Stale",
    "Store",
    "Submitter",
    "TokenReused",
    "TrialFilter",
    "WorkersAway",
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


class WorkersAway(Exception):
    """Where evaluations run cannot be reached; nothing says that a trial is to blame."""


class Executor(Protocol):
    """Runs evaluations somewhere. Any method may raise `WorkersAway`."""

    @property
    def in_flight(self) -> int:
        """Trials submitted whose outcome was not given yet."""
        ...

    def submit(self, trial: Trial) -> None:
        """Start the trial's evaluation."""
        ...

    def resize(self, parallel: int) -> None:
        """Run so many trials at once, at most, from now on; those that run are left alone."""
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
    """The right to write one job's trials, checked at every write: raises `LeaseLost` once it is gone.

    A write takes place as a whole or not at all. After a `DatabaseError` it is not known which: `renew` it, and
    look at the `trials`, before writing again (`nas.outages` does).
    """

    def renew(self) -> Job:
        """Keep the right, and see what is requested of the job."""
        ...

    def trials(self) -> Sequence[Trial]:
        """All trials of the job, by number."""
        ...

    def open(self, work: Sequence[Proposal | Trial]) -> Sequence[Trial]:
        """New trials for proposals; PENDING trials are started again. All come back RUNNING."""
        ...

    def preview(self, outcomes: Sequence[tuple[int, Outcome]]) -> Sequence[Trial]:
        """The trials as `close` would write them now; writes nothing."""
        ...

    def close(self, outcomes: Sequence[tuple[int, Outcome]], then: Sequence[Proposal] = ()) -> Sequence[Trial]:
        """Write outcomes, in the order given, and by the same write open new trials for the proposals `then`.

        A trial whose worker was lost comes back PENDING. The new trials come last.
        """
        ...

    def release(self, state: JobState, reason: str | None = None, revision: int | None = None) -> JobState:
        """Give the right back. RUNNING trials are handed back, or CANCELLED where the job is over.

        Returns the state that the job took; one that is held where the right was kept.

        Args:
            state: to leave the job in; a request that the holder did not see goes before one that is not over.
            reason: why.
            revision: of the job by whose document it is over; None: it is over by any. Where the job was edited
                since, the right is kept: the job goes on by its new document, RUNNING trials are PENDING again.
        """
        ...


Request: TypeAlias = Literal["cancel", "pause", "resume"]


@dataclass(frozen=True)
class Submitter:
    """Who submits a job, and the token that makes a repeated submission the same one."""

    project: str = DEFAULT_PROJECT
    owner: str | None = None
    token: str | None = None
    """Of the client (``Idempotency-Key``); unique in the project for as long as the job exists."""
    digest: str = ""
    """Of what is submitted, so that a token cannot stand for two things."""


class TokenReused(Exception):
    """The token stands for another submission."""


class Stale(Exception):
    """The job was edited since the client looked at it."""


@dataclass(frozen=True)
class JobFilter:
    """Which jobs; every condition must hold."""

    states: tuple[JobState, ...] = ()
    """One of these; none named: any."""
    project: str | None = None
    owner: str | None = None
    name: str | None = None
    """The document's name, exactly."""


@dataclass(frozen=True)
class TrialFilter:
    """Which trials; every condition must hold."""

    states: tuple[TrialState, ...] = ()
    """One of these; none named: any."""
    feasible: bool | None = None
    key: str | None = None
    """Of the architecture."""
    numbers: tuple[int, ...] | None = None
    """One of these, 1,000 at most; None: any."""


@dataclass(frozen=True)
class Measurements:
    """What a job's SUCCEEDED trials measured, in the order in which they finished, as arrays of length n."""

    numbers: NDArray[np.int64]
    orders: NDArray[np.int64]
    feasible: NDArray[np.bool_]
    names: tuple[str, ...]
    """Of all metrics that any trial of the job has."""
    values: NDArray[np.float64]
    """(n, len(names)); NaN where a trial lacks the metric."""


@dataclass(frozen=True)
class Census:
    """How much there is to do."""

    jobs: Mapping[JobState, int]
    """Jobs by state; states without jobs are missing."""
    waiting_seconds: float
    """How long the oldest QUEUED job has waited; 0 where none does."""


class Shelf(Protocol):
    """Predictors that were fitted on jobs: what each learns from, and how well it did."""

    def add(self, job_id: str, metrics: Sequence[str], trials: int) -> FittedPredictor:
        """A new predictor of a job, FITTING. Raises `KeyError`."""
        ...

    def predictor(self, predictor_id: str) -> FittedPredictor:
        """One predictor. Raises `KeyError`."""
        ...

    def of_job(self, job_id: str, after: str | None = None, limit: int = 100) -> Sequence[FittedPredictor]:
        """The predictors of a job, newest first; `after` is the id of the last one of the page before."""
        ...

    def settle(self, predictor: FittedPredictor) -> None:
        """Write what came of a fit, unless that was written before. Raises `KeyError`."""
        ...

    def remove(self, predictor_id: str) -> None:
        """Forget a predictor. Raises `KeyError`."""
        ...


class Jobs(Protocol):
    """Jobs and their trials, as clients see them, here or on a server. Any thread or process may call."""

    def submit(
        self,
        spec: JobSpec,
        *,
        queued: bool = True,
        trials: Sequence[Trial] = (),
        by: Submitter = Submitter(),
    ) -> Job:
        """A new job: QUEUED for any runner, or else PAUSED, for whoever claims it by its id.

        It begins with `trials`, finished or PENDING: numbered from 0, the finished ones ordered from 0. Where
        the submitter's token made a job before, that job comes back, as it stands now.

        Raises:
            TokenReused: the token made a job of something else.
        """
        ...

    def job(self, job_id: str) -> Job:
        """One job. Raises `KeyError`."""
        ...

    def jobs(
        self,
        which: JobFilter = JobFilter(),
        after: str | None = None,
        limit: int = 100,
        *,
        oldest_first: bool = False,
    ) -> Sequence[Job]:
        """Newest first, or oldest first; `after` is the id of the last job of the page before."""
        ...

    def trials(
        self, job_id: str, after: int = -1, limit: int | None = None, which: TrialFilter = TrialFilter()
    ) -> Sequence[Trial]:
        """Trials with numbers greater than `after`, by number. Raises `KeyError`."""
        ...

    def finished(self, job_id: str, after: int = -1, limit: int | None = None) -> Sequence[Trial]:
        """Trials whose `order` is greater than `after`, in the order in which they finished. Raises `KeyError`."""
        ...

    def measurements(self, job_id: str, after: int = -1) -> Measurements:
        """What was measured by SUCCEEDED trials whose `order` is greater than `after`. Raises `KeyError`."""
        ...

    def trace(self, job_id: str, number: int) -> Trace | None:
        """How a trial's last evaluation went, where that is known. Raises `KeyError` for an unknown job."""
        ...

    def request(self, job_id: str, request: Request) -> Job:
        """Ask for a change of state. Raises `KeyError`, or `WrongState` where it cannot be done."""
        ...

    def edit(self, job_id: str, change: Callable[[Job], JobSpec], revision: int | None = None) -> Job:
        """Give a job the document that `change` makes of it; nobody else writes the job meanwhile.

        Args:
            job_id: of the job.
            change: pure; what it raises is raised here, and nothing is written.
            revision: of the job as the client saw it; None: whatever it is.

        Raises:
            KeyError: there is no such job.
            Stale: it has another revision.
        """
        ...

    def delete(self, job_id: str) -> None:
        """Forget a job and its trials. Raises `KeyError`, or `WrongState` while a runner holds it."""
        ...

    def census(self) -> Census:
        """How much there is to do, over all projects."""
        ...


class Store(Jobs, Protocol):
    """All that a service remembers."""

    @property
    def shelf(self) -> Shelf:
        """The predictors of jobs, which are forgotten with them."""
        ...

    @property
    def exports(self) -> Exports:
        """Networks of trials that were asked for as files; forgotten with their jobs."""
        ...

    def submitted(self, by: Submitter) -> Job | None:
        """The job that the submitter's token made before, as it stands now. Raises `TokenReused`."""
        ...


class Queue(Protocol):
    """Jobs, as a runner sees them."""

    def claim(self, job_id: str | None = None) -> Lease | None:
        """The right to one runnable job (the next in turn, or the one named), or None if there is none.

        In turn: of the owner with the fewest jobs that runners hold, the oldest. Runnable: QUEUED, or left by
        a runner whose lease ran out; by its id also a PAUSED one. Trials that were RUNNING there come back
        PENDING with one more attempt.
        """
        ...
