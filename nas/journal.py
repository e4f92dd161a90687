"""What a runner says of itself: one line for each thing that somebody may want to know later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import structlog

from nas.job import Job
from nas.loop import Ending
from nas.storage.errors import DatabaseError
from nas.trial import Trial, TrialState

log = structlog.get_logger()


class Journal:
    """Writes log lines; the ids of job and trial are bound by the caller. Any thread may tell."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._away_since: float | None = None
        self._turned = self._answered = time.monotonic()

    def in_hand(self) -> AbstractContextManager[object]:
        """Inside, the runner has a job in hand."""
        return nullcontext()

    def claimed(self, job: Job) -> None:
        """A job was taken."""
        log.info("job claimed", name=job.spec.name, owner=job.owner, project=job.project)

    def released(self, ending: Ending) -> None:
        """A job was let go."""
        log.info("job released", state=ending.state.value, reason=ending.reason)

    def crashed(self, trace: str) -> None:
        """A bug of the search itself ended a job."""
        log.error("search failed", error=trace)

    def workers_away(self, reason: str) -> None:
        """Where evaluations run cannot be reached; the job is handed back."""
        log.warning("workers away", reason=reason)

    def lost(self, reason: str) -> None:
        """A job has gone to another runner."""
        log.warning("lease lost", reason=reason)

    def dropped(self, error: DatabaseError) -> None:
        """A job was left as it stands, for the database does not take its last word."""
        log.warning("job dropped; it goes on when its lease has run out", reason=str(error))

    def trial(self, trial: Trial, seconds: float) -> None:
        """A trial was closed, so many seconds after it had been handed to the executor."""
        told = {"trial": trial.number, "attempt": trial.attempt, "seconds": round(seconds, 3)}
        if trial.state is TrialState.FAILED:
            log.warning("trial failed", reason=trial.reason, **told)
        elif trial.state is TrialState.PENDING:
            log.warning("worker lost, the trial waits for another", **told)
        else:
            log.debug("trial closed", state=trial.state.value, reason=trial.reason, **told)

    def turned(self) -> None:
        """The runner is about to look at the queue, or has no room for another job."""
        self._turned = time.monotonic()

    def away(self, error: DatabaseError) -> None:
        """The database did not answer; said once an outage."""
        with self._lock:
            first = self._away_since is None
            if first:
                self._away_since = time.monotonic()
        if first:
            log.warning("database away", reason=str(error))

    def answered(self) -> None:
        """The database answered."""
        self._answered = time.monotonic()
        with self._lock:
            since, self._away_since = self._away_since, None
        if since is not None:
            log.info("database back", seconds=round(self._answered - since, 1))

    @property
    def seconds_still(self) -> float:
        """Since the runner's loop last turned."""
        return time.monotonic() - self._turned

    @property
    def seconds_unanswered(self) -> float:
        """Since the database last answered."""
        return time.monotonic() - self._answered


class Timed:
    """An observer of one job's search that tells of every trial closed, with the time that it took."""

    def __init__(self, tell: Callable[[Trial, float], None]) -> None:
        self._tell = tell
        self._started: dict[int, float] = {}

    def __call__(self, trials: Sequence[Trial]) -> None:
        """See `nas.loop.Observe`."""
        for trial in trials:
            if trial.state is TrialState.RUNNING:
                self._started[trial.number] = time.monotonic()
            elif trial.number in self._started:
                self._tell(trial, time.monotonic() - self._started.pop(trial.number))
