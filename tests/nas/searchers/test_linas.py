"""LINAS keeps the contract, repeats its golden run, beats random, and never waits for a slow worker."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from searcher_contract import SearcherContract
from test_searchers import GOLDEN, GOLDEN_TRIALS, PRICED, TOY, Toy, metrics, run, volume

from nas.job import JobSpec
from nas.objectives import Problem
from nas.pareto import hypervolume
from nas.searchers.inner import Ranked, distinct, evolve
from nas.searchers.linas import LinasConfig, greedy
from nas.searchers.random import RandomConfig
from nas.searchers.selection import crowding, ranks
from nas.trial import Broken, BrokenKind, Measured, Trial, TrialState
from search_spaces import Choice, load_space
from search_spaces.operators import sample

pytestmark = pytest.mark.law

SMALL = LinasConfig(initial=10, population=6, evaluations=3000, predictor="ridge")


class TestLinas(SearcherContract):
    config = LinasConfig(initial=4, population=3, evaluations=400, predictor="ridge")


def test_the_golden_run_is_repeated() -> None:
    trials = run(SMALL, GOLDEN_TRIALS, 7, ["min loss", "min cost"], ["cost <= 5"])
    assert [t.architecture.key for t in trials] == json.loads(GOLDEN.with_name("linas.json").read_text())


def test_one_objective_beats_random() -> None:
    def best(config: LinasConfig | RandomConfig) -> float:
        return float(np.mean([min(t.metrics["loss"] for t in run(config, 60, s, ["min loss"])) for s in range(4)]))

    assert best(SMALL) < 0.6 * best(RandomConfig())


def test_two_objectives_beat_random() -> None:
    def mean(config: LinasConfig | RandomConfig) -> float:
        return float(np.mean([volume(run(config, 60, s, ["min loss", "min cost"])) for s in range(4)]))

    assert mean(SMALL) > 1.04 * mean(RandomConfig())


def test_a_narrow_constraint_is_learnt() -> None:
    """About one architecture in a hundred is feasible."""
    runs = [run(SMALL, 60, seed, ["min loss"], ["cost <= 2.6"]) for seed in range(3)]
    assert np.mean([t.feasible for trials in runs for t in trials[30:]]) > 0.6


def test_a_constraint_with_a_formula_is_kept_from_the_first_trial() -> None:
    problem = Problem.parse(["min loss"], ["cost <= 3.6"])
    searcher = SMALL.build(PRICED, problem, 0)
    for number in range(30):
        (proposal,) = searcher.ask(1)
        found = metrics(proposal.architecture)
        assert found["cost"] <= 3.6
        searcher.tell([Trial(number, proposal).close(Measured(found), problem, number, 0.0)])


def test_it_learns_where_nothing_can_be_measured() -> None:
    problem = Problem.parse(["min loss"])
    config = SMALL.model_copy(update={"predictor": "gaussian_process"})
    searcher, broken = config.build(TOY, problem, 0), []
    for number in range(60):
        (proposal,) = searcher.ask(1)
        bad = proposal.architecture["n0"] in (3, 4) or proposal.architecture["w0"] == "p"
        broken.append(bad)
        outcome = Broken(BrokenKind.INFEASIBLE, "no") if bad else Measured(metrics(proposal.architecture))
        searcher.tell([Trial(number, proposal).close(outcome, problem, number, 0.0)])
    assert np.mean(broken[:10]) > 0.3
    assert np.mean(broken[30:]) < 0.3  # of all networks 0.6 are


def test_a_round_begins_without_the_trials_that_still_run() -> None:
    """The first trial never ends; new ones are planned all the same, and from the same trials in any order."""
    problem = Problem.parse(["min loss"])
    searcher = SMALL.build(TOY, problem, 0)
    trials: list[Trial] = []
    for number in range(40):
        (proposal,) = searcher.ask(1)
        trial = Trial(number, proposal)
        if number:
            trial = trial.close(Measured(metrics(proposal.architecture)), problem, number - 1, 0.0)
        trials.append(trial)
        searcher.tell([trial])
    assert trials[0].state is TrialState.RUNNING
    late, early = ([t.metrics["loss"] for t in part] for part in (trials[-15:], trials[1:10]))
    assert np.mean(late) < 0.7 * np.mean(early)
    fresh = SMALL.build(TOY, problem, 0)
    fresh.tell(trials[::-1])
    assert fresh.ask(3) == searcher.ask(3)


def test_more_is_asked_for_than_a_round_holds() -> None:
    trials = run(SMALL, 20, 0, ["min loss", "min cost"])
    searcher = SMALL.build(TOY, Problem.parse(["min loss", "min cost"]), 0)
    searcher.tell(trials)
    assert len({p.architecture.key for p in searcher.ask(600)}) == 600


def test_inner_evolution_finds_a_front_and_asks_for_no_more_than_allowed() -> None:
    asked = 0

    def judge(genes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nonlocal asked
        asked += len(genes)
        found = [metrics(a) for a in TOY.canonical_architectures(genes)]
        return np.array([[f["loss"]] for f in found]), np.array([max(0.0, f["cost"] - 4) for f in found])

    rng = np.random.default_rng(0)
    found = evolve(TOY, judge, sample(TOY, 50, rng), 50, 1500, rng, epsilon=0.0)
    assert asked <= 1500
    assert found.violations[0] == 0
    everything = judge(sample(TOY, 4000, rng))
    assert found.losses[0, 0] < everything[0][everything[1] == 0].min()


def looped_crowding(losses: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """The definition, rank by rank."""
    out = np.zeros(len(losses))
    for r in np.unique(rank):
        rows = np.flatnonzero(rank == r)
        for column in losses[rows].T:
            order = np.argsort(column, kind="stable")
            spread = column[order[-1]] - column[order[0]]
            out[rows[order[[0, -1]]]] = np.inf
            if spread > 0:
                out[rows[order[1:-1]]] += (column[order[2:]] - column[order[:-2]]) / spread
    return out


def test_distinct_rows_and_crowding_agree_with_what_they_replace() -> None:
    rng = np.random.default_rng(0)
    space = load_space("nas-bench-201")
    genes = sample(space, 3000, rng)
    _, first = np.unique(genes, axis=0, return_index=True)
    assert (distinct(genes) == np.sort(first)).all()
    losses = rng.integers(0, 9, size=(200, 3)).astype(float)
    rank = ranks(losses, np.maximum(0, rng.integers(-5, 3, size=200)).astype(float))
    assert np.allclose(crowding(losses, rank), looped_crowding(losses, rank))


def test_equal_losses_of_one_rank_are_ordered_by_crowding() -> None:
    losses = np.array([[0.0, 1.0], [0.5, 0.5], [0.45, 0.55], [1.0, 0.0], [2.0, 2.0]])
    found = Ranked.of(np.arange(5)[:, None], losses, np.zeros(5), 4)
    assert set(found.genes[:2, 0]) == {0, 3}
    assert 4 not in found.genes


@given(arrays(float, (3, 6, 4), elements=st.integers(0, 20).map(float)), st.integers(1, 6))
def test_a_greedy_set_adds_nearly_as_much_as_the_best_of_its_size(reach: np.ndarray, count: int) -> None:
    there = np.full(4, 5.0)

    def added(rows: np.ndarray | tuple[int, ...]) -> float:
        return float(np.maximum(reach[:, list(rows)].max(axis=1, initial=0.0) - there, 0.0).mean())

    rows = greedy(reach, there, count)
    assert len(set(rows)) == len(rows) <= count
    assert all(added(rows[:i]) < added(rows[: i + 1]) for i in range(len(rows)))
    if len(rows) < count:
        assert added(rows) == pytest.approx(added(range(6)))
    assert added(rows) >= 0.63 * max(added(some) for some in combinations(range(6), count)) - 1e-9


class Long(Toy):
    """Thirty numbers; the loss falls with each of them, ever less, and the cost rises: the front is long."""

    name = "long"
    choices = tuple(Choice(f"n{i}", (0, 1, 2, 3)) for i in range(30))

    def costs(self, genes: np.ndarray, metrics: object = None) -> dict[str, np.ndarray]:
        return {"cost": genes.mean(axis=1) / 3}


def test_a_round_is_not_spent_at_the_ends_of_a_long_front() -> None:
    """Drawn networks lie close together, and most volume near them; least crowded are the ends, far away."""
    space, problem, least = Long(), Problem.parse(["min loss", "min cost"]), np.array([0.55, 0.65])
    grown = []
    for seed in range(3):
        searcher, found = SMALL.build(space, problem, seed), []
        for number in range(16):
            (proposal,) = searcher.ask(1)
            x = np.array(proposal.architecture.genes) / 3
            measured = Measured({"loss": float(np.exp(-3 * x).mean()), "cost": float(x.mean())})
            searcher.tell([Trial(number, proposal).close(measured, problem, number, 0.0)])
            found.append(problem.losses(measured.metrics))
        grown.append(hypervolume(np.array(found), least) / hypervolume(np.array(found[:10]), least))
    assert np.mean(grown) > 1.5  # in order of crowding 1.2


def test_a_document_reads_back() -> None:
    spec = JobSpec.parse(
        {
            "space": "digits-tiny",
            "objectives": ["max accuracy"],
            "searcher": {"kind": "linas", "predictor": "ridge"},
        }
    )
    assert JobSpec.parse(spec.dump()) == spec


if __name__ == "__main__":
    golden = run(SMALL, GOLDEN_TRIALS, 7, ["min loss", "min cost"], ["cost <= 5"])
    GOLDEN.with_name("linas.json").write_text(json.dumps([t.architecture.key for t in golden], indent=1) + "\n")
