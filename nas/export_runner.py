"""Exports that were asked for over HTTP: a runner takes one after the other, beside its jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog

from nas.artifacts import Artifacts
from nas.contracts import LeaseLost, Store, WorkersAway
from nas.deploy.deliver import Order, make, measured_trial
from nas.executors import ExecutorKind
from nas.executors.slots import Slots
from nas.exports import Export
from nas.job import Job, WrongState
from nas.journal import Journal
from nas.runner import AWAY, BEAT, POLL, Study
from nas.stopping import Stop
from nas.storage.errors import DatabaseError
from nas.trial import Measured, Trial
from search_spaces import SpecError

log = structlog.get_logger()


class ExportRunner:
    """Takes exports until asked to stop. One that is under way then is another runner's once its lease runs out.

    Args:
        store: that has them.
        artifacts: where files go.
        executor: where networks are trained and written.
        stop: asked for when the runner should end.
        slots: the workers that jobs share.
        journal: told where the database is away.
    """

    def __init__(
        self,
        store: Store,
        artifacts: Artifacts,
        executor: ExecutorKind,
        stop: Stop,
        slots: Slots | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._store, self._artifacts, self._executor = store, artifacts, executor
        self._stop, self._slots, self._journal = stop, slots, journal or Journal()

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
        try:
            with self._kept(export):
                reason = self._made(export)
            if reason is not None and self._stop.asked:  # its workers went with the runner, most likely
                log.info("export left for another runner", export=export.id, reason=reason)
                return True
            at = time.time()
            ended = export.succeeded(at) if reason is None else export.failed(reason, at)
            self._store.exports.settle(ended)
            log.info("export over", export=export.id, state=ended.state.value, reason=reason)
        except LeaseLost as error:
            log.warning("export lost", export=export.id, reason=str(error))
            self._sweep(export)
        return True

    def _made(self, export: Export) -> str | None:
        """Why there is no file, or None where there is one."""
        spec = export.spec
        try:
            job = self._store.job(spec.job)
            trials = self._store.trials(job.id, after=spec.trial - 1, limit=1)
        except KeyError:
            raise LeaseLost(f"job {spec.job} was deleted") from None
        try:
            trial = measured_trial(trials, spec.trial)
            origins = self._origins(trial)
            order = Order(job, Study.of(job.spec), [trial], spec.weights, spec.data_licence, origins)
            forms = {trial.number: spec.format}
            files, folder = self._artifacts, export.folder
            outcome = make(order, forms, files, folder, self._executor, slots=self._slots)[trial.number]
        except (SpecError, WrongState, WorkersAway) as error:
            return str(error)
        except DatabaseError:
            raise
        except Exception as error:  # a bug, or a disk that is full: the export says so
            log.exception("export failed", export=export.id)
            return f"internal error: {type(error).__name__}: {error}"
        return None if isinstance(outcome, Measured) else outcome.reason

    def _origins(self, trial: Trial) -> dict[str, int]:
        """The seed of the job that the trial was taken over from, where that job is still there."""
        if trial.origin is None:
            return {}
        with suppress(KeyError):
            origin: Job = self._store.job(trial.origin.job)
            return {origin.id: origin.spec.seed}
        return {}

    @contextmanager
    def _kept(self, export: Export) -> Iterator[None]:
        """Renews the export's lease in the background."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT):
                with suppress(DatabaseError):  # it may come back in time
                    try:
                        self._store.exports.renew(export)
                    except LeaseLost:
                        return

        thread = threading.Thread(target=beat, daemon=True, name="export lease")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _sweep(self, export: Export) -> None:
        """Delete what an export that is lost has left: all of the job where that is gone, else its own files."""
        job_id = export.spec.job
        try:
            self._store.job(job_id)
        except KeyError:
            self._artifacts.delete(job_id)
            return
        for name in self._artifacts.list(job_id):
            if name.startswith(f"{export.folder}/"):
                self._artifacts.delete(job_id, name)
