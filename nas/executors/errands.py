"""Evaluations beside a search: all of a few, each once, with nobody to write them down."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nas.executors import ExecutorKind, opened
from nas.executors.attempt import Task
from nas.executors.slots import Slots
from nas.trial import Outcome, Proposal, Trial

LOOK = 0.5
"""Seconds between two looks at whether to let go."""


def outcomes(
    executor: ExecutorKind,
    task: Task,
    work: Mapping[int, Proposal],
    parallel: int,
    observe: Callable[[int], None] = lambda done: None,
    slots: Slots | None = None,
    over: Callable[[], bool] = lambda: False,
) -> dict[int, Outcome]:
    """What comes of each proposal, by its number.

    Args:
        executor: where they are evaluated.
        task: how.
        work: proposals by number.
        parallel: so many at once, at most.
        observe: told how many are done, now and then.
        slots: workers shared with jobs of this process.
        over: whether to let go of what is not done yet, which then has no outcome; where evaluations run in this
            process, it is asked between two of them.

    Raises:
        WorkersAway: Ray cannot be reached.
    """
    found: dict[int, Outcome] = {}
    waiting = [Trial(number, proposal) for number, proposal in work.items()]
    with opened(executor, task, parallel, slots=slots) as workers:
        while (waiting or workers.in_flight) and not over():
            while waiting and workers.in_flight < parallel:
                workers.submit(waiting.pop(0))
            found.update(workers.outcomes(timeout=LOOK))
            observe(len(found))
    return found
