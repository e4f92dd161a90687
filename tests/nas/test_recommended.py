"""What is recommended where measurements are noisy."""

from __future__ import annotations

import numpy as np
import pytest

import nas
from nas.objectives import Problem
from nas.recommended import recommended
from nas.trial import Broken, BrokenKind, Measured, Proposal, Trial
from search_spaces import Architecture, Choice
from search_spaces.space import Space


class Steps(Space):
    name = "steps"
    choices = tuple(Choice(f"n{i}", tuple(range(6))) for i in range(5))

    def build(self, arch: Architecture) -> None:  # type: ignore[override]
        raise AssertionError


STEPS = Steps()
ONE = Problem.parse(["max score"])


def true_score(architecture: Architecture) -> float:
    x = np.array(architecture.genes) / 5
    return float(1 - ((x - 0.6) ** 2).mean() + 0.1 * x[0] * x[1])


def trials(count: int, noise: float, seed: int, problem: Problem = ONE) -> list[Trial]:
    rng = np.random.default_rng(seed)
    found = {a.key: a for a in STEPS.sample(4 * count, seed)}
    out = []
    for number, architecture in enumerate(list(found.values())[:count]):
        score = true_score(architecture) + noise * rng.normal()
        metrics = Measured({"score": float(score), "cost": float(sum(architecture.genes))})
        out.append(Trial(number, Proposal(architecture)).close(metrics, problem, number, 0.0))
    return out


def test_it_is_better_than_the_best_observed() -> None:
    smoothed, observed = [], []
    for seed in range(8):
        past = trials(60, 0.1, seed)
        smoothed.append(true_score(recommended(STEPS, ONE, past).trials[0].architecture))
        observed.append(true_score(max(past, key=lambda t: t.metrics["score"]).architecture))
    assert np.mean(smoothed) > np.mean(observed) + 0.02


def test_the_order_of_telling_does_not_matter_and_broken_trials_are_left_out() -> None:
    past = trials(20, 0.05, 0)
    broken = Trial(20, past[0].proposal).close(Broken(BrokenKind.FAILED, "no"), ONE, 20, 0.0)
    one, other = recommended(STEPS, ONE, past), recommended(STEPS, ONE, [broken, *past[::-1]])
    assert [t.number for t in one.trials] == [t.number for t in other.trials]
    np.testing.assert_array_equal(one.expected, other.expected)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_few_trials_are_enough(count: int) -> None:
    assert recommended(STEPS, ONE, trials(count, 0.1, 0)).trials


def test_nothing_is_recommended_of_nothing() -> None:
    found = recommended(STEPS, ONE, [])
    assert found.trials == ()
    assert found.expected.shape == (0, 1)


def test_constraints_hold_where_any_network_keeps_them() -> None:
    problem = Problem.parse(["max score", "min cost"], ["cost <= 8"])
    found = recommended(STEPS, problem, trials(60, 0.05, 1, problem))
    assert len(found.trials) > 1
    assert (found.expected[:, 1] <= 8).all()
    assert (np.diff(found.expected[:, 0]) <= 0).all()  # the best first
    assert (np.diff(found.expected[:, 1]) <= 0).all()  # and the others cheaper
    impossible = Problem.parse(["max score"], ["cost <= -1"])
    past = trials(30, 0.05, 1, impossible)
    nearest = recommended(STEPS, impossible, past).trials
    assert nearest[0].metrics["cost"] <= np.quantile([t.metrics["cost"] for t in past], 0.2)


def test_a_result_shows_it_beside_the_front() -> None:
    result = nas.search(
        space=STEPS,
        objectives=["max score"],
        evaluator=lambda architecture: {"score": true_score(architecture)},
        max_trial_count=20,
        executor="inline",
    )
    row = result.recommended.iloc[0]
    assert row["state"] == "SUCCEEDED"
    assert abs(row["expected_score"] - row["score"]) < 0.1
