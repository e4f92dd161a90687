"""That benchmarks of searches score what they say, on the tables where these are at hand."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import pytest

from benchmarks.ask_tell import run as ask_tell
from benchmarks.search_peers import optuna_run, pymoo_run
from benchmarks.search_problems import CASES, case
from benchmarks.search_scores import Best, Share, tuples
from benchmarks.searchers import Row, ours_run, overall, report
from benchmarks.service import Sizes
from benchmarks.service import figures as service
from benchmarks.serving import SERVER
from benchmarks.tables import DATA, DEVICES
from nas.pareto import non_dominated
from nas.searchers.outlook import judged
from nas.searchers.random import RandomConfig
from search_spaces.architecture import Genes

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the tables of measured networks are not here")
FRONT = "nas-bench-201, raspi4"
COMPLETE = [name for name in CASES["hypervolume"] if "surrogate" not in name]


@pytest.mark.parametrize("name", COMPLETE)
def test_the_true_front_has_all_of_the_hypervolume_and_no_run_has_more(name: str) -> None:
    problem = case("hypervolume", name)
    every = tuples(problem.space)
    losses = judged(problem.problem, problem.truth(every))[0]
    front = every[non_dominated(losses)]
    assert problem.score.levels(problem, front, [len(front)])["share"] == pytest.approx([1.0])
    assert problem.score.levels(problem, every, [len(every)])["share"] == pytest.approx([1.0])
    half, all_of_it = problem.score.levels(problem, front, [len(front) // 2, len(front)])["share"]
    assert 0 < half < all_of_it


def test_a_share_by_hand() -> None:
    values = {"accuracy": np.linspace(0, 1, 21), "latency_ms": np.linspace(0, 10, 21)}
    problem = case("hypervolume", FRONT).problem
    metrics = {m: values[m.split("_ms")[0] + ("_ms" if "_ms" in m else "")] for m in problem.metrics}
    share = Share.of(problem, metrics, metrics)
    np.testing.assert_allclose(share.least, [-1, 0])
    np.testing.assert_allclose(share.width, [0.95, 9.5])  # of 21 rows the 95th percentile is the 20th
    assert share.volume(np.array([[-1.0, 0.0], [0.0, 5.0]])) == pytest.approx(1.21)
    assert share.volume(np.array([[-1 + 0.95, 0.0]])) == pytest.approx(0.11)


def test_random_search_gets_the_share_that_was_measured_elsewhere() -> None:
    shares = [
        (p := case("hypervolume", f"nas-bench-201, {d}")).score.levels(
            p, ours_run(RandomConfig(), p, seed, 50), [50]
        )["share"][0]
        for d in DEVICES
        for seed in range(6)
    ]
    assert 0.92 < np.mean(shares) < 0.95


def test_equal_networks_are_measured_equal_and_all_architectures_are_known() -> None:
    problem = case("hypervolume", FRONT)
    every = tuples(problem.space)
    assert len(every) == 15_625
    twice, canonical = problem.truth(every), problem.truth(problem.space.canonical_genes(every))
    for metric in twice:
        np.testing.assert_array_equal(twice[metric], canonical[metric])
        assert len(np.unique(twice[metric])) <= 6466


@pytest.mark.parametrize(
    ("name", "optimum"),
    [
        ("nas-bench-201, params learnt", 87.148),
        ("nas-bench-201, params known", 87.148),
        ("nas-bench-201, params exact", 87.388),
    ],
)
def test_the_optimum_under_a_constraint(name: str, optimum: float) -> None:
    problem = case("constrained", name)
    best = problem.score
    assert isinstance(best, Best)
    assert best.optimum == pytest.approx(optimum)
    every = tuples(problem.space)
    metrics = problem.truth(every)
    better_but_too_large = every[[int(metrics["accuracy"].argmax())]]
    feasible = judged(problem.problem, metrics)[1] == 0
    optimal = every[[int(np.where(feasible, metrics["accuracy"], 0).argmax())]]
    run = np.concatenate([better_but_too_large, better_but_too_large, optimal])
    assert best.reached(problem, run) == 3
    assert best.reached(problem, run[:2]) == np.inf
    found = best.levels(problem, run, [2, 3, 10])["best accuracy"]
    assert found == pytest.approx([best.worst, optimum, optimum])


def test_what_a_formula_gives_is_a_known_constraint_and_what_is_only_measured_is_not() -> None:
    exact, known, learnt = (
        case("constrained", f"nas-bench-201, params {how}") for how in ("exact", "known", "learnt")
    )
    genes = known.space.canonical_genes(tuples(known.space))
    np.testing.assert_array_equal(exact.truth(genes)["params"], known.space.costs(genes)["params"])
    np.testing.assert_array_equal(known.truth(genes)["params"], learnt.truth(genes)["reported_params"])
    assert 0.9 < (known.truth(genes)["params"] == known.space.costs(genes)["params"]).mean() < 1
    assert not set(learnt.space.costs(genes)) & {c.metric for c in learnt.problem.constraints}


def test_after_a_noisy_search_test_accuracy_counts() -> None:
    problem = case("noisy", "nas-bench-201")
    run = ours_run(RandomConfig(), problem, 0, 40)
    found = problem.score.levels(problem, run, [1, 40])
    assert found["best observed"][0] == found["recommended"][0]  # of one network there is no choice
    seen = problem.truth(run)["accuracy"]
    hidden = problem.score.true(run)["accuracy"]  # type: ignore[attr-defined]
    assert found["best observed"][1] == pytest.approx(100 * hidden[seen.argmax()])
    assert np.isclose(found["recommended"][1], 100 * hidden).any()


@pytest.mark.parametrize("run", [partial(optuna_run, "tpe"), partial(optuna_run, "nsga2"), pymoo_run])
@pytest.mark.filterwarnings("ignore")
def test_peers_spend_their_budget_in_the_space_and_learn_constraints(run) -> None:  # type: ignore[no-untyped-def]
    problem = case("constrained", "nas-bench-201, params learnt")
    genes: Genes = run(problem, 1, 60)
    assert genes.shape == (60, 6)
    assert genes.min() >= 0
    assert (genes < problem.space.sizes).all()
    np.testing.assert_array_equal(genes, run(problem, 1, 60))
    feasible = judged(problem.problem, problem.truth(genes))[1] == 0
    assert feasible[30:].mean() > 0.3  # 23% of all


def test_the_report_gives_mean_standard_error_and_least_over_all_problems_of_a_table() -> None:
    rows = [
        Row("hypervolume", f"table, {name}", "random", 50, (50,), {"share": [[low], [low + 0.2]]}, None)
        for name, low in (("a", 0.1), ("b", 0.5))
    ]
    (whole,) = overall(rows)
    assert "0.4000 ± 0.1291 (0.1000)" in "\n".join(report([whole]))
    goals = Row("single", "table", "random", 60, (50,), {"best accuracy": [[1.0]] * 4}, [10, 20, 30, 61])
    assert list(report([goals]))[-1].split()[2:] == ["30.2", "25.0", ">", "60", "0.75", "0.75"]


def test_what_a_trial_costs_is_measured_up_to_the_last() -> None:
    rows = ask_tell("nas-bench-201", "regularized_evolution", 40)
    assert [row.trials for row in rows] == [40]
    assert 0 < rows[0].mean <= rows[0].slowest
    assert rows[0].megabytes > 10


def test_the_service_is_measured_from_the_runner_to_listeners() -> None:
    few = Sizes(
        trials=32,
        batched=64,
        peer_trials=2,
        measured=1500,
        requests=2,
        fresh=1,
        listeners=3,
        followed=20,
        rounds=1,
    )
    found = list(service(few))
    assert len({f.group for f in found}) == (2 if os.environ.get(SERVER) else 1)
    assert all(np.isfinite(f.value) for f in found)
    (told,) = {f.value for f in found if f.what.strip() == "listeners told of the end"}
    assert told == 100
