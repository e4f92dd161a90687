"""Predictors in this process, for as long as it lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Container, Sequence
from dataclasses import replace

from nas.fitted import FitState, FittedPredictor
from nas.storage.ids import new_id
from nas.storage.ledger import storable


class MemoryShelf:
    """See `nas.contracts.Shelf`. Any thread may use it.

    Args:
        jobs: the ids of the jobs that there are.
        lock: that guards them.
    """

    def __init__(self, jobs: Container[str], lock: threading.RLock) -> None:
        self._jobs, self._lock = jobs, lock
        self._kept: dict[str, FittedPredictor] = {}

    def add(self, job_id: str, metrics: Sequence[str], trials: int) -> FittedPredictor:
        """A new predictor of a job, FITTING. Raises `KeyError`."""
        predictor = FittedPredictor(new_id(), job_id, tuple(metrics), trials, created_at=time.time())
        with self._lock:
            if job_id not in self._jobs:
                raise KeyError(job_id)
            self._kept[predictor.id] = predictor
        return predictor

    def predictor(self, predictor_id: str) -> FittedPredictor:
        """One predictor. Raises `KeyError`."""
        with self._lock:
            return self._kept[predictor_id]

    def of_job(self, job_id: str, after: str | None = None, limit: int = 100) -> Sequence[FittedPredictor]:
        """The predictors of a job, newest first; `after` is the id of the last one of the page before."""
        with self._lock:
            known = [p for p in self._kept.values() if p.job_id == job_id and (after is None or p.id < after)]
        return sorted(known, key=lambda p: p.id, reverse=True)[:limit]

    def settle(self, predictor: FittedPredictor) -> None:
        """Write what came of a fit, unless that was written before. Raises `KeyError`."""
        reason = None if predictor.reason is None else storable(predictor.reason)
        with self._lock:
            if self._kept[predictor.id].state is FitState.FITTING:
                self._kept[predictor.id] = replace(predictor, reason=reason)

    def remove(self, predictor_id: str) -> None:
        """Forget a predictor. Raises `KeyError`."""
        with self._lock:
            del self._kept[predictor_id]

    def forget(self, job_id: str) -> None:
        """Forget all predictors of a job."""
        with self._lock:
            self._kept = {i: p for i, p in self._kept.items() if p.job_id != job_id}
