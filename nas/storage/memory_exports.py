"""Exports in this process, for as long as it lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Container, Sequence
from dataclasses import replace

from nas.contracts import LeaseLost
from nas.exports import Export, ExportSpec, ExportState
from nas.storage.ids import new_id
from nas.storage.ledger import storable


class MemoryExports:
    """See `nas.exports.Exports`. Any thread may use it.

    Args:
        jobs: the ids of the jobs that there are.
        lock: that guards them.
        lease_seconds: how long a runner may be silent before another may take its export.
    """

    def __init__(self, jobs: Container[str], lock: threading.RLock, lease_seconds: float) -> None:
        self._jobs, self._lock, self._seconds = jobs, lock, lease_seconds
        self._kept: dict[str, Export] = {}
        self._until: dict[str, float] = {}

    def add(self, spec: ExportSpec) -> Export:
        """A new export, QUEUED. Raises `KeyError` where there is no such job."""
        export = Export(new_id(), spec, created_at=time.time())
        with self._lock:
            if spec.job not in self._jobs:
                raise KeyError(spec.job)
            self._kept[export.id] = export
        return export

    def export(self, export_id: str) -> Export:
        """One export. Raises `KeyError`."""
        with self._lock:
            return self._kept[export_id]

    def of_job(self, job_id: str, after: str | None = None, limit: int = 100) -> Sequence[Export]:
        """The exports of a job, newest first; `after` is the id of the last one of the page before."""
        with self._lock:
            known = [e for e in self._kept.values() if e.spec.job == job_id and (after is None or e.id < after)]
        return sorted(known, key=lambda e: e.id, reverse=True)[:limit]

    def claim(self) -> Export | None:
        """The oldest one that waits, or whose runner has been silent for too long, now RUNNING."""
        with self._lock:
            for export in sorted(self._kept.values(), key=lambda e: e.id):
                now = time.monotonic()
                if export.state.over or self._until.get(export.id, now) > now:
                    continue
                claimed = self._kept[export.id] = export.claimed(time.time())
                self._until[export.id] = now + self._seconds
                if claimed.state is ExportState.RUNNING:
                    return claimed
        return None

    def renew(self, export: Export) -> None:
        """Keep a claimed one. Raises `LeaseLost`."""
        with self._lock:
            self._check(export)
            self._until[export.id] = time.monotonic() + self._seconds

    def settle(self, export: Export) -> None:
        """Write what came of a claimed one. Raises `LeaseLost`."""
        with self._lock:
            self._check(export)
            self._kept[export.id] = replace(export, reason=export.reason and storable(export.reason))

    def forget(self, job_id: str) -> None:
        """Forget all exports of a job."""
        with self._lock:
            self._kept = {i: e for i, e in self._kept.items() if e.spec.job != job_id}
            self._until = {i: until for i, until in self._until.items() if i in self._kept}

    def _check(self, export: Export) -> None:
        known = self._kept.get(export.id)
        if known is None or known.state is not ExportState.RUNNING or known.attempt != export.attempt:
            raise LeaseLost(f"export {export.id} has gone to another runner, or is no longer there")
