import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.objectives import Problem
from nas.trial import MAX_ATTEMPTS, MAX_LOSSES, Broken, BrokenKind, Measured, Proposal, Trial, TrialState
from search_spaces import load_space

pytestmark = pytest.mark.law

SPACE = load_space("nas-bench-201")
PROBLEM = Problem.parse(["max accuracy"], ["latency_ms <= 5"])


def running(attempt: int = 1) -> Trial:
    return Trial(0, Proposal(SPACE.sample(1, 0)[0]), attempt=attempt)


@given(st.floats())
def test_only_finite_metrics_can_be_constructed(value: float) -> None:
    if math.isfinite(value):
        assert Measured({"accuracy": value}).metrics["accuracy"] == value
    else:
        with pytest.raises(ValueError, match="accuracy is"):
            Measured({"accuracy": value})


def test_a_violated_constraint_is_a_success_that_is_not_feasible() -> None:
    closed = running().close(Measured({"accuracy": 0.9, "latency_ms": 6}), PROBLEM, order=0, at=1.0)
    assert (closed.state, closed.feasible, closed.order) == (TrialState.SUCCEEDED, False, 0)


def test_a_missing_metric_is_told_by_name() -> None:
    closed = running().close(Measured({"accuracy": 0.9}), PROBLEM, order=0, at=1.0)
    assert closed.state is TrialState.FAILED
    assert closed.reason == "the evaluator gave no latency_ms; it gave accuracy"


def test_a_lost_worker_sends_the_trial_back_until_it_has_lost_too_many() -> None:
    trial = running()
    for attempt in range(2, MAX_LOSSES + 1):
        trial = trial.close(Broken(BrokenKind.LOST, "the worker died"), PROBLEM, order=0, at=1.0)
        assert (trial.state, trial.attempt, trial.order) == (TrialState.PENDING, attempt, None)
        trial = trial.start()
    trial = trial.close(Broken(BrokenKind.LOST, "the worker died"), PROBLEM, order=0, at=1.0)
    assert trial.state is TrialState.FAILED
    assert trial.reason == f"the worker died ({MAX_LOSSES} attempts)"


def test_runners_that_die_are_not_held_against_the_trial_as_workers_are() -> None:
    trial = running()
    for attempt in range(2, MAX_ATTEMPTS + 1):
        trial = trial.orphaned(0, 1.0)
        assert (trial.state, trial.attempt, trial.losses, trial.order) == (TrialState.PENDING, attempt, 0, None)
        trial = trial.start()
    assert trial.close(Broken(BrokenKind.INFEASIBLE, "no"), PROBLEM, 0, 1.0).state is TrialState.INFEASIBLE
    ended = trial.orphaned(0, 1.0)
    assert (ended.state, ended.order) == (TrialState.FAILED, 0)
    assert ended.reason == f"the runner died while it ran ({MAX_ATTEMPTS} attempts)"


def test_a_finished_trial_cannot_be_closed_again() -> None:
    closed = running().close(Broken(BrokenKind.INFEASIBLE, "no"), PROBLEM, order=0, at=1.0)
    with pytest.raises(ValueError, match="already INFEASIBLE"):
        closed.close(Measured({"accuracy": 1.0, "latency_ms": 1.0}), PROBLEM, order=1, at=2.0)


def test_states_that_contradict_their_facts_cannot_be_constructed() -> None:
    proposal = Proposal(SPACE.sample(1, 0)[0])
    with pytest.raises(ValueError, match="without metrics"):
        Trial(0, proposal, TrialState.SUCCEEDED, order=0)
    with pytest.raises(ValueError, match="order"):
        Trial(0, proposal, TrialState.RUNNING, order=3)
