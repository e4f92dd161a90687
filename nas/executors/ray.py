"""Evaluations on Ray: one actor call a trial. Ray Core only; a Ray Tune trial costs a thousand times more."""

from __future__ import annotations

import logging
import os
import pickle
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from nas.executors.attempt import Task, attempt, killed_after
from nas.trial import Broken, BrokenKind, Outcome, Proposal, Trial
from search_spaces import SpecError


class RayExecutor:
    """Actors on the cluster that `connected` reached, each with one CPU and its share of the GPUs.

    Actors and not tasks: Ray 2.60 aborts the driver when the cancellation of a task meets its reply, and an actor
    can be killed at any moment.
    """

    def __init__(self, task: Task, parallel: int) -> None:
        there = ray.cluster_resources()  # type: ignore[no-untyped-call]
        self._slots = max(1, min(parallel, int(there.get("CPU", 1))))
        try:
            self._task = ray.put(task)
        except (TypeError, pickle.PicklingError) as error:
            cause = _first_line(error.__cause__ or error)
            raise SpecError.at(
                "evaluator", f"cannot be sent to Ray workers ({cause}); executor inline needs no sending"
            ) from None
        self._new_worker = _Worker.options(  # type: ignore[attr-defined]
            num_cpus=1, num_gpus=_share(float(there.get("GPU", 0)), self._slots)
        ).remote
        self._waiting: deque[Trial] = deque()
        self._idle: list[Any] = []
        self._running: dict[Any, tuple[int, Any]] = {}  # reference -> (trial number, its worker)

    @property
    def in_flight(self) -> int:
        """Trials submitted whose outcome was not given yet."""
        return len(self._running) + len(self._waiting)

    def submit(self, trial: Trial) -> None:
        """Send the trial to an idle worker, or let it wait for one."""
        self._waiting.append(trial)
        self._dispatch()

    def outcomes(self, timeout: float) -> Iterator[tuple[int, Outcome]]:
        """Outcomes of all trials that are done, after at most `timeout` seconds of waiting for the first."""
        if not self._running:
            return
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=timeout)
        if ready:
            ready, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        for reference in ready:
            number, worker = self._running.pop(reference)
            outcome = _outcome(reference)
            if not (isinstance(outcome, Broken) and outcome.kind is BrokenKind.LOST):
                self._idle.append(worker)
            self._dispatch()
            yield number, outcome

    def cancel(self, numbers: Iterable[int] | None = None) -> None:
        """Kill the workers of these trials (None: all)."""
        gone = None if numbers is None else set(numbers)
        for reference, (number, worker) in list(self._running.items()):
            if gone is None or number in gone:
                del self._running[reference]
                ray.kill(worker)
        self._waiting = deque(t for t in self._waiting if gone is not None and t.number not in gone)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._waiting and (self._idle or len(self._running) < self._slots):
            trial = self._waiting.popleft()
            worker = self._idle.pop() if self._idle else self._new_worker(self._task)
            self._running[worker.attempt.remote(trial.proposal)] = (trial.number, worker)


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
    """A process that evaluates one trial after the other."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def attempt(self, proposal: Proposal) -> Outcome:
        with killed_after(self._task.seconds):
            return attempt(self._task, proposal)


def _outcome(reference: Any) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except RayActorError as error:
        return Broken(BrokenKind.LOST, f"the worker died: {_first_line(error)}")
    except RayTaskError as error:
        return Broken(BrokenKind.FAILED, f"the task failed: {_first_line(error.cause or error)}")
    except RayError as error:
        return Broken(BrokenKind.LOST, f"the worker died: {_first_line(error)}")
    return outcome


def _share(gpus: float, parallel: int) -> float:
    return min(1.0, int(100 * gpus / max(parallel, 1)) / 100)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
