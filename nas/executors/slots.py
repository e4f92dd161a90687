"""How the jobs of one process share its workers: each gets an equal part, and what it does not use others get."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

LOOK = 5.0
"""Seconds between two looks at how much there is: nodes come and go."""
REST = 1.0
"""Seconds after which an idle worker is free for other jobs."""
TURN = 30.0
"""Seconds for which a job keeps a worker beyond its share, where others wait for it; to start one takes some."""


@dataclass(frozen=True)
class Resources:
    """What there is to share."""

    cpus: int
    """So many workers at once."""
    gpus: float = 0.0


@dataclass(frozen=True)
class Standing:
    """Where a job stands: trials that wait for a worker, and its workers."""

    waiting: int
    running: int = 0
    idle: int = 0
    most: int = 1
    """Trials that it may run at once."""
    served: int = 0
    """When it was given a worker last; smaller is longer ago."""
    resting: float = 0.0
    """Seconds for which the worker that is idle longest has been idle."""
    held: float = 0.0
    """Seconds since that worker's first trial ended."""

    @property
    def workers(self) -> int:
        """All it has."""
        return self.running + self.idle


@dataclass(frozen=True)
class Move:
    """Start a trial of a job; first end an idle worker of another, where there is one to end. Both by position."""

    starts: int
    ends: int | None = None


def move(standings: Sequence[Standing], cpus: int) -> Move | None:
    """Which trial starts next: one of the job that runs fewest; among equals, of the one served longest ago.

    A job that has no idle worker may have to let another go first: a worker is started anew for each job, which
    takes seconds, so no job loses one each time that it thinks.
    """
    if sum(s.running for s in standings) >= cpus:
        return None
    waiting = [i for i, s in enumerate(standings) if s.waiting and s.running < s.most]
    for i in sorted(waiting, key=lambda i: (standings[i].running, standings[i].served)):
        if standings[i].idle or sum(s.workers for s in standings) < cpus:
            return Move(i)
        share = cpus // len(standings)
        spare = [j for j, s in enumerate(standings) if s.idle and _yields(s, standings[i], share)]
        if spare:
            return Move(i, max(spare, key=lambda j: standings[j].workers))
    return None


def _yields(owner: Standing, other: Standing, share: int) -> bool:
    """Whether a job lets an idle worker go to another: it does not use it, or has more than its share."""
    if owner.resting >= REST:
        return True
    if owner.workers <= max(share, other.workers):
        return False
    return other.workers < share or owner.held >= TURN


def surplus(standings: Sequence[Standing], cpus: int) -> int | None:
    """Whose idle worker ends, where there are more workers than `cpus`: of the job that has most of them."""
    if sum(s.workers for s in standings) <= cpus:
        return None
    idle = [i for i, s in enumerate(standings) if s.idle]
    return max(idle, key=lambda i: standings[i].workers, default=None)


class Sharer(Protocol):
    """A job's side. Called with the lock held, by the thread of any job; must not wait."""

    def standing(self, served: int) -> Standing:
        """Where it stands now."""
        ...

    def start(self) -> None:
        """Start its next trial, on an idle worker if it has one."""
        ...

    def end_idle(self) -> None:
        """End the worker that is idle longest."""
        ...


class Slots:
    """Workers for the jobs of this process. Any thread may call.

    Args:
        look: how much there is at the moment.
    """

    def __init__(self, look: Callable[[], Resources]) -> None:
        self._look, self._resources = look, look()
        self._next_look = time.monotonic() + LOOK
        self.lock = threading.Condition()
        """Held wherever a job's side is looked at or changed; waiters are told of every change."""
        self._served: dict[Sharer, int] = {}
        self._count = 0

    def join(self, job: Sharer) -> None:
        """Let a job take part."""
        with self.changing():
            self._served[job] = self._count
            if self.gpus:  # parts of GPUs get smaller: workers with larger ones make room
                for other in self._served:
                    while other.standing(0).idle:
                        other.end_idle()

    def leave(self, job: Sharer) -> None:
        """The job takes no part any more; its workers have ended."""
        with self.changing():
            self._served.pop(job, None)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock to change what a job has; what is free then is dealt out, and those who wait are told."""
        with self.lock:
            yield
            self._deal()
            self.lock.notify_all()

    @property
    def gpus(self) -> float:
        """The part of a GPU that each worker gets, so that all workers that the jobs may want find one."""
        if not self._resources.gpus:
            return 0.0
        most = sum(s.most for s in self._standings())
        return min(1.0, int(100 * self._resources.gpus / max(1, min(most, self._resources.cpus))) / 100)

    def _standings(self) -> list[Standing]:
        return [job.standing(served) for job, served in self._served.items()]

    def _deal(self) -> None:
        if time.monotonic() >= self._next_look:
            self._resources = self._look()
            self._next_look = time.monotonic() + LOOK
        jobs, cpus = list(self._served), self._resources.cpus
        while (step := move(self._standings(), cpus)) is not None:
            if step.ends is not None:
                jobs[step.ends].end_idle()
            self._count += 1
            self._served[jobs[step.starts]] = self._count
            jobs[step.starts].start()
        while (richest := surplus(self._standings(), cpus)) is not None:
            jobs[richest].end_idle()
