"""A family of models: the best network under each constraint, from what the trials teach."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import nas
from nas.cli import app
from nas.family import predictor_evolution
from nas.objectives import Constraint, Objective, Problem
from nas.trial import Measured, Proposal, Trial
from search_spaces import Architecture, SpecError, load_space
from search_spaces.operators import enumerate_all
from search_spaces.space import Space

SPACE = load_space("digits-tiny")
BENCH = load_space("nas-bench-201")
BEST = Objective.model_validate("max accuracy")


def accuracy(architecture: Architecture) -> float:
    return float(table(BENCH, BENCH.genes([architecture]))[0])


def table(space: Space, genes: np.ndarray) -> np.ndarray:
    """More operations of weight are better, mostly."""
    macs = space.costs(genes, ["macs"])["macs"]
    return 0.05 * np.log(macs) + 0.02 * np.sin(genes * np.arange(1, genes.shape[1] + 1)).sum(axis=1)


def measured(count: int, with_macs: bool = True) -> list[Trial]:
    problem = Problem.parse(["max accuracy"])
    trials = []
    for number, a in enumerate(BENCH.sample(count, 0)):
        found = {"accuracy": accuracy(a)} | ({"macs": BENCH.cost(a)["macs"]} if with_macs else {})
        trials.append(Trial(number, Proposal(a)).close(Measured(found), problem, number, 0.0))
    return trials


def bounds(*shares: float) -> list[Constraint]:
    macs = BENCH.costs(BENCH.genes(BENCH.sample(2000, 1)), ["macs"])["macs"]
    return [Constraint.model_validate(f"macs <= {float(np.quantile(macs, q))!r}") for q in shares]


@pytest.mark.parametrize("with_macs", [True, False])
def test_members_are_close_to_the_true_best_and_keep_their_constraints(with_macs: bool) -> None:
    limits = bounds(0.1, 0.4, 0.8)
    trials = measured(150, with_macs)
    members = predictor_evolution(BENCH, trials, BEST, limits)
    everything = enumerate_all(BENCH, 20_000)
    assert everything is not None
    macs, values = BENCH.costs(everything, ["macs"])["macs"], table(BENCH, everything)
    for member, limit in zip(members, limits, strict=True):
        within = values[macs <= limit.bound]
        assert member.meets
        assert BENCH.cost(member.architecture)["macs"] == member.expected["macs"] <= limit.bound
        assert member.std["macs"] == 0 < member.std["accuracy"]
        assert accuracy(member.architecture) >= np.quantile(within, 0.97)
        fitting = [t for t in trials if BENCH.cost(t.architecture)["macs"] <= limit.bound]
        assert member.best_measured == max(fitting, key=lambda t: t.metrics["accuracy"])
        assert (member.trial is None) == all(t.architecture.key != member.architecture.key for t in trials)


def test_a_constraint_that_nothing_keeps_gives_the_nearest() -> None:
    (member,) = predictor_evolution(BENCH, measured(40), BEST, [Constraint.model_validate("params <= 1")])
    assert not member.meets
    assert member.best_measured is None
    everything = enumerate_all(BENCH, 20_000)
    assert everything is not None
    assert member.expected["params"] == BENCH.costs(everything, ["params"])["params"].min()


def test_measured_networks_count_with_what_was_measured() -> None:
    """One is better than a predictor would think; where it does not fit, nothing worse than the best is given."""
    trials = measured(40)
    middle = sorted(trials, key=lambda t: t.metrics["macs"])[20]
    lucky = replace(middle, metrics={**middle.metrics, "accuracy": 0.99})
    limits = [Constraint.model_validate(f"macs <= {lucky.metrics['macs'] + d}") for d in (0, -1)]
    found, other = predictor_evolution(BENCH, [lucky if t is middle else t for t in trials], BEST, limits)
    assert (found.trial, found.best_measured, found.meets) == (lucky, lucky, True)
    assert (found.expected["accuracy"], found.std["accuracy"]) == (0.99, 0)
    assert other.best_measured is not None
    assert other.expected["accuracy"] >= other.best_measured.metrics["accuracy"]


@pytest.mark.parametrize("wrong", ["params < 5e5", "params 5e5", "params <= many"])
def test_a_constraint_that_cannot_be_read_is_told_in_one_line(wrong: str) -> None:
    with pytest.raises(SpecError, match="is not a constraint; write"):
        Constraint.parse(wrong)


def test_what_holds_for_all_holds_for_each() -> None:
    always = bounds(0.2)
    (member,) = predictor_evolution(
        BENCH, measured(60), BEST, [Constraint.model_validate("accuracy >= 0.1")], always
    )
    assert member.expected["macs"] <= always[0].bound


def test_the_same_seed_gives_the_same_family() -> None:
    one, two = (predictor_evolution(BENCH, measured(40), BEST, bounds(0.5), seed=3) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("objective", "constraint", "message"),
    [
        ("max accuracy", "mac <= 1", r"^constraints: 'mac' is not known; allowed: .*macs.* did you mean \"macs\""),
        ("max accurac", "macs <= 1", r"^objective: 'accurac' is not known; allowed: accuracy, macs"),
    ],
)
def test_unknown_metrics_are_named_in_one_line(objective: str, constraint: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as error:
        predictor_evolution(
            BENCH, measured(5), Objective.model_validate(objective), [Constraint.model_validate(constraint)]
        )
    assert "\n" not in str(error.value)


def test_without_a_measured_trial_there_is_nothing_to_learn_from() -> None:
    with pytest.raises(SpecError, match="trials: none was measured"):
        predictor_evolution(BENCH, [], BEST, bounds(0.5))


def evaluate(architecture: Architecture) -> dict[str, float]:
    return {"accuracy": 0.5 + 0.01 * sum(architecture.genes)}


def test_a_result_gives_its_family_as_a_table() -> None:
    result = nas.search(
        space=SPACE,
        objectives=["max accuracy"],
        constraints=["macs <= 1e6"],
        evaluator=evaluate,
        searcher="random",
        max_trial_count=20,
        executor="inline",
    )
    found = result.family("max accuracy", "params <= 5e4", "params <= 1e3")
    assert isinstance(found, pd.DataFrame)
    assert list(found["constraint"]) == ["params <= 50000.0", "params <= 1000.0"]
    assert (found["macs"] <= 1e6).all()
    assert {"accuracy", "accuracy_std", "meets", "measured", "best_measured"} <= set(found.columns)


def test_the_command_prints_the_family(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("NAS_DATABASE_URL", f"sqlite:///{tmp_path}/nas.db")
    document = tmp_path / "spec.json"
    wanted = {
        "space": "digits-tiny",
        "objectives": ["max params", "min macs"],
        "searcher": {"kind": "random"},
        "evaluator": {"kind": "cost"},
        "budget": {"max_trial_count": 10},
    }
    document.write_text(json.dumps(wanted))
    run = CliRunner()
    assert run.invoke(app, ["search", str(document), "--executor", "inline"]).exit_code == 0
    found = run.invoke(app, ["family", "latest", "-c", "macs <= 1e6", "-c", "macs <= 3e5", "--json"])
    assert found.exit_code == 0, found.output
    members = json.loads(found.stdout)["family"]
    assert [m["constraint"] for m in members] == ["macs <= 1000000.0", "macs <= 300000.0"]
    assert all(m["macs"] <= limit for m, limit in zip(members, (1e6, 3e5), strict=True) if m["meets"])
    assert members[0]["params"] >= members[1]["params"]
    shown = run.invoke(app, ["family", "latest", "-c", "macs <= 1e6"])
    assert shown.exit_code == 0, shown.output
    assert "best measured" in shown.stdout
    assert "macs <= 1e+06: stem" in shown.stdout  # the network, on a line of its own
    impossible = run.invoke(app, ["family", "latest", "-c", "macs <= 1"])
    assert "nearest" in impossible.stdout
    bad = run.invoke(app, ["family", "latest", "-c", "mac <= 1e6"])
    assert bad.exit_code == 2
