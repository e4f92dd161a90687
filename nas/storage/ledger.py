"""A job's open trials, and what becomes of them: the one place that says so, for every store.

Every method that gives trials changes nothing; once they are written, `keep` takes them over. So a write that
fails leaves the ledger as it was.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from nas.job import JobState
from nas.objectives import Problem
from nas.trial import Broken, BrokenKind, Outcome, Proposal, Trace, Trial, TrialState

ON_REQUEST = "cancelled on request"
"""Why a job ended that no runner held when it was asked to."""


class Ledger:
    """What the holder of a lease knows of the job's trials.

    Trials are numbered, and finished ones ordered, without gaps: the counts give the next number and order.
    """

    def __init__(
        self,
        problem: Problem,
        open_trials: Iterable[Trial] = (),
        counts: Mapping[TrialState, int] | None = None,
    ) -> None:
        self._problem = problem
        self._open = {t.number: t for t in open_trials}
        self._counts = Counter(counts or {})

    @property
    def counts(self) -> dict[TrialState, int]:
        """Trials by state; states without trials are missing."""
        return {state: n for state, n in self._counts.items() if n}

    def open(self, work: Sequence[Proposal | Trial], at: float) -> list[Trial]:
        """New trials for proposals, PENDING trials started again; all RUNNING, in the order given.

        Raises:
            ValueError: for a trial that is not PENDING.
        """
        opened: dict[int, Trial] = {}
        number = self._counts.total()
        for item in work:
            if isinstance(item, Trial):
                trial = self._find(item.number, opened).start()
            else:
                trial = Trial(number, item, created_at=at)
                number += 1
            opened[trial.number] = trial
        return list(opened.values())

    def close(self, outcomes: Sequence[tuple[int, Outcome]], at: float) -> list[Trial]:
        """Trials with their outcomes, in the order given.

        Raises:
            ValueError: for a trial that is not open.
        """
        closed: dict[int, Trial] = {}
        result = []
        order, measured = self._next_order, self._counts[TrialState.SUCCEEDED] > 0
        for number, outcome in outcomes:
            before = self._find(number, closed)
            trial = before.close(_storable(outcome), self._problem, order, at, others_measured=measured)
            order += not trial.state.open
            measured |= trial.measured
            closed[number] = trial
            result.append(trial)
        return result

    def recover(self, at: float) -> list[Trial]:
        """After the death of a runner: trials that it left RUNNING are PENDING or, the last time, FAILED."""
        result = []
        order = self._next_order
        for trial in self._by_number():
            if trial.state is TrialState.RUNNING:
                result.append(trial.orphaned(order, at))
                order += not result[-1].state.open
        return result

    def release(self, state: JobState, reason: str | None, at: float) -> list[Trial]:
        """The trials that change when the job goes to `state`: handed back, or CANCELLED where it is over.

        Where it goes on in the same hands, those that ran are to be started again.
        """
        if not state.over:
            return [t.hand_back() for t in self._by_number() if t.state is TrialState.RUNNING]
        ended = Broken(BrokenKind.CANCELLED, reason or f"the job ended {state}")
        return self.close([(t.number, ended) for t in self._by_number()], at)

    def counts_with(self, trials: Iterable[Trial]) -> dict[TrialState, int]:
        """Trials by state, every state named, once these are written."""
        counts = {state: self._counts[state] for state in TrialState}
        changed: dict[int, Trial] = {}
        for trial in trials:
            before = changed.get(trial.number) or self._open.get(trial.number)
            if before is not None:
                counts[before.state] -= 1
            counts[trial.state] += 1
            changed[trial.number] = trial
        return counts

    def keep(self, trials: Sequence[Trial]) -> None:
        """Take over trials that were written."""
        self._counts = Counter(self.counts_with(trials))
        for trial in trials:
            self._open.pop(trial.number, None)
            if trial.state.open:
                self._open[trial.number] = trial

    @property
    def _next_order(self) -> int:
        return self._counts.total() - len(self._open)

    def _by_number(self) -> list[Trial]:
        return [self._open[number] for number in sorted(self._open)]

    def _find(self, number: int, changed: Mapping[int, Trial]) -> Trial:
        """The trial as it stands, with the changes of this very call."""
        found = changed.get(number) or self._open.get(number)
        if found is None:
            raise ValueError(f"trial {number} is not open")
        return found


def counted(trials: Iterable[Trial]) -> dict[TrialState, int]:
    """Trials by state; states without trials are missing."""
    return dict(Counter(t.state for t in trials))


def after_release(current: JobState, wanted: JobState, *, edited: bool = False) -> JobState:
    """The state that a job takes when its runner lets go: a request that it missed is honoured.

    After an edit that it missed the job is not over, and its state stays as it is: held.

    Raises:
        ValueError: where `wanted` needs a runner.
    """
    if wanted.held:
        raise ValueError(f"a job cannot be released {wanted}: that takes a runner")
    if wanted.over and not edited:
        return wanted
    unseen = {JobState.CANCELLING: JobState.CANCELLED, JobState.PAUSING: JobState.PAUSED}
    return unseen.get(current, current if wanted.over else wanted)


def after_claim(current: JobState) -> JobState:
    """The state of a job that a runner has claimed; one that was asked to end or pause stays so."""
    return current if current.held else JobState.RUNNING


def storable(text: str) -> str:
    """The text without what databases refuse: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def traces_of(outcomes: Iterable[tuple[int, Outcome]]) -> dict[int, Trace]:
    """How evaluations went, by trial number: finite metrics, and text that can be stored."""
    return {n: _storable_trace(outcome.trace) for n, outcome in outcomes if outcome.trace is not None}


def _storable_trace(trace: Trace) -> Trace:
    curve = tuple((step, {k: float(v) for k, v in m.items() if math.isfinite(v)}) for step, m in trace.curve)
    return replace(trace, worker=storable(trace.worker), curve=curve, log=storable(trace.log))


def _storable(outcome: Outcome) -> Outcome:
    """The outcome with text that can be stored, and with Python's numbers in place of NumPy's."""
    if isinstance(outcome, Broken):
        return replace(outcome, reason=storable(outcome.reason))
    return replace(outcome, metrics={name: _number(v) for name, v in outcome.metrics.items()})


def _number(value: float) -> float:
    """Python's own number; an int only where a double holds it exactly."""
    return value if type(value) is int and abs(value) <= 2**53 else float(value)
