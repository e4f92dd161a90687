"""Jobs and trials in SQLite or PostgreSQL; the queue of jobs is their table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row

from nas.contracts import Census, JobFilter, Measurements, Request, Submitter, TrialFilter
from nas.job import Job, JobSpec, JobState, requested
from nas.objectives import Problem
from nas.storage import queries, writes
from nas.storage.checks import check_deletable, check_revision, check_token
from nas.storage.clock import now
from nas.storage.database import Database
from nas.storage.errors import DatabaseError, Duplicate, Unreadable
from nas.storage.ids import new_id
from nas.storage.lease import SqlLease
from nas.storage.ledger import ON_REQUEST, Ledger, after_claim, counted, storable
from nas.storage.packing import MetricNames
from nas.storage.rows import (
    UNMEASURED,
    Document,
    bare_trials_of,
    count_columns,
    counts_of,
    dump,
    job_of,
    trace_of,
    trials_of,
)
from nas.storage.sql_exports import SqlExports
from nas.storage.sql_keys import SqlKeys
from nas.storage.sql_shelf import SqlShelf
from nas.trial import Trace, Trial

DOCUMENTS_KEPT = 256
"""Parsed documents, with their spaces, that a store keeps at hand."""


class SqlStore:
    """See `nas.contracts.Store` and `nas.contracts.Queue`. Any thread or process may use it.

    The schema must be there: `nas.storage.open_store` sees to it.

    Args:
        url: of a SQLite file or a PostgreSQL database.
        lease_seconds: how long a runner may be silent before another may take its job.

    Raises:
        DatabaseError: here, and from every method, where the database cannot be used.
    """

    def __init__(self, url: str, *, lease_seconds: float = 30.0) -> None:
        self.database = Database(url)
        self.keys = SqlKeys(self.database)
        self.shelf = SqlShelf(self.database)
        self.exports = SqlExports(self.database, lease_seconds)
        self._seconds = lease_seconds
        self._document = lru_cache(maxsize=DOCUMENTS_KEPT)(Document)

    def __repr__(self) -> str:
        return f"SqlStore({self.database})"

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        self.database.close()

    def submit(
        self, spec: JobSpec, *, queued: bool = True, trials: Sequence[Trial] = (), by: Submitter = Submitter()
    ) -> Job:
        """A new job: QUEUED for any runner, or else PAUSED; or the one that the submitter's token made before."""
        names = UNMEASURED.grown(t.metrics for t in trials)
        row = {
            "id": new_id(),
            "name": storable(spec.name),
            "state": (JobState.QUEUED if queued else JobState.PAUSED).value,
            "created_at": time.time(),
            "fence": 0,
            "project": by.project,
            "owner": by.owner,
            "revision": 0,
            "token": by.token,
            "token_digest": None if by.token is None else by.digest,
            "metric_names": names.write(),
            "spec": dump(spec),
            **count_columns(counted(trials)),
        }
        try:
            with self.database.writing() as connection:
                made = queries.by_token(connection, by)
                if made is None:
                    queries.add_job(connection, row)
                    writes.add_whole_trials(connection, str(row["id"]), trials, names)
                    made = queries.job(connection, str(row["id"]))
        except Duplicate:  # the same submission came at the same moment, and was first
            with self.database.reading() as connection:
                made = queries.by_token(connection, by)
        if made is None:
            raise DatabaseError("the job could not be written; try again")
        check_token(f"job {made.id}", made.token_digest, by)
        return self.read(made)

    def submitted(self, by: Submitter) -> Job | None:
        """The job that the submitter's token made before. Raises `TokenReused`."""
        with self.database.reading() as connection:
            made = queries.by_token(connection, by)
        if made is None:
            return None
        check_token(f"job {made.id}", made.token_digest, by)
        return self.read(made)

    def job(self, job_id: str) -> Job:
        """One job. Raises `KeyError`."""
        with self.database.reading() as connection:
            return self.read(queries.job(connection, job_id))

    def jobs(
        self,
        which: JobFilter = JobFilter(),
        after: str | None = None,
        limit: int = 100,
        *,
        oldest_first: bool = False,
    ) -> Sequence[Job]:
        """Newest first, or oldest first; `after` is the id of the last job of the page before.

        A job whose document this version cannot read is left out: it must not hide the others.
        """
        found: list[Job] = []
        with self.database.reading() as connection:
            while wanted := limit - len(found):
                rows = queries.page_of_jobs(connection, which, after, wanted, oldest_first)
                for row in rows:
                    with suppress(Unreadable):
                        found.append(self.read(row))
                if len(rows) < wanted:
                    break
                after = rows[-1].id
        return found

    def trials(
        self, job_id: str, after: int = -1, limit: int | None = None, which: TrialFilter = TrialFilter()
    ) -> Sequence[Trial]:
        """Trials with numbers greater than `after`, by number. Raises `KeyError`."""
        with self.database.reading() as connection:
            rows = queries.page_of_trials(connection, job_id, after, limit, which)
            return self._trials(connection, job_id, rows)

    def finished(self, job_id: str, after: int = -1, limit: int | None = None) -> Sequence[Trial]:
        """Trials whose `order` is greater than `after`, in the order in which they finished. Raises `KeyError`."""
        with self.database.reading() as connection:
            rows = queries.finished_trials(connection, job_id, after, limit)
            return self._trials(connection, job_id, rows)

    def measurements(self, job_id: str, after: int = -1) -> Measurements:
        """What was measured by SUCCEEDED trials whose `order` is greater than `after`. Raises `KeyError`."""
        with self.database.reading() as connection:
            parts = [tuple(zip(*rows, strict=True)) for rows in queries.measured(connection, job_id, after)]
            names = MetricNames.read(queries.job(connection, job_id).metric_names)
        numbers, orders, feasible, packed = ([v for part in parts for v in part[i]] for i in range(4))
        order = np.array(orders, dtype=np.int64)
        first = np.argsort(order)
        return Measurements(
            numbers=np.array(numbers, dtype=np.int64)[first],
            orders=order[first],
            feasible=np.array(feasible, dtype=np.bool_)[first],
            names=names.names,
            values=names.array(packed)[first],
        )

    def trace(self, job_id: str, number: int) -> Trace | None:
        """How a trial's last evaluation went, where that is known. Raises `KeyError`."""
        with self.database.reading() as connection:
            row = queries.trace(connection, job_id, number)
            if row is None:
                queries.job(connection, job_id)
                return None
            return trace_of(row)

    def request(self, job_id: str, request: Request) -> Job:
        """Ask for a change of state. Raises `KeyError`, or `WrongState` where it cannot be done."""
        with self.database.writing() as connection:
            row = queries.locked_job(connection, job_id)
            current = JobState(row.state)
            state = requested(current, request)
            if state is not current and state.over:
                _end(connection, row, state, ON_REQUEST)
            elif state is not current:
                queries.change_job(connection, job_id, state=state, reason=None)
            return self.read(queries.job(connection, job_id))

    def edit(self, job_id: str, change: Callable[[Job], JobSpec], revision: int | None = None) -> Job:
        """Give a job the document that `change` makes. Raises `KeyError`, `Stale`, and what `change` does."""
        with self.database.writing() as connection:
            before = self.read(queries.locked_job(connection, job_id))
            check_revision(before, revision)
            spec = change(before)
            if spec != before.spec:
                queries.change_job(
                    connection,
                    job_id,
                    spec=dump(spec),
                    name=storable(spec.name),
                    revision=before.revision + 1,
                )
            return self.read(queries.job(connection, job_id))

    def delete(self, job_id: str) -> None:
        """Forget a job and its trials. Raises `KeyError`, or `WrongState` while a runner holds it."""
        with self.database.writing() as connection:
            check_deletable(job_id, JobState(queries.locked_job(connection, job_id).state))
            queries.forget(connection, job_id)

    def census(self) -> Census:
        """How much there is to do, over all projects."""
        with self.database.reading() as connection:
            return Census(*queries.census(connection))

    def claim(self, job_id: str | None = None) -> SqlLease | None:
        """The right to one runnable job (the next in turn, or the one named), or None if there is none.

        A job whose document this version cannot read ends FAILED and is passed over, so that it does not
        stand in the way of others.
        """
        while True:
            with self.database.writing() as connection:
                row = connection.execute(queries.runnable(job_id)).first()
                if row is None:
                    return None
                try:
                    return self._take(connection, row)
                except Unreadable as error:
                    _end(connection, row, JobState.FAILED, str(error))

    def _take(self, connection: Connection, row: Row[Any]) -> SqlLease:
        """Hold the job of a locked row, and recover the trials that its last runner left RUNNING."""
        ledger, names = self.standing(connection, row)
        at = time.time()
        recovered = ledger.recover(at)
        writes.change_trials(connection, row.id, recovered, names)
        ledger.keep(recovered)
        queries.change_job(
            connection,
            row.id,
            state=after_claim(JobState(row.state)),
            reason=None,
            started_at=row.started_at or at,
            fence=row.fence + 1,
            lease_expires_at=now() + self._seconds,
            **count_columns(ledger.counts),
        )
        job = self.read(queries.job(connection, row.id))
        return SqlLease(self, job, row.fence + 1, ledger, names, self._seconds)

    def standing(self, connection: Connection, row: Row[Any]) -> tuple[Ledger, MetricNames]:
        """What the holder of a job's lease must know of its trials, by the job's locked row.

        They are counted anew: what a lost connection had under way may have left counts of another moment.
        """
        document, names = self._document(row.spec), MetricNames.read(row.metric_names)
        rows = queries.open_trials(connection, row.id)
        known = trials_of(rows, document.space, names) if rows else []
        return Ledger(document.spec.problem, known, queries.counted(connection, row.id)), names

    def read(self, row: Row[Any]) -> Job:
        """A row of `jobs` as a value."""
        return job_of(row, self._document(row.spec).spec)

    def _trials(self, connection: Connection, job_id: str, rows: Sequence[Row[Any]]) -> list[Trial]:
        """Rows as values. The job is read after its trials: it then names every metric that they can have."""
        job = queries.job(connection, job_id)
        if not rows:
            return []
        return trials_of(rows, self._document(job.spec).space, MetricNames.read(job.metric_names))


def _end(connection: Connection, row: Row[Any], state: JobState, reason: str) -> None:
    """End a locked job that no runner holds. Its document, which may be the fault, is not looked at."""
    at = time.time()
    unread = Problem(())  # a trial is cancelled alike whatever is wanted of it
    ledger = Ledger(unread, bare_trials_of(queries.open_trials(connection, row.id)), counts_of(row))
    ended = ledger.release(state, reason, at)
    writes.change_trials(connection, row.id, ended, UNMEASURED)
    queries.let_go(connection, row.id, state, storable(reason), at, ledger.counts_with(ended))
