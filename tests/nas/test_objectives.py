import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.objectives import Constraint, Goal, Objective, Problem
from nas.pareto import ParetoFront, hypervolume, non_dominated, pareto_rank
from nas.trial import Measured, Proposal, Trial
from search_spaces import SpecError, load_space

pytestmark = pytest.mark.law

ARCH = load_space("nas-bench-201").sample(1, 0)[0]
METRIC = st.floats(-1e6, 1e6)
POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40)


def measured(problem: Problem, rows: list[tuple[float, ...]]) -> list[Trial]:
    names = [o.metric for o in problem.objectives]
    return [
        Trial(i, Proposal(ARCH)).close(Measured(dict(zip(names, row, strict=False))), problem, i, 0.0)
        for i, row in enumerate(rows)
    ]


@given(METRIC, METRIC)
def test_direction_is_turned_once(a: float, b: float) -> None:
    up, down = Objective.model_validate("max accuracy"), Objective.model_validate("min accuracy")
    assert (a > b) == (up.loss(a) < up.loss(b))
    assert (a > b) == (down.loss(a) > down.loss(b))
    assert up.value(up.loss(a)) == a == down.value(down.loss(a))


@pytest.mark.parametrize("text", ["max accuracy", "maximize accuracy", " MAX  accuracy "])
def test_short_form_of_an_objective(text: str) -> None:
    assert Objective.model_validate(text) == Objective(metric="accuracy", goal=Goal.MAXIMIZE)


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["<=", ">="]))
def test_a_constraint_reads_back_what_it_writes(bound: float, relation: str) -> None:
    constraint = Constraint(metric="latency_ms", relation=relation, bound=bound)  # type: ignore[arg-type]
    assert Constraint.model_validate(str(constraint)) == constraint


@given(st.text(alphabet="0123456789.eE_+-", min_size=1, max_size=8))
def test_the_bound_of_a_constraint_is_whatever_is_a_finite_number(text: str) -> None:
    try:
        expected = float(text)
    except ValueError:
        expected = math.inf
    if math.isfinite(expected):
        assert Constraint.parse(f"params <= {text}").bound == expected
    else:
        with pytest.raises(SpecError):
            Constraint.parse(f"params <= {text}")


def test_the_name_of_a_metric_is_ascii_whatever_its_case() -> None:
    with pytest.raises(SpecError):
        Objective.parse("max lo\u017fs")  # the long s, which is an s where case does not count


@given(POINTS)
def test_a_front_is_mutually_non_dominated_and_dominates_the_rest(points: list[tuple[int, int]]) -> None:
    problem = Problem.parse(["max accuracy", "min latency_ms"])
    front = ParetoFront.of(measured(problem, points), problem)
    kept = {(t.metrics["accuracy"], t.metrics["latency_ms"]) for t in front.trials}
    for a, b in points:
        beaten = any((c >= a and d <= b) and (c, d) != (a, b) for c, d in points)
        assert ((a, b) in kept) == (not beaten)
    assert len(kept) == len(front.trials)


def test_feasibility_comes_before_dominance() -> None:
    problem = Problem.parse(["max accuracy", "min latency_ms"], ["latency_ms >= 2"])
    front = ParetoFront.of(measured(problem, [(0.99, 1.0), (0.5, 3.0)]), problem)
    assert [t.number for t in front.trials] == [1]


@given(POINTS, st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_hypervolume_never_falls_when_a_point_is_added(
    points: list[tuple[int, int]], extra: tuple[int, int]
) -> None:
    reference = np.array([10.0, 10.0])
    before = hypervolume(np.array(points, dtype=float), reference)
    after = hypervolume(np.array([*points, extra], dtype=float), reference)
    assert after >= before


@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_hypervolume_of_a_staircase_in_closed_form(n: int) -> None:
    steps = np.array([(i, n - 1 - i) for i in range(n)], dtype=float)
    assert hypervolume(steps, np.array([n, n], dtype=float)) == n * (n + 1) / 2


@given(POINTS)
def test_ranks_peel_fronts_off(points: list[tuple[int, int]]) -> None:
    left = np.array(points, dtype=float)
    rank = pareto_rank(left)
    assert set(map(tuple, left[non_dominated(left)])) == set(map(tuple, left[rank == 0]))


def test_reference_must_have_one_value_an_objective() -> None:
    problem = Problem.parse(["max accuracy", "min latency_ms"])
    front = ParetoFront.of(measured(problem, [(0.5, 2.0)]), problem)
    with pytest.raises(ValueError, match="one an objective"):
        front.hypervolume([0.0])
