"""Evaluations on Ray: one task a trial. Ray Core only; a Ray Tune trial costs a thousand times more."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

from nas.executors.attempt import Task, attempt, killed_after
from nas.trial import Broken, BrokenKind, Outcome, Proposal, Trial
from search_spaces import SpecError


class RayExecutor:
    """Tasks on the cluster that `connected` reached, each with one CPU and its share of the GPUs."""

    def __init__(self, task: Task, parallel: int) -> None:
        gpus = float(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
        try:
            self._task = ray.put(task)
        except (TypeError, pickle.PicklingError) as error:
            cause = _first_line(error.__cause__ or error)
            raise SpecError.at(
                "evaluator", f"cannot be sent to Ray workers ({cause}); executor inline needs no sending"
            ) from None
        self._remote = _evaluate.options(num_cpus=1, num_gpus=_share(gpus, parallel))
        self._running: dict[Any, int] = {}  # reference -> trial number

    @property
    def in_flight(self) -> int:
        """Trials submitted whose outcome was not given yet."""
        return len(self._running)

    def submit(self, trial: Trial) -> None:
        """Send the trial to a worker."""
        reference = self._remote.remote(self._task, trial.proposal)
        self._running[reference] = trial.number

    def outcomes(self, timeout: float) -> Iterator[tuple[int, Outcome]]:
        """Outcomes of all tasks that are done, after at most `timeout` seconds of waiting for the first."""
        if not self._running:
            return
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=timeout)
        if ready:
            ready, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        for reference in ready:
            yield self._running.pop(reference), _outcome(reference)

    def cancel(self, numbers: Iterable[int] | None = None) -> None:
        """Kill the workers of these trials (None: all)."""
        gone = None if numbers is None else set(numbers)
        for reference, number in list(self._running.items()):
            if gone is None or number in gone:
                del self._running[reference]
                ray.cancel(reference, force=True)


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


@ray.remote(max_retries=0)  # the loop decides about another attempt, and counts it
def _evaluate(task: Task, proposal: Proposal) -> Outcome:
    # Ctrl-C in a terminal reaches workers too; they are the driver's to cancel, and an interrupt that meets its
    # cancellation halfway brings Ray's driver down
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with killed_after(task.seconds):
        return attempt(task, proposal)


def _outcome(reference: Any) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except TaskCancelledError as error:
        return Broken(BrokenKind.LOST, f"the task was cancelled: {_first_line(error)}")
    except RayTaskError as error:
        return Broken(BrokenKind.FAILED, f"the task failed: {_first_line(error.cause or error)}")
    except RayError as error:
        return Broken(BrokenKind.LOST, f"the worker died: {_first_line(error)}")
    return outcome


def _share(gpus: float, parallel: int) -> float:
    return min(1.0, int(100 * gpus / max(parallel, 1)) / 100)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
