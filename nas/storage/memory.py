"""Jobs and trials in this process, for as long as it lives."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from nas.contracts import (
    Census,
    JobFilter,
    LeaseLost,
    Measurements,
    Request,
    Submitter,
    TrialFilter,
)
from nas.job import Job, JobSpec, JobState, requested
from nas.storage.checks import check_deletable, check_revision, check_token
from nas.storage.ids import new_id
from nas.storage.keys import MemoryKeys
from nas.storage.ledger import ON_REQUEST, Ledger, after_claim, after_release, counted, storable, traces_of
from nas.storage.memory_exports import MemoryExports
from nas.storage.memory_shelf import MemoryShelf
from nas.trial import Outcome, Proposal, Trace, Trial


@dataclass
class _Record:
    """One job, all that is known of it."""

    job: Job
    ledger: Ledger
    trials: list[Trial] = field(default_factory=list)
    by: Submitter = field(default_factory=Submitter)
    finished: list[int] = field(default_factory=list)
    """Numbers of finished trials, in the order in which they finished."""
    traces: dict[int, Trace] = field(default_factory=dict)
    fence: int = 0
    lease_expires_at: float = 0.0

    def runnable(self, *, named: bool) -> bool:
        state = self.job.state
        if state.held:
            return self.lease_expires_at <= time.monotonic()
        return state is JobState.QUEUED or (named and state is JobState.PAUSED)

    def held_now(self) -> bool:
        return self.job.state.held and self.lease_expires_at > time.monotonic()

    def seen(self) -> Job:
        return replace(self.job, counts=self.ledger.counts)

    def keep(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            self.trials[trial.number : trial.number + 1] = [trial]
        self.finished += [t.number for t in trials if t.order is not None]
        self.ledger.keep(trials)

    def let_go(self, state: JobState, reason: str | None) -> None:
        """Leave the job in a state that nobody holds; who held it before can write no more."""
        at = time.time()
        self.keep(self.ledger.release(state, reason, at))
        finished_at = at if state.over else None
        self.job = replace(self.job, state=state, reason=reason, finished_at=finished_at)
        self.fence += 1


class MemoryStore:
    """See `nas.contracts.Store` and `nas.contracts.Queue`. Any thread may use it.

    Args:
        lease_seconds: how long a runner may be silent before another may take its job.
    """

    def __init__(self, *, lease_seconds: float = 30.0) -> None:
        self._seconds = lease_seconds
        self.keys = MemoryKeys()
        self._records: dict[str, _Record] = {}
        self._lock = threading.RLock()
        self.shelf = MemoryShelf(self._records, self._lock)
        self.exports = MemoryExports(self._records, self._lock, lease_seconds)

    def close(self) -> None:
        """Nothing to close; every store can be closed."""

    def submit(
        self, spec: JobSpec, *, queued: bool = True, trials: Sequence[Trial] = (), by: Submitter = Submitter()
    ) -> Job:
        """A new job: QUEUED for any runner, or else PAUSED; or the one that the submitter's token made before."""
        state = JobState.QUEUED if queued else JobState.PAUSED
        waiting = [t for t in trials if t.state.open]
        with self._lock:
            known = self.submitted(by)
            if known is not None:
                return known
            job = Job(new_id(), spec, state, created_at=time.time(), project=by.project, owner=by.owner)
            record = _Record(job, Ledger(spec.problem, waiting, counted(trials)), list(trials), by)
            done = [t for t in trials if t.order is not None]
            record.finished = [t.number for t in sorted(done, key=lambda t: t.order or 0)]
            self._records[job.id] = record
            return record.seen()

    def submitted(self, by: Submitter) -> Job | None:
        """The job that the submitter's token made before. Raises `TokenReused`."""
        if by.token is None:
            return None
        with self._lock:
            for record in self._records.values():
                if (record.by.project, record.by.token) == (by.project, by.token):
                    check_token(f"job {record.job.id}", record.by.digest, by)
                    return record.seen()
        return None

    def job(self, job_id: str) -> Job:
        """One job. Raises `KeyError`."""
        with self._lock:
            return self._records[job_id].seen()

    def jobs(
        self,
        which: JobFilter = JobFilter(),
        after: str | None = None,
        limit: int = 100,
        *,
        oldest_first: bool = False,
    ) -> Sequence[Job]:
        """Newest first, or oldest first; `after` is the id of the last job of the page before."""
        with self._lock:
            ids = sorted(self._records, reverse=not oldest_first)
            ordered = [self._records[job_id].seen() for job_id in ids]
        if after is not None:
            ordered = [j for j in ordered if (j.id > after if oldest_first else j.id < after)]
        return [j for j in ordered if _is_wanted(j, which)][:limit]

    def trials(
        self, job_id: str, after: int = -1, limit: int | None = None, which: TrialFilter = TrialFilter()
    ) -> Sequence[Trial]:
        """Trials with numbers greater than `after`, by number. Raises `KeyError`."""
        with self._lock:
            later = self._records[job_id].trials[max(after + 1, 0) :]
        if which == TrialFilter():
            return later[:limit]
        return [t for t in later if _is_sought(t, which)][:limit]

    def finished(self, job_id: str, after: int = -1, limit: int | None = None) -> Sequence[Trial]:
        """Trials whose `order` is greater than `after`, in the order in which they finished. Raises `KeyError`."""
        first = max(after + 1, 0)
        with self._lock:
            record = self._records[job_id]
            return [record.trials[n] for n in record.finished[first : None if limit is None else first + limit]]

    def measurements(self, job_id: str, after: int = -1) -> Measurements:
        """What was measured by SUCCEEDED trials whose `order` is greater than `after`. Raises `KeyError`."""
        with self._lock:
            everything = self._records[job_id].trials
            measured = [t for t in self.finished(job_id, after) if t.measured]
            names = tuple(dict.fromkeys(name for t in everything for name in t.metrics))
        values = [[t.metrics.get(name, math.nan) for name in names] for t in measured]
        return Measurements(
            numbers=np.array([t.number for t in measured], dtype=np.int64),
            orders=np.array([t.order for t in measured], dtype=np.int64),
            feasible=np.array([t.feasible for t in measured], dtype=np.bool_),
            names=names,
            values=np.array(values, dtype=np.float64).reshape(len(measured), len(names)),
        )

    def trace(self, job_id: str, number: int) -> Trace | None:
        """How a trial's last evaluation went, where that is known. Raises `KeyError`."""
        with self._lock:
            return self._records[job_id].traces.get(number)

    def request(self, job_id: str, request: Request) -> Job:
        """Ask for a change of state. Raises `KeyError`, or `WrongState` where it cannot be done."""
        with self._lock:
            record = self._records[job_id]
            state = requested(record.job.state, request)
            if state is not record.job.state and state.over:
                record.let_go(state, ON_REQUEST)
            elif state is not record.job.state:
                record.job = replace(record.job, state=state, reason=None)
            return record.seen()

    def edit(self, job_id: str, change: Callable[[Job], JobSpec], revision: int | None = None) -> Job:
        """Give a job the document that `change` makes. Raises `KeyError`, `Stale`, and what `change` does."""
        with self._lock:
            record = self._records[job_id]
            before = record.seen()
            check_revision(before, revision)
            spec = change(before)
            if spec != before.spec:
                record.job = replace(record.job, spec=spec, revision=before.revision + 1)
            return record.seen()

    def delete(self, job_id: str) -> None:
        """Forget a job and its trials. Raises `KeyError`, or `WrongState` while a runner holds it."""
        with self._lock:
            check_deletable(job_id, self._records[job_id].job.state)
            del self._records[job_id]
            self.shelf.forget(job_id)
            self.exports.forget(job_id)

    def census(self) -> Census:
        """How much there is to do, over all projects."""
        with self._lock:
            jobs = [record.job for record in self._records.values()]
        since = [j.created_at for j in jobs if j.state is JobState.QUEUED]
        return Census(dict(Counter(j.state for j in jobs)), max(0.0, time.time() - min(since)) if since else 0.0)

    def claim(self, job_id: str | None = None) -> MemoryLease | None:
        """The right to one runnable job (the next in turn, or the one named), or None if there is none."""
        with self._lock:
            if job_id is not None:
                named = self._records.get(job_id)
                return self._take(named) if named is not None and named.runnable(named=True) else None
            waiting = [r for _, r in sorted(self._records.items()) if r.runnable(named=False)]
            if not waiting:
                return None
            alive = [r for r in self._records.values() if r.held_now()]
            held = Counter((r.job.project, r.job.owner) for r in alive)
            return self._take(min(waiting, key=lambda r: held[r.job.project, r.job.owner]))

    def _take(self, record: _Record) -> MemoryLease:
        """Hold a job, and recover the trials that its last runner left RUNNING."""
        at = time.time()
        record.keep(record.ledger.recover(at))
        record.job = replace(
            record.job,
            state=after_claim(record.job.state),
            reason=None,
            started_at=record.job.started_at or at,
        )
        record.fence += 1
        record.lease_expires_at = time.monotonic() + self._seconds
        return MemoryLease(record, record.fence, self._lock, self._seconds)


