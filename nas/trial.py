"""A trial: one architecture, proposed, evaluated, and what came of it. Frozen; one method a legal transition."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

from nas.objectives import Problem
from search_spaces import Architecture

MAX_LOSSES = 3
"""So many workers lost while they ran a trial make it FAILED: it is likely to be what kills them."""
MAX_ATTEMPTS = 20
"""As many starts, most of them ended by the death of a runner, which other jobs may have caused, do the same."""


class TrialState(StrEnum):
    """Where a trial stands."""

    PENDING = "PENDING"
    """Waits for a worker: its last one was lost, or its job was paused."""
    RUNNING = "RUNNING"
    """Handed to a worker."""
    SUCCEEDED = "SUCCEEDED"
    """Measured. A violated constraint is SUCCEEDED with `feasible` false: searchers learn from it."""
    EARLY_STOPPED = "EARLY_STOPPED"
    """Measured in part and stopped."""
    INFEASIBLE = "INFEASIBLE"
    """Cannot be built or measured; never tried again."""
    FAILED = "FAILED"
    """The evaluator raised an error, or the worker was lost too often."""
    CANCELLED = "CANCELLED"
    """Stopped on request."""

    @property
    def open(self) -> bool:
        """Whether an outcome is still to come."""
        return self in (TrialState.PENDING, TrialState.RUNNING)


@dataclass(frozen=True)
class Proposal:
    """What a searcher asks to be evaluated."""

    architecture: Architecture
    fidelity: float | None = None
    """Part of the full training to spend, in (0, 1]; None: all of it."""
    resume_from: int | None = None
    """Number of the trial whose training this one continues."""


@dataclass(frozen=True)
class Trace:
    """How an evaluation went, for people to look at; no search depends on it."""

    worker: str
    """Host and process, as ``gpu-3:4711``."""
    started_at: float
    """Unix time, seconds."""
    curve: tuple[tuple[int, Mapping[str, float]], ...] = ()
    """Intermediate metrics, by step, as the evaluator reported them."""
    log: str = ""
    """The end of what the evaluation printed."""


@dataclass(frozen=True)
class Measured:
    """An evaluation that gave metrics, every one a finite number."""

    metrics: Mapping[str, float]
    trace: Trace | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            if not math.isfinite(value):
                raise ValueError(f"{name} is {value}")


class BrokenKind(StrEnum):
    """Why there are no metrics."""

    INFEASIBLE = "INFEASIBLE"
    """The candidate cannot be built or measured."""
    FAILED = "FAILED"
    """The evaluator raised an error."""
    LOST = "LOST"
    """The worker died; the candidate may be innocent and is tried again."""
    CANCELLED = "CANCELLED"
    """Stopped on request."""


@dataclass(frozen=True)
class Broken:
    """An evaluation that gave no metrics, with the reason in one line."""

    kind: BrokenKind
    reason: str
    trace: Trace | None = field(default=None, compare=False)


Outcome: TypeAlias = Measured | Broken


@dataclass(frozen=True)
class Origin:
    """A trial of another job."""

    job: str
    number: int

    def __str__(self) -> str:
        return f"job {self.job}, trial {self.number}"


@dataclass(frozen=True)
class Trial:
    """One evaluation of one architecture within a job."""

    number: int
    """0, 1, 2, ... in the order in which trials were opened."""
    proposal: Proposal
    state: TrialState = TrialState.RUNNING
    attempt: int = 1
    """Counts starts; more than 1 after a lost worker or runner, 0 where another job measured it."""
    losses: int = 0
    """How often its worker was lost while it ran."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Empty unless the trial was measured."""
    feasible: bool | None = None
    """Whether every constraint holds; None unless the trial was measured."""
    reason: str | None = None
    """Why there are no metrics; `infeasible_reason` over HTTP where the state is INFEASIBLE."""
    order: int | None = None
    """0, 1, 2, ... in the order in which trials finished; None while open."""
    created_at: float = 0.0
    """Unix time, seconds."""
    finished_at: float | None = None
    origin: Origin | None = None
    """The trial of another job that gave the architecture and, where it was taken over, the metrics."""

    def __post_init__(self) -> None:
        if self.state.open != (self.order is None):
            raise ValueError(f"trial {self.number} is {self.state} and its order is {self.order}")
        if self.state is TrialState.SUCCEEDED and not self.metrics:
            raise ValueError(f"trial {self.number} is SUCCEEDED without metrics")

    @property
    def architecture(self) -> Architecture:
        """The architecture under evaluation."""
        return self.proposal.architecture

    @property
    def measured(self) -> bool:
        """Whether there are metrics of a full evaluation."""
        return self.state is TrialState.SUCCEEDED

    @property
    def taken_over(self) -> bool:
        """Whether another job measured it, so that it cost this one nothing."""
        return self.attempt == 0

    def start(self) -> Trial:
        """PENDING to RUNNING."""
        self._must_be(TrialState.PENDING)
        return replace(self, state=TrialState.RUNNING)

    def hand_back(self) -> Trial:
        """RUNNING to PENDING: the runner stops in order; the attempt did not count."""
        return replace(self, state=TrialState.PENDING) if self.state is TrialState.RUNNING else self

    def orphaned(self, order: int, at: float) -> Trial:
        """RUNNING to PENDING, or the last time to FAILED: the runner died, which another trial may have caused."""
        self._must_be(TrialState.RUNNING)
        return self._again("the runner died while it ran", order, at, True)

    def close(
        self, outcome: Outcome, problem: Problem, order: int, at: float, *, others_measured: bool = False
    ) -> Trial:
        """The trial with its outcome: finished, or PENDING again where a worker was lost.

        A metric that is missing makes it FAILED, for that is the evaluator's fault; once other trials were
        measured it is the candidate's, and makes it INFEASIBLE.
        """
        if not self.state.open:
            raise ValueError(f"trial {self.number} is already {self.state}")
        if isinstance(outcome, Measured):
            return self._measured(outcome, problem, order, at, others_measured)
        if outcome.kind is BrokenKind.LOST:
            return replace(self, losses=self.losses + 1)._again(
                outcome.reason, order, at, self.losses + 1 < MAX_LOSSES
            )
        return self._broken(TrialState(outcome.kind.value), outcome.reason, order, at)

    def _measured(
        self, outcome: Measured, problem: Problem, order: int, at: float, others_measured: bool
    ) -> Trial:
        missing = [name for name in problem.metrics if name not in outcome.metrics]
        if missing:
            got = ", ".join(outcome.metrics) or "none"
            reason = f"the evaluator gave no {' and no '.join(missing)}; it gave {got}"
            state = TrialState.INFEASIBLE if others_measured else TrialState.FAILED
            return self._broken(state, reason, order, at)
        return replace(
            self,
            state=TrialState.SUCCEEDED,
            metrics=dict(outcome.metrics),
            feasible=problem.violation(outcome.metrics) == 0,
            order=order,
            finished_at=at,
        )

    def _again(self, reason: str, order: int, at: float, may: bool) -> Trial:
        """PENDING for another attempt, where it may have one; else FAILED."""
        if may and self.attempt < MAX_ATTEMPTS:
            return replace(self, state=TrialState.PENDING, attempt=self.attempt + 1)
        return self._broken(TrialState.FAILED, f"{reason} ({self.attempt} attempts)", order, at)

    def _broken(self, state: TrialState, reason: str, order: int, at: float) -> Trial:
        return replace(self, state=state, reason=reason, order=order, finished_at=at)

    def _must_be(self, state: TrialState) -> None:
        if self.state is not state:
            raise ValueError(f"trial {self.number} is {self.state}, not {state}")
