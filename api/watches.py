"""Running jobs, watched for all who listen: one look at the database a job and tick, however many they are.

A listener has a position, the order of the last trial that it was sent. What it lacks it takes from the last
batches, which all listeners share as the same bytes, or where it is too far behind from the database. So nothing
waits in queues, and a slow listener costs no memory and loses nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import structlog
from anyio import CapacityLimiter, to_thread
from sse_starlette.event import JSONServerSentEvent

from nas.contracts import Store
from nas.job import Job
from nas.storage import DatabaseError
from nas.storage.errors import Unreadable
from nas.trial import Trial
from nas.wire import job_dict, trial_dict

TICK = 0.5
"""Seconds between looks at a job."""
AWAY = 3.0
"""Seconds to the next look when the database did not answer."""
PAGE = 200
"""Trials of a batch at most."""
KEPT_BYTES = 1 << 20
"""Of the last batches of a job."""
THREADS = 4
"""That look at the database; requests have others."""

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """Trials that finished one after the other, as an event."""

    after: int
    """Order of the trial before the first."""
    until: int
    """Order of the last one."""
    text: bytes

    @classmethod
    def of(cls, job_id: str, after: int, trials: list[Trial]) -> Batch:
        """Of the trials that follow `after`. Raises `KeyError` where there are none: the job is being deleted."""
        if not trials or trials[-1].order is None:
            raise KeyError(job_id)
        until = trials[-1].order
        data = {"trials": [trial_dict(t, job_id) for t in trials]}
        return cls(after, until, JSONServerSentEvent(data, event="trials", id=str(until)).encode())


class Watch:
    """What is known of one job. Belongs to the event loop; looks are made in threads.

    Args:
        store: has the job.
        job: as it was read just now.
        limiter: of those threads.
    """

    def __init__(self, store: Store, job: Job, limiter: CapacityLimiter) -> None:
        self._store, self._limiter = store, limiter
        self._batches: deque[Batch] = deque()
        self.job = job
        self.job_event = _job_event("job", job)
        self.position = last_order(job)
        """Order of the last trial that is known."""
        self.ended = False
        """No look is made any more: the job is over and all its trials are known, or it was deleted."""
        self.news = asyncio.Event()
        """Set, and replaced, when anything above has changed."""
        self.listeners = 0
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Make no further look."""
        self._task.cancel()

    def tell(self) -> None:
        """Wake all who wait for news."""
        news, self.news = self.news, asyncio.Event()
        news.set()

    async def after(self, position: int) -> Batch:
        """The batch that follows a position before that of the watch. Raises `KeyError`, `DatabaseError`."""
        until = self.position
        for batch in self._batches:
            if batch.after == position:
                return batch
            if batch.after > position:
                until = batch.after  # from there on it can share
                break
        return await self._in_thread(lambda: self._read(position, until))

    async def _run(self) -> None:
        try:
            while not self.ended:
                await asyncio.sleep(await self._look())
        except KeyError:  # the job was deleted
            structlog.get_logger().info("a watched job is gone", job=self.job.id)
        finally:
            self.ended = True
            self.tell()

    async def _look(self) -> float:
        """See what is new. Seconds until the next look."""
        try:
            job = await self._in_thread(lambda: self._store.job(self.job.id))
            missing = last_order(job) > self.position
            batch = await self.after(self.position) if missing else None
        except (DatabaseError, Unreadable) as error:
            structlog.get_logger().warning("a watched job cannot be read", job=self.job.id, reason=str(error))
            return AWAY
        if batch is not None:
            self._keep(batch)
        caught_up = self.position >= last_order(job)  # the job was read first: it lacks nothing if it is over
        self.ended = job.state.over and caught_up
        changed = _shown(job) != _shown(self.job)
        self.job = job
        if changed:
            self.job_event = _job_event("job", job)
        if changed or batch is not None or self.ended:
            self.tell()
        return TICK if caught_up else 0.0

    def _keep(self, batch: Batch) -> None:
        self._batches.append(batch)
        self.position = batch.until
        while len(self._batches) > 1 and sum(len(b.text) for b in self._batches) > KEPT_BYTES:
            self._batches.popleft()

    def _read(self, position: int, until: int) -> Batch:
        limit = PAGE if position >= self.position else min(PAGE, until - position)
        return Batch.of(self.job.id, position, list(self._store.finished(self.job.id, position, limit)))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await to_thread.run_sync(work, limiter=self._limiter)


class Watches:
    """The watches of a store's jobs; each begins with its first listener and ends with its last."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._watches: dict[str, Watch] = {}
        self._limiter = CapacityLimiter(THREADS)

    async def events(
        self, job: Job, after: int | None, over: Callable[[], bool] = lambda: False
    ) -> AsyncIterator[bytes]:
        """What a listener is sent: the job, trials that finish after the one of order `after`, the end.

        Args:
            job: as it was read just now.
            after: None stands for the last one that has finished by now.
            over: whether the listener is to hear no more; it is asked at each event, and by `wake`.
        """
        position = last_order(job) if after is None else after
        async with self._listening(job) as watch:
            told = watch.job_event
            yield f"retry: 2000\r\nid: {position}\r\n".encode() + told
            while not over():
                news = watch.news
                if watch.job_event is not told:
                    told = watch.job_event
                    yield told
                elif position < watch.position:
                    try:
                        batch = await watch.after(position)
                    except (KeyError, DatabaseError, Unreadable):
                        return  # it may come again, and goes on where it was
                    position = batch.until
                    yield batch.text
                elif watch.ended:
                    if watch.job.state.over:
                        yield _job_event("end", watch.job)
                    return
                else:
                    await news.wait()

    def wake(self) -> None:
        """Have every listener look whether it is over."""
        for watch in self._watches.values():
            watch.tell()

    @asynccontextmanager
    async def _listening(self, job: Job) -> AsyncIterator[Watch]:
        watch = self._watches.get(job.id)
        if watch is None:
            watch = self._watches[job.id] = Watch(self._store, job, self._limiter)
        watch.listeners += 1
        try:
            yield watch
        finally:
            watch.listeners -= 1
            if not watch.listeners:
                del self._watches[job.id]
                watch.stop()


def last_order(job: Job) -> int:
    """The order of the trial that finished last; -1 before the first."""
    return sum(n for state, n in job.counts.items() if not state.open) - 1


def _shown(job: Job) -> tuple[object, ...]:
    """What makes a change of the job an event."""
    return job.state, job.revision, job.reason


def _job_event(kind: str, job: Job) -> bytes:
    return JSONServerSentEvent(job_dict(job), event=kind).encode()
