"""Exports in SQLite or PostgreSQL: a row each, beside the job whose trial they are of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, or_, select, update

from nas.contracts import LeaseLost
from nas.exports import Export, ExportSpec, ExportState
from nas.storage.clock import now
from nas.storage.database import Database
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

    def add(self, spec: ExportSpec) -> Export:
        """A new export, QUEUED. Raises `KeyError` where there is no such job."""
        export = Export(new_id(), spec, created_at=time.time())
        # the job is held, so that it is not deleted meanwhile
        job = select(jobs.c.id).where(jobs.c.id == spec.job).with_for_update(read=True, key_share=True)
        with self._database.writing() as connection:
            if connection.execute(job).first() is None:
                raise KeyError(spec.job)
            connection.execute(insert(exports), _row(export))
        return export

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

    def claim(self) -> Export | None:
        """The oldest one that waits, or whose runner has been silent for too long, now RUNNING."""
        waiting = select(exports).where(_claimable()).order_by(exports.c.id).limit(1)
        with self._database.reading() as connection:  # mostly there is none, and nothing need be locked
            if connection.execute(waiting).first() is None:
                return None
        while True:
            with self._database.writing() as connection:
                row = connection.execute(waiting.with_for_update(skip_locked=True)).first()
                if row is None:
                    return None
                claimed = _export(row).claimed(time.time())
                _write(connection, claimed, lease_expires_at=now() + self._seconds)
            if claimed.state is ExportState.RUNNING:
                return claimed

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


def _claimable() -> ColumnElement[bool]:
    expired = (exports.c.state == ExportState.RUNNING.value) & (exports.c.lease_expires_at <= now())
    return or_(exports.c.state == ExportState.QUEUED.value, expired)


def _held(export: Export) -> ColumnElement[bool]:
    running = (exports.c.id == export.id) & (exports.c.state == ExportState.RUNNING.value)
    return running & (exports.c.attempt == export.attempt)


def _lost(export: Export) -> LeaseLost:
    return LeaseLost(f"export {export.id} has gone to another runner, or is no longer there")


def _write(connection: Connection, export: Export, **columns: object) -> None:
    """Write what may change."""
    row = _row(export)
    changing = {name: row[name] for name in ("state", "attempt", "reason", "finished_at")}
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
        "reason": None if export.reason is None else storable(export.reason),
        "created_at": export.created_at,
        "finished_at": export.finished_at,
    }


def _export(row: Row[Any]) -> Export:
    spec = ExportSpec.model_construct(
        job=row.job_id, trial=row.trial, format=row.format, weights=row.weights, data_licence=row.data_licence
    )
    state = ExportState(row.state)
    return Export(row.id, spec, state, row.attempt, row.reason, row.created_at, row.finished_at)
