"""Predictors in SQLite or PostgreSQL: a row each, beside the job that they learn from."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from nas.fitted import FitState, FittedPredictor
from nas.storage.database import Database
from nas.storage.ids import new_id
from nas.storage.ledger import storable
from nas.storage.schema import fitted, jobs


class SqlShelf:
    """See `nas.contracts.Shelf`. Any thread or process may use it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, job_id: str, metrics: Sequence[str], trials: int) -> FittedPredictor:
        """A new predictor of a job, FITTING. Raises `KeyError`."""
        predictor = FittedPredictor(new_id(), job_id, tuple(metrics), trials, created_at=time.time())
        # the job is held, so that it is not deleted meanwhile
        job = select(jobs.c.id).where(jobs.c.id == job_id).with_for_update(read=True, key_share=True)
        with self._database.writing() as connection:
            if connection.execute(job).first() is None:
                raise KeyError(job_id)
            connection.execute(insert(fitted), _row(predictor))
        return predictor

    def predictor(self, predictor_id: str) -> FittedPredictor:
        """One predictor. Raises `KeyError`."""
        with self._database.reading() as connection:
            row = connection.execute(select(fitted).where(fitted.c.id == predictor_id)).first()
        if row is None:
            raise KeyError(predictor_id)
        return _predictor(row)

    def of_job(self, job_id: str, after: str | None = None, limit: int = 100) -> Sequence[FittedPredictor]:
        """The predictors of a job, newest first; `after` is the id of the last one of the page before."""
        page = select(fitted).where(fitted.c.job_id == job_id).order_by(fitted.c.id.desc()).limit(limit)
        if after is not None:
            page = page.where(fitted.c.id < after)
        with self._database.reading() as connection:
            return [_predictor(row) for row in connection.execute(page)]

    def settle(self, predictor: FittedPredictor) -> None:
        """Write what came of a fit, unless that was written before. Raises `KeyError`."""
        row = _row(predictor)
        ended = {name: row[name] for name in ("state", "reason", "quality")}
        unsettled = (fitted.c.id == predictor.id) & (fitted.c.state == FitState.FITTING.value)
        with self._database.writing() as connection:
            connection.execute(update(fitted).where(unsettled).values(ended))
            if connection.execute(select(fitted.c.id).where(fitted.c.id == predictor.id)).first() is None:
                raise KeyError(predictor.id)

    def remove(self, predictor_id: str) -> None:
        """Forget a predictor. Raises `KeyError`."""
        gone = delete(fitted).where(fitted.c.id == predictor_id).returning(fitted.c.id)
        with self._database.writing() as connection:
            if connection.execute(gone).first() is None:
                raise KeyError(predictor_id)


def _row(predictor: FittedPredictor) -> dict[str, object]:
    quality, reason = predictor.quality, predictor.reason
    return {
        "id": predictor.id,
        "job_id": predictor.job_id,
        "metrics": json.dumps(predictor.metrics),
        "trials": predictor.trials,
        "state": predictor.state.value,
        "reason": None if reason is None else storable(reason),
        "quality": None if quality is None else json.dumps(quality, separators=(",", ":")),
        "created_at": predictor.created_at,
    }


def _predictor(row: Row[Any]) -> FittedPredictor:
    return FittedPredictor(
        id=row.id,
        job_id=row.job_id,
        metrics=tuple(json.loads(row.metrics)),
        trials=row.trials,
        state=FitState(row.state),
        reason=row.reason,
        quality=None if row.quality is None else json.loads(row.quality),
        created_at=row.created_at,
    )
