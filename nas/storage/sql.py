"""Jobs and trials in SQLite or PostgreSQL; the queue of jobs is their table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, insert

from nas.contracts import Request
from nas.job import Job, JobSpec, JobState, requested
from nas.objectives import Problem
from nas.storage import queries
from nas.storage.clock import now
from nas.storage.database import Database
from nas.storage.ids import new_id
from nas.storage.lease import SqlLease
from nas.storage.ledger import ON_REQUEST, Ledger, after_claim, counted, storable
from nas.storage.rows import Document, bare_trials_of, dump, job_of, trials_of
from nas.storage.schema import jobs
from nas.trial import Trial
from search_spaces import SpecError

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
        self._seconds = lease_seconds
        self._document = lru_cache(maxsize=DOCUMENTS_KEPT)(Document)

    def __repr__(self) -> str:
        return f"SqlStore({self.database})"

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        self.database.close()

    def submit(self, spec: JobSpec, *, queued: bool = True, trials: Sequence[Trial] = ()) -> Job:
        """A new job: QUEUED for any runner, or else PAUSED, for whoever claims it by its id."""
        state = JobState.QUEUED if queued else JobState.PAUSED
        job = Job(id=new_id(), spec=spec, state=state, created_at=time.time(), counts=counted(trials))
        row = {
            "id": job.id,
            "name": storable(spec.name),
            "state": job.state.value,
            "created_at": job.created_at,
            "fence": 0,
            "spec": dump(spec),
        }
        with self.database.writing() as connection:
            connection.execute(insert(jobs), row)
            queries.add_whole_trials(connection, job.id, trials)
        return job

    def job(self, job_id: str) -> Job:
        """One job. Raises `KeyError`."""
        with self.database.reading() as connection:
            return self._job(connection, queries.job(connection, job_id))

    def jobs(self, states: Sequence[JobState] = (), after: str | None = None, limit: int = 100) -> Sequence[Job]:
        """Newest first; `after` is the id of the last job of the page before."""
        with self.database.reading() as connection:
            rows = queries.page_of_jobs(connection, states, after, limit)
            counts = queries.counts(connection, [row.id for row in rows])
        return [job_of(row, self._document(row.spec).spec, counts.get(row.id, {})) for row in rows]

    def trials(self, job_id: str, after: int = -1, limit: int | None = None) -> Sequence[Trial]:
        """Trials with numbers greater than `after`, by number. Raises `KeyError`."""
        with self.database.reading() as connection:
            text = queries.job(connection, job_id).spec
            rows = queries.page_of_trials(connection, job_id, after, limit)
        return trials_of(rows, self._document(text).space) if rows else []

    def request(self, job_id: str, request: Request) -> Job:
        """Ask for a change of state. Raises `KeyError`, or `WrongState` where it cannot be done."""
        with self.database.writing() as connection:
            current = JobState(queries.locked_job(connection, job_id).state)
            state = requested(current, request)
            if state is not current and state.over:
                _end(connection, job_id, state, ON_REQUEST)
            elif state is not current:
                queries.change_job(connection, job_id, state=state, reason=None)
            return self._job(connection, queries.job(connection, job_id))

    def claim(self, job_id: str | None = None) -> SqlLease | None:
        """The right to one runnable job (the oldest, or the one named), or None if there is none.

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
                except SpecError as error:
                    _end(connection, row.id, JobState.FAILED, f"the document cannot be read: {error}")

    def _take(self, connection: Connection, row: Row[Any]) -> SqlLease:
        """Hold the job of a locked row, and recover the trials that its last runner left RUNNING."""
        document = self._document(row.spec)
        rows = queries.open_trials(connection, row.id)
        known = trials_of(rows, document.space) if rows else []
        ledger = Ledger(document.spec.problem, known, queries.counts(connection, [row.id]).get(row.id))
        at = time.time()
        recovered = ledger.recover(at)
        queries.change_trials(connection, row.id, recovered)
        ledger.keep(recovered)
        queries.change_job(
            connection,
            row.id,
            state=after_claim(JobState(row.state)),
            reason=None,
            started_at=row.started_at or at,
            fence=row.fence + 1,
            lease_expires_at=now() + self._seconds,
        )
        job = self._job(connection, queries.job(connection, row.id))
        return SqlLease(self, job, row.fence + 1, ledger, self._seconds)

    def _job(self, connection: Connection, row: Row[Any]) -> Job:
        return job_of(row, self._document(row.spec).spec, queries.counts(connection, [row.id]).get(row.id, {}))


def _end(connection: Connection, job_id: str, state: JobState, reason: str) -> None:
    """End a locked job that no runner holds. Its document, which may be the fault, is not looked at."""
    at = time.time()
    unread = Problem(())  # a trial is cancelled alike whatever is wanted of it
    known = bare_trials_of(queries.open_trials(connection, job_id))
    ledger = Ledger(unread, known, queries.counts(connection, [job_id]).get(job_id))
    queries.change_trials(connection, job_id, ledger.release(state, reason, at))
    queries.let_go(connection, job_id, state, storable(reason), at)
