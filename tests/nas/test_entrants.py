from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.contracts import Measurements
from nas.entrants import MOST_POINTS, Entrants, JointFront, after, best, joined
from nas.objectives import Constraint, Objective, Problem
from nas.pareto import ParetoFront, estimated_hypervolume, hypervolume
from nas.trial import Proposal, Trial, TrialState
from search_spaces import Architecture

METRICS = ("a", "b", "c")
NET = Proposal(Architecture((), "net", ()))

values = st.one_of(
    st.integers(-2, 2).map(float), st.floats(-1e9, 1e9), st.sampled_from([0.0, -0.0, 1e300, -1e300])
)
metrics = st.dictionaries(st.sampled_from(METRICS), values, min_size=1)
constraints = st.builds(
    lambda metric, relation, bound: Constraint(metric=metric, relation=relation, bound=bound),
    st.sampled_from(METRICS),
    st.sampled_from(["<=", ">="]),
    st.sampled_from([-1.0, 0.0, 0.5, 1.0, 1e300]),
)
problems = st.builds(
    lambda names, goals, bounds: Problem(
        tuple(Objective.parse(f"{goal} {name}") for name, goal in zip(names, goals, strict=False)), tuple(bounds)
    ),
    st.lists(st.sampled_from(METRICS), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from(["min", "max"]), min_size=3, max_size=3),
    st.lists(constraints, max_size=2),
)


@st.composite
def finished(draw: st.DrawFn) -> list[Trial]:
    """Trials by number, which finished in any order; some are broken, some lack metrics."""
    measured = draw(st.lists(st.none() | metrics, max_size=25))
    orders = draw(st.permutations(range(len(measured))))
    return [
        Trial(n, NET, TrialState.FAILED, order=order, reason="broken")
        if found is None
        else Trial(n, NET, TrialState.SUCCEEDED, metrics=found, feasible=draw(st.booleans()), order=order)
        for n, (found, order) in enumerate(zip(measured, orders, strict=True))
    ]


def measurements(trials: Sequence[Trial], since: int = -1, until: int = 10**9) -> Measurements:
    """What a store answers: the measured ones by order."""
    found = sorted((t for t in trials if t.measured and since < t.order <= until), key=lambda t: t.order)
    names = tuple(dict.fromkeys(m for t in found for m in t.metrics))
    return Measurements(
        np.array([t.number for t in found], dtype=np.int64),
        np.array([t.order for t in found], dtype=np.int64),
        np.array([t.feasible for t in found], dtype=bool),
        names,
        np.array([[t.metrics.get(m, np.nan) for m in names] for t in found]).reshape(len(found), len(names)),
    )


def as_objects(trials: Sequence[Trial], problem: Problem) -> ParetoFront:
    """The front by way of trials: those that have all metrics, feasible as the problem says."""
    complete = [t for t in trials if t.measured and set(problem.metrics) <= set(t.metrics)]
    return ParetoFront.of([replace(t, feasible=problem.violation(t.metrics) == 0) for t in complete], problem)


def as_arrays(jobs: Sequence[Sequence[Trial]], problem: Problem) -> JointFront:
    parts = [(Entrants.none(problem).further(measurements(trials)), len(trials)) for trials in jobs]
    return JointFront.of(problem, parts)


@given(finished(), problems)
def test_arrays_and_trials_give_the_same_front(trials, problem):
    expected, found = as_objects(trials, problem), as_arrays([trials], problem)
    assert found.members == tuple((0, t.number) for t in expected.trials)
    assert found.reference == expected.reference
    assert found.hypervolume() == pytest.approx(expected.hypervolume(), rel=1e-12, nan_ok=True)


@given(finished(), problems, st.lists(st.integers(-1, 25), max_size=4))
def test_a_front_that_grew_in_steps_is_the_front_of_all(trials, problem, steps):
    entrants, kept = Entrants.none(problem), measurements([])
    for since, until in pairwise([-1, *sorted(steps), 25]):
        further = measurements(trials, since, until)
        entrants, kept = entrants.further(further), joined(kept, further)
        assert after(kept, since).orders.tolist() == further.orders.tolist()
    whole = Entrants.none(problem).further(measurements(trials))
    assert entrants.numbers.tolist() == whole.numbers.tolist()
    assert entrants.losses.tolist() == whole.losses.tolist()
    assert JointFront.of(problem, [(entrants, 25)]).reference == as_arrays([trials], problem).reference
    at_once = Entrants.none(problem).further(kept)
    assert at_once.numbers.tolist() == whole.numbers.tolist()


@given(st.lists(finished(), min_size=1, max_size=3), problems)
def test_a_joint_front_is_that_of_all_trials_one_job_after_the_other(jobs, problem):
    before = [sum(map(len, jobs[:i])) for i in range(len(jobs))]
    one_after_the_other = [
        replace(t, number=t.number + b, order=t.order + b)
        for b, trials in zip(before, jobs, strict=True)
        for t in trials
    ]
    expected, found = as_objects(one_after_the_other, problem), as_arrays(jobs, problem)
    assert [before[job] + number for job, number in found.members] == [t.number for t in expected.trials]
    assert found.reference == expected.reference
    assert found.history() == as_arrays([one_after_the_other], problem).history()


