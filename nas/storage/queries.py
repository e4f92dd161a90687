"""What the store asks of the database. Statements are built once; parameters are named."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, insert, or_, select, update

from nas.job import JobState
from nas.storage.clock import now
from nas.storage.rows import CHANGING, changed_row, new_row, whole_row
from nas.storage.schema import jobs, trials
from nas.trial import Trial, TrialState

_HELD = [s.value for s in JobState if s.held]
_OPEN = [s.value for s in TrialState if s.open]

FENCE = select(jobs.c.fence, jobs.c.state).where(jobs.c.id == bindparam("the_job")).with_for_update()
"""The fence and state of a job, which nobody else can change before the transaction ends."""

RENEW = (
    update(jobs)
    .where(jobs.c.id == bindparam("the_job"), jobs.c.fence == bindparam("the_fence"))
    .values(lease_expires_at=now() + bindparam("seconds"))
    .returning(jobs.c.state, jobs.c.reason)
)
"""Extend a lease; no row where it is lost."""

_OPEN_TRIAL = insert(trials)

_CHANGE_TRIAL = (
    update(trials)
    .where(trials.c.job_id == bindparam("the_job"), trials.c.number == bindparam("the_number"))
    .values({name: bindparam(name) for name in CHANGING})
)


def runnable(job_id: str | None) -> Select[Any]:
    """The job to claim, locked: the named one, or the oldest that no other claimer looks at just now."""
    expired = jobs.c.state.in_(_HELD) & (jobs.c.lease_expires_at <= now())
    if job_id is not None:
        waiting = jobs.c.state.in_([JobState.QUEUED, JobState.PAUSED])
        return select(jobs).where(jobs.c.id == job_id, or_(waiting, expired)).with_for_update()
    oldest = select(jobs).order_by(jobs.c.created_at, jobs.c.id).limit(1).with_for_update(skip_locked=True)
    return oldest.where(or_(jobs.c.state == JobState.QUEUED, expired))


def locked_job(connection: Connection, job_id: str) -> Row[Any]:
    """The row of a job, locked. Raises `KeyError`."""
    return _one(connection, select(jobs).where(jobs.c.id == job_id).with_for_update(), job_id)


def job(connection: Connection, job_id: str) -> Row[Any]:
    """The row of a job. Raises `KeyError`."""
    return _one(connection, select(jobs).where(jobs.c.id == job_id), job_id)


def page_of_jobs(
    connection: Connection, states: Sequence[JobState], after: str | None, limit: int
) -> Sequence[Row[Any]]:
    """Rows of jobs, the newest first."""
    page = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
    if states:
        page = page.where(jobs.c.state.in_(states))
    if after is not None:
        page = page.where(jobs.c.id < after)
    return connection.execute(page).all()


def counts(connection: Connection, job_ids: Sequence[str]) -> dict[str, dict[TrialState, int]]:
    """Trials by state of every job."""
    found: dict[str, dict[TrialState, int]] = defaultdict(dict)
    total = func.count()
    grouped = select(trials.c.job_id, trials.c.state, total).group_by(trials.c.job_id, trials.c.state)
    for job_id, state, n in connection.execute(grouped.where(trials.c.job_id.in_(job_ids))):
        found[job_id][TrialState(state)] = n
    return found


def page_of_trials(
    connection: Connection, job_id: str, after: int = -1, limit: int | None = None
) -> Sequence[Row[Any]]:
    """Rows of trials, by number."""
    page = select(trials).where(trials.c.job_id == job_id, trials.c.number > after)
    return connection.execute(page.order_by(trials.c.number).limit(limit)).all()


def open_trials(connection: Connection, job_id: str) -> Sequence[Row[Any]]:
    """Rows of the trials whose outcome is still to come, by number."""
    unfinished = select(trials).where(trials.c.job_id == job_id, trials.c.state.in_(_OPEN))
    return connection.execute(unfinished.order_by(trials.c.number)).all()


def change_job(connection: Connection, job_id: str, **columns: object) -> None:
    """Set columns of a job."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(columns))


def let_go(connection: Connection, job_id: str, state: JobState, reason: str | None, at: float) -> None:
    """Leave a job in a state that nobody holds; who held it before can write no more."""
    change_job(
        connection,
        job_id,
        state=state,
        reason=reason,
        finished_at=at if state.over else None,
        fence=jobs.c.fence + 1,
        lease_expires_at=None,
    )


def add_trials(connection: Connection, job_id: str, new: Iterable[Trial]) -> None:
    """Write trials that are not there yet."""
    rows = [new_row(job_id, trial) for trial in new]
    if rows:
        connection.execute(_OPEN_TRIAL, rows)


def add_whole_trials(connection: Connection, job_id: str, given: Iterable[Trial]) -> None:
    """Write the trials that a job begins with, whatever their state."""
    rows = [whole_row(job_id, trial) for trial in given]
    if rows:
        connection.execute(_OPEN_TRIAL, rows)


def change_trials(connection: Connection, job_id: str, changed: Iterable[Trial]) -> None:
    """Write what may change of trials that are there."""
    rows = [changed_row(job_id, trial) for trial in changed]
    if rows:
        connection.execute(_CHANGE_TRIAL, rows)


def _one(connection: Connection, query: Select[Any], job_id: str) -> Row[Any]:
    row = connection.execute(query).first()
    if row is None:
        raise KeyError(job_id)
    return row
