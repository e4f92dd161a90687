"""What the store asks of the database. Statements are built once; parameters are named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Connection, Executable, Row, Select, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from nas.contracts import JobFilter, Submitter, TrialFilter
from nas.job import JobState
from nas.storage.clock import now
from nas.storage.packing import MetricNames
from nas.storage.rows import CHANGING, changed_row, count_columns, new_row, trace_row, whole_row
from nas.storage.schema import exports, fitted, jobs, traces, trials
from nas.trial import Trace, Trial, TrialState

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

COUNT = (
    update(jobs)
    .where(jobs.c.id == bindparam("the_job"), jobs.c.fence == bindparam("the_fence"))
    .values({state.value.lower(): bindparam(state.value.lower()) for state in TrialState})
    .returning(jobs.c.id)
)
"""Say how many trials are in each state; no row where the lease is lost. Nobody else can change the job before the
transaction ends."""

_OPEN_TRIAL = insert(trials)

_CHANGE_TRIAL = (
    update(trials)
    .where(trials.c.job_id == bindparam("the_job"), trials.c.number == bindparam("the_number"))
    .values({name: bindparam(name) for name in CHANGING})
)


def _change_many() -> Any:
    """The same of many trials: one statement with an array a column, which costs the server a third."""
    columns = [trials.c.number, *(trials.c[name] for name in CHANGING)]
    arrays = [bindparam(f"{c.name}s", type_=postgresql.ARRAY(c.type)) for c in columns]
    given = func.unnest(*arrays).table_valued(*(c.name for c in columns), name="given").render_derived()
    # which rows is said once more, so that no plan looks through the job's other trials
    mine = (trials.c.job_id == bindparam("the_job")) & (trials.c.number == func.any(arrays[0]))
    return (
        update(trials)
        .where(mine, trials.c.number == given.c.number)
        .values({name: given.c[name] for name in CHANGING})
    )


_CHANGE_MANY = _change_many()

_OWNER = func.coalesce(jobs.c.owner, "")

_ROWS = 500
"""Read, or written, at a time where there may be many."""


def _upsert(statement: Any) -> Any:
    told = {name: statement.excluded[name] for name in ("worker", "started_at", "curve", "log")}
    return statement.on_conflict_do_update(index_elements=["job_id", "number"], set_=told)


_PUT_TRACE = {"sqlite": _upsert(sqlite.insert(traces)), "postgresql": _upsert(postgresql.insert(traces))}


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


def add_trials(connection: Connection, job_id: str, new: Iterable[Trial]) -> None:
    """Write trials that are not there yet."""
    rows = [new_row(job_id, trial) for trial in new]
    _each(connection, _OPEN_TRIAL, rows)


def add_whole_trials(connection: Connection, job_id: str, given: Sequence[Trial], names: MetricNames) -> None:
    """Write the trials that a job begins with, whatever their state; there may be many."""
    for first in range(0, len(given), _ROWS):
        rows = [whole_row(job_id, trial, names) for trial in given[first : first + _ROWS]]
        _each(connection, _OPEN_TRIAL, rows)


def change_trials(connection: Connection, job_id: str, changed: Iterable[Trial], names: MetricNames) -> None:
    """Write what may change of trials that are there."""
    found = {
        trial.number: trial for trial in changed
    }  # of one that changed twice the last, as one row has one end
    rows = [changed_row(job_id, trial, names) for trial in found.values()]
    if len(rows) > 1 and connection.dialect.name == "postgresql":
        arrays = {f"{name}s": [row[name] for row in rows] for name in CHANGING}
        numbers = [row["the_number"] for row in rows]
        connection.execute(_CHANGE_MANY, {"the_job": job_id, "numbers": numbers, **arrays})
        return
    _each(connection, _CHANGE_TRIAL, rows)


def put_traces(connection: Connection, job_id: str, found: Mapping[int, Trace]) -> None:
    """Write how evaluations went, in place of what stood there."""
    if found:
        rows = [trace_row(job_id, number, trace) for number, trace in found.items()]
        _each(connection, _PUT_TRACE[connection.dialect.name], rows)


def forget(connection: Connection, job_id: str) -> None:
    """Delete a job and all that belongs to it."""
    for table in (traces, trials, fitted, exports):
        connection.execute(delete(table).where(table.c.job_id == job_id))
    connection.execute(delete(jobs).where(jobs.c.id == job_id))


def _each(connection: Connection, statement: Executable, rows: Sequence[Mapping[str, object]]) -> None:
    """Execute a statement once a row; the driver's way for many rows would double the cost of one."""
    if rows:
        connection.execute(statement, rows[0] if len(rows) == 1 else rows)


def _one(connection: Connection, query: Select[Any], job_id: str) -> Row[Any]:
    row = connection.execute(query).first()
    if row is None:
        raise KeyError(job_id)
    return row
