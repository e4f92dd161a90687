"""Pareto fronts, kept until a further trial has finished."""

from __future__ import annotations

import threading
from collections import OrderedDict

from nas.contracts import Store
from nas.job import Job
from nas.pareto import ParetoFront

KEPT = 64
"""Jobs whose fronts are kept; those asked for last."""


class Fronts:
    """The fronts of a store's jobs. Finished trials never change, so their number says if one is current."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[str, tuple[int, ParetoFront]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, job: Job) -> ParetoFront:
        """The front of all trials that have finished by now."""
        finished = sum(n for state, n in job.counts.items() if not state.open)
        with self._lock:
            at, front = self._kept.get(job.id, (-1, None))
        if front is not None and at >= finished:
            return front
        trials = self._store.trials(job.id)
        front = ParetoFront.of(trials, job.spec.problem)
        self._keep(job.id, sum(not t.state.open for t in trials), front)
        return front

    def _keep(self, job_id: str, finished: int, front: ParetoFront) -> None:
        with self._lock:
            self._kept[job_id] = finished, front
            self._kept.move_to_end(job_id)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
