"""Optuna's samplers keep our laws; each proposes what Optuna itself would, and options reach it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import optuna
import pytest

from nas.check import check
from nas.job import JobSpec
from nas.objectives import Problem
from nas.searchers.optuna import OptunaConfig
from nas.searchers.optuna_study import LEAST, OptunaSearcher
from nas.trial import Measured, Proposal, Trial
from search_spaces import Architecture, Choice, Condition, SpecError
from search_spaces.space import Space

ONE = Problem.parse(["min loss"], ["cost <= 14"])
TWO = Problem.parse(["min loss", "min cost"])
CONFIGS = {
    "tpe": OptunaConfig(options={"n_startup_trials": 5}),
    "nsga2": OptunaConfig(sampler="nsga2", options={"population_size": 6}),
    "nsga3": OptunaConfig(sampler="nsga3", options={"population_size": 6}),
    "gp": OptunaConfig(sampler="gp", options={"n_startup_trials": 5}),
    "cmaes": OptunaConfig(sampler="cmaes", options={"popsize": 5}),
    "qmc": OptunaConfig(sampler="qmc"),
    "random": OptunaConfig(sampler="random"),
}


class Mixed(Space):
    name = "mixed"
    choices = (
        *(Choice(f"n{i}", tuple(range(8))) for i in range(5)),
        Choice("skip", (False, True)),
        Choice("word", ("p", "q", "r"), when=(Condition("skip", (False,)),)),
    )

    def build(self, arch: Architecture) -> None:  # type: ignore[override]
        raise AssertionError


MIXED = Mixed()


def metrics(architecture: Architecture) -> dict[str, float]:
    x = np.array(architecture.genes[:5])
    loss = ((x - 5) ** 2).sum() + 3 * (architecture["word"] != "q") + 5 * architecture["skip"]
    return {"loss": float(loss), "cost": float(x.sum())}


def search(
    config: OptunaConfig, problem: Problem, count: int, seed: int = 0, workers: int = 1
) -> tuple[OptunaSearcher, list[Trial]]:
    """Trials end in an order of their own, a few after they began."""
    searcher = config.build(MIXED, problem, seed)
    rng = np.random.default_rng(seed)
    trials: list[Trial] = []
    running: list[Trial] = []
    for order in range(count):
        for proposal in searcher.ask(workers - len(running)):
            running.append(Trial(len(trials), proposal))
            trials.append(running[-1])
        searcher.tell(running)
        ended = running.pop(rng.integers(len(running)))
        trials[ended.number] = ended.close(Measured(metrics(ended.architecture)), problem, order, 0.0)
        searcher.tell([trials[ended.number]])
    assert isinstance(searcher, OptunaSearcher)
    return searcher, trials


@pytest.mark.law
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("workers", [1, 4])
def test_a_fresh_searcher_told_everything_asks_the_same(name: str, workers: int) -> None:
    config, count = CONFIGS[name], 12 if name == "gp" else 30
    searcher, trials = search(config, ONE, count, seed=3, workers=workers)
    asked = [p.architecture.key for p in searcher.ask(2)]
    assert [p.architecture.key for p in searcher.ask(2)] == asked
    assert len({*asked, *(t.architecture.key for t in trials)}) == len(trials) + 2
    fresh = config.build(MIXED, ONE, 3)
    for trial in np.random.default_rng(0).permutation(np.array(trials, dtype=object)):
        fresh.tell([trial])
    assert [p.architecture.key for p in fresh.ask(2)] == asked


@pytest.mark.parametrize("name", ["tpe", "nsga2", "cmaes"])
def test_it_learns(name: str) -> None:
    """Sixty trials of each against sixty at random, the constraint among them."""

    def mean(config: OptunaConfig) -> float:
        runs = [search(config, ONE, 60, seed)[1] for seed in range(5)]
        return float(np.mean([t.metrics["loss"] if t.feasible else 60.0 for trials in runs for t in trials[30:]]))

    assert mean(CONFIGS[name]) < mean(CONFIGS["random"]) - 5


def test_of_many_trials_the_best_and_the_latest_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.searchers.optuna_study.EFFORT", 0)
    archs = MIXED.sample(LEAST + 40, 0)
    trials = [
        Trial(i, Proposal(a)).close(Measured(metrics(a)), ONE, i, 0.0)
        for i, a in enumerate({a.key: a for a in archs}.values())
    ]
    searcher, shuffled = (CONFIGS["tpe"].build(MIXED, ONE, 0) for _ in range(2))
    for trial in trials:
        searcher.tell([trial])
    shuffled.tell(trials[::-1])
    asked, same = ([p.architecture.key for p in s.ask(2)] for s in (searcher, shuffled))
    assert asked == same
    assert isinstance(searcher, OptunaSearcher)
    known = [t.values[0] for t in searcher._study.trials]
    assert LEAST // 2 <= len(known) < LEAST < len(trials)
    assert known[-LEAST // 4 :] == [t.metrics["loss"] for t in trials[-LEAST // 4 :]]
    assert min(t.metrics["loss"] for t in trials if t.feasible) in known


def test_a_gaussian_process_learns() -> None:
    free = Problem.parse(["min loss"])
    runs = [search(CONFIGS[name], free, 18, seed=2)[1] for name in ("gp", "random")]
    guided, drawn = (np.mean([t.metrics["loss"] for t in trials[8:]]) for trials in runs)
    assert guided < 0.7 * drawn


def test_generations_are_counted_in_the_order_of_finishing() -> None:
    """Six trials a generation, and the parents of each are chosen once."""
    searcher, trials = search(CONFIGS["nsga2"], TWO, 30)
    generations = [t.system_attrs["NSGAIISampler:generation"] for t in searcher._study.trials]
    assert generations == [i // 6 for i in range(30)]
    kept = searcher._storage.get_study_system_attrs(0)
    assert {k for k in kept if "parent" in k} == {f"NSGAIISampler:parent:{g}" for g in range(1, 5)}
    assert len(searcher._study.trials) == len(trials)


def test_asking_leaves_no_trace_in_the_study() -> None:
    searcher, trials = search(CONFIGS["cmaes"], ONE, 10, workers=3)
    before = [(t.number, t.state, t.params, t.values, t.system_attrs) for t in searcher._study.trials]
    searcher.ask(5)
    assert [(t.number, t.state, t.params, t.values, t.system_attrs) for t in searcher._study.trials] == before
    assert len(before) == sum(t.measured for t in trials)


def test_infeasible_values_come_after_all_feasible_ones_in_cma_es() -> None:
    searcher, trials = search(CONFIGS["cmaes"], ONE, 30)
    value = {t.number: v.value for t, v in zip(trials, searcher._study.trials, strict=True)}
    ranked = sorted(trials, key=lambda t: value[t.number])
    assert [t.feasible for t in ranked] == sorted((t.feasible for t in trials), reverse=True)
    violations = [ONE.violation(t.metrics) for t in ranked]
    assert violations == sorted(violations)


def test_genes_without_effect_look_like_no_preference() -> None:
    searcher, trials = search(CONFIGS["random"], TWO, 120)
    words = [
        s.params["word"] for t, s in zip(trials, searcher._study.trials, strict=True) if t.architecture["skip"]
    ]
    assert set(words) == {0, 1, 2}
    assert all(t.architecture.genes[-1] == 0 for t in trials if t.architecture["skip"])


@pytest.mark.parametrize(
    ("searcher", "message"),
    [
        ({"sampler": "cmaes"}, r"searcher\.sampler: 'cmaes' takes one objective, here are 2; allowed: tpe"),
        (
            {"sampler": "nsga2", "options": {"population": 5}},
            r"searcher\.options: 'population' is not an option of nsga2; allowed: population_size",
        ),
        ({"sampler": "nsga2", "options": {"population_size": 1}}, r"searcher\.options: .*population_size"),
        ({"sampler": "tpe", "options": {"seed": 1}}, r"searcher\.options: 'seed' is not an option of tpe"),
        ({"sampler": "tpee"}, r"searcher\.sampler: "),
    ],
)
def test_what_a_sampler_does_not_take_is_refused_in_one_line(searcher: dict[str, object], message: str) -> None:
    document = {
        "space": "digits-tiny",
        "objectives": ["max accuracy", "min params"],
        "searcher": {"kind": "optuna", **searcher},
    }
    with pytest.raises(SpecError, match=message) as error:
        check(JobSpec.parse(document))
    assert "\n" not in str(error.value)


def test_settings_are_read_without_optuna_and_its_console_is_left_alone() -> None:
    code = "import sys, nas.job; assert 'optuna' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    level = optuna.logging.get_verbosity()
    CONFIGS["tpe"].build(MIXED, TWO, 0)
    assert optuna.logging.get_verbosity() == level
