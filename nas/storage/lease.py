"""The right to write one job's trials in a database, held by a fence that every write checks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from nas.contracts import LeaseLost
from nas.job import Job, JobState
from nas.storage import queries
from nas.storage.ledger import Ledger, after_release, storable, traces_of
from nas.storage.packing import MetricNames
from nas.storage.rows import count_columns
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
            with self._writing(trials) as connection:
                queries.add_trials(connection, self._job.id, [t for t, known in pairs if not known])
                again = [t for t, known in pairs if known]
                queries.change_trials(connection, self._job.id, again, self._names)
            self._ledger.keep(trials)
            return trials

    def close(self, outcomes: Sequence[tuple[int, Outcome]]) -> Sequence[Trial]:
        """Write outcomes, in the order given. A trial whose worker was lost comes back PENDING."""
        with self._lock, self._doubting():
            trials = self._planned(lambda: self._ledger.close(outcomes, time.time()))
            names = self._names.grown(t.metrics for t in trials)
            with self._writing(trials) as connection:
                if names is not self._names:
                    queries.change_job(connection, self._job.id, metric_names=names.write())
                queries.change_trials(connection, self._job.id, trials, names)
                queries.put_traces(connection, self._job.id, traces_of(outcomes))
            self._names = names
            self._ledger.keep(trials)
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
                queries.change_trials(connection, self._job.id, trials, self._names)
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

    @contextmanager
    def _writing(self, trials: Sequence[Trial]) -> Iterator[Connection]:
        """A transaction in which the lease holds and the job counts these trials. Raises `LeaseLost`."""
        counts = count_columns(self._ledger.counts_with(trials))
        with self._database.writing() as connection:
            mine = {"the_job": self._job.id, "the_fence": self._fence, **counts}
            if connection.execute(queries.COUNT, mine).first() is None:
                raise self._lost()
            yield connection

    def _held(self, connection: Connection) -> tuple[JobState, int]:
        """The job's state and revision; nobody can change them before the transaction ends. Raises `LeaseLost`."""
        row = connection.execute(queries.FENCE, {"the_job": self._job.id}).first()
        if row is None or row.fence != self._fence:
            raise self._lost()
        return JobState(row.state), row.revision

    def _lost(self) -> LeaseLost:
        return LeaseLost(f"job {self._job.id} has gone to another runner, or was let go")
