"""The runner: claims jobs and drives them. The only writer of a job's trials while it holds the lease."""

from __future__ import annotations

import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from structlog.contextvars import bind_contextvars

from nas.check import check
from nas.contracts import Evaluator, Lease, LeaseLost, Queue, Searcher, WorkersAway
from nas.executors import ExecutorKind, opened
from nas.executors.attempt import Task
from nas.executors.simulated import clock
from nas.executors.slots import Slots
from nas.job import Job, JobSpec, JobState
from nas.journal import Journal, Timed
from nas.loop import Ending, Observe, search
from nas.outages import EnduringLease
from nas.stopping import Stop
from nas.storage.errors import DatabaseError
from search_spaces import Space, SpecError

BEAT = 1.0
"""Seconds between two renewals of a lease; a cancellation is noticed within this time."""
POLL = 1.0
"""Seconds between two looks at an empty queue."""
AWAY = 2.0
"""Seconds before a database that did not answer is asked again."""
LAST_WORDS = 2.0
"""Seconds that jobs get to write down how they stand once their runner must end."""


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

    def __init__(self, lease: Lease, journal: Journal, job: Job) -> None:
        self._lease, self._journal = lease, journal
        self._job = job
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="lease")

    def current(self) -> Job:
        """The job, at most about a second old. Raises `LeaseLost`, or what kept the lease from being renewed."""
        if self._error is not None:
            raise self._error
        return self._job

    def see(self, job: Job) -> None:
        """The job as it is known to be now."""
        self._job = job

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
                self._journal.answered()
            except DatabaseError as error:  # it may come back, and then tells whether the lease is still ours
                self._journal.away(error)
            except Exception as error:
                self._error = error
                return


def run(
    lease: Lease,
    executor: ExecutorKind,
    *,
    study: Study | None = None,
    observe: Observe = lambda trials: None,
    slots: Slots | None = None,
    stop: Stop | None = None,
    journal: Journal | None = None,
) -> Ending:
    """Drive one claimed job and give its lease back. Waits for a database that is away.

    Args:
        lease: of the job.
        executor: where evaluations run.
        study: the job's objects, where the caller has them; else they are made from its document.
        observe: told of progress.
        slots: workers shared with other jobs of this process; see `nas.executors.session`.
        stop: asked for when this runner should let go; the job then waits for another.
        journal: told of what happens beside the search.

    Returns:
        How the job was left; an edit or a request of the last moment goes before how its search ended.

    Raises:
        LeaseLost: another runner has the job.
        DatabaseError: the database is away, and there is no time left to wait for it; whoever claims the job next
            goes on with it.
        KeyboardInterrupt: after the job was left PAUSED.
    """
    stop, journal = stop or Stop(), journal or Journal()
    enduring = EnduringLease(lease, stop.hold_on)
    with Heartbeat(lease, journal, enduring.renew()) as heart:
        while True:
            try:
                ending = _drive(enduring, heart, executor, slots, study, observe, stop)
            except (LeaseLost, DatabaseError):  # nothing can be written; the lease runs out, and the job goes on
                raise
            except KeyboardInterrupt:
                lease.release(JobState.PAUSED, "interrupted")
                raise
            except _Over:
                ending = Ending(JobState.QUEUED)
            except WorkersAway as error:  # for another runner, or for this one a little later
                journal.workers_away(str(error))
                stop.wait(AWAY)
                ending = Ending(JobState.QUEUED, str(error))
            except SpecError as error:
                ending = Ending(JobState.FAILED, str(error))
            except Exception as error:  # the loop's own bug: the job says so, the runner lives on
                journal.crashed(traceback.format_exc())
                ending = Ending(JobState.FAILED, f"internal error: {type(error).__name__}: {error}")
            became = enduring.release(ending.state, ending.reason, ending.revision)
            if not became.held:
                return ending if became is ending.state else replace(ending, state=became, reason=None)
            heart.see(enduring.renew())  # the job was edited meanwhile, and is still ours


