"""What is kept of jobs between requests, so that the front of 100,000 trials takes milliseconds."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from cachetools import LRUCache

from nas.contracts import Measurements, Store, TrialFilter
from nas.entrants import Entrants, JointFront, after, joined
from nas.job import Job
from nas.objectives import Problem
from nas.wire import trial_dict

MEASURED_BYTES = 32 << 20
"""Of the measurements of jobs, those asked for last: five jobs of 100,000 trials."""
ENTRANTS_BYTES = 8 << 20
TRIALS_BYTES = 8 << 20
"""Of the trials of fronts, as they are answered: some 1 kB each."""
PAGE = 500
"""Trials that are read at a time."""
FIGURES = 200
"""Hypervolumes and histories."""
_LOCKS = 16

T = TypeVar("T")
Reference = Sequence[float] | None


@dataclass(frozen=True)
class _Measured:
    """What a job's trials measured up to an order."""

    until: int
    found: Measurements

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        found = self.found
        return found.numbers.nbytes + found.orders.nbytes + found.feasible.nbytes + found.values.nbytes


@dataclass(frozen=True)
class _Entered:
    """A job's entrants up to an order, and the metrics that any of its trials has."""

    until: int
    names: tuple[str, ...]
    entrants: Entrants

    @property
    def nbytes(self) -> int:
        """Bytes, about."""
        return self.entrants.nbytes + 500  # what holds the arrays


class Fronts:
    """The fronts of a store's jobs. Finished trials never change, so only those that are new are read.

    Any thread may use it. Threads that want the same job wait for the one that reads it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._measured: LRUCache[str, _Measured] = LRUCache(MEASURED_BYTES, lambda kept: kept.nbytes)
        self._entered: LRUCache[tuple[str, Problem], _Entered] = LRUCache(ENTRANTS_BYTES, lambda kept: kept.nbytes)
        self._trials: LRUCache[tuple[str, int], bytes] = LRUCache(TRIALS_BYTES, len)
        self._figures: LRUCache[Hashable, Any] = LRUCache(FIGURES)
        self._lock = threading.Lock()
        self._reading = [threading.Lock() for _ in range(_LOCKS)]
        self._flying: dict[Hashable, Future[Any]] = {}

    def of(self, jobs: Sequence[Job], problem: Problem) -> tuple[JointFront, frozenset[str]]:
        """The joint front of all trials that have finished by now, and the metrics that any trial has."""
        parts = [self._entrants(job, problem) for job in jobs]
        front = JointFront.of(problem, [(part.entrants, part.until + 1) for part in parts])
        return front, frozenset(name for part in parts for name in part.names)

    def measured(self, job: Job) -> Measurements:
        """What the job's trials have measured by now."""
        with self._only_one(job):
            return self._up_to_date(job).found

    def hypervolume(self, front: JointFront, reference: Reference) -> float:
        """The front's hypervolume, computed once."""
        return self._once(_address("hypervolume", front, reference), lambda: front.hypervolume(reference))

    def history(self, front: JointFront, reference: Reference) -> list[tuple[int, float]]:
        """The history of the front's hypervolume, computed once."""
        return self._once(_address("history", front, reference), lambda: front.history(reference))

    def trials(self, jobs: Sequence[Job], members: Sequence[tuple[int, int]]) -> list[bytes]:
        """Finished trials as JSON: of which of the jobs, by its place, and the number."""
        keys = [(jobs[place].id, number) for place, number in members]
        with self._lock:
            known = {key: self._trials.get(key) for key in keys}
        for job in jobs:
            lacking = [number for (job_id, number), text in known.items() if text is None and job_id == job.id]
            known.update(self._read(job.id, lacking))
        return [text for key in keys if (text := known[key]) is not None]  # None: its job is being deleted

    def _read(self, job_id: str, numbers: Sequence[int]) -> Iterator[tuple[tuple[str, int], bytes]]:
        for first in range(0, len(numbers), PAGE):
            which = TrialFilter(numbers=tuple(numbers[first : first + PAGE]))
            for trial in self._store.trials(job_id, which=which):
                text = json.dumps(trial_dict(trial, job_id), separators=(",", ":"), ensure_ascii=False).encode()
                self._keep(self._trials, (job_id, trial.number), text)
                yield (job_id, trial.number), text

    def _entrants(self, job: Job, problem: Problem) -> _Entered:
        with self._only_one(job):
            kept: _Entered | None = self._get(self._entered, (job.id, problem))
            if kept is not None and kept.until >= _last(job):
                return kept
            known = kept.entrants if kept is not None else Entrants.none(problem)
            new = self._since(job, kept.until if kept is not None else -1)
            entered = _Entered(new.until, new.found.names, known.further(new.found))
            self._keep(self._entered, (job.id, problem), entered)
            return entered

    def _since(self, job: Job, order: int) -> _Measured:
        """What was measured after an order; of a job too long to keep, only that is read."""
        if order >= 0 and self._get(self._measured, job.id) is None:
            found = self._store.measurements(job.id, after=order)
            return _Measured(_until(job, found), found)
        kept = self._up_to_date(job)
        return _Measured(kept.until, after(kept.found, order))

    def _up_to_date(self, job: Job) -> _Measured:
        kept: _Measured | None = self._get(self._measured, job.id)
        if kept is not None and kept.until >= _last(job):
            return kept
        found = self._store.measurements(job.id, after=-1 if kept is None else kept.until)
        now = _Measured(_until(job, found), found if kept is None else joined(kept.found, found))
        self._keep(self._measured, job.id, now)
        return now

    def _once(self, key: Hashable, compute: Callable[[], T]) -> T:
        with self._lock:
            found: T | None = self._figures.get(key)
            flight = self._flying.get(key)
            if found is None and flight is None:
                mine = self._flying[key] = Future()
        if found is not None:
            return found
        if flight is not None:  # else all who ask at once would compute the same
            return cast(T, flight.result())
        try:
            found = compute()
            self._keep(self._figures, key, found)
            mine.set_result(found)
            return found
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._flying[key]

    def _get(self, cache: LRUCache[Any, Any], key: Hashable) -> Any:
        with self._lock:
            return cache.get(key)

    def _keep(self, cache: LRUCache[Any, Any], key: Hashable, value: object) -> None:
        with self._lock:
            if cache.getsizeof(value) <= cache.maxsize:
                cache[key] = value
            else:
                cache.pop(key, None)

    def _only_one(self, job: Job) -> threading.Lock:
        return self._reading[hash(job.id) % _LOCKS]


def _last(job: Job) -> int:
    """The order of the trial that finished last, as far as the job's counts say."""
    return sum(n for state, n in job.counts.items() if not state.open) - 1


def _until(job: Job, found: Measurements) -> int:
    """Up to which order nothing is missing: further trials may have finished since the job was read."""
    return max(_last(job), int(found.orders[-1]) if len(found.orders) else -1)


def _address(what: str, front: JointFront, reference: Reference) -> Hashable:
    """Equal for equal fronts and references."""
    point = front.reference if reference is None else tuple(reference)
    digest = hashlib.blake2b(front.losses.tobytes() + front.finished.tobytes(), digest_size=16).digest()
    return what, front.problem, point, digest
