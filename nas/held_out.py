"""Test data, touched once, at the end: networks that the search chose are measured on the held-out split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from nas.contracts import Evaluator, Report
from nas.executors import ExecutorKind
from nas.executors.attempt import Task
from nas.executors.errands import outcomes
from nas.runner import Study
from nas.trial import Measured, Proposal, Trial


@runtime_checkable
class HasTest(Protocol):
    """An evaluator that knows of a test split."""

    def test(self, proposal: Proposal) -> Mapping[str, float]:
        """Metrics on the test split, their names beginning with ``test_``."""
        ...


@dataclass(frozen=True)
class _Tester:
    """An evaluator that measures on the test split."""

    evaluator: HasTest

    def evaluate(self, proposal: Proposal, report: Report) -> Mapping[str, float]:
        """The metrics of the test split alone."""
        return self.evaluator.test(proposal)


def can_test(evaluator: Evaluator) -> bool:
    """Whether the evaluator has a test split."""
    return isinstance(evaluator, HasTest)


def measure(
    study: Study,
    trials: Sequence[Trial],
    executor: ExecutorKind,
    observe: Callable[[int], None] = lambda done: None,
) -> dict[int, Mapping[str, float]]:
    """Train each trial's network again, by the same recipe and seed, and measure it on the test split.

    Returns metrics by trial number; a trial whose training broke is missing. Raises `ValueError` for an
    evaluator without a test split.
    """
    if not isinstance(study.evaluator, HasTest):
        raise ValueError(f"the {study.spec.evaluator.kind} evaluator has no test split")
    budget = study.spec.budget
    task = Task(_Tester(study.evaluator), study.space, budget.max_trial_duration, memory=budget.max_trial_memory)
    work = {t.number: t.proposal for t in trials}
    found = outcomes(executor, task, work, budget.parallel_trial_count, observe)
    tested = {n: o.metrics for n, o in found.items() if isinstance(o, Measured)}
    return {n: {k: v for k, v in m.items() if k.startswith("test_")} for n, m in tested.items()}