class MemoryLease:
    """See `nas.contracts.Lease`. Safe for threads: a heartbeat may renew it while a search writes."""

    def __init__(self, record: _Record, fence: int, lock: threading.RLock, seconds: float) -> None:
        self._record, self._fence, self._seconds = record, fence, seconds
        self._lock = lock

    def renew(self) -> Job:
        """Keep the right for as long again, and see what is requested of the job."""
        with self._writing() as record:
            record.lease_expires_at = time.monotonic() + self._seconds
            return record.seen()

    def trials(self) -> Sequence[Trial]:
        """All trials of the job, by number."""
        with self._lock:
            return list(self._record.trials)

    def open(self, work: Sequence[Proposal | Trial]) -> Sequence[Trial]:
        """New trials for proposals; PENDING trials are started again. All come back RUNNING."""
        with self._writing() as record:
            trials = record.ledger.open(work, time.time())
            record.keep(trials)
            return trials

    def preview(self, outcomes: Sequence[tuple[int, Outcome]]) -> Sequence[Trial]:
        """The trials as `close` would write them now; writes nothing."""
        with self._lock:
            return self._record.ledger.close(outcomes, time.time())

    def close(self, outcomes: Sequence[tuple[int, Outcome]], then: Sequence[Proposal] = ()) -> Sequence[Trial]:
        """Write outcomes, in the order given, and open trials for `then`; see `nas.contracts.Lease`."""
        with self._writing() as record:
            at = time.time()
            trials = record.ledger.close(outcomes, at) + record.ledger.open(then, at)
            record.keep(trials)
            record.traces |= traces_of(outcomes)
            return trials

    def release(self, state: JobState, reason: str | None = None, revision: int | None = None) -> JobState:
        """Give the right back, or keep it after an edit; see `nas.contracts.Lease`."""
        with self._writing() as record:
            edited = revision not in (None, record.job.revision)
            final = after_release(record.job.state, state, edited=edited)
            if final.held:
                record.keep(record.ledger.release(final, None, time.time()))
            else:
                record.let_go(final, storable(reason) if reason is not None and final is state else None)
            return final

    @contextmanager
    def _writing(self) -> Iterator[_Record]:
        """The record, locked, while the lease holds. Raises `LeaseLost`."""
        with self._lock:
            if self._record.fence != self._fence:
                raise LeaseLost(f"job {self._record.job.id} has gone to another runner, or was let go")
            yield self._record


def _is_wanted(job: Job, which: JobFilter) -> bool:
    return (
        (not which.states or job.state in which.states)
        and which.project in (None, job.project)
        and which.owner in (None, job.owner)
        and which.name in (None, job.spec.name)
    )


def _is_sought(trial: Trial, which: TrialFilter) -> bool:
    return (
        (not which.states or trial.state in which.states)
        and which.feasible in (None, trial.feasible)
        and which.key in (None, trial.architecture.key)
        and (which.numbers is None or trial.number in which.numbers)
    )
