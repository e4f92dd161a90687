"""What the store asks of the database. Statements are built once; parameters are named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Connection, Row, Select, bindparam, delete, func, insert, or_, select, update

from nas.contracts import JobFilter, Submitter, TrialFilter
from nas.job import JobState
from nas.storage.clock import now
from nas.storage.rows import count_columns
from nas.storage.schema import exports, fitted, jobs, traces, trials
from nas.trial import TrialState

_HELD = [s.value for s in JobState if s.held]
_OPEN = [s.value for s in TrialState if s.open]

FENCE = (
    select(jobs.c.fence, jobs.c.state, jobs.c.revision).where(jobs.c.id == bindparam("the_job")).with_for_update()
)
"""The fence, state and revision of a job, which nobody else can change before the transaction ends."""

RENEW = (
    update(jobs)
    .where(jobs.c.id == bindparam("the_job"), jobs.c.fence == bindparam("the_fence"))
    .values(lease_expires_at=now() + bindparam("seconds"))
    .returning(jobs.c.state, jobs.c.reason, jobs.c.revision)
)
"""Extend a lease; no row where it is lost."""

_OWNER = func.coalesce(jobs.c.owner, "")

_ROWS = 500
"""Read at a time where there may be many."""


def runnable(job_id: str | None) -> Select[Any]:
    """The job to claim, locked: the named one, or the next in turn that no other claimer looks at just now."""
    expired = jobs.c.lease_expires_at <= now()
    if job_id is not None:
        waiting = jobs.c.state.in_([JobState.QUEUED, JobState.PAUSED])
        free = or_(waiting, jobs.c.state.in_(_HELD) & expired)
        return select(jobs).where(jobs.c.id == job_id, free).with_for_update()
    held = (
        select(jobs.c.project, _OWNER.label("owner"), func.count().label("n"))
        .where(jobs.c.state.in_(_HELD), jobs.c.lease_expires_at > now())
        .group_by(jobs.c.project, _OWNER)
        .subquery()
    )
    same = (held.c.project == jobs.c.project) & (held.c.owner == _OWNER)
    return (
        select(jobs)
        .outerjoin(held, same)
        .where(jobs.c.state.in_([JobState.QUEUED.value, *_HELD]), or_(jobs.c.state == JobState.QUEUED, expired))
        .order_by(func.coalesce(held.c.n, 0), jobs.c.created_at, jobs.c.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=jobs)
    )


def by_token(connection: Connection, by: Submitter) -> Row[Any] | None:
    """The row of the job that the submitter's token made."""
    if by.token is None:
        return None
    return connection.execute(select(jobs).where(jobs.c.project == by.project, jobs.c.token == by.token)).first()


def locked_job(connection: Connection, job_id: str) -> Row[Any]:
    """The row of a job, locked. Raises `KeyError`."""
    return _one(connection, select(jobs).where(jobs.c.id == job_id).with_for_update(), job_id)


def job(connection: Connection, job_id: str) -> Row[Any]:
    """The row of a job. Raises `KeyError`."""
    return _one(connection, select(jobs).where(jobs.c.id == job_id), job_id)


def page_of_jobs(
    connection: Connection, which: JobFilter, after: str | None, limit: int, oldest_first: bool
) -> Sequence[Row[Any]]:
    """Rows of jobs, in the order of their ids, which is that of their submission."""
    page = select(jobs).order_by(jobs.c.id if oldest_first else jobs.c.id.desc()).limit(limit)
    if which.states:
        page = page.where(jobs.c.state.in_(which.states))
    for column, wanted in (
        (jobs.c.project, which.project),
        (jobs.c.owner, which.owner),
        (jobs.c.name, which.name),
    ):
        if wanted is not None:
            page = page.where(column == wanted)
    if after is not None:
        page = page.where(jobs.c.id > after if oldest_first else jobs.c.id < after)
    return connection.execute(page).all()


