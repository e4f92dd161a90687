"""The runner: claims jobs and drives them. The only writer of a job's trials while it holds the lease."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from nas.check import check
from nas.contracts import Evaluator, Lease, LeaseLost, Queue, Searcher
from nas.executors import ExecutorKind, opened
from nas.executors.attempt import Task
from nas.executors.simulated import clock
from nas.job import Job, JobSpec, JobState
from nas.loop import Ending, Observe, search
from nas.storage.errors import DatabaseError
from search_spaces import Space, SpecError

BEAT = 1.0
"""Seconds between two renewals of a lease; a cancellation is noticed within this time."""
POLL = 1.0
"""Seconds between two looks at an empty queue."""
AWAY = 5.0
"""Seconds before a database that did not answer is asked again."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Study:
    """A document turned into the objects that do the work."""

    spec: JobSpec
    space: Space
    searcher: Searcher
    evaluator: Evaluator

    @classmethod
    def of(cls, spec: JobSpec) -> Study:
        """The objects that the document names. Raises `SpecError`, where this host lacks a data set, say."""
        space = check(spec)
        return cls(
            spec=spec,
            space=space,
            searcher=spec.searcher.build_for(spec.evaluator, space, spec.problem, spec.seed),
            evaluator=spec.evaluator.bind(space, spec.seed),
        )


class Heartbeat:
    """Renews a lease in the background, and knows the job as last seen."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._job = lease.renew()
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="lease")

    def current(self) -> Job:
        """The job, at most about a second old. Raises `LeaseLost`, or what kept the lease from being renewed."""
        if self._error is not None:
            raise self._error
        return self._job

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            try:
                self._job = self._lease.renew()
            except DatabaseError as error:  # it may come back, and then tells whether the lease is still ours
                log.warning("lease not renewed", reason=str(error))
            except Exception as error:
                self._error = error
                return


def run(
    lease: Lease,
    executor: ExecutorKind,
    *,
    study: Study | None = None,
    observe: Observe = lambda trials: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Ending:
    """Drive one claimed job and give its lease back.

    Args:
        lease: of the job.
        executor: where evaluations run.
        study: the job's objects, where the caller has them; else they are made from its document.
        observe: told of progress.
        stopping: whether this runner should let go; the job then waits for another.

    Raises:
        LeaseLost: another runner has the job.
        DatabaseError: the database is away; whoever claims the job next goes on with it.
        KeyboardInterrupt: after the job was left PAUSED.
    """
    with Heartbeat(lease) as heart:
        try:
            ending = _drive(lease, heart, executor, study, observe, stopping)
        except (LeaseLost, DatabaseError):  # nothing can be written; the lease runs out, and the job goes on
            raise
        except KeyboardInterrupt:
            lease.release(JobState.PAUSED, "interrupted")
            raise
        except _Stopped:
            ending = Ending(JobState.QUEUED)
        except SpecError as error:
            ending = Ending(JobState.FAILED, str(error))
        except Exception as error:  # the loop's own bug: the job says so, the runner lives on
            log.error("search failed", error=traceback.format_exc())
            ending = Ending(JobState.FAILED, f"internal error: {type(error).__name__}: {error}")
        lease.release(ending.state, ending.reason)
        return ending


def serve(queue: Queue, executor: ExecutorKind, stopping: threading.Event) -> None:
    """Run jobs, one after the other, until `stopping` is set."""
    log.info("runner ready", executor=executor)
    while not stopping.is_set():
        try:
            lease = queue.claim()
            if lease is None:
                stopping.wait(POLL)
            else:
                _serve_one(lease, executor, stopping)
        except DatabaseError as error:
            log.warning("database away", reason=str(error))
            stopping.wait(AWAY)


def _serve_one(lease: Lease, executor: ExecutorKind, stopping: threading.Event) -> None:
    try:
        job_id = lease.renew().id
        log.info("job claimed", job=job_id)
        ending = run(lease, executor, stopping=stopping.is_set)
        log.info("job released", job=job_id, state=ending.state.value, reason=ending.reason)
    except LeaseLost as error:
        log.warning("lease lost", reason=str(error))


class _Stopped(Exception):
    """The runner was asked to let go."""


def _drive(
    lease: Lease,
    heart: Heartbeat,
    executor: ExecutorKind,
    study: Study | None,
    observe: Observe,
    stopping: Callable[[], bool],
) -> Ending:
    spec = heart.current().spec
    study = study or Study.of(spec)

    def current() -> Job:
        if stopping():
            raise _Stopped
        return heart.current()

    budget = spec.budget
    task = Task(study.evaluator, study.space, budget.max_trial_duration, budget.repeats)
    now = clock(lease.trials()) if executor == "simulated" else 0.0
    with opened(executor, task, budget.parallel_trial_count, now) as workers:
        return search(lease, current, study.space, study.searcher, workers, observe)
