"""Exports in this process, for as long as it lives."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import replace

from nas.contracts import LeaseLost, Submitter
from nas.exports import Export, ExportSpec, ExportState
from nas.storage.checks import check_token
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
        self._by: dict[str, Submitter] = {}
        self._until: dict[str, float] = {}
        self._claimed: dict[str, float] = {}
        """When each was claimed last; like the ends of leases a monotonic time."""

    def add(self, spec: ExportSpec, by: Submitter = Submitter()) -> Export:
        """A new export, QUEUED; or the one that the submitter's token made. Raises `KeyError`, `TokenReused`."""
        with self._lock:
            known = self.asked(by)
            if known is not None:
                return known
            if spec.job not in self._jobs:
                raise KeyError(spec.job)
            export = Export(new_id(), spec, created_at=time.time())
            self._kept[export.id], self._by[export.id] = export, by
        return export

    def asked(self, by: Submitter) -> Export | None:
        """The export that the submitter's token made before. Raises `TokenReused`."""
        if by.token is None:
            return None
        with self._lock:
            for export_id, other in self._by.items():
                if (other.project, other.token) == (by.project, by.token):
                    check_token(f"export {export_id}", other.digest, by)
                    return self._kept[export_id]
        return None

    def export(self, export_id: str) -> Export:
        """One export. Raises `KeyError`."""
        with self._lock:
            return self._kept[export_id]

    def of_job(self, job_id: str, after: str | None = None, limit: int = 100) -> Sequence[Export]:
        """The exports of a job, newest first; `after` is the id of the last one of the page before."""
        with self._lock:
            known = [e for e in self._kept.values() if e.spec.job == job_id and (after is None or e.id < after)]
        return sorted(known, key=lambda e: e.id, reverse=True)[:limit]

    def cancel(self, export_id: str) -> Export:
        """Have no file made of it. Raises `KeyError`, `WrongState`."""
        with self._lock:
            export = self._kept[export_id] = self._kept[export_id].cancelled(time.time())
        return export

    def claim(self) -> Export | None:
        """The next one that waits, or whose runner has been silent for too long, now RUNNING."""
        with self._lock:
            for export in self._in_turn(time.monotonic()):
                claimed = self._kept[export.id] = export.claimed(time.time())
                if claimed.state is ExportState.RUNNING:
                    self._claimed[export.id] = time.monotonic()
                    self._until[export.id] = self._claimed[export.id] + self._seconds
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
            for export_id in [i for i, e in self._kept.items() if e.spec.job == job_id]:
                del self._kept[export_id], self._by[export_id]
                self._until.pop(export_id, None)
                self._claimed.pop(export_id, None)

    def _in_turn(self, now: float) -> list[Export]:
        """Those that can be claimed, the next one first."""
        running = [e for e in self._kept.values() if e.state is ExportState.RUNNING]
        held = Counter(self._by[e.id].project for e in running if self._until[e.id] > now)
        served: dict[str, float] = {}
        for export_id, at in sorted(self._claimed.items(), key=lambda item: item[1]):
            served[self._by[export_id].project] = at
        free = [e for e in self._kept.values() if e.state is ExportState.QUEUED]
        free += [e for e in running if self._until[e.id] <= now]

        def turn(export: Export) -> tuple[int, float, str]:
            project = self._by[export.id].project
            return held[project], served.get(project, 0.0), export.id

        return sorted(free, key=turn)

    def _check(self, export: Export) -> None:
        known = self._kept.get(export.id)
        if known is None or known.state is not ExportState.RUNNING or known.attempt != export.attempt:
            raise LeaseLost(f"export {export.id} was cancelled or deleted, or has gone to another runner")