def page_of_trials(
    connection: Connection, job_id: str, after: int, limit: int | None, which: TrialFilter
) -> Sequence[Row[Any]]:
    """Rows of trials, by number."""
    page = select(trials).where(trials.c.job_id == job_id, trials.c.number > after)
    if which.states:
        page = page.where(trials.c.state.in_(which.states))
    if which.feasible is not None:
        page = page.where(trials.c.feasible == which.feasible)
    if which.key is not None:
        page = page.where(trials.c.key == which.key)
    if which.numbers is not None:
        page = page.where(trials.c.number.in_(which.numbers))
    return connection.execute(page.order_by(trials.c.number).limit(limit)).all()


def finished_trials(connection: Connection, job_id: str, after: int, limit: int | None) -> Sequence[Row[Any]]:
    """Rows of finished trials, in the order in which they finished."""
    later = select(trials).where(trials.c.job_id == job_id, trials.c.finish_order > after)
    return connection.execute(later.order_by(trials.c.finish_order).limit(limit)).all()


def measured(connection: Connection, job_id: str, after: int) -> Iterator[Sequence[tuple[int, int, bool, bytes]]]:
    """Numbers, orders, feasibility and packed metrics of SUCCEEDED trials, in no order, some at a time.

    The rows are the driver's own tuples, which for 100,000 of them takes half the time; and where few of them are
    alive at once, the garbage collector does not look through all that the process holds, which would double it.
    """
    columns = select(trials.c.number, trials.c.finish_order, trials.c.feasible, trials.c.metrics)
    of_job = columns.where(trials.c.job_id == job_id, trials.c.state == TrialState.SUCCEEDED)
    # the whole table of a job is read faster than its rows are looked up one by one through an index
    result = connection.execute(of_job.where(trials.c.finish_order > after) if after >= 0 else of_job)
    assert result.cursor is not None
    while rows := result.cursor.fetchmany(_ROWS):
        yield cast("Sequence[tuple[int, int, bool, bytes]]", rows)
    result.close()


def trace(connection: Connection, job_id: str, number: int) -> Row[Any] | None:
    """The row of a trial's trace."""
    one = select(traces).where(traces.c.job_id == job_id, traces.c.number == number)
    return connection.execute(one).first()


def census(connection: Connection) -> tuple[dict[JobState, int], float]:
    """Jobs by state, and the seconds that the oldest QUEUED one has waited."""
    grouped = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state))
    oldest = select(now() - func.min(jobs.c.created_at)).where(jobs.c.state == JobState.QUEUED)
    waited = connection.execute(oldest).scalar()
    return {JobState(state): n for state, n in grouped}, max(0.0, waited or 0.0)


def open_trials(connection: Connection, job_id: str) -> Sequence[Row[Any]]:
    """Rows of the trials whose outcome is still to come, by number."""
    unfinished = select(trials).where(trials.c.job_id == job_id, trials.c.state.in_(_OPEN))
    return connection.execute(unfinished.order_by(trials.c.number)).all()


def counted(connection: Connection, job_id: str) -> dict[TrialState, int]:
    """How many trials of a job are in each state, by looking at all of them."""
    grouped = select(trials.c.state, func.count()).where(trials.c.job_id == job_id).group_by(trials.c.state)
    return {TrialState(state): n for state, n in connection.execute(grouped)}


def change_job(connection: Connection, job_id: str, **columns: object) -> None:
    """Set columns of a job."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(columns))


def let_go(
    connection: Connection,
    job_id: str,
    state: JobState,
    reason: str | None,
    at: float,
    counts: Mapping[TrialState, int],
) -> None:
    """Leave a job in a state that nobody holds; who held it before can write no more."""
    change_job(
        connection,
        job_id,
        state=state,
        reason=reason,
        finished_at=at if state.over else None,
        fence=jobs.c.fence + 1,
        lease_expires_at=None,
        **count_columns(counts),
    )


def add_job(connection: Connection, row: Mapping[str, object]) -> None:
    """Write a new job."""
    connection.execute(insert(jobs), row)


def forget(connection: Connection, job_id: str) -> None:
    """Delete a job and all that belongs to it."""
    for table in (traces, trials, fitted, exports):
        connection.execute(delete(table).where(table.c.job_id == job_id))
    connection.execute(delete(jobs).where(jobs.c.id == job_id))


def _one(connection: Connection, query: Select[Any], job_id: str) -> Row[Any]:
    row = connection.execute(query).first()
    if row is None:
        raise KeyError(job_id)
    return row
