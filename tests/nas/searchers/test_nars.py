"""NARS keeps the contract, repeats its golden run, fills its pool by the formulas, and beats random."""

from __future__ import annotations

import json

import numpy as np
import pytest
from searcher_contract import SearcherContract
from test_searchers import GOLDEN, GOLDEN_TRIALS, PRICED, metrics, run, volume

from nas.job import JobSpec
from nas.objectives import Problem
from nas.searchers.nars import Nars, NarsConfig
from nas.searchers.random import RandomConfig
from nas.trial import Measured, Trial
from search_spaces import load_space

pytestmark = pytest.mark.law

SMALL = NarsConfig(pool=1000, batch=6, turns=2, evaluations=3000, predictor="ridge")


class TestNars(SearcherContract):
    config = NarsConfig(pool=50, batch=3, turns=2, evaluations=400, predictor="ridge")


class TestNarsAsPublished(SearcherContract):
    """Every batch comes from the pool."""

    config = NarsConfig(pool=200, batch=4, turns=100, predictor="ridge")


def test_the_golden_run_is_repeated() -> None:
    trials = run(SMALL, GOLDEN_TRIALS, 7, ["min loss", "min cost"], ["cost <= 5"])
    assert [t.architecture.key for t in trials] == json.loads(GOLDEN.with_name("nars.json").read_text())


@pytest.mark.parametrize("config", [SMALL, NarsConfig(turns=2)])
def test_two_objectives_beat_random(config: NarsConfig) -> None:
    def mean(config: NarsConfig | RandomConfig, seeds: int) -> float:
        return float(np.mean([volume(run(config, 50, s, ["min loss", "min cost"])) for s in range(seeds)]))

    assert mean(config, 1 if config.predictor == "mlp_ensemble" else 4) > 1.04 * mean(RandomConfig(), 4)


def test_evolution_finds_more_than_the_pool() -> None:
    def best(config: NarsConfig) -> float:
        return float(np.mean([min(t.metrics["loss"] for t in run(config, 60, s, ["min loss"])) for s in range(4)]))

    assert best(SMALL) < best(SMALL.model_copy(update={"turns": 100}))


def test_the_pool_keeps_what_formulas_tell_of_constraints() -> None:
    space = load_space("fbnetv3")
    searcher = NarsConfig(pool=500).build(space, Problem.parse(["max accuracy"], ["macs <= 7e8"]), 0)
    assert isinstance(searcher, Nars)
    pool = searcher._pool
    assert len(pool) == 500
    assert (space.costs(pool)["macs"] <= 7e8).all()


def test_a_constraint_that_no_drawn_network_keeps_is_walked_to() -> None:
    """The pool holds the nearest; evolution, which knows the formula, goes on from there."""
    problem = Problem.parse(["min loss"], ["cost <= 1.3"])
    searcher = SMALL.model_copy(update={"pool": 50}).build(PRICED, problem, 0)
    feasible = []
    for number in range(30):
        (proposal,) = searcher.ask(1)
        closed = Trial(number, proposal).close(Measured(metrics(proposal.architecture)), problem, number, 0.0)
        feasible.append(closed.feasible)
        searcher.tell([closed])
    assert not all(feasible[:6])
    assert all(feasible[-6:])


def test_a_document_reads_back() -> None:
    spec = JobSpec.parse(
        {"space": "digits-tiny", "objectives": ["max accuracy"], "searcher": {"kind": "nars", "turns": 3}}
    )
    assert JobSpec.parse(spec.dump()) == spec


if __name__ == "__main__":
    golden = run(SMALL, GOLDEN_TRIALS, 7, ["min loss", "min cost"], ["cost <= 5"])
    GOLDEN.with_name("nars.json").write_text(json.dumps([t.architecture.key for t in golden], indent=1) + "\n")
