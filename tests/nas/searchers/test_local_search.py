"""Local search does what it is called: it walks around the best, and begins elsewhere when nothing is left."""

from __future__ import annotations

import numpy as np
import pytest

from nas.objectives import Problem
from nas.searchers.local_search import MAX_FRONT, LocalSearchConfig
from nas.trial import Broken, BrokenKind, Measured, Outcome, Trial
from search_spaces import Architecture, Choice
from search_spaces.space import Space

ONE = Problem.parse(["min loss"])
TWO = Problem.parse(["min loss", "min cost"])


class Grid(Space):
    name = "grid"
    choices = tuple(Choice(f"n{i}", tuple(range(6))) for i in range(4))

    def build(self, arch: Architecture) -> None:  # type: ignore[override]
        raise AssertionError


GRID = Grid()


def bowl(architecture: Architecture) -> dict[str, float]:
    x = np.array(architecture.genes)
    return {"loss": float(((x - 3) ** 2).sum()), "cost": float(x.sum())}


def search(problem: Problem, count: int, initial: int = 4, seed: int = 0) -> list[Trial]:
    searcher = LocalSearchConfig(initial=initial).build(GRID, problem, seed)
    trials: list[Trial] = []
    for number in range(count):
        (proposal,) = searcher.ask(1)
        outcome = Measured(bowl(proposal.architecture))
        trials.append(Trial(number, proposal).close(outcome, problem, number, 0.0))
        searcher.tell(trials[-1:])
    return trials


def distance(a: Architecture, b: Architecture) -> int:
    return int((np.array(a.genes) != np.array(b.genes)).sum())


@pytest.mark.parametrize("seed", range(3))
def test_every_proposal_is_a_neighbour_of_the_best_until_the_top_is_walked_around(seed: int) -> None:
    trials = search(ONE, 200, seed=seed)
    losses = np.array([t.metrics["loss"] for t in trials])
    top = int(losses.argmin())
    assert losses[top] == 0
    around = [distance(t.architecture, trials[top].architecture) == 1 for t in trials]
    assert sum(around) == 20
    for i in range(4, int(np.flatnonzero(around)[-1])):
        leaders = np.flatnonzero(losses[:i] == losses[:i].min())
        assert 1 in {distance(trials[i].architecture, trials[k].architecture) for k in leaders}


def test_a_climb_that_is_over_is_followed_by_one_elsewhere() -> None:
    trials = search(ONE, 120)
    top = next(i for i, t in enumerate(trials) if t.metrics["loss"] == 0)
    later = [distance(t.architecture, trials[top].architecture) for t in trials[top:]]
    assert sum(d == 1 for d in later) <= 20
    assert later.index(3) > 1
    assert {3, 4} <= set(later)
    fresh = [t.metrics["loss"] for t in trials[-40:]]
    assert min(fresh) < np.median(fresh)  # it climbs again


def test_all_of_a_front_are_walked_around() -> None:
    """The front of the bowl against the sum is known; random draws would find a fraction of it."""
    trials = search(TWO, 400)
    everything = np.stack(np.unravel_index(np.arange(6**4), (6,) * 4), axis=1)
    losses, costs = ((everything - 3) ** 2).sum(axis=1), everything.sum(axis=1)
    ideal = {c: losses[costs == c].min() for c in range(13)}
    found = {
        c: min((t.metrics["loss"] for t in trials if t.metrics["cost"] == c), default=np.inf) for c in range(13)
    }
    assert sum(found[c] == ideal[c] for c in range(13)) >= 12


def test_workers_are_kept_busy_while_the_last_neighbours_are_measured() -> None:
    searcher = LocalSearchConfig(initial=1).build(GRID, ONE, 0)
    (first,) = searcher.ask(1)
    searcher.tell([Trial(0, first).close(Measured({"loss": 0.0}), ONE, 0, 0.0)])
    batch = searcher.ask(24)
    near = [distance(p.architecture, first.architecture) == 1 for p in batch]
    assert near[:20] == [True] * 20
    assert near[20:] == [False] * 4 or sum(near) == 20


@pytest.mark.parametrize("outcome", [Broken(BrokenKind.INFEASIBLE, "no"), Measured({"loss": 9.0})])
def test_a_neighbour_without_metrics_is_walked_past(outcome: Outcome) -> None:
    searcher = LocalSearchConfig(initial=1).build(GRID, ONE, 0)
    (first,) = searcher.ask(1)
    searcher.tell([Trial(0, first).close(Measured({"loss": 0.0}), ONE, 0, 0.0)])
    for number in range(1, 21):
        (proposal,) = searcher.ask(1)
        assert distance(proposal.architecture, first.architecture) == 1
        searcher.tell([Trial(number, proposal).close(outcome, ONE, number, 0.0)])
    later = [p.architecture for p in searcher.ask(8)]
    assert max(distance(a, first.architecture) for a in later) > 1


def test_a_flat_landscape_does_not_grow_without_bound() -> None:
    searcher = LocalSearchConfig().build(GRID, ONE, 0)
    for number in range(MAX_FRONT + 60):
        (proposal,) = searcher.ask(1)
        searcher.tell([Trial(number, proposal).close(Measured({"loss": 1.0}), ONE, number, 0.0)])
    assert len(searcher._front) <= MAX_FRONT


def test_less_violation_comes_before_less_loss() -> None:
    problem = Problem.parse(["min loss"], ["cost <= 2"])
    trials = search(problem, 80)
    feasible = [t.metrics["loss"] for t in trials if t.feasible]
    assert min(feasible) == 26  # two of four numbers at 1: 4 + 4 + 9 + 9
