"""Exports that were asked for over HTTP: a runner takes one after the other, beside its jobs."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import structlog

from nas.artifacts import Artifacts
from nas.contracts import LeaseLost, Store, WorkersAway
from nas.deploy.deliver import Order, make, measured_trial, seeds_of
from nas.executors import ExecutorKind
from nas.executors.slots import Slots
from nas.export_lease import ExportLease
from nas.exports import Export
from nas.job import Job, WrongState
from nas.journal import Journal
from nas.outages import insist
from nas.runner import AWAY, LAST_WORDS, POLL, Study
from nas.stopping import Stop
from nas.storage.errors import DatabaseError
from nas.trial import BrokenKind, Measured, Outcome, Trial
from search_spaces import SpecError

log = structlog.get_logger()


class ExportRunner:
    """Takes exports until asked to stop. One that is under way when that is over is handed back.

    Args:
        store: that has them.
        artifacts: where files go.
        executor: where networks are trained and written.
        stop: asked for when the runner should end.
        slots: the workers that jobs share.
        journal: told where the database is away.
        seconds: that an export may take; None: as many as it wants.
    """

    def __init__(
        self,
        store: Store,
        artifacts: Artifacts,
        executor: ExecutorKind,
        stop: Stop,
        slots: Slots | None = None,
        journal: Journal | None = None,
        seconds: float | None = None,
    ) -> None:
        self._store, self._artifacts, self._executor = store, artifacts, executor
        self._stop, self._slots, self._journal = stop, slots, journal or Journal()
        self._seconds = seconds
        self._in_hand: Export | None = None
        self._thread = threading.Thread(target=self.serve, daemon=True, name="exports")

    def start(self) -> None:
        """Take exports in a thread."""
        self._thread.start()

    def leave(self) -> None:
        """Wait until that thread has let go; at the end hand back what hangs in an evaluation in this process."""
        while self._thread.is_alive() and not self._stop.hold_on(0.1):
            pass
        self._thread.join(LAST_WORDS)
        export = self._in_hand
        if export is not None:
            with suppress(LeaseLost, DatabaseError):
                self._store.exports.settle(export.given_back())
                self._sweep(export)

    def serve(self) -> None:
        """Take exports until asked to stop."""
        while not self._stop.asked:
            try:
                found = self.turn()
                pause = 0.0 if found else POLL
            except DatabaseError as error:  # what is under way is claimed again once its lease has run out
                self._journal.away(error)
                pause = AWAY
            except Exception:
                log.exception("export crashed")
                pause = AWAY
            if pause:
                self._stop.wait(pause)

    def turn(self) -> bool:
        """Make the next export, if there is one. Raises `DatabaseError`."""
        export = self._store.exports.claim()
        if export is None:
            return False
        log.info("export claimed", export=export.id, job=export.spec.job, trial=export.spec.trial)
        self._in_hand = export
        try:
            with ExportLease(self._store.exports, export, self._stop, self._journal) as lease:
                if export.attempt > 1:  # whoever had it last may have died before he could do so
                    self._delete(export.spec.job, export.folder_of(export.attempt - 1))
                ended = self._ended(lease)
                lease.settle(ended)
            log.info("export over", export=export.id, state=ended.state.value, reason=ended.reason)
            left_over = not ended.state.over
        except LeaseLost as error:
            log.warning("export lost", export=export.id, reason=str(error))
            left_over = True
        finally:
            self._in_hand = None
        if left_over:
            self._sweep(export)
        return True

    def _ended(self, lease: ExportLease) -> Export:
        """What becomes of an export that was claimed. Raises `LeaseLost`, `DatabaseError`."""
        export = lease.export
        try:
            outcome = self._outcome(lease)
        except (SpecError, WrongState) as error:
            return export.failed(str(error), time.time())
        except WorkersAway as error:  # for another runner, or for this one a little later
            self._journal.workers_away(str(error))
            self._stop.wait(AWAY)
            return export.given_back()
        except (DatabaseError, LeaseLost):
            raise
        except Exception as error:  # a bug, or a disk that is full: the export says so
            log.exception("export failed", export=export.id)
            return export.failed(f"internal error: {type(error).__name__}: {error}", time.time())
        if lease.lost:
            raise LeaseLost(f"export {export.id} was cancelled or deleted, or has gone to another runner")
        if isinstance(outcome, Measured):
            return export.succeeded(time.time())
        if outcome is None or (outcome.kind is BrokenKind.LOST and self._stop.asked):
            return export.given_back()  # in the second case its workers went with the runner, most likely
        return export.failed(outcome.reason, time.time())

    def _outcome(self, lease: ExportLease) -> Outcome | None:
        """What came of the evaluation that writes the file; None where it was let go of."""
        export, spec = lease.export, lease.export.spec
        try:
            job, trial = insist(lambda: self._trial(export), self._stop.hold_on)
        except KeyError:
            raise LeaseLost(f"job {spec.job} was deleted") from None
        order = Order(
            job, Study.of(job.spec), [trial], spec.weights, spec.data_licence, seeds_of([trial], self._job)
        )
        made = make(
            order,
            {trial.number: spec.format},
            self._artifacts,
            export.folder,
            self._executor,
            slots=self._slots,
            seconds=self._seconds,
            over=lambda: lease.lost or self._stop.over,
        )
        return made.get(trial.number)

    def _trial(self, export: Export) -> tuple[Job, Trial]:
        """The trial and its job. Raises `KeyError`, `WrongState`, `DatabaseError`."""
        job, number = self._store.job(export.spec.job), export.spec.trial
        return job, measured_trial(self._store.trials(job.id, after=number - 1, limit=1), number)

    def _job(self, job_id: str) -> Job:
        """Raises `KeyError`."""
        return insist(lambda: self._store.job(job_id), self._stop.hold_on)

    def _sweep(self, export: Export) -> None:
        """Delete what an attempt has left: all of the job where that is gone, else its own files."""
        job_id = export.spec.job
        try:
            self._store.job(job_id)
        except KeyError:
            self._delete(job_id)
        else:
            self._delete(job_id, export.folder)

    def _delete(self, job_id: str, name: str | None = None) -> None:
        try:
            self._artifacts.delete(job_id, name)
        except Exception as error:  # a store of objects that is away, say; they go with the job at the latest
            log.warning("files were not deleted", job=job_id, name=name, reason=str(error))
