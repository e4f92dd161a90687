"""The search loop: ask, open, evaluate, close, tell, until the budget is spent. Decides nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from nas import initial
from nas.contracts import Executor, Lease, Searcher
from nas.job import Budget, Job, JobSpec, JobState
from nas.trial import Outcome, Proposal, Trial, TrialState
from search_spaces import Space

WAIT = 0.5
"""Seconds to wait for an outcome before looking at the job again."""
BRIEF = 0.1
"""An evaluation of so many seconds is sooner done again than its outcome is written by itself: where the searcher
answers as fast, one write closes a trial and opens the next."""

Observe: TypeAlias = Callable[[Sequence[Trial]], None]
"""Told of every trial that was opened or closed, to show progress."""


@dataclass(frozen=True)
class Ending:
    """The state to leave the job in, and why."""

    state: JobState
    reason: str | None = None
    revision: int | None = None
    """Of the job by whose document it ends so; None: it would by any document."""


def search(
    lease: Lease,
    current: Callable[[], Job],
    space: Space,
    searcher: Searcher,
    executor: Executor,
    observe: Observe,
    draining: Callable[[], bool] = lambda: False,
) -> Ending:
    """Drive one job from where it stands to its end, a pause or a cancellation.

    The job's budget may change meanwhile; each round goes by the one last seen.

    Args:
        lease: the right to write the job's trials.
        current: gives the job as last seen, and raises `LeaseLost`; costs nothing.
        space: the job's space.
        searcher: told nothing yet.
        executor: with nothing in flight.
        observe: told of progress.
        draining: whether no trial may be started any more; once none runs, the job is left QUEUED.

    Raises:
        LeaseLost: the job has gone to another runner; nothing more may be written.
    """
    known = lease.trials()
    job = current()
    budget = job.spec.budget
    run = _Run(job.spec, space, searcher, known)
    run.told(known)
    observe(known)

    def start(opened: Sequence[Trial]) -> None:
        run.told(opened)
        observe(opened)
        for trial in opened:
            executor.submit(trial)

    def free() -> int:
        seen = current()
        as_before = seen.state is JobState.RUNNING and seen.spec.budget == budget and not draining()
        return run.room(budget, executor.in_flight) if as_before and not run.ending(seen) else 0

    while True:
        if job.state is not JobState.RUNNING:
            executor.cancel()
            return _as_requested(job)
        ending = run.ending(job)
        if ending is not None:
            executor.cancel()
            return replace(ending, revision=job.revision)
        if job.spec.budget != budget:
            budget = job.spec.budget
            executor.resize(budget.parallel_trial_count)
        while (room := run.room(budget, executor.in_flight)) and not draining():
            work = run.next(room)
            if not work:
                break
            start(lease.open(work))
        if not executor.in_flight:
            if room and draining():
                return Ending(JobState.QUEUED)
            job = lease.renew()  # the budget may have been raised since it was last seen
            if job.spec.budget == budget:
                return replace(run.finished(budget), revision=job.revision)
            continue
        outcomes = list(executor.outcomes(WAIT))
        if outcomes and run.brief(outcomes):
            trials = lease.close(outcomes, _followers(lease, outcomes, run, free))
            observe(trials[: len(outcomes)])
            start(trials[len(outcomes) :])
        elif outcomes:
            closed = lease.close(outcomes)
            run.told(closed)
            observe(closed)
        job = current()


def _followers(
    lease: Lease, outcomes: Sequence[tuple[int, Outcome]], run: _Run, free: Callable[[], int]
) -> Sequence[Proposal]:
    """What to open by the write that closes these trials; `run` takes them in as they will stand then."""
    try:
        run.told(lease.preview(outcomes))
        work = run.proposed(free())
        return work if free() else ()  # asking took its time
    except Exception:
        lease.close(outcomes)  # what was measured stays, whatever becomes of the search
        raise


class _Run:
    """What the loop knows of the job: how much is spent, and which trials wait to be started again."""

    def __init__(self, spec: JobSpec, space: Space, searcher: Searcher, known: Sequence[Trial]) -> None:
        self._spec, self._space, self._searcher = spec, space, searcher
        self._begun_with = sum(t.origin is not None for t in known)  # numbered before all others
        self._taken_over = {t.architecture.key for t in known if t.taken_over}
        self._pending: dict[int, Trial] = {}
        self._started: dict[int, float] = {}
        self._thought = 0.0
        self._count = 0
        self._keys: set[str] = set()
        self._failed = self._measured = self._measured_here = self._feasible = 0
        self._last_failure = self._last_reason = ""

    def told(self, trials: Sequence[Trial]) -> None:
        """Take in trials that were read, opened or closed, and tell the searcher."""
        self._searcher.tell(trials)
        for trial in trials:
            self._count = max(self._count, trial.number + 1)
            self._measured += trial.measured
            self._measured_here += trial.measured and not trial.taken_over
            self._feasible += trial.feasible is True
            self._keys.add(trial.architecture.key)
            self._pending.pop(trial.number, None)
            self._started.pop(trial.number, None)
            if trial.state is TrialState.RUNNING:
                self._started[trial.number] = time.monotonic()
            elif trial.state is TrialState.PENDING:
                self._pending[trial.number] = trial
            elif trial.reason is not None:
                self._last_reason = f"trial {trial.number}: {trial.reason}"
                if trial.state is TrialState.FAILED:
                    self._failed += 1
                    self._last_failure = self._last_reason

    def room(self, budget: Budget, in_flight: int) -> int:
        """How many trials may be started now."""
        left = len(self._pending) + budget.max_trial_count - self._spent
        return max(0, min(budget.parallel_trial_count - in_flight, left))

    def next(self, n: int) -> Sequence[Proposal | Trial]:
        """What to start: trials that wait, else those that the document begins with, else what is asked."""
        return [self._pending[number] for number in sorted(self._pending)][:n] or self.proposed(n)

    def proposed(self, n: int) -> Sequence[Proposal]:
        """At most `n` new trials; none before those that wait were started."""
        if self._pending or not n:
            return ()
        before = time.monotonic()
        work = self._new(n)
        self._thought = time.monotonic() - before
        return work

    def brief(self, outcomes: Sequence[tuple[int, Outcome]]) -> bool:
        """Whether these trials, and what was asked for last, took next to no time."""
        since = time.monotonic() - BRIEF
        return self._thought < BRIEF and all(self._started.get(n, since) > since for n, _ in outcomes)

    def _new(self, n: int) -> Sequence[Proposal]:
        place = self._count - self._begun_with
        if place < len(self._spec.initial):
            fixed = self._spec.initial[place]
            proposal = initial.proposal(self._space, fixed, self._spec.seed, self._count, self._keys)
            if proposal.architecture.key not in self._taken_over:
                return [proposal]
            n = 1  # the searcher fills this place alone, for the next may be fixed again
        return self._searcher.ask(n)

    @property
    def _spent(self) -> int:
        """How many trials count against the budget."""
        return self._count - len(self._taken_over)

    def ending(self, job: Job) -> Ending | None:
        """Why the search must stop now although trials may be running, if it must."""
        budget = job.spec.budget
        if self._failed >= budget.max_failed_trial_count:
            return Ending(JobState.FAILED, f"{self._failed} trials failed; the last, {self._last_failure}")
        spent = time.time() - (job.started_at or time.time())
        if budget.max_duration is not None and spent >= budget.max_duration:
            return Ending(JobState.SUCCEEDED, f"max_duration of {budget.max_duration:g} s is spent")
        return None

    def finished(self, budget: Budget) -> Ending:
        """How it ends when nothing runs and nothing can be started."""
        if self._failed and not self._measured_here:
            return Ending(JobState.FAILED, f"no trial was measured; the last failure, {self._last_failure}")
        told = []
        if self._spent < budget.max_trial_count:
            told.append(f"nothing new is left to propose after {self._count} trials")
        if not self._measured and self._count:
            told.append(f"none of {self._count} trials could be measured; the last, {self._last_reason}")
        elif not self._feasible and self._count:
            together = " and ".join(map(str, self._spec.constraints))
            told.append(f"none of {self._measured} networks measured meets {together}")
        return Ending(JobState.SUCCEEDED, "; ".join(told) or None)


def _as_requested(job: Job) -> Ending:
    if job.state is JobState.PAUSING:
        return Ending(JobState.PAUSED)
    if job.state is JobState.CANCELLING:
        return Ending(JobState.CANCELLED, "cancelled on request")
    raise RuntimeError(f"the lease of a job that is {job.state}")
