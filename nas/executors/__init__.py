"""Where evaluations run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from nas.contracts import Executor
from nas.executors.attempt import Task
from nas.executors.inline import InlineExecutor
from nas.executors.simulated import SimulatedExecutor

ExecutorKind: TypeAlias = Literal["ray", "inline", "simulated"]


@contextmanager
def session(kind: ExecutorKind, parallel: int) -> Iterator[None]:
    """What several executors opened in the body share: for Ray, one cluster instead of one each."""
    if kind != "ray":
        yield
        return
    from nas.executors.ray import connected

    with connected(parallel):
        yield


@contextmanager
def opened(kind: ExecutorKind, task: Task, parallel: int, now: float = 0.0) -> Iterator[Executor]:
    """An executor for the body; whatever is still running at its end is stopped.

    `now`: where a simulated clock stands, in seconds.
    """
    if kind == "inline":
        yield InlineExecutor(task)
        return
    if kind == "simulated":
        yield SimulatedExecutor(task, parallel, now)
        return
    from nas.executors.ray import RayExecutor, connected

    with connected(parallel):
        executor = RayExecutor(task, parallel)
        try:
            yield executor
        finally:
            executor.cancel()
