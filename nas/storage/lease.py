"""The right to write one job's trials in a database, held by a fence that every write checks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from nas.contracts import LeaseLost
from nas.job import Job, JobState
from nas.storage import queries
from nas.storage.ledger import Ledger, after_release, storable, traces_of
from nas.storage.packing import MetricNames
from nas.storage.rows import count_columns
from nas.storage.writes import Write, change_trials, write
from nas.trial import Outcome, Proposal, Trial

if TYPE_CHECKING:
    from nas.storage.sql import SqlStore


class SqlLease:
    """See `nas.contracts.Lease`. Safe for threads: a heartbeat may renew it while a search writes.

    Open trials and the counts of all are known here, so writing one reads nothing: the counts are written to the
    job's row first, by its fence, which also keeps others from it. After a `DatabaseError` it is not known whether
    the write took place; `renew` looks it up, once it has the job's row to itself.
    """

    def __init__(
        self, store: SqlStore, job: Job, fence: int, ledger: Ledger, names: MetricNames, seconds: float
    ) -> None:
        self._store, self._database = store, store.database
        self._job, self._fence, self._seconds = job, fence, seconds
        self._ledger, self._names = ledger, names
        self._lock = threading.Lock()
        self._doubtful = False
        """Whether a write may have taken place that the ledger does not know."""

    def renew(self) -> Job:
        """Keep the right for as long again, and see what is requested of the job."""
        with self._lock, self._database.writing() as connection:
            mine = {"the_job": self._job.id, "the_fence": self._fence, "seconds": self._seconds}
            row = connection.execute(queries.RENEW, mine).first()
            if row is None:
                raise self._lost()
            if row.revision != self._job.revision:
                self._job = self._store.read(queries.job(connection, self._job.id))
            self._settle(connection)
            return replace(self._job, state=JobState(row.state), reason=row.reason, counts=self._ledger.counts)

    def trials(self) -> Sequence[Trial]:
        """All trials of the job, by number."""
        return self._store.trials(self._job.id)

    def open(self, work: Sequence[Proposal | Trial]) -> Sequence[Trial]:
        """New trials for proposals; PENDING trials are started again. All come back RUNNING."""
        with self._lock, self._doubting():
            trials = self._planned(lambda: self._ledger.open(work, time.time()))
            pairs = list(zip(trials, (isinstance(item, Trial) for item in work), strict=True))
            new, again = ([t for t, known in pairs if known is which] for which in (False, True))
            self._write(trials, self._names, new=new, changed=again)
            return trials

    def preview(self, outcomes: Sequence[tuple[int, Outcome]]) -> Sequence[Trial]:
        """The trials as `close` would write them now; writes nothing."""
        with self._lock:
            return self._ledger.close(outcomes, time.time())

    def close(self, outcomes: Sequence[tuple[int, Outcome]], then: Sequence[Proposal] = ()) -> Sequence[Trial]:
        """Write outcomes, in the order given, and open trials for `then`; see `nas.contracts.Lease`."""
        with self._lock, self._doubting():
            at = time.time()
            closed = self._planned(lambda: self._ledger.close(outcomes, at))
            opened = self._ledger.open(then, at)
            names = self._names.grown(t.metrics for t in closed)
            trials = closed + opened
            self._write(trials, names, new=opened, changed=closed, traces=traces_of(outcomes))
            self._names = names
            return trials

    def release(self, state: JobState, reason: str | None = None, revision: int | None = None) -> JobState:
        """Give the right back, or keep it after an edit; see `nas.contracts.Lease`."""
        with self._lock, self._doubting():
            with self._database.writing() as connection:
                current, now = self._held(connection)
                self._settle(connection)
                at = time.time()
                final = after_release(current, state, edited=revision not in (None, now))
                why = storable(reason) if reason is not None and final is state else None
                trials = self._ledger.release(final, why, at)
                change_trials(connection, self._job.id, trials, self._names)
                counts = self._ledger.counts_with(trials)
                if final.held:
                    queries.change_job(connection, self._job.id, **count_columns(counts))
                else:
                    queries.let_go(connection, self._job.id, final, why, at, counts)
            self._ledger.keep(trials)
            return final

    @contextmanager
    def _doubting(self) -> Iterator[None]:
        """Remember of a write that did not come to its end that it may have taken place."""
        try:
            yield
        except BaseException:
            self._doubtful = True
            raise

    def _settle(self, connection: Connection) -> None:
        """Read again how the job stands, where that is in doubt. The transaction must have the job's row."""
        if self._doubtful:
            row = queries.job(connection, self._job.id)
            self._ledger, self._names = self._store.standing(connection, row)
            self._doubtful = False

    def _planned(self, plan: Callable[[], list[Trial]]) -> list[Trial]:
        """What the ledger makes of a request; that the lease is lost goes before what is wrong with it."""
        try:
            return plan()
        except ValueError:
            with self._database.writing() as connection:
                self._held(connection)
            raise

    def _write(self, trials: Sequence[Trial], names: MetricNames, **parts: Any) -> None:
        """Write what `parts` of `Write` say, with the counts that these trials make. Raises `LeaseLost`."""
        counts = self._ledger.counts_with(trials)
        if not write(self._database, Write(self._job.id, self._fence, counts, names, **parts)):
            raise self._lost()
        self._ledger.keep(trials)

    def _held(self, connection: Connection) -> tuple[JobState, int]:
        """The job's state and revision; nobody can change them before the transaction ends. Raises `LeaseLost`."""
        row = connection.execute(queries.FENCE, {"the_job": self._job.id}).first()
        if row is None or row.fence != self._fence:
            raise self._lost()
        return JobState(row.state), row.revision

    def _lost(self) -> LeaseLost:
        return LeaseLost(f"job {self._job.id} has gone to another runner, or was let go")
