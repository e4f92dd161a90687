"""Where evaluations run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from nas.contracts import Executor, WorkersAway
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

    Raises:
        WorkersAway: Ray cannot be reached.
    """
    if kind == "inline":
        yield InlineExecutor(task)
        return
    if kind == "simulated":
        yield SimulatedExecutor(task, parallel, now)
        return
    from ray.exceptions import RayError

    from nas.executors.ray import RayExecutor, connected

    try:
        with connected(parallel):
            executor = RayExecutor(task, parallel, slots)
            try:
                yield executor
            finally:
                executor.close()
    except RayError as error:  # what becomes of a trial is an outcome; this is the cluster itself
        raise WorkersAway(f"Ray cannot be reached: {type(error).__name__}") from error
