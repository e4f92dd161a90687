"""Predictors for clients: to have one fitted, to look at it, and to ask it.

Nothing is kept but rows. A predictor that the fitting process does not hold (it was started anew, or holds others
by now) is fitted again when it is asked, which gives the same one. A predictor that is FITTING in the store while
nobody here works at it may have been left so by a process that ended, so its fit is started when somebody looks at
it; where another process is at work as well, both find the same, and the first word stays.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog

from nas.contracts import Store
from nas.fit_line import Busy, FitLine
from nas.fitted import FitState, FittedPredictor
from nas.fitting_process import FittingFault, FittingProcess, NotLearnt, ProcessGone, ProcessHangs
from nas.job import Job, WrongState
from nas.predictor_documents import Candidates, PredictorSpec
from nas.storage.errors import DatabaseError
from predictors import Prediction
from search_spaces.load import space_of

ROUNDS = 3
"""How often a predictor is fitted again for one question, where others push it out meanwhile."""

log = structlog.get_logger()


class Unavailable(Exception):
    """There is no answer within the time limit; try again."""


class PredictorDesk:
    """Any thread may use it.

    Args:
        store: where jobs, trials and predictors are.
        most_waiting: fits that may wait in line.
        most_asking: questions that may be under way at once.
        fit_seconds: after so long a fit is given up, and the predictor FAILED.
        wait_seconds: how long a question waits for a predictor that must be fitted again.
        answer_seconds: how long a fitted predictor may take to answer all who ask at once, before the process is
            taken for one that hangs, and killed; 1,000 networks take a second on a busy machine, each metric.
    """

    def __init__(
        self,
        store: Store,
        *,
        most_waiting: int = 16,
        most_asking: int = 4,
        fit_seconds: float = 900.0,
        wait_seconds: float = 20.0,
        answer_seconds: float = 40.0,
    ) -> None:
        self.process = FittingProcess()
        self._store = store
        self._line = FitLine(store, self.process, most_waiting, fit_seconds)
        self._asking = threading.BoundedSemaphore(most_asking)
        self._wait_seconds, self._answer_seconds = wait_seconds, answer_seconds

    def close(self) -> None:
        """End the process. What is FITTING stays so, for the next one who looks at it."""
        self._line.close()
        self.process.close()

    def fit(self, job: Job, spec: PredictorSpec) -> FittedPredictor:
        """A new predictor of a job, FITTING.

        Raises:
            KeyError: the job is gone.
            SpecError: the job has no such metrics or trials.
            Busy: too many wait in line.
        """
        metrics, trials = spec.meant(job, space_of(job.spec.space, job.spec.name))
        if self._line.full:  # seen before a row is written; one that comes too late is fitted when looked at
            raise Busy("as many fits as may wait are waiting already")
        predictor = self._store.shelf.add(job.id, metrics, trials)
        self._start(predictor)
        return predictor

    def look(self, predictor: FittedPredictor) -> FittedPredictor:
        """The predictor as it is; its fit is started if it is FITTING and nobody here works at it."""
        if predictor.state is FitState.FITTING:
            self._start(predictor)
        return predictor

    def predict(self, predictor: FittedPredictor, candidates: Candidates) -> Prediction:
        """What is expected of architectures: one row each, and one column a metric of the predictor.

        Raises:
            KeyError: the job is gone.
            WrongState: the predictor is not READY.
            SpecError: an architecture is none of the job's space.
            Busy: too many questions are under way.
            Unavailable: there was no answer in time.
        """
        if predictor.state is not FitState.READY:
            why = f": {predictor.reason}" if predictor.reason else ""
            raise WrongState(f"predictor {predictor.id} is {predictor.state}{why}; only a READY one can predict")
        spec = self._store.job(predictor.job_id).spec
        space = space_of(spec.space, spec.name)
        genes = space.canonical_genes(space.genes(candidates.within(space)))
        end = time.monotonic() + self._wait_seconds
        with self._turn():
            for _ in range(ROUNDS):
                try:
                    return self.process.predict(predictor.id, genes, self._answer_seconds)
                except (NotLearnt, ProcessGone):
                    self._learn_again(predictor, end - time.monotonic())
                except (ProcessHangs, FittingFault) as error:
                    log.error("prediction failed", predictor=predictor.id, reason=str(error))
                    raise Unavailable("the predictor gave no answer") from None
        raise Unavailable("the predictor was fitted again, and others took its place; too many are in use")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._asking.acquire(blocking=False):
            raise Busy("too many predictions are under way")
        try:
            yield
        finally:
            self._asking.release()

    def _learn_again(self, predictor: FittedPredictor, seconds: float) -> None:
        """Wait until the process has learnt it. Raises `Unavailable`, `Busy`, or what the store raises."""
        done = self._line.put(predictor)
        try:
            done.result(max(0.0, seconds))
        except TimeoutError:
            raise Unavailable("the predictor is being fitted again, which takes a while") from None
        except (DatabaseError, KeyError):
            raise
        except Exception:  # its log has the details
            raise Unavailable("the predictor could not be fitted again") from None

    def _start(self, predictor: FittedPredictor) -> None:
        with suppress(Busy):
            self._line.put(predictor)
