"""Jobs and trials in this process, for as long as it lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from nas.contracts import LeaseLost, Request
from nas.job import Job, JobSpec, JobState, requested
from nas.storage.ids import new_id
from nas.storage.ledger import ON_REQUEST, Ledger, after_claim, after_release, counted, storable
from nas.trial import Outcome, Proposal, Trial


@dataclass
class _Record:
    """One job, all that is known of it."""

    job: Job
    ledger: Ledger
    trials: list[Trial] = field(default_factory=list)
    fence: int = 0
    lease_expires_at: float = 0.0

    def runnable(self, *, named: bool) -> bool:
        state = self.job.state
        if state.held:
            return self.lease_expires_at <= time.monotonic()
        return state is JobState.QUEUED or (named and state is JobState.PAUSED)

    def seen(self) -> Job:
        return replace(self.job, counts=self.ledger.counts)

    def keep(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            self.trials[trial.number : trial.number + 1] = [trial]
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
        self._records: dict[str, _Record] = {}
        self._lock = threading.RLock()

    def close(self) -> None:
        """Nothing to close; every store can be closed."""

    def submit(self, spec: JobSpec, *, queued: bool = True, trials: Sequence[Trial] = ()) -> Job:
        """A new job: QUEUED for any runner, or else PAUSED, for whoever claims it by its id."""
        state = JobState.QUEUED if queued else JobState.PAUSED
        waiting = [t for t in trials if t.state.open]
        with self._lock:
            job = Job(id=new_id(), spec=spec, state=state, created_at=time.time())
            record = _Record(job, Ledger(spec.problem, waiting, counted(trials)), list(trials))
            self._records[job.id] = record
            return record.seen()

    def job(self, job_id: str) -> Job:
        """One job. Raises `KeyError`."""
        with self._lock:
            return self._records[job_id].seen()

    def jobs(self, states: Sequence[JobState] = (), after: str | None = None, limit: int = 100) -> Sequence[Job]:
        """Newest first; `after` is the id of the last job of the page before."""
        with self._lock:
            newest = [self._records[job_id].seen() for job_id in sorted(self._records, reverse=True)]
        page = [j for j in newest if (not states or j.state in states) and (after is None or j.id < after)]
        return page[:limit]

    def trials(self, job_id: str, after: int = -1, limit: int | None = None) -> Sequence[Trial]:
        """Trials with numbers greater than `after`, by number. Raises `KeyError`."""
        first = max(after + 1, 0)
        with self._lock:
            return self._records[job_id].trials[first : None if limit is None else first + limit]

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

    def claim(self, job_id: str | None = None) -> MemoryLease | None:
        """The right to one runnable job (the oldest, or the one named), or None if there is none."""
        with self._lock:
            considered = sorted(self._records) if job_id is None else [job_id] * (job_id in self._records)
            for record in map(self._records.__getitem__, considered):
                if record.runnable(named=job_id is not None):
                    return self._take(record)
        return None

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

    def close(self, outcomes: Sequence[tuple[int, Outcome]]) -> Sequence[Trial]:
        """Write outcomes, in the order given. A trial whose worker was lost comes back PENDING."""
        with self._writing() as record:
            trials = record.ledger.close(outcomes, time.time())
            record.keep(trials)
            return trials

    def release(self, state: JobState, reason: str | None = None) -> None:
        """Give the right back; a request that came in meanwhile goes before `state`."""
        with self._writing() as record:
            final = after_release(record.job.state, state)
            record.let_go(final, storable(reason) if reason is not None and final is state else None)

    @contextmanager
    def _writing(self) -> Iterator[_Record]:
        """The record, locked, while the lease holds. Raises `LeaseLost`."""
        with self._lock:
            if self._record.fence != self._fence:
                raise LeaseLost(f"job {self._record.job.id} has gone to another runner, or was let go")
            yield self._record
