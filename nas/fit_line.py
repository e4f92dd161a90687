"""Fits of predictors, one after the other: read what there is to learn, have it learnt, write down how well."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import suppress

import structlog

from nas.contracts import Store
from nas.fitted import FitState, FittedPredictor
from nas.fitting import TooFew, lesson_of
from nas.fitting_process import FittingProcess, ProcessGone, ProcessHangs
from nas.predictor_quality import PredictorQuality
from nas.storage.errors import DatabaseError
from nas.wire import quality_dict
from search_spaces import SpecError

ATTEMPTS = 2
"""How often a fit is begun before a process that died each time makes the predictor FAILED."""
BUG = "an error of the service itself; its log has the details"

log = structlog.get_logger()


class Busy(Exception):
    """Too much is under way already; try again later."""


class FitLine:
    """Bounded; any thread may put a predictor in. The thread that fits lives as long as there is work.

    Args:
        store: where trials are read, and results written.
        process: that fits.
        most: predictors in line, with the one being fitted.
        seconds: after so long a fit is given up.
    """

    def __init__(self, store: Store, process: FittingProcess, most: int, seconds: float) -> None:
        self._store, self._process = store, process
        self._most, self._seconds = most, seconds
        self._lock = threading.Lock()
        self._line: dict[str, tuple[FittedPredictor, Future[None]]] = {}
        """By predictor, the first to come first; each stays until it is done."""
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether nothing more may be put in just now."""
        with self._lock:
            return len(self._line) >= self._most

    def put(self, predictor: FittedPredictor) -> Future[None]:
        """What tells when the process has learnt it, or why not. One that is in line already stays where it is.

        Raises:
            Busy: the line is full.
        """
        with self._lock:
            if predictor.id in self._line:
                return self._line[predictor.id][1]
            if len(self._line) >= self._most:
                raise Busy("as many fits as may wait are waiting already")
            done: Future[None] = Future()
            self._line[predictor.id] = predictor, done
            if len(self._line) == 1:
                threading.Thread(target=self._work, daemon=True, name="fits").start()
            return done

    def close(self) -> None:
        """Begin no more fits; who waits is told that the process is gone."""
        self._closed = True

    def _work(self) -> None:
        """Fit what is in line until nothing is."""
        last = False
        while not last:
            with self._lock:
                predictor, done = next(iter(self._line.values()))
            error = self._learn(predictor)
            with self._lock:
                del self._line[predictor.id]
                last = not self._line
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

    def _learn(self, predictor: FittedPredictor) -> Exception | None:
        """Fit one and write down what came of it; gives what kept it from being learnt."""
        try:
            quality = self._fitted(predictor)
            if predictor.state is FitState.FITTING:
                self._store.shelf.settle(predictor.ready(quality_dict(quality)))
        except (DatabaseError, KeyError) as error:  # it is away, or job or predictor are gone: nothing to write
            log.warning("predictor not fitted", predictor=predictor.id, reason=str(error))
            return error
        except Exception as error:
            if not self._closed:  # else it stays FITTING, for the next process
                self._fail(predictor, error)
            return error
        return None

    def _fitted(self, predictor: FittedPredictor) -> PredictorQuality:
        lesson = lesson_of(self._store, predictor)
        for attempt in range(1, ATTEMPTS + 1):
            if self._closed:
                break
            try:
                return self._process.fit(predictor.id, lesson, self._seconds)
            except ProcessGone as error:
                log.warning("fit lost", predictor=predictor.id, attempt=attempt, reason=str(error))
        raise ProcessGone(f"the process that fits died {ATTEMPTS} times, perhaps for want of memory")

    def _fail(self, predictor: FittedPredictor, error: Exception) -> None:
        known = isinstance(error, TooFew | SpecError | ProcessGone | ProcessHangs)
        if not known:
            log.error("fit failed", predictor=predictor.id, error=str(error))
        if predictor.state is FitState.FITTING:
            with suppress(DatabaseError, KeyError):
                self._store.shelf.settle(predictor.failed(str(error) if known else BUG))
