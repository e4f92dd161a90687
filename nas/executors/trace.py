"""What is kept of an evaluation for people to look at: where it ran, and its learning curve."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import replace

from nas.executors.attempt import Task, attempt
from nas.remarks import remarks
from nas.trial import Outcome, Proposal, Trace

STEPS = 1000
"""Points of a learning curve that are kept, at most."""
LOG = 16 * 1024
"""Bytes of what an evaluation printed that are kept, from its end."""


class Curve:
    """A learning curve as it comes in; one that grows too long keeps every second point, then every fourth."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, dict[str, float]]] = []
        self._last: tuple[int, dict[str, float]] | None = None
        self._count, self._every = 0, 1

    def add(self, step: int, metrics: Mapping[str, object]) -> None:
        """One more point; what is no finite number is left out."""
        self._last = int(step), finite(metrics)
        if self._count % self._every == 0:
            self._kept.append(self._last)
            if len(self._kept) == STEPS:
                self._kept, self._every = self._kept[::2], 2 * self._every
        self._count += 1

    @property
    def points(self) -> tuple[tuple[int, Mapping[str, float]], ...]:
        """The points kept, evenly spread, and always the first and the last; at most `STEPS`."""
        last = [] if self._last is None or (self._kept and self._kept[-1] is self._last) else [self._last]
        return (*self._kept, *last)


def finite(metrics: Mapping[str, object]) -> dict[str, float]:
    """Those of the metrics that are finite numbers."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        try:
            number = float(value)  # type: ignore[arg-type]  # what it is shows here
        except (TypeError, ValueError, OverflowError):
            continue
        if math.isfinite(number):
            found[str(name)] = number
    return found


def worker(pid: int | None = None) -> str:
    """A process of this host, by default this one: ``gpu-3:4711``."""
    return f"{socket.gethostname()}:{os.getpid() if pid is None else pid}"


def traced(task: Task, proposal: Proposal, formulas: Mapping[str, float] | None = None) -> Outcome:
    """Evaluate in this very process, as `attempt` does; what is printed goes where it always does.

    Remarks of the evaluator are the trial's log.
    """
    started, curve = time.time(), Curve()
    with remarks() as lines:
        outcome = attempt(task, proposal, curve.add, formulas)
    log = "\n".join(lines).encode()[-LOG:].decode(errors="replace")
    return replace(outcome, trace=Trace(worker(), started, curve.points, log))
