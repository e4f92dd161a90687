"""Evaluations on Ray: one actor call a trial. Ray Core only; a Ray Tune trial costs a thousand times more."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cloudpickle
import ray
from ray.exceptions import RayError, RayTaskError

from nas.executors.attempt import Task
from nas.executors.child import Child, Limits
from nas.executors.slots import Resources, Slots, Standing
from nas.trial import Broken, BrokenKind, Outcome, Trial
from search_spaces import SpecError

SLICE = 0.1
"""Seconds that a job with trials that wait for a worker looks at those that run, before it looks again at both."""


class RayExecutor:
    """Actors on the cluster that `connected` reached, each with one CPU, a share of the GPUs and a child process.

    Actors and not tasks: Ray 2.60 aborts the driver when the cancellation of a task meets its reply, and an actor
    can be killed at any moment. What other threads may touch, those of jobs with the same slots, `slots` locks.
    """

    def __init__(self, task: Task, parallel: int, slots: Slots | None = None) -> None:
        try:
            self._task = ray.put(cloudpickle.dumps(task))
        except (TypeError, pickle.PicklingError) as error:
            cause = _first_line(error.__cause__ or error)
            raise SpecError.at(
                "evaluator", f"cannot be sent to Ray workers ({cause}); executor inline needs no sending"
            ) from None
        self._limits = Limits(task.seconds, task.memory)
        self._most = max(1, parallel)
        self._waiting: deque[tuple[int, bytes]] = deque()  # trial numbers and pickled proposals
        self._idle: list[_Hired] = []
        self._running: dict[Any, tuple[int, _Hired]] = {}  # reference -> (trial number, its worker)
        self._slots = slots or Slots(resources)
        self._slots.join(self)

    @property
    def in_flight(self) -> int:
        """Trials submitted whose outcome was not given yet."""
        with self._slots.lock:
            return len(self._running) + len(self._waiting)

    def submit(self, trial: Trial) -> None:
        """Send the trial to a worker, or let it wait for its turn."""
        proposal = cloudpickle.dumps(trial.proposal)
        with self._slots.changing():
            self._waiting.append((trial.number, proposal))

    def resize(self, parallel: int) -> None:
        """Use so many workers, at most, from now on."""
        with self._slots.changing():
            self._most = max(1, parallel)

    def outcomes(self, timeout: float) -> Iterator[tuple[int, Outcome]]:
        """Outcomes of all trials that are done, after at most `timeout` seconds of waiting for the first."""
        for reference in self._done(time.monotonic() + timeout):
            outcome, alive = _outcome(reference)
            with self._slots.changing():
                number, worker = self._running.pop(reference, (None, None))
                if worker is not None and alive and worker.gpus <= self._slots.gpus:
                    now = time.monotonic()
                    self._idle.append(replace(worker, since=worker.since or now, idle_since=now))
                elif worker is not None:
                    ray.kill(worker.actor)
            if number is not None:  # else it was cancelled meanwhile
                yield number, outcome

    def cancel(self, numbers: Iterable[int] | None = None) -> None:
        """Kill the workers of these trials (None: all)."""
        gone = None if numbers is None else set(numbers)
        with self._slots.changing():
            for reference, (number, worker) in list(self._running.items()):
                if gone is None or number in gone:
                    del self._running[reference]
                    ray.kill(worker.actor)
            self._waiting = deque(w for w in self._waiting if gone is not None and w[0] not in gone)

    def close(self) -> None:
        """Cancel what is in flight, and end all workers."""
        self.cancel()
        with self._slots.changing():
            while self._idle:
                self.end_idle()
        self._slots.leave(self)

    def standing(self, served: int) -> Standing:
        """What it has, and what it wants; for `Slots`."""
        standing = Standing(len(self._waiting), len(self._running), len(self._idle), self._most, served)
        if not self._idle:
            return standing
        now, longest = time.monotonic(), self._idle[0]
        return replace(standing, resting=now - longest.idle_since, held=now - longest.since)

    def start(self) -> None:
        """Start the first trial that waits; for `Slots`."""
        number, proposal = self._waiting[0]
        worker = self._idle.pop() if self._idle else self._hire()
        self._running[worker.actor.attempt.remote(proposal)] = (number, worker)
        self._waiting.popleft()  # only now: where Ray fails, the trial is still there, and is not taken for done

    def end_idle(self) -> None:
        """End the worker that is idle longest; for `Slots`."""
        ray.kill(self._idle.pop(0).actor)

    def _hire(self) -> _Hired:
        gpus = self._slots.gpus
        new = _Worker.options(num_cpus=1, num_gpus=gpus).remote  # type: ignore[attr-defined]
        return _Hired(new(self._task, self._limits), gpus)

    def _done(self, end: float) -> list[Any]:
        """References of all trials that are done, once there is one, or after the monotonic time `end`."""
        while True:
            with self._slots.changing():
                references, crowded = list(self._running), bool(self._waiting)
                left = max(0.0, end - time.monotonic())
                wait = min(left, SLICE) if crowded else left  # another job may start a trial of ours meanwhile
                if not references and crowded and wait:
                    self._slots.lock.wait(wait)
            if not references and not crowded:
                return []
            if references:
                ready, _ = ray.wait(references, num_returns=1, timeout=wait)
                if ready:
                    return list(ray.wait(references, num_returns=len(references), timeout=0)[0])
            if left <= wait:
                return []


@dataclass(frozen=True)
class _Hired:
    """A worker and what it holds beside its CPU."""

    actor: Any
    gpus: float
    since: float = 0.0
    """When its first trial ended, for starting may take long; this and the next are monotonic times."""
    idle_since: float = 0.0


def resources() -> Resources:
    """What the cluster has now."""
    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return Resources(max(1, int(there.get("CPU", 1))), float(there.get("GPU", 0)))


@contextmanager
def connected(parallel: int) -> Iterator[None]:
    """A Ray cluster for the body: the one at `RAY_ADDRESS`, else one on this machine with `parallel` CPUs.

    A cluster that this process is connected to already is used as it is, and left so.
    """
    if ray.is_initialized():
        yield
        return
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not os.environ.get("RAY_ADDRESS"):
        settings |= {
            "address": "local",  # and not what `ray start` may have left on this machine
            "num_cpus": max(parallel, 1),
            "include_dashboard": False,
            "object_store_memory": 256 * 1024**2,  # results are a few numbers
        }
        with _import_path_handed_on():
            ray.init(**settings)
    else:
        ray.init(**settings)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _import_path_handed_on() -> Iterator[None]:
    """Workers started in the body import from where this process does: an evaluator may lie beside a script."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(str(Path(p).absolute()) for p in sys.path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@ray.remote(max_restarts=0, max_task_retries=0)  # the loop decides about another attempt, and counts it
class _Worker:
    """Watches the child process that evaluates one trial after the other, and loads nothing of the user's."""

    def __init__(self, task: bytes, limits: Limits) -> None:
        self._child = Child(task, limits)

    def attempt(self, proposal: bytes) -> Outcome:
        return self._child.attempt(proposal)


def _outcome(reference: Any) -> tuple[Outcome, bool]:
    """What came of a trial, and whether its worker can take another one."""
    try:
        outcome: Outcome = ray.get(reference)
    except RayTaskError as error:
        return Broken(BrokenKind.FAILED, f"the task failed: {_first_line(error.cause or error)}"), True
    except RayError as error:
        return Broken(BrokenKind.LOST, f"the worker died: {_first_line(error)}"), False
    return outcome, True


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