def serve(
    queue: Queue,
    executor: ExecutorKind,
    stop: Stop,
    *,
    jobs: int = 1,
    slots: Slots | None = None,
    journal: Journal | None = None,
) -> None:
    """Run jobs, so many side by side, until asked to stop; then finish or hand back what runs."""
    journal = journal or Journal()
    crew = Crew(jobs, executor, slots, stop, journal)
    while not stop.asked:
        journal.turned()
        if not crew.has_room(POLL):
            continue
        try:
            lease = queue.claim()
            journal.answered()
        except DatabaseError as error:
            journal.away(error)
            stop.wait(AWAY)
            continue
        if lease is None:
            stop.wait(POLL)
        else:
            crew.take(lease)
    crew.leave()


class Crew:
    """The jobs that a runner has in hand, each driven by a thread of its own, so that none touches another.

    Args:
        size: how many jobs at once.
        executor: where evaluations run.
        slots: the workers that the jobs share.
        stop: asked for when the runner should end.
        journal: told of every job.
    """

    def __init__(
        self, size: int, executor: ExecutorKind, slots: Slots | None, stop: Stop, journal: Journal
    ) -> None:
        self._executor, self._slots, self._stop, self._journal = executor, slots, stop, journal
        self._room = threading.Semaphore(size)
        self._driven: dict[threading.Thread, Lease] = {}

    def has_room(self, seconds: float) -> bool:
        """Whether a job can be taken, now or within so many seconds."""
        if not self._room.acquire(timeout=seconds):
            return False
        self._room.release()  # nobody else takes jobs
        return True

    def take(self, lease: Lease) -> None:
        """Start to drive a job."""
        self._room.acquire()
        thread = threading.Thread(target=self._drive, args=(lease,), daemon=True, name="job")
        self._driven = {t: held for t, held in self._driven.items() if t.is_alive()}
        self._driven[thread] = lease
        thread.start()

    def leave(self) -> None:
        """Wait until every job was let go; at the end hand back those that hang in an evaluation here."""
        while self._busy() and not self._stop.hold_on(0.1):
            pass
        end = time.monotonic() + LAST_WORDS
        for thread in self._driven:
            thread.join(max(0.0, end - time.monotonic()))
        for lease in self._busy():  # what it evaluates ends with this process, and cannot be written any more
            with suppress(LeaseLost, DatabaseError):
                lease.release(JobState.QUEUED)

    def _busy(self) -> list[Lease]:
        return [lease for thread, lease in self._driven.items() if thread.is_alive()]

    def _drive(self, lease: Lease) -> None:
        """One job, from its claim to its release; whatever happens stays here."""
        journal = self._journal
        try:
            with journal.in_hand():
                self._run(lease)
        except LeaseLost as error:
            journal.lost(str(error))
        except DatabaseError as error:
            journal.dropped(error)
        except Exception:
            journal.crashed(traceback.format_exc())
        finally:
            self._room.release()

    def _run(self, lease: Lease) -> None:
        stop, journal = self._stop, self._journal
        job = EnduringLease(lease, stop.hold_on).renew()
        bind_contextvars(job=job.id)  # of this thread alone
        journal.claimed(job)
        ending = run(
            lease,
            self._executor,
            slots=self._slots,
            observe=Timed(journal.trial),
            stop=stop,
            journal=journal,
        )
        journal.released(ending)


class _Over(Exception):
    """The runner has no time left."""


def _drive(
    lease: Lease,
    heart: Heartbeat,
    executor: ExecutorKind,
    slots: Slots | None,
    study: Study | None,
    observe: Observe,
    stop: Stop,
) -> Ending:
    spec = heart.current().spec
    study = study or Study.of(spec)

    def current() -> Job:
        if stop.over:
            raise _Over
        return heart.current()

    budget = spec.budget
    asked = tuple(name for name in study.space.asked_costs if name in spec.problem.metrics)
    task = Task(
        study.evaluator,
        study.space,
        budget.max_trial_duration,
        budget.repeats,
        budget.max_trial_memory,
        asked,
    )
    now = clock(lease.trials()) if executor == "simulated" else 0.0
    with opened(executor, task, budget.parallel_trial_count, now, slots) as workers:
        return search(lease, current, study.space, study.searcher, workers, observe, lambda: stop.asked)
