"""Where evaluations run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from nas.contracts import Executor
from nas.executors.attempt import Task
from nas.executors.inline import InlineExecutor
from nas.executors.simulated import SimulatedExecutor
from nas.executors.slots import Slots

ExecutorKind: TypeAlias = Literal["ray", "inline", "simulated"]


@contextmanager
def session(kind: ExecutorKind, parallel: int) -> Iterator[Slots | None]:
    """What several executors opened in the body share: for Ray one cluster, and its workers in equal parts.

    Given to `opened`; None where nothing is shared.
    """
    if kind != "ray":
        yield None
        return
    from nas.executors.ray import connected, resources

    with connected(parallel):
        yield Slots(resources)


@contextmanager
def opened(
    kind: ExecutorKind, task: Task, parallel: int, now: float = 0.0, slots: Slots | None = None
) -> Iterator[Executor]:
    """An executor for the body; whatever is still running at its end is stopped.

    Args:
        kind: where evaluations run.
        task: what to evaluate.
        parallel: trials at once, at most.
        now: where a simulated clock stands, in seconds.
        slots: shared with other jobs of the session; None: as if it were alone.
    """
    if kind == "inline":
        yield InlineExecutor(task)
        return
    if kind == "simulated":
        yield SimulatedExecutor(task, parallel, now)
        return
    from nas.executors.ray import RayExecutor, connected

    with connected(parallel):
        executor = RayExecutor(task, parallel, slots)
        try:
            yield executor
        finally:
            executor.close()
