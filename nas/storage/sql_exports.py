"""Exports in SQLite or PostgreSQL: a row each, beside the job whose trial they are of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, case, func, insert, or_, select, update

from nas.contracts import LeaseLost, Submitter
from nas.exports import Export, ExportSpec, ExportState
from nas.storage.checks import check_token
from nas.storage.clock import now
from nas.storage.database import Database
from nas.storage.errors import DatabaseError, Duplicate
from nas.storage.ids import new_id
from nas.storage.ledger import storable
from nas.storage.schema import exports, jobs


class SqlExports:
    """See `nas.exports.Exports`. Any thread or process may use it.

    Args:
        database: that has them.
        lease_seconds: how long a runner may be silent before another may take its export.
    """

    def __init__(self, database: Database, lease_seconds: float) -> None:
        self._database, self._seconds = database, lease_seconds

    def add(self, spec: ExportSpec, by: Submitter = Submitter()) -> Export:
        """A new export, QUEUED; or the one that the submitter's token made. Raises `KeyError`, `TokenReused`."""
        export = Export(new_id(), spec, created_at=time.time())
        digest = None if by.token is None else by.digest
        row = {**_row(export), "project": by.project, "token": by.token, "token_digest": digest}
        # the job is held, so that it is not deleted meanwhile
        job = select(jobs.c.id).where(jobs.c.id == spec.job).with_for_update(read=True, key_share=True)
        try:
            with self._database.writing() as connection:
                known = _by_token(connection, by)
                if known is not None:
                    return known
                if connection.execute(job).first() is None:
                    raise KeyError(spec.job)
                connection.execute(insert(exports), row)
                return export
        except Duplicate:  # the same was asked at the same moment, and was first
            known = self.asked(by)
        if known is None:
            raise DatabaseError("the export could not be written; try again")
        return known

    def asked(self, by: Submitter) -> Export | None:
        """The export that the submitter's token made before. Raises `TokenReused`."""
        with self._database.reading() as connection:
            return _by_token(connection, by)

    def export(self, export_id: str) -> Export:
        """One export. Raises `KeyError`."""
        with self._database.reading() as connection:
            row = connection.execute(select(exports).where(exports.c.id == export_id)).first()
        if row is None:
            raise KeyError(export_id)
        return _export(row)

    def of_job(self, job_id: str, after: str | None = None, limit: int = 100) -> Sequence[Export]:
        """The exports of a job, newest first; `after` is the id of the last one of the page before."""
        page = select(exports).where(exports.c.job_id == job_id).order_by(exports.c.id.desc()).limit(limit)
        if after is not None:
            page = page.where(exports.c.id < after)
        with self._database.reading() as connection:
            return [_export(row) for row in connection.execute(page)]

    def cancel(self, export_id: str) -> Export:
        """Have no file made of it. Raises `KeyError`, `WrongState`."""
        locked = select(exports).where(exports.c.id == export_id).with_for_update()
        with self._database.writing() as connection:
            row = connection.execute(locked).first()
            if row is None:
                raise KeyError(export_id)
            cancelled = _export(row).cancelled(time.time())
            _write(connection, cancelled, lease_expires_at=None)
        return cancelled

    def claim(self) -> Export | None:
        """The next one that waits, or whose runner has been silent for too long, now RUNNING."""
        with self._database.reading() as connection:  # mostly there is none, and nothing need be locked
            if connection.execute(select(exports.c.id).where(_claimable()).limit(1)).first() is None:
                return None
        while True:
            with self._database.writing() as connection:
                row = connection.execute(_next()).first()
                if row is None:
                    return None
                claimed = _export(row).claimed(time.time())
                if claimed.state is ExportState.RUNNING:
                    _write(connection, claimed, lease_expires_at=now() + self._seconds, claimed_at=now())
                    return claimed
                _write(connection, claimed, lease_expires_at=None)

    def renew(self, export: Export) -> None:
        """Keep a claimed one. Raises `LeaseLost`."""
        kept = update(exports).where(_held(export)).values(lease_expires_at=now() + self._seconds)
        with self._database.writing() as connection:
            if connection.execute(kept.returning(exports.c.id)).first() is None:
                raise _lost(export)

    def settle(self, export: Export) -> None:
        """Write what came of a claimed one. Raises `LeaseLost`."""
        with self._database.writing() as connection:
            mine = select(exports.c.id).where(_held(export)).with_for_update()
            if connection.execute(mine).first() is None:
                raise _lost(export)
            _write(connection, export, lease_expires_at=None)


def _by_token(connection: Connection, by: Submitter) -> Export | None:
    """The export that the submitter's token made. Raises `TokenReused`."""
    if by.token is None:
        return None
    made = select(exports).where(exports.c.project == by.project, exports.c.token == by.token)
    row = connection.execute(made).first()
    if row is None:
        return None
    check_token(f"export {row.id}", row.token_digest, by)
    return _export(row)


def _next() -> Select[Any]:
    """The export to claim, locked: the next in turn that no other claimer looks at just now."""
    held = case(((exports.c.state == ExportState.RUNNING.value) & (exports.c.lease_expires_at > now()), 1))
    projects = (
        select(exports.c.project, func.count(held).label("held"), func.max(exports.c.claimed_at).label("served"))
        .group_by(exports.c.project)
        .subquery()
    )
    return (
        select(exports)
        .join(projects, projects.c.project == exports.c.project)
        .where(_claimable())
        .order_by(projects.c.held, func.coalesce(projects.c.served, 0.0), exports.c.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=exports)
    )


def _claimable() -> ColumnElement[bool]:
    expired = (exports.c.state == ExportState.RUNNING.value) & (exports.c.lease_expires_at <= now())
    return or_(exports.c.state == ExportState.QUEUED.value, expired)


def _held(export: Export) -> ColumnElement[bool]:
    running = (exports.c.id == export.id) & (exports.c.state == ExportState.RUNNING.value)
    return running & (exports.c.attempt == export.attempt)


def _lost(export: Export) -> LeaseLost:
    return LeaseLost(f"export {export.id} was cancelled or deleted, or has gone to another runner")


def _write(connection: Connection, export: Export, **columns: object) -> None:
    """Write what may change."""
    row = _row(export)
    changing = {name: row[name] for name in ("state", "attempt", "handed_back", "reason", "finished_at")}
    connection.execute(update(exports).where(exports.c.id == export.id).values({**changing, **columns}))


def _row(export: Export) -> dict[str, object]:
    spec = export.spec
    return {
        "id": export.id,
        "job_id": spec.job,
        "trial": spec.trial,
        "format": spec.format,
        "weights": spec.weights,
        "data_licence": storable(spec.data_licence),
        "state": export.state.value,
        "attempt": export.attempt,
        "handed_back": export.handed_back,
        "reason": None if export.reason is None else storable(export.reason),
        "created_at": export.created_at,
        "finished_at": export.finished_at,
    }


def _export(row: Row[Any]) -> Export:
    spec = ExportSpec.model_construct(
        job=row.job_id, trial=row.trial, format=row.format, weights=row.weights, data_licence=row.data_licence
    )
    state = ExportState(row.state)
    times = row.created_at, row.finished_at
    return Export(row.id, spec, state, row.attempt, row.reason, *times, row.handed_back)
