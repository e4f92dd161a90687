"""What the holder of a lease writes: trials, how their evaluations went, and how many trials are in each state.

On SQLite these are statements of a transaction. On PostgreSQL they are one statement, which goes to the server and
back once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Executable,
    bindparam,
    cast,
    exists,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from nas.storage.database import Database
from nas.storage.packing import MetricNames
from nas.storage.rows import CHANGING, changed_row, count_columns, new_row, trace_row, whole_row
from nas.storage.schema import jobs, traces, trials
from nas.trial import Trace, Trial, TrialState

Row = Mapping[str, object]

_COUNT = (
    update(jobs)
    .where(jobs.c.id == bindparam("the_job"), jobs.c.fence == bindparam("the_fence"))
    .values({name: bindparam(name) for name in (*(s.value.lower() for s in TrialState), "metric_names")})
    .returning(jobs.c.id)
)
"""No row where the lease is lost. Nobody else can change the job before the transaction ends."""

_OPEN_TRIAL = insert(trials)

_CHANGE_TRIAL = (
    update(trials)
    .where(trials.c.job_id == bindparam("the_job"), trials.c.number == bindparam("the_number"))
    .values({name: bindparam(name) for name in CHANGING})
)

_ROWS = 500
"""Written at a time where there may be many."""


@dataclass(frozen=True)
class Write:
    """Trials of a job that are new or changed, and what goes with them."""

    job_id: str
    fence: int
    counts: Mapping[TrialState, int]
    """Of all trials of the job, these included."""
    names: MetricNames
    """All that trials of the job have."""
    new: Sequence[Trial] = ()
    changed: Sequence[Trial] = ()
    traces: Mapping[int, Trace] = field(default_factory=dict)
    """By the number of their trial."""


def write(database: Database, what: Write) -> bool:
    """Write all of it, or nothing where the fence holds no longer; says whether it does."""
    job = {
        "the_job": what.job_id,
        "the_fence": what.fence,
        "metric_names": what.names.write(),
        **count_columns(what.counts),
    }
    new = [new_row(what.job_id, trial) for trial in what.new]
    changed = _changed_rows(what.job_id, what.changed, what.names)
    told = [trace_row(what.job_id, number, trace) for number, trace in what.traces.items()]
    if not database.is_sqlite:
        statement = _at_once(_Rows.of(new), _Rows.of(changed), _Rows.of(told))
        rows = _parameters("new", new) | _parameters("changed", changed) | _parameters("told", told)
        with database.writing_at_once() as connection:
            return connection.execute(statement, job | rows).first() is not None
    with database.writing() as connection:
        if connection.execute(_COUNT, job).first() is None:
            return False
        _each(connection, _OPEN_TRIAL, new)
        _each(connection, _CHANGE_TRIAL, changed)
        _each(connection, _PUT_TRACE, told)
        return True


def change_trials(connection: Connection, job_id: str, changed: Iterable[Trial], names: MetricNames) -> None:
    """Write what may change of trials that are there. The transaction must have the job's row."""
    rows = _changed_rows(job_id, changed, names)
    if rows and connection.dialect.name == "postgresql":
        connection.execute(_ALTER[_Rows.of(rows)], {"the_job": job_id, **_parameters("changed", rows)})
    else:
        _each(connection, _CHANGE_TRIAL, rows)


def add_whole_trials(connection: Connection, job_id: str, given: Sequence[Trial], names: MetricNames) -> None:
    """Write the trials that a job begins with, whatever their state; there may be many."""
    for first in range(0, len(given), _ROWS):
        rows = [whole_row(job_id, trial, names) for trial in given[first : first + _ROWS]]
        _each(connection, _OPEN_TRIAL, rows)


def _changed_rows(job_id: str, changed: Iterable[Trial], names: MetricNames) -> list[Row]:
    """One row a trial; of one that changed twice the last, as one row has one end."""
    last = {trial.number: trial for trial in changed}
    return [changed_row(job_id, trial, names) for trial in last.values()]