small = st.builds(lambda a, b: {"a": float(a), "b": float(b)}, st.integers(-4, 4), st.integers(-4, 4))


@given(st.lists(small, max_size=25), problems.filter(lambda p: "c" not in p.metrics))
def test_the_history_says_when_the_hypervolume_grew_and_to_what(points, problem):
    trials = [Trial(i, NET, TrialState.SUCCEEDED, metrics=m, feasible=True, order=i) for i, m in enumerate(points)]
    found = as_arrays([trials], problem)
    history = dict(found.history())
    reference = found.reference
    volume = 0.0
    for count in range(1, len(trials) + 1):
        now = as_objects(trials[:count], problem).hypervolume(reference) if reference else 0.0
        assert (count in history) == (now > volume)
        assert history.get(count, now) == pytest.approx(now)
        volume = now
    assert volume == pytest.approx(found.hypervolume())


def test_a_long_history_keeps_its_ends_and_no_more_points_than_allowed():
    problem = Problem.parse(["min a"])
    trials = [
        Trial(i, NET, TrialState.SUCCEEDED, metrics={"a": -float(i)}, feasible=True, order=i) for i in range(1000)
    ]
    history = as_arrays([trials], problem).history([1.0])
    assert len(history) == MOST_POINTS
    assert (history[0], history[-1]) == ((1, 1.0), (1000, 1000.0))
    assert all(before < now for before, now in pairwise(history))


@given(finished(), st.sampled_from(METRICS), st.sampled_from(["min", "max"]), st.lists(constraints, max_size=2))
def test_the_best_trial_is_the_best_of_those_that_meet_the_bounds(trials, metric, goal, bounds):
    wanted = Objective.parse(f"{goal} {metric}")
    fitting = [
        (wanted.loss(t.metrics[metric]), t.number)
        for t in trials
        if t.measured
        and {metric, *(c.metric for c in bounds)} <= set(t.metrics)
        and all(c.excess(t.metrics[c.metric]) == 0 for c in bounds)
    ]
    assert best(measurements(trials), wanted, bounds) == min(fitting, default=None)


def all_best(count: int, objectives: int) -> JointFront:
    """A front of so many points, on the positive part of a sphere."""
    rng = np.random.default_rng(0)
    points = np.abs(rng.normal(size=(count, objectives)))
    losses = 1 - points / np.linalg.norm(points, axis=1, keepdims=True)
    problem = Problem(tuple(Objective.parse(f"min m{i}") for i in range(objectives)), ())
    rows = np.arange(count)
    return JointFront(problem, np.zeros(count, dtype=np.int64), rows, rows + 1, losses, losses.max(axis=0))


@pytest.mark.parametrize(("objectives", "limit"), [(4, 11_180), (5, 3162)])
def test_fronts_are_measured_exactly_up_to_a_size(objectives, limit):
    assert all_best(limit, objectives).exact
    assert not all_best(limit + 1, objectives).exact
    assert all_best(limit + 1, 3).exact


@pytest.mark.parametrize("objectives", [4, 5])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e9])
def test_an_estimate_is_near_the_truth_whatever_the_units(objectives, scale):
    front = all_best(2000, objectives)
    losses = front.losses * np.array([scale, *[1.0] * (objectives - 1)])
    reference = losses.max(axis=0)
    found = estimated_hypervolume(losses, reference, losses.min(axis=0))
    assert found == pytest.approx(hypervolume(losses, reference), rel=5e-3)


def test_estimates_never_shrink_and_end_with_that_of_the_front(monkeypatch):
    monkeypatch.setattr("nas.entrants.EXACT_SECONDS", 1e-4)
    front = all_best(300, 5)
    assert not front.exact
    history = front.history()
    assert len(history) > 50
    assert history[-1] == (300, front.hypervolume())
    assert all(before < now for (_, before), (_, now) in pairwise(history))
    assert front.hypervolume([-1.0] * 5) == 0.0
    assert front.history([-1.0] * 5) == []


def test_an_exact_history_leaves_out_fronts_that_were_too_large_to_measure(monkeypatch):
    crowd = all_best(300, 5)
    best_of_all = replace(
        crowd,
        jobs=np.zeros(301, dtype=np.int64),
        numbers=np.arange(301),
        finished=np.arange(301) + 1,
        losses=np.vstack([crowd.losses, np.full(5, -1.0)]),
    )
    whole = dict(best_of_all.history())
    monkeypatch.setattr("nas.entrants.EXACT_SECONDS", 5e-8 * 100**2)
    assert best_of_all.exact
    history = best_of_all.history()
    assert history[-1] == (301, best_of_all.hypervolume())
    assert max(count for count, _ in history[:-1]) <= 105, "five points touch the reference"
    assert all(whole.get(count, volume) == volume for count, volume in history)


def test_a_history_that_takes_long_has_fewer_points_and_keeps_its_ends():
    front = all_best(3000, 5)
    assert front.exact
    points = front._most_points(3000)
    assert 2 <= points < MOST_POINTS
    assert front._most_points(10**7) >= 2
