"""The pieces of the predictor-guided searcher against closed forms and second implementations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas.objectives import Constraint, Objective, Problem
from nas.pareto import hypervolume
from nas.searchers.acquisition import (
    Frame,
    Warp,
    best_first,
    directions,
    expected_improvement,
    hypervolume_improvement,
    losses,
    standard_normal,
    violations,
)
from nas.searchers.elite import KEPT, Elite
from nas.searchers.predictor_guided import PredictorGuidedConfig
from nas.searchers.surrogate import EVERY, LEARNING_GROWTH, MAX_TRAINING, Surrogate, checkpoint
from nas.trial import Measured, Proposal, Trial
from search_spaces import Choice
from search_spaces.space import Space

NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda x: round(x, 6))
TWO = Problem([Objective.model_validate("max a"), Objective.model_validate("min b")])


class Grid(Space):
    name = "grid"
    choices = tuple(Choice(f"n{i}", tuple(range(8))) for i in range(6))

    def build(self, arch: object) -> None:  # type: ignore[override]
        raise AssertionError


GRID = Grid()


def trials(count: int, seed: int = 0) -> list[Trial]:
    out = []
    for number, architecture in enumerate(GRID.sample(count, seed)):
        x = np.array(architecture.genes) / 7
        metrics = {"a": float(x.sum() - (x[0] - x[1]) ** 2), "b": float((x**2).sum())}
        out.append(Trial(number, Proposal(architecture)).close(Measured(metrics), TWO, number, 0.0))
    return out


@given(arrays(np.float64, st.integers(1, 20), elements=NUMBERS), arrays(np.float64, 5, elements=NUMBERS))
def test_a_warp_is_monotone_and_can_be_undone(fitted: np.ndarray, values: np.ndarray) -> None:
    warp = Warp.of(fitted)
    values = np.clip(values, fitted.min() - 2 * warp.scale, fitted.max() + 2 * warp.scale)
    warped = warp.forward(np.sort(values))
    assert (np.diff(warped) >= 0).all()
    np.testing.assert_allclose(warp.back(warped), np.sort(values), rtol=1e-6, atol=1e-6 * warp.scale)


def test_a_collapsed_network_does_not_drown_the_others() -> None:
    accuracy = np.array([0.10, 0.88, 0.90, 0.91, 0.92])
    warped = Warp.of(-accuracy).forward(-accuracy)
    assert warped.max() - np.median(warped) < 5 * (np.median(warped) - warped.min())


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_improvement_agrees_with_exact_hypervolume(objectives: int) -> None:
    """Up to one constant for all points, the mean over many directions is the hypervolume that a point adds."""
    rng = np.random.default_rng(objectives)
    front = rng.uniform(0.2, 0.9, size=(4, objectives))
    points = rng.uniform(0.0, 1.1, size=(12, objectives))
    one = np.ones(objectives)
    exact = np.array(
        [hypervolume(np.concatenate([front, p[None]]), one) - hypervolume(front, one) for p in points]
    )
    rays = directions(20_000, objectives, rng)
    guess = hypervolume_improvement(points[None], front, rays)[0]
    scale = hypervolume(np.zeros((1, objectives)), one) / hypervolume_improvement(
        np.zeros((1, 1, objectives)), np.zeros((0, objectives)), rays
    )
    np.testing.assert_allclose(guess * scale[0], exact, atol=0.02)
    assert (guess[exact == 0] == 0).all()


def test_improvement_on_nothing_and_with_eight_objectives_is_finite() -> None:
    rng = np.random.default_rng(0)
    samples = rng.random((4, 5, 8))
    gain = hypervolume_improvement(samples, np.zeros((0, 8)), directions(16, 8, rng))
    assert gain.shape == (4, 5)
    assert np.isfinite(gain).all()
    assert (gain > 0).all()


def test_expected_improvement_of_a_violation() -> None:
    samples = np.array([[0.0, 2.0, 0.5], [1.0, 3.0, 0.5]])
    np.testing.assert_allclose(expected_improvement(samples, 1.0), [0.5, 0.0, 0.5])


def test_a_frame_survives_a_single_point() -> None:
    point = np.array([[1.0, 2.0]])
    frame = Frame.of(point, point)
    np.testing.assert_allclose(frame.scale(point), 0.0)
    assert (frame.reference > frame.ideal).all()


def test_a_frame_holds_the_far_end_of_a_front_but_is_not_stretched_by_an_outlier() -> None:
    """Typical networks lose up to 1 in either objective; fronts reach 1.5 times and 10 times as far."""
    typical = np.linspace(0.1, 1.0, 50)[:, None].repeat(2, axis=1)
    far = np.array([[0.0, 1.5], [1.0, 0.0]])
    frame = Frame.of(far, typical)
    assert (frame.scale(far) < 1).all()
    stretched = Frame.of(np.array([[0.0, 10.0], [1.0, 0.0]]), typical)
    assert stretched.reference[1] < 2.5
    usual = Frame.of(np.array([[0.0, 0.2], [0.2, 0.0]]), typical)
    assert (usual.scale(np.quantile(typical, 0.95, axis=0)) < 1).all()


def test_best_first_ignores_rounding() -> None:
    keys = np.array([1.0, 1.0 - 1e-13, 0.5]), np.array([0.0, 1.0, 0.0])
    assert best_first(*keys).tolist() == [2, 0, 1]
    assert best_first(np.zeros(3)).tolist() == [0, 1, 2]


def test_normal_samples_are_stratified() -> None:
    drawn = standard_normal(100, 2, np.random.default_rng(0))
    assert np.abs(drawn.mean(axis=0)).max() < 0.05
    assert np.abs(drawn.std(axis=0) - 1).max() < 0.1


@given(
    st.sampled_from(["max", "min"]),
    st.sampled_from(["<=", ">="]),
    NUMBERS,
    st.dictionaries(st.sampled_from(["a", "b"]), NUMBERS, min_size=2),
)
def test_arrays_of_metrics_mean_what_the_problem_says(
    goal: str, relation: str, bound: float, metrics: dict[str, float]
) -> None:
    problem = Problem(
        [Objective.model_validate(f"{goal} a")], [Constraint.model_validate(f"b {relation} {bound!r}")]
    )
    values = np.array([metrics[m] for m in problem.metrics])
    assert losses(problem, values).tolist() == list(problem.losses(metrics))
    assert violations(problem, values) == pytest.approx(problem.violation(metrics))


@given(st.integers(0, 5000), st.floats(1.001, 2.0))
def test_a_checkpoint_is_reached_and_stays_until_the_next(count: int, growth: float) -> None:
    last = checkpoint(count, growth)
    assert last <= count
    assert checkpoint(last, growth) == last
    assert count - last <= max(1, count * (growth - 1) + 1)
    if count <= EVERY:
        assert last == count


@pytest.mark.parametrize("count", [EVERY + 1, 137, MAX_TRAINING + 150])
def test_what_is_learnt_does_not_depend_on_when_it_was_asked(count: int) -> None:
    past = trials(count)
    config = PredictorGuidedConfig()
    slow, fast = config.build(GRID, TWO, 3), config.build(GRID, TWO, 3)
    for start in range(0, count, 23):
        slow.tell(past[start : start + 23])
        slow.ask(1)
    fast.tell(reversed(past))
    assert slow.ask(3) == fast.ask(3)


def test_a_surrogate_knows_what_it_has_seen() -> None:
    past = trials(80)
    surrogate = Surrogate(GRID, TWO, past)
    values = surrogate.sample(GRID.genes([t.architecture for t in past]), np.zeros((1, 2)))[0]
    seen = np.array([[t.metrics["a"], t.metrics["b"]] for t in past])
    assert np.abs(values - seen).mean() < 0.1 * seen.std()
    assert checkpoint(80, LEARNING_GROWTH) == 80


def test_an_elite_forgets_only_what_is_not_on_the_front() -> None:
    past = trials(2 * KEPT + 40)
    elite = Elite(GRID, TWO)
    for trial in past:
        elite.add(trial)
    everything = np.array([TWO.losses(t.metrics) for t in past])
    reference = everything.max(axis=0) + 1
    assert len(elite) < 2 * KEPT
    assert hypervolume(elite.front, reference) == pytest.approx(hypervolume(everything, reference))
    assert elite.least_violation == 0