def _each(connection: Connection, statement: Executable, rows: Sequence[Row]) -> None:
    """Execute a statement once a row; the driver's way for many rows would double the cost of one."""
    if rows:
        connection.execute(statement, rows[0] if len(rows) == 1 else rows)


def _tell(statement: Any) -> Any:
    """Put traces in place of what stood there."""
    told = {name: statement.excluded[name] for name in ("worker", "started_at", "curve", "log")}
    return statement.on_conflict_do_update(index_elements=["job_id", "number"], set_=told)


_PUT_TRACE = _tell(sqlite.insert(traces))

# PostgreSQL: rows are a table of parameters. Many are an array a column, which costs the server a third of a row
# after the other; of one, arrays would cost this side half as much again.

_NEW = "job_id number state attempt losses key genes fidelity resume_from created_at"
_TOLD = "job_id number worker started_at curve log"
_COLUMNS: Mapping[str, Mapping[str, Column[Any]]] = {
    "new": {name: trials.c[name] for name in _NEW.split()},
    "changed": {"the_number": trials.c.number, **{name: trials.c[name] for name in CHANGING}},
    "told": {name: traces.c[name] for name in _TOLD.split()},
}


class _Rows(Enum):
    NONE = 0
    ONE = 1
    MANY = 2

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Rows:
        return cls(min(len(rows), 2))


def _parameters(what: str, rows: Sequence[Row]) -> dict[str, object]:
    """What `_given` takes."""
    if len(rows) == 1:
        return {f"{what}_{name}": rows[0][name] for name in _COLUMNS[what]}
    return {f"{what}_{name}": [row[name] for row in rows] for name in _COLUMNS[what] if rows}


def _given(what: str, rows: _Rows) -> Any:
    """The table of parameters."""
    columns = _COLUMNS[what]
    if rows is _Rows.ONE:
        values = [
            cast(bindparam(f"{what}_{name}", type_=c.type), c.type).label(name) for name, c in columns.items()
        ]
        return select(*values).subquery(what)
    arrays = [bindparam(f"{what}_{name}", type_=postgresql.ARRAY(c.type)) for name, c in columns.items()]
    return func.unnest(*arrays).table_valued(*columns, name=what).render_derived()


@cache
def _at_once(new: _Rows, changed: _Rows, told: _Rows) -> Executable:
    """One statement for everything; it gives no row, and changes nothing, where the fence holds no longer."""
    mine = _COUNT.cte("mine")
    held = exists(select(mine.c.id))
    parts = {}
    if new is not _Rows.NONE:
        parts["added"] = _add("new", new, insert(trials), held)
    if changed is not _Rows.NONE:
        parts["altered"] = _alter(changed, held)
    if told is not _Rows.NONE:
        parts["traced"] = _tell(_add("told", told, postgresql.insert(traces), held))
    return select(mine.c.id).add_cte(*(part.cte(name) for name, part in parts.items()))


def _add(what: str, rows: _Rows, statement: Any, held: ColumnElement[bool]) -> Any:
    return statement.from_select(list(_COLUMNS[what]), select(*_given(what, rows).c).where(held))


def _alter(rows: _Rows, *conditions: ColumnElement[bool]) -> Any:
    given = _given("changed", rows)
    mine = [trials.c.job_id == bindparam("the_job"), trials.c.number == given.c.the_number]
    if rows is _Rows.MANY:  # which rows is said once more, so that no plan looks through the job's other trials
        mine.append(trials.c.number == func.any(bindparam("changed_the_number", type_=_INTEGERS)))
    values = {name: given.c[name] for name in CHANGING}
    return update(trials).where(*mine, *conditions).values(values)


_INTEGERS = postgresql.ARRAY(trials.c.number.type)
_ALTER = {rows: _alter(rows) for rows in (_Rows.ONE, _Rows.MANY)}
